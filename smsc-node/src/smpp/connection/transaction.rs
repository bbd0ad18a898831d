//! Transaction mode (SMPP v3.4 section 2.10.3): the response tells whether the message was delivered.
//!
//! The message is committed like any other and attempted once, within the transaction timer; the response waits for its
//! end. What is not delivered is answered with ESME_RDELIVERYFAILURE and, where the version has a place for it, the
//! reason. If leadership is lost meanwhile there is no answer, and the outcome is unknown to the ESME.

use std::io;
use std::time::Duration;

use smsc_proto::command::CommandId;
use smsc_proto::pdu::{Body, DataSmResp, SubmitSmResp};
use smsc_proto::session::Ticket;
use smsc_proto::status::CommandStatus;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::InterfaceVersion;
use smsc_raft::model::{FinalRecord, MessageState};

use super::Connection;
use super::replies::{Reply, accepted, message_id};
use crate::delivery::receipt::network_error;
use crate::smpp::ports::Found;
use crate::smpp::submit::transaction_timer;

/// How much longer than the transaction timer an attempt that is under way by then may take to end: messages that expire
/// are looked for twice a second.
const MARGIN: Duration = Duration::from_secs(2);

/// Values of delivery_failure_reason (SMPP v3.4 section 5.3.2.33).
const DESTINATION_UNAVAILABLE: u8 = 0;
const PERMANENT_NETWORK_ERROR: u8 = 2;
const TEMPORARY_NETWORK_ERROR: u8 = 3;

impl Connection {
    /// Has the message's end told to this connection, once.
    pub(super) fn await_end(&self, ticket: Ticket, id: u64, sets_pending: bool) {
        let within = transaction_timer(&self.shared.centre.directory().settings) + MARGIN;
        let end = self.shared.centre.outcome(id, within);
        let replies = self.to_replies.clone();
        // Ends by itself, soon; a connection that has ended waits for nothing.
        tokio::spawn(async move {
            let found = end.await;
            let _ = replies.send(Reply::End { ticket, id, sets_pending, found });
        });
    }

    pub(super) fn answer_transaction(&mut self, ticket: Ticket, id: u64, sets_pending: bool, found: io::Result<Found>) {
        // It is stored, whatever became of it.
        self.shared.metrics.submit_accepted();
        let command_id = ticket.command_id();
        let failure = match found {
            Ok(Found::Final(record)) => failure_of(&record, sets_pending),
            // Under way still: what becomes of it is not known.
            Ok(Found::Waiting(_) | Found::Unknown) | Err(_) => {
                Some(Failure { reason: TEMPORARY_NETWORK_ERROR, error: 0, pending: sets_pending.then_some(false) })
            }
        };
        match failure {
            None => self.session.respond(ticket, CommandStatus::ESME_ROK, accepted(command_id, id)),
            Some(failure) => {
                let body = failure.body(command_id, id, self.session.peer_version());
                self.session.respond(ticket, CommandStatus::ESME_RDELIVERYFAILURE, body);
            }
        }
    }
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    /// delivery_failure_reason.
    reason: u8,
    /// network_error_code as the records keep it.
    error: u32,
    /// dpf_result (SMPP v3.4 section 5.3.2.28): whether the delivery pending flag that was asked for is set; `None` if
    /// none was.
    pending: Option<bool>,
}

/// `None` for a message that was delivered.
fn failure_of(record: &FinalRecord, sets_pending: bool) -> Option<Failure> {
    let reason = match record.state() {
        MessageState::Delivered | MessageState::Accepted => return None,
        MessageState::Expired => DESTINATION_UNAVAILABLE,
        MessageState::Undeliverable | MessageState::Rejected => PERMANENT_NETWORK_ERROR,
        _ => TEMPORARY_NETWORK_ERROR,
    };
    let pending = sets_pending.then_some(record.delivery_pending);
    Some(Failure { reason, error: record.error, pending })
}

impl Failure {
    /// The body of the response: data_sm_resp has a place for the reason, submit_sm_resp since v5.0.
    fn body(self, command_id: CommandId, id: u64, version: InterfaceVersion) -> Body {
        let mut tlvs = Tlvs::new();
        tlvs.push_u8(Tag::DELIVERY_FAILURE_REASON, self.reason);
        if let Some(code) = network_error(self.error) {
            tlvs.push(Tag::NETWORK_ERROR_CODE, &code.to_octets()).expect("three octets fit");
        }
        if let Some(pending) = self.pending {
            tlvs.push_u8(Tag::DPF_RESULT, u8::from(pending));
        }
        match command_id {
            CommandId::DATA_SM => Body::DataSmResp(DataSmResp { message_id: Some(message_id(id)), tlvs }),
            _ if version >= InterfaceVersion::V5_0 => {
                Body::SubmitSmResp(SubmitSmResp { message_id: Some(message_id(id)), tlvs })
            }
            _ => Body::SubmitSmResp(SubmitSmResp::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_where_there_is_a_place_for_it() {
        let record = |state: MessageState, error| FinalRecord { state: state as i32, error, ..FinalRecord::default() };
        assert_eq!(failure_of(&record(MessageState::Delivered, 0), true), None);
        assert_eq!(
            failure_of(&record(MessageState::Expired, 0), false).expect("failed").reason,
            DESTINATION_UNAVAILABLE
        );
        let absent = record(MessageState::Undeliverable, 3 << 16 | 27);
        let failure = failure_of(&absent, false).expect("failed");
        let tlvs = match failure.body(CommandId::DATA_SM, 7, InterfaceVersion::V3_4) {
            Body::DataSmResp(resp) => resp.tlvs,
            other => panic!("{other:?}"),
        };
        assert_eq!(tlvs.as_bytes(), b"\x04\x25\0\x01\x02\x04\x23\0\x03\x03\0\x1b");
        for (is_set, octet) in [(false, 0), (true, 1)] {
            let record = FinalRecord { delivery_pending: is_set, ..absent.clone() };
            let failure = failure_of(&record, true).expect("failed");
            let Body::DataSmResp(resp) = failure.body(CommandId::DATA_SM, 7, InterfaceVersion::V3_4) else { panic!() };
            assert_eq!(resp.tlvs.dpf_result(), Some(octet));
        }
        let submit = |version| match failure.body(CommandId::SUBMIT_SM, 7, version) {
            Body::SubmitSmResp(resp) => resp,
            other => panic!("{other:?}"),
        };
        assert_eq!(submit(InterfaceVersion::V3_4), SubmitSmResp::default());
        assert_eq!(submit(InterfaceVersion::V5_0).tlvs, tlvs);
    }
}
