//! Deltas: an object as copies from another and pieces of its own.

use crate::ProofError;

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git delta", why }
}

/// What a delta says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeltaHead {
    /// Length of what it is applied to, in bytes.
    pub(super) base: u64,
    /// Length of what it makes, in bytes.
    pub(super) result: u64,
}

/// Reads the two lengths at the front; gives them and the instructions.
pub(super) fn read_head(delta: &[u8]) -> Result<(DeltaHead, &[u8]), ProofError> {
    let mut rest = delta;
    let base = take_size(&mut rest)?;
    let result = take_size(&mut rest)?;
    Ok((DeltaHead { base, result }, rest))
}

/// Applies `delta` to `base`. Takes memory for the result as it grows, never more than it promises, and the
/// caller has bounded that.
pub(super) fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, ProofError> {
    let (head, mut rest) = read_head(delta)?;
    if head.base != base.len() as u64 {
        return Err(malformed("it is of a base of another length"));
    }
    let result = usize::try_from(head.result).map_err(|_| malformed("its result is too long"))?;
    let mut out = Vec::new();
    while let Some((&op, tail)) = rest.split_first() {
        rest = tail;
        let piece = match op {
            0 => return Err(malformed("it has an instruction that git reserves")),
            len if len < 0x80 => take(&mut rest, usize::from(len))?,
            op => {
                let (from, len) = copy_span(op, &mut rest)?;
                base.get(from..)
                    .and_then(|b| b.get(..len))
                    .ok_or_else(|| malformed("it copies past its base"))?
            }
        };
        if piece.len() > result - out.len() {
            return Err(malformed("it makes more than it says"));
        }
        out.extend_from_slice(piece);
    }
    if out.len() != result {
        return Err(malformed("it makes less than it says"));
    }
    Ok(out)
}

/// Where a copy begins and how long it is: each of seven bytes is there if its bit is set.
fn copy_span(op: u8, rest: &mut &[u8]) -> Result<(usize, usize), ProofError> {
    let mut number = |bits: std::ops::Range<u32>| {
        bits.clone().filter(|bit| op >> bit & 1 == 1).try_fold(0_usize, |n, bit| {
            let byte = take(rest, 1)?;
            Ok::<_, ProofError>(n | usize::from(byte[0]) << (8 * (bit - bits.start)))
        })
    };
    let from = number(0..4)?;
    let len = number(4..7)?;
    Ok((from, if len == 0 { 0x1_0000 } else { len }))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], ProofError> {
    let (head, tail) = rest.split_at_checked(len).ok_or_else(|| malformed("it is cut off"))?;
    *rest = tail;
    Ok(head)
}

fn take_size(rest: &mut &[u8]) -> Result<u64, ProofError> {
    let mut size = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = take(rest, 1)?[0];
        size |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(size);
        }
    }
    Err(malformed("a length overflows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    /// A copy with all seven bytes, and a literal.
    fn op(copy: bool, from: usize, len: usize, base: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if copy {
            let bytes =
                [&[0xff], &(from as u32).to_le_bytes()[..], &(len as u32).to_le_bytes()[..3]].concat();
            return (bytes, base[from..from + len].to_vec());
        }
        let piece = vec![from as u8; len];
        ([&[len as u8][..], &piece].concat(), piece)
    }

    proptest! {
        #[test]
        fn copies_and_pieces_make_the_result(
            base in prop::collection::vec(any::<u8>(), 200..300),
            ops in prop::collection::vec((any::<bool>(), 0..100_usize, 1..100_usize), 0..12),
        ) {
            let ops: Vec<_> = ops.into_iter().map(|(copy, from, len)| op(copy, from, len, &base)).collect();
            let result: Vec<u8> = ops.iter().flat_map(|o| o.1.clone()).collect();
            let body: Vec<u8> = ops.iter().flat_map(|o| o.0.clone()).collect();
            let delta = [size(base.len()), size(result.len()), body.clone()].concat();
            prop_assert_eq!(apply(&base, &delta), Ok(result.clone()));
            if !result.is_empty() {
                let short = [size(base.len()), size(result.len() - 1), body].concat();
                prop_assert!(apply(&base, &short).is_err());
                prop_assert!(apply(&base, &delta[..delta.len() - 1]).is_err());
            }
            prop_assert!(apply(&base[1..], &delta).is_err());
        }

        #[test]
        fn no_bytes_panic(delta in prop::collection::vec(any::<u8>(), 0..60), len in 0..100_usize) {
            let _ = apply(&vec![7; len], &delta);
            let _ = apply(&vec![7; len], &[size(len), size(90), delta].concat());
        }
    }

    #[test]
    fn a_length_of_zero_copies_64_kib() {
        let base = vec![3; 0x1_0000];
        let delta = [size(base.len()), size(base.len()), vec![0x80]].concat();
        assert_eq!(apply(&base, &delta), Ok(base));
        assert!(apply(&[], &[size(0), size(0), vec![0]].concat()).is_err(), "the reserved instruction");
        assert!(
            apply(&[], &[size(0), size(9), vec![0x91, 0xff, 9]].concat()).is_err(),
            "a copy past the base"
        );
    }
}
