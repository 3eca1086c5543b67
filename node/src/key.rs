//! The node's key: made once, kept in `DIR/node.key`, readable by its owner alone.
//!
//! **Invariant:** a key file is whole or absent, also when two processes make it at once.
//! **Not here:** signing (`proof`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hubless_proof::NodeKey;

/// The key's file inside the data folder.
pub(crate) const KEY_FILE: &str = "node.key";

/// Longest key file that is read, in bytes: 64 hexadecimal digits and some white space.
const MAX_KEY_FILE_BYTES: u64 = 256;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("`{}` may be read by others (mode {mode:04o}); it holds this node's secret key", path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("`{}` is no node key: it must be 64 hexadecimal digits", path.display())]
    Malformed { path: PathBuf },
    #[error("no data of a node in `{}`", dir.display())]
    NoData { dir: PathBuf },
    #[error("`{}` has the data of a node, but not its key `{KEY_FILE}`", dir.display())]
    Lost { dir: PathBuf },
    #[error("`{}` is not empty, and no data folder of a node", dir.display())]
    Foreign { dir: PathBuf },
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Disk { doing: &'static str, path: PathBuf, source: io::Error },
}

impl KeyError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::TooOpen { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Malformed { .. } => Some(
                "restore it from a backup; a node with a new key is a new node and needs \
                                            a new data folder"
                    .into(),
            ),
            Self::NoData { .. } => {
                Some("`--data` names the folder of a node; `hubless --data DIR run` makes one".into())
            }
            Self::Lost { .. } => Some(
                "restore it from a backup; without it the folder is of no use, and a new node needs a new folder"
                    .into(),
            ),
            Self::Foreign { .. } => {
                Some("`--data` names a folder for the node's own data, new or empty".into())
            }
            Self::Disk { .. } => None,
        }
    }
}

/// Takes the key of the node whose data is in `dir`.
///
/// # Errors
/// [`KeyError::NoData`] if there is none; else if it may be read by others, is malformed or unreadable.
pub(crate) fn load(dir: &Path) -> Result<NodeKey, KeyError> {
    let path = dir.join(KEY_FILE);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(KeyError::NoData { dir: dir.to_owned() });
        }
        Err(source) => return Err(KeyError::Disk { doing: "read", path, source }),
    };
    if meta.mode() & 0o077 != 0 {
        return Err(KeyError::TooOpen { path, mode: meta.mode() & 0o7777 });
    }
    if meta.len() > MAX_KEY_FILE_BYTES || !meta.is_file() {
        return Err(KeyError::Malformed { path });
    }
    let text =
        fs::read(&path).map_err(|source| KeyError::Disk { doing: "read", path: path.clone(), source })?;
    let secret = std::str::from_utf8(&text).ok().and_then(|text| unhex(text.trim()));
    secret.map(NodeKey::from_bytes).ok_or(KeyError::Malformed { path })
}

/// Takes the key in `dir`, and makes folder and key if there are none.
///
/// # Errors
/// As [`load`], and where the folder or the key cannot be written.
pub(crate) fn load_or_create(dir: &Path) -> Result<NodeKey, KeyError> {
    match load(dir) {
        Err(KeyError::NoData { .. }) => {}
        done => return done,
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| KeyError::Disk {
        doing: "make the data folder",
        path: dir.to_owned(),
        source,
    })?;
    check_new(dir)?;
    match create(dir) {
        // Another process made it in the meantime: that one is the node's.
        Err(KeyError::Disk { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => load(dir),
        done => done,
    }
}

/// A new key belongs into a new folder: not among somebody's files, and not to data of another key.
fn check_new(dir: &Path) -> Result<(), KeyError> {
    let fail = |source| KeyError::Disk { doing: "read", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let name = name.to_string_lossy();
        if name == "format.json" || name == "catalogue" {
            return Err(KeyError::Lost { dir: dir.to_owned() });
        }
        // The key's own drafts, of a process that makes it at this moment, and what a file system puts there.
        if !name.starts_with(KEY_FILE) && name != "lost+found" && name != "lock" {
            return Err(KeyError::Foreign { dir: dir.to_owned() });
        }
    }
    Ok(())
}

fn create(dir: &Path) -> Result<NodeKey, KeyError> {
    let (path, draft) = (dir.join(KEY_FILE), dir.join(format!("{KEY_FILE}.{:016x}", rand::random::<u64>())));
    let key = NodeKey::generate(&mut rand::rng());
    let written = write_private(&draft, &format!("{}\n", hex(key.secret_bytes().as_slice())))
        // A link, unlike a rename, never replaces a key that is already there.
        .and_then(|()| fs::hard_link(&draft, &path));
    let _ = fs::remove_file(&draft);
    written.map_err(|source| KeyError::Disk { doing: "write", path, source })?;
    Ok(key)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        assert!(matches!(load(&data), Err(KeyError::NoData { .. })));
        let first = load_or_create(&data).unwrap().id();
        assert_eq!(load_or_create(&data).unwrap().id(), first);
        assert_eq!(fs::metadata(data.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::TooOpen { mode: 0o644, .. }));
        assert_eq!(error.hint(), Some(format!("chmod 600 {}", path.display())));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "abc", &"x".repeat(64), &"0".repeat(63), &"0".repeat(1000)] {
            write_private(&dir.path().join(KEY_FILE), text).unwrap();
            assert!(matches!(load(dir.path()), Err(KeyError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn a_key_is_made_in_a_new_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), b"mine").unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(KeyError::Foreign { .. })));
        fs::write(dir.path().join("format.json"), b"{}").unwrap();
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let error = load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::Lost { .. }), "{error}");
        assert!(!dir.path().join(KEY_FILE).exists());
    }

    #[test]
    fn many_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let made: Vec<_> =
                (0..4).map(|_| scope.spawn(|| load_or_create(dir.path()).unwrap().id())).collect();
            made.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(ids.windows(2).all(|w| w[0] == w[1]));
    }
}
