//! What a session tells its owner.

use thiserror::Error;

use super::state::{Side, State};
use super::window::Ticket;
use crate::command::CommandId;
use crate::error::{EncodeError, FrameError};
use crate::pdu::{AlertNotification, Bind, BindResp, Body, Outbind, Pdu};
use crate::status::RefusalStatus;
use crate::types::BindMode;

/// Something the owner of the session has to act upon.
#[derive(Debug)]
pub enum Event {
    /// Message centre: an ESME asks to be bound. Answer with `bind_accept` or `bind_refuse`; nothing further is read
    /// until then.
    BindRequested {
        /// What for.
        mode: BindMode,
        /// Who, and how it proves it.
        bind: Box<Bind>,
    },
    /// ESME: the bind was accepted.
    Bound {
        /// What for.
        mode: BindMode,
        /// The message centre's answer.
        resp: BindResp,
    },
    /// ESME: the bind was refused. The session is open and may bind again.
    BindRefused {
        /// Why.
        status: RefusalStatus,
    },
    /// A request that is allowed here and within the window: answer it with `respond` or `refuse`.
    Request {
        /// Pays for the answer.
        ticket: Ticket,
        /// The operation and its parameters. They share the receive buffer: detach what is kept for long.
        body: Body,
    },
    /// The peer answered a request of ours, positively or not.
    Answered {
        /// What the request was called when it was made.
        token: u64,
        /// The answer; a generic_nack where the peer sent that.
        answer: Box<Pdu>,
    },
    /// A request of ours got no answer: within the response timeout, or before the session ended. Whether the peer has
    /// acted on it is not known.
    Lost {
        /// What the request was called when it was made.
        token: u64,
    },
    /// ESME: the message centre invites to bind.
    Outbind(Box<Outbind>),
    /// ESME: a subscriber is there again.
    Alert(Box<AlertNotification>),
    /// The peer unbinds: no further request can be made. The requests it has open can still be answered; when they are,
    /// or the response timeout is over, [`Event::Closed`] follows.
    Unbinding,
    /// The last event. Write what is left in the output, then close the connection.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CloseReason {
    /// One side asked, the other agreed.
    #[error("unbound")]
    Unbound,
    /// The owner closed it.
    #[error("closed by this side")]
    Closed,
    /// The connection ended without unbind.
    #[error("the connection ended without unbind")]
    Disconnected,
    /// No bind came within the session_init time.
    #[error("no bind within the session_init time")]
    SessionInit,
    /// No transaction within the inactivity time.
    #[error("no transaction within the inactivity time")]
    Inactivity,
    /// The peer left an enquire_link unanswered and was silent.
    #[error("enquire_link was not answered")]
    EnquireLink,
    /// Our bind or unbind was not answered, or nothing was for several response times.
    #[error("{0} was not answered")]
    NoAnswer(CommandId),
    /// The octets are no PDUs.
    #[error("{0}")]
    Malformed(FrameError),
}

/// Why a request was not sent. The session is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// As many requests wait for their answer as may: send it again after the next answer.
    #[error("the window is full")]
    WindowFull,
    /// The operation is not allowed to this side now.
    #[error("{command_id} may not be sent by the {side} in state {state:?}")]
    NotAllowed {
        /// The operation.
        command_id: CommandId,
        /// This side.
        side: Side,
        /// Where the session stands.
        state: State,
    },
    /// The request does not fit on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// There is no bind of the peer to answer: the session has ended, or the bind was answered before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no bind waits for an answer, the session is in state {state:?}")]
pub struct NoBind {
    /// Where the session stands.
    pub state: State,
}
