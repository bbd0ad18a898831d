//! Whoever asked for a receipt gets one, and gets none that was not asked for.
//!
//! At least once: the contract allows a second delivery of the stored one when a leader dies at the wrong moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use smsc_proto::types::{ReceiptRequest, RegisteredDelivery};
use smsc_raft::model::{FinalRecord, MessageState};
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct ReceiptDelivered {
    finals: BTreeMap<u64, Arc<FinalRecord>>,
}

impl Invariant for ReceiptDelivered {
    fn name(&self) -> &'static str {
        "a receipt for whoever asked"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { outcomes, .. } => {
                for outcome in *outcomes {
                    if let Outcome::Finished { record } = outcome {
                        self.finals.insert(record.id, record.clone());
                    }
                }
                Ok(())
            }
            Seen::Settled { oracle, .. } => {
                for (id, tag) in oracle.acked() {
                    let Some(record) = self.finals.get(&id) else { continue };
                    let success = record.state() == MessageState::Delivered;
                    let asked = match RegisteredDelivery(oracle.submissions()[tag].registered_delivery).receipt() {
                        ReceiptRequest::Never => false,
                        ReceiptRequest::Always => true,
                        ReceiptRequest::OnFailure => !success,
                        ReceiptRequest::OnSuccess => success,
                    };
                    match (asked, oracle.receipts(id)) {
                        (true, 0) => return Err(format!("{id} ended in {:?}, nobody was told", record.state())),
                        (false, 1..) => return Err(format!("a receipt for {id} that was not asked for")),
                        _ => {}
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
