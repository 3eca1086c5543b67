//! Repositories and revisions, as Hub clients spell them.

use std::fmt;
use std::str::FromStr;

use crate::{CommitId, ParseError, serde_as_text};

/// What a repository holds; decides its prefix in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    /// A model; its addresses have no prefix.
    Model,
    /// A dataset: `datasets/…`.
    Dataset,
    /// A space: `spaces/…`.
    Space,
}

impl RepoKind {
    /// Every kind, in the order they are listed.
    pub const ALL: [Self; 3] = [Self::Model, Self::Dataset, Self::Space];

    /// The first segment of an API address: `models`, `datasets` or `spaces`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// What stands before the name in a file's address: nothing, `datasets/` or `spaces/`.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }
}

/// Longest repository name, counted over `owner/name`, in characters (the Hub's own limit).
const MAX_NAME_CHARS: usize = 96;

/// A repository: its kind and `owner/name` (or a bare `name`, as the oldest models have).
///
/// Prints and parses with its prefix: `owner/name`, `datasets/owner/name`, `spaces/owner/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId {
    kind: RepoKind,
    name: String,
}

impl RepoId {
    /// Takes `owner/name` or `name` of the given kind.
    ///
    /// # Errors
    /// [`ParseError`] if a part is empty, longer than 96 characters together, has a character other than
    /// letters, digits, `-`, `_` and `.`, begins or ends with `-` or `.`, holds `--` or `..`, or ends in `.git`.
    pub fn new(kind: RepoKind, name: &str) -> Result<Self, ParseError> {
        check_name(name).map_err(|why| ParseError::new("repo id", name, why))?;
        Ok(Self { kind, name: name.to_owned() })
    }

    /// What it holds.
    pub const fn kind(&self) -> RepoKind {
        self.kind
    }

    /// `owner/name`, without the kind's prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner`, if the name has one.
    pub fn owner(&self) -> Option<&str> {
        self.name.split_once('/').map(|(owner, _)| owner)
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(format!("it is longer than {MAX_NAME_CHARS} characters"));
    }
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return Err("it must be `owner/name`".into());
    }
    parts.iter().try_for_each(|part| check_name_part(part))
}

fn check_name_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("it must be `owner/name`".into());
    }
    if let Some(c) = part.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(format!("`{}` cannot stand in a name", c.escape_debug()));
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
        return Err("a part cannot begin or end with `-` or `.`".into());
    }
    if part.contains("--") || part.contains("..") {
        return Err("`--` and `..` cannot stand in a name".into());
    }
    if part.to_ascii_lowercase().ends_with(".git") {
        return Err("a part cannot end in `.git`".into());
    }
    Ok(())
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.name)
    }
}

impl FromStr for RepoId {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let (kind, name) = match s.split_once('/') {
            Some(("datasets", rest)) if rest.contains('/') => (RepoKind::Dataset, rest),
            Some(("spaces", rest)) if rest.contains('/') => (RepoKind::Space, rest),
            Some(("models", rest)) if rest.contains('/') => (RepoKind::Model, rest),
            // A dataset may have a bare name (`datasets/squad`); no owner may be called `datasets`.
            Some(("datasets", rest)) => (RepoKind::Dataset, rest),
            Some(("spaces", rest)) => (RepoKind::Space, rest),
            _ => (RepoKind::Model, s),
        };
        check_name(name).map_err(|why| ParseError::new("repo id", s, why))?;
        Ok(Self { kind, name: name.to_owned() })
    }
}

serde_as_text!(RepoId);

/// Longest revision, in bytes.
const MAX_REVISION_BYTES: usize = 255;

/// A name that moves (branch, tag, `refs/pr/1`) or a commit id written out.
///
/// Follows `git check-ref-format`, so that it can be handed to git as it is. One ref has one name:
/// [`Revision::plain_name`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

