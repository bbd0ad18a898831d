//! The load generator: many SMPP sessions in one thread, every answer and every receipt accounted for.
//!
//! - [`options`]: what can be set; [`template`]: submit_sm octets of which only a few change per message
//! - [`session`]: one connection at a time, bound, filled up to its window, reconnecting if asked to
//! - [`in_flight`]: requests without an answer; [`supply`]: how many messages may be sent, and when
//! - [`notice`]: what a deliver_sm tells
//! - [`ledger`]: what was acknowledged and reported, and what contradicts the contract
//! - [`journal`]: the same as lines of a file; [`verify`]: journals against what the cluster says of its messages
//! - [`etcd`]: the same payloads put into an etcd cluster
//! - [`query`]: what the SMS centre answers to query_sm
//! - [`run`](mod@run): sends, drains, settles, closes; [`report`]: the figures

pub mod etcd;
pub mod in_flight;
pub mod journal;
pub mod ledger;
pub mod notice;
pub mod options;
pub mod query;
pub mod report;
pub mod run;
pub mod session;
pub mod supply;
pub mod template;
pub mod verify;

#[cfg(test)]
mod tests;

pub use options::LoadOptions;
pub use report::Report;
pub use run::run;

/// Why a run could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The options contradict each other or leave their range.
    #[error("{0}")]
    Options(String),
    /// A session could not be bound, or was lost without `--reconnect`.
    #[error("session {session}: {reason}")]
    Session {
        /// Which session, counted from 0.
        session: usize,
        /// What happened.
        reason: String,
    },
    /// The journal could not be written or read.
    #[error("journal {path}: {source}")]
    Journal {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A journal holds a line that is none of ours.
    #[error("journal {path}, line {line}: not a journal line: {text}")]
    JournalLine {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The command that shows messages failed, or its output could not be understood.
    #[error("{command}: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// What was wrong.
        reason: String,
    },
    /// Messages could not be asked for by query_sm.
    #[error("query_sm to {target}: {source}")]
    Query {
        /// The SMS centre.
        target: std::net::SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// An etcd member could not be reached, or refused.
    #[error("etcd at {endpoint}: {status}")]
    Etcd {
        /// Its URL.
        endpoint: String,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// The runtime or a signal handler could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}
