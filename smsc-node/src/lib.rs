//! The SMS centre's daemon: the shell around the pure machines.

pub mod probe;
