//! Repositories that are asked for by a former name, or in the wrong case: sent on to the right one.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use hubless_types::{RepoId, RepoKind};

use crate::address::decode;
use crate::paging::encode_path;

/// Sends the client to the same place of repository `to`: 307, so that the method stays, and relative, so that a
/// client keeps its token. `None` if `uri` does not name `from`.
pub(crate) fn moved(uri: &Uri, from: &RepoId, to: &RepoId) -> Option<Response> {
    let location = location(uri.path(), uri.query(), from, to)?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Some(answer)
}

/// The address with one name in place of another; the rest stays as it was sent.
fn location(path: &str, query: Option<&str>, from: &RepoId, to: &RepoId) -> Option<String> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let is_api = segments.first() == Some(&"api");
    let kind = match (is_api, from.kind()) {
        (true, _) => 2,
        (false, RepoKind::Model) => 0,
        (false, RepoKind::Dataset | RepoKind::Space) => 1,
    };
    let (mut name, mut end) = (String::new(), kind);
    let suffix = loop {
        name.push_str(&decode(segments.get(end)?));
        end += 1;
        if name == from.name() {
            break "";
        }
        // Git asks for `name.git`.
        if name.strip_suffix(".git") == Some(from.name()) {
            break ".git";
        }
        if name.len() > from.name().len() {
            return None;
        }
        name.push('/');
    };
    let start = match is_api {
        true => format!("/api/{}", to.kind().plural()),
        false => format!("/{}", to.kind().prefix()).trim_end_matches('/').to_owned(),
    };
    let rest: String = segments[end..].iter().flat_map(|segment| ["/", segment]).collect();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{start}/{}{suffix}{rest}{query}", encode_path(to.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        for (uri, from, to, expected) in [
            ("/api/models/bert?blobs=1", "bert", "google/bert", "/api/models/google/bert?blobs=1"),
            (
                "/api/models/Acme/Tiny/tree/refs%2Fpr%2F1/a%20b?recursive=true",
                "Acme/Tiny",
                "acme/tiny",
                "/api/models/acme/tiny/tree/refs%2Fpr%2F1/a%20b?recursive=true",
            ),
            ("//bert/resolve/main/100%.txt", "bert", "google/bert", "/google/bert/resolve/main/100%.txt"),
            (
                "/datasets/old/rows/raw/main/x",
                "datasets/old/rows",
                "datasets/rows",
                "/datasets/rows/raw/main/x",
            ),
            ("/api/spaces/a/b/refs", "spaces/a/b", "spaces/a/c", "/api/spaces/a/c/refs"),
            ("/acme%2Ftiny/resolve/main/x", "acme/tiny", "acme/new", "/acme/new/resolve/main/x"),
            (
                "/a/b.git/info/refs?service=git-upload-pack",
                "a/b",
                "c/d",
                "/c/d.git/info/refs?service=git-upload-pack",
            ),
        ] {
            let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
            let found = location(path, query, &from.parse().unwrap(), &to.parse().unwrap());
            assert_eq!(found.as_deref(), Some(expected), "{uri}");
        }
        assert_eq!(location("/a/b", None, &"x/y".parse().unwrap(), &"c/d".parse().unwrap()), None);
    }
}
