//! Applying a batch: one arm per command. Total: every command has an outcome, a refusal is one of them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::encoded::EncodedBatch;
use super::{Applied, BATCH_VERSION, Change, Machine};
use crate::model::{self, command::Op};
use crate::outcome::Outcome;

impl Machine {
    /// Applies one entry of the log. Each command's outcome is pushed to `outcomes`; what a deliverer must know goes to
    /// `changes`.
    ///
    /// # Errors
    /// The base cannot be read, or the entry is of a newer format: the node must stop, its state is what it was before
    /// the failing command but not the entry's.
    pub fn apply(
        &mut self,
        at: Applied,
        batch: model::Batch,
        outcomes: &mut Vec<Outcome>,
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        let model::Batch { version, stamp_ms, commands } = batch;
        self.begin(at, version, stamp_ms, changes)?;
        self.apply_commands(at, commands.into_iter().map(Ok), outcomes, changes)
    }

    /// As [`apply`](Self::apply), with an encoded [`model::Batch`].
    ///
    /// # Errors
    /// As `apply`, or the bytes are no batch: a corrupt log that passed its checksum.
    pub fn apply_encoded(
        &mut self,
        at: Applied,
        encoded: &Bytes,
        outcomes: &mut Vec<Outcome>,
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        let corrupt = |error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {}: {error}", at.index));
        let batch = EncodedBatch::open(encoded).map_err(corrupt)?;
        self.begin(at, batch.version, batch.stamp_ms, changes)?;
        self.apply_commands(at, batch.map(|command| command.map_err(corrupt)), outcomes, changes)
    }

    /// Begins with an entry.
    fn begin(&mut self, at: Applied, version: u32, stamp_ms: u64, changes: &mut Vec<Change>) -> io::Result<()> {
        if version > BATCH_VERSION {
            let text = format!(
                "log entry {} has format {version}, this version knows {BATCH_VERSION}: upgrade this node",
                at.index
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.stamp_ms = self.stamp_ms.max(stamp_ms);
        self.promote_scheduled(changes)
    }

    fn apply_commands(
        &mut self,
        at: Applied,
        commands: impl ExactSizeIterator<Item = io::Result<model::Command>>,
        outcomes: &mut Vec<Outcome>,
        changes: &mut Vec<Change>,
    ) -> io::Result<()> {
        outcomes.reserve(commands.len());
        changes.reserve(commands.len());
        for command in commands {
            let Some(op) = command?.op else {
                let text = format!("log entry {} holds a command unknown to this version: upgrade this node", at.index);
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            };
            outcomes.push(self.apply_op(op, changes)?);
        }
        self.applied = Some(at);
        Ok(())
    }

    /// Applies an entry that carries no commands: a new leader's blank one, or a change of the membership.
    pub fn apply_membership(&mut self, at: Applied, membership: Option<Bytes>) {
        self.applied = Some(at);
        if let Some(membership) = membership {
            self.membership = membership;
        }
    }

    fn apply_op(&mut self, op: Op, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        match op {
            Op::Submit(command) => self.submit(command.submission.unwrap_or_default(), changes),
            Op::AttemptDone(command) => self.attempt_done(command, changes),
            Op::Finish(command) => self.finish(command, changes),
            Op::HandOver(command) => self.hand_over(command, changes),
            Op::Replace(command) => self.replace(command, changes),
            Op::QueueWake(command) => self.queue_wake(&command, changes),
            Op::LinkPartDone(command) => self.link_part_done(&command),
            Op::Purge(command) => {
                self.purge_pending(changes);
                self.purge_finals(command.final_before_ms)
            }
            Op::PendingSet(command) => Ok(self.set_pending(command.pending.unwrap_or_default(), changes)),
            Op::NumberReached(command) => self.number_reached(&command, changes),
            Op::SessionOpen(command) => Ok(self.session_open(command, changes)),
            Op::SessionClose(command) => Ok(self.session_close(command.id, changes)),
            Op::SessionsForget(command) => Ok(self.sessions_forget(command.before_term, changes)),
            op => Ok(self.configure(op, changes)),
        }
    }

    fn configure(&mut self, op: Op, changes: &mut Vec<Change>) -> Outcome {
        let found = match op {
            Op::AccountPut(command) => {
                let mut account = command.account.unwrap_or_default();
                // Kept for long, it would keep the whole log entry that it came in.
                account.password_hash = Bytes::copy_from_slice(&account.password_hash);
                self.accounts.put(account.system_id.clone(), Arc::new(account));
                true
            }
            Op::AccountDelete(command) => self.accounts.remove(&command.system_id),
            Op::RoutePut(command) => {
                let route = command.route.unwrap_or_default();
                self.routes.put((route.account.clone(), route.prefix.clone()), route);
                true
            }
            Op::RouteDelete(command) => self.routes.remove(&(command.account, command.prefix)),
            Op::RouteSet(command) => {
                let route = command.route.unwrap_or_default();
                self.routes.put((route.account.clone(), route_key(&route.prefix, &route.name)), route);
                true
            }
            Op::RouteUnset(command) => {
                self.routes.remove(&(command.account, route_key(&command.prefix, &command.name)))
            }
            Op::NumberChunkPut(command) => {
                // What is put into effect is the last chunk; those before are not looked at.
                if !self.put_number_chunk(command.chunk.unwrap_or_default()) {
                    return Outcome::Done;
                }
                true
            }
            Op::NumberListDelete(command) => self.delete_number_list(&command.name),
            Op::HandsetPut(command) => {
                let range = command.range.unwrap_or_default();
                self.handsets.put(range.prefix.clone(), range);
                true
            }
            Op::HandsetDelete(command) => self.handsets.remove(&command.prefix),
            Op::LinkPut(command) => {
                let link = command.link.unwrap_or_default();
                self.links.put(link.name.clone(), link);
                true
            }
            Op::LinkDelete(command) => self.links.remove(&command.name),
            Op::SettingsPut(command) => {
                self.settings.put(String::new(), command.settings.unwrap_or_default());
                true
            }
            Op::ListPut(command) => {
                let list = command.list.unwrap_or_default();
                self.lists.put(list.name.clone(), list);
                true
            }
            Op::ListDelete(command) => self.lists.remove(&command.name),
            Op::DrillPut(command) => {
                let id = self.next_drill_id;
                self.next_drill_id += 1;
                self.drills.put(id, model::DrillRecord { id, ..command.drill.unwrap_or_default() });
                return Outcome::DrillStored(id);
            }
            Op::Submit(_)
            | Op::AttemptDone(_)
            | Op::Finish(_)
            | Op::HandOver(_)
            | Op::Replace(_)
            | Op::QueueWake(_)
            | Op::LinkPartDone(_)
            | Op::Purge(_)
            | Op::PendingSet(_)
            | Op::NumberReached(_)
            | Op::SessionOpen(_)
            | Op::SessionClose(_)
            | Op::SessionsForget(_) => unreachable!("apply_op keeps these to itself"),
        };
        if !found {
            return Outcome::NotFound;
        }
        changes.push(Change::Config);
        Outcome::Done
    }
}

/// The second part of a route's key: its name behind its prefix, which holds digits alone.
fn route_key(prefix: &str, name: &str) -> String {
    if name.is_empty() { prefix.to_owned() } else { format!("{prefix} {name}") }
}
