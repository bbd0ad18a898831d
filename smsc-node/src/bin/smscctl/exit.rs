//! Exit codes of `smscctl`, for scripts to trust.

use std::fmt;
use std::process::ExitCode;

use smsc_node::admin::refusal::Cause;
use tonic::{Code, Status};

/// The codes as `--help` tells them.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  refused, or failed
  2  the command line is wrong
  3  no node could be reached
  4  no node leads, or the leader cannot be reached from the node that was asked
  5  there is no such account, route, range, message or member";

/// Why a command came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Refused by the cluster, or something failed.
    Refused = 1,
    /// The command line cannot be followed.
    Usage = 2,
    /// Nobody answers.
    Unreachable = 3,
    /// The cluster has no leader that the asked node reaches.
    NoLeader = 4,
    /// What was named does not exist.
    NotFound = 5,
}

/// A command that came to nothing: the exit code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// For people.
    pub text: String,
}

impl Failure {
    /// Refused, or failed on this side.
    pub fn refused(text: impl fmt::Display) -> Self {
        Self { kind: Kind::Refused, text: text.to_string() }
    }

    /// The command line cannot be followed.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self { kind: Kind::Usage, text: text.to_string() }
    }

    /// Nothing under that name.
    pub fn not_found(text: impl fmt::Display) -> Self {
        Self { kind: Kind::NotFound, text: text.to_string() }
    }

    /// The process's exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status with a source was made here, for want of an answer.
        let lost = std::error::Error::source(&status).is_some();
        let kind = match status.code() {
            _ if Cause::of(&status).is_some() => Kind::NoLeader,
            _ if lost => Kind::Unreachable,
            Code::NotFound => Kind::NotFound,
            Code::DeadlineExceeded | Code::Cancelled => Kind::Unreachable,
            _ => Kind::Refused,
        };
        let text = match (kind, status.code()) {
            (Kind::Unreachable, Code::DeadlineExceeded | Code::Cancelled) => {
                "the node did not answer in time; look whether a change took effect before you repeat it".to_owned()
            }
            (Kind::Unreachable, _) => {
                format!("the node fell away while it was asked ({})", status.message())
            }
            (_, Code::Unimplemented) => format!("the node runs a version without this call: {}", status.message()),
            _ => status.message().to_owned(),
        };
        Self { kind, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        let mut no_leader = Status::unavailable("no node leads now");
        no_leader.metadata_mut().insert("smsc-reason", "no-leader".parse().expect("a word"));
        for (status, kind) in [
            (no_leader, Kind::NoLeader),
            (Status::not_found("there is no account \"x\""), Kind::NotFound),
            (Status::invalid_argument("no"), Kind::Refused),
            (Status::deadline_exceeded("late"), Kind::Unreachable),
            (Status::from_error(Box::new(std::io::Error::other("gone"))), Kind::Unreachable),
        ] {
            assert_eq!(Failure::from(status.clone()).kind, kind, "{status:?}");
        }
        assert_eq!(Kind::NotFound as u8, 5);
    }
}
