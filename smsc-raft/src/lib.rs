//! What all nodes of a cluster agree on: the replicated log, the message store and the session registry.
//!
//! The promise kept here: a positive submit_sm_resp outlives the node that sent it. [`consensus`] wraps the Raft
//! engine and its transport, [`storage`] is what lies on this node's disk, [`machine`] is the pure state machine that
//! every node applies the log to. The rest of the system comes in through one door, [`store::Store`].

pub mod consensus;
pub mod convert;
pub mod leadership;
pub mod machine;
pub mod outcome;
mod preference;
pub mod quorum;
pub mod storage;
pub mod store;

/// Records and commands as they are persisted, generated from `proto/store.proto`.
pub use smsc_proto::rpc::store as model;
