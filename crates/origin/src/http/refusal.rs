//! What a refusal means: by the Hub's own codes, else by status.

use reqwest::header::{ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap};

use super::text;
use crate::{MAX_SAID_CHARS, OriginErrorKind};

/// The Hub's words for a repository that was switched off.
const DISABLED: &str = "Access to this resource is disabled.";
/// How the Hub's words for a token that is none begin.
const BAD_TOKEN: [&str; 2] = ["Invalid credentials in Authorization header", "Invalid username or password"];

/// What an origin said when it refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    /// `X-Error-Code`.
    pub(super) code: Option<&'a str>,
    /// `X-Error-Message`, or the body.
    pub(super) said: &'a str,
    /// Whether a token was sent.
    pub(super) token: bool,
    /// Whether the origin itself said so, and not a host that it led to.
    pub(super) own: bool,
    /// Whether it is one that tells by a code why it refuses.
    pub(super) codes: bool,
}

impl Refusal<'_> {
    /// What follows from it; `missing` is what a bare 404 means for what was asked.
    pub(super) fn kind(&self, missing: OriginErrorKind) -> OriginErrorKind {
        use OriginErrorKind::{
            BadToken, Busy, Disabled, EntryNotFound, Gated, RepoNotFound, RevisionNotFound, Unavailable,
            Wrong,
        };
        match (self.status, self.code) {
            (429 | 408, _) => return Busy,
            (500.., _) => return Unavailable,
            (416, _) if !self.own => return Wrong,
            // A content network knows neither repositories nor who may read them: its 403 is an address that ran
            // out, its 404 a copy that is not there yet. Taken for the origin's own word, the one would close an
            // open repository, and clients would remember from the other that there is no such file.
            _ if !self.own => return Unavailable,
            (_, Some("RepoNotFound")) => return RepoNotFound,
            (_, Some("RevisionNotFound")) => return RevisionNotFound,
            (_, Some("EntryNotFound")) => return EntryNotFound,
            (_, Some("GatedRepo")) => return Gated,
            (_, Some("DisabledRepo")) => return Disabled,
            _ => {}
        }
        match self.status {
            401 if self.token && BAD_TOKEN.iter().any(|words| self.said.starts_with(words)) => BadToken,
            403 if self.said.contains(DISABLED) => Disabled,
            // A hub's word on a repository or a token comes with its code. Without one it is somebody on the way, or its
            // own trouble: taken for its word, it would close what is open for as long as the trouble lasts.
            401 | 403 if self.codes && self.code.is_none() => Unavailable,
            // Whoever sent no token learns nothing of what is hidden; a git host says 401 to a wrong token.
            401 if self.token && self.code.is_none() => BadToken,
            401 => RepoNotFound,
            // A web page comes from a firewall or a proxy on the way; those who speak of access say it in a line or in JSON.
            403 if self.said.starts_with('<') => Unavailable,
            403 => Gated,
            451 => Disabled,
            // What would close a repository comes with its code as well; that a file is not there, a page of it may say.
            404 | 410 if self.codes && self.code.is_none() && missing == RepoNotFound => Unavailable,
            404 | 410 => missing,
            416 => Wrong,
            _ => Unavailable,
        }
    }
}

/// Whether an answer is of a hub that tells by a code why it refuses.
pub(super) fn is_hubs(headers: &HeaderMap) -> bool {
    // What the Hub lets pages read names the code in every answer of its API; files name their commit.
    let exposes = text(headers, ACCESS_CONTROL_EXPOSE_HEADERS.as_str())
        .is_some_and(|names| names.split(',').any(|name| name.trim().eq_ignore_ascii_case("x-error-code")));
    exposes || headers.contains_key("x-error-code") || headers.contains_key("x-repo-commit")
}

/// An origin's own words: without control characters, in one line, cut.
pub(crate) fn words(text: &str) -> String {
    let clean = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    // Characters are counted after the words were joined; no word is copied beyond the bound.
    let mut out = String::new();
    for word in clean {
        if !out.is_empty() {
            out.push(' ');
        }
        let left = MAX_SAID_CHARS.saturating_sub(out.chars().count());
        out.extend(word.chars().take(left));
        if left <= word.chars().count() {
            break;
        }
    }
    out
}

