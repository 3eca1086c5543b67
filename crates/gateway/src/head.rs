//! How large a request's head may be.
//!
//! **Not here:** heads that hyper itself does not read to their end: more than twice or four times as large, or no
//! HTTP. Those it refuses by their status alone (`server`).

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

use crate::answer::Fault;

/// Largest request head, in bytes: a file path of 3,072 bytes, each percent-encoded, fits three times.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most header lines in a request.
pub(crate) const MAX_HEADERS: usize = 100;
/// What a header line has beside its name and value, in bytes: a colon, a space, and its end.
const LINE_BYTES: usize = 4;

/// Refuses a head that is too large.
///
/// # Errors
/// A [`Fault`] that names the bound.
pub(crate) fn check(parts: &Parts) -> Result<(), Fault> {
    let (lines, target) = (parts.headers.len(), parts.uri.path_and_query().map_or(0, |t| t.as_str().len()));
    if lines > MAX_HEADERS {
        return Err(too_large(format!(
            "the request has {lines} header lines; at most {MAX_HEADERS} are taken"
        )));
    }
    let bytes = target + bytes_of(&parts.headers);
    if bytes > MAX_HEAD_BYTES {
        return Err(too_large(format!(
            "the request's head has {bytes} bytes; at most {MAX_HEAD_BYTES} are taken"
        )));
    }
    Ok(())
}

fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_BYTES).sum()
}

fn too_large(message: String) -> Fault {
    Fault::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "TooLarge", message)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn refusal(target: usize, lines: usize, value: usize) -> Option<(u16, String)> {
        let mut request = Request::builder().uri(format!("/{}", "p".repeat(target)));
        for n in 0..lines {
            request = request.header(format!("x-{n}"), "v".repeat(value));
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let answer = check(&parts).err()?.into_response(false);
        let said = answer.headers()["x-error-message"].to_str().unwrap().to_owned();
        Some((answer.status().as_u16(), said))
    }

    #[test]
    fn a_head_that_is_too_large_is_told_so() {
        assert_eq!(refusal(3 * 3 * 3072, MAX_HEADERS, 100), None);
        let lines = refusal(1, MAX_HEADERS + 1, 1).unwrap();
        assert_eq!(lines, (431, "the request has 101 header lines; at most 100 are taken".to_owned()));
        for (target, lines, value) in [(1, 1, MAX_HEAD_BYTES), (MAX_HEAD_BYTES / 2, 2, MAX_HEAD_BYTES / 4)] {
            let (status, said) = refusal(target, lines, value).unwrap();
            assert!(status == 431 && said.ends_with("at most 65536 are taken"), "{said}");
        }
    }
}
