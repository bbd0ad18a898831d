//! Octets that are wrong: which parameter is named, which status it earns, and that nothing else is lost.

use bytes::{Bytes, BytesMut};

use super::{encode, octets};
use crate::command::{CommandId, SequenceNumber};
use crate::error::{DecodeError, EncodeError, FrameError};
use crate::frame::Framer;
use crate::pdu::{Body, Pdu, SubmitMulti, SubmitSm};
use crate::status::{CommandStatus, RefusalStatus};
use crate::types::{DestAddress, DlName};

/// A body that is no body of its operation eats exactly its own PDU: the next one is read as if nothing had been.
#[track_caller]
fn check_refused(command_id: CommandId, body: &str, field: &str, status: RefusalStatus) {
    let body = octets(body);
    let mut stream = BytesMut::new();
    for word in [16 + body.len() as u32, command_id.0, 0, 0x1234] {
        stream.extend_from_slice(&word.to_be_bytes());
    }
    stream.extend_from_slice(&body);
    let next = Pdu::new(SequenceNumber(2), Body::EnquireLink(Default::default()));
    next.encode(&mut stream).expect("a header");

    let mut framer = Framer::default();
    let frame = framer.next_frame(&mut stream).expect("a length in range").expect("a whole frame");
    let error = Pdu::decode(frame).expect_err("a wrong body");
    let DecodeError::Answerable(bad) = &error else { panic!("{error} cannot be answered") };
    assert_eq!(bad.header.command_id, command_id);
    assert_eq!(bad.header.sequence_number, SequenceNumber(0x1234));
    assert_eq!((bad.fault.field, error.status()), (field, status), "{error}");

    let frame = framer.next_frame(&mut stream).expect("a length in range").expect("a whole frame");
    assert_eq!(Pdu::decode(frame), Ok(next));
}

#[test]
fn each_parameter_earns_its_status() {
    let long = "31".repeat(65);
    let submit = CommandId::SUBMIT_SM;
    let tail = "00 00 00 00 00 00 00 00 00";
    check_refused(submit, "'CMTCMT' 00", "service_type", RefusalStatus::ESME_RINVSERTYP);
    check_refused(submit, &format!("00 0101 {long} 00"), "source_addr", RefusalStatus::ESME_RINVSRCADR);
    check_refused(submit, &format!("00 000000 0101 {long} 00"), "destination_addr", RefusalStatus::ESME_RINVDSTADR);
    check_refused(
        submit,
        "00 000000 000000 000000 '12345678901234567' 00",
        "schedule_delivery_time",
        RefusalStatus::ESME_RINVSCHED,
    );
    check_refused(
        submit,
        "00 000000 000000 000000 00 '12345678901234567' 00",
        "validity_period",
        RefusalStatus::ESME_RINVEXPIRY,
    );
    check_refused(
        submit,
        &format!("00 000000 000000 {tail} 05 'four'"),
        "short_message",
        RefusalStatus::ESME_RINVMSGLEN,
    );
    check_refused(
        submit,
        &format!("00 000000 000000 {tail} 00 0204 0002 12"),
        "tlvs",
        RefusalStatus::ESME_RINVTLVSTREAM,
    );
    check_refused(submit, "", "service_type", RefusalStatus::ESME_RINVCMDLEN);
    check_refused(submit, "00 01", "source_addr", RefusalStatus::ESME_RINVCMDLEN);
    check_refused(submit, "00 01 01 '155'", "source_addr", RefusalStatus::ESME_RINVCMDLEN);

    let bind = CommandId::BIND_TRANSCEIVER;
    check_refused(bind, "'1234567890123456' 00", "system_id", RefusalStatus::ESME_RINVSYSID);
    check_refused(bind, "00 '123456789' 00", "password", RefusalStatus::ESME_RINVPASWD);
    check_refused(bind, "00 00 '1234567890123' 00", "system_type", RefusalStatus::ESME_RINVSYSTYP);
    check_refused(bind, &format!("00 00 00 34 00 00 {long}"), "address_range", RefusalStatus::ESME_RINVPARLEN);

    let multi = CommandId::SUBMIT_MULTI;
    check_refused(multi, "00 000000 01 03", "dest_flag", RefusalStatus::ESME_RINVDESTFLAG);
    check_refused(multi, &format!("00 000000 01 02 {long}"), "dl_name", RefusalStatus::ESME_RINVDLNAME);
    check_refused(
        multi,
        &format!("00 000000 02 01 000000 01 0000 {long}"),
        "dest_addresses",
        RefusalStatus::ESME_RINVDSTADR,
    );
    check_refused(CommandId::QUERY_SM, &format!("{long} 00"), "message_id", RefusalStatus::ESME_RINVMSGID);
    check_refused(CommandId(0x0000_0777), "'?'", "command_id", RefusalStatus::ESME_RINVCMDID);
    check_refused(CommandId::ENQUIRE_LINK, "00", "tlvs", RefusalStatus::ESME_RINVTLVSTREAM);
}

#[test]
fn the_message_says_what_was_wrong() {
    let error = Pdu::decode(octets("00000014 00000004 00000000 00000009 00 01 01 31")).expect_err("cut off");
    assert_eq!(
        error.to_string(),
        "submit_sm with sequence_number 9: source_addr: the PDU ends before the NUL that ends the string"
    );
    assert_eq!(error.header().map(|header| header.command_length), Some(20));
}

#[test]
fn a_frame_that_is_none_is_fatal() {
    let error = Pdu::decode(octets("00000010 00000015 00000000")).expect_err("no header");
    assert_eq!(error, FrameError::NoHeader { length: 12 }.into());
    assert_eq!(error.header(), None);
    let error = Pdu::decode(octets("00000011 00000015 00000000 00000001")).expect_err("another length");
    assert!(matches!(error, DecodeError::Fatal(FrameError::Length { length: 16, .. })), "{error}");
    assert_eq!(error.status(), RefusalStatus::ESME_RINVCMDLEN);
}

#[test]
fn what_no_length_field_can_say_is_not_encoded() {
    let submit = SubmitSm { short_message: Bytes::from(vec![0; 256]), ..Default::default() };
    let list = vec![DestAddress::DistributionList(DlName::default()); 256];
    for (body, field) in [
        (Body::SubmitSm(submit), "short_message"),
        (Body::SubmitMulti(SubmitMulti { dest_addresses: list, ..Default::default() }), "number_of_dests"),
    ] {
        let mut out = BytesMut::from("before");
        let refused = Pdu::new(SequenceNumber::FIRST, body).encode(&mut out);
        assert_eq!(refused, Err(EncodeError { field, count: 256, count_max: 255 }));
        assert_eq!(out, "before");
    }
}

#[test]
fn a_status_and_a_sequence_number_of_any_value_survive() {
    let wire = octets("00000010 80000006 DEADBEEF FFFFFFFF");
    let pdu = Pdu::decode(wire.clone()).expect("a header");
    assert_eq!((pdu.status, pdu.sequence), (CommandStatus(0xdead_beef), SequenceNumber(u32::MAX)));
    assert_eq!(encode(&pdu), wire);
}
