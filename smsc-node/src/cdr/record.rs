//! One call detail record as a line of JSON. Pure. The format is documented in `deploy/cdr.md`.

use serde::{Deserialize, Serialize};
use smsc_proto::time::WallTime;
use smsc_raft::model::{Address, FinalRecord, MessageKind};

/// An address of a record.
#[derive(Debug, Serialize)]
struct Party<'a> {
    ton: u32,
    npi: u32,
    digits: &'a str,
}

impl<'a> From<&'a Option<Address>> for Party<'a> {
    fn from(address: &'a Option<Address>) -> Self {
        match address {
            Some(Address { ton, npi, digits }) => Self { ton: *ton, npi: *npi, digits },
            None => Self { ton: 0, npi: 0, digits: "" },
        }
    }
}

/// The fields of a line, in their order.
#[derive(Debug, Serialize)]
struct Line<'a> {
    seq: u64,
    id: String,
    cluster: &'a str,
    kind: &'static str,
    state: String,
    account: &'a str,
    source: Party<'a>,
    destination: Party<'a>,
    accepted_at: String,
    final_at: String,
    recorded_at: String,
    attempts: u32,
    link: &'a str,
    link_message_id: &'a str,
    segments: u32,
    error_network: u32,
    error_code: u32,
    receipt_id: String,
}

/// A stretch of records that this node could not get any more.
#[derive(Debug, Serialize)]
struct Gap<'a> {
    seq: u64,
    cluster: &'a str,
    missing_from: u64,
    missing_to: u64,
}

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Sequence {
    seq: u64,
}

/// The line for a final record, its end included.
pub fn line(cluster: &str, record: &FinalRecord) -> Vec<u8> {
    let time = |ms: u64| WallTime::from_millis(ms).to_string();
    let kind = match record.kind() {
        MessageKind::Submitted => "submitted",
        MessageKind::Mo => "mo",
        MessageKind::Receipt => "receipt",
        MessageKind::Alert => "alert",
    };
    // Bits 16 to 23 are the network type, those below the code.
    let [_, error_network, high, low] = record.error.to_be_bytes();
    let line = Line {
        seq: record.cdr,
        id: record.id.to_string(),
        cluster,
        kind,
        state: record.state().as_str_name().trim_start_matches("MESSAGE_STATE_").to_lowercase(),
        account: &record.account,
        source: Party::from(&record.source),
        destination: Party::from(&record.destination),
        accepted_at: time(record.accepted_at_ms),
        final_at: time(record.final_at_ms),
        recorded_at: time(record.recorded_at_ms),
        attempts: record.attempts,
        link: &record.link,
        link_message_id: &record.link_message_id,
        segments: record.segments,
        error_network: u32::from(error_network),
        error_code: u32::from(u16::from_be_bytes([high, low])),
        receipt_id: if record.receipt_id == 0 { String::new() } else { record.receipt_id.to_string() },
    };
    written(&line)
}

/// The line that says that the records `from` to `to` are not in this node's files. Its seq is `to`.
pub fn gap(cluster: &str, from: u64, to: u64) -> Vec<u8> {
    written(&Gap { seq: to, cluster, missing_from: from, missing_to: to })
}

fn written(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("text and numbers are always JSON");
    line.push(b'\n');
    line
}

/// The number of the record in a line, without its end; `None` if it is no whole line.
pub fn sequence(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Sequence>(line).ok().map(|line| line.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::MessageState;

    #[test]
    fn a_line_says_who_to_whom_when_and_what() {
        let address = |digits: &str| Some(Address { ton: 1, npi: 1, digits: digits.to_owned() });
        let record = FinalRecord {
            id: 9_007_199_254_740_993,
            cdr: 7,
            state: MessageState::Undeliverable as i32,
            account: "esme\"1".to_owned(),
            source: address("1000"),
            destination: address("15551"),
            error: 3 << 16 | 27,
            link: "carrier".to_owned(),
            segments: 2,
            ..Default::default()
        };
        let text = line("prod", &record);
        assert_eq!(text.last(), Some(&b'\n'));
        let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        // An id is text: not every reader of JSON has numbers of 64 bits.
        assert_eq!(read["id"], "9007199254740993");
        assert_eq!((&read["state"], &read["account"]), (&"undeliverable".into(), &"esme\"1".into()));
        assert_eq!(
            (&read["error_network"], &read["error_code"], &read["segments"]),
            (&3.into(), &27.into(), &2.into())
        );
        assert_eq!(read["destination"]["digits"], "15551");
        assert_eq!(read["accepted_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(sequence(&text), Some(7));
        assert_eq!(sequence(&text[..text.len() - 5]), None);
        assert_eq!(sequence(&gap("prod", 8, 12)), Some(12));
    }
}
