//! Requests of the ESME: answered at once from what is known, or gathered into the group of this read.

use std::sync::Arc;

use bytes::Bytes;
use smsc_proto::pdu::{
    Body, CancelSm, CancelSmResp, QuerySm, QuerySmResp, QuerySmResult, ReplaceSm, SubmitMulti, SubmitMultiResp,
    SubmitMultiResult, SubmitSm,
};
use smsc_proto::session::Ticket;
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::text::UserDataHeader;
use smsc_proto::time::MonoTime;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{EsmClass, MessagingMode, UnsuccessSme};
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Account, Command, Message, Submission, Submit, command::Op};

use super::replies::Reply;
use super::{Bound, Connection, Stop};
use crate::metrics::SubmitResult;
use crate::smpp::broadcast;
use crate::smpp::multi::{self, Sorted};
use crate::smpp::ports::{Directory, Found};
use crate::smpp::query::{self, CancelTarget};
use crate::smpp::rate::Rate;
use crate::smpp::status::{BroadcastRefusal, SubmitRefusal};
use crate::smpp::submit::{self, Submitter};

/// Messages that one command of cancel_sm by addresses ends; more are ended in further rounds, one after the other.
const CANCEL_AT_ONCE: usize = 256;

/// What was read and is to be proposed together, and who waits for it.
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
    /// The same in transaction mode: one outcome, and then the message's end is waited for. Whether it asks for a
    /// delivery pending flag if it fails.
    Transaction { sets_pending: bool },
    /// submit_multi: an outcome for each destination that was not refused at once.
    Multi { count: usize, refused: Vec<UnsuccessSme> },
    /// cancel_sm: an outcome for each message that it means; whether a round before ended any, and the next round.
    Cancel { count: usize, cancelled: bool, next: Option<Box<NextCancel>> },
    /// replace_sm: an outcome for each message that it means.
    Replace { count: usize },
}

impl Asked {
    pub(super) fn outcomes(&self) -> usize {
        match self {
            Asked::Multi { count, .. } | Asked::Cancel { count, .. } | Asked::Replace { count } => *count,
            Asked::Submit | Asked::Transaction { .. } => 1,
        }
    }

    pub(super) fn is_submission(&self) -> bool {
        matches!(self, Asked::Submit | Asked::Transaction { .. } | Asked::Multi { .. })
    }
}

/// A cancel_sm by addresses that means more messages than one command ends.
pub(super) struct NextCancel {
    request: CancelSm,
    /// Messages before this id were ended, or could not be.
    from: u64,
    /// Whether any was.
    pub cancelled: bool,
}

impl Connection {
    pub(super) fn request(&mut self, ticket: Ticket, body: Body) {
        match body {
            Body::SubmitSm(submit) => self.submit(ticket, Ok(submit)),
            Body::DataSm(data) => self.submit(ticket, submit::of_data_sm(data)),
            Body::SubmitMulti(multi) => self.submit_multi(ticket, &multi),
            Body::QuerySm(query) => self.query(ticket, &query),
            Body::CancelSm(cancel) => {
                self.cancel(ticket, NextCancel { request: cancel, from: 0, cancelled: false });
            }
            Body::ReplaceSm(replace) => self.replace(ticket, &replace),
            Body::BroadcastSm(broadcast) => {
                self.session.refuse(ticket, broadcast::refusal(&broadcast).status());
            }
            Body::QueryBroadcastSm(_) => self.session.refuse(ticket, BroadcastRefusal::NothingToQuery.status()),
            Body::CancelBroadcastSm(_) => self.session.refuse(ticket, BroadcastRefusal::NothingToCancel.status()),
            _ => self.session.refuse(ticket, RefusalStatus::ESME_RINVCMDID),
        }
    }

    /// Proposes what was gathered, all in one log entry; held back while deliveries are behind, when more may join it.
    /// Nothing is held back of a session that `ends`: what was taken is stored, though nobody hears of it.
    pub(super) fn propose_group(&mut self, ends: bool) {
        self.group.directory = None;
        if self.group.commands.is_empty() || (!ends && self.holds_back()) {
            return;
        }
        let Group { commands, pending, .. } = std::mem::take(&mut self.group);
        let replies = self.to_replies.clone();
        let done = move |result| {
            // A connection that has ended waits for nothing.
            let _ = replies.send(Reply::Group { pending, result });
        };
        self.shared.centre.propose_group(commands, Box::new(done));
    }

