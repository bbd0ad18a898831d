//! Delivery: what is stored and due goes out to sessions and handsets, and what became of it goes back into the log.
//!
//! Pure, without clock, tasks or IO:
//! - [`route`]: from a destination to its queue
//! - [`engine`]: [`engine::DeliveryEngine`], which decides what is sent, recorded and looked up, and when
//! - [`retry`]: when a failed attempt is repeated
//! - [`handset`]: simulated handsets
//! - [`receipt`], [`mo`]: messages that are made here
//!
//! With IO: [`ends`] tells whoever waits for a message's end; [`pace`] how far behind deliveries are; [`driver`] owns an engine while this node leads, feeds it and carries out what it asks.

pub mod driver;
pub mod ends;
pub mod engine;
pub mod handset;
pub mod mo;
pub mod pace;
pub mod receipt;
pub mod retry;
pub mod route;
