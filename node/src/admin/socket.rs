//! The Unix socket in the data folder: made for its owner alone, found under any path length.
//!
//! **Invariant:** the file is removed only by the process that holds the folder's lock.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket's file inside the data folder.
pub(crate) const SOCKET_FILE: &str = "admin.sock";

/// The folder that it is made in.
const NOOK: &str = "admin.new";

/// Longest path the kernel takes for a socket, in bytes (`sun_path` holds 108 with its NUL).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the socket `{}`: {source}", path.display())]
pub(crate) struct SocketError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A socket that this process made; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    path: PathBuf,
}

impl ListeningSocket {
    /// Makes the socket in `dir`, whose lock the caller holds: a file left by a dead process is replaced.
    ///
    /// # Errors
    /// [`SocketError`] if the folder does not take it.
    pub(crate) fn bind(dir: &Path) -> Result<(Self, UnixListener), SocketError> {
        let path = dir.join(SOCKET_FILE);
        let fail = |source| SocketError { doing: "make", path: path.clone(), source };
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let listener = bind_unseen(dir).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok((Self { path }, listener))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the socket in a folder that nobody else may enter, and moves it to its place when only its owner may open it:
/// there is no moment in which others could connect. (A mask would hold for files that other threads make as well.)
fn bind_unseen(dir: &Path) -> io::Result<UnixListener> {
    let nook = dir.join(NOOK);
    match fs::remove_dir_all(&nook) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => fs::DirBuilder::new().mode(0o700).create(&nook)?,
    }
    let made = nook.join(SOCKET_FILE);
    let listener = by_short_path(&made, &File::open(&nook)?, |short| UnixListener::bind(short))?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, dir.join(SOCKET_FILE))?;
    fs::remove_dir(&nook)?;
    Ok(listener)
}

/// Connects with the node that serves `dir`; `None` if none does.
///
/// # Errors
/// [`SocketError`] if there is a socket that this user may not use.
pub(crate) fn connect(dir: &Path) -> Result<Option<UnixStream>, SocketError> {
    let path = dir.join(SOCKET_FILE);
    let connected =
        File::open(dir).and_then(|folder| by_short_path(&path, &folder, |short| UnixStream::connect(short)));
    match connected {
        Ok(stream) => {
            let nonblocking = stream.set_nonblocking(true);
            nonblocking.map_err(|source| SocketError { doing: "use", path, source })?;
            Ok(Some(stream))
        }
        // Refused: the file was left behind by a process that is gone.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(source) => Err(SocketError { doing: "connect with", path, source }),
    }
}

/// Calls `act` with `path`, or, where that is too long for the kernel, with a short name for the same place
/// through the open `folder`.
fn by_short_path<T>(path: &Path, folder: &File, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return act(path);
    }
    act(&PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_socket_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        assert!(connect(dir.path()).unwrap().is_none());
        let (socket, _listener) = ListeningSocket::bind(dir.path()).unwrap();
        assert_eq!(fs::metadata(socket.path()).unwrap().mode() & 0o777, 0o600);
        assert!(connect(dir.path()).unwrap().is_some());
        let path = socket.path().to_owned();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, listener) = ListeningSocket::bind(dir.path()).unwrap();
        drop(listener);
        std::mem::forget(socket);
        assert!(connect(dir.path()).unwrap().is_none());
        let (_socket, _listener) = ListeningSocket::bind(dir.path()).unwrap();
        assert!(connect(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_folder_may_lie_deep() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        let (socket, _listener) = ListeningSocket::bind(&deep).unwrap();
        assert!(socket.path().exists());
        assert!(connect(&deep).unwrap().is_some());
    }
}
