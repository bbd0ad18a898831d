//! What goes into the engine and what comes out.

use std::sync::Arc;

use smol_str::SmolStr;
use smsc_proto::status::CommandStatus;
use smsc_proto::types::NetworkErrorCode;
use smsc_raft::machine::keys::{DueKey, QueueKey};
use smsc_raft::model::{Command, ErrorClass, HandsetRange, Message, MessageState, Queue};

use super::backlog::Position;
use crate::delivery::handset::HandsetResult;
use crate::delivery::receipt::error_of;
use crate::smpp::ports::DeliverResult;

/// network_type of codes that the message centre or its ESME gave (SMPP v5.0 section 4.8.4.42).
const MESSAGE_CENTRE: u8 = 8;

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkResult {
    /// The other side has it.
    Delivered,
    /// Another message centre has it and owes a report, which comes by `DeliveryEngine::reported`. The number's next
    /// message goes on meanwhile.
    Accepted {
        /// message_id of its submit_sm_resp, for each segment.
        remote_ids: Vec<String>,
        /// How long after the end of its validity the report is waited for. Milliseconds.
        grace_ms: u64,
        /// The message's state when no report comes: expired, unknown or accepted.
        give_up_state: MessageState,
    },
    /// Try again later.
    Temporary {
        /// Which schedule it follows.
        class: ErrorClass,
        /// network_error_code as the records keep it.
        error: u32,
    },
    /// Never try again.
    Permanent {
        /// network_error_code as the records keep it.
        error: u32,
        /// Undeliverable or rejected; accepted, for a message that a link took and never reports on.
        state: MessageState,
    },
    /// The session or link ended before it answered. No attempt: the message goes out again at once.
    Lost,
}

impl From<HandsetResult> for LinkResult {
    fn from(result: HandsetResult) -> Self {
        match result {
            HandsetResult::Delivered => Self::Delivered,
            HandsetResult::Failed { error, class } if class != ErrorClass::Permanent => {
                Self::Temporary { class, error }
            }
            HandsetResult::Failed { error, .. } => Self::Permanent { error, state: MessageState::Undeliverable },
        }
    }
}

impl From<DeliverResult> for LinkResult {
    /// What an ESME cannot take now is tried again; what it does not want, or finds wrong, is not.
    fn from(result: DeliverResult) -> Self {
        let status = match result {
            DeliverResult::Accepted => return Self::Delivered,
            DeliverResult::Lost => return Self::Lost,
            DeliverResult::Refused(status) => status,
        };
        let [_, _, high, low] = status.0.to_be_bytes();
        let code = NetworkErrorCode { network_type: MESSAGE_CENTRE, error_code: u16::from_be_bytes([high, low]) };
        let error = error_of(code);
        match status {
            CommandStatus::ESME_ROK => Self::Delivered,
            CommandStatus::ESME_RX_T_APPN | CommandStatus::ESME_RINVBNDSTS => {
                Self::Temporary { class: ErrorClass::Unknown, error }
            }
            CommandStatus::ESME_RMSGQFUL | CommandStatus::ESME_RTHROTTLED => {
                Self::Temporary { class: ErrorClass::Congestion, error }
            }
            CommandStatus::ESME_RSYSERR => Self::Temporary { class: ErrorClass::SystemFailure, error },
            CommandStatus::ESME_RX_R_APPN => Self::Permanent { error, state: MessageState::Rejected },
            _ => Self::Permanent { error, state: MessageState::Undeliverable },
        }
    }
}

/// What the engine wants to read. The answer must be of a state at least as new as every change that the engine was
/// told of, and must reach it before any change that is newer than the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Queues towards numbers in the order in which they are due, behind `after`.
    Due {
        /// The last one read, or a key just in front of the first one wanted.
        after: Option<DueKey>,
        /// At most so many.
        limit: usize,
    },
    /// A queue's record and its messages from a place on.
    Queue {
        /// The queue.
        key: QueueKey,
        /// See [`Position::read_after`].
        from: Position,
        /// At most so many messages; 0 asks for the record alone.
        limit: usize,
    },
    /// Messages whose validity ended.
    Expired {
        /// Until then, UTC milliseconds.
        until_ms: u64,
        /// At most so many.
        limit: usize,
    },
    /// Numbers with delivery pending flags.
    Pending {
        /// The last one read.
        after: Option<SmolStr>,
        /// At most so many.
        limit: usize,
    },
}

