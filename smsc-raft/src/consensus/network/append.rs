//! The replication stream: appends pipelined over one call, answers in their order.

use std::mem;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, future, stream};
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use smsc_proto::rpc::raft as wire_raft;

use super::client::{nonsense, unreachable};
use super::closable::closable;
use super::link::{Lane, PeerLink};
use super::wire;
use crate::consensus::types::{Entry, TypeConfig};

/// An append is split when its batches exceed this, so that no message comes near the size limit and a slow link
/// gives signs of progress. Each piece is answered like an append of its own, which the engine takes as progress.
const PIECE_BYTES: usize = 8 << 20;

type RpcError = RPCError<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// Opens the stream. It ends with the input, with an answer that stops the pipeline (conflict, higher vote), with an
/// error, and when the connection is given up; the input is let go with it.
///
/// A link that stands still is noticed by the connection's keepalive and by the peer watch, not by a timer per
/// append: an append waits for the peer's disk, and one that stalls would only be sent the same again.
///
/// An append whose answer is known is answered and not sent; whatever follows, the engine brings in a stream anew.
///
/// The engine holds its back-off for a peer that cannot be reached inside the input, so the connection is made only once
/// there is something to send: otherwise a dead peer would be tried again without pause.
pub(super) async fn stream<'s, S>(link: Arc<PeerLink>, mut input: S) -> Result<BoxStream<'s, Answer>, RpcError>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let Some(first) = input.next().await else { return Ok(Box::pin(stream::empty())) };
    if let Some(last) = link.known_answer(&first) {
        return Ok(Box::pin(stream::once(future::ready(Ok(Ok(Some(last)))))));
    }
    let mut resets = link.resets();
    let mut client = link.client(Lane::Replication).map_err(|e| unreachable(&e))?;
    let input = stream::once(future::ready(first)).chain(input);
    let (requests, closer) = closable(input.flat_map(|request| stream::iter(pieces(request))));
    let opened = tokio::select! {
        opened = client.stream_append(requests) => opened,
        _ = resets.changed() => return Err(unreachable(&link.error("the connection was given up"))),
    };
    let answers = opened.map_err(|status| unreachable(&link.failed(&status)))?.into_inner();

    let answers = stream::unfold(Some((answers, resets, link, closer)), |state| async move {
        let (mut answers, mut resets, link, closer) = state?;
        let answer = tokio::select! {
            biased;
            answer = answers.next() => answer?,
            _ = resets.changed() => return Some((Err(unreachable(&link.error("the connection was given up"))), None)),
        };
        let answer = match answer {
            Ok(answer) => wire::stream_response_from(answer).map_err(|e| nonsense(&link, &e)),
            Err(status) => Err(unreachable(&link.failed(&status))),
        };
        let next = matches!(answer, Ok(Ok(_))).then_some((answers, resets, link, closer));
        Some((answer, next))
    });
    Ok(Box::pin(answers))
}

/// The request as one message, or as several that follow on each other.
fn pieces(request: AppendEntriesRequest<TypeConfig>) -> Vec<wire_raft::AppendRequest> {
    let mut left = request.entries.iter().map(size).sum::<usize>();
    if left <= PIECE_BYTES {
        return vec![wire::append_request(&request)];
    }
    let mut pieces = Vec::with_capacity(left / PIECE_BYTES + 1);
    let AppendEntriesRequest { vote, mut prev_log_id, entries, leader_commit } = request;
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        bytes += size(&entry);
        left -= size(&entry);
        let last_log_id = entry.log_id;
        piece.push(entry);
        if bytes >= PIECE_BYTES || left == 0 {
            let entries = mem::take(&mut piece);
            let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
            pieces.push(wire::append_request(&request));
            prev_log_id = Some(last_log_id);
            bytes = 0;
        }
    }
    pieces
}

/// Bytes that an entry takes in a message; exact only for batches, everything else being small.
fn size(entry: &Entry) -> usize {
    const OVERHEAD_BYTES: usize = 64;
    OVERHEAD_BYTES
        + match &entry.payload {
            openraft::EntryPayload::Normal(batch) => batch.encoded().len(),
            openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use bytes::Bytes;
    use openraft::EntryPayload;
    use openraft::raft::{VoteRequest, VoteResponse};
    use tokio::runtime::Handle;

    use super::*;
    use crate::consensus::network::TransportConfig;
    use crate::consensus::tls::Security;
    use crate::consensus::types::{Batch, Vote};
    use crate::convert::log_id;

    fn id(index: u64) -> wire_raft::LogId {
        wire_raft::LogId { term: 1, node_id: 1, index }
    }

    fn request(sizes: &[usize]) -> AppendEntriesRequest<TypeConfig> {
        let entries = sizes.iter().zip(11..).map(|(size, index)| Entry {
            log_id: log_id::from_wire(&id(index)),
            payload: EntryPayload::Normal(Batch::from_encoded(Bytes::from(vec![0; *size]))),
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id::from_wire(&id(10))),
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn a_large_append_is_split_without_gap_or_overlap() {
        const MIB: usize = 1 << 20;
        for (sizes, counts) in [
            (vec![], vec![0]),
            (vec![100, 100], vec![2]),
            (vec![20 * MIB], vec![1]),
            (vec![5 * MIB, 5 * MIB, 5 * MIB], vec![2, 1]),
            (vec![MIB, 20 * MIB, MIB, 0], vec![2, 2]),
        ] {
            let pieces = pieces(request(&sizes));
            assert_eq!(pieces.iter().map(|piece| piece.entries.len()).collect::<Vec<_>>(), counts, "{sizes:?}");
            let mut prev = id(10);
            for piece in pieces {
                assert_eq!(piece.prev_log_id, Some(prev));
                for entry in piece.entries {
                    let next = entry.log_id.expect("always set");
                    assert_eq!(next.index, prev.index + 1);
                    prev = next;
                }
            }
        }
    }

    /// The answers of a peer that voted for node 1 with a log that ends at 12, and then went away.
    #[tokio::test]
    async fn what_a_vote_told_is_answered_without_the_peer_until_an_append_goes_further() {
        let security = Security::plaintext("127.0.0.1:0".parse().expect("an address")).expect("loopback");
        let config = TransportConfig::for_heartbeat(Duration::from_millis(50), true);
        let gone = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        let own_answers = Arc::default();
        let link = PeerLink::new(2, &gone.to_string(), &security, &config, &Handle::current(), own_answers);
        let link = Arc::new(link);
        let (vote, last) = (Vote::new(1, 1), log_id::from_wire(&id(12)));
        link.note_vote(&VoteRequest::new(vote, Some(last)), &VoteResponse::new(vote, Some(last), true));

        let answers = async |sizes: &[usize]| {
            let requests = vec![request(sizes), request(sizes)];
            stream(link.clone(), stream::iter(requests)).await.map(|answers| answers.collect::<Vec<Answer>>())
        };
        for sizes in [[1].as_slice(), &[1, 1]] {
            let known = answers(sizes).await.expect("not asked").await;
            let [Ok(Ok(upto))] = known.as_slice() else { panic!("{known:?}") };
            assert_eq!(upto.map(|id| id.index), Some(10 + sizes.len() as u64));
        }
        assert!(answers(&[1, 1, 1]).await.is_err(), "it had to be asked, and is not there");
        assert!(answers(&[1]).await.is_err(), "from now on what it says counts");
        link.note_vote(&VoteRequest::new(vote, Some(last)), &VoteResponse::new(vote, Some(last), true));
        assert!(answers(&[1]).await.is_err(), "a vote that comes late tells nothing");
    }
}
