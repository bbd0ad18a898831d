//! What operators ask of a node: the gRPC service behind `smscctl`.
//!
//! It is served on a Unix socket of this host and, over mutual TLS, on the port of the node's peers. What changes
//! something is the leader's: another node passes it on, once, so that every node is as good to ask as any other.
//!
//! | room | what it knows |
//! |---|---|
//! | `service` | one method per call: pass on or check, propose, answer |
//! | `host` | what the node provides: its own view of itself, handover, receipts |
//! | `check` | which input is refused, and in which words (pure) |
//! | `status` | the cluster's state and warnings out of what its members said (pure) |
//! | `cluster` | asks the members; forms, grows, shrinks the cluster; hands leadership over |
//! | `links` | links as operators see them: without passwords, and how they stand (pure) |
//! | `messages` | finds messages, waiting or final |
//! | `relay` | who answers a call, and how a call reaches the leader |
//! | `refusal` | refusals as gRPC statuses that `smscctl` can tell apart |
//! | `fault`, `cut` | the failures that a drill brings about |
//! | `socket` | the Unix socket |

mod check;
mod cluster;
mod cut;
pub mod fault;
mod host;
mod links;
mod messages;
pub mod refusal;
mod relay;
mod service;
pub mod socket;
mod status;
#[cfg(test)]
mod tests;

use smsc_proto::rpc::admin::admin_server::AdminServer;
use smsc_raft::store::Store;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

pub use host::{AdminConfig, AdminHost};
pub use relay::AT as AT_METADATA;
pub use service::AdminService;

/// The largest request or answer, bytes: an export of ten thousand accounts fits.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The service as the node's own Unix socket offers it; whoever may open the socket may do everything.
pub fn server(service: AdminService) -> AdminServer<AdminService> {
    AdminServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Adds the service to those on the peers' port, open to certificates of operators and of the cluster's nodes.
pub fn add_to_peers_port(routes: Routes, service: AdminService, store: &Store) -> Routes {
    routes.add_service(InterceptedService::new(server(service), store.admin_gate()))
}
