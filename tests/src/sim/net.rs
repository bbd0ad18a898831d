//! The network: messages between nodes that come late, or never; connections of ESMEs that end at any octet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smsc_raft::machine::base::MemoryBase;

use super::chance::Chance;
use super::log::Entry;

/// What nodes tell each other, and what a node's disk tells it.
#[expect(missing_docs, reason = "the fields are called what they are")]
#[derive(Clone, Debug)]
pub enum NodeMessage {
    /// A leader sends what follows an entry, or only that it is there.
    Append { term: u64, leader: usize, previous: (u64, u64), entries: Vec<Arc<Entry>>, committed: u64, sent_ms: u64 },
    /// It is on disk up to `index`.
    Appended { term: u64, from: usize, index: u64, sent_ms: u64 },
    /// The follower does not have the entry in front; it has everything up to `matched`.
    Missing { term: u64, from: usize, matched: u64 },
    /// The follower knows of a newer term.
    Deposed { term: u64 },
    /// A checkpoint of the leader for a follower that is far behind.
    Snapshot { term: u64, leader: usize, base: SharedBase, entries: Vec<Arc<Entry>> },
    /// The node's own disk has everything up to `index`; `epoch` tells whether the process has died since.
    Flushed { epoch: u64, term: u64, index: u64, leader: usize, sent_ms: u64, committed: u64 },
}

/// A checkpoint on its way.
#[derive(Clone)]
pub struct SharedBase(pub Arc<MemoryBase>);

impl std::fmt::Debug for SharedBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedBase")
    }
}

/// Name of a connection.
pub type ConnectionId = u64;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The ESME's.
    Esme,
    /// The message centre's.
    Centre,
}

#[derive(Debug, Default)]
struct Pipe {
    octets: VecDeque<(u64, Bytes)>,
    ends_ms: Option<u64>,
    last_ms: u64,
}

#[derive(Debug, Default)]
struct Connection {
    to_centre: Pipe,
    to_esme: Pipe,
}

/// What comes out of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Octets.
    Octets(Bytes),
    /// Its end.
    Closed,
}

/// See the [module](self).
#[derive(Debug)]
pub struct SimNet {
    messages: BTreeMap<(u64, u64), (usize, NodeMessage)>,
    next: u64,
    cuts: BTreeSet<(usize, usize)>,
    slow_ms: Vec<u64>,
    /// One message in so many is lost; 0 for none.
    lost_one_in: u64,
    connections: BTreeMap<ConnectionId, Connection>,
}

