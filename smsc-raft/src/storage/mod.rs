//! What lies on this node's disk: the Raft log and vote, and the checkpoints of the machine.

pub mod checkpoints;
pub mod compaction;
pub mod log;
pub mod snapshot;
pub mod threads;
