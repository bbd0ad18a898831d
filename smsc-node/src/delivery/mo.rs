//! Messages that a simulated handset sends.

use bytes::Bytes;
use smsc_proto::text::{Alphabet, TextError};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{Npi, Ton};
use smsc_raft::model::{Address, Message, MessageKind, QueueKind, Submission};

use super::route::{Query, RouteRefusal, RouteTable, Routed, Text};

/// Life of an MO message when the operator's settings name no default. Seconds.
const VALIDITY_DEFAULT_S: u64 = 86_400;
/// Octets that short_message holds (SMPP v3.4 section 5.2.22); longer text travels as message_payload.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// Octets of text that one message carries. A phone would send more as several messages.
const TEXT_OCTETS_MAX: usize = 4_096;

/// The bit of esm_class that tells of a user data header (SMPP v3.4 section 5.2.12).
const UDH_INDICATOR: u32 = 0x40;

/// Why a handset's message is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoError {
    /// The sender is no simulated handset.
    #[error("{number} is no simulated handset: send from a number that `smscctl handset list` covers")]
    NotAHandset {
        /// The sender.
        number: String,
    },
    /// Nobody owns the destination.
    #[error("{number} is no account's short code: send to one that `smscctl account list` shows")]
    NoReceiver {
        /// The destination.
        number: String,
    },
    /// The destination leads nowhere.
    #[error(transparent)]
    NotRouted(#[from] RouteRefusal),
    /// The text cannot be written in any alphabet of SMPP.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The text is too long.
    #[error("the text takes {octets} octets, at most {TEXT_OCTETS_MAX} are allowed: shorten it")]
    TooLong {
        /// Octets that it takes.
        octets: usize,
    },
}

/// The message that the handset `from` sends to the ESME that owns `to`.
///
/// `validity_s` is the operator's setting for messages that name no validity, 0 for the default of a day.
///
/// # Errors
/// [`MoError`]: the caller shows it and proposes nothing.
pub fn submission(
    table: &RouteTable,
    from: &str,
    to: &str,
    text: &str,
    now_ms: u64,
    validity_s: u64,
) -> Result<Submission, MoError> {
    if table.handset(from).is_none() {
        return Err(MoError::NotAHandset { number: from.to_owned() });
    }
    let destination = Address { ton: u32::from(Ton::UNKNOWN.0), npi: u32::from(Npi::ISDN.0), digits: to.to_owned() };
    let alphabet = Alphabet::narrowest(text);
    let octets = alphabet.encode(text)?;
    let data_coding = u32::from(alphabet.data_coding());
    let routed = routed(table, from, &destination, Text { data_coding, esm_class: 0, octets: &octets }, now_ms)?;
    if octets.len() > TEXT_OCTETS_MAX {
        return Err(MoError::TooLong { octets: octets.len() });
    }
    let mut tlvs = Tlvs::new();
    let short_message = if octets.len() <= SHORT_MESSAGE_OCTETS_MAX {
        Bytes::from(octets)
    } else {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &octets).expect("fewer octets than a TLV holds");
        Bytes::new()
    };
    let tlvs = Bytes::copy_from_slice(tlvs.as_bytes());
    let content = Submission { data_coding, short_message, tlvs, ..Default::default() };
    Ok(addressed(content, from, destination, routed, now_ms, validity_s))
}

/// What the handset `number` answers to a message that it took: the same text, to where it came from.
///
/// # Errors
/// [`MoError`]: there is no answer.
pub fn answer(
    table: &RouteTable,
    number: &str,
    message: &Message,
    now_ms: u64,
    validity_s: u64,
) -> Result<Submission, MoError> {
    let taken = message.submission.as_ref();
    let source = taken.and_then(|taken| taken.source.clone()).unwrap_or_default();
    let (data_coding, short_message, tlvs) =
        taken.map(|taken| (taken.data_coding, taken.short_message.clone(), taken.tlvs.clone())).unwrap_or_default();
    // A user data header, which long texts have, stays in front of its text; all else of esm_class was for the way here.
    let esm_class = taken.map_or(0, |taken| taken.esm_class & UDH_INDICATOR);
    let destination = Address { npi: u32::from(Npi::ISDN.0), ..source };
    let routed = routed(table, number, &destination, Text { data_coding, esm_class, octets: &short_message }, now_ms)?;
    let payload = Tlvs::try_from(tlvs).unwrap_or_default().message_payload();
    let mut tlvs = Tlvs::new();
    if let Some(payload) = payload {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &payload).expect("it was in a TLV");
    }
    let tlvs = Bytes::copy_from_slice(tlvs.as_bytes());
    let content = Submission { data_coding, esm_class, short_message, tlvs, ..Default::default() };
    Ok(addressed(content, number, destination, routed, now_ms, validity_s))
}

