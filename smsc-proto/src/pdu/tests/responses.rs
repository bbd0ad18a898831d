//! Known octets of every answer: with body, without, and with a body beside an error.

use super::{check, octets};
use crate::command::{CommandId, SequenceNumber};
use crate::pdu::{
    BindResp, Body, BroadcastSmResp, DataSmResp, EnquireLinkResp, Pdu, QueryBroadcastSmResp, QuerySmResp,
    QuerySmResult, SubmitMultiResp, SubmitMultiResult, SubmitSmResp,
};
use crate::status::{CommandStatus, RefusalStatus};
use crate::tlv::{Tag, Tlvs};
use crate::types::*;

const OK: CommandStatus = CommandStatus::ESME_ROK;

fn tlvs(notation: &str) -> Tlvs {
    Tlvs::try_from(octets(notation)).expect("a sequence of TLVs")
}

fn id(text: &str) -> Option<MessageId> {
    Some(text.parse().expect("a short id"))
}

#[test]
fn bind_resp() {
    let resp = BindResp { system_id: Some("centre".parse().expect("short")), tlvs: tlvs("0210 0001 34") };
    assert_eq!(resp.tlvs.sc_interface_version(), Some(InterfaceVersion::V3_4));
    for (mode, command_id) in
        [(BindMode::Receiver, "80000001"), (BindMode::Transmitter, "80000002"), (BindMode::Transceiver, "80000009")]
    {
        check(
            &format!("0000001C {command_id} 00000000 00000001 'centre' 00 0210 0001 34"),
            OK,
            1,
            Body::bind_resp(mode, resp.clone()),
        );
        check(
            &format!("00000010 {command_id} 0000000E 00000001"),
            CommandStatus::ESME_RINVPASWD,
            1,
            Body::bind_resp(mode, BindResp::default()),
        );
    }
}

#[test]
fn header_alone() {
    for command_id in [
        CommandId::GENERIC_NACK,
        CommandId::UNBIND_RESP,
        CommandId::ENQUIRE_LINK_RESP,
        CommandId::CANCEL_SM_RESP,
        CommandId::REPLACE_SM_RESP,
        CommandId::CANCEL_BROADCAST_SM_RESP,
    ] {
        check(
            &format!("00000010 {:08X} 00000003 00000000", command_id.0),
            CommandStatus::ESME_RINVCMDID,
            0,
            Body::empty(command_id).expect("an operation"),
        );
    }
}

/// v5.0 lets any answer tell how loaded its sender is.
#[test]
fn congestion_state_behind_a_header() {
    check(
        "00000015 80000015 00000000 00000004 0428 0001 50",
        OK,
        4,
        Body::EnquireLinkResp(EnquireLinkResp { tlvs: tlvs("0428 0001 50") }),
    );
}

#[test]
fn submit_sm_resp() {
    check(
        "00000015 80000004 00000000 00000005 '4711' 00",
        OK,
        5,
        Body::SubmitSmResp(SubmitSmResp { message_id: id("4711"), tlvs: Tlvs::new() }),
    );
    let refused = CommandStatus::ESME_RTHROTTLED;
    check("00000010 80000004 00000058 00000005", refused, 5, Body::SubmitSmResp(SubmitSmResp::default()));
    check(
        "00000011 80000004 00000058 00000005 00",
        refused,
        5,
        Body::SubmitSmResp(SubmitSmResp { message_id: Some(MessageId::default()), tlvs: Tlvs::new() }),
    );
}

/// TLVs cannot stand behind an absent message_id, so an empty one goes in front of them.
#[test]
fn tlvs_beside_an_absent_body() {
    let mut tlvs = Tlvs::new();
    tlvs.push_u8(Tag::CONGESTION_STATE, 99);
    let pdu = Pdu {
        status: CommandStatus::ESME_RTHROTTLED,
        sequence: SequenceNumber(5),
        body: Body::SubmitSmResp(SubmitSmResp { message_id: None, tlvs }),
    };
    assert_eq!(super::encode(&pdu), octets("00000016 80000004 00000058 00000005 00 0428 0001 63"));
}

/// Many ESMEs answer deliver_sm without the empty message_id the specification asks for.
#[test]
fn deliver_sm_resp() {
    let without = Body::empty(CommandId::DELIVER_SM_RESP).expect("an operation");
    check("00000010 80000005 00000000 00000006", OK, 6, without);
}

