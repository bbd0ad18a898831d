//! Two nodes without a third machine: the vote that one of them may use alone, and when.
//!
//! Raft with two voters stops when one is lost. A pair therefore has a third member without a machine, the *arbiter*.
//! Each node answers for it itself, on its own behalf, and only while it goes on alone ([`Arbiter`]); otherwise the
//! arbiter is silent, so that every commit is on both nodes. [`Pair`] holds the rules for it, pure; the driver beside it
//! asks the peer, the disk and the quorum device.

mod arbiter;
#[cfg(test)]
mod check;
mod driver;
mod pair;
mod record;

pub use arbiter::Arbiter;
pub use driver::{DevicePeer, QuorumConfig, QuorumDevice, TakeoverError};
pub(crate) use driver::{Parts, Quorum};
pub use pair::{
    Contact, Device, Effect, Event, Facts, Grant, Leads, Pair, Policy, Record, Refusal, Says, Sole, Standing, Why,
};
pub(crate) use record::RecordFile;
