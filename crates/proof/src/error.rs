//! Why bytes are not the proof that they should be.

use hubless_types::{BlobId, CommitId, FileDigest, ManifestError, NodeId, ParseError, TreeId};

/// Why something is not proven, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// SHA-1's collision detection found the marks of an attack in an object.
    #[error("a git {kind} was made to collide with another under SHA-1")]
    Collision {
        /// `commit`, `tree` or `blob`.
        kind: &'static str,
    },
    /// The commit object is another's.
    #[error("the commit object hashes to {found}, not to {expected}")]
    WrongCommit {
        /// What was asked for.
        expected: CommitId,
        /// What the bytes are.
        found: CommitId,
    },
    /// A tree that is named is not there; one that was changed hashes to another id and is missed here too.
    #[error("tree {id} is named, but is not in the bundle")]
    MissingTree {
        /// The tree.
        id: TreeId,
    },
    /// A blob that is named has neither content nor size.
    #[error("blob {id} is named, but the bundle has neither its content nor its size")]
    MissingBlob {
        /// The blob.
        id: BlobId,
    },
    /// Something that nothing names.
    #[error("the bundle carries {kind} {id}, which nothing in the commit names")]
    Unused {
        /// `tree` or `blob`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// Something that is there twice.
    #[error("the bundle carries {kind} {id} twice")]
    Twice {
        /// `tree` or `blob`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A blob so small that its content must be there, or content so large that only its size may be.
    #[error("blob {id} has {size} bytes: up to 1024 the bundle carries the content, above that the size")]
    WrongPlace {
        /// The blob.
        id: BlobId,
        /// Its size, or what is said to be it.
        size: u64,
    },
    /// One blob is said to have two sizes.
    #[error("blob {id} is given the sizes {first} and {second}")]
    TwoSizes {
        /// The blob.
        id: BlobId,
        /// The one.
        first: u64,
        /// The other.
        second: u64,
    },
    /// Bytes that are not what they are read as.
    #[error("not a {what}: {why}")]
    Malformed {
        /// What they were read as.
        what: &'static str,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A newer program wrote it.
    #[error("{what} of version {found}; this program reads version {supported}")]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u8,
        /// What this program reads.
        supported: u8,
    },
    /// Longer or more than is taken.
    #[error("{what}: {size} is over the limit of {limit}")]
    TooLarge {
        /// What is too large, and its unit.
        what: &'static str,
        /// How large it is, or at least is.
        size: u64,
        /// What is taken at most.
        limit: u64,
    },
    /// A file name that is not UTF-8.
    #[error("the file name `{name}` is not UTF-8")]
    NotUtf8 {
        /// The name, with what is not UTF-8 replaced.
        name: String,
    },
    /// A file name that could escape, or is too long.
    #[error(transparent)]
    Path(#[from] ParseError),
    /// Files that cannot lie beside each other.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Two entries of one folder have the same name.
    #[error("a folder has two entries named `{name}`")]
    SameName {
        /// The name, with what is not UTF-8 replaced.
        name: String,
    },
    /// A field of a commit that git would not write.
    #[error("the commit's {field} {why}")]
    BadCommit {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A symbolic link that is to be kept by LFS.
    #[error("`{path}` is a symbolic link; LFS keeps none")]
    LfsLink {
        /// Where it lies.
        path: String,
    },
    /// A link table that says two things of one file.
    #[error("two links are given for {digest}")]
    TwoLinks {
        /// The file.
        digest: FileDigest,
    },
    /// A statement that its signer did not sign.
    #[error("the statement's signature is not that of {signer}")]
    Signature {
        /// Who is said to have signed.
        signer: NodeId,
    },
}

impl ProofError {
    /// What a person can do: `hint:` on the CLI, `"hint"` in HTTP errors.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Collision { .. } => Some("treat the repository as hostile; nothing of it was taken"),
            Self::WrongCommit { .. }
            | Self::MissingTree { .. }
            | Self::MissingBlob { .. }
            | Self::Unused { .. }
            | Self::Twice { .. }
            | Self::Malformed { .. }
            | Self::Signature { .. } => Some("whoever sent it is broken or lies; ask another node"),
            Self::Version { .. } => Some("upgrade hubless on this node"),
            Self::TooLarge { .. } => Some("pack small files into archives, or split the repository"),
            Self::NotUtf8 { .. } | Self::Path(_) => Some("rename the file in the repository"),
            Self::Manifest(ManifestError::TooMany { .. }) => Some("pack small files into archives"),
            Self::Manifest(_) | Self::SameName { .. } => Some("rename one of the two"),
            Self::BadCommit { .. } => Some("give a name, mail and message without control characters or < >"),
            Self::LfsLink { .. } => Some("replace the link by the file itself"),
            Self::WrongPlace { .. } | Self::TwoSizes { .. } | Self::TwoLinks { .. } => None,
        }
    }
}
