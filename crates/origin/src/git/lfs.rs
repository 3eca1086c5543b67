//! Where LFS keeps a file: the batch API (git-lfs, docs/api/batch.md), one object at a time.

use hubless_types::Sha256;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

use crate::http::{Ask, Auth, Http, words};
use crate::pace::LaneKind;
use crate::{OriginError, OriginErrorKind};

/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Most headers that a download may ask for.
const MAX_HEADERS: usize = 16;
/// The type of questions and answers.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// Headers that are this node's own, whatever a server asks for.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "range",
    "accept-encoding",
    "te",
    "upgrade",
];

#[derive(Debug, Serialize)]
struct Question<'a> {
    operation: &'a str,
    transfers: [&'a str; 1],
    objects: [Object<'a>; 1],
    hash_algo: &'a str,
}

#[derive(Debug, Serialize)]
struct Object<'a> {
    oid: &'a str,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Reply {
    transfer: Option<String>,
    objects: Vec<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    oid: String,
    error: Option<Failure>,
    #[serde(default)]
    actions: Actions,
}

#[derive(Debug, Deserialize)]
struct Failure {
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
struct Actions {
    download: Option<Download>,
}

#[derive(Debug, Deserialize)]
struct Download {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

/// Where a file is fetched from, and with which headers; they are for that host alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

/// Asks the batch API at `url` where the file is.
pub(super) async fn find(
    http: &Http,
    url: Url,
    auth: Auth<'_>,
    oid: Sha256,
    size: u64,
) -> Result<Place, OriginError> {
    const WHAT: &str = "an LFS answer";
    let oid = oid.to_string();
    let objects = [Object { oid: &oid, size }];
    let question = Question { operation: "download", transfers: ["basic"], objects, hash_algo: "sha256" };
    let body = serde_json::to_vec(&question).map_err(|error| http.malformed(WHAT, error.to_string()))?;
    let ask = Ask::get(url, auth, LaneKind::Api, OriginErrorKind::RepoNotFound);
    let reply = http.send(&ask.post(body, MEDIA_TYPE).accept(MEDIA_TYPE)).await?;
    place(http.name(), reply.json(MAX_ANSWER_BYTES, WHAT).await?, &oid)
}

fn place(origin: &str, reply: Reply, oid: &str) -> Result<Place, OriginError> {
    let malformed = |why: &str| OriginError::Malformed {
        origin: origin.to_owned(),
        what: "an LFS answer",
        why: why.to_owned(),
    };
    if reply.transfer.is_some_and(|transfer| transfer != "basic") {
        return Err(malformed("it wants another way of transfer"));
    }
    let found = reply.objects.into_iter().find(|found| found.oid == oid);
    let found = found.ok_or_else(|| malformed("the file that was asked for is not in it"))?;
    if let Some(Failure { code, message }) = found.error {
        let kind = match code {
            404 | 410 => OriginErrorKind::EntryNotFound,
            401 | 403 => OriginErrorKind::Gated,
            _ => OriginErrorKind::Unavailable,
        };
        return Err(OriginError::Refused {
            origin: origin.to_owned(),
            status: code,
            kind,
            said: words(&message),
        });
    }
    let download =
        found.actions.download.ok_or_else(|| malformed("it says nowhere to fetch the file from"))?;
    let url = download.href.parse().map_err(|_| malformed("the file's address is none"))?;
    if download.header.len() > MAX_HEADERS {
        return Err(malformed("it wants too many headers"));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in download.header {
        let name: HeaderName = name.parse().map_err(|_| malformed("a header it wants is none"))?;
        let mut value: HeaderValue = value.parse().map_err(|_| malformed("a header it wants is none"))?;
        if !OWN_HEADERS.contains(&name.as_str()) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Ok(Place { url, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Place, OriginError> {
        place("o", serde_json::from_str(json).unwrap(), "abc")
    }

    #[test]
    fn a_download_has_an_address_and_headers() {
        let place = read(
            r#"{"transfer":"basic","objects":[{"oid":"other"},{"oid":"abc","size":1,"actions":{"download":{
            "href":"https://lfs.example/x?y","header":{"Authorization":"Basic x","Host":"evil","Range":"bytes=0-0"}}}}]}"#,
        )
        .unwrap();
        assert_eq!(place.url.as_str(), "https://lfs.example/x?y");
        assert_eq!(place.headers.len(), 1);
        assert!(place.headers["authorization"].is_sensitive());
    }

    #[test]
    fn answers_that_give_no_download_say_why() {
        let missing = r#"{"objects":[{"oid":"abc","error":{"code":404,"message":"not\nhere"}}]}"#;
        let error = read(missing).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (OriginErrorKind::EntryNotFound, "o answered 404: not here".into())
        );
        let headers: Vec<_> = (0..40).map(|i| format!(r#""x-{i}":"1""#)).collect();
        for bad in [
            r#"{"objects":[]}"#.to_owned(),
            r#"{"objects":[{"oid":"abc"}]}"#.to_owned(),
            r#"{"transfer":"xet","objects":[{"oid":"abc"}]}"#.to_owned(),
            r#"{"objects":[{"oid":"abc","actions":{"download":{"href":"nowhere"}}}]}"#.to_owned(),
            r#"{"objects":[{"oid":"abc","actions":{"download":{"href":"http://x","header":{"a b":"c"}}}}]}"#.to_owned(),
            r#"{"objects":[{"oid":"abc","actions":{"download":{"href":"http://x","header":{"a":"b\r\nc"}}}}]}"#.to_owned(),
            format!(r#"{{"objects":[{{"oid":"abc","actions":{{"download":{{"href":"http://x","header":{{{}}}}}}}}}]}}"#, headers.join(",")),
        ] {
            assert!(matches!(read(&bad), Err(OriginError::Malformed { .. })), "{bad}");
        }
    }
}