/// What the body of a refusal says: the `error` or `message` of a JSON object, else the text.
pub(super) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        error: Option<String>,
        message: Option<String>,
    }
    let json = serde_json::from_slice::<Said>(body).ok().and_then(|said| said.error.or(said.message));
    words(&json.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use OriginErrorKind::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_mean_what_the_hub_means_by_them() {
        for (status, code, said, token, kind) in [
            (401, Some("RepoNotFound"), "Repository not found", false, RepoNotFound),
            (404, Some("RepoNotFound"), "Repository not found", true, RepoNotFound),
            (404, Some("RevisionNotFound"), "Invalid rev id", false, RevisionNotFound),
            (404, Some("EntryNotFound"), "Entry not found", false, EntryNotFound),
            (401, Some("GatedRepo"), "Access to model a/b is restricted.", false, Gated),
            (403, Some("GatedRepo"), "Access to model a/b is restricted.", true, Gated),
            (403, None, "Access to this resource is disabled.", false, Disabled),
            (403, None, "<html>forbidden</html>", false, Unavailable),
            (403, None, "you may not read this", false, Gated),
            (401, None, "Invalid credentials in Authorization header", true, BadToken),
            (401, None, "Unauthorized", true, BadToken),
            (401, None, "Unauthorized", false, RepoNotFound),
            (404, None, "", false, EntryNotFound),
            (429, Some("GatedRepo"), "", false, Busy),
            (503, Some("EntryNotFound"), "", false, Unavailable),
            (451, None, "", false, Disabled),
            (418, None, "", false, Unavailable),
        ] {
            let refusal = Refusal { status, code, said, token, own: true, codes: false };
            assert_eq!(refusal.kind(EntryNotFound), kind, "{refusal:?}");
        }
    }

    #[test]
    fn a_hub_that_gives_no_code_says_nothing_of_repositories() {
        for (status, code, said, token, kind) in [
            (401, None, "Unauthorized", false, Unavailable),
            (403, None, "Forbidden", false, Unavailable),
            (401, None, "Unauthorized", true, Unavailable),
            (401, Some("RepoNotFound"), "Invalid username or password.", false, RepoNotFound),
            (401, Some("GatedRepo"), "Access to model a/b is restricted.", false, Gated),
            (403, Some("GatedRepo"), "Access to model a/b is restricted.", true, Gated),
            (401, None, "Invalid credentials in Authorization header", true, BadToken),
            (403, None, "Access to this resource is disabled.", false, Disabled),
            (404, None, "", false, EntryNotFound),
        ] {
            let refusal = Refusal { status, code, said, token, own: true, codes: true };
            assert_eq!(refusal.kind(EntryNotFound), kind, "{refusal:?}");
        }
        for (code, codes, kind) in [
            (None, true, Unavailable),
            (None, false, RepoNotFound),
            (Some("RepoNotFound"), true, RepoNotFound),
        ] {
            for status in [404, 410] {
                let refusal = Refusal { status, code, own: true, codes, ..Refusal::default() };
                assert_eq!(refusal.kind(RepoNotFound), kind, "{refusal:?}");
            }
        }
    }

    #[test]
    fn a_hub_is_known_by_its_headers() {
        for (name, value, hub) in [
            ("access-control-expose-headers", "X-Repo-Commit,X-Request-Id, x-error-code", true),
            ("access-control-expose-headers", "X-Request-Id", false),
            ("x-error-code", "EntryNotFound", true),
            ("x-repo-commit", "0", true),
            ("x-request-id", "0", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(is_hubs(&headers), hub, "{name}: {value}");
        }
    }

    #[test]
    fn another_host_says_nothing_of_repositories_and_readers() {
        for (status, code, kind) in [
            (403, None, Unavailable),
            (401, Some("GatedRepo"), Unavailable),
            (404, Some("RepoNotFound"), Unavailable),
            (416, None, Wrong),
            (429, None, Busy),
        ] {
            let refusal = Refusal { status, code, own: false, ..Refusal::default() };
            assert_eq!(refusal.kind(EntryNotFound), kind, "{refusal:?}");
        }
    }

    #[test]
    fn words_are_cut_and_cleaned() {
        assert_eq!(said(br#"{"error":"not\nfound\u001b[31m","x":1}"#), "not found [31m");
        assert_eq!(said(br#"{"message":"not here"}"#), "not here");
        assert_eq!(said(b"<b>\xff oh\r\n no"), "<b>\u{fffd} oh no");
        assert_eq!(words(&"x".repeat(5000)).len(), MAX_SAID_CHARS);
        assert!(words(&"x ".repeat(5000)).chars().count() <= MAX_SAID_CHARS);
    }

    proptest! {
        #[test]
        fn no_words_are_long_or_control(text in "[ -~\\u{0}-\\u{20}é]{0,700}", bytes: Vec<u8>) {
            for words in [words(&text), said(&bytes)] {
                prop_assert!(words.chars().count() <= MAX_SAID_CHARS && !words.chars().any(char::is_control));
            }
        }
    }
}
