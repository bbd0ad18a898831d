//! Requests of the ESME: answered at once from what is known, or gathered into the group of this read.

use std::sync::Arc;

use smsc_proto::pdu::{
    Body, CancelSm, QuerySm, QuerySmResp, ReplaceSm, SubmitMulti, SubmitMultiResp, SubmitMultiResult, SubmitSm,
};
use smsc_proto::session::Ticket;
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::time::MonoTime;
use smsc_proto::types::{Address, UnsuccessSme};
use smsc_raft::model::{Command, Submission, Submit, command::Op};

use super::Connection;
use super::replies::Reply;
use crate::metrics::SubmitResult;
use crate::smpp::ports::{Directory, Found};
use crate::smpp::query;
use crate::smpp::status::SubmitRefusal;
use crate::smpp::submit::{self, Submitter};

/// What one read gave to propose, and who waits for it.
#[derive(Default)]
pub(super) struct Group {
    commands: Vec<Command>,
    pending: Vec<Pending>,
    /// As it was for the first request of the read: so that all of a read is checked against the same.
    directory: Option<Arc<Directory>>,
}

/// A request that waits for the outcome of its commands.
pub(super) struct Pending {
    pub ticket: Ticket,
    pub received_at: MonoTime,
    pub asked: Asked,
}

/// What was asked, and so how many outcomes belong to it.
pub(super) enum Asked {
    /// submit_sm or data_sm: one outcome.
    Submit,
    /// submit_multi: an outcome for each destination that was not refused at once.
    Multi { count: usize, refused: Vec<UnsuccessSme> },
    /// cancel_sm: one outcome.
    Cancel,
    /// replace_sm: one outcome.
    Replace,
}

impl Asked {
    pub(super) fn outcomes(&self) -> usize {
        match self {
            Asked::Multi { count, .. } => *count,
            Asked::Submit | Asked::Cancel | Asked::Replace => 1,
        }
    }

    pub(super) fn is_submission(&self) -> bool {
        matches!(self, Asked::Submit | Asked::Multi { .. })
    }
}

impl Connection {
    pub(super) fn request(&mut self, ticket: Ticket, body: Body) {
        match body {
            Body::SubmitSm(submit) => self.submit(ticket, Ok(submit)),
            Body::DataSm(data) => self.submit(ticket, submit::of_data_sm(data)),
            Body::SubmitMulti(multi) => self.submit_multi(ticket, &multi),
            Body::QuerySm(query) => self.query(ticket, &query),
            Body::CancelSm(cancel) => self.cancel(ticket, &cancel),
            Body::ReplaceSm(replace) => self.replace(ticket, &replace),
            // There is no cell broadcast here.
            Body::BroadcastSm(broadcast) => {
                let status = match broadcast.missing_tlv() {
                    Some(_) => RefusalStatus::ESME_RMISSINGTLV,
                    None => RefusalStatus::ESME_RBCASTFAIL,
                };
                self.session.refuse(ticket, status);
            }
            Body::QueryBroadcastSm(_) => self.session.refuse(ticket, RefusalStatus::ESME_RBCASTQUERYFAIL),
            Body::CancelBroadcastSm(_) => self.session.refuse(ticket, RefusalStatus::ESME_RBCASTCANCELFAIL),
            _ => self.session.refuse(ticket, RefusalStatus::ESME_RINVCMDID),
        }
    }

    /// Proposes what was gathered, all in one log entry.
    pub(super) fn propose_group(&mut self) {
        let Group { commands, pending, .. } = std::mem::take(&mut self.group);
        if commands.is_empty() {
            return;
        }
        let replies = self.to_replies.clone();
        let done = move |result| {
            // A connection that has ended waits for nothing.
            let _ = replies.send(Reply::Group { pending, result });
        };
        self.shared.centre.propose_group(commands, Box::new(done));
    }

    fn directory(&mut self) -> Arc<Directory> {
        let centre = &self.shared.centre;
        self.group.directory.get_or_insert_with(|| centre.directory()).clone()
    }

    fn submit(&mut self, ticket: Ticket, submit: Result<SubmitSm, SubmitRefusal>) {
        match submit.and_then(|submit| self.check_submission(&submit)) {
            Ok(submission) => {
                self.group.commands.push(submit_command(submission));
                self.wait_for_outcome(ticket, Asked::Submit);
            }
            Err(refusal) => self.refuse_submission(ticket, &refusal),
        }
    }

