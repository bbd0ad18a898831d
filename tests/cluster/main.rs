//! Real processes: faults under load, every operation across a failure, and clients that others wrote. Each test has a lab of its own; without root, or
//! without SMSC_CLUSTER_TESTS, they are skipped and say so.

mod clients;
mod faults;
mod links;
mod operations;
mod pair;
