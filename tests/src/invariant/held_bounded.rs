//! An engine holds no more messages than its window.
//!
//! The backlog may be millions; memory must not grow with it, least of all on the way to serving.

use super::{Invariant, Seen};

pub(super) struct HeldBounded;

impl Invariant for HeldBounded {
    fn name(&self) -> &'static str {
        "an engine holds no more than its window"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Held { messages, messages_max } if messages > messages_max => {
                Err(format!("{messages} messages are held, {messages_max} may be"))
            }
            _ => Ok(()),
        }
    }
}
