//! Git's pkt-lines: the frames of its smart protocol (gitprotocol-common, gitprotocol-v2).
//!
//! Four hexadecimal digits give a frame's length with the digits themselves; 0000, 0001 and 0002 are marks
//! without content. Both sides are here: what a client sends and what a server answers.

use crate::ProofError;

/// Longest content of one frame, in bytes (git's `LARGE_PACKET_DATA_MAX`).
pub const MAX_PKT_DATA: usize = 65_516;
/// Bytes of a frame's length.
const HEAD: usize = 4;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Content; it may be empty.
    Data(&'a [u8]),
    /// 0000: the end of a message.
    Flush,
    /// 0001: the end of a section.
    Delim,
    /// 0002: the end of an answer on a connection that stays.
    ResponseEnd,
}

impl<'a> Packet<'a> {
    /// The content as a line: without the line feed at its end, if it has one.
    pub fn line(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Data(data) => Some(data.strip_suffix(b"\n").unwrap_or(data)),
            _ => None,
        }
    }

    /// The line as text; `None` for a mark and for what is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        self.line().and_then(|line| std::str::from_utf8(line).ok())
    }

    /// What a frame of a multiplexed answer carries; `None` for a mark, an empty frame or an unknown band.
    pub fn band(&self) -> Option<Band<'a>> {
        let Self::Data(data) = *self else { return None };
        match data.split_first()? {
            (1, rest) => Some(Band::Pack(rest)),
            (2, rest) => Some(Band::Progress(rest)),
            (3, rest) => Some(Band::Error(rest)),
            _ => None,
        }
    }
}

/// A frame of a multiplexed (sideband-64k) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band<'a> {
    /// Bytes of the pack.
    Pack(&'a [u8]),
    /// Words for a person who waits.
    Progress(&'a [u8]),
    /// Why nothing more comes.
    Error(&'a [u8]),
}

/// Reads the first frame of `bytes`: the frame and how many bytes it took; `None` where more bytes are needed
/// (never more than [`MAX_PKT_DATA`] and four).
///
/// # Errors
/// [`ProofError::Malformed`] if the length is none or over the limit.
pub fn read_packet(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, ProofError> {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let len = read_len(*head)?;
    let mark = match len {
        0 => Packet::Flush,
        1 => Packet::Delim,
        2 => Packet::ResponseEnd,
        3 => return Err(malformed("a length of 3 is none")),
        len if len > HEAD + MAX_PKT_DATA => return Err(malformed("a frame is too long")),
        len => return Ok(bytes.get(HEAD..len).map(|data| (Packet::Data(data), len))),
    };
    Ok(Some((mark, HEAD)))
}

fn read_len(head: [u8; HEAD]) -> Result<usize, ProofError> {
    head.iter().try_fold(0, |len, digit| {
        let digit = (*digit as char).to_digit(16).ok_or_else(|| malformed("a length is not hexadecimal"))?;
        Ok(len << 4 | digit as usize)
    })
}

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "pkt-line", why }
}

/// The frames of a message that is here whole. Ends after an error; bytes that are no whole frame are one.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// The frames of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, ProofError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = read_packet(self.rest).and_then(|read| read.ok_or_else(|| malformed("it is cut off")));
        self.rest = read.as_ref().map_or(&[][..], |(_, len)| self.rest.get(*len..).unwrap_or_default());
        Some(read.map(|(packet, _)| packet))
    }
}

/// Frames out of bytes that arrive in pieces. Holds one piece and at most one frame.
#[derive(Debug, Default)]
pub struct PacketBuffer {
    bytes: Vec<u8>,
    at: usize,
}

impl PacketBuffer {
    /// Adds what arrived. Call [`PacketBuffer::next_packet`] until it gives `None` before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame; `None` where more bytes are needed.
    ///
    /// # Errors
    /// As [`read_packet`]; the same error again at every further call.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, ProofError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((packet, len)) = read_packet(rest)? else { return Ok(None) };
        self.at += len;
        Ok(Some(packet))
    }

    /// Whether nothing is left that could begin a frame: the stream may end here.
    pub const fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// Appends a frame of `data`.
///
/// # Errors
/// [`ProofError::TooLarge`] above [`MAX_PKT_DATA`].
pub fn put_packet(out: &mut Vec<u8>, data: &[u8]) -> Result<(), ProofError> {
    check_len(data.len())?;
    put_head(out, data.len());
    out.extend_from_slice(data);
    Ok(())
}

/// Appends a frame of `text` and a line feed.
///
/// # Errors
/// As [`put_packet`].
pub fn put_line(out: &mut Vec<u8>, text: &str) -> Result<(), ProofError> {
    check_len(text.len() + 1)?;
    put_head(out, text.len() + 1);
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
    Ok(())
}

