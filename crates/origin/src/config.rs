//! What an origin is made of: its address, its kind, and how patient to be with it.

use std::sync::Arc;
use std::time::Duration;

use hubless_limits::Limits;
use url::Url;

use crate::{GitOrigin, HubOrigin, Origin, OriginError};

/// Which protocol an origin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// The Hub's: `huggingface.co`, whatever is compatible with it, another hubless node.
    #[default]
    Hub,
    /// Git and LFS over HTTP: Gitea, Forgejo, GitLab and their like.
    Git,
}

/// How long an origin may take, each counted from when something was last heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub head: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// For an answer that is no file, whole.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(15),
            stall: Duration::from_secs(10),
            answer: Duration::from_secs(120),
        }
    }
}

/// What an origin is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginConfig {
    /// Where it is: `http` or `https`, without user, password, query and fragment; it may have a path.
    pub url: Url,
    /// What it speaks.
    pub kind: OriginKind,
    /// How this node names itself.
    pub user_agent: String,
    /// How long it may take.
    pub patience: Patience,
    /// Redirects that are followed for one request.
    pub max_redirects: usize,
    /// How often one request is tried where it failed for a reason that may pass; 1 tries it once.
    pub attempts: u32,
    /// Bytes of the largest file that a hub gives by one plain request. Larger ones are asked for by ranges only, and
    /// through Xet where ranges are refused as well.
    pub plain_up_to: u64,
}

impl OriginConfig {
    /// Redirects that are followed unless the config says otherwise.
    pub const MAX_REDIRECTS: usize = 5;
    /// Attempts that are made unless the config says otherwise.
    pub const ATTEMPTS: u32 = 3;

    /// What the Hub's plain bridge gives whole, in bytes.
    pub const PLAIN_UP_TO: u64 = 50_000_000_000;

    /// An origin at `url`, with the patience of [`Patience::default`].
    ///
    /// # Errors
    /// [`OriginError::BadUrl`] if it is no address, or not one that [`OriginConfig::url`] may be.
    pub fn new(url: &str, kind: OriginKind) -> Result<Self, OriginError> {
        let bad = |why: &str| OriginError::BadUrl { why: why.to_owned() };
        let url = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad("it must begin with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("user and password do not belong into it; clients send their tokens"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must end with the host or a path"));
        }
        Ok(Self {
            url,
            kind,
            user_agent: concat!("hubless/", env!("CARGO_PKG_VERSION"), "; rust").to_owned(),
            patience: Patience::default(),
            max_redirects: Self::MAX_REDIRECTS,
            attempts: Self::ATTEMPTS,
            plain_up_to: Self::PLAIN_UP_TO,
        })
    }

    /// The address as statements and logs name it: without a slash at the end.
    pub fn name(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Makes the origin that `config` describes, without caps. Asks nothing of it yet.
///
/// # Errors
/// As [`build_within`].
pub fn build(config: &OriginConfig) -> Result<Arc<dyn Origin>, OriginError> {
    build_within(config, &Limits::default())
}

/// Makes the origin that `config` describes; what it sends is taken from the caps on what comes in and from origins.
/// Asks nothing of it yet.
///
/// # Errors
/// [`OriginError::Unusable`] if this machine cannot speak HTTP as asked (no TLS roots, a user agent that is no
/// header).
pub fn build_within(config: &OriginConfig, limits: &Limits) -> Result<Arc<dyn Origin>, OriginError> {
    Ok(match config.kind {
        OriginKind::Hub => Arc::new(HubOrigin::new(config, limits)?),
        OriginKind::Git => Arc::new(GitOrigin::new(config, limits)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_without_its_slash() {
        for (url, name) in [
            ("https://huggingface.co", "https://huggingface.co"),
            ("https://huggingface.co/", "https://huggingface.co"),
            ("http://127.0.0.1:8090/hub/", "http://127.0.0.1:8090/hub"),
            ("HTTPS://Huggingface.CO:443", "https://huggingface.co"),
        ] {
            assert_eq!(OriginConfig::new(url, OriginKind::Hub).unwrap().name(), name);
        }
    }

    #[test]
    fn what_is_no_address_of_an_origin_is_refused() {
        for bad in [
            "",
            "huggingface.co",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://u@h",
            "http://h?x",
            "http://h#x",
        ] {
            let error = OriginConfig::new(bad, OriginKind::Hub).unwrap_err();
            assert!(matches!(error, OriginError::BadUrl { .. }), "{bad}: {error}");
        }
        // What was given may hold a password.
        assert!(
            !OriginConfig::new("https://u:secret@h", OriginKind::Hub)
                .unwrap_err()
                .to_string()
                .contains("secret")
        );
    }
}
