//! What applying a command gave.

use std::fmt;
use std::sync::Arc;

use crate::model::{FinalRecord, Message};

/// The results of one log entry's commands, in their order. Lives only on the node that proposed them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes(pub Vec<Outcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.0.len())
    }
}

/// The result of one command. A refusal is a result like any other: every node comes to the same one.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done, nothing to tell.
    Done,
    /// The message is stored under this id.
    Stored(u64),
    /// The message ended here and now; a receipt was stored under the id when one was due.
    Finished {
        /// The final record as it was stored.
        record: Arc<FinalRecord>,
    },
    /// The message had come to its end before; nothing was changed.
    AlreadyFinal(Box<FinalRecord>),
    /// The message as it waits now.
    Waiting(Box<Message>),
    /// The bind is registered under this id.
    SessionOpened(u64),
    /// The drill's record is stored under this id.
    DrillStored(u64),
    /// The account has as many binds as it may.
    TooManyBinds,
    /// There is nothing of that name or id.
    NotFound,
}
