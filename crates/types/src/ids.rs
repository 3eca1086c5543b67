//! Digests: what git, LFS and BLAKE3 call a thing. Each is its own type, so that none passes for another.

use std::fmt;
use std::str::FromStr;

use crate::{ParseError, serde_as_text};

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length of the digest in bytes.
            pub const LEN: usize = $len;

            /// Takes the raw digest.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw digest.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Takes a raw digest from a slice; `None` if its length is not [`Self::LEN`].
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(s: &str) -> Result<Self, ParseError> {
                let mut bytes = [0; $len];
                let fits = s.len() == 2 * $len && !s.bytes().any(|b| b.is_ascii_uppercase());
                if fits && hex::decode_to_slice(s, &mut bytes).is_ok() {
                    return Ok(Self(bytes));
                }
                Err(ParseError::new($what, s, concat!("it must be ", $len, " bytes in lower-case hexadecimal")))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    return String::deserialize(d)?.parse().map_err(serde::de::Error::custom);
                }
                let bytes = <&[u8]>::deserialize(d)?;
                Self::from_slice(bytes).ok_or_else(|| serde::de::Error::invalid_length(bytes.len(), &$what))
            }
        }
    };
}

digest_type!(
    /// The SHA-1 name of a git commit. It never moves.
    CommitId, 20, "commit id");
digest_type!(
    /// The SHA-1 name of a git tree object.
    TreeId, 20, "tree id");
digest_type!(
    /// The SHA-1 name of a git blob: of the file itself, or of its LFS pointer.
    BlobId, 20, "git blob id");
digest_type!(
    /// A SHA-256 of a whole file, as LFS names it.
    Sha256, 32, "sha256");
digest_type!(
    /// The root of a file's BLAKE3 tree: what its bytes are fetched and checked by.
    BlobHash, 32, "BLAKE3 root");

/// What git or LFS vouches for: the digest by which a manifest names a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileDigest {
    /// An LFS file, by the SHA-256 of its content.
    Sha256(Sha256),
    /// A plain git file, by the SHA-1 of its blob object.
    Git(BlobId),
}

impl FileDigest {
    /// The digest without its kind, in hexadecimal: the ETag that Hub clients know.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(d) => d.to_string(),
            Self::Git(d) => d.to_string(),
        }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(d) => write!(f, "sha256:{d}"),
            Self::Git(d) => write!(f, "git:{d}"),
        }
    }
}

impl FromStr for FileDigest {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s.split_once(':') {
            Some(("sha256", d)) => Ok(Self::Sha256(d.parse()?)),
            Some(("git", d)) => Ok(Self::Git(d.parse()?)),
            _ => Err(ParseError::new("file digest", s, "it must be `sha256:<64 hex>` or `git:<40 hex>`")),
        }
    }
}

serde_as_text!(FileDigest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digests_print_as_they_parse(bytes: [u8; 20], long: [u8; 32]) {
            let commit = CommitId::from_bytes(bytes);
            prop_assert_eq!(commit.to_string().parse::<CommitId>(), Ok(commit));
            for digest in [FileDigest::Sha256(Sha256::from_bytes(long)), FileDigest::Git(BlobId::from_bytes(bytes))] {
                prop_assert_eq!(digest.to_string().parse::<FileDigest>(), Ok(digest));
                prop_assert!(digest.to_string().ends_with(&digest.hex()));
            }
        }

        #[test]
        fn no_text_makes_a_digest_panic(text in ".{0,80}") {
            let _ = text.parse::<CommitId>();
            let _ = text.parse::<FileDigest>();
        }
    }

    #[test]
    fn an_error_names_the_input() {
        let error = "ABC".parse::<CommitId>().unwrap_err().to_string();
        assert_eq!(error, "`ABC` is no commit id: it must be 20 bytes in lower-case hexadecimal");
    }
}
