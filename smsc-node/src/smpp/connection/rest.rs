//! Whether any connection takes in or owes something, for whoever waits until none does.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the connections at work.
#[derive(Debug, Default)]
pub struct Rest {
    working: watch::Sender<usize>,
}

/// A connection at work; at rest when dropped.
#[derive(Debug)]
pub struct Working(Arc<Rest>);

impl Rest {
    /// A connection begins to work.
    pub fn begin(self: &Arc<Self>) -> Working {
        self.working.send_modify(|working| *working += 1);
        Working(self.clone())
    }

    /// Waits until all are at rest.
    pub async fn all(&self) {
        // The sender, which is this, lives on.
        let _ = self.working.subscribe().wait_for(|working| *working == 0).await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.send_modify(|working| *working -= 1);
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
