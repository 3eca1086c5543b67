//! Reads what a GGUF file says of itself at its beginning, as it arrives (ggml's `docs/gguf.md`).
//!
//! **Invariant:** of a file of any size, honest or not, no more is kept than the few texts that are asked for.

/// Longest text that is kept, in bytes.
const MAX_TEXT: u64 = 1024 * 1024;
/// Longest name of a value, in bytes (the format's own bound).
const MAX_KEY: u64 = 65_535;
/// Most values that a file may claim.
const MAX_VALUES: u64 = 100_000;
const ARCHITECTURE: &[u8] = b"general.architecture";
const CHAT_TEMPLATE: &[u8] = b"tokenizer.chat_template";

/// What a file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// `llama`, `qwen3`, …
    pub(crate) architecture: Option<String>,
    /// How a conversation is written, in Jinja.
    pub(crate) chat_template: Option<String>,
}

/// What comes next in the file.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Head,
    Key,
    Value(Vec<u8>, u32),
    /// As many texts of an array.
    Texts(u64),
    End,
}

/// It is no GGUF file that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoGguf;

/// Reads a file from its beginning.
#[derive(Debug)]
pub(crate) struct Reading {
    about: About,
    next: Next,
    /// Values that follow.
    left: u64,
    /// Bytes that nobody wants.
    skip: u64,
    /// What was given and not read yet: at most one text and the last piece.
    bytes: Vec<u8>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { about: About::default(), next: Next::Head, left: 0, skip: 0, bytes: Vec::new() }
    }
}

impl Reading {
    /// Reads on; `true` once all that is wanted is known or the values have ended.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<bool, NoGguf> {
        self.bytes.extend_from_slice(piece);
        let mut at = 0;
        while self.next != Next::End {
            let skipped = self.skip.min((self.bytes.len() - at) as u64);
            at += skipped as usize;
            self.skip -= skipped;
            if self.skip > 0 {
                break;
            }
            let mut cursor = Cursor { rest: self.bytes.get(at..).unwrap_or_default(), taken: 0 };
            let Some((next, skip)) = step(&self.next, &mut cursor, &mut self.about, &mut self.left)? else {
                break;
            };
            at += cursor.taken;
            (self.next, self.skip) = (next, skip);
            let known = self.about.architecture.is_some() && self.about.chat_template.is_some();
            if self.next == Next::Key && (self.left == 0 || known) {
                self.next = Next::End;
            }
        }
        self.bytes.drain(..at);
        Ok(self.next == Next::End)
    }

    /// What was found.
    pub(crate) fn about(self) -> About {
        self.about
    }
}

/// Bytes that are taken from the front, or not at all.
struct Cursor<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        self.taken += taken.len();
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