impl Revision {
    /// The branch that is meant when none is named.
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    /// As it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one name of a ref, however it is written: `HEAD` is `main`, and branches and tags have no prefix.
    pub fn plain_name(name: &str) -> &str {
        match name {
            "HEAD" => "main",
            _ => name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name),
        }
    }

    /// The commit, if this is 40 hexadecimal digits: such a revision needs nobody's word.
    pub fn as_commit(&self) -> Option<CommitId> {
        self.0.parse().ok()
    }
}

impl From<CommitId> for Revision {
    fn from(commit: CommitId) -> Self {
        Self(commit.to_string())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Revision {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let plain = Self::plain_name(s);
        check_revision(plain).map_err(|why| ParseError::new("revision", s, why))?;
        Ok(Self(plain.to_owned()))
    }
}

fn check_revision(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.len() > MAX_REVISION_BYTES {
        return Err("it must have 1 to 255 bytes");
    }
    if s.chars().any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')) {
        return Err("spaces, control characters and ~ ^ : ? * [ \\ cannot stand in a git ref");
    }
    if s.contains("..") || s.contains("@{") || s.contains("//") || s == "@" {
        return Err("`..`, `@{`, `//` and a lone `@` cannot stand in a git ref");
    }
    if s.starts_with(['/', '-']) || s.ends_with(['/', '.']) {
        return Err("it cannot begin with `/` or `-`, nor end with `/` or `.`");
    }
    if s.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) {
        return Err("no part of it can begin with `.` or end with `.lock`");
    }
    Ok(())
}

serde_as_text!(Revision);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_have_one_name() {
        let names = ["HEAD", "refs/heads/a/b", "refs/tags/v1", "refs/pr/1"];
        assert_eq!(names.map(Revision::plain_name), ["main", "a/b", "v1", "refs/pr/1"]);
        assert_eq!(
            names.map(|name| name.parse::<Revision>().unwrap().to_string()),
            ["main", "a/b", "v1", "refs/pr/1"]
        );
        assert!("refs/heads/".parse::<Revision>().is_err(), "a prefix is no name");
    }
    use proptest::prelude::*;

    #[test]
    fn repo_ids_carry_their_kind() {
        for (text, kind, name) in [
            ("acme/tiny", RepoKind::Model, "acme/tiny"),
            ("gpt2", RepoKind::Model, "gpt2"),
            ("datasets/acme/rows", RepoKind::Dataset, "acme/rows"),
            ("datasets/squad", RepoKind::Dataset, "squad"),
            ("spaces/acme/app", RepoKind::Space, "acme/app"),
        ] {
            let repo: RepoId = text.parse().unwrap();
            assert_eq!((repo.kind(), repo.name()), (kind, name));
            assert_eq!(repo.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_repo_id_is_named() {
        for bad in
            ["", "/", "a/", "a/b/c", "a b/c", "../etc", "a/..", "-a/b", "a/b.git", "a--b/c", "ä/b", "a/b\n"]
        {
            let error = bad.parse::<RepoId>().unwrap_err();
            assert_eq!(error.what, "repo id", "{bad}");
        }
        assert!("x".repeat(97).parse::<RepoId>().is_err());
    }

    #[test]
    fn revisions_follow_git() {
        for good in ["main", "refs/pr/1", "feature/slash", "v1.0", "a@b"] {
            assert_eq!(good.parse::<Revision>().unwrap().as_str(), good);
        }
        for bad in ["", "a..b", "a b", "/a", "a/", "-x", "a.lock", ".a", "x/.y", "a\u{7f}", "@"] {
            assert!(bad.parse::<Revision>().is_err(), "{bad}");
        }
        let commit = "0123456789012345678901234567890123456789";
        assert_eq!(commit.parse::<Revision>().unwrap().as_commit().unwrap().to_string(), commit);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,120}") {
            if let Ok(repo) = text.parse::<RepoId>() {
                prop_assert_eq!(repo.to_string().parse::<RepoId>(), Ok(repo));
            }
            if let Ok(revision) = text.parse::<Revision>() {
                prop_assert_eq!(revision.as_str(), text);
            }
        }
    }
}