/// Appends 0000.
pub fn put_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends 0001.
pub fn put_delim(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// Appends 0002.
pub fn put_response_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0002");
}

/// Appends `band` in as many frames as it takes; none for no bytes.
pub fn put_band(out: &mut Vec<u8>, band: Band<'_>) {
    let (number, bytes) = match band {
        Band::Pack(bytes) => (1, bytes),
        Band::Progress(bytes) => (2, bytes),
        Band::Error(bytes) => (3, bytes),
    };
    for piece in bytes.chunks(MAX_PKT_DATA - 1) {
        put_head(out, piece.len() + 1);
        out.push(number);
        out.extend_from_slice(piece);
    }
}

fn check_len(len: usize) -> Result<(), ProofError> {
    if len > MAX_PKT_DATA {
        let (size, limit) = (len as u64, MAX_PKT_DATA as u64);
        return Err(ProofError::TooLarge { what: "a pkt-line, in bytes", size, limit });
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, data_len: usize) {
    out.extend_from_slice(format!("{:04x}", data_len + HEAD).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame that owns its content; 0 to 2 are the marks.
    fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..50)), 0..12)
    }

    fn packet((kind, data): &(u8, Vec<u8>)) -> Packet<'_> {
        match kind {
            0 => Packet::Flush,
            1 => Packet::Delim,
            2 => Packet::ResponseEnd,
            _ => Packet::Data(data),
        }
    }

    fn write(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            match packet(frame) {
                Packet::Flush => put_flush(&mut out),
                Packet::Delim => put_delim(&mut out),
                Packet::ResponseEnd => put_response_end(&mut out),
                Packet::Data(data) => put_packet(&mut out, data).unwrap(),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn frames_read_as_they_are_written(frames in frames(), piece in 1..40_usize) {
            let bytes = write(&frames);
            let read: Result<Vec<_>, _> = Packets::new(&bytes).collect();
            prop_assert_eq!(read, Ok(frames.iter().map(packet).collect()));
            let (mut buffer, mut seen) = (PacketBuffer::default(), 0);
            for piece in bytes.chunks(piece) {
                buffer.push(piece);
                while let Some(found) = buffer.next_packet().unwrap() {
                    prop_assert_eq!(found, packet(&frames[seen]));
                    seen += 1;
                }
            }
            prop_assert!(buffer.is_empty() && seen == frames.len());
        }

        #[test]
        fn bands_come_back_whole(len in 0..200_000_usize) {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut out = Vec::new();
            put_band(&mut out, Band::Pack(&bytes));
            let mut back = Vec::new();
            for packet in Packets::new(&out) {
                let Some(Band::Pack(piece)) = packet.unwrap().band() else { panic!("another band") };
                back.extend_from_slice(piece);
            }
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![Just(b'0'), Just(b'1'), Just(b'f'), any::<u8>()], 0..60)) {
            let mut packets = Packets::new(&bytes);
            let last = packets.by_ref().last();
            prop_assert!(last.is_none_or(|p| p.is_err()) || packets.rest().is_empty());
        }
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        for bad in ["0003", "fff5", "00g0", "+004", "-004", "0x04", "    "] {
            assert!(read_packet(bad.as_bytes()).is_err(), "{bad}");
        }
        for cut in ["", "0", "000", "0005", "fff0abc"] {
            assert_eq!(read_packet(cut.as_bytes()), Ok(None), "{cut}");
        }
        assert_eq!(read_packet(b"0004rest"), Ok(Some((Packet::Data(b""), 4))));
        assert!(Packets::new(b"0005").next().unwrap().is_err());
    }

    #[test]
    fn a_frame_holds_65516_bytes() {
        let mut out = Vec::new();
        put_packet(&mut out, &[7; MAX_PKT_DATA]).unwrap();
        assert_eq!(&out[..4], b"fff0");
        assert_eq!(read_packet(&out).unwrap().unwrap().1, out.len());
        assert!(put_packet(&mut out, &[7; MAX_PKT_DATA + 1]).is_err());
        assert!(put_line(&mut out, &"x".repeat(MAX_PKT_DATA)).is_err());
    }

    #[test]
    fn a_line_is_without_its_end() {
        let mut out = Vec::new();
        put_line(&mut out, "command=ls-refs").unwrap();
        assert_eq!(out, b"0014command=ls-refs\n");
        assert_eq!(Packets::new(&out).next().unwrap().unwrap().text(), Some("command=ls-refs"));
        assert_eq!(Packet::Data(b"\xff").text(), None);
        assert_eq!(Packet::Data(b"\x02hi").band(), Some(Band::Progress(b"hi")));
        assert_eq!((Packet::Data(b"").band(), Packet::Flush.band()), (None, None));
    }
}