    fn submit_multi(&mut self, ticket: Ticket, multi: &SubmitMulti) {
        if multi.dest_addresses.is_empty() {
            return self.refuse_submission(ticket, &SubmitRefusal::NoDestinations);
        }
        let mut refused = Vec::new();
        let mut count = 0;
        for (destination, submit) in submit::of_submit_multi(multi) {
            match submit.and_then(|submit| self.check_submission(&submit)) {
                Ok(submission) => {
                    self.group.commands.push(submit_command(submission));
                    count += 1;
                }
                Err(refusal) => refused.push(unsuccess(destination, refusal.status().get())),
            }
        }
        if count > 0 {
            return self.wait_for_outcome(ticket, Asked::Multi { count, refused });
        }
        self.shared.metrics.submits.inc(SubmitResult::Destination);
        let result = SubmitMultiResult { unsuccess_smes: refused, ..SubmitMultiResult::default() };
        let resp = SubmitMultiResp { result: Some(result), ..SubmitMultiResp::default() };
        self.session.respond(ticket, CommandStatus::ESME_RSUBMITFAIL, Body::SubmitMultiResp(resp));
    }

    fn check_submission(&mut self, submit: &SubmitSm) -> Result<Submission, SubmitRefusal> {
        let directory = self.directory();
        let version = self.session.peer_version();
        let bound = self.bound.as_ref().ok_or(SubmitRefusal::AccountGone)?;
        let account = directory.accounts.get(&bound.account.system_id).filter(|account| !account.disabled);
        let account = account.ok_or(SubmitRefusal::AccountGone)?;
        let clock = &self.shared.clock;
        let submission = submit::submission(submit, Submitter { account, version }, &directory, clock.wall())?;
        // What is wrong anyway does not use up the rate.
        if bound.bucket.take(account.rate_per_s, clock.mono()) { Ok(submission) } else { Err(SubmitRefusal::Rate) }
    }

    pub(super) fn refuse_submission(&mut self, ticket: Ticket, refusal: &SubmitRefusal) {
        self.shared.metrics.submits.inc(refusal.result());
        tracing::debug!(peer = %self.peer, sequence = %ticket.sequence(), %refusal, "submission refused");
        self.session.refuse(ticket, refusal.status());
    }

    fn query(&mut self, ticket: Ticket, request: &QuerySm) {
        let version = self.session.peer_version();
        let result = match (query::id_of(&request.message_id), &self.bound) {
            (Some(id), Some(bound)) => match self.shared.centre.find(id) {
                Ok(found) => query::query(request, &bound.account, &found, version),
                Err(_) => Err(RefusalStatus::ESME_RSYSERR),
            },
            _ => Err(RefusalStatus::ESME_RQUERYFAIL),
        };
        match result {
            Ok(result) => {
                let resp = QuerySmResp { result: Some(result), ..QuerySmResp::default() };
                self.session.respond(ticket, CommandStatus::ESME_ROK, Body::QuerySmResp(resp));
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    fn cancel(&mut self, ticket: Ticket, request: &CancelSm) {
        let directory = self.directory();
        let now = self.shared.clock.wall();
        let finish = match (self.waiting(&request.message_id), &self.bound) {
            (Some(message), Some(bound)) => query::cancel(request, &bound.account, &message, &directory, now),
            _ => Err(RefusalStatus::ESME_RCANCELFAIL),
        };
        match finish {
            Ok(finish) => {
                self.group.commands.push(Command { op: Some(Op::Finish(finish)) });
                self.wait_for_outcome(ticket, Asked::Cancel);
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    fn replace(&mut self, ticket: Ticket, request: &ReplaceSm) {
        let directory = self.directory();
        let now = self.shared.clock.wall();
        let replace = match (self.waiting(&request.message_id), &self.bound) {
            (Some(message), Some(bound)) => query::replace(request, &bound.account, &message, &directory, now),
            _ => Err(RefusalStatus::ESME_RREPLACEFAIL),
        };
        match replace {
            Ok(replace) => {
                self.group.commands.push(Command { op: Some(Op::Replace(replace)) });
                self.wait_for_outcome(ticket, Asked::Replace);
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    /// The message that waits under this id. A failing disk stops the node; until then nothing is found.
    fn waiting(&self, message_id: &smsc_proto::types::MessageId) -> Option<Arc<smsc_raft::model::Message>> {
        match self.shared.centre.find(query::id_of(message_id)?) {
            Ok(Found::Waiting(message)) => Some(message),
            Ok(Found::Final(_) | Found::Unknown) | Err(_) => None,
        }
    }

    fn wait_for_outcome(&mut self, ticket: Ticket, asked: Asked) {
        let received_at = self.shared.clock.mono();
        self.group.pending.push(Pending { ticket, received_at, asked });
    }
}

pub(super) fn unsuccess(destination: Address, status: CommandStatus) -> UnsuccessSme {
    UnsuccessSme {
        dest_addr_ton: destination.ton,
        dest_addr_npi: destination.npi,
        destination_addr: destination.addr,
        error_status_code: status,
    }
}

fn submit_command(submission: Submission) -> Command {
    Command { op: Some(Op::Submit(Submit { submission: Some(submission) })) }
}
