//! Brings the failure about while the probe watches.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use smsc_node::probe::{self, Outage, ProbeError, ProbeEvent, ProbeOptions, ProbeSummary};
use smsc_proto::rpc::admin::{FaultRequest, HandoverRequest, fault_request::Kind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Failing;
use super::owners::{Owners, OwnersSeen};
use crate::connect::{Client, ConnectArgs};
use crate::exit::Failure;

/// How long the service is watched before the failure and after it.
const STEADY: Duration = Duration::from_secs(1);
/// How long receipts may take that are due when the ESME is back.
const RECEIPTS_WITHIN: Duration = Duration::from_secs(5);

/// What the probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// When the failure was due.
    pub(super) trigger_at: SystemTime,
    /// The outage behind it; `None` if there was none, or it did not end in time.
    pub(super) outage: Option<Outage>,
    /// Whether submissions are acknowledged again.
    pub(super) recovered: bool,
    /// Submissions acknowledged before the failure, and after it.
    pub(super) acked_before: u64,
    /// See `acked_before`.
    pub(super) acked_after: u64,
    /// Everything the probe counted.
    pub(super) summary: ProbeSummary,
    /// How long the leader says that the handover took, milliseconds.
    pub(super) handover_ms: Option<u32>,
    /// Receipts that came after the outage for messages acknowledged before it; `None` if none were asked for.
    pub(super) receipts_recovered: Option<u64>,
    /// Messages that were acknowledged a while ago and have no receipt.
    pub(super) without_receipt: Vec<u64>,
    /// Who held the address.
    pub(super) owners: OwnersSeen,
}

/// Watches, has it fail, and watches until the service is back or `limit` is over.
pub(super) async fn measure(
    connect: &ConnectArgs,
    failing: Failing,
    options: ProbeOptions,
    ready_within: Duration,
    limit: Duration,
) -> Result<Measured, Failure> {
    let mut client = connect.client().await?;
    let receipts = options.receipts;
    let mut watching = Watching::begin(options);
    watching.ready(ready_within).await?;
    watching.for_a_while(STEADY).await;
    let owners = Owners::watch(connect.clone());
    watching.seen.struck = true;

    let called_at = SystemTime::now();
    let (trigger_at, handover_ms) = {
        let triggered = trigger(&mut client, failing);
        tokio::pin!(triggered);
        loop {
            tokio::select! {
                done = &mut triggered => break done.map(|(at, ms)| (at.unwrap_or(called_at), ms))?,
                Some(event) = watching.events.recv() => watching.seen.take(event),
            }
        }
    };
    let end = Instant::now() + limit;
    // It may pass without the probe noticing.
    let unnoticed_by = failing.unnoticed_after().map_or(end, |after| end.min(Instant::now() + after));
    while watching.seen.outage.is_none() {
        let until = if watching.seen.failing { end } else { unnoticed_by };
        match timeout_at(until, watching.events.recv()).await {
            Ok(Some(event)) => watching.seen.take(event),
            Ok(None) | Err(_) => break,
        }
    }
    let recovered = watching.seen.outage.is_some() || !watching.seen.failing;
    watching.for_a_while(STEADY).await;
    let receipts_by = Instant::now() + RECEIPTS_WITHIN;
    while receipts && recovered && !watching.seen.receipts_are_complete() && Instant::now() < receipts_by {
        watching.for_a_while(STEADY / 10).await;
    }
    let owners = owners.end().await;
    let (seen, summary) = watching.end().await?;
    Ok(Measured {
        trigger_at,
        recovered,
        acked_before: seen.acked_before,
        acked_after: summary.acked.saturating_sub(seen.acked_before),
        summary,
        handover_ms,
        receipts_recovered: receipts.then_some(seen.receipts_recovered),
        without_receipt: if receipts { seen.without_receipt() } else { Vec::new() },
        outage: seen.outage,
        owners,
    })
}

/// A probe at work, and what it has told so far.
struct Watching {
    events: mpsc::UnboundedReceiver<ProbeEvent>,
    stop: oneshot::Sender<()>,
    probing: JoinHandle<Result<ProbeSummary, ProbeError>>,
    target: std::net::SocketAddr,
    seen: Seen,
}

