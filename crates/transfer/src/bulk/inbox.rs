//! The receiving end of a line: records in, plain bytes of one answer out.
//!
//! **Invariant:** memory for a handful of records, whatever is sent; nothing is looked at before it was opened.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::Arc;

use super::seal::{END_BYTES, HEAD_BYTES, Head, Kind, MAX_SEALED, Opener, SealError};
use crate::limits::RECORDS_AT_ONCE;

/// What came next.
pub(super) enum Came<'a> {
    /// Bytes of the answer.
    Bytes(&'a [u8]),
    /// The answer ends here, for this reason.
    End(u64),
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum InboxError {
    #[error("nothing came in time")]
    Silent,
    #[error("the line ended")]
    Ended,
    #[error("more came than was asked for")]
    TooMuch,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Io(std::io::Error),
}

pub(super) struct Inbox {
    line: Arc<TcpStream>,
    opener: Opener,
    buffer: Vec<u8>,
    /// What has come and is not opened yet lies here in the buffer.
    start: usize,
    end: usize,
}

impl Inbox {
    /// Reads from `line`, whose read timeout bounds each silence.
    pub(super) fn new(line: Arc<TcpStream>, opener: Opener) -> Self {
        Self { line, opener, buffer: vec![0; (RECORDS_AT_ONCE + 1) * MAX_SEALED], start: 0, end: 0 }
    }

    /// Waits for at least one record and opens all that are here of an answer that has `left` bytes to come.
    pub(super) fn next(&mut self, left: u64) -> Result<Came<'_>, InboxError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let mut plain = 0;
        loop {
            let Some(head) = self.whole_record()? else {
                if plain > 0 {
                    break;
                }
                self.read()?;
                continue;
            };
            let bytes = plain as u64 + head.len as u64;
            match head.kind {
                Kind::End if plain > 0 => break,
                Kind::End => return self.open_end(head),
                Kind::Data if bytes > left => return Err(InboxError::TooMuch),
                Kind::Data => {}
            }
            self.open(head, plain)?;
            plain += head.len;
            if bytes == left {
                break;
            }
        }
        Ok(Came::Bytes(&self.buffer[..plain]))
    }

    /// The head of the next record, if all of it is here.
    fn whole_record(&self) -> Result<Option<Head>, SealError> {
        let here = &self.buffer[self.start..self.end];
        let Some(head) = here.first_chunk() else { return Ok(None) };
        let head = Head::parse(*head)?;
        Ok((head.sealed_len() <= here.len()).then_some(head))
    }

    /// Opens the next record, and puts its bytes at `plain`: those of several lie one after another.
    fn open(&mut self, head: Head, plain: usize) -> Result<(), SealError> {
        let next = self.start + head.sealed_len();
        let skip = self.start + HEAD_BYTES - plain;
        self.opener.open(head, &mut self.buffer[plain..next], skip)?;
        self.start = next;
        Ok(())
    }

    fn open_end(&mut self, head: Head) -> Result<Came<'_>, InboxError> {
        self.open(head, 0)?;
        let code: [u8; END_BYTES] = self.buffer.first_chunk().copied().unwrap_or_default();
        Ok(Came::End(u32::from_le_bytes(code).into()))
    }

    /// Takes what there is. All that arrives on this line passes here.
    fn read(&mut self) -> Result<(), InboxError> {
        loop {
            match (&*self.line).read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(InboxError::Ended),
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(InboxError::Silent),
                    _ => return Err(InboxError::Io(error)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::super::seal::{Cipher, KEY_BYTES, Sealer, TAG_BYTES};
    use super::*;

    const KEY: [u8; KEY_BYTES] = [3; KEY_BYTES];

    fn joined() -> (TcpStream, Inbox, Sealer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        ours.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let opener = Opener::new(Cipher::Aes256Gcm, &KEY).unwrap();
        let inbox = Inbox::new(Arc::new(ours), opener);
        (theirs, inbox, Sealer::new(Cipher::Aes256Gcm, &KEY).unwrap())
    }

    fn record(sealer: &mut Sealer, kind: Kind, plain: &[u8]) -> Vec<u8> {
        let mut room = vec![0; HEAD_BYTES + plain.len() + TAG_BYTES];
        room[HEAD_BYTES..HEAD_BYTES + plain.len()].copy_from_slice(plain);
        sealer.seal(kind, &mut room, plain.len()).unwrap();
        room
    }

    fn take(inbox: &mut Inbox, left: u64) -> Vec<u8> {
        match inbox.next(left).unwrap() {
            Came::Bytes(bytes) => bytes.to_vec(),
            Came::End(code) => panic!("ended with {code}"),
        }
    }

    #[test]
    fn answers_follow_one_another_and_are_not_mixed() {
        let (mut theirs, mut inbox, mut sealer) = joined();
        let all = [
            record(&mut sealer, Kind::Data, b"first "),
            record(&mut sealer, Kind::Data, b"answer"),
            record(&mut sealer, Kind::Data, b"second"),
            record(&mut sealer, Kind::End, &4_u32.to_le_bytes()),
            record(&mut sealer, Kind::Data, b"third"),
        ]
        .concat();
        theirs.write_all(&all).unwrap();
        let mut first = Vec::new();
        while first.len() < 12 {
            first.extend(take(&mut inbox, 12 - first.len() as u64));
        }
        assert_eq!(first, b"first answer");
        assert_eq!(take(&mut inbox, 100), b"second");
        assert!(matches!(inbox.next(94), Ok(Came::End(4))));
        assert_eq!(take(&mut inbox, 5), b"third");
        assert!(matches!(inbox.next(5), Err(InboxError::Silent)));
        drop(theirs);
        assert!(matches!(inbox.next(5), Err(InboxError::Ended)));
    }

    #[test]
    fn what_is_too_long_or_not_sealed_by_the_peer_ends_it() {
        let (mut theirs, mut inbox, mut sealer) = joined();
        theirs.write_all(&record(&mut sealer, Kind::Data, b"six...")).unwrap();
        assert!(matches!(inbox.next(5), Err(InboxError::TooMuch)));
        let (mut theirs, mut inbox, mut sealer) = joined();
        let mut spoilt = record(&mut sealer, Kind::Data, b"spoilt");
        spoilt[HEAD_BYTES] ^= 1;
        theirs.write_all(&spoilt).unwrap();
        assert!(matches!(inbox.next(6), Err(InboxError::Seal(SealError::Seal))));
        let (mut theirs, mut inbox, _) = joined();
        theirs.write_all(&[0xff; 64]).unwrap();
        assert!(matches!(inbox.next(6), Err(InboxError::Seal(SealError::Head))));
    }

    #[test]
    fn the_longest_records_fit_however_they_are_cut() {
        let (mut theirs, mut inbox, mut sealer) = joined();
        let plain = vec![7; crate::limits::MAX_RECORD];
        let records: Vec<u8> = (0..20).flat_map(|_| record(&mut sealer, Kind::Data, &plain)).collect();
        let total = 20 * plain.len() as u64;
        let writer = std::thread::spawn(move || {
            records.chunks(10_007).for_each(|chunk| theirs.write_all(chunk).unwrap());
        });
        let mut left = total;
        while left > 0 {
            left -= take(&mut inbox, left).len() as u64;
        }
        writer.join().unwrap();
    }
}
