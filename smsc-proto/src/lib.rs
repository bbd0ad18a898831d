//! SMPP v3.4 and v5.0: the words, the wire and the session. Pure: no sockets, no clock, no tasks.
//!
//! What the specifications say:
//! - [`pdu`]: every operation as a struct, [`pdu::Pdu::decode`] and [`pdu::Pdu::encode`]
//! - [`types`], [`tlv`], [`status`], [`command`]: parameters, optional parameters, results, operations
//! - [`frame`]: cutting a stream of octets into PDUs
//! - [`session`]: what may be sent and answered when, windows and timers
//! - [`time`], [`receipt`], [`text`]: time strings, receipt texts, alphabets and segments
//!
//! What is ours:
//! - [`codec`]: reading and writing parameters by name
//! - [`error`]: what can be wrong, and the command_status it earns
#![cfg_attr(feature = "grpc", doc = "- [`rpc`]: what goes between nodes and on their disks, generated from `proto/`")]
#![forbid(unsafe_code)]

pub mod codec;
pub mod command;
pub mod error;
pub mod frame;
pub mod pdu;
pub mod receipt;
pub mod session;
pub mod status;
pub mod text;
pub mod time;
pub mod tlv;
pub mod types;

#[cfg(any(test, feature = "testing"))]
pub mod arbitrary;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
#[cfg(feature = "grpc")]
pub mod rpc;
