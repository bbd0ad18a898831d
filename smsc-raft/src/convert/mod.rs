//! Between the engine's types and the protobuf records of `proto/raft.proto`, which the wire and the log share.
//!
//! To the wire nothing can fail. From the wire everything that the schema leaves optional and the engine needs is
//! asked for by name; an entry's batch passes through as a reference to the received bytes.

pub mod entry;
pub mod log_id;
pub mod membership;
pub mod vote;

/// A protobuf record that says too little, or contradicts itself.
///
/// From a peer it means an incompatible or broken peer, and the RPC is refused; from the log it means a damaged or
/// foreign record, and the log does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that the record cannot do without is absent.
    #[error("{record} without its field {field}")]
    Missing {
        /// The protobuf message.
        record: &'static str,
        /// The absent field.
        field: &'static str,
    },
    /// The voters and the nodes of a membership do not fit together.
    #[error("a membership that cannot be: {reason}")]
    Membership {
        /// What does not fit.
        reason: String,
    },
}

/// The value of a field that must be there.
fn required<T>(value: Option<T>, record: &'static str, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { record, field })
}
