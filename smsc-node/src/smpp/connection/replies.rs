//! Outcomes of what was proposed, turned into answers.

use std::io;
use std::sync::Arc;

use smsc_proto::command::CommandId;
use smsc_proto::pdu::{
    Body, CancelSmResp, DataSmResp, ReplaceSmResp, SubmitMultiResp, SubmitMultiResult, SubmitSmResp,
};
use smsc_proto::session::Ticket;
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::types::{BindMode, MessageId, UnsuccessSme};
use smsc_raft::model::{Account, Message};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::ProposeError;

use super::Connection;
use super::requests::{Asked, NextCancel, Pending};
use crate::metrics::{BindResult, SubmitResult};
use crate::smpp::ports::Found;
use crate::smpp::status::{BindRefusal, SubmitRefusal, Unproposed};

/// What comes back from the store.
pub(super) enum Reply {
    /// Of a bind.
    Bind { account: Arc<Account>, mode: BindMode, outcome: Result<Option<Outcome>, ProposeError> },
    /// Of the requests of one read.
    Group { pending: Vec<Pending>, result: Result<Vec<Outcome>, ProposeError> },
    /// Of messages that other message centres were to cancel: whether any is ended by now.
    CalledBack { ticket: Ticket, cancelled: bool, next: Option<Box<NextCancel>> },
    /// Of a message in transaction mode: what it is at its end, or when the wait for it is over.
    End { ticket: Ticket, id: u64, sets_pending: bool, found: io::Result<Found> },
}

impl Connection {
    /// Answers this and whatever else has come back, so that all of it is written at once.
    pub(super) fn take_replies(&mut self, first: Reply) {
        self.session.set_congestion(Some(self.shared.centre.load_percent()));
        let mut next = Some(first);
        while let Some(reply) = next {
            match reply {
                Reply::Bind { account, mode, outcome } => self.take_bind(account, mode, outcome),
                Reply::Group { pending, result } => self.take_group(pending, result),
                Reply::CalledBack { ticket, cancelled, next } => self.cancelled(ticket, cancelled, next),
                Reply::End { ticket, id, sets_pending, found } => {
                    self.answer_transaction(ticket, id, sets_pending, found);
                }
            }
            next = self.replies.try_recv().ok();
        }
    }

    fn take_bind(&mut self, account: Arc<Account>, mode: BindMode, outcome: Result<Option<Outcome>, ProposeError>) {
        let refusal = match outcome {
            Ok(Some(Outcome::SessionOpened(id))) => return self.accept_bind(account, mode, id),
            Ok(Some(Outcome::TooManyBinds)) => BindRefusal::TooManyBinds,
            Ok(_) => return self.refuse_bind(RefusalStatus::ESME_RSYSERR, BindResult::Other),
            Err(error) => match Unproposed::from(&error) {
                Unproposed::Overloaded => BindRefusal::Overloaded,
                Unproposed::Unknown => return self.give_up(&error),
            },
        };
        tracing::info!(peer = %self.peer, system_id = account.system_id, %mode, %refusal, "bind refused");
        self.refuse_bind(refusal.status(), refusal.result());
    }

    fn take_group(&mut self, pending: Vec<Pending>, result: Result<Vec<Outcome>, ProposeError>) {
        let mut outcomes = match result {
            Ok(outcomes) => outcomes.into_iter(),
            Err(error) => match Unproposed::from(&error) {
                Unproposed::Overloaded => {
                    for waiting in pending {
                        self.refuse_submission(waiting.ticket, &SubmitRefusal::Overloaded);
                    }
                    return;
                }
                Unproposed::Unknown => {
                    let submissions = pending.iter().filter(|waiting| waiting.asked.is_submission()).count();
                    self.shared.metrics.submits.add(SubmitResult::Unknown, submissions as u64);
                    return self.give_up(&error);
                }
            },
        };
        let now = self.shared.clock.mono();
        for waiting in pending {
            let own: Vec<Outcome> = outcomes.by_ref().take(waiting.asked.outcomes()).collect();
            if waiting.asked.is_submission() {
                self.shared.metrics.submit_latency.observe(now.saturating_since(waiting.received_at));
            }
            self.answer(waiting, &own);
        }
    }

    /// What was asked may have happened or not: nobody can be told anything, so the connection ends.
    fn give_up(&mut self, error: &ProposeError) {
        tracing::info!(peer = %self.peer, %error, "closing without an answer");
        self.session.close();
    }

