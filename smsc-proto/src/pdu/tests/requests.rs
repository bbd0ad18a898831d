//! Known octets of every request, laid out by hand from the tables of the specification.

use super::{check, octets};
use crate::pdu::{
    AlertNotification, Bind, Body, BroadcastSm, CancelBroadcastSm, CancelSm, DataSm, DeliverSm, EnquireLink, Outbind,
    QueryBroadcastSm, QuerySm, ReplaceSm, SubmitMulti, SubmitSm, Unbind,
};
use crate::status::CommandStatus;
use crate::tlv::{Tag, Tlvs};
use crate::types::*;

const OK: CommandStatus = CommandStatus::ESME_ROK;

fn number(digits: &'static str) -> Address {
    Address::international(digits).expect("a short number")
}

fn tlvs(notation: &str) -> Tlvs {
    Tlvs::try_from(octets(notation)).expect("a sequence of TLVs")
}

fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a short text")
}

/// The example of SMPP v3.4 section 3.2.
#[test]
fn bind_transmitter_of_the_specification() {
    check(
        "0000002F 00000002 00000000 00000001 534D505033544553540073656372657430380053554
         24D49543100 00 01 01 00",
        OK,
        1,
        Body::BindTransmitter(Bind {
            system_id: text("SMPP3TEST"),
            password: text("secret08"),
            system_type: text("SUBMIT1"),
            interface_version: InterfaceVersion(0),
            addr_ton: Ton::INTERNATIONAL,
            addr_npi: Npi::ISDN,
            ..Default::default()
        }),
    );
}

#[test]
fn bind_receiver_and_transceiver() {
    let bind = Bind {
        system_id: text("esme"),
        password: text("pw"),
        interface_version: InterfaceVersion::V5_0,
        address_range: text("^1555"),
        ..Default::default()
    };
    let body = "'esme' 00 'pw' 00 00 50 00 00 '^1555' 00";
    check(&format!("00000022 00000001 00000000 00000002 {body}"), OK, 2, Body::bind(BindMode::Receiver, bind.clone()));
    check(&format!("00000022 00000009 00000000 00000002 {body}"), OK, 2, Body::bind(BindMode::Transceiver, bind));
}

#[test]
fn outbind() {
    check(
        "0000001C 0000000B 00000000 00000001 'centre' 00 'pass' 00",
        OK,
        1,
        Body::Outbind(Outbind { system_id: text("centre"), password: text("pass"), tlvs: Tlvs::new() }),
    );
}

#[test]
fn unbind_and_enquire_link() {
    check("00000010 00000006 00000000 00000003", OK, 3, Body::Unbind(Unbind::default()));
    check("00000010 00000015 00000000 7FFFFFFF", OK, 0x7fff_ffff, Body::EnquireLink(EnquireLink::default()));
}

#[test]
fn submit_sm() {
    check(
        "0000006B 00000004 00000000 00000005
         'CMT' 00  01 01 '15551234567' 00  01 01 '15557654321' 00  03 7F 01
         '261121030000000+' 00  '000001000000000R' 00  01 00 08 00  04 '0041'
         0204 0002 1234  1400 0003 'abc'",
        OK,
        5,
        Body::SubmitSm(SubmitSm {
            service_type: text("CMT"),
            source_addr: number("15551234567"),
            destination_addr: number("15557654321"),
            esm_class: EsmClass(3),
            protocol_id: 0x7f,
            priority_flag: PriorityFlag::LEVEL_1,
            schedule_delivery_time: text("261121030000000+"),
            validity_period: text("000001000000000R"),
            registered_delivery: RegisteredDelivery::RECEIPT,
            data_coding: DataCoding::UCS2,
            short_message: "0041".into(),
            tlvs: tlvs("0204 0002 1234  1400 0003 'abc'"),
            ..Default::default()
        }),
    );
}

/// Every string empty: the shortest submit_sm there is.
#[test]
fn submit_sm_of_nothing() {
    check(
        "00000021 00000004 00000000 00000005 00 000000 000000 000000 00 00 00 00 00 00 00",
        OK,
        5,
        Body::SubmitSm(SubmitSm::default()),
    );
}

#[test]
fn submit_multi() {
    check(
        "00000037 00000021 00000000 00000006
         00 05 00 'Sender' 00  02  01 01 01 '15551' 00  02 'staff' 00
         00 00 00 00 00 00 00 00 00  02 'hi'",
        OK,
        6,
        Body::SubmitMulti(SubmitMulti {
            source_addr: Address::new(Ton::ALPHANUMERIC, Npi::UNKNOWN, "Sender").expect("short"),
            dest_addresses: vec![DestAddress::Sme(number("15551")), DestAddress::DistributionList(text("staff"))],
            short_message: "hi".into(),
            ..Default::default()
        }),
    );
}

