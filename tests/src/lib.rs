//! What the tests are made of: a load generator and verifier that speaks SMPP, and real nodes in a lab of network
//! namespaces.
//!
//! - [`load`]: `smsc-load`, which submits, counts and checks; its journals and what can be concluded from them
//! - [`lab`]: a cluster of real processes, its faults, and programs run beside it; removed when it is dropped
//! - [`process`]: the load generator as a process in the lab
//! - [`owners`]: who holds the floating address, and who answers for it, at every moment

pub mod lab;
pub mod load;
pub mod owners;
pub mod process;
