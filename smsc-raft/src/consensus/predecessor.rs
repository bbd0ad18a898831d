//! Whether the leader before may still hold the address.
//!
//! An election without a transfer of leadership respects leases, or follows a release certificate: the leader before is
//! off the address then. In a transfer, the old leader keeps the address until its successor is elected, so that ESMEs
//! are without anybody to connect to for as short as possible. The successor therefore notes, with the request, until
//! when at most the old one may hold it, and claims only once that time is over or the release certificate of the old
//! leader has come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Leaders that may still hold the address, and those that have proven that they do not. Cheap to clone.
#[derive(Clone, Default)]
pub struct Predecessors {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    /// The latest term for which a node has shown its release certificate.
    released: HashMap<u64, u64>,
    /// Node, term, and until when its lease may last.
    yielding: Vec<(u64, u64, Instant)>,
}

impl Predecessors {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.known.lock().expect("never held across a panic")
    }

    /// The leader of `term` transfers its leadership: it may hold the address for one `lease` from now.
    pub fn yields(&self, node_id: u64, term: u64, lease: Duration) {
        let now = Instant::now();
        let mut known = self.known();
        known.yielding.retain(|(_, _, until)| *until > now);
        // A request that is repeated brings no new lease: the old leader's ended with its leadership.
        if !known.yielding.iter().any(|(node, at, _)| (*node, *at) == (node_id, term)) {
            known.yielding.push((node_id, term, now + lease));
        }
    }

    /// The leader of `term` has proven that the address is off it.
    pub fn released(&self, node_id: u64, term: u64) {
        let mut known = self.known();
        let latest = known.released.entry(node_id).or_insert(term);
        *latest = term.max(*latest);
        drop(known);
        self.inner.changed.notify_waiters();
    }

    /// Waits until no leader before can hold the address.
    pub async fn all_released(&self) {
        loop {
            let mut changed = std::pin::pin!(self.inner.changed.notified());
            // From here on nothing is missed.
            changed.as_mut().enable();
            let until = {
                let known = self.known();
                let now = Instant::now();
                let held = known.yielding.iter().filter(|(node, term, until)| {
                    *until > now && known.released.get(node).is_none_or(|released| released < term)
                });
                held.map(|(_, _, until)| *until).max()
            };
            let Some(until) = until else { return };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    /// Nobody waits this long in a test that passes.
    const LONG: Duration = Duration::from_secs(60);

    async fn waited(predecessors: &Predecessors) -> Duration {
        let started = Instant::now();
        predecessors.all_released().await;
        started.elapsed()
    }

    #[tokio::test]
    async fn a_leader_that_yields_is_waited_for_until_its_lease_is_over() {
        let predecessors = Predecessors::default();
        predecessors.all_released().await;
        predecessors.yields(1, 7, SHORT);
        assert!(waited(&predecessors).await >= SHORT);
        predecessors.all_released().await;
    }

    #[tokio::test]
    async fn a_release_of_another_term_or_node_proves_nothing() {
        let predecessors = Predecessors::default();
        predecessors.yields(1, 7, SHORT);
        predecessors.released(1, 6);
        predecessors.released(2, 9);
        assert!(waited(&predecessors).await >= SHORT);
    }

    #[tokio::test]
    async fn a_release_ends_the_wait_before_and_while_it_lasts() {
        let predecessors = Predecessors::default();
        predecessors.yields(1, 7, LONG);
        let released = predecessors.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SHORT).await;
            released.released(1, 7);
        });
        assert!(waited(&predecessors).await < LONG);
        // A repeated request starts no new lease.
        predecessors.yields(1, 7, LONG);
        assert!(waited(&predecessors).await < LONG);
    }
}
