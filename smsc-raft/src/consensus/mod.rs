//! Raft: the engine's type configuration, the transport between nodes, leadership.

pub mod machine;
pub mod proposer;
pub mod responder;
pub mod types;
