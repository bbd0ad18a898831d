//! The Unix socket by which operators on this host reach the node.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use smsc_proto::rpc::admin::admin_server::AdminServer;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::AdminService;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// Why there is no socket. Nothing was changed but a stale socket removed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A node serves there.
    #[error("{path} is served by another process: is this node running already? (admin.socket)")]
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{path} exists and is no socket: remove it or configure another path (admin.socket)")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} the socket {path}: {source} (admin.socket)")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens; it is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A stale socket is harmless: the next start removes it.
        let _ = fs::remove_file(&self.0);
    }
}

impl AdminSocket {
    /// Listens at the path, for the node's own user alone (mode 0600). A socket that nobody serves any more is removed
    /// first. To be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |doing| move |source| SocketError::System { doing, path: path.to_owned(), source };
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("make"))?;
        // Before it is bound: the file then never exists with more rights.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed("protect")(errno.into()))?;
        let address = SockAddr::unix(path).map_err(failed("name"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        let file = SocketFile(path.to_owned());
        socket.listen(BACKLOG).map_err(failed("listen on"))?;
        socket.set_nonblocking(true).map_err(failed("set up"))?;
        let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
        let listener = UnixListener::from_std(listener).map_err(failed("register"))?;
        Ok(Self { listener, file })
    }

    /// Serves until `stop` is ready, then lets calls under way end.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self,
        service: AdminServer<AdminService>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let Self { listener, file } = self;
        let incoming = UnixListenerStream::new(listener);
        let served = Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await;
        drop(file);
        served
    }
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |doing| move |source| SocketError::System { doing, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Served { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the stale"))
        }
        Err(error) => Err(failed("look at")(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_the_owners_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.sock");
        let socket = AdminSocket::bind(&path).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Served { .. })));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        AdminSocket::bind(&path).expect("bound anew");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NoSocket { .. })));
        assert_eq!(fs::read(&path).expect("there"), b"precious");
    }
}
