//! What the tests are made of: a load generator and verifier that speaks SMPP, real nodes in a lab of network
//! namespaces, and simulated worlds in which the pure machines run together.
//!
//! - [`load`]: `smsc-load`, which submits, counts and checks; its journals and what can be concluded from them
//! - [`lab`]: a cluster of real processes, its faults, and programs run beside it; removed when it is dropped
//! - [`esme`]: an ESME that does one thing after the other
//! - [`process`]: the load generator as a process in the lab
//! - [`failover`]: outages as ESMEs see them, beside keepalived
//! - [`faults`]: the fault campaign in the lab
//! - [`owners`]: who holds the floating address, and who answers for it, at every moment
//! - [`sim`]: a clock, logs and a network of our own, and everything that goes wrong in them, from one seed
//! - [`invariant`]: what must hold in every world
//! - [`oracle`]: what ESMEs know of their submissions

pub mod esme;
pub mod failover;
pub mod faults;
pub mod invariant;
pub mod lab;
pub mod load;
pub mod oracle;
pub mod owners;
pub mod process;
pub mod sim;
