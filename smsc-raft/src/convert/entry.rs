//! Log entries.

use openraft::EntryPayload;
use smsc_proto::rpc::raft as wire;

use super::{ConvertError, log_id, membership, required};
use crate::consensus::types::{Batch, Entry};

/// The entry as a record. A batch's bytes are shared, not copied.
pub fn to_wire(entry: &Entry) -> wire::Entry {
    use wire::entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(true),
        EntryPayload::Normal(batch) => Payload::Batch(batch.encoded().clone()),
        EntryPayload::Membership(members) => Payload::Membership(membership::to_wire(members)),
    };
    wire::Entry { log_id: Some(log_id::to_wire(&entry.log_id)), payload: Some(payload) }
}

/// The entry that a record holds. A batch keeps referring to the bytes that were received or read, undecoded.
///
/// # Errors
/// The log id or the payload is absent, or it is a membership that cannot be.
pub fn from_wire(entry: wire::Entry) -> Result<Entry, ConvertError> {
    use wire::entry::Payload;
    let id = required(entry.log_id, "Entry", "log_id")?;
    let payload = match required(entry.payload, "Entry", "payload")? {
        Payload::Blank(_) => EntryPayload::Blank,
        Payload::Batch(encoded) => EntryPayload::Normal(Batch::from_encoded(encoded)),
        Payload::Membership(members) => EntryPayload::Membership(membership::from_wire(members)?),
    };
    Ok(Entry { log_id: log_id::from_wire(&id), payload })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::Membership;
    use prost::Message as _;

    use super::*;

    fn entry(payload: EntryPayload<Batch, u64, crate::consensus::types::Member>) -> Entry {
        let id = wire::LogId { term: 4, node_id: 2, index: 17 };
        Entry { log_id: log_id::from_wire(&id), payload }
    }

    #[test]
    fn an_entry_survives_the_round_trip() {
        let batch = Batch::from_encoded(Bytes::from_static(b"commands"));
        let members = Membership::new_with_defaults(vec![[1, 2].into()], []);
        for payload in [EntryPayload::Blank, EntryPayload::Normal(batch), EntryPayload::Membership(members)] {
            let entry = entry(payload);
            assert_eq!(from_wire(to_wire(&entry)), Ok(entry));
        }
    }

    #[test]
    fn a_batch_is_not_copied_on_its_way() {
        let bytes = Bytes::from(vec![7; 1000]);
        let sent = to_wire(&entry(EntryPayload::Normal(Batch::from_encoded(bytes.clone()))));
        let Some(wire::entry::Payload::Batch(shared)) = &sent.payload else { panic!("a batch") };
        assert_eq!(shared.as_ptr(), bytes.as_ptr());

        let received = Bytes::from(sent.encode_to_vec());
        let decoded = from_wire(wire::Entry::decode(received.clone()).expect("just encoded")).expect("complete");
        let EntryPayload::Normal(batch) = &decoded.payload else { panic!("a batch") };
        assert!(received.as_ptr_range().contains(&batch.encoded().as_ptr()));
    }

    #[test]
    fn an_entry_without_id_or_payload_is_refused() {
        let whole = to_wire(&entry(EntryPayload::Blank));
        let no_id = wire::Entry { log_id: None, ..whole.clone() };
        assert_eq!(from_wire(no_id), Err(ConvertError::Missing { record: "Entry", field: "log_id" }));
        let no_payload = wire::Entry { payload: None, ..whole };
        assert_eq!(from_wire(no_payload), Err(ConvertError::Missing { record: "Entry", field: "payload" }));
    }
}
