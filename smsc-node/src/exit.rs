//! Exit codes of `smsc-node`, after BSD's sysexits where one fits.

use std::process::ExitCode;

/// Why the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped as asked, all work settled.
    Ok = 0,
    /// The command line or the configuration is wrong; nothing was opened or bound.
    Config = 64,
    /// Something the node needs is not there now: a port is busy, the network interface is missing.
    Unavailable = 69,
    /// The node itself failed; the log says why.
    Internal = 70,
    /// The data directory cannot be used: unreadable, foreign, in use, or without room.
    DataDir = 73,
    /// The process lacks a capability.
    Permission = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
