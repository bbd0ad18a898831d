//! The engine's own suite for log storages.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, TryStreamExt as _};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};

use super::super::{LogConfig, LogStore};
use crate::consensus::types::{LogId, StoredMembership, TypeConfig};
use crate::outcome::Outcomes;

type Meta = SnapshotMetaOf<TypeConfig>;

/// A machine that remembers how far it came, and no more.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Counted>>);

#[derive(Clone, Default)]
struct Counted {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<Meta>,
}

impl RaftSnapshotBuilder<TypeConfig> for Counter {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let mut counted = self.0.lock().expect("no panic");
        let meta = SnapshotMeta { last_log_id: counted.applied, last_membership: counted.membership.clone() };
        counted.snapshot = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Counter {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let counted = self.0.lock().expect("no panic");
        Ok((counted.applied, counted.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut counted = self.0.lock().expect("no panic");
            counted.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                counted.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Outcomes::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> Result<(), io::Error> {
        let mut counted = self.0.lock().expect("no panic");
        counted.applied = meta.last_log_id;
        counted.membership = meta.last_membership.clone();
        counted.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        let snapshot = self.0.lock().expect("no panic").snapshot.clone();
        Ok(snapshot.map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct Builder {
    cache_bytes: usize,
}

impl StoreBuilder<TypeConfig, LogStore, Counter, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Counter), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = LogConfig {
            segment_bytes: 64 << 10,
            cache_bytes: self.cache_bytes,
            ..LogConfig::new(dir.path().join("log"))
        };
        let store = LogStore::open(config).expect("an empty directory");
        Ok((dir, store, Counter::default()))
    }
}

#[tokio::test]
async fn the_engines_suite_passes_from_memory() {
    Suite::test_all(Builder { cache_bytes: 1 << 20 }).await.expect("the suite");
}

#[tokio::test]
async fn the_engines_suite_passes_from_disk() {
    Suite::test_all(Builder { cache_bytes: 0 }).await.expect("the suite");
}