impl Watching {
    fn begin(options: ProbeOptions) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let target = options.target;
        let probing = tokio::spawn(async move {
            let stopped = async {
                // Dropping the sender stops the probe as well.
                let _ = stopped.await;
            };
            // The receiver is there for as long as anyone is interested.
            probe::run(&options, stopped, |event| drop(tell.send(event))).await
        });
        Self { events, stop, probing, target, seen: Seen::default() }
    }

    /// Waits for the first acknowledgement.
    async fn ready(&mut self, within: Duration) -> Result<(), Failure> {
        let mut last_failure = String::new();
        let ready_by = Instant::now() + within;
        loop {
            match timeout_at(ready_by, self.events.recv()).await {
                Ok(Some(ProbeEvent::Ready)) => return Ok(()),
                Ok(Some(ProbeEvent::Failed(cause))) => last_failure = cause,
                Ok(Some(_)) => {}
                Ok(None) => {
                    let ended = (&mut self.probing).await.map_err(Failure::refused)?;
                    let text = ended.err().map_or_else(|| "the probe ended".to_owned(), |error| error.to_string());
                    return Err(Failure::usage(text));
                }
                Err(_) => {
                    return Err(Failure::refused(format!(
                        "nothing was triggered: the probe could not submit to {} within {} s: {last_failure}; \
                         see --target, --system-id, --password and --destination",
                        self.target,
                        within.as_secs()
                    )));
                }
            }
        }
    }

    async fn for_a_while(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(Some(event)) = timeout_at(until, self.events.recv()).await {
            self.seen.take(event);
        }
    }

    async fn end(mut self) -> Result<(Seen, ProbeSummary), Failure> {
        drop(self.stop);
        let summary = timeout(Duration::from_secs(2), self.probing).await.map_err(Failure::refused)?;
        let summary = summary.map_err(Failure::refused)?.map_err(Failure::usage)?;
        while let Ok(event) = self.events.try_recv() {
            self.seen.take(event);
        }
        Ok((self.seen, summary))
    }
}

/// What came in.
#[derive(Default)]
struct Seen {
    /// Whether the failure was asked for.
    struck: bool,
    acked_before: u64,
    failing: bool,
    outage: Option<Outage>,
    /// Acknowledged messages without a receipt: when that was, and whether it was before the outage.
    awaited: BTreeMap<u64, (Instant, bool)>,
    receipts_recovered: u64,
}

impl Seen {
    fn take(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Acked { id, .. } => {
                let before = self.outage.is_none();
                self.acked_before += u64::from(before);
                self.awaited.extend(id.map(|id| (id, (Instant::now(), before))));
            }
            ProbeEvent::Receipt { id } => {
                let known = self.awaited.remove(&id);
                let recovered = self.outage.is_some() && known.is_some_and(|(_, before)| before);
                self.receipts_recovered += u64::from(recovered);
            }
            ProbeEvent::Failed(_) => self.failing = true,
            ProbeEvent::Outage(outage) => {
                self.failing = false;
                if self.struck {
                    // The first is the one that was brought about.
                    self.outage.get_or_insert(outage);
                }
            }
            ProbeEvent::Ready => {}
        }
    }

    fn receipts_are_complete(&self) -> bool {
        self.awaited.values().all(|(_, before)| !before) || self.outage.is_none()
    }

    /// Those of the last moment may still be on their way.
    fn without_receipt(&self) -> Vec<u64> {
        let late = |(_, (at, _)): &(&u64, &(Instant, bool))| at.elapsed() > STEADY / 2;
        self.awaited.iter().filter(late).map(|(id, _)| *id).collect()
    }
}

/// Asks for the failure: when it strikes, unless that is at the call, and how long a handover took.
async fn trigger(client: &mut Client, failing: Failing) -> Result<(Option<SystemTime>, Option<u32>), Failure> {
    let (kind, freeze_ms) = match failing {
        Failing::Handover { to } => {
            let done = client.handover(HandoverRequest { node_id: to }).await?.into_inner();
            return Ok((None, Some(done.took_ms)));
        }
        Failing::Kill => (Kind::Kill, 0),
        Failing::Freeze { ms } => (Kind::Freeze, ms),
        Failing::Cut { ms } => (Kind::Cut, ms),
        Failing::DiskStall { ms } => (Kind::DiskStall, ms),
    };
    let request = FaultRequest { kind: kind as i32, freeze_ms, ..Default::default() };
    let fault = client.fault(request).await?.into_inner();
    Ok((Some(SystemTime::now() + Duration::from_millis(u64::from(fault.in_ms))), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(id: u64) -> ProbeEvent {
        ProbeEvent::Acked { latency: Duration::ZERO, id: Some(id) }
    }

    fn outage() -> ProbeEvent {
        ProbeEvent::Outage(Outage {
            last_ack_at: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            noticed_after: Duration::ZERO,
            bound_after: Duration::ZERO,
            cause: String::new(),
            connects: 1,
        })
    }

    #[test]
    fn receipts_of_before_that_come_after_are_recovered() {
        let mut seen = Seen { struck: true, ..Seen::default() };
        for event in [acked(1), acked(2), ProbeEvent::Receipt { id: 1 }, ProbeEvent::Failed("lost".into())] {
            seen.take(event);
        }
        assert!(seen.failing);
        for event in [outage(), acked(3), ProbeEvent::Receipt { id: 3 }] {
            seen.take(event);
        }
        assert!(!seen.failing && !seen.receipts_are_complete());
        seen.take(ProbeEvent::Receipt { id: 2 });
        assert!(seen.receipts_are_complete());
        assert_eq!((seen.acked_before, seen.receipts_recovered), (2, 1));
    }

    #[test]
    fn an_outage_before_the_failure_is_not_the_one() {
        let mut seen = Seen::default();
        seen.take(outage());
        assert_eq!(seen.outage, None);
    }
}
