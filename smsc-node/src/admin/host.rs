//! What the admin service needs from the node it runs in.

use crate::link::board::LinkBoardRow;
use smsc_proto::rpc::admin::{LastTakeoverResponse, RouteTestRequest, RouteTestResponse};
use smsc_proto::rpc::raft::PeerStatus;
use smsc_raft::model::{Message, MessageState, Submission};

use super::fault::Victim;

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// This node, 1 to 255.
    pub node_id: u64,
    /// Whether operators may have this node fail.
    pub drills: bool,
    /// The floating addresses, as text; empty on a witness.
    pub floating_addresses: Vec<String>,
    /// What a drill's failure needs of this node.
    pub victim: Victim,
}

/// The node around the admin service.
#[tonic::async_trait]
pub trait AdminHost: Send + Sync + 'static {
    /// This node as it sees itself now; the same as it tells its peers.
    async fn status(&self) -> PeerStatus;

    /// What an operator should look at on this host, a sentence each.
    fn warnings(&self) -> Vec<String>;

    /// How this node came to lead the last time.
    fn last_takeover(&self) -> LastTakeoverResponse;

    /// The wall clock, UTC milliseconds.
    fn now_ms(&self) -> u64;

    /// Gives leadership and address to that node: settles what is in flight, lets it catch up, releases the address,
    /// transfers leadership, and returns when it leads. The target was found to be a data node that is ready.
    ///
    /// # Errors
    /// A sentence for the operator; this node then leads on, or another one was elected.
    async fn handover(&self, to: u64) -> Result<(), String>;

    /// A message that a simulated handset sends, routed.
    ///
    /// # Errors
    /// A sentence for the operator: nobody owns the destination, or the text does not fit.
    fn mobile_originated(&self, from: &str, to: &str, text: &str) -> Result<Submission, String>;

    /// Where a message would go, and why.
    fn explain_route(&self, request: &RouteTestRequest) -> RouteTestResponse;

    /// The receipt that is due when this message ends in that state; `None` if its ESME asked for none.
    fn receipt(&self, message: &Message, state: MessageState, at_ms: u64) -> Option<Submission>;

    /// How this node's links stand; empty while it does not lead.
    fn links(&self) -> Vec<LinkBoardRow>;

    /// A salted hash to keep instead of the password.
    fn hash_password(&self, password: &str) -> Vec<u8>;
}
