//! Drives a leader through its phases: claim the addresses, serve, and give everything back in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use smsc_raft::consensus::network::{Link, PeerState};
use smsc_raft::consensus::types::Member;
use smsc_raft::leadership::Leadership;
use tokio::sync::{mpsc, watch};

use super::NodeError;
use super::peer::{HandoverReport, HandoverWish, LAG_MAX_ENTRIES, NodeState};
use super::serving::{self, Serving};
use super::takeover::Step;
use crate::config::FloatingIpMode;
use crate::ha::hold::{HoldState, IpHold, LossReason, Released};
use crate::ha::relay::Relay;
use crate::ha::{HaError, Phase};
use crate::shutdown::NodePhase;
use crate::smpp::listener::{Newcomers, Ports, Records};

/// How long a peer may take to hear the hash of the release token before it is told again.
const NOTE_WAIT: Duration = Duration::from_secs(2);
/// How long a target may take to take over.
const TRANSFER_WAIT: Duration = Duration::from_secs(3);
/// How long a standby may take to answer before a handover.
const CHECK_WAIT: Duration = Duration::from_millis(500);
/// How long another node may take to be elected by itself once it knows that the address is released.
const FOLLOWED_WAIT: Duration = Duration::from_millis(200);
/// How long a node that cannot serve waits before it tries again, when no other can either.
const NOBODY_ABLE_PAUSE: Duration = Duration::from_millis(500);
/// How long in-flight work may hold up a planned handover.
const SETTLE_WAIT: Duration = Duration::from_millis(250);
/// How long ESMEs may take to answer an unbind once the successor stands ready: nobody serves them meanwhile.
const UNBIND_WAIT: Duration = Duration::from_millis(20);

/// How soon a standby is looked for again that would take over from a stalled disk.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Why serving ended.
enum Ended {
    /// The lease is over or the addresses were lost.
    Lost,
    /// The process is to stop.
    Stopping,
    /// An operator wants another node to lead.
    Handover(HandoverWish),
    /// The disk has kept the log waiting for too long, and a standby is ready.
    DiskStalled,
    /// The node can go on no more.
    Failed(String),
}

/// The driver.
pub(super) struct Leader {
    state: Arc<NodeState>,
    leadership: watch::Receiver<Option<Leadership>>,
    failure: watch::Receiver<Option<String>>,
    wishes: mpsc::Receiver<HandoverWish>,
}

impl Leader {
    pub(super) fn new(state: Arc<NodeState>) -> Self {
        let wishes = state.wished.lock().unwrap_or_else(PoisonError::into_inner).take();
        Self {
            leadership: state.store.leadership(),
            failure: state.store.failure(),
            wishes: wishes.expect("there is one driver"),
            state,
        }
    }

