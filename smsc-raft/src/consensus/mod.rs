//! Raft: the engine's type configuration, its state machine and transport, proposals and elections.

pub mod election;
pub mod machine;
pub mod network;
pub mod predecessor;
pub mod proposer;
pub mod responder;
pub mod tls;
pub mod types;
