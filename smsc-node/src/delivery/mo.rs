//! Messages that a simulated handset sends.

use bytes::Bytes;
use smsc_proto::text::{Alphabet, TextError};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{Npi, Ton};
use smsc_raft::model::{Address, MessageKind, QueueKind, Submission};

use super::route::{RouteRefusal, RouteTable};

/// Life of an MO message when the operator's settings name no default. Seconds.
const VALIDITY_DEFAULT_S: u64 = 86_400;
/// Octets that short_message holds (SMPP v3.4 section 5.2.22); longer text travels as message_payload.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// Octets of text that one message carries. A phone would send more as several messages.
const TEXT_OCTETS_MAX: usize = 4_096;

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
    let routed = table.route("", &destination)?;
    if routed.kind != QueueKind::Esme {
        return Err(MoError::NoReceiver { number: to.to_owned() });
    }
    let alphabet = Alphabet::narrowest(text);
    let octets = alphabet.encode(text)?;
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
    let validity_s = if validity_s == 0 { VALIDITY_DEFAULT_S } else { validity_s };
    Ok(Submission {
        kind: MessageKind::Mo as i32,
        source: Some(Address {
            ton: u32::from(Ton::INTERNATIONAL.0),
            npi: u32::from(Npi::ISDN.0),
            digits: from.strip_prefix('+').unwrap_or(from).to_owned(),
        }),
        destination: Some(destination),
        data_coding: u32::from(alphabet.data_coding()),
        short_message,
        tlvs: Bytes::copy_from_slice(tlvs.as_bytes()),
        queue_kind: routed.kind as i32,
        queue_key: routed.key,
        link: routed.link.to_owned(),
        expires_at_ms: now_ms.saturating_add(validity_s.saturating_mul(1_000)),
        ..Default::default()
    })
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
