//! A request stream that its caller can end.
//!
//! The HTTP/2 layer polls a request's body in a task of its own and keeps it for as long as it likes, even when the
//! call was given up. What the body reads from (the engine's replication cursor, a snapshot's rows) must be free for
//! the next attempt as soon as this one is over, so the caller takes it back.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;

struct State<S> {
    input: Option<S>,
    waker: Option<Waker>,
}

type Shared<S> = Arc<Mutex<State<S>>>;

/// The stream to hand out; ends when the input does or the [`Closer`] is dropped.
pub(super) struct Closable<S>(Shared<S>);

/// Drops the input and ends the stream when dropped.
pub(super) struct Closer<S>(Shared<S>);

pub(super) fn closable<S>(input: S) -> (Closable<S>, Closer<S>) {
    let shared = Arc::new(Mutex::new(State { input: Some(input), waker: None }));
    (Closable(shared.clone()), Closer(shared))
}

/// A panic of the input leaves nothing that the next poll or the closing could find inconsistent.
fn lock<S>(shared: &Shared<S>) -> MutexGuard<'_, State<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Stream + Unpin> Stream for Closable<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut state = lock(&self.0);
        let Some(input) = &mut state.input else {
            return Poll::Ready(None);
        };
        match Pin::new(input).poll_next(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(item)),
            Poll::Ready(None) => {
                state.input = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<S> Drop for Closer<S> {
    fn drop(&mut self) {
        let (input, waker) = {
            let mut state = lock(&self.0);
            (state.input.take(), state.waker.take())
        };
        drop(input);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    #[tokio::test]
    async fn closing_frees_the_input_and_wakes_the_reader() {
        let (tx, rx) = mpsc::channel(1);
        let (mut stream, closer) = closable(ReceiverStream::new(rx));
        tx.send(1).await.expect("open");
        assert_eq!(stream.next().await, Some(1));
        let reader = tokio::spawn(async move { (stream.next().await, stream) });
        tokio::task::yield_now().await;
        drop(closer);
        assert!(tx.is_closed());
        let (end, _still_held) = reader.await.expect("no panic");
        assert_eq!(end, None);
    }
}
