//! Gathers commands into log entries: while some batches are on their way to the disks of a majority, the next one
//! fills. Never waits by a timer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use openraft::Raft;
use openraft::errors::ClientWriteError;
use tokio::sync::{Notify, watch};

use super::machine::StateMachine;
use super::responder::Callback;
use super::types::{Batch, TypeConfig};
use crate::leadership::Leadership;
use crate::machine::BATCH_VERSION;
use crate::model::{self, Command};
use crate::outcome::Outcome;

/// Entries under way at once.
const IN_FLIGHT_MAX: usize = 6;
/// Commands in one entry.
const BATCH_COMMANDS_MAX: usize = 2048;
/// Commands that may wait for their entry; more are refused as overload.
const QUEUED_MAX: usize = 20_000;

/// Why a proposal has no outcome.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ProposeError {
    /// This node does not lead: nothing was proposed.
    #[error("this node does not lead{}", .leader.map(|id| format!(", node {id} does")).unwrap_or_default())]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Leadership was lost while the entry was under way: it may come into effect or not.
    #[error("leadership was lost while the change was under way: look whether it took effect before you repeat it")]
    Unknown,
    /// More is waiting than the node takes on: nothing was proposed.
    #[error("the node is overloaded: try again")]
    Overloaded,
    /// The node stops.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

/// Called with a group's outcomes, one for each command.
pub type Done = Box<dyn FnOnce(Result<Vec<Outcome>, ProposeError>) + Send>;

/// Whom to answer with how many of an entry's outcomes.
type Answers = Vec<(usize, Done)>;

struct Group {
    commands: Vec<Command>,
    done: Done,
}

/// See the [module](self).
#[derive(Clone)]
pub struct Proposer {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Vec<Group>>,
    queued: AtomicUsize,
    in_flight: AtomicUsize,
    wake: Notify,
    leadership: watch::Receiver<Option<Leadership>>,
    machine: StateMachine,
    overlay_max: usize,
    clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Proposer {
    /// A proposer for the engine; [`Proposer::run`] must run beside. `clock_ms` is the wall clock, UTC milliseconds.
    pub(crate) fn new(
        machine: StateMachine,
        leadership: watch::Receiver<Option<Leadership>>,
        overlay_max: usize,
        clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(Vec::new()),
                queued: AtomicUsize::new(0),
                in_flight: AtomicUsize::new(0),
                wake: Notify::new(),
                leadership,
                machine,
                overlay_max,
                clock_ms,
            }),
        }
    }

    /// Proposes commands, all in one entry. `done` runs where entries are applied and must be quick.
    pub fn propose_group(&self, commands: Vec<Command>, done: Done) {
        let shared = &self.shared;
        if shared.leadership.borrow().is_none() {
            return done(Err(ProposeError::NotLeader { leader: None }));
        }
        // The delivery engine finishes what is stored and is never refused: only new load is.
        let new_load = commands.iter().any(|command| matches!(command.op, Some(model::command::Op::Submit(_))));
        if new_load && self.overloaded() {
            return done(Err(ProposeError::Overloaded));
        }
        shared.queued.fetch_add(commands.len(), Ordering::Relaxed);
        shared.queue.lock().expect("never held across a panic").push(Group { commands, done });
        shared.wake.notify_one();
    }

    /// Whether new submissions would be refused.
    pub fn overloaded(&self) -> bool {
        self.load_percent() >= 100
    }

    /// The fuller of the two that can overflow, the queue of commands and the machine's overlay: 0 for empty, 100 for so
    /// full that new submissions are refused.
    pub fn load_percent(&self) -> u8 {
        let percent = |used: usize, most: usize| (used.saturating_mul(100) / most.max(1)).min(100);
        let queued = percent(self.shared.queued.load(Ordering::Relaxed), QUEUED_MAX);
        let overlay = percent(self.shared.machine.overlay_bytes(), self.shared.overlay_max);
        u8::try_from(queued.max(overlay)).unwrap_or(100)
    }

    /// Commands that wait for their entry.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Runs until the engine stops.
    pub(crate) async fn run(self, raft: Raft<TypeConfig, StateMachine>) {
        loop {
            self.shared.wake.notified().await;
            while self.shared.in_flight.load(Ordering::Acquire) < IN_FLIGHT_MAX {
                let Some((commands, groups)) = self.gather() else {
                    break;
                };
                let batch = Batch::propose(model::Batch {
                    version: BATCH_VERSION,
                    stamp_ms: (self.shared.clock_ms)(),
                    commands,
                });
                self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
                let shared = self.shared.clone();
                let responder = Callback::new(move |result| {
                    shared.in_flight.fetch_sub(1, Ordering::AcqRel);
                    shared.wake.notify_one();
                    answer(groups, result);
                });
                if raft.client_write_ff(batch, Some(responder)).await.is_err() {
                    return self.refuse_all();
                }
            }
        }
    }

    /// The commands of the next entry, and whom to answer with how many of the outcomes.
    fn gather(&self) -> Option<(Vec<Command>, Answers)> {
        let mut queue = self.shared.queue.lock().expect("never held across a panic");
        let mut count = 0;
        let mut fits = |group: &&Group| {
            count += group.commands.len();
            count <= BATCH_COMMANDS_MAX || count == group.commands.len()
        };
        let taken = queue.iter().take_while(&mut fits).count();
        let mut commands = Vec::with_capacity(queue.iter().take(taken).map(|group| group.commands.len()).sum());
        let mut groups = Vec::with_capacity(taken);
        for group in queue.drain(..taken) {
            groups.push((group.commands.len(), group.done));
            commands.extend(group.commands);
        }
        drop(queue);
        self.shared.queued.fetch_sub(commands.len(), Ordering::Relaxed);
        (!groups.is_empty()).then_some((commands, groups))
    }

    fn refuse_all(&self) {
        let groups = std::mem::take(&mut *self.shared.queue.lock().expect("never held across a panic"));
        for group in groups {
            (group.done)(Err(ProposeError::Stopped("the consensus engine has ended".to_owned())));
        }
    }
}

type WriteResult = Result<openraft::raft::ClientWriteResponse<TypeConfig>, ClientWriteError<TypeConfig>>;

fn answer(groups: Answers, result: Option<WriteResult>) {
    match result {
        Some(Ok(response)) => {
            let mut outcomes = response.data.0.into_iter();
            for (count, done) in groups {
                done(Ok(outcomes.by_ref().take(count).collect()));
            }
        }
        // The engine answers alike whether the entry was refused or was under way when leadership went.
        Some(Err(_)) | None => groups.into_iter().for_each(|(_, done)| done(Err(ProposeError::Unknown))),
    }
}