/// A receipt with the TLVs that go with it.
#[test]
fn deliver_sm() {
    let receipt = tlvs("001E 0003 '42' 00  0427 0001 02");
    assert_eq!(receipt.receipted_message_id(), Some(text("42")));
    check(
        "00000048 00000005 00000000 00000008
         00  01 01 '15557654321' 00  01 01 '15551234567' 00  04 00 00 00 00 00 00 00 00
         05 'id:42'  001E 0003 '42' 00  0427 0001 02",
        OK,
        8,
        Body::DeliverSm(DeliverSm {
            source_addr: number("15557654321"),
            destination_addr: number("15551234567"),
            esm_class: EsmClass::DELIVERY_RECEIPT,
            short_message: "id:42".into(),
            tlvs: receipt,
            ..Default::default()
        }),
    );
}

#[test]
fn data_sm() {
    let mut tlvs = Tlvs::new();
    tlvs.push(Tag::MESSAGE_PAYLOAD, b"hello").expect("short");
    let long = "1234567890".repeat(6) + "1234";
    check(
        &format!(
            "00000066 00000103 00000000 00000009
             'WAP' 00  00 00 00  0E 0E '{long}' 00  40 01 04  0424 0005 'hello'"
        ),
        OK,
        9,
        Body::DataSm(DataSm {
            service_type: text("WAP"),
            destination_addr: LongAddress::new(Ton(14), Npi::INTERNET, long).expect("64 octets"),
            esm_class: EsmClass::default().with_udhi(true),
            registered_delivery: RegisteredDelivery::RECEIPT,
            data_coding: DataCoding::BINARY,
            tlvs,
            ..Default::default()
        }),
    );
}

#[test]
fn query_cancel_and_replace() {
    check(
        "0000001C 00000003 00000000 0000000A '4711' 00 01 01 '1555' 00",
        OK,
        10,
        Body::QuerySm(QuerySm { message_id: text("4711"), source_addr: number("1555"), ..Default::default() }),
    );
    check(
        "00000023 00000008 00000000 0000000B 'CMT' 00 00 01 01 '1555' 00 01 01 '1666' 00",
        OK,
        11,
        Body::CancelSm(CancelSm {
            service_type: text("CMT"),
            source_addr: number("1555"),
            destination_addr: number("1666"),
            ..Default::default()
        }),
    );
    check(
        "00000024 00000007 00000000 0000000C '4711' 00 01 01 '1555' 00 00 00 01 00 03 'new'",
        OK,
        12,
        Body::ReplaceSm(ReplaceSm {
            message_id: text("4711"),
            source_addr: number("1555"),
            registered_delivery: RegisteredDelivery::RECEIPT,
            short_message: "new".into(),
            ..Default::default()
        }),
    );
}

#[test]
fn alert_notification() {
    check(
        "00000022 00000102 00000000 0000000D 01 01 '1555' 00 00 00 'app' 00 0422 0001 00",
        OK,
        13,
        Body::AlertNotification(AlertNotification {
            source_addr: number("1555").into(),
            esme_addr: LongAddress::new(Ton::UNKNOWN, Npi::UNKNOWN, "app").expect("short"),
            tlvs: tlvs("0422 0001 00"),
        }),
    );
}

#[test]
fn broadcast() {
    let areas = tlvs("0606 0003 00'ab' 0601 0003 000001 0604 0002 0005 0605 0003 09000A 0606 0002 00'c'");
    let broadcast =
        BroadcastSm { source_addr: number("1555"), data_coding: DataCoding::LATIN1, tlvs: areas, ..Default::default() };
    assert_eq!(broadcast.missing_tlv(), None);
    assert_eq!(BroadcastSm::default().missing_tlv(), Some(Tag::BROADCAST_AREA_IDENTIFIER));
    assert_eq!(broadcast.tlvs.broadcast_frequency_interval(), Some(BroadcastFrequencyInterval { unit: 9, count: 10 }));
    check(
        "00000040 00000111 00000000 0000000E 00 01 01 '1555' 00 00 00 00 00 00 03 00
         0606 0003 00'ab' 0601 0003 000001 0604 0002 0005 0605 0003 09000A 0606 0002 00'c'",
        OK,
        14,
        Body::BroadcastSm(broadcast),
    );
    check(
        "00000020 00000112 00000000 0000000F 'b1' 00 01 01 '1555' 00 0204 0002 0001",
        OK,
        15,
        Body::QueryBroadcastSm(QueryBroadcastSm {
            message_id: text("b1"),
            source_addr: number("1555"),
            tlvs: tlvs("0204 0002 0001"),
        }),
    );
    check(
        "0000001B 00000113 00000000 00000010 00 'b1' 00 01 01 '1555' 00",
        OK,
        16,
        Body::CancelBroadcastSm(CancelBroadcastSm {
            message_id: text("b1"),
            source_addr: number("1555"),
            ..Default::default()
        }),
    );
}
