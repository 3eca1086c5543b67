//! Bodies: from memory or a file, a range of them, with what goes wrong on the way.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::faults::HubFaults;
use super::record::Record;

/// What every answer has.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Bytes read from a file at a time.
const PIECE: usize = 256 * 1024;
/// Bytes of a piece where the rate is held down.
const SLOW_PIECE: usize = 16 * 1024;

/// How long a connection has for what was sent before it is cut.
const CUT_AFTER: Duration = Duration::from_millis(50);

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Memory(Bytes),
    File(PathBuf, u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// The bytes of `range`, as a stream.
    pub(crate) async fn body(&self, range: Range<u64>) -> Result<Body> {
        Ok(match self {
            Self::Memory(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                boxed(stream::once(async move { Ok(bytes) }))
            }
            Self::File(path, _) => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(SeekFrom::Start(range.start)).await?;
                let pieces =
                    stream::try_unfold((file, range.end - range.start), |(mut file, left)| async move {
                        if left == 0 {
                            return Ok(None);
                        }
                        let mut piece = vec![0; PIECE.min(left as usize)];
                        file.read_exact(&mut piece).await?;
                        let left = left - piece.len() as u64;
                        Ok(Some((Bytes::from(piece), (file, left))))
                    });
                boxed(pieces)
            }
        })
    }
}

pub(crate) fn boxed(pieces: impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(pieces.map_ok(Frame::data)))
}

/// Lets the faults and the record have their way with an answer whose body begins at `offset` of a file.
pub(crate) fn spoil(
    response: Response<Body>,
    offset: u64,
    faults: &HubFaults,
    record: Arc<Record>,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(limit) = faults.shorten_to {
        let length = head.headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length.min(limit)));
        }
    }
    let spoiler = Spoiler { body, rest: Bytes::new(), sent: 0, offset, faults: faults.clone(), record };
    let pieces = stream::try_unfold(spoiler, |mut spoiler| async move {
        Ok(spoiler.next().await?.map(|piece| (piece, spoiler)))
    });
    Response::from_parts(head, boxed(pieces))
}

struct Spoiler {
    body: Body,
    /// What the body gave and was not sent yet.
    rest: Bytes,
    sent: u64,
    offset: u64,
    faults: HubFaults,
    record: Arc<Record>,
}

impl Spoiler {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.rest.is_empty() {
            match self.body.frame().await {
                Some(frame) => self.rest = frame?.into_data().unwrap_or_default(),
                None => return Ok(None),
            }
        }
        let left = |limit: Option<u64>| limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.sent));
        let (stall, cut, end) =
            (left(self.faults.stall_after), left(self.faults.cut_after), left(self.faults.shorten_to));
        if end == 0 {
            return Ok(None);
        }
        if cut == 0 {
            // What was given to the connection goes out first.
            tokio::time::sleep(CUT_AFTER).await;
            return Err(io::Error::other("a fault cuts it here"));
        }
        if stall == 0 {
            std::future::pending::<()>().await;
        }
        let most = if self.faults.bytes_per_second.is_some() { SLOW_PIECE } else { usize::MAX };
        let len = (self.rest.len().min(most) as u64).min(stall).min(cut).min(end);
        let piece = self.rest.split_to(len as usize);
        if let Some(rate) = self.faults.bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate.max(1) as f64)).await;
        }
        let start = self.offset + self.sent;
        self.sent += len;
        self.record.sent(len);
        Ok(Some(match self.faults.wrong_byte_at {
            Some(at) if (start..start + len).contains(&at) => {
                let mut wrong = piece.to_vec();
                wrong[(at - start) as usize] ^= 0xff;
                wrong.into()
            }
            _ => piece,
        }))
    }
}
