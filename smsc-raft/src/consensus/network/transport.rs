//! The connections to all peers, shared by the engine's clients, the peer watch and the daemon.

use std::collections::HashMap;
use std::error::Error;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smsc_proto::rpc::raft::{LeaderNote, PairRequest, PairResponse, PeerStatus, PeerStatusRequest};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use super::Member;
use super::client::PeerFactory;
use super::known::OwnAnswers;
use super::link::{Lane, PeerLink};
use super::snapshot::SnapshotSource;
use crate::consensus::tls::Security;
use crate::quorum::Arbiter;

/// The times of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// The longest that connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// A connection on which the peer has not even answered an HTTP/2 ping for this long, twice over, is closed.
    pub keepalive: Duration,
    /// How often the peer watch asks each peer for a sign of life.
    pub ping_interval: Duration,
    /// Unanswered pings in a row after which a peer counts as lost, at least 1.
    pub pings_missed_max: u32,
}

impl TransportConfig {
    /// Times that fit the engine's heartbeat. Where a majority decides, the engine's own timers notice a silent leader,
    /// and pings only tell which connections to make anew: one for four heartbeats, two of them missed. Where
    /// `silence_decides`, as in a pair, a peer is asked as often as the leader beats, and is lost after three.
    pub fn for_heartbeat(heartbeat_interval: Duration, silence_decides: bool) -> Self {
        let (ping_interval, pings_missed_max) =
            if silence_decides { (heartbeat_interval, 3) } else { (heartbeat_interval * 4, 2) };
        Self {
            connect_timeout: Duration::from_millis(500).max(heartbeat_interval),
            keepalive: Duration::from_secs(1).max(heartbeat_interval * 4),
            ping_interval,
            pings_missed_max,
        }
    }
}

/// A peer that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node_id} at {addr}: {reason}")]
pub struct PeerError {
    /// The peer.
    pub node_id: u64,
    /// Where it was looked for.
    pub addr: String,
    /// What happened.
    pub reason: String,
}

/// This node's connections to its peers. Cheap to clone; the clones share the connections.
///
/// Connections are made on first use, that of replication as soon as the peer is there, and again after they broke. Whoever uses them, they live on the runtime that the
/// transport was made on: heartbeats never wait for other work.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: u64,
    security: Security,
    config: TransportConfig,
    /// Carries all connections.
    runtime: Handle,
    links: Mutex<HashMap<u64, Arc<PeerLink>>>,
    arbiter: Arbiter,
    own_answers: Arc<OwnAnswers>,
}

impl Transport {
    /// The transport of the node with this id. Connects to nobody yet. Must be called on the consensus runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(node_id: u64, security: Security, config: TransportConfig) -> Self {
        let runtime = Handle::current();
        let (links, arbiter, own_answers) = (Mutex::default(), Arbiter::default(), Arc::default());
        Self { inner: Arc::new(Inner { node_id, security, config, runtime, links, arbiter, own_answers }) }
    }

    /// What the engine makes its clients with, for snapshots of the type `D`.
    pub fn factory<D: SnapshotSource>(&self) -> PeerFactory<D> {
        PeerFactory { transport: self.clone(), snapshot: PhantomData }
    }

    /// A connection to a peer for what operators ask. It is made with the first call.
    ///
    /// # Errors
    /// The peer's address is none.
    pub fn admin_channel(&self, node_id: u64, member: &Member) -> Result<Channel, PeerError> {
        self.link(node_id, member).channel(Lane::Admin)
    }

    /// Asks a peer how it sees itself.
    ///
    /// # Errors
    /// The peer cannot be reached, refuses, or does not answer in time.
    pub async fn status(&self, node_id: u64, member: &Member, within: Duration) -> Result<PeerStatus, PeerError> {
        let link = self.link(node_id, member);
        let mut client = link.client(Lane::Control)?;
        match timeout(within, client.status(PeerStatusRequest {})).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(link.failed(&status)),
            Err(_) => Err(link.error(format!("no answer within {within:?}"))),
        }
    }

    /// Tells a peer something out of the log's band. When it returns, the peer has taken note.
    ///
    /// # Errors
    /// The peer cannot be reached, refuses, or does not answer in time; whether it took note is then unknown.
    pub async fn note(
        &self,
        node_id: u64,
        member: &Member,
        note: LeaderNote,
        within: Duration,
    ) -> Result<(), PeerError> {
        let link = self.link(node_id, member);
        let mut client = link.client(Lane::Control)?;
        match timeout(within, client.note(note)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(link.failed(&status)),
            Err(_) => Err(link.error(format!("no answer within {within:?}"))),
        }
    }

    /// Asks the other node of a pair where it stands, or yields to it.
    ///
    /// # Errors
    /// The peer cannot be reached, refuses, or does not answer in time; whether it took note is then unknown.
    pub async fn pair(
        &self,
        node_id: u64,
        member: &Member,
        request: PairRequest,
        within: Duration,
    ) -> Result<PairResponse, PeerError> {
        let link = self.link(node_id, member);
        let mut client = link.client(Lane::Control)?;
        match timeout(within, client.pair(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(link.failed(&status)),
            Err(_) => Err(link.error(format!("no answer within {within:?}"))),
        }
    }

    /// This node's arbiter, which is silent unless somebody lets it answer.
    pub fn arbiter(&self) -> &Arbiter {
        &self.inner.arbiter
    }

    /// When the engine was last answered in a peer's place.
    pub(crate) fn own_answers(&self) -> &Arc<OwnAnswers> {
        &self.inner.own_answers
    }

    /// Closes the connections to nodes that are no members any more.
    pub(super) fn retain(&self, is_member: impl Fn(u64) -> bool) {
        let mut links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|id, link| {
            let keep = is_member(*id);
            if !keep {
                link.end_streams();
            }
            keep
        });
    }

    /// This node.
    pub(super) fn node_id(&self) -> u64 {
        self.inner.node_id
    }

    pub(super) fn config(&self) -> &TransportConfig {
        &self.inner.config
    }

    /// The connections to a peer, made anew when it has moved to another address.
    pub(super) fn link(&self, node_id: u64, member: &Member) -> Arc<PeerLink> {
        let mut links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&node_id) {
            if link.addr() == member.addr {
                return link.clone();
            }
            link.end_streams();
        }
        let link = Arc::new(PeerLink::new(
            node_id,
            &member.addr,
            &self.inner.security,
            &self.inner.config,
            &self.inner.runtime,
            self.inner.own_answers.clone(),
        ));
        links.insert(node_id, link.clone());
        link
    }
}

/// What a failed call says, with all its causes: the status alone says only "transport error".
pub(super) fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    append_causes(&mut text, status.source());
    text
}

/// An error with all its causes.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    append_causes(&mut text, error.source());
    text
}

fn append_causes(text: &mut String, mut cause: Option<&(dyn Error + 'static)>) {
    while let Some(error) = cause {
        let part = error.to_string();
        // Wrappers repeat what they wrap.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
}
