//! Links to other message centres, which we bind to as their ESME.
//!
//! Links are replicated configuration; only the leader binds, from the moment it serves, and looks at its right to at
//! every step. [`core`] decides what goes over which bind and what its answer means, at the pace of [`pace`];
//! [`outbound`] writes submit_sm, [`report`] and [`inbound`] read what comes back, [`ids`] finds the message that a
//! receipt is for. Those are pure. `bind` carries one session over `wire`, `task` is one link at work, and this
//! file starts and ends links as their configuration says.
//!
//! A submit_sm that is unanswered when its bind ends may have been accepted or not: the message is tried again, so that
//! its phone may get it twice and never not at all.

mod bind;
pub mod board;
mod call_back;
pub mod config;
pub mod core;
pub mod ids;
pub mod inbound;
pub mod outbound;
pub mod outcome;
pub mod pace;
pub mod report;
mod task;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smsc_proto::time::MonoTime;
use smsc_raft::leadership::Leadership;
use smsc_raft::model::{Link, Message, MessageState};
use smsc_raft::store::Store;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::task::{LinkTask, ToLink};
use crate::clock::{Clock as _, SystemClock};
use crate::delivery::driver::TableSource;
use crate::delivery::engine::LinkResult;
use crate::metrics::Metrics;

/// How often it is looked whether the configuration has changed.
const CONFIG_LOOK: Duration = Duration::from_millis(100);
/// How long a link whose configuration has changed may settle before it begins anew.
const CHANGE_SETTLE: Duration = Duration::from_secs(5);

/// What links tell the delivery engine.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link is bound and takes so much.
    Up {
        /// Its name.
        link: String,
        /// Messages that may be with it unanswered.
        window: usize,
        /// Messages per second; 0 for no limit.
        rate_per_s: u32,
    },
    /// It takes nothing more.
    Down {
        /// Its name.
        link: String,
    },
    /// Its message centre throttles.
    Paused {
        /// Its name.
        link: String,
        /// Until when, UTC milliseconds.
        until_ms: u64,
    },
    /// What became of a message.
    Outcome {
        /// Its name.
        link: String,
        /// The message.
        id: u64,
        /// What became of it.
        result: LinkResult,
    },
    /// A receipt for a message that was accepted: answer with [`Links::recorded`] once it is recorded.
    Report(Reported),
    /// A number can be reached.
    Reachable {
        /// The number.
        number: String,
    },
}

/// A final state that a message centre reports.
#[derive(Debug)]
pub struct Reported {
    /// The link.
    pub link: String,
    /// The message, as it was found.
    pub message: Arc<Message>,
    /// The state.
    pub state: MessageState,
    /// network_error_code as the records keep it.
    pub error: u32,
}

impl Reported {
    /// The same for the engine.
    pub fn result(&self) -> LinkResult {
        match self.state {
            MessageState::Delivered => LinkResult::Delivered,
            state => LinkResult::Permanent { error: self.error, state },
        }
    }
}

/// What links are made of.
pub struct LinkParts {
    /// The replicated store.
    pub store: Store,
    /// The proof that this node may bind.
    pub leadership: Leadership,
    /// The routes as they are now.
    pub table: TableSource,
    /// Where they show how they stand.
    pub metrics: Arc<Metrics>,
    /// Where they tell what happens.
    pub events: mpsc::UnboundedSender<LinkEvent>,
}

/// What the links of a term share.
struct LinkShared {
    store: Store,
    leadership: Leadership,
    table: TableSource,
    metrics: Arc<Metrics>,
    events: mpsc::UnboundedSender<LinkEvent>,
}

impl LinkShared {
    fn tell(&self, event: LinkEvent) {
        // Delivery has ended, and with it the term.
        let _ = self.events.send(event);
    }
}

type Running = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<ToLink>>>>;

