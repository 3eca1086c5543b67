//! Addresses of the other doors to a repository: git, LFS, ollama, Xet.

use hubless_types::{CommitId, RepoId, RepoKind, Sha256};

use super::{Address, kind_of};

/// Before an address of the Xet door: its clients are given addresses that begin so.
pub(crate) const XET: &str = "xet";

/// What is asked of a repository through another door than the Hub's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// `/{id}[.git]/info/refs`
    GitRefs,
    /// `/{id}[.git]/git-upload-pack`
    GitUploadPack,
    /// `/{id}[.git]/git-receive-pack`
    GitReceivePack,
    /// `/{id}[.git]/info/lfs/objects/batch`
    LfsBatch,
    /// `/v2/{id}/manifests/{tag}`
    OllamaManifest(String),
    /// `/v2/{id}/blobs/{digest}`
    OllamaBlob(String),
    /// `/api/models/{id}/xet-read-token/{rev}`; what follows the verb, decoded, never empty.
    XetToken(Vec<String>),
    /// `/xet/models/{id}/{commit}/v2/reconstructions/{sha256}`, and with `v1`
    XetReconstruction(CommitId, XetVersion, Sha256),
    /// `/xet/models/{id}/{commit}/xorbs/{sha256}/{number}`
    XetXorb(CommitId, Sha256, u64),
}

/// In which form a reconstruction is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XetVersion {
    /// One entry a range.
    V1,
    /// One entry a xorb.
    V2,
}

impl Door {
    /// Whether it is asked with POST.
    pub(crate) const fn takes_post(&self) -> bool {
        matches!(self, Self::GitUploadPack | Self::GitReceivePack | Self::LfsBatch)
    }
}

/// Reads the decoded segments of an address of another door; `None` if it is none.
pub(super) fn parse(segments: &[&str]) -> Option<Address> {
    match segments {
        ["v2"] | ["v2", ""] => Some(Address::Registry),
        ["v2", name @ .., "manifests", tag] => {
            door(RepoKind::Model, name, Door::OllamaManifest((*tag).into()))
        }
        ["v2", name @ .., "blobs", digest] => door(RepoKind::Model, name, Door::OllamaBlob((*digest).into())),
        [XET, kind, rest @ ..] => parse_xet(kind_of(kind)?, rest),
        [name @ .., "info", "refs"] => git(name, Door::GitRefs),
        [name @ .., "git-upload-pack"] => git(name, Door::GitUploadPack),
        [name @ .., "git-receive-pack"] => git(name, Door::GitReceivePack),
        [name @ .., "info", "lfs", "objects", "batch"] => git(name, Door::LfsBatch),
        _ => None,
    }
}

/// `/api/{kind}s/{id}/xet-read-token/{rev}`, for what follows the kind.
pub(super) fn parse_token(kind: RepoKind, segments: &[&str]) -> Option<Address> {
    let verb = segments.iter().position(|segment| *segment == "xet-read-token")?;
    let (name, tail) = segments.split_at_checked(verb)?;
    let tail: Vec<String> = tail.iter().skip(1).map(|segment| (*segment).to_owned()).collect();
    if tail.is_empty() { None } else { door(kind, name, Door::XetToken(tail)) }
}

fn parse_xet(kind: RepoKind, segments: &[&str]) -> Option<Address> {
    match segments {
        [name @ .., commit, version, "reconstructions", hash] => {
            let version = match *version {
                "v1" => XetVersion::V1,
                "v2" => XetVersion::V2,
                _ => return None,
            };
            door(kind, name, Door::XetReconstruction(commit.parse().ok()?, version, hash.parse().ok()?))
        }
        [name @ .., commit, "xorbs", hash, number] => {
            door(kind, name, Door::XetXorb(commit.parse().ok()?, hash.parse().ok()?, number.parse().ok()?))
        }
        _ => None,
    }
}

fn git(segments: &[&str], what: Door) -> Option<Address> {
    let (kind, name) = match segments {
        [prefix, name @ ..] if !name.is_empty() => match kind_of(prefix) {
            Some(kind) => (kind, name),
            None => (RepoKind::Model, segments),
        },
        _ => (RepoKind::Model, segments),
    };
    let (last, first) = name.split_last()?;
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: Vec<&str> = first.iter().copied().chain([last]).collect();
    door(kind, &name, what)
}

