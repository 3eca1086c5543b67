//! Writes packs (gitformat-pack, version 2): every object whole, none as a delta.
//!
//! Models and datasets hardly delta, and what is known here of a commit is few and small objects. A blob of any
//! size goes through in pieces, so a pack costs memory for one piece and not for one file.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1_checked::{Digest as _, Sha1};

use crate::ProofError;

/// What begins a pack, with its version.
const MAGIC: [u8; 8] = *b"PACK\0\0\0\x02";
/// Bytes of a compressed object that are held back at most before they go out.
const HELD_BACK: usize = 64 * 1024;

/// What a packed object is, by the number that packs give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PackKind {
    /// A commit object.
    Commit = 1,
    /// A tree object.
    Tree = 2,
    /// A blob.
    Blob = 3,
}

/// A pack in the making. What is ready is appended to the `out` of each call; the objects come one after another.
pub struct PackWriter {
    hash: Sha1,
    /// Objects that were promised and have not begun.
    objects: u32,
    /// The object that is being written, and how many of its bytes are missing.
    open: Option<(ZlibEncoder<Vec<u8>>, u64)>,
}

impl PackWriter {
    /// Begins a pack of `objects` objects.
    pub fn new(objects: u32, out: &mut Vec<u8>) -> Self {
        // What is hashed is our own doing: nobody gains by making it collide.
        let hash = Sha1::builder().detect_collision(false).build();
        let mut pack = Self { hash, objects, open: None };
        pack.put(&MAGIC, out);
        pack.put(&objects.to_be_bytes(), out);
        pack
    }

    /// Writes an object that is here whole.
    ///
    /// # Errors
    /// As [`PackWriter::begin`].
    pub fn object(&mut self, kind: PackKind, content: &[u8], out: &mut Vec<u8>) -> Result<(), ProofError> {
        self.begin(kind, content.len() as u64, out)?;
        self.push(content, out)?;
        self.end(out)
    }

    /// Begins an object of `size` bytes.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if another is still open, or there are more than were promised.
    pub fn begin(&mut self, kind: PackKind, size: u64, out: &mut Vec<u8>) -> Result<(), ProofError> {
        if self.open.is_some() {
            return Err(wrong("the object before is not whole"));
        }
        self.objects = self.objects.checked_sub(1).ok_or(wrong("it gets more objects than promised"))?;
        self.put(&object_head(kind, size), out);
        self.open = Some((ZlibEncoder::new(Vec::new(), Compression::fast()), size));
        Ok(())
    }

    /// Adds bytes to the object that is open.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if none is open, or if it gets more bytes than were promised.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ProofError> {
        let (encoder, left) = self.open.as_mut().ok_or(wrong("no object is open"))?;
        *left = left.checked_sub(bytes.len() as u64).ok_or(wrong("an object is longer than promised"))?;
        encoder.write_all(bytes).map_err(|_| wrong("an object could not be compressed"))?;
        if encoder.get_ref().len() >= HELD_BACK {
            let ready = std::mem::take(encoder.get_mut());
            self.put(&ready, out);
        }
        Ok(())
    }

    /// Ends the object that is open.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if none is open, or if it got fewer bytes than were promised.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), ProofError> {
        let (encoder, left) = self.open.take().ok_or(wrong("no object is open"))?;
        if left != 0 {
            return Err(wrong("an object is shorter than promised"));
        }
        let rest = encoder.finish().map_err(|_| wrong("an object could not be compressed"))?;
        self.put(&rest, out);
        Ok(())
    }

    /// Ends the pack.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if an object is open, or if there are fewer than were promised.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ProofError> {
        if self.open.is_some() || self.objects != 0 {
            return Err(wrong("it gets fewer objects than promised"));
        }
        out.extend_from_slice(self.hash.try_finalize().hash());
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.hash.update(bytes);
        out.extend_from_slice(bytes);
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// Kind and size: four bits of the size beside the kind, then seven a byte, the highest bit saying that more come.
fn object_head(kind: PackKind, size: u64) -> Vec<u8> {
    let mut head = vec![(kind as u8) << 4 | (size & 0x0f) as u8];
    let mut rest = size >> 4;
    while rest != 0 {
        if let Some(last) = head.last_mut() {
            *last |= 0x80;
        }
        head.push((rest & 0x7f) as u8);
        rest >>= 7;
    }
    head
}

const fn wrong(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "pack", why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_git_writes_them() {
        assert_eq!(object_head(PackKind::Commit, 0), [0x10]);
        assert_eq!(object_head(PackKind::Blob, 15), [0x3f]);
        assert_eq!(object_head(PackKind::Tree, 16), [0xa0, 0x01]);
        assert_eq!(object_head(PackKind::Blob, 2048 + 5), [0xb5, 0x80, 0x01]);
        assert_eq!(object_head(PackKind::Blob, u64::MAX).len(), 10);
    }

    #[test]
    fn an_object_is_as_long_as_promised() {
        let mut out = Vec::new();
        let mut pack = PackWriter::new(2, &mut out);
        assert!(pack.push(b"x", &mut out).is_err() && pack.end(&mut out).is_err());
        pack.begin(PackKind::Blob, 3, &mut out).unwrap();
        assert!(pack.begin(PackKind::Blob, 1, &mut out).is_err(), "one at a time");
        pack.push(b"ab", &mut out).unwrap();
        assert!(pack.push(b"cd", &mut out).is_err(), "too long");
        assert!(pack.end(&mut out).is_err(), "too short");
        assert!(pack.finish(&mut out).is_err(), "one is missing");
        let mut pack = PackWriter::new(0, &mut out);
        assert!(pack.object(PackKind::Blob, b"", &mut out).is_err(), "one too many");
    }
}
