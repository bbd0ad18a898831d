//! What the SMPP server asks of the rest of the node: the replicated store, and whoever delivers.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Account, Command, DistributionList, FinalRecord, Message, Settings, Submission};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::ProposeError;
use tokio::sync::mpsc;

use super::serves::Serves;
use crate::delivery::route::Query;
pub use crate::delivery::route::Routed;

/// Called with the outcomes of a group, one for each command; runs where entries are applied and must be quick.
pub type Done = Box<dyn FnOnce(Result<Vec<Outcome>, ProposeError>) + Send>;

/// A message as the store has it.
#[derive(Debug)]
pub enum Found {
    /// No final state yet.
    Waiting(Arc<Message>),
    /// At its end.
    Final(Box<FinalRecord>),
    /// Not there, or forgotten.
    Unknown,
}

/// The messages that cancel_sm means when it names none: those between two numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// Digits of the source address.
    pub source: String,
    /// Digits of the destination address.
    pub destination: String,
    /// Only those of this service_type; empty for all.
    pub service_type: String,
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Messages that an account submitted.
    pub of_account: u64,
    /// Messages in a queue.
    pub in_queue: u64,
}

/// The replicated store.
pub trait Centre: Send + Sync + 'static {
    /// Proposes commands, all in one log entry.
    fn propose_group(&self, commands: Vec<Command>, done: Done);

    /// Looks a message up.
    ///
    /// # Errors
    /// The disk failed; the node stops.
    fn find(&self, id: u64) -> io::Result<Found>;

    /// Up to `limit` messages that wait and that `account` submitted from `source` to `destination`, of ids from `from`
    /// on, oldest first; of one service_type where one is named.
    ///
    /// # Errors
    /// As for [`Centre::find`].
    fn addressed(&self, account: &str, between: &Between, from: u64, limit: usize) -> io::Result<Vec<Arc<Message>>>;

    /// Waits until a message has come to its end, but no longer than `within`, and looks it up then.
    fn outcome(&self, id: u64, within: Duration) -> Pin<Box<dyn Future<Output = io::Result<Found>> + Send>>;

    /// Has other message centres cancel messages that they have accepted, and ends those that they do; whether any was.
    /// Takes as long as they may take to answer, and longer if much is asked of them at once.
    fn call_back(&self, messages: Vec<Arc<Message>>) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// How much waits.
    ///
    /// # Errors
    /// The disk failed; the node stops.
    fn waiting(&self, account: &str, queue: &QueueKey) -> io::Result<Waiting>;

    /// Accounts, routes and settings as they are now. Cheap: called for every read from a connection.
    fn directory(&self) -> Arc<Directory>;

    /// How much of what it can hold waits to be replicated or written: 0 for idle; at 100 submissions are refused.
    fn load_percent(&self) -> u8;

    /// How long submissions are to wait before they are proposed, because deliveries are behind.
    fn hold_back(&self) -> Duration;

    /// Whether messages for the receivers of an account wait.
    ///
    /// # Errors
    /// The disk failed; the node stops.
    fn has_messages(&self, account: &str) -> io::Result<bool>;
}

/// Where submissions go.
pub trait Routes: Send + Sync + 'static {
    /// Where a submission goes.
    ///
    /// # Errors
    /// Nowhere: the status that the submission earns.
    fn route(&self, query: &Query<'_>) -> Result<Routed, RefusalStatus>;

    /// The receipt that is stored when `message` is deleted at `at_ms` (UTC milliseconds), if its ESME asked for one.
    /// `validity_s` is how long it may wait, 0 for the default.
    fn deletion_receipt(&self, message: &Message, at_ms: u64, validity_s: u64) -> Option<Submission>;
}

/// The replicated configuration, made ready to be asked; built anew when it changes.
pub struct Directory {
    /// By system_id.
    pub accounts: HashMap<String, Arc<Account>>,
    /// Distribution lists by name.
    pub lists: HashMap<String, Arc<DistributionList>>,
    /// Where submissions go.
    pub routes: Box<dyn Routes>,
    /// The operator's settings.
    pub settings: Settings,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("accounts", &self.accounts.len()).field("settings", &self.settings).finish()
    }
}

/// A bound receiver, for whoever delivers.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    /// Its id in the session registry.
    pub session_id: u64,
    /// Its account.
    pub system_id: String,
    /// Messages that may be with it unanswered.
    pub window: usize,
    /// The numbers it serves.
    pub serves: Serves,
    /// Whether it can be sent alert_notification.
    pub alerts: bool,
    /// Where messages for it go; holds as many as the window.
    pub to_session: mpsc::Sender<ToSession>,
}

/// What a session is asked to do.
#[derive(Clone, Debug)]
pub enum ToSession {
    /// Send this message; [`Receivers::delivered`] tells what became of it.
    Deliver(Arc<Message>),
}

/// How an ESME answered a deliver_sm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverResult {
    /// ESME_ROK.
    Accepted,
    /// Any other status.
    Refused(CommandStatus),
    /// No answer came: the session ended, or the response timer did.
    Lost,
}

/// Whoever delivers.
pub trait Receivers: Send + Sync + 'static {
    /// A receiver is bound and takes messages.
    fn bound(&self, session: SessionHandle);

    /// It takes no more; every message it was given has been, or will be, reported.
    fn unbound(&self, session_id: u64);

    /// What became of a message.
    fn delivered(&self, session_id: u64, message_id: u64, result: DeliverResult);
}
