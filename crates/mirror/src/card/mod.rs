//! What a repository says of itself: the front matter of its `README.md`, and the names of its files.
//!
//! **Invariant:** whatever stands in a card, reading it takes bounded memory and ends; what cannot be read says nothing.

mod yaml;

use std::collections::BTreeSet;

use hubless_store::CARD_MAX_BYTES;
use hubless_types::{ByteRange, Manifest, RepoFacts, RepoId, RepoKind};
use serde_json::{Map, Value};

use crate::MirrorError;
use crate::mirror::Inner;

/// The card's file.
const CARD_FILE: &str = "README.md";
/// How much of it is read, in bytes: the front matter stands at its beginning.
const CARD_READ_BYTES: u64 = 64 * 1024;

/// A card's fields that are lists of tags, and what each becomes.
const LISTS: [(&str, &str); 8] = [
    ("tags", ""),
    ("license", "license:"),
    ("datasets", "dataset:"),
    ("base_model", "base_model:"),
    ("task_categories", "task_categories:"),
    ("task_ids", "task_ids:"),
    ("size_categories", "size_categories:"),
    ("annotations_creators", "annotations_creators:"),
];
/// Files by which a library or a format is known: the end of the name, and the tag.
const FORMATS: [(&str, &str); 8] = [
    (".safetensors", "safetensors"),
    (".gguf", "gguf"),
    (".onnx", "onnx"),
    ("pytorch_model.bin", "pytorch"),
    ("tf_model.h5", "tf"),
    ("flax_model.msgpack", "jax"),
    ("adapter_config.json", "peft"),
    (".parquet", "format:parquet"),
];

impl Inner {
    /// Stores what a repository that was published here says of itself; what an origin counted stays.
    pub(crate) fn learn_facts(&self, repo: &RepoId, manifest: &Manifest) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let before = catalogue.facts(repo)?;
        let said = self.facts_of_files(repo, manifest);
        let facts = match before {
            Some(before) => RepoFacts {
                access: before.access,
                downloads: before.downloads,
                likes: before.likes,
                created: before.created,
                ..said
            },
            None => said,
        };
        Ok(catalogue.put_facts(repo, &facts)?)
    }

    /// What the files of a commit say of their repository, as far as they are here. Blocks a little.
    pub(crate) fn facts_of_files(&self, repo: &RepoId, manifest: &Manifest) -> RepoFacts {
        let text = self.card_text(repo, manifest).unwrap_or_else(|error| {
            tracing::debug!(%repo, %error, "a card cannot be read");
            None
        });
        let card = text.as_deref().and_then(front_matter).and_then(yaml::read).unwrap_or_default();
        let paths = manifest.entries().iter().map(|entry| entry.path.as_str());
        let time = manifest.info().time;
        RepoFacts { created: time, modified: time, ..said(repo.kind(), &card, paths) }
    }

    fn card_text(&self, repo: &RepoId, manifest: &Manifest) -> Result<Option<String>, MirrorError> {
        let entry = CARD_FILE.parse().ok().and_then(|path| manifest.entry(&path));
        let Some(entry) = entry.filter(|entry| entry.size > 0) else { return Ok(None) };
        self.import_bundled(repo, manifest.commit(), &[entry])?;
        let Some(link) = self.held(&entry.digest())? else { return Ok(None) };
        if !self.may_show(repo, &link.hash)? {
            return Ok(None);
        }
        let Some(file) = self.store.blobs().open(&link.hash)? else { return Ok(None) };
        let bytes = file.read(ByteRange::new(0, entry.size.min(CARD_READ_BYTES)))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// What stands between the two lines of dashes at a text's beginning.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rest = text.strip_prefix("---").filter(|rest| rest.starts_with(['\n', '\r']))?;
    let end = rest
        .match_indices("\n---")
        .find(|(at, _)| matches!(rest.as_bytes().get(at + 4), None | Some(b'\n' | b'\r')))?;
    rest.get(..end.0)
}

/// What a card and the names of files say.
fn said<'a>(kind: RepoKind, card: &Map<String, Value>, paths: impl Iterator<Item = &'a str>) -> RepoFacts {
    let text = |key: &str| card.get(key).and_then(Value::as_str).map(str::to_owned);
    let (library_name, pipeline_tag) = (text("library_name"), text("pipeline_tag"));
    let mut tags: Vec<String> = library_name.iter().chain(&pipeline_tag).cloned().collect();
    for (key, prefix) in LISTS {
        tags.extend(strings(card.get(key)).map(|value| format!("{prefix}{value}")));
    }
    let language = if kind == RepoKind::Dataset { "language:" } else { "" };
    tags.extend(strings(card.get("language")).map(|value| format!("{language}{value}")));
    let names: BTreeSet<&str> = paths
        .flat_map(|path| FORMATS.iter().filter(|(end, _)| path.ends_with(end)).map(|(_, tag)| *tag))
        .filter(|tag| (kind == RepoKind::Dataset) == tag.starts_with("format:"))
        .collect();
    tags.extend(names.into_iter().map(str::to_owned));
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    let card = (!card.is_empty()).then(|| Value::Object(card.clone()).to_string());
    let card = card.filter(|card| card.len() <= CARD_MAX_BYTES);
    RepoFacts { tags, pipeline_tag, library_name, card, ..RepoFacts::default() }
}

/// A text, or a list of texts.
fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    list.iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Map<String, Value> {
        front_matter(text).and_then(yaml::read).unwrap_or_default()
    }

    #[test]
    fn a_card_becomes_tags() {
        let text = "---\nlicense: apache-2.0\nlanguage:\n- en\n- no\nlibrary_name: transformers\n\
                    pipeline_tag: text-generation\ntags: [chat, \"chat\", 7b]\ndatasets:\n  - acme/rows\n\
                    base_model: acme/base\nmodel-index:\n- name: x\n  results: []\n---\n# Title\n---\n";
        let facts = said(
            RepoKind::Model,
            &read(text),
            ["model-00001.safetensors", "model-00002.safetensors", "x/y.gguf", "data.parquet"].into_iter(),
        );
        assert_eq!(
            facts.tags,
            [
                "transformers",
                "text-generation",
                "chat",
                "7b",
                "license:apache-2.0",
                "dataset:acme/rows",
                "base_model:acme/base",
                "en",
                "no",
                "gguf",
                "safetensors"
            ]
        );
        assert_eq!(facts.library_name.as_deref(), Some("transformers"));
        assert_eq!(facts.pipeline_tag.as_deref(), Some("text-generation"));
        let card: Value = serde_json::from_str(facts.card.as_deref().unwrap()).unwrap();
        assert_eq!(card["model-index"][0]["results"], Value::Array(vec![]));
    }

    #[test]
    fn a_dataset_names_its_languages_and_formats() {
        let text = "---\r\nlanguage: en\r\nsize_categories:\r\n- n<1K\r\n---\r\n";
        let facts = said(RepoKind::Dataset, &read(text), ["data/train.parquet"].into_iter());
        assert_eq!(facts.tags, ["size_categories:n<1K", "language:en", "format:parquet"]);
    }

    #[test]
    fn a_text_without_front_matter_says_nothing() {
        for text in [
            "",
            "# Title\n---\nlicense: mit\n---\n",
            "---\nlicense: mit\n",
            "----\na: b\n---\n",
            "---\n- a\n---\n",
        ] {
            assert!(read(text).is_empty(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_card_makes_it_panic(text in "---\n([a-z&*!|>?:{}\\[\\]\"'#%@,. \t\n-]{0,80})\n---\n") {
            read(&text);
        }
    }
}
