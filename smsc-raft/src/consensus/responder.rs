//! How the outcome of a proposal reaches the one who made it: a callback, run where the entry is applied.

use openraft::raft::responder::Responder;

use super::types::{LogId, TypeConfig};

/// Calls back once with the result; with `None` when the engine drops the proposal without one.
pub struct Callback<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T> Callback<T> {
    /// A callback that must be quick: it runs on the thread that applies.
    pub fn new(done: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_commit(&mut self, _: LogId) {}

    fn on_complete(mut self, result: T) {
        if let Some(done) = self.0.take() {
            done(Some(result));
        }
    }
}

impl<T> Drop for Callback<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(None);
        }
    }
}
