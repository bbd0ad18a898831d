//! The SMS centre's daemon: the shell around the pure machines.

pub mod admin;
pub mod cdr;
pub mod cert;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod delivery;
mod ending;
pub mod exit;
#[cfg(test)]
mod fixture;
pub mod ha;
pub mod http;
pub mod link;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod probe;
pub mod quorum;
pub mod shutdown;
pub mod smpp;
pub mod telemetry;