/// Reads one thing: what comes after it, behind how many bytes. `None` if more bytes are needed.
fn step(
    next: &Next,
    from: &mut Cursor<'_>,
    about: &mut About,
    left: &mut u64,
) -> Result<Option<(Next, u64)>, NoGguf> {
    Ok(match next {
        Next::Head => {
            let Some(head) = from.take(24) else { return Ok(None) };
            let mut head = Cursor { rest: head, taken: 0 };
            let (magic, version) = (head.u32(), head.u32());
            let values = head.take(8).and_then(|_tensors| head.u64()).unwrap_or_default();
            if magic != Some(u32::from_le_bytes(*b"GGUF"))
                || !matches!(version, Some(2 | 3))
                || values > MAX_VALUES
            {
                return Err(NoGguf);
            }
            *left = values;
            Some((Next::Key, 0))
        }
        Next::Key => {
            let Some(len) = from.u64() else { return Ok(None) };
            if len > MAX_KEY {
                return Err(NoGguf);
            }
            let (Some(key), Some(kind)) = (from.take(len), from.u32()) else { return Ok(None) };
            *left = left.saturating_sub(1);
            Some((Next::Value(key.to_vec(), kind), 0))
        }
        Next::Value(key, TEXT) => text(key, from, about)?.map(|skip| (Next::Key, skip)),
        Next::Value(_, ARRAY) => array(from)?,
        Next::Value(_, kind) => Some((Next::Key, width(*kind).ok_or(NoGguf)?)),
        Next::Texts(0) => Some((Next::Key, 0)),
        Next::Texts(more) => from.u64().map(|len| (Next::Texts(more - 1), len)),
        Next::End => None,
    })
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a number.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Keeps a text that is wanted; else says how many bytes it has.
fn text(key: &[u8], from: &mut Cursor<'_>, about: &mut About) -> Result<Option<u64>, NoGguf> {
    let place = match key {
        ARCHITECTURE => &mut about.architecture,
        CHAT_TEMPLATE => &mut about.chat_template,
        _ => return Ok(from.u64()),
    };
    let Some(len) = from.u64() else { return Ok(None) };
    if len > MAX_TEXT {
        return Err(NoGguf);
    }
    let Some(text) = from.take(len) else { return Ok(None) };
    *place = Some(String::from_utf8_lossy(text).into_owned());
    Ok(Some(0))
}

fn array(from: &mut Cursor<'_>) -> Result<Option<(Next, u64)>, NoGguf> {
    let (Some(kind), Some(count)) = (from.u32(), from.u64()) else { return Ok(None) };
    match kind {
        TEXT => Ok(Some((Next::Texts(count), 0))),
        // Nobody writes arrays of arrays.
        kind => {
            let bytes = width(kind).and_then(|width| width.checked_mul(count)).ok_or(NoGguf)?;
            Ok(Some((Next::Key, bytes)))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// The beginning of a file with an architecture, a vocabulary and a chat template.
    pub(crate) fn example(architecture: &str, template: &str) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(7_u64.to_le_bytes());
        out.extend(4_u64.to_le_bytes());
        put_text(&mut out, "general.architecture");
        out.extend(TEXT.to_le_bytes());
        put_text(&mut out, architecture);
        put_text(&mut out, "llama.context_length");
        out.extend(4_u32.to_le_bytes());
        out.extend(8192_u32.to_le_bytes());
        put_text(&mut out, "tokenizer.ggml.tokens");
        out.extend(ARRAY.to_le_bytes());
        out.extend(TEXT.to_le_bytes());
        out.extend(1000_u64.to_le_bytes());
        (0..1000).for_each(|i| put_text(&mut out, &format!("token{i}")));
        put_text(&mut out, "tokenizer.chat_template");
        out.extend(TEXT.to_le_bytes());
        put_text(&mut out, template);
        out
    }

    fn read(bytes: &[u8], piece: usize) -> Result<(bool, About), NoGguf> {
        let mut reading = Reading::default();
        let mut ended = false;
        for piece in bytes.chunks(piece) {
            ended = reading.push(piece)?;
            if ended {
                break;
            }
        }
        Ok((ended, reading.about()))
    }

    #[test]
    fn what_is_no_gguf_is_refused() {
        assert_eq!(read(b"GGML\x03\0\0\0 and so on, for a while", 9), Err(NoGguf));
        let mut huge = example("llama", "x");
        huge[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&huge, 100), Err(NoGguf));
        let mut long = example("llama", "x");
        long[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&long, 100), Err(NoGguf));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(piece in 1..5_000_usize, template in ".{0,200}") {
            let expected = About { architecture: Some("llama".into()), chat_template: Some(template.clone()) };
            prop_assert_eq!(read(&example("llama", &template), piece), Ok((true, expected)));
        }

        #[test]
        fn no_bytes_panic(at in 0..200_usize, byte: u8, piece in 1..300_usize) {
            let mut bytes = example("llama", "x");
            bytes[at] = byte;
            let _ = read(&bytes, piece);
        }
    }
}
