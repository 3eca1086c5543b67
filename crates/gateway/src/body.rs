//! The body of a file's answer: what the mirror yields, counted.
//!
//! **Invariant:** exactly the promised number of bytes is sent, or the connection is cut: a client sees a short
//! body, never one that only looks whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use hubless_mirror::MirrorError;
use hyper::body::{Body, Frame, SizeHint};

/// A file's bytes on their way out.
pub(crate) struct FileBody {
    pieces: BoxStream<'static, Result<Bytes, MirrorError>>,
    first: Option<Bytes>,
    left: u64,
}

impl FileBody {
    /// A body of `len` bytes: `first`, then `pieces`.
    pub(crate) fn new(
        first: Option<Bytes>,
        pieces: BoxStream<'static, Result<Bytes, MirrorError>>,
        len: u64,
    ) -> Self {
        Self { pieces, first, left: len }
    }

    fn take(&mut self, piece: Bytes) -> io::Result<Frame<Bytes>> {
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) => {
                self.left = left;
                Ok(Frame::data(piece))
            }
            None => Err(io::Error::other("more bytes than the file has")),
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(this.take(first)));
        }
        this.pieces.as_mut().poll_next(cx).map(|next| {
            Some(match next {
                Some(Ok(piece)) => this.take(piece),
                Some(Err(error)) => {
                    tracing::warn!(%error, left = this.left, "an answer was cut");
                    Err(io::Error::other(error.to_string()))
                }
                None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ended early")),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use http_body_util::BodyExt;

    fn body(pieces: Vec<Result<&'static [u8], MirrorError>>, len: u64) -> FileBody {
        let pieces = futures::stream::iter(pieces).map(|piece| piece.map(Bytes::from_static));
        FileBody::new(Some(Bytes::from_static(b"ab")), pieces.boxed(), len)
    }

    #[tokio::test]
    async fn all_or_an_error() {
        let whole = body(vec![Ok(b"cd"), Ok(b"e")], 5).collect().await.unwrap().to_bytes();
        assert_eq!(&whole[..], b"abcde");
        assert!(body(vec![Ok(b"cd")], 5).collect().await.is_err(), "too few");
        assert!(body(vec![Ok(b"cdefg")], 5).collect().await.is_err(), "too many");
        assert!(body(vec![Err(MirrorError::Stopped)], 5).collect().await.is_err(), "the mirror failed");
        assert_eq!(&body(vec![], 2).collect().await.unwrap().to_bytes()[..], b"ab");
    }
}
