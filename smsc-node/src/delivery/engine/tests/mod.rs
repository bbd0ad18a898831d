//! The engine over the real machine, simulated handsets and scripted ESMEs, in simulated time.

mod esmes;
mod links;
mod memory;
mod numbers;
mod pending;
mod random;
mod receipts;
mod world;
