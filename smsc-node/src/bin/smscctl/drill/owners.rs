//! Who holds the floating address while a drill goes on, by the nodes' own word.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{StatusRequest, StatusResponse};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::connect::ConnectArgs;

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(25);

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct OwnersSeen {
    /// The nodes that held the address, one after the other.
    pub(super) in_turn: Vec<u64>,
    /// How often it was looked, and how often two nodes said that they hold it.
    pub(super) looks: u64,
    /// See `looks`.
    pub(super) two_at_once: u64,
}

impl OwnersSeen {
    fn take(&mut self, status: &StatusResponse) {
        let holders: Vec<u64> = status.members.iter().filter(|m| m.holds_address).map(|m| m.node_id).collect();
        self.looks += 1;
        self.two_at_once += u64::from(holders.len() > 1);
        for holder in holders {
            if self.in_turn.last() != Some(&holder) {
                self.in_turn.push(holder);
            }
        }
    }

    pub(super) fn human(&self) -> String {
        let in_turn = self.in_turn.iter().map(u64::to_string).collect::<Vec<_>>().join(", then ");
        let in_turn = if in_turn.is_empty() { "none".to_owned() } else { format!("node {in_turn}") };
        match self.two_at_once {
            0 => format!("{in_turn}; never two at once in {} looks", self.looks),
            times => format!("{in_turn}; TWO AT ONCE in {times} of {} looks", self.looks),
        }
    }
}

/// Looks until [`Owners::end`].
pub(super) struct Owners {
    stop: oneshot::Sender<()>,
    looking: JoinHandle<OwnersSeen>,
}

impl Owners {
    pub(super) fn watch(connect: ConnectArgs) -> Self {
        let (stop, mut stopped) = oneshot::channel::<()>();
        let looking = tokio::spawn(async move {
            let mut seen = OwnersSeen::default();
            let mut client = None;
            while matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                if client.is_none() {
                    client = connect.client().await.ok();
                }
                if let Some(asked) = &mut client {
                    match asked.status(StatusRequest {}).await {
                        Ok(status) => seen.take(status.get_ref()),
                        // The asked node may be the one that fails; the next may be another.
                        Err(_) => client = None,
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
            seen
        });
        Self { stop, looking }
    }

    pub(super) async fn end(self) -> OwnersSeen {
        drop(self.stop);
        self.looking.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use smsc_proto::rpc::raft::PeerStatus;

    use super::*;

    fn status(holders: &[u64]) -> StatusResponse {
        let member = |id| PeerStatus { node_id: id, holds_address: holders.contains(&id), ..Default::default() };
        StatusResponse { members: (1..=3).map(member).collect(), ..Default::default() }
    }

    #[test]
    fn owners_are_told_in_turn_and_two_are_loud() {
        let mut seen = OwnersSeen::default();
        for holders in [&[1][..], &[1], &[], &[2]] {
            seen.take(&status(holders));
        }
        assert_eq!(seen.human(), "node 1, then 2; never two at once in 4 looks");
        seen.take(&status(&[1, 2]));
        assert!(seen.human().contains("TWO AT ONCE in 1 of 5"));
    }
}
