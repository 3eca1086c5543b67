//! A successful answer: read whole within bounds, or taken as a stream of so many bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hubless_limits::Use;
use hubless_types::ByteRange;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderMap, LINK};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::body::Pieces;
use super::{text, words};
use crate::pace::{Gauge, Host};
use crate::{OriginBody, OriginError, Patience};

/// A successful answer whose body has not been read.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    gauge: Arc<Gauge>,
    /// Who gave it.
    host: Host,
    patience: Patience,
    what: Use,
}

impl Answer {
    pub(super) fn new(
        response: Response,
        (gauge, host): (Arc<Gauge>, Host),
        patience: Patience,
        what: Use,
    ) -> Self {
        Self { response, gauge, host, patience, what }
    }

    /// When it was given, by the clock of whoever gave it.
    pub(crate) fn date(&self) -> Option<jiff::Timestamp> {
        let date = text(self.response.headers(), DATE.as_str())?;
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
    }

    /// The query of the next page, as `Link` gives it. Where it leads otherwise is of no account.
    pub(crate) fn next_query(&self) -> Option<String> {
        next_query(self.response.headers())
    }

    /// The body, whole.
    ///
    /// # Errors
    /// [`OriginError::Malformed`] above `limit` bytes, [`OriginError::Stalled`] if it is not here in time.
    pub(crate) async fn bytes(self, limit: usize, what: &'static str) -> Result<Bytes, OriginError> {
        let mut body = Vec::new();
        let mut pieces = self.pieces(limit as u64, what)?;
        while let Some(piece) = pieces.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`Answer::bytes`], and [`OriginError::Malformed`] for what is not a `T`.
    pub(crate) async fn json<T: DeserializeOwned>(
        self,
        limit: usize,
        what: &'static str,
    ) -> Result<T, OriginError> {
        let origin = self.gauge.name().to_owned();
        let bytes = self.bytes(limit, what).await?;
        serde_json::from_slice(&bytes).map_err(|error| OriginError::Malformed {
            origin,
            what,
            why: words(&error.to_string()),
        })
    }

    /// The body piece by piece: at most `limit` bytes, within [`Patience::answer`].
    pub(crate) fn pieces(self, limit: u64, what: &'static str) -> Result<Limited, OriginError> {
        self.check_encoding()?;
        let deadline = Some(Instant::now() + self.patience.answer);
        let patience = self.patience.answer;
        let gauge = Arc::clone(&self.gauge);
        Ok(Limited { pieces: self.into_pieces(), gauge, left: limit, deadline, patience, what })
    }

    /// The body as `range` of a file of `size` bytes: the status and the lengths must fit, and so must the bytes.
    ///
    /// # Errors
    /// [`OriginError::Length`] or [`OriginError::Malformed`] if they do not; [`OriginError::Unsupported`] if the
    /// origin sends the whole file where a part was asked for.
    pub(crate) fn file(self, range: ByteRange, size: u64) -> Result<OriginBody, OriginError> {
        self.extent(range, Some(size))
    }

    /// The body as `range` of something of whatever size.
    ///
    /// # Errors
    /// As [`Answer::file`].
    pub(crate) fn part(self, range: ByteRange) -> Result<OriginBody, OriginError> {
        self.extent(range, None)
    }

    fn extent(self, range: ByteRange, size: Option<u64>) -> Result<OriginBody, OriginError> {
        self.check_encoding()?;
        let headers = self.response.headers();
        let origin = || self.gauge.name().to_owned();
        match self.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let found = text(headers, CONTENT_RANGE.as_str()).and_then(content_range);
                if !found.is_some_and(|(part, of)| part == range && (size.is_none() || of == size)) {
                    let why = "its Content-Range is not what was asked for".to_owned();
                    return Err(self.noted(OriginError::Malformed {
                        origin: origin(),
                        what: "a part of a file",
                        why,
                    }));
                }
            }
            StatusCode::OK if size.is_some_and(|size| range == ByteRange::whole(size)) => {}
            StatusCode::OK => {
                return Err(OriginError::Unsupported { origin: origin(), what: "send parts of files" });
            }
            status => {
                let why = format!("its status is {}", status.as_u16());
                return Err(OriginError::Malformed { origin: origin(), what: "a file", why });
            }
        }
        let promised = text(headers, CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        if let Some(got) = promised.filter(|got| *got != range.len()) {
            return Err(self.noted(OriginError::Length { origin: origin(), got, expected: range.len() }));
        }
        Ok(self.into_pieces().exactly(range.len()))
    }

    fn noted(&self, error: OriginError) -> OriginError {
        self.gauge.note(&self.host, &error);
        error
    }

    fn into_pieces(self) -> Pieces {
        Pieces::new(self.response, (self.gauge, self.host), self.patience.stall, self.what)
    }

    fn check_encoding(&self) -> Result<(), OriginError> {
        match text(self.response.headers(), CONTENT_ENCODING.as_str()) {
            None | Some("identity") => Ok(()),
            Some(encoding) => Err(OriginError::Malformed {
                origin: self.gauge.name().to_owned(),
                what: "an answer",
                why: format!("it is compressed ({}), which nobody asked for", words(encoding)),
            }),
        }
    }
}

