//! A message from a phone that a link brings in, as it is stored. Pure.

use smsc_proto::pdu::DeliverSm;
use smsc_proto::status::RefusalStatus;
use smsc_proto::types::{Address, MessagingMode};
use smsc_raft::model::{self, DefaultAlphabet, MessageKind, QueueKind, Submission};

use crate::delivery::route::{Query, RouteTable, Text};
use crate::smpp::alphabet::StoredText;

/// Life of a message when the operator's settings name no default. Seconds.
const VALIDITY_DEFAULT_S: u64 = 86_400;

/// The submission for `deliver`, received at `now_ms` (UTC milliseconds) from a peer to whom data_coding 0 stands for
/// `alphabet`. `validity_s` is the operator's default, 0 for a day.
///
/// # Errors
/// The status of the answer: nobody of ours owns the destination, or the record could not be kept.
pub fn submission(
    table: &RouteTable,
    alphabet: DefaultAlphabet,
    deliver: &DeliverSm,
    now_ms: u64,
    validity_s: u64,
) -> Result<Submission, RefusalStatus> {
    let destination = address(&deliver.destination_addr)?;
    let source = address(&deliver.source_addr)?;
    let stored =
        StoredText::of(alphabet, deliver.data_coding, deliver.esm_class, &deliver.short_message, &deliver.tlvs);
    let stored = stored.ok_or(RefusalStatus::ESME_RINVMSGLEN)?;
    let esm_class = u32::from(deliver.esm_class.0);
    let octets = stored.octets();
    let StoredText { data_coding, short_message, tlvs } = stored;
    let service_type = deliver.service_type.as_str().unwrap_or_default();
    let routed = table.route(&Query {
        account: "",
        source: &source.digits,
        destination: &destination,
        service_type,
        text: Text { data_coding, esm_class, octets: &octets },
        now_ms,
    });
    let routed = routed.map_err(|_| RefusalStatus::ESME_RX_P_APPN)?;
    if routed.kind != QueueKind::Esme {
        return Err(RefusalStatus::ESME_RX_P_APPN);
    }
    let validity_s = if validity_s == 0 { VALIDITY_DEFAULT_S } else { validity_s };
    Ok(Submission {
        kind: MessageKind::Mo as i32,
        service_type: service_type.to_owned(),
        source: Some(source),
        destination: Some(destination),
        esm_class: u32::from(deliver.esm_class.with_mode(MessagingMode::Default).0),
        protocol_id: u32::from(deliver.protocol_id),
        priority_flag: u32::from(deliver.priority_flag.0),
        data_coding,
        short_message,
        tlvs,
        queue_kind: routed.kind as i32,
        queue_key: routed.key,
        link: routed.link,
        expires_at_ms: now_ms.saturating_add(validity_s.saturating_mul(1_000)),
        ..Default::default()
    })
}

fn address(address: &Address) -> Result<model::Address, RefusalStatus> {
    let digits = std::str::from_utf8(address.addr.as_ref()).map_err(|_| RefusalStatus::ESME_RX_P_APPN)?;
    Ok(model::Address { ton: u32::from(address.ton.0), npi: u32::from(address.npi.0), digits: digits.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use smsc_raft::model::Account;

    fn deliver(to: &str) -> DeliverSm {
        DeliverSm {
            source_addr: Address::international("4915112345678").expect("short"),
            destination_addr: Address::international(to.to_owned()).expect("short"),
            short_message: Bytes::from_static(b"hello"),
            ..DeliverSm::default()
        }
    }

    #[test]
    fn it_goes_to_the_owner_of_the_short_code() {
        let account = Account { system_id: "one".into(), short_codes: vec!["1000".into()], ..Default::default() };
        let table = RouteTable::build(&[account], &[], &[]);
        let made = submission(&table, DefaultAlphabet::Gsm7, &deliver("1000"), 1_000, 60).expect("routed");
        assert_eq!((made.kind(), made.queue_key.as_str()), (MessageKind::Mo, "one"));
        assert_eq!((made.expires_at_ms, &made.short_message[..]), (61_000, &b"hello"[..]));
        assert_eq!(
            submission(&table, DefaultAlphabet::Gsm7, &deliver("2000"), 0, 0),
            Err(RefusalStatus::ESME_RX_P_APPN)
        );
    }

    #[test]
    fn text_in_the_link_s_alphabet_is_stored_in_ours() {
        let account = Account { system_id: "one".into(), short_codes: vec!["1000".into()], ..Default::default() };
        let table = RouteTable::build(&[account], &[], &[]);
        let made = |alphabet, text: &'static [u8]| {
            let deliver = DeliverSm { short_message: Bytes::from_static(text), ..deliver("1000") };
            let made = submission(&table, alphabet, &deliver, 0, 0).expect("routed");
            (made.data_coding, made.short_message.to_vec())
        };
        // "ä@" is 0x7b 0x00 in the GSM alphabet; a cent sign is not in it.
        assert_eq!(made(DefaultAlphabet::Latin1, b"\xe4@"), (0, vec![0x7b, 0]));
        assert_eq!(made(DefaultAlphabet::Latin1, b"\xa2"), (3, vec![0xa2]));
        assert_eq!(made(DefaultAlphabet::Gsm7, b"\x7b\0"), (0, vec![0x7b, 0]));
    }
}