/// The links while this node leads. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    running: Running,
    stop: watch::Sender<Option<MonoTime>>,
    owner: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Links {
    /// Binds all links, and follows their configuration from there on.
    pub fn start(parts: LinkParts) -> Self {
        let LinkParts { store, leadership, table, metrics, events } = parts;
        let shared = Arc::new(LinkShared { store, leadership, table, metrics, events });
        let running = Running::default();
        let (stop, stopped) = watch::channel(None);
        let owner = Owner { shared, running: running.clone(), links: HashMap::new(), version: 0 };
        let owner = tokio::spawn(owner.run(stopped));
        Self { running, stop, owner: Arc::new(Mutex::new(Some(owner))) }
    }

    /// Sends a message over a link; `false` if there is no such link now.
    pub fn send(&self, link: &str, message: Arc<Message>) -> bool {
        self.tell(link, ToLink::Send(message))
    }

    /// A report is recorded, or needs no recording: it may be acknowledged.
    pub fn recorded(&self, link: &str, id: u64) {
        // A link that has ended acknowledges nothing: the receipt comes again.
        self.tell(link, ToLink::Recorded(id));
    }

    /// Has the message centre that has accepted a message cancel it; tells whether it has. An end without a word is a no.
    pub fn call_back(&self, message: Arc<Message>) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        let link = message.handed.as_ref().map_or(String::new(), |handed| handed.link.clone());
        self.tell(&link, ToLink::CallBack { message, done });
        answer
    }

    fn tell(&self, link: &str, what: ToLink) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(link).is_some_and(|link| link.send(what).is_ok())
    }

    /// Sends nothing more, waits for at most `settle` for what is under way, and unbinds.
    pub async fn stop(&self, settle: Duration) {
        self.stop.send_replace(Some(SystemClock.mono() + settle));
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner
            && let Err(error) = owner.await
        {
            tracing::error!(%error, "links ended badly");
        }
    }
}

struct RunningLink {
    link: Arc<Link>,
    task: JoinHandle<()>,
    /// Its configuration changed: it ends and is started anew.
    ending: bool,
}

struct Owner {
    shared: Arc<LinkShared>,
    running: Running,
    links: HashMap<String, RunningLink>,
    version: u64,
}

impl Owner {
    async fn run(mut self, mut stopped: watch::Receiver<Option<MonoTime>>) {
        let deadline = loop {
            self.follow().await;
            tokio::select! {
                changed = stopped.changed() => {
                    // Whoever led is gone without a word: there is nothing to settle for.
                    break if changed.is_ok() { (*stopped.borrow_and_update()).unwrap_or_default() } else { MonoTime::ZERO };
                }
                () = tokio::time::sleep(CONFIG_LOOK) => {}
            }
            if !self.shared.leadership.valid_now() {
                break MonoTime::ZERO;
            }
        };
        for name in self.links.keys().cloned().collect::<Vec<_>>() {
            self.end(&name, deadline);
        }
        for (_, running) in self.links.drain() {
            finish(running.task).await;
        }
    }

    /// Starts, changes and ends links as the configuration says.
    async fn follow(&mut self) {
        let version = self.shared.store.config_version();
        let settling = self.links.values().any(|running| running.ending);
        if version == self.version && !settling {
            return;
        }
        let wanted = self.shared.store.read(|machine| {
            let links = machine.links().filter(|link| !link.disabled);
            Ok(links.map(|link| (link.name.clone(), link.clone())).collect::<HashMap<_, _>>())
        });
        // A failing disk stops the node.
        let Ok(wanted) = wanted else { return };
        self.version = version;
        let changed = self.links.iter().filter(|(name, running)| wanted.get(*name) != Some(running.link.as_ref()));
        for name in changed.map(|row| row.0.clone()).collect::<Vec<_>>() {
            self.end(&name, SystemClock.mono() + CHANGE_SETTLE);
        }
        let ended = self.links.iter().filter(|row| row.1.ending && row.1.task.is_finished());
        for name in ended.map(|row| row.0.clone()).collect::<Vec<_>>() {
            if let Some(running) = self.links.remove(&name) {
                finish(running.task).await;
            }
        }
        for (name, link) in wanted {
            if self.links.contains_key(&name) {
                continue;
            }
            let (to_link, asked) = mpsc::unbounded_channel();
            let link = Arc::new(link);
            let task = tokio::spawn(LinkTask::new(self.shared.clone(), link.clone(), asked).run());
            self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), to_link);
            self.links.insert(name, RunningLink { link, task, ending: false });
        }
    }

    fn end(&mut self, name: &str, deadline: MonoTime) {
        let Some(running) = self.links.get_mut(name) else { return };
        let running_now = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = running_now.get(name) {
            // It may have ended by itself, with the term.
            let _ = link.send(ToLink::Stop(deadline));
        }
        running.ending = true;
    }
}

async fn finish(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a link ended badly");
    }
}
