//! Keys and values of the tables, encoded so that bytes sort as the keys do.

use std::hash::Hasher as _;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use smol_str::SmolStr;

use super::table::{Key, Value};
use crate::model::{self, QueueKind};

impl Key for u64 {
    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.to_be_bytes())
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// A text key; must not hold a NUL where it is part of a longer key.
impl Key for String {
    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// A pair of texts: the first without NUL.
impl Key for (String, String) {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.0.len() + self.1.len() + 1);
        out.put_slice(self.0.as_bytes());
        out.put_u8(0);
        out.put_slice(self.1.as_bytes());
        out.freeze()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let at = bytes.iter().position(|byte| *byte == 0)?;
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
        Some((text(&bytes[..at])?, text(&bytes[at + 1..])?))
    }
}

/// A time and an id: what happens when, in order.
impl Key for (u64, u64) {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64(self.0);
        out.put_u64(self.1);
        out.freeze()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(8)?;
        Some((<u64 as Key>::decode(first)?, <u64 as Key>::decode(second)?))
    }
}

/// Bytes of a queue's key that [`QueueKey`] compares as a number: all of an E.164 number.
const HEAD_BYTES: usize = 15;

/// A queue: where it leads and the number or system_id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    /// The kind and the first bytes of the key, with zeroes behind: sorts as they do, and nearly always suffices.
    head: u128,
    /// The number's digits or the account's system_id.
    pub key: SmolStr,
}

impl QueueKey {
    /// The queue of a kind and key.
    pub fn new(kind: QueueKind, key: &str) -> Self {
        Self::of_kind(kind as u8, SmolStr::new(key))
    }

    fn of_kind(kind: u8, key: SmolStr) -> Self {
        let mut head = [0; 1 + HEAD_BYTES];
        head[0] = kind;
        let bytes = &key.as_bytes()[..key.len().min(HEAD_BYTES)];
        head[1..=bytes.len()].copy_from_slice(bytes);
        Self { head: u128::from_be_bytes(head), key }
    }

    fn kind(&self) -> u8 {
        self.head.to_be_bytes()[0]
    }

    /// The queue that a submission waits in.
    pub fn of(submission: &model::Submission) -> Self {
        let key = if submission.queue_key.is_empty() {
            digits(&submission.destination)
        } else {
            submission.queue_key.as_str()
        };
        Self::new(submission.queue_kind(), key)
    }

    /// The kind as the records name it.
    pub fn queue_kind(&self) -> QueueKind {
        if self.is_esme() { QueueKind::Esme } else { QueueKind::Number }
    }

    /// Whether it leads to an account of ours.
    pub fn is_esme(&self) -> bool {
        self.kind() == QueueKind::Esme as u8
    }
}

impl Key for QueueKey {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.key.len() + 1);
        out.put_u8(self.kind());
        out.put_slice(self.key.as_bytes());
        out.freeze()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, key) = bytes.split_first()?;
        Some(Self::of_kind(*kind, SmolStr::new(std::str::from_utf8(key).ok()?)))
    }
}

/// A message's place in its queue: higher priority first, then in the order of acceptance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingKey {
    /// The queue.
    pub queue: QueueKey,
    /// 255 less the priority_flag, so that higher ones sort first.
    pub rank: u8,
    /// The message.
    pub id: u64,
}

impl WaitingKey {
    /// The place of a message.
    pub fn of(id: u64, submission: &model::Submission) -> Self {
        let rank = u8::MAX - u8::try_from(submission.priority_flag).unwrap_or(u8::MAX);
        Self { queue: QueueKey::of(submission), rank, id }
    }
}

impl Key for WaitingKey {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.queue.key.len() + 11);
        out.put_u8(self.queue.kind());
        out.put_slice(self.queue.key.as_bytes());
        out.put_u8(0);
        out.put_u8(self.rank);
        out.put_u64(self.id);
        out.freeze()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (queue, tail) = bytes.split_at_checked(bytes.len().checked_sub(10)?)?;
        let (rank, id) = tail[1..].split_first()?;
        Some(Self { queue: QueueKey::decode(queue)?, rank: *rank, id: <u64 as Key>::decode(id)? })
    }
}

/// A queue towards a number and when its head may be attempted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// UTC milliseconds.
    pub due_at_ms: u64,
    /// The queue.
    pub queue: QueueKey,
}

impl Key for DueKey {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.queue.key.len() + 9);
        out.put_u64(self.due_at_ms);
        out.put_u8(self.queue.kind());
        out.put_slice(self.queue.key.as_bytes());
        out.freeze()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (due, queue) = bytes.split_at_checked(8)?;
        Some(Self { due_at_ms: <u64 as Key>::decode(due)?, queue: QueueKey::decode(queue)? })
    }
}

