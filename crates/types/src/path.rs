//! A file's place inside its repository, safe to write beneath a folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{ParseError, serde_as_text};

/// Longest path, in bytes: below Linux's `PATH_MAX` with room for the folder it is written to.
const MAX_PATH_BYTES: usize = 3072;
/// Longest name of one file or folder, in bytes: Linux's `NAME_MAX`.
const MAX_PART_BYTES: usize = 255;

/// A relative path with `/` between its parts.
///
/// It can escape no folder: no part is empty, `.`, `..` or a spelling of `.git`, none holds a NUL or a
/// control character, and it does not begin with `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(String);

impl RepoPath {
    /// As git spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, outermost first.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Where it lies beneath `folder`.
    pub fn under(&self, folder: &Path) -> PathBuf {
        let mut path = folder.to_path_buf();
        path.extend(self.parts());
        path
    }

    /// The path of `name` inside the folder that this path names (or inside the root, for `None`).
    ///
    /// # Errors
    /// [`ParseError`] if `name` is no single safe part.
    pub fn join(folder: Option<&Self>, name: &str) -> Result<Self, ParseError> {
        check_part(name).map_err(|why| ParseError::new("file name", name, why))?;
        match folder {
            None => name.parse(),
            Some(folder) => format!("{}/{name}", folder.0).parse(),
        }
    }
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("a part of it is empty");
    }
    if part.len() > MAX_PART_BYTES {
        return Err("a part of it is longer than 255 bytes");
    }
    if part == "." || part == ".." {
        return Err("`.` and `..` would leave the folder");
    }
    if part.contains('/') || part.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    if is_dot_git(part) {
        return Err("`.git` belongs to git");
    }
    Ok(())
}

/// Whether some file system takes `part` for `.git`: by case, by trailing dots and spaces or a stream (NTFS),
/// by the short name `git~1`, or by characters that HFS+ ignores (git's own rules, CVE-2014-9390).
fn is_dot_git(part: &str) -> bool {
    let visible: String = part
        .chars()
        .filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
        .collect();
    let before_stream = visible.split(':').next().unwrap_or_default();
    let stem = before_stream.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    stem == ".git" || stem == "git~1"
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoPath {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let fail = |why: &str| ParseError::new("repository path", s, why);
        if s.starts_with('/') {
            return Err(fail("it is absolute"));
        }
        if s.len() > MAX_PATH_BYTES {
            return Err(fail("it is longer than 3072 bytes"));
        }
        s.split('/').try_for_each(check_part).map_err(fail)?;
        Ok(Self(s.to_owned()))
    }
}

serde_as_text!(RepoPath);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_escapes() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            ".git/config",
            "a/.GIT/x",
            ".git./x",
            "GIT~1",
            ".git::$INDEX_ALLOCATION/x",
            "a\0b",
            "a\nb",
            ".g\u{200c}it/x",
            ".git ",
        ] {
            assert!(bad.parse::<RepoPath>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<RepoPath>().is_err());
    }

    #[test]
    fn odd_names_are_fine() {
        for good in [
            "a",
            "onnx/sub dir/model.onnx",
            "100%.txt",
            ".gitattributes",
            ".github/x",
            "日本/モデル",
            "a\\b",
            "...",
        ] {
            assert_eq!(good.parse::<RepoPath>().unwrap().as_str(), good);
        }
    }

    proptest! {
        #[test]
        fn a_path_stays_beneath_its_folder(text in "[a-zA-Z./ \\\\~:]{0,40}") {
            if let Ok(path) = text.parse::<RepoPath>() {
                let joined = path.under(Path::new("/safe"));
                prop_assert!(joined.starts_with("/safe") && joined != Path::new("/safe"));
                prop_assert!(joined.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
            }
        }
    }
}
