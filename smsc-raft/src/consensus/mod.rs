//! Raft: the engine's type configuration, the transport between nodes, leadership.

pub mod types;
