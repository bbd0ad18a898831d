//! Every request PDU is answered exactly once, or its session ends.
//!
//! An ESME with a full window that misses an answer stands still; one that gets two takes the second for that of
//! another request. Answers that came after the ESME had given up are told apart.

use super::{Invariant, Seen};
use crate::oracle::Answer;

#[derive(Default)]
pub(super) struct AnsweredOnce;

impl Invariant for AnsweredOnce {
    fn name(&self) -> &'static str {
        "every request is answered once or its session ends"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::SessionEnded { answers_unexpected, answers_late } if answers_unexpected > answers_late => {
                Err(format!("{answers_unexpected} answers belong to no request, {answers_late} may have come late"))
            }
            Seen::Settled { oracle, .. } => {
                let waits = |answer| answer == Answer::Pending;
                match oracle.submissions().iter().position(|asked| waits(asked.answer)) {
                    Some(tag) => Err(format!("submission {tag} was never answered")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
