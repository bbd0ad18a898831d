//! Brings the failure about while the probe watches.

use std::time::{Duration, SystemTime};

use smsc_node::probe::{self, Outage, ProbeEvent, ProbeOptions, ProbeSummary};
use smsc_proto::rpc::admin::{FaultRequest, HandoverRequest, fault_request::Kind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Failing;
use crate::connect::{Client, ConnectArgs};
use crate::exit::Failure;

/// How long the service is watched before the failure and after it.
const STEADY: Duration = Duration::from_secs(1);

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
    let (tell, mut events) = mpsc::unbounded_channel();
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

    let mut last_failure = String::new();
    let ready_by = Instant::now() + ready_within;
    loop {
        match timeout_at(ready_by, events.recv()).await {
            Ok(Some(ProbeEvent::Ready)) => break,
            Ok(Some(ProbeEvent::Failed(cause))) => last_failure = cause,
            Ok(Some(_)) => {}
            Ok(None) => {
                let ended = probing.await.map_err(Failure::refused)?;
                return Err(Failure::usage(
                    ended.err().map_or_else(|| "the probe ended".to_owned(), |e| e.to_string()),
                ));
            }
            Err(_) => {
                return Err(Failure::refused(format!(
                    "nothing was triggered: the probe could not submit to {target} within {} s: {last_failure}; \
                     see --target, --system-id, --password and --destination",
                    ready_within.as_secs()
                )));
            }
        }
    }
    let mut acked_before = 0;
    let steady_until = Instant::now() + STEADY;
    while let Ok(Some(event)) = timeout_at(steady_until, events.recv()).await {
        acked_before += u64::from(matches!(event, ProbeEvent::Acked { .. }));
    }

    let triggered = trigger(&mut client, failing);
    let mut seen = Seen { acked_before, ..Seen::default() };
    let called_at = SystemTime::now();
    let (trigger_at, handover_ms) = {
        tokio::pin!(triggered);
        loop {
            tokio::select! {
                done = &mut triggered => break done.map(|(at, ms)| (at.unwrap_or(called_at), ms))?,
                Some(event) = events.recv() => seen.take(event),
            }
        }
    };
    let end = Instant::now() + limit;
    // A handover may pass without the probe noticing, if the sessions move along.
    let unnoticed_by = Instant::now() + STEADY * 2;
    while seen.outage.is_none() {
        let until =
            if seen.failing || !matches!(failing, Failing::Handover { .. }) { end } else { unnoticed_by.min(end) };
        match timeout_at(until, events.recv()).await {
            Ok(Some(event)) => seen.take(event),
            Ok(None) | Err(_) => break,
        }
    }
    let recovered = seen.outage.is_some() || !seen.failing;
    let steady_until = Instant::now() + STEADY;
    while let Ok(Some(event)) = timeout_at(steady_until, events.recv()).await {
        seen.take(event);
    }
    drop(stop);
    let summary = timeout(Duration::from_secs(2), probing).await.map_err(Failure::refused)?;
    let summary = summary.map_err(Failure::refused)?.map_err(Failure::usage)?;
    Ok(Measured {
        trigger_at,
        outage: seen.outage,
        recovered,
        acked_before: seen.acked_before,
        acked_after: summary.acked.saturating_sub(seen.acked_before),
        summary,
        handover_ms,
    })
}

/// What came in since the failure was asked for.
#[derive(Default)]
struct Seen {
    acked_before: u64,
    failing: bool,
    outage: Option<Outage>,
}

impl Seen {
    fn take(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Acked { .. } if self.outage.is_none() => self.acked_before += 1,
            ProbeEvent::Failed(_) => self.failing = true,
            ProbeEvent::Outage(outage) => {
                self.failing = false;
                // The first is the one that was brought about.
                self.outage.get_or_insert(outage);
            }
            ProbeEvent::Acked { .. } | ProbeEvent::Ready => {}
        }
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
    };
    let fault = client.fault(FaultRequest { kind: kind as i32, freeze_ms, ..Default::default() }).await?.into_inner();
    Ok((Some(SystemTime::now() + Duration::from_millis(u64::from(fault.in_ms))), None))
}
