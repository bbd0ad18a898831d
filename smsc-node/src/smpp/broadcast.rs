//! Cell broadcast (SMPP v5.0 section 4.4): what is wrong with a broadcast_sm, and that nobody sends one that is right.
//! Pure.

use bytes::Bytes;
use smsc_proto::pdu::BroadcastSm;
use smsc_proto::tlv::Tag;

use super::status::BroadcastRefusal;

/// Areas of one broadcast_sm (v5.0 section 4.8.4.4).
const AREAS_MAX: usize = 255;
/// Units of broadcast_frequency_interval (v5.0 section 4.8.4.10): as often as can be, then seconds to years.
const UNITS: [u8; 8] = [0x00, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e];

/// Why `broadcast` is refused: for the first of its TLVs that is missing or wrong, or because there is no link to a cell
/// broadcast centre.
pub fn refusal(broadcast: &BroadcastSm) -> BroadcastRefusal {
    let tlvs = &broadcast.tlvs;
    let octet = |tag: Tag| tlvs.get(tag).and_then(|value| value.first().copied());
    let areas: Vec<Bytes> =
        tlvs.iter().filter(|tlv| tlv.tag == Tag::BROADCAST_AREA_IDENTIFIER).map(|tlv| tlv.value).collect();
    let wrong_area = areas.iter().find_map(|area| match area.split_first() {
        // An alias name, an ellipsoid arc, a polygon.
        Some((0, [])) => Some(BroadcastRefusal::AliasName),
        Some((0..=2, _)) => None,
        _ => Some(BroadcastRefusal::AreaFormat),
    });
    match () {
        () if broadcast.missing_tlv().is_some() => BroadcastRefusal::MissingTlv,
        () if areas.len() > AREAS_MAX => BroadcastRefusal::TooManyAreas,
        () if wrong_area.is_some() => wrong_area.unwrap_or(BroadcastRefusal::AreaFormat),
        () if octet(Tag::BROADCAST_CONTENT_TYPE).is_none_or(|network| network > 3) => BroadcastRefusal::ContentType,
        () if octet(Tag::BROADCAST_FREQUENCY_INTERVAL).is_none_or(|unit| !UNITS.contains(&unit)) => {
            BroadcastRefusal::FrequencyInterval
        }
        () if octet(Tag::BROADCAST_MESSAGE_CLASS).is_some_and(|class| class > 3) => BroadcastRefusal::MessageClass,
        () if octet(Tag::BROADCAST_CHANNEL_INDICATOR).is_some_and(|channel| channel > 1) => {
            BroadcastRefusal::ChannelIndicator
        }
        () => BroadcastRefusal::NoLink,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_proto::status::RefusalStatus;
    use smsc_proto::tlv::Tlvs;

    #[test]
    fn each_fault_earns_its_status_and_what_is_right_has_no_link() {
        let good: [(Tag, &[u8]); 4] = [
            (Tag::BROADCAST_AREA_IDENTIFIER, b"\0here"),
            (Tag::BROADCAST_CONTENT_TYPE, b"\x01\0\0"),
            (Tag::BROADCAST_REP_NUM, b"\0\x01"),
            (Tag::BROADCAST_FREQUENCY_INTERVAL, b"\x09\0\x05"),
        ];
        let refused = |change: Option<(Tag, &[u8])>| {
            let mut tlvs = Tlvs::new();
            let changed = change.map(|(tag, _)| tag);
            for (tag, value) in good.into_iter().filter(|(tag, _)| Some(*tag) != changed).chain(change) {
                if !value.is_empty() {
                    tlvs.push(tag, value).expect("short");
                }
            }
            refusal(&BroadcastSm { tlvs, ..BroadcastSm::default() }).status()
        };
        assert_eq!(refused(None), RefusalStatus::ESME_RBCASTFAIL);
        let cases: [(Tag, &[u8], RefusalStatus); 7] = [
            (Tag::BROADCAST_REP_NUM, b"", RefusalStatus::ESME_RMISSINGTLV),
            (Tag::BROADCAST_AREA_IDENTIFIER, b"\x03", RefusalStatus::ESME_RINVBCASTAREAFMT),
            (Tag::BROADCAST_AREA_IDENTIFIER, b"\0", RefusalStatus::ESME_RINVBCASTALIAS_NAME),
            (Tag::BROADCAST_CONTENT_TYPE, b"\x04\0\0", RefusalStatus::ESME_RINVBCASTCNTTYPE),
            (Tag::BROADCAST_FREQUENCY_INTERVAL, b"\x01\0\x05", RefusalStatus::ESME_RINVBCASTFREQINT),
            (Tag::BROADCAST_MESSAGE_CLASS, b"\x04", RefusalStatus::ESME_RINVBCASTMSGCLASS),
            (Tag::BROADCAST_CHANNEL_INDICATOR, b"\x02", RefusalStatus::ESME_RINVBCASTCHANIND),
        ];
        for (tag, value, status) in cases {
            assert_eq!(refused(Some((tag, value))), status, "{tag:?}");
        }
        let mut tlvs = Tlvs::new();
        good.into_iter().for_each(|(tag, value)| tlvs.push(tag, value).expect("short"));
        (0..AREAS_MAX).for_each(|_| tlvs.push(Tag::BROADCAST_AREA_IDENTIFIER, b"\0x").expect("short"));
        let crowded = refusal(&BroadcastSm { tlvs, ..BroadcastSm::default() });
        assert_eq!(crowded.status(), RefusalStatus::ESME_RINVNUMBCAST_AREAS);
    }
}
