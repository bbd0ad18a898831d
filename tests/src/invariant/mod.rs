//! What must hold in every simulated world, whatever fails: one property per file.
//!
//! The world tells what happens ([`Seen`]); each property keeps what it needs of that and objects when it is broken.

mod acked_survives;
mod answered_once;
mod equal_digest;
mod held_bounded;
mod ids_unique;
mod no_repeat;
mod number_order;
mod number_single;
mod one_final;
mod one_leader;
mod purge_spares;
mod receipt_delivered;
mod stamp_forward;
mod stored_once;
mod waiting_count;

use std::sync::Arc;

use smsc_raft::machine::keys::QueueKey;
use smsc_raft::machine::{Change, Machine};
use smsc_raft::model::Message;
use smsc_raft::outcome::Outcome;

use crate::oracle::Oracle;
use crate::sim::log::Entry;

/// One engine, from its leader's beginning to serve to its end: term and a number that tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serving {
    /// The term.
    pub term: u64,
    /// Which one of this world.
    pub number: u64,
}

/// Something that happened in the world.
#[expect(missing_docs, reason = "the fields are called what they are")]
pub enum Seen<'a> {
    /// A node was elected.
    Elected { node: usize, term: u64 },
    /// A leader begins to serve with this state.
    Serves { serving: Serving, machine: &'a Machine, oracle: &'a Oracle },
    /// An entry is committed, for the first time anywhere. The machine has applied all up to it, without a checkpoint.
    Committed { index: u64, entry: &'a Entry, outcomes: &'a [Outcome], changes: &'a [Change], machine: &'a Machine },
    /// A node has applied an entry, perhaps again after a restart.
    Applied { node: usize, index: u64, machine: &'a Machine },
    /// A node starts over from its disk.
    Restarted { node: usize, machine: &'a Machine },
    /// An engine is told of a change of the entry at `index`; it knew of all changes before.
    Told { serving: Serving, index: u64, change: &'a Change },
    /// An engine sends a message; it was told of everything up to `told`.
    Sent { serving: Serving, told: u64, now_ms: u64, queue: &'a QueueKey, message: &'a Arc<Message> },
    /// The other side has answered.
    Ended { serving: Serving, id: u64, delivered: bool },
    /// An engine has done what there was to do.
    Held { messages: usize, messages_max: usize },
    /// A message centre accepts a submission; so many entries are committed.
    Accepted { id: u64, tag: usize },
    /// The session of an ESME has ended.
    SessionEnded { answers_unexpected: u64, answers_late: u64 },
    /// All faults are over and nothing happens any more.
    Settled { machine: &'a Machine, oracle: &'a Oracle },
}

/// A property of every world.
pub trait Invariant {
    /// What it is called in a failure.
    fn name(&self) -> &'static str;

    /// Takes note of something.
    ///
    /// # Errors
    /// The property is broken: how.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String>;
}

/// All properties of one world.
pub struct Invariants(Vec<Box<dyn Invariant>>);

impl Default for Invariants {
    fn default() -> Self {
        Self(vec![
            Box::<acked_survives::AckedSurvives>::default(),
            Box::<answered_once::AnsweredOnce>::default(),
            Box::<equal_digest::EqualDigest>::default(),
            Box::new(held_bounded::HeldBounded),
            Box::<ids_unique::IdsUnique>::default(),
            Box::<no_repeat::NoRepeat>::default(),
            Box::<number_order::NumberOrder>::default(),
            Box::<number_single::NumberSingle>::default(),
            Box::<one_final::OneFinal>::default(),
            Box::<one_leader::OneLeader>::default(),
            Box::<purge_spares::PurgeSpares>::default(),
            Box::<receipt_delivered::ReceiptDelivered>::default(),
            Box::<stamp_forward::StampForward>::default(),
            Box::<stored_once::StoredOnce>::default(),
            Box::new(waiting_count::WaitingCount),
        ])
    }
}

impl Invariants {
    /// Tells all of them.
    ///
    /// # Errors
    /// The first that is broken: which, and how.
    pub fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for invariant in &mut self.0 {
            invariant.see(seen).map_err(|text| format!("{}: {text}", invariant.name()))?;
        }
        Ok(())
    }
}

fn read<T>(result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("the machine cannot be read: {error}"))
}
