//! Whether any connection takes in or owes something, for whoever waits until none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the connections at work.
#[derive(Debug, Default)]
pub struct Rest {
    working: AtomicUsize,
    changed: Notify,
}

/// A connection at work; at rest when dropped.
#[derive(Debug)]
pub struct Working(Arc<Rest>);

impl Rest {
    /// A connection begins to work.
    pub fn begin(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::AcqRel);
        Working(self.clone())
    }

    /// Waits until all are at rest.
    pub async fn all(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on nothing is missed.
            changed.as_mut().enable();
            if self.working.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_rest_once_the_last_does() {
        let rest = Arc::new(Rest::default());
        rest.all().await;
        let (first, second) = (rest.begin(), rest.begin());
        let waiting = {
            let rest = rest.clone();
            tokio::spawn(async move { rest.all().await })
        };
        tokio::task::yield_now().await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.expect("no panic");
    }
}