/// A hash of who submitted a message and between which numbers it goes: FNV-1a with 64 bits, of account, source and
/// destination with a NUL in between. A plus sign in front of a number does not count.
///
/// Part of the disk format: equal values on every node, for ever.
pub fn address_hash(account: &str, source: &str, destination: &str) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(account.as_bytes());
    hasher.write(&[0]);
    hasher.write(bare(source).as_bytes());
    hasher.write(&[0]);
    hasher.write(bare(destination).as_bytes());
    hasher.finish()
}

/// The digits without the plus sign that some write in front of an international number.
pub fn bare(digits: &str) -> &str {
    digits.strip_prefix('+').unwrap_or(digits)
}

/// The place of a submitted message in the table of addresses; `None` for MO messages and receipts.
pub(super) fn address_key(id: u64, submission: &model::Submission) -> Option<(u64, u64)> {
    if submission.account.is_empty() || submission.kind() != model::MessageKind::Submitted {
        return None;
    }
    let (source, destination) = (digits(&submission.source), digits(&submission.destination));
    Some((address_hash(&submission.account, source, destination), id))
}

/// The digits of an address; none of one that is not there.
pub(super) fn digits(address: &Option<model::Address>) -> &str {
    address.as_ref().map_or("", |address| &address.digits)
}

macro_rules! record_value {
    ($($record:ty => $weight:expr),* $(,)?) => {$(
        impl Value for $record {
            fn encode(&self) -> Bytes {
                Bytes::from(self.encode_to_vec())
            }
            fn decode(bytes: Bytes) -> Option<Self> {
                <$record as prost::Message>::decode(bytes).ok()
            }
            fn weight(&self) -> usize {
                let weight: fn(&$record) -> usize = $weight;
                weight(self)
            }
        }
    )*};
}

record_value! {
    model::Message => message_weight,
    model::Account => |account| 256 + account.short_codes.len() * 32,
    model::Queue => |queue| 64 + queue.key.len(),
    model::SessionRecord => |_| 256,
    model::Route => |_| 128,
    model::HandsetRange => |_| 64,
    model::Settings => |_| 128,
    model::NumberList => |_| 128,
    model::NumberChunk => |chunk| 64 + chunk.numbers.len(),
    model::DrillRecord => |drill| 64 + drill.report.len(),
    model::DistributionList => |list| 64 + list.members.len() * 64,
    model::Link => |_| 256,
    model::LinkIdRow => |_| 96,
    model::DeliveryPending => |flag| 128 + 2 * flag.number.len() + flag.account.len(),
    model::FinalRecord => |_| 256,
    model::FinalBlock => |block| 256 * block.records.len(),
}

impl<V: Value> Value for Arc<V> {
    fn encode(&self) -> Bytes {
        V::encode(self)
    }
    fn decode(bytes: Bytes) -> Option<Self> {
        V::decode(bytes).map(Arc::new)
    }
    fn weight(&self) -> usize {
        V::weight(self)
    }
}

fn message_weight(message: &model::Message) -> usize {
    let Some(submission) = &message.submission else {
        return 64;
    };
    700 + submission.short_message.len() + submission.tlvs.len() + 64 * message.attempt_log.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_of_addresses_is_the_one_that_is_stored() {
        // FNV-1a of "a\0b\0c", computed elsewhere.
        assert_eq!(address_hash("a", "b", "c"), 0x3fae_46fc_8499_a3af);
        assert_eq!(address_hash("a", "+1", "2"), address_hash("a", "1", "+2"));
        assert_ne!(address_hash("a", "12", "3"), address_hash("a", "1", "23"));
    }

    fn round_trip<K: Key + std::fmt::Debug>(key: K) {
        assert_eq!(K::decode(&key.encode()).as_ref(), Some(&key));
    }

    proptest! {
        #[test]
        fn bytes_sort_as_keys_do(
            a in ("(1{14,16})?[01]{0,3}", any::<u8>(), any::<u64>(), 0..2u8),
            b in ("(1{14,16})?[01]{0,3}", any::<u8>(), any::<u64>(), 0..2u8),
        ) {
            let key = |(key, rank, id, kind): &(String, u8, u64, u8)| WaitingKey {
                queue: QueueKey::of_kind(*kind, SmolStr::new(key)), rank: *rank, id: *id,
            };
            let due = |(key, _, id, kind): &(String, u8, u64, u8)| DueKey {
                due_at_ms: *id, queue: QueueKey::of_kind(*kind, SmolStr::new(key)),
            };
            let (wa, wb) = (key(&a), key(&b));
            prop_assert_eq!(wa.cmp(&wb), wa.encode().cmp(&wb.encode()));
            prop_assert_eq!(due(&a).cmp(&due(&b)), due(&a).encode().cmp(&due(&b).encode()));
            round_trip(wa);
            round_trip(due(&a));
            round_trip((a.2, b.2));
            round_trip((a.0.clone(), b.0.clone()));
        }
    }
}