#[test]
fn data_sm_resp() {
    check(
        "00000025 80000103 000000FE 00000007 00 0425 0001 01 0423 0003 03001B 001D 0004 'off' 00",
        CommandStatus::ESME_RDELIVERYFAILURE,
        7,
        Body::DataSmResp(DataSmResp {
            message_id: id(""),
            tlvs: tlvs("0425 0001 01 0423 0003 03001B 001D 0004 'off' 00"),
        }),
    );
}

#[test]
fn submit_multi_resp() {
    check(
        "00000027 80000021 00000000 00000008 '9' 00 02
         01 01 '1555' 00 0000000B  00 00 '77' 00 00000401",
        OK,
        8,
        Body::SubmitMultiResp(SubmitMultiResp {
            result: Some(SubmitMultiResult {
                message_id: "9".parse().expect("short"),
                unsuccess_smes: vec![
                    UnsuccessSme {
                        dest_addr_ton: Ton::INTERNATIONAL,
                        dest_addr_npi: Npi::ISDN,
                        destination_addr: "1555".parse().expect("short"),
                        error_status_code: CommandStatus::ESME_RINVDSTADR,
                    },
                    UnsuccessSme {
                        destination_addr: "77".parse().expect("short"),
                        error_status_code: CommandStatus(0x401),
                        ..Default::default()
                    },
                ],
            }),
            tlvs: Tlvs::new(),
        }),
    );
}

#[test]
fn query_sm_resp() {
    check(
        "00000028 80000003 00000000 0000000A '4711' 00 '261121030000000+' 00 02 00",
        OK,
        10,
        Body::QuerySmResp(QuerySmResp {
            result: Some(QuerySmResult {
                message_id: "4711".parse().expect("short"),
                final_date: "261121030000000+".parse().expect("16 octets"),
                message_state: MessageState::DELIVERED,
                error_code: 0,
            }),
            tlvs: Tlvs::new(),
        }),
    );
    check(
        "00000010 80000003 00000067 0000000A",
        CommandStatus::ESME_RQUERYFAIL,
        10,
        Body::QuerySmResp(QuerySmResp::default()),
    );
}

#[test]
fn broadcast_sm_resp() {
    check(
        "00000021 80000111 00000000 0000000E 'b1' 00 0607 0004 00000109 0606 0002 01'x'",
        OK,
        14,
        Body::BroadcastSmResp(BroadcastSmResp {
            message_id: id("b1"),
            tlvs: tlvs("0607 0004 00000109 0606 0002 01'x'"),
        }),
    );
}

#[test]
fn query_broadcast_sm_resp() {
    let areas = tlvs("0427 0001 02 0606 0002 00'x' 0608 0001 64 0606 0002 00'y' 0608 0001 FF");
    assert_eq!(areas.get_all(Tag::BROADCAST_AREA_SUCCESS).count(), 2);
    check(
        "0000002E 80000112 00000000 0000000F 'b1' 00
         0427 0001 02 0606 0002 00'x' 0608 0001 64 0606 0002 00'y' 0608 0001 FF",
        OK,
        15,
        Body::QueryBroadcastSmResp(QueryBroadcastSmResp { message_id: id("b1"), tlvs: areas }),
    );
}

#[test]
fn a_refusal_is_the_answer_of_its_request() {
    let sequence = SequenceNumber(3);
    for (request, answer) in [
        (CommandId::SUBMIT_SM, CommandId::SUBMIT_SM_RESP),
        (CommandId::QUERY_BROADCAST_SM, CommandId::QUERY_BROADCAST_SM_RESP),
        (CommandId::OUTBIND, CommandId::GENERIC_NACK),
        (CommandId(0x0000_0777), CommandId::GENERIC_NACK),
    ] {
        let pdu = Pdu::refusal(request, sequence, RefusalStatus::ESME_RINVBNDSTS);
        assert_eq!(pdu.command_id(), answer);
        assert_eq!((pdu.status, pdu.sequence), (CommandStatus::ESME_RINVBNDSTS, sequence));
        assert_eq!(super::encode(&pdu).len(), 16);
    }
}
