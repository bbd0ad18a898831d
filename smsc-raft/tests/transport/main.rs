//! The transport between real engines in one process, over loopback and TLS.

mod access;
mod node;
mod pki;
mod proxy;
mod replication;
mod snapshot;
mod store;
mod watch;
