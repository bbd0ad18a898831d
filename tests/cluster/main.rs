//! Real processes: faults under load, a campaign of all kinds of them, every operation across a failure, and clients that
//! others wrote. Each test has a lab of its own; without root, or without SMSC_CLUSTER_TESTS, they are skipped and say so.

mod campaign;
mod centre;
mod children;
mod clients;
mod faults;
mod hostile;
mod links;
mod members;
mod operations;
mod pair;
