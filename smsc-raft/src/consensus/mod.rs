//! Raft: the engine's type configuration, the transport between nodes, leadership.

pub mod network;
pub mod tls;
pub mod types;
