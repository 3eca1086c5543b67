//! What a repository's own page and a line of a listing have in common.

use hubless_types::{Access, CommitId, RepoFacts, RepoId, RepoKind, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::query::Query;
use crate::routes::date;

/// What is known of a repository. Counts are a hub's; where no hub told any they are 0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary<'a> {
    #[serde(rename = "_id")]
    object_id: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha: Option<CommitId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    private: bool,
    gated: Value,
    disabled: bool,
    downloads: u64,
    likes: u64,
    tags: &'a [String],
    #[serde(rename = "pipeline_tag", skip_serializing_if = "Option::is_none")]
    pipeline_tag: Option<&'a str>,
    #[serde(rename = "library_name", skip_serializing_if = "Option::is_none")]
    library_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk: Option<String>,
}

impl<'a> Summary<'a> {
    /// What is said of `repo`; `time` is that of its commit, where nobody said when it was made or changed. Where
    /// that is not known either, nothing is said of times: 1970 would be a lie.
    pub(crate) fn new(
        repo: &'a RepoId,
        facts: &'a RepoFacts,
        commit: Option<CommitId>,
        time: Option<Timestamp>,
        with_card: bool,
    ) -> Self {
        let is_space = repo.kind() == RepoKind::Space;
        let card = (with_card || is_space).then(|| card(facts)).flatten();
        let sdk = card.as_ref().filter(|_| is_space).and_then(|card| card["sdk"].as_str());
        let or_time = |said: Timestamp| Some(said).filter(|said| said.0 > 0).or(time).map(date);
        Self {
            object_id: object_id(repo),
            id: repo.name(),
            model_id: (repo.kind() == RepoKind::Model).then_some(repo.name()),
            author: repo.owner(),
            sha: commit,
            last_modified: or_time(facts.modified),
            created_at: or_time(facts.created),
            private: facts.access == Access::Private,
            gated: match facts.access {
                Access::GatedAuto => "auto".into(),
                Access::GatedManual => "manual".into(),
                Access::Open | Access::Private => false.into(),
            },
            disabled: false,
            downloads: facts.downloads,
            likes: facts.likes,
            tags: &facts.tags,
            pipeline_tag: facts.pipeline_tag.as_deref(),
            library_name: facts.library_name.as_deref(),
            sdk: sdk.map(str::to_owned),
            card_data: card.filter(|_| with_card),
        }
    }
}

/// The card, if it is a map.
fn card(facts: &RepoFacts) -> Option<Value> {
    let card = serde_json::from_str(facts.card.as_deref()?).ok();
    card.filter(Value::is_object)
}

/// Which fields are asked for by name; the ids come along in any case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expand(Vec<String>);

impl Expand {
    /// Reads `expand`, `expand[]`, once or more.
    pub(crate) fn of(query: &Query) -> Self {
        Self(query.all("expand").filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Whether any field is asked for by name: then only those are sent.
    pub(crate) fn is_used(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether `name` is asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| wanted == name)
    }

    /// Takes away what is not asked for, and adds what only a hub counts.
    pub(crate) fn cut(&self, value: &mut Value) {
        let Value::Object(fields) = value else { return };
        fields.retain(|name, _| matches!(name.as_str(), "_id" | "id" | "modelId") || self.has(name));
        for counted in ["trendingScore", "downloadsAllTime"] {
            if self.has(counted) {
                fields.insert(counted.to_owned(), 0.into());
            }
        }
    }
}

/// 24 hexadecimal digits that stay the same for a repository, as the Hub's own database ids do (FNV-1a).
fn object_id(repo: &RepoId) -> String {
    let text = repo.to_string();
    let fnv = |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:016x}{:08x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x6c62_272e_07bb_0142) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_id_looks_like_the_hubs() {
        let id = object_id(&"acme/tiny".parse().unwrap());
        assert_eq!(id.len(), 24);
        assert_ne!(id, object_id(&"datasets/acme/tiny".parse().unwrap()));
    }

    #[test]
    fn facts_are_written_as_the_hub_writes_them() {
        let repo: RepoId = "acme/tiny".parse().unwrap();
        let facts = RepoFacts {
            access: Access::GatedManual,
            tags: vec!["license:mit".into()],
            pipeline_tag: Some("text-generation".into()),
            card: Some(r#"{"license":"mit"}"#.into()),
            downloads: 7,
            modified: Timestamp(1_700_000_000),
            ..RepoFacts::default()
        };
        let value =
            serde_json::to_value(Summary::new(&repo, &facts, None, Some(Timestamp(1)), true)).unwrap();
        assert_eq!((&value["gated"], &value["private"]), (&"manual".into(), &false.into()));
        assert_eq!(value["lastModified"], "2023-11-14T22:13:20.000Z");
        assert_eq!(value["createdAt"], "1970-01-01T00:00:01.000Z");
        assert_eq!((&value["cardData"]["license"], &value["downloads"]), (&"mit".into(), &7.into()));
        assert_eq!((&value["pipeline_tag"], value.get("sha")), (&"text-generation".into(), None));
        let untold = serde_json::to_value(Summary::new(&repo, &facts, None, None, false)).unwrap();
        assert_eq!((untold.get("createdAt"), &untold["lastModified"]), (None, &value["lastModified"]));
        let mut cut = value;
        Expand(vec!["tags".into(), "trendingScore".into()]).cut(&mut cut);
        let names: Vec<_> = cut.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["_id", "id", "modelId", "tags", "trendingScore"]);
    }
}
