//! The leader's side of heartbeats: one open stream to each follower, a message each way per heartbeat.
//!
//! With a call for each, most of an idle leader's work would be opening and closing calls.

use std::sync::Arc;

use futures::StreamExt as _;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use smsc_proto::rpc::raft::{AppendRequest, AppendResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::client::{nonsense, unreachable};
use super::link::{Lane, PeerLink};
use super::wire;
use crate::consensus::types::TypeConfig;

/// Sends heartbeats to one follower.
pub(super) struct HeartbeatStream {
    link: Arc<PeerLink>,
    /// Absent before the first heartbeat, while one is under way, and after one that was not answered: an answer that
    /// comes too late is never taken for the next one's.
    open: Option<Box<Open>>,
}

struct Open {
    requests: mpsc::Sender<AppendRequest>,
    answers: Streaming<AppendResponse>,
    /// Changes when the connection is given up.
    resets: watch::Receiver<u64>,
}

impl HeartbeatStream {
    /// Sends nothing yet.
    pub(super) fn new(link: Arc<PeerLink>) -> Self {
        Self { link, open: None }
    }

    /// One heartbeat and its answer. Given up by dropping the future; the next one takes a new stream.
    ///
    /// # Errors
    /// The peer cannot be reached, refuses, or answers nonsense.
    pub(super) async fn send(
        &mut self,
        rpc: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::append_request(rpc);
        let open = self.open.take().filter(|open| !open.resets.has_changed().unwrap_or(true));
        let asked = match open {
            Some(open) => open.ask(request).await,
            None => self.open(request).await?,
        };
        let (open, answer) = asked.map_err(|status| unreachable(&self.link.failed(&status)))?;
        let response = wire::append_response_from(answer).map_err(|e| nonsense(&self.link, &e))?;
        self.open = Some(open);
        self.link.note_heard();
        Ok(response)
    }

    /// The first heartbeat of a new stream.
    async fn open(
        &self,
        first: AppendRequest,
    ) -> Result<Result<(Box<Open>, AppendResponse), Status>, RPCError<TypeConfig>> {
        let resets = self.link.resets();
        let mut client = self.link.client(Lane::Control).map_err(|e| unreachable(&e))?;
        let (requests, queue) = mpsc::channel(1);
        // Fresh, so there is room.
        let _ = requests.try_send(first);
        Ok(match client.heartbeats(ReceiverStream::new(queue)).await {
            Ok(answers) => Box::new(Open { requests, answers: answers.into_inner(), resets }).answered().await,
            Err(status) => Err(status),
        })
    }
}

impl Open {
    async fn ask(self: Box<Self>, request: AppendRequest) -> Result<(Box<Self>, AppendResponse), Status> {
        // Fails when the stream has ended, of which the answers tell more.
        let _ = self.requests.send(request).await;
        self.answered().await
    }

    async fn answered(mut self: Box<Self>) -> Result<(Box<Self>, AppendResponse), Status> {
        match self.answers.next().await {
            Some(answer) => Ok((self, answer?)),
            None => Err(Status::unavailable("it ended the stream of heartbeats")),
        }
    }
}
