//! The engine's type configuration.
//!
//! openraft's types stay inside this crate's `consensus` and `storage` rooms: what goes over the wire or to the disk is
//! of `proto/`, converted at the edge.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message as _;
use smsc_proto::rpc::raft::NodeRole;

use super::responder::Callback;
use crate::model;
use crate::outcome::Outcomes;

/// The payload of one log entry: an encoded [`model::Batch`], and on the node that proposed it the decoded one beside.
///
/// Encoded once, by the leader; the log and the replication streams copy no more than a reference.
#[derive(Clone)]
pub struct Batch {
    encoded: Bytes,
    decoded: Option<Arc<Mutex<Option<model::Batch>>>>,
}

impl Batch {
    /// Encodes a batch to propose.
    pub fn propose(batch: model::Batch) -> Self {
        let encoded = Bytes::from(batch.encode_to_vec());
        Self { encoded, decoded: Some(Arc::new(Mutex::new(Some(batch)))) }
    }

    /// A batch as it was read from the log or came from the leader.
    pub fn from_encoded(encoded: Bytes) -> Self {
        Self { encoded, decoded: None }
    }

    /// The bytes that the log stores and the transport carries.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The decoded batch, on the node that proposed it and once.
    pub fn take_decoded(&self) -> Option<model::Batch> {
        self.decoded.as_ref().and_then(|slot| slot.lock().expect("never held across a panic").take())
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The arbiter of a pair as a member: the first id that no machine can have.
pub const ARBITER_ID: u64 = 256;

/// Where a member is reached and what it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `host:port` of its gRPC services.
    pub addr: String,
    /// The name operators know it by.
    pub name: String,
    /// Whether it only votes and keeps.
    pub witness: bool,
}

impl Member {
    /// The arbiter of a pair: a vote without a machine, so it is reached nowhere. It never serves.
    pub fn arbiter() -> Self {
        Self { addr: String::new(), name: "arbiter".to_owned(), witness: true }
    }

    /// Whether this is a pair's arbiter.
    pub fn is_arbiter(&self) -> bool {
        self.witness && self.addr.is_empty()
    }

    /// The role as the wire names it.
    pub fn role(&self) -> NodeRole {
        match (self.is_arbiter(), self.witness) {
            (true, _) => NodeRole::Arbiter,
            (false, true) => NodeRole::Witness,
            (false, false) => NodeRole::Data,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}{})", self.name, self.addr, if self.witness { ", witness" } else { "" })
    }
}

/// What our Raft is made of.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = Outcomes;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Batch, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A term's leader and index of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote, or a leader's claim.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// The membership in force and the entry that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
