//! How long ESMEs are without service when the leader fails, beside keepalived on the same machine in the same minutes.
//!
//! - [`event`]: what befalls the owner of the address
//! - [`ours`]: the cluster in its lab: a probe that submits, receivers that idle, owners watched
//! - [`vrrp`]: two hosts with keepalived and a trivial server
//! - [`spread`]: the figures

pub mod event;
pub mod ours;
pub mod spread;
pub mod vrrp;
