//! Snapshots on the wire: a header, the rows of the store in pieces, and an end that tells a whole snapshot from a
//! cut or damaged one.
//!
//! Neither side holds more than a few pieces in memory: rows are read and written on blocking threads, as fast as the
//! slower side goes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::errors::StreamingError;
use openraft::raft::SnapshotResponse;
use openraft::type_config::TypeConfigExt as _;
use openraft::{Snapshot, StorageError};
use smsc_proto::rpc::raft as wire_raft;
use smsc_proto::rpc::raft::snapshot_chunk::Part;
use tokio::sync::mpsc;
use tokio::task;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::client::{nonsense, unreachable};
use super::closable::closable;
use super::link::{Lane, PeerLink};
use super::wire::{self, EngineSnapshot, SnapshotMeta};
use crate::consensus::types::{TypeConfig, Vote};

/// A piece is sent when its rows come to this.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces between the disk and the wire, on either side.
const PIECES_QUEUED: usize = 4;

/// One row of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: Bytes,
    /// The row's value.
    pub value: Bytes,
}

/// A snapshot that can be sent.
pub trait SnapshotSource: Send + 'static {
    /// All rows, table by table and in key order. Read on a blocking thread.
    fn rows(self) -> impl Iterator<Item = io::Result<SnapshotRow>>;
}

/// A snapshot being received. Dropped without [`finish`](Self::finish), it must leave nothing behind.
pub trait SnapshotSink: Send + 'static {
    /// What becomes of it.
    type Data: Send + 'static;

    /// Takes the next row. Called on a blocking thread, as is `finish`.
    ///
    /// # Errors
    /// It cannot be stored, or the table is unknown; the snapshot is given up.
    fn push(&mut self, table: &str, key: Bytes, value: Bytes) -> io::Result<()>;

    /// All rows came, and came whole.
    ///
    /// # Errors
    /// It cannot be stored; the snapshot is given up.
    fn finish(self) -> io::Result<Self::Data>;
}

/// Where received snapshots go.
pub trait SnapshotInbox: Send + Sync + 'static {
    /// Takes one snapshot.
    type Sink: SnapshotSink;

    /// Opens a place for a snapshot; one at a time.
    ///
    /// # Errors
    /// There is none; the snapshot is refused and the leader tries again later.
    fn open(&self) -> io::Result<Self::Sink>;
}

/// Counts and sums rows, alike on both sides.
#[derive(Default)]
struct Tally {
    rows: u64,
    crc: crc32fast::Hasher,
}

impl Tally {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.crc.update(key);
        self.crc.update(value);
    }

    fn end(self) -> wire_raft::SnapshotEnd {
        wire_raft::SnapshotEnd { rows: self.rows, crc: self.crc.finalize() }
    }
}

/// Sends the snapshot and waits until the peer has installed it.
pub(super) async fn send<D: SnapshotSource>(
    link: &Arc<PeerLink>,
    vote: &Vote,
    snapshot: EngineSnapshot<D>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let EngineSnapshot { meta, snapshot } = snapshot;
    let mut resets = link.resets();
    let mut client = link.client(Lane::Snapshot).map_err(|e| unreachable(&e))?;
    let (tx, rx) = mpsc::channel(PIECES_QUEUED);
    let header = wire::snapshot_header(vote, &meta);
    let reader = task::spawn_blocking(move || read(header, snapshot, &tx));
    // The closer ends the reader when this future is dropped: its receiver is gone then.
    let (pieces, closer) = closable(ReceiverStream::new(rx));
    let sent = tokio::select! {
        sent = client.snapshot(pieces) => sent.map_err(|status| link.failed(&status)),
        _ = resets.changed() => Err(link.error("the connection was given up")),
    };
    drop(closer);
    if let Err(error) = reader.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        let source = TypeConfig::err_from_error(&error);
        return Err(StorageError::read_snapshot(Some(meta.signature()), source).into());
    }
    let response = sent.map_err(|e| unreachable(&e))?.into_inner();
    Ok(wire::snapshot_response_from(&response).map_err(|e| nonsense(link, &e))?)
}