/// An answer's body that is bounded in bytes and in time.
#[derive(Debug)]
pub(crate) struct Limited {
    pieces: Pieces,
    gauge: Arc<Gauge>,
    left: u64,
    deadline: Option<Instant>,
    patience: Duration,
    what: &'static str,
}

impl Limited {
    /// The same, with `times` the time.
    pub(crate) fn patient(self, times: u32) -> Self {
        Self {
            deadline: self.deadline.map(|deadline| deadline + self.patience * times.saturating_sub(1)),
            ..self
        }
    }

    /// The same, for as long as pieces keep coming.
    pub(crate) fn unhurried(self) -> Self {
        Self { deadline: None, ..self }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let next = match self.deadline {
            // What this node's own cap takes is not the origin's fault.
            Some(deadline) => {
                let deadline = deadline + self.pieces.held();
                tokio::time::timeout_at(deadline, self.pieces.next()).await
            }
            None => Ok(self.pieces.next().await),
        };
        let origin = || self.gauge.name().to_owned();
        let Some(piece) =
            next.map_err(|_| OriginError::Stalled { origin: origin(), after: self.patience })??
        else {
            return Ok(None);
        };
        self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(|| OriginError::Malformed {
            origin: origin(),
            what: self.what,
            why: "it is longer than is taken".to_owned(),
        })?;
        Ok(Some(piece))
    }
}

/// The first bytes of a body, whatever becomes of the rest.
pub(super) async fn front(mut response: Response, limit: usize, time: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    let deadline = Instant::now() + time;
    while out.len() < limit {
        let Ok(Ok(Some(piece))) = tokio::time::timeout_at(deadline, response.chunk()).await else { break };
        out.extend_from_slice(piece.get(..limit - out.len()).unwrap_or(&piece));
    }
    out
}

/// Reads `bytes 0-9/100`; the size may be `*`.
fn content_range(header: &str) -> Option<(ByteRange, Option<u64>)> {
    let (span, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?);
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    Some((ByteRange::new(first, last.checked_add(1)?), size))
}

fn next_query(headers: &HeaderMap) -> Option<String> {
    let header = text(headers, LINK.as_str())?;
    let next = header.split(',').find(|item| item.split(';').skip(1).any(|p| p.trim() == "rel=\"next\""))?;
    let address = next.split(';').next()?.trim().strip_prefix('<')?.strip_suffix('>')?;
    address.split_once('?').map(|(_, query)| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_content_range_is_read_half_open() {
        assert_eq!(content_range("bytes 0-9/100"), Some((ByteRange::new(0, 10), Some(100))));
        assert_eq!(content_range("bytes 0-9/*"), Some((ByteRange::new(0, 10), None)));
        for bad in [
            "",
            "bytes */100",
            "bytes 0-9/x",
            "bytes 0-18446744073709551615/1",
            "lines 0-9/10",
            "bytes -9/10",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_next_page_is_known_by_its_query() {
        let query = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, link.parse().unwrap());
            next_query(&headers)
        };
        let link = r#"<https://evil.example/api?first=1>; rel="first", <https://hub/api?cursor=a%2Cb&limit=9>; rel="next""#;
        assert_eq!(query(link).as_deref(), Some("cursor=a%2Cb&limit=9"));
        for bad in ["", "<x>", r#"<https://hub/api?x>; rel="prev""#, r#"https://hub/?x; rel="next""#] {
            assert_eq!(query(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~]{0,60}") {
            let _ = content_range(&text);
            let mut headers = HeaderMap::new();
            headers.insert(LINK, text.parse().unwrap());
            let _ = next_query(&headers);
        }
    }
}
