//! What the Hub's JSON says of a repository and its refs, read with tolerance: a field that is not what it should
//! be is as good as absent, and what is kept is bounded.

use hubless_types::{Access, CommitId, RepoFacts, RepoId, RepoKind, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Seen, SeenRef};

/// Most labels that are kept.
const MAX_TAGS: usize = 2000;
/// Longest label or name that is kept, in bytes.
const MAX_WORD_BYTES: usize = 512;
/// Longest card that is kept, in bytes of JSON.
const MAX_CARD_BYTES: usize = 512 * 1024;

/// The answer to `/revision/{rev}`, as far as it is of interest; the list of files is passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(default, deserialize_with = "tolerant")]
    id: Option<String>,
    #[serde(default, deserialize_with = "tolerant")]
    sha: Option<CommitId>,
    #[serde(default, deserialize_with = "tolerant")]
    private: Option<bool>,
    #[serde(default)]
    gated: Value,
    #[serde(default, deserialize_with = "tolerant")]
    tags: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "tolerant")]
    pipeline_tag: Option<String>,
    #[serde(default, deserialize_with = "tolerant")]
    library_name: Option<String>,
    #[serde(default, rename = "cardData")]
    card: Value,
    #[serde(default, deserialize_with = "tolerant")]
    downloads: Option<u64>,
    #[serde(default, deserialize_with = "tolerant")]
    likes: Option<u64>,
    #[serde(default, rename = "createdAt", deserialize_with = "tolerant")]
    created: Option<String>,
    #[serde(default, rename = "lastModified", deserialize_with = "tolerant")]
    modified: Option<String>,
}

/// Fields that are asked for; the whole answer lists every file. What a kind of repository does not have is an
/// error to ask for.
pub(super) const fn fields(kind: RepoKind) -> &'static [&'static str] {
    match kind {
        RepoKind::Model => &[
            "sha",
            "private",
            "gated",
            "tags",
            "pipeline_tag",
            "library_name",
            "cardData",
            "downloads",
            "likes",
            "createdAt",
            "lastModified",
        ],
        RepoKind::Dataset => &[
            "sha",
            "private",
            "gated",
            "tags",
            "cardData",
            "downloads",
            "likes",
            "createdAt",
            "lastModified",
        ],
        RepoKind::Space => &["sha", "private", "tags", "cardData", "likes", "createdAt", "lastModified"],
    }
}

impl Info {
    /// Whether it names a commit and says who may read: without that, nobody may take it for open.
    pub(super) const fn is_enough(&self) -> bool {
        self.sha.is_some() && self.private.is_some()
    }

    /// What was seen of `asked`; `None` if it names no commit.
    pub(super) fn seen(self, asked: &RepoId) -> Option<Seen> {
        let commit = self.sha?;
        let named = self.id.as_deref().and_then(|id| RepoId::new(asked.kind(), id).ok());
        let access = access(self.private == Some(true), &self.gated);
        let tags = self.tags.unwrap_or_default().into_iter().filter_map(|tag| match tag {
            Value::String(tag) => short(Some(tag)),
            _ => None,
        });
        let card = self.card.is_object().then(|| self.card.to_string());
        let facts = RepoFacts {
            access,
            tags: tags.take(MAX_TAGS).collect(),
            pipeline_tag: short(self.pipeline_tag),
            library_name: short(self.library_name),
            card: card.filter(|card| card.len() <= MAX_CARD_BYTES),
            downloads: self.downloads.unwrap_or_default(),
            likes: self.likes.unwrap_or_default(),
            created: seconds(self.created),
            modified: seconds(self.modified),
        };
        Some(Seen { repo: named.unwrap_or_else(|| asked.clone()), commit, facts })
    }
}

/// Private beats gated; a gate of an unknown kind is one that the owner opens.
fn access(private: bool, gated: &Value) -> Access {
    match gated {
        _ if private => Access::Private,
        Value::Null | Value::Bool(false) => Access::Open,
        Value::String(word) if word == "auto" => Access::GatedAuto,
        _ => Access::GatedManual,
    }
}

fn short(text: Option<String>) -> Option<String> {
    text.filter(|text| (1..=MAX_WORD_BYTES).contains(&text.len()) && !text.chars().any(char::is_control))
}

fn seconds(time: Option<String>) -> Timestamp {
    let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Timestamp(time.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or_default())
}

fn tolerant<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// The answer to `/refs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Refs {
    branches: Vec<Ref>,
    tags: Vec<Ref>,
    converts: Vec<Ref>,
    pull_requests: Vec<Ref>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ref {
    #[serde(rename = "ref")]
    full: String,
    target_commit: String,
}

