//! Whether this node's arbiter answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The switch of the arbiter; the clones are the same one. Silent at first.
#[derive(Clone, Debug)]
pub struct Arbiter {
    answers: Arc<watch::Sender<bool>>,
    distrusts_peer: Arc<AtomicBool>,
}

impl Default for Arbiter {
    fn default() -> Self {
        Self { answers: Arc::new(watch::Sender::new(false)), distrusts_peer: Arc::default() }
    }
}

impl Arbiter {
    /// Whether it answers at this moment.
    #[must_use]
    pub fn answers(&self) -> bool {
        *self.answers.borrow()
    }

    /// Lets it answer, or not. Whatever is asked after this returned is treated accordingly.
    pub(crate) fn set(&self, answers: bool) {
        self.answers.send_replace(answers);
    }

    /// Whether the peer's Raft is to be listened to. Not while this node goes on alone and the peer has not said that it
    /// does not: of two that did, neither may replace what the other has acknowledged.
    pub(crate) fn trusts_peer(&self) -> bool {
        !self.distrusts_peer.load(Ordering::Acquire)
    }

    /// See [`Arbiter::trusts_peer`].
    pub(crate) fn trust_peer(&self, trust: bool) {
        self.distrusts_peer.store(!trust, Ordering::Release);
    }

    /// Waits until it answers.
    pub(crate) async fn answering(&self) {
        // The sender lives as long as this does.
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
    }
}
