//! What is done now and then: figures for the metrics on every node; on the leader, letting go of what is old.

use std::sync::Arc;
use std::time::Duration;

use smsc_raft::model::{self, command::Op};

use super::peer::NodeState;
use crate::clock::{Clock as _, SystemClock};
use crate::data_dir::disk_free;
use crate::ha::DataPathState;
use crate::shutdown::NodePhase;

/// How often figures are taken.
const OBSERVE: Duration = Duration::from_secs(1);
/// How often a leader looks for scheduled messages whose time has come.
const PROMOTE: Duration = Duration::from_millis(250);
/// How often a leader drops old final records.
const PURGE: Duration = Duration::from_secs(10);
/// How soon it goes on when there was more than one step drops.
const PURGE_ON: Duration = Duration::from_millis(25);
/// How long ESMEs of an earlier leader may take to come back before they are forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// How long final records answer queries when the operator has not said.
const FINAL_RETENTION_S: u64 = 24 * 3600;

/// Keeps the gauges of the metrics current, for as long as the process lives.
pub(super) async fn observe(state: Arc<NodeState>) {
    let metrics = &state.metrics;
    let mut leader = None;
    let mut disk_warned = false;
    while state.lifecycle.phase() < NodePhase::Stopped {
        let view = state.store.view();
        if view.leader != leader {
            leader = view.leader;
            metrics.raft_leader_changes.inc();
        }
        metrics.raft_term.set(view.term);
        metrics.raft_leading.set(u64::from(state.store.leadership().borrow().is_some()));
        metrics.raft_last_log_index.set(view.last_log_index);
        metrics.raft_applied_index.set(view.applied_index);
        metrics.store_overlay_bytes.set(state.store.overlay_bytes() as u64);
        let (live_bytes, file_bytes) = state.store.store_bytes();
        metrics.store_live_bytes.set(live_bytes);
        metrics.store_file_bytes.set(file_bytes);
        metrics.store_checkpoint_last_us.set(state.store.checkpoint_took_us());
        metrics.address_held.set(u64::from(state.holds_address()));
        observe_address(&state);
        metrics.messages_waiting.set(state.store.read(|machine| Ok(machine.waiting_count())).unwrap_or(0));
        metrics.log_flush_latency.observe(state.store.log_metrics().last_flush_duration);
        let phase = state.lifecycle.phase();
        metrics.phase.set(NodePhase::ALL.iter().position(|known| *known == phase).unwrap_or(0) as u64);
        if let Ok(free) = disk_free(&state.config.data_dir) {
            metrics.disk_free_bytes.set(free);
            let short = free >> 20 < u64::from(state.config.store.disk_free_min_mib);
            if short && !disk_warned {
                tracing::error!(
                    free_mib = free >> 20,
                    "the disk of {} is nearly full",
                    state.config.data_dir.display()
                );
            }
            disk_warned = short;
        }
        tokio::time::sleep(OBSERVE).await;
    }
}

/// How the floating address is guarded, and who disputes it.
fn observe_address(state: &NodeState) {
    let Some(floating) = &state.floating else {
        return;
    };
    let metrics = &state.metrics;
    metrics.address_conflict.set(u64::from(floating.conflict().is_some()));
    let data_path = floating.data_path();
    metrics.address_data_path_lease_missing.set(u64::from(matches!(data_path, DataPathState::Missing(_))));
    if let DataPathState::Active(dropped) = data_path {
        metrics.address_packets_dropped.set(dropped.ingress + dropped.egress);
    }
}

/// What a leader does beside delivering; dropped when it ends.
pub(super) async fn lead(state: Arc<NodeState>, term: u64) {
    let mut promote = tokio::time::interval(PROMOTE);
    let mut purge = tokio::time::interval(PURGE);
    let forget = tokio::time::sleep(FORGET);
    tokio::pin!(forget);
    let mut forgotten = false;
    loop {
        let op = tokio::select! {
            _ = promote.tick() => {
                let now_ms = SystemClock.wall().as_millis();
                let due = state.store.read(|machine| Ok(machine.next_scheduled_ms())).ok().flatten();
                if due.is_none_or(|due| due > now_ms) {
                    continue;
                }
                // Any entry with the present stamp moves them; this one changes nothing else.
                Op::Purge(model::Purge { final_before_ms: 0 })
            }
            _ = purge.tick() => {
                if state.store.read(|machine| Ok(machine.purge_unfinished())).unwrap_or(false) {
                    purge.reset_after(PURGE_ON);
                }
                let settings = state.store.read(|machine| Ok(machine.settings())).unwrap_or_default();
                let keep_s = if settings.final_retention_s == 0 { FINAL_RETENTION_S } else { settings.final_retention_s };
                let now_ms = SystemClock.wall().as_millis();
                Op::Purge(model::Purge { final_before_ms: now_ms.saturating_sub(keep_s * 1000) })
            }
            () = &mut forget, if !forgotten => {
                forgotten = true;
                Op::SessionsForget(model::SessionsForget { before_term: term })
            }
        };
        if state.store.propose(op).await.is_err() {
            // Leadership is going; whoever leads next does the same.
            return;
        }
    }
}