fn door(kind: RepoKind, name: &[&str], what: Door) -> Option<Address> {
    if !matches!(name.len(), 1 | 2) {
        return None;
    }
    let name = name.join("/");
    Some(RepoId::new(kind, &name).map_or(Address::NoRepo(name), |repo| Address::Door(repo, what)))
}

#[cfg(test)]
mod tests {
    use super::super::{Call, parse};
    use super::*;
    use proptest::prelude::*;

    fn at(repo: &str, what: Door) -> Address {
        Address::Door(repo.parse().unwrap(), what)
    }

    #[test]
    fn git_addresses() {
        for (path, repo, what) in [
            ("/acme/tiny.git/info/refs", "acme/tiny", Door::GitRefs),
            ("/acme/tiny/info/refs", "acme/tiny", Door::GitRefs),
            ("/gpt2/git-upload-pack", "gpt2", Door::GitUploadPack),
            ("/datasets/acme/rows.git/git-upload-pack", "datasets/acme/rows", Door::GitUploadPack),
            ("/datasets/squad/git-upload-pack", "datasets/squad", Door::GitUploadPack),
            ("/models/acme/tiny/git-receive-pack", "acme/tiny", Door::GitReceivePack),
            ("/spaces/a/b.git/info/lfs/objects/batch", "spaces/a/b", Door::LfsBatch),
        ] {
            assert_eq!(parse(path), at(repo, what), "{path}");
        }
        assert_eq!(parse("/a--b/c.git/info/refs"), Address::NoRepo("a--b/c".into()));
        assert_eq!(parse("/a/b/c/info/refs"), Address::Unknown);
        assert_eq!(parse("/info/refs"), Address::Unknown);
    }

    #[test]
    fn registry_addresses() {
        assert_eq!((parse("/v2/"), parse("/v2")), (Address::Registry, Address::Registry));
        assert_eq!(
            parse("/v2/acme/tiny-GGUF/manifests/Q4_K_M"),
            at("acme/tiny-GGUF", Door::OllamaManifest("Q4_K_M".into()))
        );
        assert_eq!(
            parse("/v2/acme/tiny/blobs/sha256%3Aab"),
            at("acme/tiny", Door::OllamaBlob("sha256:ab".into()))
        );
        let file = Call::Resolve(vec!["main".into(), "manifests".into()]);
        assert_eq!(parse("/v2/x/resolve/main/manifests"), Address::Repo("v2/x".parse().unwrap(), file));
    }

    #[test]
    fn xet_addresses() {
        let (commit, hash) = ("ab".repeat(20), "cd".repeat(32));
        let (id, sha256) = (commit.parse().unwrap(), hash.parse().unwrap());
        assert_eq!(
            parse(&format!("/xet/models/acme/tiny/{commit}/v2/reconstructions/{hash}")),
            at("acme/tiny", Door::XetReconstruction(id, XetVersion::V2, sha256))
        );
        assert_eq!(
            parse(&format!("/xet/datasets/squad/{commit}/xorbs/{hash}/17")),
            at("datasets/squad", Door::XetXorb(id, sha256, 17))
        );
        assert_eq!(parse(&format!("/xet/models/a/b/{commit}/v3/reconstructions/{hash}")), Address::Unknown);
        assert_eq!(
            parse("/api/models/acme/tiny/xet-read-token/refs%2Fpr%2F1"),
            at("acme/tiny", Door::XetToken(vec!["refs/pr/1".into()]))
        );
        assert_eq!(
            parse("/api/datasets/squad/xet-read-token/main"),
            at("datasets/squad", Door::XetToken(vec!["main".into()]))
        );
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "(/(v2|xet|models|info|refs|lfs|objects|batch|git-upload-pack|xorbs|v1|manifests|[a-z.%]{0,6}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9]{0,22})){0,9}") {
            let _ = parse(&path);
        }
    }
}