/// Reads the rows and queues the pieces; returns early and content when nobody takes them any more.
fn read<D: SnapshotSource>(
    header: wire_raft::SnapshotHeader,
    snapshot: D,
    tx: &mpsc::Sender<wire_raft::SnapshotChunk>,
) -> io::Result<()> {
    let queue = |part| tx.blocking_send(wire_raft::SnapshotChunk { part: Some(part) }).is_ok();
    if !queue(Part::Header(header)) {
        return Ok(());
    }
    let mut tally = Tally::default();
    let mut piece = wire_raft::SnapshotRows::default();
    let mut bytes = 0;
    for row in snapshot.rows() {
        let SnapshotRow { table, key, value } = row?;
        tally.add(&key, &value);
        if !piece.rows.is_empty() && (bytes >= PIECE_BYTES || piece.table != table) {
            if !queue(Part::Rows(std::mem::take(&mut piece))) {
                return Ok(());
            }
            bytes = 0;
        }
        if piece.table.is_empty() {
            table.clone_into(&mut piece.table);
        }
        bytes += key.len() + value.len();
        piece.rows.push(wire_raft::SnapshotRow { key, value });
    }
    if piece.rows.is_empty() || queue(Part::Rows(piece)) {
        queue(Part::End(tally.end()));
    }
    Ok(())
}

/// The beginning of a snapshot: who sends it and what it holds.
///
/// # Errors
/// The stream begins with something else.
pub(super) async fn receive_header(
    pieces: &mut Streaming<wire_raft::SnapshotChunk>,
) -> Result<(Vote, SnapshotMeta), Status> {
    let first = pieces.next().await.transpose()?.and_then(|chunk| chunk.part);
    let Some(Part::Header(header)) = first else {
        return Err(Status::invalid_argument("a snapshot must begin with its header"));
    };
    wire::snapshot_header_from(header).map_err(|e| Status::invalid_argument(e.to_string()))
}

/// The rows of a snapshot, checked against its end and stored.
///
/// # Errors
/// DATA_LOSS when the snapshot is cut or damaged, INTERNAL when it cannot be stored. Nothing remains of it.
///
/// `place` comes back with the rows; should this future be dropped, it is held until the sink is gone, so that the
/// next snapshot does not meet what this one leaves.
pub(super) async fn receive_rows<S: SnapshotSink, P: Send + 'static>(
    pieces: &mut Streaming<wire_raft::SnapshotChunk>,
    sink: S,
    meta: SnapshotMeta,
    place: P,
) -> Result<(EngineSnapshot<S::Data>, P), Status> {
    let (tx, rx) = mpsc::channel(PIECES_QUEUED);
    let writer = task::spawn_blocking(move || write(rx, sink).map(|data| (data, place)));
    let mut cut = None;
    loop {
        match pieces.next().await {
            Some(Ok(chunk)) => {
                let end = matches!(chunk.part, Some(Part::End(_)));
                // A writer that takes no more has failed; its error is fetched below.
                if tx.send(chunk).await.is_err() || end {
                    break;
                }
            }
            Some(Err(status)) => {
                cut = Some(status);
                break;
            }
            None => break,
        }
    }
    drop(tx);
    let written = writer.await.unwrap_or_else(|panic| Err(Refused::Storage(io::Error::other(panic))));
    match (written, cut) {
        (Ok((snapshot, place)), _) => Ok((Snapshot { meta, snapshot }, place)),
        (Err(Refused::Cut), Some(status)) => Err(status),
        (Err(refused), _) => {
            tracing::error!(%refused, "a snapshot from the leader was not taken");
            Err(match refused {
                Refused::Storage(_) => Status::internal(refused.to_string()),
                Refused::Cut | Refused::Damaged { .. } | Refused::Foreign(_) => Status::data_loss(refused.to_string()),
            })
        }
    }
}

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the snapshot ended before its end")]
    Cut,
    #[error("the snapshot was damaged on its way: {rows} rows with checksum {crc:08x} came, {} with {:08x} were sent",
        .sent.rows, .sent.crc)]
    Damaged { rows: u64, crc: u32, sent: wire_raft::SnapshotEnd },
    #[error("the snapshot holds {0} where rows belong")]
    Foreign(&'static str),
    #[error("the snapshot could not be stored: {0}")]
    Storage(#[source] io::Error),
}

fn write<S: SnapshotSink>(mut rx: mpsc::Receiver<wire_raft::SnapshotChunk>, mut sink: S) -> Result<S::Data, Refused> {
    let mut tally = Tally::default();
    while let Some(chunk) = rx.blocking_recv() {
        match chunk.part {
            Some(Part::Rows(rows)) => {
                for row in rows.rows {
                    tally.add(&row.key, &row.value);
                    sink.push(&rows.table, row.key, row.value).map_err(Refused::Storage)?;
                }
            }
            Some(Part::End(sent)) => {
                let received = tally.end();
                if received != sent {
                    return Err(Refused::Damaged { rows: received.rows, crc: received.crc, sent });
                }
                return sink.finish().map_err(Refused::Storage);
            }
            Some(Part::Header(_)) => return Err(Refused::Foreign("a second header")),
            None => return Err(Refused::Foreign("a part of an unknown kind")),
        }
    }
    Err(Refused::Cut)
}
