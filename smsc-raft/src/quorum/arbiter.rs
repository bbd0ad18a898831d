//! Whether this node's arbiter answers.

use std::sync::Arc;

use tokio::sync::watch;

/// The switch of the arbiter; the clones are the same one. Silent at first.
#[derive(Clone, Debug)]
pub struct Arbiter {
    answers: Arc<watch::Sender<bool>>,
}

impl Default for Arbiter {
    fn default() -> Self {
        Self { answers: Arc::new(watch::Sender::new(false)) }
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

    /// Waits until it answers.
    pub(crate) async fn answering(&self) {
        // The sender lives as long as this does.
        let _ = self.answers.subscribe().wait_for(|answers| *answers).await;
    }
}
