//! What a link made of a message, and what the status of a message centre means for it.

use smsc_proto::status::CommandStatus;
use smsc_proto::types::NetworkErrorCode;
use smsc_raft::model::link::Receipts;
use smsc_raft::model::{ErrorClass, Link, MessageState};

use super::outbound::Unsendable;
use crate::delivery::engine::LinkResult;
use crate::delivery::receipt::error_of;

/// network_type of codes that a message centre gave (SMPP v5.0 section 4.8.4.42).
const MESSAGE_CENTRE: u8 = 8;

/// What a link made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// The message centre has it.
    Accepted {
        /// What it calls each segment.
        message_ids: Vec<String>,
    },
    /// It could not be taken now.
    Temporary {
        /// Why.
        class: ErrorClass,
        /// network_error_code as the records keep it.
        error: u32,
    },
    /// It will never be taken.
    Permanent {
        /// network_error_code as the records keep it.
        error: u32,
        /// Undeliverable or rejected.
        state: MessageState,
    },
    /// Nothing was sent, and nothing follows: no attempt was made.
    NotSent,
}

/// How long a receipt is waited for behind the end of the validity when the link does not say. Seconds.
const GRACE_DEFAULT_S: u32 = 3_600;

impl LinkOutcome {
    /// The same for the delivery engine.
    pub fn into_result(self, link: &Link) -> LinkResult {
        match self {
            LinkOutcome::Accepted { message_ids } => accepted(message_ids, link),
            LinkOutcome::Temporary { class, error } => LinkResult::Temporary { class, error },
            LinkOutcome::Permanent { error, state } => LinkResult::Permanent { error, state },
            LinkOutcome::NotSent => LinkResult::Lost,
        }
    }
}

fn accepted(remote_ids: Vec<String>, link: &Link) -> LinkResult {
    match (link.receipts(), link.unreported()) {
        (Receipts::Never, MessageState::Delivered) => LinkResult::Delivered,
        (Receipts::Never, MessageState::Scheduled) => LinkResult::Permanent { error: 0, state: MessageState::Accepted },
        (Receipts::Never, state) => LinkResult::Permanent { error: 0, state },
        (Receipts::Always, unreported) => LinkResult::Accepted {
            remote_ids,
            grace_ms: u64::from(if link.receipt_grace_s == 0 { GRACE_DEFAULT_S } else { link.receipt_grace_s }) * 1_000,
            give_up_state: match unreported {
                MessageState::Scheduled => MessageState::Unknown,
                state => state,
            },
        },
    }
}

/// A command_status as the records keep an error.
pub fn status_error(status: CommandStatus) -> u32 {
    let [_, _, high, low] = status.0.to_be_bytes();
    error_of(NetworkErrorCode { network_type: MESSAGE_CENTRE, error_code: u16::from_be_bytes([high, low]) })
}

/// What a status other than ESME_ROK in a submit_sm_resp means.
pub fn refused(status: CommandStatus) -> LinkOutcome {
    let error = status_error(status);
    let temporary = |class| LinkOutcome::Temporary { class, error };
    match status {
        CommandStatus::ESME_RTHROTTLED | CommandStatus::ESME_RMSGQFUL => temporary(ErrorClass::Congestion),
        CommandStatus::ESME_RSYSERR
        | CommandStatus::ESME_RSUBMITFAIL
        | CommandStatus::ESME_RX_T_APPN
        | CommandStatus::ESME_RINVBNDSTS
        | CommandStatus::ESME_RDELIVERYFAILURE => temporary(ErrorClass::SystemFailure),
        CommandStatus::ESME_RX_R_APPN => LinkOutcome::Permanent { error, state: MessageState::Rejected },
        status if status.name().is_none() => temporary(ErrorClass::Unknown),
        _ => LinkOutcome::Permanent { error, state: MessageState::Undeliverable },
    }
}

/// No answer came: it may have been accepted all the same, so that it is not sent at once by another way.
pub fn unanswered() -> LinkOutcome {
    LinkOutcome::Temporary { class: ErrorClass::Unknown, error: 0 }
}

/// No form of it fits the link.
pub fn unsendable(error: Unsendable) -> LinkOutcome {
    let status = match error {
        Unsendable::TooLong => CommandStatus::ESME_RINVMSGLEN,
        Unsendable::Record => CommandStatus::ESME_RSUBMITFAIL,
    };
    LinkOutcome::Permanent { error: status_error(status), state: MessageState::Undeliverable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let class = |status| match refused(status) {
            LinkOutcome::Temporary { class, .. } => Some(class),
            _ => None,
        };
        assert_eq!(class(CommandStatus::ESME_RMSGQFUL), Some(ErrorClass::Congestion));
        assert_eq!(class(CommandStatus::ESME_RSYSERR), Some(ErrorClass::SystemFailure));
        assert_eq!(class(CommandStatus(0x401)), Some(ErrorClass::Unknown));
        assert_eq!(class(CommandStatus::ESME_RINVDSTADR), None);
        let never = Link { receipts: Receipts::Never as i32, ..Link::default() };
        let accepted = || LinkOutcome::Accepted { message_ids: vec!["7".to_owned()] };
        assert_eq!(accepted().into_result(&never), LinkResult::Permanent { error: 0, state: MessageState::Accepted });
        let waits = LinkResult::Accepted {
            remote_ids: vec!["7".to_owned()],
            grace_ms: 3_600_000,
            give_up_state: MessageState::Unknown,
        };
        assert_eq!(accepted().into_result(&Link::default()), waits);
        let rejected = LinkOutcome::Permanent { error: 8 << 16 | 0x66, state: MessageState::Rejected };
        assert_eq!(refused(CommandStatus::ESME_RX_R_APPN), rejected);
    }
}
