//! The transport between nodes: gRPC over mutually authenticated TLS.
//!
//! Each node keeps connections of their own for each kind of traffic, so that nothing waits behind what is slower than
//! itself: votes, heartbeats and notes on one, the replication stream on another, snapshots on the third, what operators
//! ask on the fourth. [`Transport`] owns them,
//! [`PeerFactory`] lends them to the engine, [`PeerWatch`] tells at once when a peer is gone, and [`RaftService`] is
//! the other end.

mod access;
mod append;
mod arbiter;
mod client;
mod closable;
mod heartbeat;
mod heartbeat_stream;
mod known;
mod link;
mod server;
mod snapshot;
mod transport;
mod watch;
mod wire;

pub use access::{Caller, Gate};
pub use arbiter::MemberNetwork;
pub use client::{PeerFactory, PeerNetwork};
pub(crate) use known::OwnAnswers;
pub use server::{Elections, PeerHandler, RaftService, incoming, routes, serve};
pub use snapshot::{SnapshotInbox, SnapshotRow, SnapshotSink, SnapshotSource};
pub use transport::{PeerError, Transport, TransportConfig};
pub use watch::{Link, Loss, PeerState, PeerWatch};

use crate::consensus::types::Member;

/// The largest message either side takes or sends; a batch of commands and a piece of a snapshot stay far below.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How much may be under way unanswered per stream: what a 10 Gbit/s link carries in 3 ms.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same per connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