fn routed(
    table: &RouteTable,
    from: &str,
    destination: &Address,
    text: Text<'_>,
    now_ms: u64,
) -> Result<Routed, MoError> {
    let routed = table.route(&Query { account: "", source: from, destination, service_type: "", text, now_ms })?;
    if routed.kind != QueueKind::Esme {
        return Err(MoError::NoReceiver { number: destination.digits.clone() });
    }
    Ok(routed)
}

fn addressed(
    content: Submission,
    from: &str,
    destination: Address,
    routed: Routed,
    now_ms: u64,
    validity_s: u64,
) -> Submission {
    let validity_s = if validity_s == 0 { VALIDITY_DEFAULT_S } else { validity_s };
    Submission {
        kind: MessageKind::Mo as i32,
        source: Some(Address {
            ton: u32::from(Ton::INTERNATIONAL.0),
            npi: u32::from(Npi::ISDN.0),
            digits: from.strip_prefix('+').unwrap_or(from).to_owned(),
        }),
        destination: Some(destination),
        queue_kind: routed.kind as i32,
        queue_key: routed.key,
        link: routed.link,
        expires_at_ms: now_ms.saturating_add(validity_s.saturating_mul(1_000)),
        ..content
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::{Account, HandsetRange};

    fn table() -> RouteTable {
        let account =
            Account { system_id: "one".to_owned(), short_codes: vec!["1000".to_owned()], ..Default::default() };
        RouteTable::build(&[account], &[], &[HandsetRange { prefix: "1555".to_owned(), ..Default::default() }])
    }

    #[test]
    fn it_goes_to_the_owner_of_the_short_code() {
        let made = submission(&table(), "15551", "1000", "hello", 1_000, 60).unwrap();
        assert_eq!(
            (made.kind(), made.queue_kind(), made.queue_key.as_str()),
            (MessageKind::Mo, QueueKind::Esme, "one")
        );
        assert_eq!((&made.short_message[..], made.data_coding), (&b"hello"[..], 0));
        assert_eq!(made.expires_at_ms, 61_000);
        assert!(made.account.is_empty());
    }

    #[test]
    fn an_answer_goes_back_to_where_the_message_came_from() {
        let source = Some(Address { ton: 3, npi: 0, digits: "1000".to_owned() });
        let tlvs = Bytes::from_static(b"\x02\x04\0\x02\0\x07");
        let taken = Submission { source, esm_class: 0x43, short_message: "hello".into(), tlvs, ..Default::default() };
        let message = Message { submission: Some(taken), ..Default::default() };
        let made = answer(&table(), "15551", &message, 1_000, 60).unwrap();
        assert_eq!((made.queue_key.as_str(), made.esm_class, &made.short_message[..]), ("one", 0x40, &b"hello"[..]));
        assert_eq!(made.source.unwrap().digits, "15551");
        assert!(made.tlvs.is_empty());
        let nameless = Message { submission: Some(Submission::default()), ..Default::default() };
        assert!(answer(&table(), "15551", &nameless, 0, 0).is_err());
    }

    #[test]
    fn long_text_travels_as_payload() {
        let made = submission(&table(), "15551", "1000", &"\u{416}".repeat(200), 0, 0).unwrap();
        assert!(made.short_message.is_empty());
        assert_eq!(made.data_coding, 8);
        assert_eq!(Tlvs::try_from(made.tlvs).unwrap().message_payload().unwrap().len(), 400);
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let refused = |from: &str, to: &str, text: &str| submission(&table(), from, to, text, 0, 0).unwrap_err();
        assert!(matches!(refused("19", "1000", "x"), MoError::NotAHandset { .. }));
        assert!(matches!(refused("15551", "15552", "x"), MoError::NoReceiver { .. }));
        assert!(matches!(refused("15551", "3000", "x"), MoError::NotRouted(RouteRefusal::NotCovered)));
        assert!(matches!(refused("15551", "1000", &"x".repeat(5_000)), MoError::TooLong { octets: 5_000 }));
    }
}
