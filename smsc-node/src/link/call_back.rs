//! cancel_sm to a message centre, for messages that it has accepted: which answers belong together. Pure but for telling
//! who waits.

use std::collections::HashMap;

use tokio::sync::oneshot;

/// cancel_sm that may wait for their answers, beside what the window of submit_sm holds: as many as a message has parts,
/// and as many messages as one round of a cancel_sm ends.
pub(super) const OPEN_MAX: usize = 256;
/// Set in the token of a cancel_sm: those of submit_sm count from 0.
const CALL: u64 = 1 << 63;

/// Whether this is the token of a cancel_sm.
pub(super) fn is_call(token: u64) -> bool {
    token & CALL != 0
}

#[derive(Debug)]
struct Call {
    open: usize,
    refused: bool,
    done: oneshot::Sender<bool>,
}

/// The messages that are being cancelled.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<u64, Call>,
    /// The call that a token belongs to: its first token.
    of_token: HashMap<u64, u64>,
    next: u64,
}

impl Calls {
    /// Whether so many more may be sent.
    pub fn has_room(&self, parts: usize) -> bool {
        self.of_token.len() + parts <= OPEN_MAX
    }

    /// The tokens of the cancel_sm of one message, `parts` of them, at least one. `done` is told whether all were
    /// granted.
    pub fn begin(&mut self, parts: usize, done: oneshot::Sender<bool>) -> std::ops::Range<u64> {
        let first = CALL | self.next;
        let tokens = first..first + parts as u64;
        self.next += parts as u64;
        self.of_token.extend(tokens.clone().map(|token| (token, first)));
        self.calls.insert(first, Call { open: parts, refused: false, done });
        tokens
    }

    /// A cancel_sm was answered, or never will be.
    pub fn answered(&mut self, token: u64, granted: bool) {
        let Some(first) = self.of_token.remove(&token) else { return };
        let Some(call) = self.calls.get_mut(&first) else { return };
        call.open -= 1;
        call.refused |= !granted;
        if call.open == 0
            && let Some(call) = self.calls.remove(&first)
        {
            // Whoever asked may have stopped waiting.
            let _ = call.done.send(!call.refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cancelled_when_all_of_its_parts_are() {
        let mut calls = Calls::default();
        let begin = |calls: &mut Calls, parts| {
            let (done, answer) = oneshot::channel();
            (calls.begin(parts, done), answer)
        };
        let (one, mut whole) = begin(&mut calls, 1);
        let (three, mut in_part) = begin(&mut calls, 3);
        assert!(one.clone().chain(three.clone()).all(is_call) && !is_call(0));
        for (index, token) in three.enumerate() {
            assert!(in_part.try_recv().is_err());
            calls.answered(token, index != 1);
            calls.answered(token, true);
        }
        assert_eq!(in_part.try_recv(), Ok(false));
        calls.answered(one.start, true);
        assert_eq!(whole.try_recv(), Ok(true));
        assert!(calls.calls.is_empty() && calls.of_token.is_empty());
    }
}
