//! Numbers and byte strings of the formats of this crate: LEB128, and LEB128 length before the bytes
//! (as postcard writes them).

use crate::ProofError;

/// Appends `n`, 7 bits a byte, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends the length of `bytes` and `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_number`] takes.
pub(crate) fn number_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// How many bytes [`put_bytes`] takes.
pub(crate) fn bytes_len(bytes: &[u8]) -> usize {
    number_len(bytes.len() as u64) + bytes.len()
}

/// Reads forward through somebody's bytes; allocates nothing.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which should be a `what`.
    pub(crate) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// That the bytes are not what they should be.
    pub(crate) const fn malformed(&self, why: &'static str) -> ProofError {
        ProofError::Malformed { what: self.what, why }
    }

    /// Bytes not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, ProofError> {
        self.array::<1>().map(|[b]| b)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ProofError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("it is cut off"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// A number, in the one spelling that [`put_number`] gives it.
    pub(crate) fn number(&mut self) -> Result<u64, ProofError> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte == 0 && shift > 0 {
                return Err(self.malformed("a number is padded"));
            }
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.malformed("a number overflows"))
    }

    /// A byte string.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], ProofError> {
        let len = self.number()?;
        let len = usize::try_from(len).map_err(|_| self.malformed("it is cut off"))?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.malformed("it is cut off"))?;
        self.rest = rest;
        Ok(head)
    }

    /// How many items follow: at most `limit`, and no more than bytes are left for at `least` bytes each.
    pub(crate) fn count(
        &mut self,
        items: &'static str,
        limit: usize,
        least: usize,
    ) -> Result<usize, ProofError> {
        let count = self.number()?;
        if count > limit as u64 {
            return Err(ProofError::TooLarge { what: items, size: count, limit: limit as u64 });
        }
        if count.saturating_mul(least as u64) > self.left() as u64 {
            return Err(self.malformed("it is cut off"));
        }
        Ok(count as usize)
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), ProofError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("something follows its end")) }
    }
}

/// Refuses bytes over `limit` and a first byte other than `version`; gives a reader of the rest.
pub(crate) fn open<'a>(
    what: &'static str,
    bytes: &'a [u8],
    limit: usize,
    version: u8,
) -> Result<Reader<'a>, ProofError> {
    if bytes.len() > limit {
        return Err(ProofError::TooLarge { what, size: bytes.len() as u64, limit: limit as u64 });
    }
    let mut reader = Reader::new(what, bytes);
    match reader.byte()? {
        found if found == version => Ok(reader),
        found => Err(ProofError::Version { what, found, supported: version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_come_back(shift in 0..64_u32, n: u64, bytes: Vec<u8>) {
            let n = n >> shift;
            let mut out = Vec::new();
            put_number(&mut out, n);
            prop_assert_eq!(out.len(), number_len(n));
            put_bytes(&mut out, &bytes);
            prop_assert_eq!(out.len(), number_len(n) + bytes_len(&bytes));
            let mut reader = Reader::new("test", &out);
            prop_assert_eq!(reader.number(), Ok(n));
            prop_assert_eq!(reader.bytes(), Ok(&bytes[..]));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_number_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new("test", &bytes);
            if let Ok(n) = reader.number() {
                let mut out = Vec::new();
                put_number(&mut out, n);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - reader.left()]);
            }
        }
    }

    #[test]
    fn a_count_is_bounded_by_what_follows() {
        let reader = || Reader::new("test", &[3, 1, 2]);
        assert_eq!(
            reader().count("items", 9, 1),
            Err(ProofError::Malformed { what: "test", why: "it is cut off" })
        );
        assert!(matches!(reader().count("items", 2, 0), Err(ProofError::TooLarge { size: 3, limit: 2, .. })));
        assert_eq!(reader().count("items", 9, 0), Ok(3));
    }
}
