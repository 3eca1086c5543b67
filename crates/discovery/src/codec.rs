//! Puts questions and answers on a stream: one of each, each ended by the end of its side.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::wire::{Answer, Ask, MAX_ANSWER, MAX_ASK};

/// Length-limited messages over libp2p's request-response.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordCodec;

impl Codec for RecordCodec {
    type Protocol = StreamProtocol;
    type Request = Ask;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Ask>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(Ask::decode(&read(io, MAX_ASK).await?)?)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(Answer::decode(&read(io, MAX_ANSWER).await?)?)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, ask: Ask) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&ask.encode()).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&answer.encode()).await
    }
}

/// Everything up to the end, which must come within `limit` bytes.
async fn read(io: &mut (impl AsyncRead + Unpin + Send), limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endless_message_is_given_up_at_its_limit() {
        let mut endless = futures::io::repeat(1);
        assert!(read(&mut endless, MAX_ASK).await.is_err());
        let mut whole = futures::io::Cursor::new(vec![1; MAX_ASK]);
        assert_eq!(read(&mut whole, MAX_ASK).await.unwrap().len(), MAX_ASK);
    }
}
