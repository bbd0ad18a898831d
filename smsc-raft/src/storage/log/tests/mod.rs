//! Tests of the log as a whole.

mod crash;
mod damage;
mod model;
mod running;
mod sim;
mod suite;