    /// Whether what was gathered is to wait.
    fn holds_back(&mut self) -> bool {
        if self.stop != Stop::GoOn {
            self.held_until = None;
            return false;
        }
        let now = self.shared.clock.mono();
        match self.held_until {
            Some(until) if until > now => true,
            Some(_) => {
                self.held_until = None;
                false
            }
            None => {
                let hold = self.shared.centre.hold_back();
                let submits = || self.group.commands.iter().any(|command| matches!(command.op, Some(Op::Submit(_))));
                self.held_until = (!hold.is_zero() && submits()).then(|| now + hold);
                self.held_until.is_some()
            }
        }
    }

    fn directory(&mut self) -> Arc<Directory> {
        let centre = &self.shared.centre;
        self.group.directory.get_or_insert_with(|| centre.directory()).clone()
    }

    fn submit(&mut self, ticket: Ticket, submit: Result<SubmitSm, SubmitRefusal>) {
        let asked = match &submit {
            Ok(submit) if submit.esm_class.mode() == MessagingMode::Forward => {
                Asked::Transaction { sets_pending: submit.tlvs.set_dpf() == Some(1) }
            }
            _ => Asked::Submit,
        };
        match submit.and_then(|submit| self.check_submission(&submit)) {
            Ok(submission) => {
                self.group.commands.push(submit_command(submission));
                self.wait_for_outcome(ticket, asked);
            }
            Err(refusal) => self.refuse_submission(ticket, &refusal),
        }
    }

    fn submit_multi(&mut self, ticket: Ticket, request: &SubmitMulti) {
        match self.sort_multi(request) {
            Err(refusal) => self.refuse_submission(ticket, &refusal),
            Ok(Sorted { accepted, refused }) if accepted.is_empty() => {
                self.shared.metrics.submits.inc(SubmitResult::Destination);
                let result = SubmitMultiResult { unsuccess_smes: refused, ..SubmitMultiResult::default() };
                let resp = SubmitMultiResp { result: Some(result), ..SubmitMultiResp::default() };
                self.session.respond(ticket, CommandStatus::ESME_RSUBMITFAIL, Body::SubmitMultiResp(resp));
            }
            Ok(Sorted { accepted, refused }) => {
                let count = accepted.len();
                self.group.commands.extend(accepted.into_iter().map(submit_command));
                self.wait_for_outcome(ticket, Asked::Multi { count, refused });
            }
        }
    }

    fn sort_multi(&mut self, request: &SubmitMulti) -> Result<Sorted, SubmitRefusal> {
        let directory = self.directory();
        let (bound, submitter) = self.submitter(&directory)?;
        let clock = &self.shared.clock;
        let continues = continues(request.esm_class, &request.short_message, &request.tlvs);
        let admit = |submission: &Submission| self.admit(bound, submitter.account, &directory, submission, continues);
        multi::sort(request, submitter, &directory, clock.wall(), admit)
    }

    fn check_submission(&mut self, submit: &SubmitSm) -> Result<Submission, SubmitRefusal> {
        let directory = self.directory();
        let (bound, submitter) = self.submitter(&directory)?;
        let clock = &self.shared.clock;
        let submission = submit::submission(submit, submitter, &directory, clock.wall())?;
        let continues = continues(submit.esm_class, &submit.short_message, &submit.tlvs);
        self.admit(bound, submitter.account, &directory, &submission, continues)?;
        Ok(submission)
    }

    /// Whether the account may submit this now. What is refused for its length of queue does not use up the rate, nor
    /// does what is wrong anyway.
    fn admit(
        &self,
        bound: &Bound,
        account: &Account,
        directory: &Directory,
        submission: &Submission,
        continues: bool,
    ) -> Result<(), SubmitRefusal> {
        self.check_room(account, directory, submission)?;
        let within_rate = bound.bucket.take(rate(account), continues, self.shared.clock.mono());
        if within_rate { Ok(()) } else { Err(SubmitRefusal::Rate) }
    }