    /// Runs until the process is to stop or the node fails.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        loop {
            let leadership = tokio::select! {
                leadership = next_leadership(&mut self.leadership) => leadership,
                () = self.state.lifecycle.reached(NodePhase::Draining) => return Ok(()),
                text = failed(&mut self.failure) => return Err(NodeError::Failed(text)),
                Some(wish) = self.wishes.recv() => {
                    // Whoever asked may have gone.
                    let _ = wish.answer.send(Err("this node does not lead".to_owned()));
                    continue;
                }
            };
            match self.lead(leadership).await? {
                Ended::Lost | Ended::Handover(_) | Ended::DiskStalled => {}
                Ended::Stopping => return Ok(()),
                Ended::Failed(text) => return Err(NodeError::Failed(text)),
            }
        }
    }

    async fn lead(&mut self, leadership: Leadership) -> Result<Ended, NodeError> {
        let started = Instant::now();
        let term = leadership.term;
        self.reached(term, Step::Leading);
        self.state.step(Phase::Claiming);
        self.state.metrics.firsts.reset();
        let claimed = self.claim(&leadership).await;
        let (hold, serving) = match claimed {
            Ok(claimed) => claimed,
            Err(text) => {
                tracing::error!(term, "leading, but not able to serve: {text}");
                self.state.step(Phase::Releasing);
                self.end_lease(&leadership).await;
                self.state.step(Phase::Standby);
                self.give_up_leadership().await;
                return Ok(Ended::Lost);
            }
        };
        self.state.step(Phase::Active);
        self.reached(term, Step::Serving);
        let took = started.elapsed();
        self.state.metrics.takeovers.inc(self.state.takeovers.kind());
        self.state.metrics.takeover_last_us.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        tracing::info!(term, took_ms = took.as_millis(), "serving");

        let ended = self.serve(&hold, &leadership).await;
        self.state.step(Phase::Releasing);
        match ended {
            Ended::Lost | Ended::Failed(_) => {
                let unreachable = hold.state() == HoldState::Lost(LossReason::NoCarrier);
                serving.abort().await;
                release(hold).await;
                self.state.step(Phase::Standby);
                if unreachable {
                    tracing::error!(term, "clients cannot reach this node: giving leadership to one that they can");
                    self.end_lease(&leadership).await;
                    self.give_up_leadership().await;
                }
                Ok(ended)
            }
            Ended::Stopping => {
                let drain = self.state.config.shutdown.drain;
                if let Err(text) = self.hand_over(None, serving, hold, &leadership, drain).await {
                    tracing::warn!("stopping without a handover: {text}");
                }
                self.state.step(Phase::Standby);
                Ok(Ended::Stopping)
            }
            Ended::DiskStalled => {
                // What is in flight waits for the disk; whoever leads next finds it in the log.
                if let Err(text) = self.hand_over(None, serving, hold, &leadership, Duration::ZERO).await {
                    tracing::error!("the disk stalls, and leadership could not be handed over: {text}");
                }
                self.state.step(Phase::Standby);
                Ok(Ended::Lost)
            }
            Ended::Handover(wish) => {
                let (target, answer) = (wish.to, wish.answer);
                let result = self.hand_over(target, serving, hold, &leadership, SETTLE_WAIT).await;
                self.state.step(Phase::Standby);
                // Whoever asked may have gone.
                let _ = answer.send(result);
                Ok(Ended::Lost)
            }
        }
    }

    fn reached(&self, term: u64, step: Step) {
        self.state.takeovers.reached(self.state.config.node_id, term, step);
    }

    /// Everything between "leads" and "serves". As much as possible is done before the leader before is known to be off
    /// the address.
    async fn claim(&self, leadership: &Leadership) -> Result<(IpHold, Serving), String> {
        let state = &self.state;
        let floating = state.floating.clone().ok_or("a witness holds no address")?;
        tokio::spawn(tell_peers(state.clone(), leadership.clone()));
        // The ports are open before the address is there, so that the first ESME to come finds them. In loopback mode
        // who listens holds the address, and the leader before still may.
        let early = if self.listens_early() { Some(self.listen(leadership).await?) } else { None };
        let preparing = leadership.clone();
        let prepared = blocking(move || floating.prepare(&preparing)).await?;
        state.store.predecessors_released().await;
        let hold = blocking(move || prepared.claim()).await?;
        self.reached(leadership.term, Step::Announced);
        let ports = match early {
            Some(ports) => Ok(ports),
            None => self.listen(leadership).await,
        };
        match ports {
            Ok(ports) => {
                let serving = Serving::start(state.clone(), leadership.clone(), &hold, ports);
                Ok((hold, serving))
            }
            Err(error) => {
                release(hold).await;
                Err(error)
            }
        }
    }

    fn listens_early(&self) -> bool {
        let floating = self.state.config.floating_ip.as_ref();
        floating.is_some_and(|floating| floating.mode == FloatingIpMode::Interface)
    }

    async fn listen(&self, leadership: &Leadership) -> Result<Ports, String> {
        serving::listen(&self.state, leadership).await.map_err(|error| error.to_string())
    }

    async fn serve(&mut self, hold: &IpHold, leadership: &Leadership) -> Ended {
        let mut held = hold.watch();
        let mut peers = self.state.store.peers();
        let mut away = absent(&peers.borrow_and_update());
        let mut disk = tokio::time::interval(self.state.config.store.disk_stall_max / 10);
        disk.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                text = failed(&mut self.failure) => return Ended::Failed(text),
                _ = held.wait_for(|state| *state != HoldState::Held) => return Ended::Lost,
                () = lost(&mut self.leadership, leadership.term) => return Ended::Lost,
                () = self.state.lifecycle.reached(NodePhase::Draining) => return Ended::Stopping,
                _ = disk.tick() => if let Some(text) = self.state.disk_stalled() {
                    match self.successor_of_disk().await {
                        Ok(member) => {
                            tracing::error!(to = %member.name, "{text}: handing over");
                            return Ended::DiskStalled;
                        }
                        Err(reason) => {
                            tracing::warn!("{text}, and no standby takes over: {reason}");
                            disk.reset_after(DISK_RETRY);
                        }
                    }
                },
                Some(wish) = self.wishes.recv() => match self.target(wish.to).await {
                    Ok(_) => return Ended::Handover(wish),
                    // Whoever asked may have gone.
                    Err(text) => drop(wish.answer.send(Err(text))),
                },
                Ok(()) = peers.changed() => {
                    let still = absent(&peers.borrow_and_update());
                    // The network between here and there was cut, perhaps for clients, too: they are told again.
                    if !away.is_subset(&still) {
                        hold.announce_again();
                    }
                    away = still;
                }
            }
        }
    }

    /// The standby that would take over from a stalled disk.
    async fn successor_of_disk(&self) -> Result<Member, String> {
        // The arbiter answers only a node that goes on alone. As long as both are there the other one is not elected,
        // and acknowledges nothing, without this disk either: a handover would cost the sessions and win nothing.
        if self.state.store.view().arbiter {
            return Err("each node of a pair needs the other one's disk".to_owned());
        }
        self.target(None).await.map(|(_, member)| member)
    }

    /// The standby to hand over to: the wished one if it is ready, else the one that has the most of the log.
    async fn target(&self, wished: Option<u64>) -> Result<(u64, Member), String> {
        let view = self.state.store.view();
        let own_id = self.state.config.node_id;
        let candidates = view.members.iter().filter(|(id, member)| {
            **id != own_id && !member.witness && view.voters.contains(id) && wished.is_none_or(|wished| wished == **id)
        });
        let mut refused = match wished {
            Some(id) if id == own_id => "this node leads already".to_owned(),
            Some(id) => format!("node {id} is not a voting data node of this cluster"),
            None => "there is no other voting data node".to_owned(),
        };
        let mut best: Option<(u64, u64, Member)> = None;
        for (id, member) in candidates {
            match self.state.store.peer_status(*id, member, CHECK_WAIT).await {
                Err(error) => refused = format!("{} does not answer: {error}", member.name),
                Ok(status) if !status.not_ready.is_empty() => {
                    refused = format!("{} is not ready: {}", member.name, status.not_ready)
                }
                Ok(status) if status.last_log_index + LAG_MAX_ENTRIES < view.last_log_index => {
                    refused = format!(
                        "{} is {} log entries behind",
                        member.name,
                        view.last_log_index - status.last_log_index
                    );
                }
                Ok(status) => {
                    if best.as_ref().is_none_or(|best| best.0 < status.last_log_index) {
                        best = Some((status.last_log_index, *id, member.clone()));
                    }
                }
            }
        }
        best.map(|(_, id, member)| (id, member)).ok_or(refused)
    }

    /// Settles what is under way, then moves leadership while the sessions end and the addresses are released, for which
    /// the successor waits; who connects again meanwhile is passed on to it. So ESMEs are without an owner for milliseconds.
    /// The addresses are released whatever comes of the transfer, and at the end of the lease at the latest.
    async fn hand_over(
        &self,
        wished: Option<u64>,
        serving: Serving,
        hold: IpHold,
        leadership: &Leadership,
        settle: Duration,
    ) -> Result<HandoverReport, String> {
        let started = Instant::now();
        let target = self.target(wished).await;
        if let Err(text) = &target {
            tracing::warn!("no standby takes over: {text}");
        }
        let (to, member) = match target {
            Ok(target) => target,
            Err(text) => {
                serving.settle(settle).await;
                serving.quiesce(Newcomers::Refused, settle).await;
                serving.stop(settle).await;
                release(hold).await;
                self.end_lease(leadership).await;
                return Err(text);
            }
        };
        let (relay, ()) = tokio::join!(self.relay(), serving.settle(settle));
        let settled = started.elapsed();
        // Some of those who are heard from here on are answered yet, and passed on all the same, which does no harm.
        let relay = relay.filter(|relay| {
            let listens = relay.listen();
            listens.inspect_err(|error| tracing::warn!(%error, "who connects during the handover is refused")).is_ok()
        });
        let newcomers = if relay.is_some() { Newcomers::Unanswered } else { Newcomers::Refused };
        serving.quiesce(newcomers, settle).await;
        let quiesced = started.elapsed();
        // The sessions are at rest, so that they may end, and the addresses go, while the successor is elected.
        let moving = async {
            let transferred = self.state.store.transfer(to, TRANSFER_WAIT).await;
            (transferred, started.elapsed())
        };
        let ending = async {
            let ports = serving.unbind(UNBIND_WAIT, Records::Lapse).await;
            let unbound = started.elapsed();
            let released = blocking(move || hold.release()).await;
            drop(ports);
            (released, unbound, started.elapsed())
        };
        let ((transferred, moved), (release, unbound, released)) = tokio::join!(moving, ending);
        self.show_successor(release, relay);
        leadership.lease().end();
        if let Err(error) = transferred {
            // A transfer that hangs leaves the cluster without writes until this node's engine starts anew.
            self.state.lifecycle.advance(NodePhase::Draining);
            return Err(format!("{} did not take over ({error}); this node restarts", member.name));
        }
        let report = HandoverReport {
            from: self.state.config.node_id,
            to,
            term: self.state.store.view().term,
            took_ms: u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX),
        };
        let (term, took_ms) = (report.term, report.took_ms);
        tracing::info!(to, term, took_ms, ?settled, ?quiesced, ?moved, ?unbound, ?released, "handed over");
        Ok(report)
    }

    /// What keeps requests to connect for the successor; without it they are refused until it is there.
    async fn relay(&self) -> Option<Relay> {
        let floating = self.state.floating.clone()?;
        let opened = blocking(move || floating.relay()).await;
        opened.inspect_err(|error| tracing::warn!(%error, "who connects during the handover is refused")).ok().flatten()
    }

    /// Shows the peers that the addresses are released, now that leadership has moved, and passes on to the successor who
    /// connected meanwhile.
    fn show_successor(&self, released: Result<Released, String>, relay: Option<Relay>) {
        let Some(floating) = self.state.floating.clone() else { return };
        let released = match released {
            Ok(released) => released,
            Err(error) => {
                return tracing::error!(%error, "the floating address was not released; the guard goes on trying");
            }
        };
        // A peer that hears of it by no copy waits out the lease.
        tokio::task::spawn_blocking(move || released.certificate().send_to(&floating.peers()));
        if let Some(relay) = relay {
            tokio::task::spawn_blocking(move || {
                let requests = relay.pass_on(None);
                tracing::info!(requests, "passed on to the successor who connected before it was there");
            });
        }
    }

    /// Ends the lease for good. Whoever leads next need not wait it out if it is certain that nothing of the address is on
    /// this host.
    async fn end_lease(&self, leadership: &Leadership) {
        leadership.lease().end();
        let Some(floating) = self.state.floating.clone() else { return };
        let ended = leadership.clone();
        let certified = blocking(move || {
            // A peer that does not hear of it waits out the lease.
            let _ = floating.certify(&ended)?.send_to(&floating.peers());
            Ok(())
        });
        if let Err(error) = certified.await {
            tracing::warn!(%error, "the next leader waits out this node's lease");
        }
    }

    /// Leads but cannot serve: lets another node try.
    async fn give_up_leadership(&self) {
        // Whoever has heard that the address is released stands for election by itself.
        let mut changes = self.state.store.view_changes();
        let followed = async {
            while self.state.store.view().leads {
                changes.next().await;
            }
        };
        if tokio::time::timeout(FOLLOWED_WAIT, followed).await.is_ok() {
            return;
        }
        let given = match self.target(None).await {
            Ok((to, _)) => self.state.store.transfer(to, TRANSFER_WAIT).await.map_err(|error| error.to_string()),
            Err(text) => Err(text),
        };
        if let Err(text) = given {
            tracing::error!("leadership could not be given away: {text}");
            // This node may be elected again at once, and be as unable as before.
            tokio::time::sleep(NOBODY_ABLE_PAUSE).await;
        }
    }
}