/// The answer to a [`Load`].
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// To [`Load::Due`].
    Due {
        /// What was asked.
        limit: usize,
        /// The queues.
        queues: Vec<(DueKey, Queue)>,
    },
    /// To [`Load::Queue`].
    Queue {
        /// What was asked.
        key: QueueKey,
        /// What was asked.
        from: Position,
        /// What was asked.
        limit: usize,
        /// The record; `None` when nothing waits in the queue.
        queue: Option<Queue>,
        /// The messages.
        messages: Vec<Arc<Message>>,
    },
    /// To [`Load::Expired`].
    Expired {
        /// What was asked.
        limit: usize,
        /// The messages.
        messages: Vec<Arc<Message>>,
    },
    /// To [`Load::Pending`].
    Pending {
        /// What was asked.
        limit: usize,
        /// The numbers, each with the time of its first flag.
        numbers: Vec<(SmolStr, u64)>,
    },
}

/// What the engine wants done.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "every message is proposed once: the large one is as common as the small"
)]
pub enum Effect {
    /// Send to a receiver; its answer comes back by `DeliveryEngine::session_outcome`.
    SendToSession {
        /// The session.
        session_id: u64,
        /// The message.
        message: Arc<Message>,
    },
    /// Hand to a link that was told of by `DeliveryEngine::link_up`; its answer comes back by
    /// `DeliveryEngine::link_outcome`.
    SendToLink {
        /// The link.
        link: SmolStr,
        /// The message.
        message: Arc<Message>,
    },
    /// Have a link's message centre cancel what it has accepted, if it still can: the message came to another end here
    /// meanwhile. Nothing comes back.
    CallBack {
        /// The message, handed over to the link.
        message: Arc<Message>,
    },
    /// Deliver to a simulated handset; its answer comes back by `DeliveryEngine::link_outcome`.
    SendToHandset {
        /// The message.
        message: Arc<Message>,
        /// The number.
        number: SmolStr,
        /// The range it belongs to; `None` when the operator removed it.
        range: Option<Arc<HandsetRange>>,
        /// When the number's attempts began to fail; 0 when the last one did not. UTC milliseconds.
        failing_since_ms: u64,
    },
    /// A number was tried in vain, and messages or ESMEs wait for it: tell by `DeliveryEngine::reachable` when it can be
    /// reached.
    WatchHandset {
        /// The number.
        number: SmolStr,
        /// The range it belongs to.
        range: Arc<HandsetRange>,
        /// When the number's attempts began to fail; UTC milliseconds.
        failing_since_ms: u64,
        /// Tell at once if it can be reached already.
        at_once: bool,
    },
    /// Put into the log.
    Propose(Command),
    /// Read from the store and answer by `DeliveryEngine::loaded`.
    Load(Load),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of = |status| LinkResult::from(DeliverResult::Refused(status));
        for (status, class) in [
            (CommandStatus::ESME_RX_T_APPN, ErrorClass::Unknown),
            (CommandStatus::ESME_RMSGQFUL, ErrorClass::Congestion),
            (CommandStatus::ESME_RTHROTTLED, ErrorClass::Congestion),
            (CommandStatus::ESME_RSYSERR, ErrorClass::SystemFailure),
        ] {
            assert_eq!(of(status), LinkResult::Temporary { class, error: 8 << 16 | status.0 });
        }
        let rejected = LinkResult::Permanent { error: 8 << 16 | 0x66, state: MessageState::Rejected };
        assert_eq!(of(CommandStatus::ESME_RX_R_APPN), rejected);
        for status in [CommandStatus::ESME_RX_P_APPN, CommandStatus::ESME_RINVDSTADR, CommandStatus(0x499)] {
            assert!(matches!(of(status), LinkResult::Permanent { state: MessageState::Undeliverable, .. }));
        }
        assert_eq!(LinkResult::from(DeliverResult::Accepted), LinkResult::Delivered);
        assert_eq!(LinkResult::from(DeliverResult::Lost), LinkResult::Lost);
    }
}