impl SimNet {
    /// A network between so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            messages: BTreeMap::new(),
            next: 0,
            cuts: BTreeSet::new(),
            slow_ms: vec![0; nodes],
            lost_one_in: 0,
            connections: BTreeMap::new(),
        }
    }

    /// When the next message between nodes arrives.
    pub fn next_ms(&self) -> Option<u64> {
        self.messages.first_key_value().map(|(key, _)| key.0)
    }

    /// One message between nodes in so many is lost from now on; 0 for none.
    pub fn lose_one_in(&mut self, n: u64) {
        self.lost_one_in = n;
    }

    /// A node's messages take so much longer, to and fro.
    pub fn slow_down(&mut self, node: usize, by_ms: u64) {
        self.slow_ms[node] = by_ms;
    }

    /// Cuts a node off from all others, or only what it says or only what it hears.
    pub fn isolate(&mut self, node: usize, from_it: bool, to_it: bool) {
        for other in 0..self.slow_ms.len() {
            if from_it {
                self.cuts.insert((node, other));
            }
            if to_it {
                self.cuts.insert((other, node));
            }
        }
        self.cuts.remove(&(node, node));
    }

    /// All nodes hear each other again.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow_ms.fill(0);
        self.lost_one_in = 0;
    }

    /// Whether two nodes hear each other.
    pub fn reaches(&self, one: usize, other: usize) -> bool {
        one == other || !(self.cuts.contains(&(one, other)) || self.cuts.contains(&(other, one)))
    }

    /// Sends a message from node to node.
    pub fn send(&mut self, now_ms: u64, from: usize, to: usize, message: NodeMessage, chance: &mut Chance) {
        if self.cuts.contains(&(from, to)) || (self.lost_one_in > 0 && chance.one_in(self.lost_one_in)) {
            return;
        }
        let after = chance.between(0, 2) + self.slow_ms[from] + self.slow_ms[to];
        self.put(now_ms + after, to, message);
    }

    /// A node's own disk answers, at that time.
    pub fn put(&mut self, at_ms: u64, to: usize, message: NodeMessage) {
        self.next += 1;
        self.messages.insert((at_ms, self.next), (to, message));
    }

    /// The next message between nodes that has arrived.
    pub fn take(&mut self, now_ms: u64) -> Option<(usize, NodeMessage)> {
        let first = self.messages.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    /// A new connection.
    pub fn connect(&mut self) -> ConnectionId {
        self.next += 1;
        self.connections.insert(self.next, Connection::default());
        self.next
    }

    /// Puts octets into a connection, in pieces.
    pub fn write(&mut self, now_ms: u64, id: ConnectionId, from: End, output: &mut BytesMut, chance: &mut Chance) {
        let Some(pipe) = self.pipe(id, from) else { return output.clear() };
        while !output.is_empty() {
            let piece = if chance.one_in(4) { 1 + chance.index(output.len()) } else { output.len() };
            let at_ms = pipe.last_ms.max(now_ms + chance.between(0, 3));
            pipe.last_ms = at_ms;
            if pipe.ends_ms.is_none() {
                pipe.octets.push_back((at_ms, output.split_to(piece).freeze()));
            } else {
                output.clear();
            }
        }
    }

    /// This end closes; the other reads what is on its way first.
    pub fn close(&mut self, now_ms: u64, id: ConnectionId, from: End) {
        if let Some(pipe) = self.pipe(id, from) {
            let at_ms = pipe.last_ms.max(now_ms + 1);
            pipe.ends_ms.get_or_insert(at_ms);
        }
    }

    /// The connection breaks: what is on its way is lost and both ends notice, sooner or later.
    pub fn cut(&mut self, now_ms: u64, id: ConnectionId, chance: &mut Chance) {
        for end in [End::Esme, End::Centre] {
            let at_ms = now_ms + chance.between(0, 40);
            if let Some(pipe) = self.pipe(id, end) {
                pipe.octets.clear();
                pipe.ends_ms = Some(at_ms);
            }
        }
    }

    /// What has arrived at this end.
    pub fn read(&mut self, now_ms: u64, id: ConnectionId, at: End) -> Option<Arrived> {
        let Some(pipe) = self.pipe(id, other(at)) else { return Some(Arrived::Closed) };
        if let Some((at_ms, _)) = pipe.octets.front() {
            if *at_ms > now_ms {
                return None;
            }
            return pipe.octets.pop_front().map(|piece| Arrived::Octets(piece.1));
        }
        pipe.ends_ms.is_some_and(|at_ms| at_ms <= now_ms).then_some(Arrived::Closed)
    }

    /// When something arrives at this end.
    pub fn arrives_ms(&self, id: ConnectionId, at: End) -> Option<u64> {
        let Some(connection) = self.connections.get(&id) else { return Some(0) };
        let pipe = match at {
            End::Esme => &connection.to_esme,
            End::Centre => &connection.to_centre,
        };
        pipe.octets.front().map(|piece| piece.0).or(pipe.ends_ms)
    }

    fn pipe(&mut self, id: ConnectionId, from: End) -> Option<&mut Pipe> {
        let connection = self.connections.get_mut(&id)?;
        Some(match from {
            End::Esme => &mut connection.to_centre,
            End::Centre => &mut connection.to_esme,
        })
    }
}

fn other(end: End) -> End {
    match end {
        End::Esme => End::Centre,
        End::Centre => End::Esme,
    }
}