    fn answer(&mut self, waiting: Pending, outcomes: &[Outcome]) {
        let Pending { ticket, asked, .. } = waiting;
        let metrics = &self.shared.metrics;
        let answer = match (asked, outcomes) {
            (Asked::Transaction { sets_pending }, [Outcome::Stored(id)]) => {
                return self.await_end(ticket, *id, sets_pending);
            }
            (Asked::Submit, [Outcome::Stored(id)]) => {
                metrics.submit_accepted();
                Ok(accepted(ticket.command_id(), *id))
            }
            (Asked::Multi { refused, .. }, [Outcome::Stored(first), ..]) => {
                metrics.submit_accepted();
                Ok(accepted_multi(*first, refused))
            }
            (Asked::Submit | Asked::Transaction { .. } | Asked::Multi { .. }, _) => {
                metrics.submits.inc(SubmitResult::Other);
                Err(RefusalStatus::ESME_RSUBMITFAIL)
            }
            (Asked::Cancel { cancelled, next, .. }, outcomes) => {
                let cancelled = cancelled || outcomes.iter().any(is_finished);
                let elsewhere: Vec<_> = outcomes.iter().filter_map(elsewhere).collect();
                return match elsewhere.is_empty() {
                    true => self.cancelled(ticket, cancelled, next),
                    false => self.call_back(ticket, elsewhere, cancelled, next),
                };
            }
            (Asked::Replace { .. }, outcomes) if outcomes.iter().any(is_replaced) => {
                Ok(Body::ReplaceSmResp(ReplaceSmResp::default()))
            }
            (Asked::Replace { .. }, _) => Err(RefusalStatus::ESME_RREPLACEFAIL),
        };
        match answer {
            Ok(body) => self.session.respond(ticket, CommandStatus::ESME_ROK, body),
            Err(status) => self.session.refuse(ticket, status),
        }
    }

    /// Asks the message centres that have these messages to cancel them.
    fn call_back(&self, ticket: Ticket, messages: Vec<Arc<Message>>, cancelled: bool, next: Option<Box<NextCancel>>) {
        let called = self.shared.centre.call_back(messages);
        let replies = self.to_replies.clone();
        // Ends by itself, soon; a connection that has ended waits for nothing.
        tokio::spawn(async move {
            let cancelled = called.await || cancelled;
            let _ = replies.send(Reply::CalledBack { ticket, cancelled, next });
        });
    }

    /// A round of a cancel_sm is done; `cancelled` tells whether anything was ended by now.
    fn cancelled(&mut self, ticket: Ticket, cancelled: bool, next: Option<Box<NextCancel>>) {
        match next {
            Some(mut next) => {
                next.cancelled |= cancelled;
                self.cancel(ticket, *next);
            }
            None if cancelled => {
                self.session.respond(ticket, CommandStatus::ESME_ROK, Body::CancelSmResp(CancelSmResp::default()));
            }
            None => self.session.refuse(ticket, RefusalStatus::ESME_RCANCELFAIL),
        }
    }
}

/// A message that could not be cancelled because another message centre has it.
fn elsewhere(outcome: &Outcome) -> Option<Arc<Message>> {
    match outcome {
        Outcome::Waiting(message) if message.handed.is_some() => Some(Arc::new((**message).clone())),
        _ => None,
    }
}

fn is_finished(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Finished { .. })
}

fn is_replaced(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored(_))
}

pub(super) fn accepted(command_id: CommandId, id: u64) -> Body {
    let message_id = Some(message_id(id));
    match command_id {
        CommandId::DATA_SM => Body::DataSmResp(DataSmResp { message_id, ..DataSmResp::default() }),
        _ => Body::SubmitSmResp(SubmitSmResp { message_id, ..SubmitSmResp::default() }),
    }
}

/// submit_multi has one message_id for all destinations. Each is a message of its own here; those of one submit_multi
/// are stored in one step and have consecutive ids, of which the first is told.
fn accepted_multi(first: u64, unsuccess_smes: Vec<UnsuccessSme>) -> Body {
    let result = SubmitMultiResult { message_id: message_id(first), unsuccess_smes };
    Body::SubmitMultiResp(SubmitMultiResp { result: Some(result), ..SubmitMultiResp::default() })
}

pub(super) fn message_id(id: u64) -> MessageId {
    MessageId::new(id.to_string()).expect("a decimal number is short and holds no NUL")
}
