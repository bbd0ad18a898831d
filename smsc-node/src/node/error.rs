//! Why a node did not start, or ended.

use crate::data_dir::DataDirError;
use crate::exit::Exit;
use crate::ha::HaError;
use crate::listen::ListenError;
use crate::smpp::tls::SmppTlsError;
use smsc_raft::consensus::tls::TlsError;
use smsc_raft::store::StoreError;

/// What kept a node from starting, or ended it. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificates for ESMEs cannot be used.
    #[error(transparent)]
    SmppTls(#[from] SmppTlsError),
    /// The floating address cannot be handled.
    #[error(transparent)]
    Ha(#[from] HaError),
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The socket for operators cannot be opened.
    #[error(transparent)]
    AdminSocket(#[from] crate::admin::socket::SocketError),
    /// The node had to stop while it ran.
    #[error("the node stops: {0}")]
    Failed(String),
    /// The operating system refused something every program needs.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

impl NodeError {
    /// The process's exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            NodeError::DataDir(_) => Exit::DataDir,
            NodeError::Tls(_) | NodeError::SmppTls(_) => Exit::Config,
            NodeError::Ha(HaError::Capability { .. }) => Exit::Permission,
            NodeError::Ha(HaError::Address { .. } | HaError::NoAddress) => Exit::Config,
            NodeError::Ha(HaError::NoInterface { .. } | HaError::ReleaseListener { .. }) => Exit::Unavailable,
            NodeError::Listen(_) | NodeError::AdminSocket(_) | NodeError::Store(StoreError::Listen { .. }) => {
                Exit::Unavailable
            }
            NodeError::Store(StoreError::Disk(_) | StoreError::Log(_)) => Exit::DataDir,
            NodeError::Ha(_)
            | NodeError::Store(StoreError::Engine(_))
            | NodeError::Failed(_)
            | NodeError::System(_) => Exit::Internal,
        }
    }

    pub(super) fn task(error: tokio::task::JoinError) -> Self {
        NodeError::Failed(format!("a task ended badly: {error}"))
    }
}
