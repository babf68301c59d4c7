//! The Unix socket: who may have it, and who may come in.
//!
//! Access to the socket is the whole of authentication, so its directory is ours alone (0700), the socket is 0600, or 0666
//! where other users are allowed, inside a directory that they can search; and each peer's user is checked besides.
//!
//! Invariants:
//! 1. Whoever serves a socket holds an exclusive lock on `<socket>.lock`, which is never deleted. Only under it is a socket
//!    file removed, and only when nobody answers there.
//! 2. There is no moment at which the socket has a wider mode than it ends with.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName as _};
use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
use tokio::net::UnixStream;

use super::StartError;
use crate::foreign_file;

/// What `sockaddr_un` can hold, without the closing zero: 108 bytes on Linux, 104 on the BSDs and on macOS.
pub const MAX_SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The lock, and the socket under it. Dropping it removes the socket and then gives up the lock.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
    uids: Vec<u32>,
    _lock: File,
}

impl SocketLock {
    /// Takes the lock, and clears away what a dead process left.
    pub fn take(path: &Path, allow_uids: &[u32]) -> Result<Self, StartError> {
        let len = path.as_os_str().as_bytes().len();
        if len > MAX_SOCKET_PATH_BYTES {
            return Err(StartError::PathTooLong { path: path.to_owned(), len, max: MAX_SOCKET_PATH_BYTES });
        }
        let says = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| StartError::Io(format!("{path}: {error}"))
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(says(parent))?;
        let found = fs::metadata(parent).map_err(says(parent))?;
        if found.mode() & 0o002 != 0 {
            return Err(StartError::Io(format!("{}: everybody may write there", parent.display())));
        }
        let mut lock_path = OsString::from(path);
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = foreign_file::open(&lock_path, options)
            .map_err(|why| StartError::Io(format!("{}: {why}", lock_path.display())))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StartError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(says(&lock_path)(error)),
        }
        clear(path)?;
        Ok(Self { path: path.to_owned(), uids: allow_uids.to_vec(), _lock: lock })
    }

    /// Binds and listens. Inside of a runtime.
    pub fn listen(&self) -> Result<Listener, StartError> {
        let io = |error: io::Error| StartError::Io(format!("{}: {error}", self.path.display()));
        // `mode_t` has another width on other systems, so there are two literals of each.
        let (mode, permissions) = if self.uids.is_empty() {
            (0o600, fs::Permissions::from_mode(0o600))
        } else {
            (0o666, fs::Permissions::from_mode(0o666))
        };
        let name = || self.path.as_os_str().to_fs_name::<GenericFilePath>().map_err(io);
        // The name is ours to remove, under the lock; left to the library it may remove a successor's.
        let options =
            || Ok::<_, StartError>(ListenerOptions::new().name(name()?).reclaim_name(false).try_overwrite(false));
        match options()?.mode(mode).create_tokio() {
            Ok(listener) => {
                // The mode was masked by the umask.
                fs::set_permissions(&self.path, permissions).map_err(io)?;
                Ok(listener)
            }
            // Where a socket's mode cannot be set before it is bound, the directory has to do.
            Err(error) if error.kind() == ErrorKind::Unsupported && self.uids.is_empty() => {
                options()?.create_tokio().map_err(io)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// The next client that may come in. Errors of one client, or of a moment without file descriptors, are not ours.
    pub async fn accept(&self, listener: &Listener) -> io::Result<UnixStream> {
        let Stream::UdSocket(stream) = listener.accept().await?;
        let stream = UnixStream::from(stream);
        let uid = stream.peer_cred()?.uid();
        if uid == rustix::process::geteuid().as_raw() || uid == 0 || self.uids.contains(&uid) {
            Ok(stream)
        } else {
            Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {uid} is not allowed")))
        }
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket stays behind");
        }
    }
}

/// Removes a socket at which nobody listens. Called under the lock.
fn clear(path: &Path) -> Result<(), StartError> {
    let io = |error: io::Error| StartError::Io(format!("{}: {error}", path.display()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(StartError::Io(format!("{} is there already, and no socket", path.display())));
        }
        Ok(_) => {}
    }
    match BlockingStream::connect(path) {
        // Somebody who does not know of the lock.
        Ok(_) => Err(StartError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket of a process that is gone");
            fs::remove_file(path).map_err(io)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A directory that is gone when the test is.
    struct ScratchDir(PathBuf);

    impl ScratchDir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("blocksyncd-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            Self(dir)
        }
    }

    impl Drop for ScratchDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_directory_and_the_socket_are_ours_alone() {
        let scratch = ScratchDir::new("modes");
        let path = scratch.0.join("made/api.sock");
        let lock = SocketLock::take(&path, &[]).unwrap();
        let listener = lock.listen().unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path), 0o600);
        drop((listener, lock));
        assert!(!path.exists(), "removed at the end");
        let lock = SocketLock::take(&path, &[12345]).unwrap();
        let _listener = lock.listen().unwrap();
        assert_eq!(mode(&path), 0o666, "whatever the umask is");
    }

    #[tokio::test]
    async fn a_second_instance_is_refused_and_the_first_goes_on() {
        let scratch = ScratchDir::new("second");
        let path = scratch.0.join("api.sock");
        let lock = SocketLock::take(&path, &[]).unwrap();
        let listener = lock.listen().unwrap();
        assert!(matches!(SocketLock::take(&path, &[]), Err(StartError::InUse(_))));
        let (client, server) = tokio::join!(UnixStream::connect(&path), lock.accept(&listener));
        client.unwrap();
        server.unwrap();
    }

    #[tokio::test]
    async fn a_dead_socket_is_taken_over_and_a_live_one_never() {
        let scratch = ScratchDir::new("stale");
        let path = scratch.0.join("api.sock");
        let live = UnixListener::bind(&path).unwrap();
        assert!(matches!(SocketLock::take(&path, &[]), Err(StartError::InUse(_))), "even when its owner took no lock");
        drop(live);
        assert!(path.exists());
        let lock = SocketLock::take(&path, &[]).unwrap();
        lock.listen().unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let scratch = ScratchDir::new("file");
        let path = scratch.0.join("api.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketLock::take(&path, &[]), Err(StartError::Io(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_does_not_fit_is_said_before_anything_is_made() {
        let path = std::env::temp_dir().join("x".repeat(120)).join("api.sock");
        assert!(matches!(SocketLock::take(&path, &[]), Err(StartError::PathTooLong { .. })));
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_directory_that_everybody_may_write_is_refused() {
        let scratch = ScratchDir::new("open");
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(SocketLock::take(&scratch.0.join("api.sock"), &[]), Err(StartError::Io(_))));
    }
}
