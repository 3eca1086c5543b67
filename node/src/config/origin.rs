//! `[origin]`: where files come from that no node has.

use std::collections::HashSet;
use std::time::Duration;

use hubless_origin::{OriginConfig, OriginKind};
use serde::Deserialize;

use super::Unfit;

/// Most origins that may be named.
const MAX_ORIGINS: usize = 16;
/// Longest useful wait for an origin's answer: clients wait ten seconds.
const MAX_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Most parts of one file that may be asked of an origin at once.
const MAX_STREAMS: usize = 16;

/// `[origin]`. Without a config and without `--origin` there is none: a node asks no one whom nobody named.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OriginSection {
    /// Whether any of them is asked.
    pub(crate) enabled: bool,
    /// In the order in which they are asked.
    pub(crate) urls: Vec<OriginUrl>,
    /// Longest wait for one to say what a name means.
    #[serde(with = "humantime_serde")]
    pub(crate) answer_within: Duration,
    /// Parts of one file that are asked for at the same time.
    pub(crate) streams: usize,
    /// Whether what one of them deleted, hid or switched off is withheld here as well.
    pub(crate) honour_removal: bool,
}

impl Default for OriginSection {
    fn default() -> Self {
        Self {
            enabled: true,
            urls: Vec::new(),
            answer_within: Duration::from_secs(3),
            streams: 4,
            honour_removal: true,
        }
    }
}

impl OriginSection {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if self.urls.len() > MAX_ORIGINS {
            return Err(Unfit::new("origin.urls", format!("{} origins", self.urls.len())));
        }
        let names: HashSet<_> = self.urls.iter().map(|origin| origin.0.name()).collect();
        if names.len() < self.urls.len() {
            return Err(Unfit::new("origin.urls", "a list that names an origin twice"));
        }
        if self.answer_within.is_zero() || self.answer_within > MAX_ANSWER_WITHIN {
            return Err(Unfit::new("origin.answer_within", format!("{:?}", self.answer_within)));
        }
        if !(1..=MAX_STREAMS).contains(&self.streams) {
            return Err(Unfit::new("origin.streams", self.streams.to_string()));
        }
        Ok(())
    }

    /// What is asked: nothing if it is switched off.
    pub(crate) fn used(&self) -> &[OriginUrl] {
        if self.enabled { &self.urls } else { &[] }
    }
}

/// An origin: an address, or an address and what is spoken there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct OriginUrl(pub(crate) OriginConfig);

/// As it stands in the config.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Url(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    url: String,
    #[serde(default)]
    kind: OriginKind,
}

impl TryFrom<Written> for OriginUrl {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Url(url) => url.parse(),
            Written::Full(Full { url, kind }) => Self::new(&url, kind),
        }
    }
}

impl OriginUrl {
    fn new(url: &str, kind: OriginKind) -> Result<Self, String> {
        // The address itself is not repeated: somebody may have written a password into it.
        OriginConfig::new(url, kind).map(Self).map_err(|error| format!("`urls`: {error}"))
    }
}

/// `https://…` for a hub, `git+https://…` for git and LFS.
impl std::str::FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("git+") {
            Some(url) => Self::new(url, OriginKind::Git),
            None => Self::new(text, OriginKind::Hub),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<OriginKind> {
        let section: OriginSection = toml::from_str(text).unwrap();
        section.used().iter().map(|origin| origin.0.kind).collect()
    }

    #[test]
    fn an_origin_is_an_address_and_perhaps_a_kind() {
        let urls =
            r#"urls = ["https://a.test", { url = "https://b.test", kind = "git" }, "git+https://c.test"]"#;
        assert_eq!(kinds(urls), [OriginKind::Hub, OriginKind::Git, OriginKind::Git]);
        assert!(kinds(&format!("enabled = false\n{urls}")).is_empty());
        assert!(kinds("").is_empty(), "nobody is asked whom nobody named");
    }

    #[test]
    fn an_origin_is_named_once() {
        let section = |text: &str| toml::from_str::<OriginSection>(text).unwrap();
        assert!(section(r#"urls = ["https://a.test", "https://b.test"]"#).validate().is_ok());
        for twice in
            [r#"["https://a.test", "https://a.test/"]"#, r#"["https://a.test", "git+https://A.test:443"]"#]
        {
            let unfit = section(&format!("urls = {twice}")).validate().unwrap_err();
            assert_eq!(unfit.key, "origin.urls", "{twice}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = "https://me:hunter2@a.test".parse::<OriginUrl>().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