impl Refs {
    /// Every ref that names a commit.
    pub(super) fn seen(self) -> Vec<SeenRef> {
        let all = [self.branches, self.tags, self.converts, self.pull_requests];
        let seen = all.into_iter().flatten().filter_map(|found| {
            let name = short(Some(found.full)).filter(|name| name.starts_with("refs/"))?;
            Some(SeenRef { name, commit: found.target_commit.parse().ok()? })
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";

    fn seen(json: &str) -> Option<Seen> {
        serde_json::from_str::<Info>(json).unwrap().seen(&"Org/Old".parse().unwrap())
    }

    #[test]
    fn facts_are_read_as_the_hub_writes_them() {
        let json = format!(
            r#"{{"_id":"1","id":"org/new","sha":"{SHA}","private":false,"gated":"auto","tags":["license:mit",7,"a\nb"],
            "pipeline_tag":"text-generation","library_name":"transformers","cardData":{{"license":"mit"}},"downloads":12,
            "likes":3,"createdAt":"2022-03-02T23:29:04.000Z","lastModified":"2024-02-19T10:57:45.000Z","siblings":[{{"rfilename":"x"}}]}}"#
        );
        let seen = seen(&json).unwrap();
        assert_eq!((seen.repo.to_string().as_str(), seen.commit.to_string().as_str()), ("org/new", SHA));
        let facts = seen.facts;
        assert_eq!((facts.access, facts.tags), (Access::GatedAuto, vec!["license:mit".to_owned()]));
        assert_eq!((facts.created, facts.modified), (Timestamp(1_646_263_744), Timestamp(1_708_340_265)));
        assert_eq!(
            (facts.downloads, facts.likes, facts.card.as_deref()),
            (12, 3, Some(r#"{"license":"mit"}"#))
        );
        assert_eq!(facts.pipeline_tag.as_deref(), Some("text-generation"));
    }

    #[test]
    fn fields_that_are_odd_are_as_good_as_absent() {
        let odd = format!(
            r#"{{"id":"../etc","sha":"{SHA}","private":"no","gated":null,"tags":"x","cardData":"x","downloads":-1,
            "likes":1.5,"createdAt":"yesterday","lastModified":7,"pipeline_tag":[],"library_name":null}}"#
        );
        let seen = seen(&odd).unwrap();
        assert_eq!((seen.repo.to_string().as_str(), seen.facts), ("Org/Old", RepoFacts::default()));
        for none in ["{}", r#"{"sha":null}"#, r#"{"sha":"main"}"#] {
            assert_eq!(super::tests::seen(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_not_open_is_never_read_as_open() {
        let read = |json: &str| seen(&format!(r#"{{"sha":"{SHA}",{json}}}"#)).unwrap().facts.access;
        assert_eq!(read(r#""gated":false"#), Access::Open);
        assert_eq!(read(r#""gated":"manual""#), Access::GatedManual);
        assert_eq!(read(r#""gated":true"#), Access::GatedManual);
        assert_eq!(read(r#""gated":"sometimes""#), Access::GatedManual);
        assert_eq!(read(r#""gated":{}"#), Access::GatedManual);
        assert_eq!(read(r#""gated":"auto","private":true"#), Access::Private);
    }

    #[test]
    fn refs_are_known_by_their_full_names() {
        let json = format!(
            r#"{{"branches":[{{"name":"main","ref":"refs/heads/main","targetCommit":"{SHA}"}}],"converts":[],
            "tags":[{{"name":"x","ref":"refs/tags/x","targetCommit":"?"}},{{"name":"y","ref":"tags/y","targetCommit":"{SHA}"}}],
            "pullRequests":[{{"name":"refs/pr/1","ref":"refs/pr/1","targetCommit":"{SHA}"}}]}}"#
        );
        let refs = serde_json::from_str::<Refs>(&json).unwrap().seen();
        assert_eq!(
            refs.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
            ["refs/heads/main", "refs/pr/1"]
        );
    }

    proptest! {
        #[test]
        fn no_json_panics(text in r#"\{("(id|sha|gated|tags|cardData|createdAt)":("[a-f0-9]{0,40}"|[0-9]{1,22}|null|\[\]|\{\}),?){0,5}\}"#) {
            if let Ok(info) = serde_json::from_str::<Info>(&text) {
                let _ = info.seen(&"a/b".parse().unwrap());
            }
        }
    }
}