    /// Who submits in this session, with the account as the directory has it.
    fn submitter<'a>(&'a self, directory: &'a Directory) -> Result<(&'a Bound, Submitter<'a>), SubmitRefusal> {
        let bound = self.bound.as_ref().ok_or(SubmitRefusal::AccountGone)?;
        let account = directory.accounts.get(&bound.account.system_id).filter(|account| !account.disabled);
        let account = account.ok_or(SubmitRefusal::AccountGone)?;
        let version = self.session.peer_version();
        Ok((bound, Submitter { account, version, session_id: bound.session_id }))
    }

    /// Whether one message more may wait, by the operator's limits. Messages that are on their way into the log are not
    /// counted: sessions may go above a limit by as much as their windows hold.
    fn check_room(
        &self,
        account: &Account,
        directory: &Directory,
        submission: &Submission,
    ) -> Result<(), SubmitRefusal> {
        let settings = &directory.settings;
        let account_max = if account.waiting_max == 0 { settings.account_waiting_max } else { account.waiting_max };
        let number_max = settings.number_waiting_max;
        if account_max == 0 && number_max == 0 {
            return Ok(());
        }
        let queue = QueueKey::of(submission);
        let waiting = self.shared.centre.waiting(&account.system_id, &queue).map_err(|_| SubmitRefusal::Overloaded)?;
        let full = |limit: u64, waiting: u64| limit > 0 && waiting >= limit;
        if full(account_max, waiting.of_account) || (!queue.is_esme() && full(number_max, waiting.in_queue)) {
            return Err(SubmitRefusal::QueueFull);
        }
        Ok(())
    }

    pub(super) fn refuse_submission(&mut self, ticket: Ticket, refusal: &SubmitRefusal) {
        self.shared.metrics.submits.inc(refusal.result());
        tracing::debug!(peer = %self.peer, sequence = %ticket.sequence(), %refusal, "submission refused");
        self.session.refuse(ticket, refusal.status());
    }

    fn query(&mut self, ticket: Ticket, request: &QuerySm) {
        match self.query_result(request) {
            Ok(result) => {
                let resp = QuerySmResp { result: Some(result), ..QuerySmResp::default() };
                self.session.respond(ticket, CommandStatus::ESME_ROK, Body::QuerySmResp(resp));
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    fn query_result(&self, request: &QuerySm) -> Result<QuerySmResult, RefusalStatus> {
        let version = self.session.peer_version();
        let account = self.account().ok_or(RefusalStatus::ESME_RQUERYFAIL)?;
        let id = query::id_of(&request.message_id).ok_or(RefusalStatus::ESME_RINVMSGID)?;
        let first = self.find(id)?;
        let mut result = query::query(request, &account, &first, version)?;
        for id in query::ids(id, &first).skip(1) {
            if !query::is_final(&result) {
                break;
            }
            // One that is forgotten by now says nothing against the others.
            if let Ok(next) = query::query(request, &account, &self.find(id)?, version) {
                result = query::together(result, next);
            }
        }
        Ok(result)
    }

    /// A failing disk stops the node; until then nothing is told.
    fn find(&self, id: u64) -> Result<Found, RefusalStatus> {
        self.shared.centre.find(id).map_err(|_| RefusalStatus::ESME_RSYSERR)
    }

    /// Ends what a cancel_sm means, or goes on with it.
    pub(super) fn cancel(&mut self, ticket: Ticket, step: NextCancel) {
        let cancelled = step.cancelled;
        match self.cancel_step(step) {
            Ok((commands, _)) if commands.is_empty() => {
                self.session.respond(ticket, CommandStatus::ESME_ROK, Body::CancelSmResp(CancelSmResp::default()));
            }
            Ok((commands, next)) => {
                let count = commands.len();
                self.group.commands.extend(commands);
                self.wait_for_outcome(ticket, Asked::Cancel { count, cancelled, next });
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    /// The commands of one round, and the next one if there may be one. No commands: everything is ended.
    fn cancel_step(&mut self, step: NextCancel) -> Result<(Vec<Command>, Option<Box<NextCancel>>), RefusalStatus> {
        let NextCancel { request, mut from, cancelled } = step;
        let account = self.account().ok_or(RefusalStatus::ESME_RCANCELFAIL)?;
        let target = CancelTarget::of(&request, &account)?;
        let (directory, now) = (self.directory(), self.shared.clock.wall());
        loop {
            let (messages, more) = match &target {
                CancelTarget::Id(id) => (self.waiting(*id)?, None),
                CancelTarget::Between(between) => {
                    let found = self.shared.centre.addressed(&account.system_id, between, from, CANCEL_AT_ONCE);
                    let found = found.map_err(|_| RefusalStatus::ESME_RSYSERR)?;
                    let more = found.last().filter(|_| found.len() == CANCEL_AT_ONCE).map(|last| last.id + 1);
                    (found, more)
                }
            };
            let finish = |message: &Arc<Message>| query::cancel(&request, &account, message, &directory, now).ok();
            let commands: Vec<_> = messages.iter().filter_map(finish).map(Op::Finish).map(command).collect();
            match more {
                // All of them were between other types of number.
                Some(next) if commands.is_empty() => from = next,
                None if commands.is_empty() && !cancelled => return Err(RefusalStatus::ESME_RCANCELFAIL),
                _ => {
                    let next = more.map(|from| Box::new(NextCancel { request, from, cancelled }));
                    return Ok((commands, next));
                }
            }
        }
    }

    fn replace(&mut self, ticket: Ticket, request: &ReplaceSm) {
        match self.replacements(request) {
            Ok(commands) => {
                let count = commands.len();
                self.group.commands.extend(commands);
                self.wait_for_outcome(ticket, Asked::Replace { count });
            }
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    fn replacements(&mut self, request: &ReplaceSm) -> Result<Vec<Command>, RefusalStatus> {
        let (directory, now) = (self.directory(), self.shared.clock.wall());
        let version = self.session.peer_version();
        let account = self.account().ok_or(RefusalStatus::ESME_RREPLACEFAIL)?;
        let id = query::id_of(&request.message_id).ok_or(RefusalStatus::ESME_RINVMSGID)?;
        let replace = |message: &Arc<Message>| query::replace(request, &account, message, version, &directory, now);
        let replaces: Vec<_> = self.waiting(id)?.iter().map(replace).collect::<Result<_, _>>()?;
        match replaces.is_empty() {
            true => Err(RefusalStatus::ESME_RREPLACEFAIL),
            false => Ok(replaces.into_iter().map(Op::Replace).map(command).collect()),
        }
    }

    /// The messages that wait of those that an id stands for.
    fn waiting(&self, id: u64) -> Result<Vec<Arc<Message>>, RefusalStatus> {
        let first = self.find(id)?;
        let mut waiting = Vec::new();
        for further in query::ids(id, &first).skip(1) {
            if let Found::Waiting(message) = self.find(further)? {
                waiting.push(message);
            }
        }
        if let Found::Waiting(message) = first {
            waiting.insert(0, message);
        }
        Ok(waiting)
    }

    fn wait_for_outcome(&mut self, ticket: Ticket, asked: Asked) {
        let received_at = self.shared.clock.mono();
        self.group.pending.push(Pending { ticket, received_at, asked });
    }
}

fn submit_command(submission: Submission) -> Command {
    command(Op::Submit(Submit { submission: Some(submission) }))
}

fn command(op: Op) -> Command {
    Command { op: Some(op) }
}

/// How much the account may submit.
fn rate(account: &Account) -> Rate {
    Rate { per_s: account.rate_per_s, burst: account.session.as_ref().map_or(0, |policy| policy.burst) }
}

/// Whether this is a part of a long message, and not its first: by sar_segment_seqnum, or by its user data header.
fn continues(esm_class: EsmClass, short_message: &Bytes, tlvs: &Tlvs) -> bool {
    if let Some(part) = tlvs.value::<u8>(Tag::SAR_SEGMENT_SEQNUM) {
        return part > 1;
    }
    if !esm_class.udhi() {
        return false;
    }
    let payload = tlvs.message_payload().filter(|_| short_message.is_empty());
    let header = UserDataHeader::parse(payload.as_ref().unwrap_or(short_message));
    header.is_ok_and(|(header, _)| header.concatenation().is_some_and(|part| part.sequence > 1))
}