/// The peers that are not there now.
fn absent(peers: &BTreeMap<u64, PeerState>) -> BTreeSet<u64> {
    peers.iter().filter(|(_, peer)| !matches!(peer.link, Link::Connected { .. })).map(|(id, _)| *id).collect()
}

/// The next leadership whose lease still runs.
async fn next_leadership(watched: &mut watch::Receiver<Option<Leadership>>) -> Leadership {
    loop {
        let current = watched.borrow_and_update().clone();
        if let Some(leadership) = current.filter(Leadership::valid_now) {
            return leadership;
        }
        if watched.changed().await.is_err() {
            // The engine has ended; `failure` says so.
            std::future::pending::<()>().await;
        }
    }
}

async fn lost(watched: &mut watch::Receiver<Option<Leadership>>, term: u64) {
    let gone = |leadership: &Option<Leadership>| leadership.as_ref().is_none_or(|leadership| leadership.term != term);
    // An error means that the engine has ended, and leadership with it.
    let _ = watched.wait_for(gone).await;
}

async fn failed(failure: &mut watch::Receiver<Option<String>>) -> String {
    match failure.wait_for(Option::is_some).await {
        Ok(text) => text.clone().unwrap_or_default(),
        Err(_) => std::future::pending().await,
    }
}

/// Lets the peers know how this term's release certificate can be checked. Beside the claim: a peer that does not hear
/// in time waits out the lease should this node die, which costs time and not safety.
async fn tell_peers(state: Arc<NodeState>, leadership: Leadership) {
    let mut links = state.store.peers();
    loop {
        links.borrow_and_update();
        state.store.announce_release_hash(&leadership, NOTE_WAIT).await;
        // A peer that comes back, perhaps as a new process, has to hear it again.
        if links.changed().await.is_err() || !leadership.valid_now() {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, HaError> + Send + 'static) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

async fn release(hold: IpHold) {
    if let Err(error) = blocking(move || hold.release().map(drop)).await {
        tracing::error!(%error, "the floating address was not released; the guard goes on trying");
    }
}
