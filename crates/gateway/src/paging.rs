//! `Link: <…>; rel="next"`: where the next page is, as an absolute address.
//!
//! A relative one crashes the Python client and silently truncates the JavaScript one; a comma inside would be
//! read as the end of the link.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands unencoded in one segment or value.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Longest `Host` header that is repeated, in bytes.
const MAX_HOST_BYTES: usize = 255;

/// Percent-encodes one segment or value, `/` and `,` included.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Percent-encodes a path, leaving its `/` alone.
pub(crate) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// This host as the client reached it: `http://127.0.0.1:8090`.
///
/// A proxy that ends TLS says so in `X-Forwarded-Proto`. Without a usable `Host` the listener's address is taken.
pub(crate) fn base_url(headers: &HeaderMap, local: Option<SocketAddr>) -> String {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    let host = text(header::HOST.as_str()).filter(|host| is_host(host)).map(str::to_owned);
    let host = host.or_else(|| local.map(|addr| addr.to_string())).unwrap_or_else(|| "localhost".to_owned());
    format!("{scheme}://{host}")
}

fn is_host(host: &str) -> bool {
    let fits = (1..=MAX_HOST_BYTES).contains(&host.len());
    fits && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
}

/// The value of a `Link` header that leads to `path` with `query`.
pub(crate) fn next_link(base: &str, path: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("<{base}{path}?{}>; rel=\"next\"", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_absolute_and_hold_no_comma() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "hub.example:8090".parse().unwrap());
        let link = next_link(
            &base_url(&headers, None),
            "/api/x",
            &[("cursor", "a,b/ c".into()), ("limit", "2".into())],
        );
        assert_eq!(link, "<http://hub.example:8090/api/x?cursor=a%2Cb%2F%20c&limit=2>; rel=\"next\"");
    }

    #[test]
    fn a_forged_host_is_not_repeated() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "evil>, <x".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        assert_eq!(base_url(&headers, "127.0.0.1:9".parse().ok()), "https://127.0.0.1:9");
    }
}
