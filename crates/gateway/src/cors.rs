//! Which web pages may read an answer (CORS).
//!
//! This endpoint is open to whoever reaches it, and a browser reaches it for any page that its user visits.
//! **Invariant:** pages of strangers read what strangers may have anyway: open repositories, of what this node gives
//! to peers. What was adopted, is private or gated, and lists, which name all that is here, are for the pages that the
//! operator named.
//! **Not here:** requests themselves; a page may send them, but learns nothing.

use std::sync::atomic::{AtomicU8, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

/// What scripts in a browser may read of an answer.
const EXPOSED: &str = "Accept-Ranges, Content-Length, Content-Range, Docker-Content-Digest, ETag, Link, Retry-After, \
                       X-Error-Code, X-Error-Message, X-Hubless-Fork, X-Hubless-Resolved-By, X-Linked-ETag, \
                       X-Linked-Size, X-Repo-Commit, X-Total-Count, \
                       X-Xet-Access-Token, X-Xet-Cas-Url, X-Xet-Hash, X-Xet-Token-Expiration";
/// What scripts in a browser may send.
const ALLOWED_HEADERS: &str = "Accept, Authorization, Content-Encoding, Content-Type, Git-Protocol, If-None-Match, \
                               If-Range, Range";
/// Any page, in `cors_origins` and in answers.
const ANY: &str = "*";

const NOTHING: u8 = 0;
const EVERYONE: u8 = 1;
const NOT_EVERYONE: u8 = 2;

/// Whether what one answer shows is everybody's.
#[derive(Debug, Default)]
pub(crate) struct Shown(AtomicU8);

impl Shown {
    /// Something is shown that is everybody's, or not: then the whole answer is not.
    pub(crate) fn note(&self, everyone: bool) {
        self.0.fetch_max(if everyone { EVERYONE } else { NOT_EVERYONE }, Ordering::Relaxed);
    }

    /// `None` if nothing was noted.
    pub(crate) fn is_for_everyone(&self) -> Option<bool> {
        let noted = self.0.load(Ordering::Relaxed);
        (noted != NOTHING).then_some(noted == EVERYONE)
    }
}

/// Lets pages read an answer: those of `origins`, and all of them where it is `for_everyone`. `page` is the request's
/// `Origin`.
pub(crate) fn allow(
    headers: &mut HeaderMap,
    origins: &[String],
    page: Option<&HeaderValue>,
    for_everyone: bool,
) {
    let named = page.filter(|page| origins.iter().any(|origin| origin.as_bytes() == page.as_bytes()));
    let allowed = match named {
        _ if for_everyone || origins.iter().any(|origin| origin == ANY) => HeaderValue::from_static(ANY),
        Some(page) => page.clone(),
        None => return vary(headers, origins),
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    vary(headers, origins);
}

/// Whoever keeps answers keeps those for different pages apart.
fn vary(headers: &mut HeaderMap, origins: &[String]) {
    if !origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// What a page is told that asks before it asks: the same of every address, since it tells nothing of what is here.
pub(crate) fn preflight(methods: &'static str) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_read_what_is_everybodys_and_named_ones_the_rest() {
        let mine = "http://localhost:5173";
        for (origins, page, for_everyone, allowed) in [
            (&[][..], Some("https://evil.example"), true, Some("*")),
            (&[], Some("https://evil.example"), false, None),
            (&[], None, false, None),
            (&[mine], Some(mine), false, Some(mine)),
            (&[mine], Some("http://localhost:51731"), false, None),
            (&[mine], Some("https://evil.example"), true, Some("*")),
            (&["*"], Some("https://evil.example"), false, Some("*")),
        ] {
            let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
            let (page, mut headers) = (page.map(HeaderValue::from_static), HeaderMap::new());
            allow(&mut headers, &origins, page.as_ref(), for_everyone);
            let found = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(found, allowed, "{origins:?} {page:?} {for_everyone}");
            assert_eq!(headers.contains_key(header::ACCESS_CONTROL_EXPOSE_HEADERS), allowed.is_some());
            assert_eq!(headers.contains_key(header::VARY), !origins.is_empty());
        }
    }

    #[test]
    fn one_thing_that_is_not_everybodys_is_enough() {
        let shown = Shown::default();
        assert_eq!(shown.is_for_everyone(), None);
        for (noted, all) in [(true, true), (false, false), (true, false)] {
            shown.note(noted);
            assert_eq!(shown.is_for_everyone(), Some(all));
        }
    }
}
