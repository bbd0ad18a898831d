//! Who waits for which message to come to its end: sessions with a message in transaction mode.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use smsc_raft::outcome::Outcome;
use tokio::sync::oneshot;

/// The messages that are waited for. Costs next to nothing while there are none.
#[derive(Debug, Default)]
pub struct Ends {
    watched: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    count: AtomicUsize,
}

/// Resolves when the message has come to its end. Dropped, nobody waits for it any more.
#[derive(Debug)]
pub struct Watch {
    ends: Arc<Ends>,
    id: u64,
    told: oneshot::Receiver<()>,
}

impl Ends {
    /// Waits for the end of a message. One waits for each: a second takes the place of the first.
    pub fn watch(self: &Arc<Self>, id: u64) -> Watch {
        let (tell, told) = oneshot::channel();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(id, tell);
        self.count.store(watched.len(), Ordering::Release);
        Watch { ends: self.clone(), id, told }
    }

    /// What applying a command gave: tells whoever waits for the message that it ended, if it did.
    pub fn tell(&self, outcome: &Outcome) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Outcome::Finished { record } = outcome {
            self.forget(record.id);
        }
    }

    /// Dropping the sender wakes whoever waits.
    fn forget(&self, id: u64) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.remove(&id);
        self.count.store(watched.len(), Ordering::Release);
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.told).poll(context).map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::FinalRecord;
    use std::time::Duration;

    #[tokio::test]
    async fn an_end_is_told_to_whoever_waits_and_nobody_is_left_behind() {
        let ends = Arc::new(Ends::default());
        let (first, second) = (ends.watch(1), ends.watch(2));
        let record = FinalRecord { id: 1, ..FinalRecord::default() };
        ends.tell(&Outcome::Stored(2));
        ends.tell(&Outcome::Finished { record: Arc::new(record) });
        first.await;
        assert!(tokio::time::timeout(Duration::from_millis(20), second).await.is_err());
        assert_eq!(ends.count.load(Ordering::Acquire), 0);
    }
}
