//! Tests of the log as a whole.

mod crash;
mod model;
mod sim;
mod suite;
