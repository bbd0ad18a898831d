//! A seeded world in which the three pure machines run together: sessions, the replicated machine and the delivery
//! engine, over a clock, logs and a network of our own.
//!
//! One seed picks everything that happens. For a while things go wrong (`faults`), then they do no more and
//! everything must settle; [`crate::invariant`] says what must hold all along and at the end. Only what the product's
//! tasks do between the machines is written anew here, in the same way: [`serving`] and `server`.

pub mod chance;
pub mod clock;
pub mod cluster;
mod esme;
mod faults;
pub mod log;
pub mod net;
pub mod node;
mod operator;
mod raft;
mod server;
pub mod serving;
pub mod world;

pub use cluster::SimCluster;

/// Lives through the world of a seed. Returns how many log entries were committed in it.
///
/// # Errors
/// What property was broken, with the last steps of the story.
pub fn run(seed: u64) -> Result<u64, String> {
    let cluster = SimCluster::new(seed).map_err(|error| format!("a machine cannot be opened: {error}"))?;
    cluster.run()
}
