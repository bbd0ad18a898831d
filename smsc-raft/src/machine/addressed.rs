//! Messages found by their addresses: for cancel_sm without a message_id and replace_if_present_flag, whatever waits.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use super::Machine;
use super::keys::{address_hash, address_key, bare, digits};
use super::messages::content;
use crate::model::{Message, Submission};

/// Rows read at once.
const PAGE: usize = 256;

impl Machine {
    /// Up to `limit` waiting messages that `account` submitted from `source` to `destination`, of ids from `from` on,
    /// oldest first, as far as `wanted` says so. Plus signs in front of the digits do not count.
    ///
    /// # Errors
    /// The disk failed or the store is corrupt: the node stops.
    pub fn addressed(
        &self,
        account: &str,
        source: &str,
        destination: &str,
        from: u64,
        limit: usize,
        wanted: impl Fn(&Submission) -> bool,
    ) -> io::Result<Vec<Arc<Message>>> {
        let hash = address_hash(account, source, destination);
        let mut found = Vec::new();
        let mut next = Bound::Included((hash, from));
        loop {
            let rows = self.addressed.range(self.base.as_ref(), next, PAGE, |key| key.0 == hash)?;
            for ((_, id), ()) in &rows {
                let Some(message) = self.messages.get(self.base.as_ref(), id)? else { continue };
                let submission = content(&message);
                // Different addresses may share a hash.
                let is = |address: &Option<_>, digits: &str| {
                    address
                        .as_ref()
                        .is_some_and(|address: &crate::model::Address| bare(&address.digits) == bare(digits))
                };
                let same = submission.account == account
                    && is(&submission.source, source)
                    && is(&submission.destination, destination);
                if same && wanted(submission) {
                    found.push(message);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            match rows.last() {
                Some((last, ())) if rows.len() == PAGE => next = Bound::Excluded(*last),
                _ => return Ok(found),
            }
        }
    }

    /// The waiting message that `submission` replaces (replace_if_present_flag, SMPP v3.4 section 5.2.18): same
    /// account, service_type, source and destination. The oldest, if there are several.
    pub(super) fn find_replaceable(&self, submission: &Submission) -> io::Result<Option<Arc<Message>>> {
        let same = |waiting: &Submission| {
            waiting.service_type == submission.service_type
                && waiting.source == submission.source
                && waiting.destination == submission.destination
        };
        let (source, destination) = (digits(&submission.source), digits(&submission.destination));
        let found = self.addressed(&submission.account, source, destination, 0, 1, same)?;
        Ok(found.into_iter().next())
    }

    /// Fills the table of addresses from the messages of a checkpoint that was written before there was one.
    pub(super) fn address_all(&mut self) -> io::Result<()> {
        let mut next = Bound::Unbounded;
        loop {
            let rows = self.messages.range(self.base.as_ref(), next, PAGE, |_| true)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            next = Bound::Excluded(*last);
            for (id, message) in rows {
                if let Some(key) = address_key(id, content(&message)) {
                    self.addressed.put(key, ());
                }
            }
        }
    }
}
