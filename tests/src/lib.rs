//! What the tests are made of: a load generator and verifier that speaks SMPP, and real nodes in a lab of network
//! namespaces.
//!
//! - [`load`]: `smsc-load`, which submits, counts and checks; its journals and what can be concluded from them

pub mod load;
