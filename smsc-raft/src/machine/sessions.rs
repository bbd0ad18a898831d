//! The session registry: which ESME is bound where. Entries of an earlier term are left over from a leader that is
//! gone: they count for nothing, and go when their ESME comes back.

use super::{Change, Machine};
use crate::model;
use crate::outcome::Outcome;

impl Machine {
    pub(super) fn session_open(&mut self, command: model::SessionOpen, changes: &mut Vec<Change>) -> Outcome {
        let Some(record) = command.session else {
            return Outcome::NotFound;
        };
        let same_account = |session: &&model::SessionRecord| session.system_id == record.system_id;
        let bound = self.sessions.iter().map(|row| row.1).filter(same_account);
        let live = bound.clone().filter(|session| session.term == record.term).count();
        if command.binds_max > 0 && live >= command.binds_max as usize {
            return Outcome::TooManyBinds;
        }
        let host = |peer: &str| peer.rsplit_once(':').map(|(host, _)| host.to_owned());
        let stale = |session: &&model::SessionRecord| session.term < record.term && session.mode == record.mode;
        // Its own old entry first, else any of the same account and mode.
        let left = bound.filter(stale).map(|session| (host(&session.peer) != host(&record.peer), session.id)).min();
        let stale_id = left.map(|(_, id)| id);
        if let Some(id) = stale_id {
            self.sessions.remove(&id);
        }
        let id = self.next_session_id;
        self.next_session_id += 1;
        self.sessions.put(id, model::SessionRecord { id, ..record });
        changes.push(Change::Sessions);
        Outcome::SessionOpened(id)
    }

    pub(super) fn session_close(&mut self, id: u64, changes: &mut Vec<Change>) -> Outcome {
        if !self.sessions.remove(&id) {
            return Outcome::NotFound;
        }
        changes.push(Change::Sessions);
        Outcome::Done
    }

    pub(super) fn sessions_forget(&mut self, before_term: u64, changes: &mut Vec<Change>) -> Outcome {
        let old = self.sessions.iter().filter(|row| row.1.term < before_term).map(|row| *row.0).collect::<Vec<_>>();
        for id in old {
            self.sessions.remove(&id);
        }
        changes.push(Change::Sessions);
        Outcome::Done
    }
}
