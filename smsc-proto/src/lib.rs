//! The words and the wire of the SMS centre.
#![forbid(unsafe_code)]

#[cfg(feature = "grpc")]
pub mod rpc;
pub mod time;
