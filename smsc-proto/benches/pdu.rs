//! What reading and writing a PDU costs, and how many allocations it takes.
//!
//! `scripts/bench micro pdu`. The frames that are read share one receive buffer, as they do behind a
//! [`Framer`](smsc_proto::frame::Framer).

mod sample;

use bytes::BytesMut;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use smsc_proto::command::SequenceNumber;
use smsc_proto::pdu::{Body, DeliverSm, Pdu, SubmitSmResp};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{Address, EsmClass, MessageId, Npi, Ton};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

/// What is measured, by what it is called in the table.
const PDUS: &[&str] = &["submit_sm/20", "submit_sm/160", "submit_sm/2000", "submit_sm_resp", "deliver_sm/receipt"];
const RECEIPT: &str = "id:1234567890123456789 sub:001 dlvrd:001 submit date:2611261200 done date:2611261200 \
                       stat:DELIVRD err:000 text:a text of twenty oct";

fn main() {
    divan::main();
}

fn pdu(name: &str) -> Pdu {
    let id = MessageId::new("1234567890123456789").expect("short");
    let body = match name {
        "submit_sm/20" => Body::SubmitSm(sample::submit_sm(20)),
        "submit_sm/160" => Body::SubmitSm(sample::submit_sm(160)),
        "submit_sm/2000" => Body::SubmitSm(sample::submit_sm(2_000)),
        "submit_sm_resp" => Body::SubmitSmResp(SubmitSmResp { message_id: Some(id), ..SubmitSmResp::default() }),
        _ => {
            let mut tlvs = Tlvs::new();
            tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, id.as_bytes()).expect("short");
            tlvs.push_u8(Tag::MESSAGE_STATE, 2);
            Body::DeliverSm(DeliverSm {
                source_addr: Address::international("15550001234").expect("short"),
                destination_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
                esm_class: EsmClass::DELIVERY_RECEIPT,
                short_message: RECEIPT.into(),
                tlvs,
                ..DeliverSm::default()
            })
        }
    };
    Pdu::new(SequenceNumber::FIRST, body)
}

#[divan::bench(args = PDUS)]
fn decode(bencher: Bencher, name: &str) {
    let mut buffer = BytesMut::new();
    pdu(name).encode(&mut buffer).expect("it fits");
    let frame = buffer.freeze();
    bencher
        .counter(BytesCount::new(frame.len()))
        .with_inputs(|| frame.clone())
        .bench_local_values(|frame| Pdu::decode(frame).expect("just encoded"));
}

/// Into a buffer that is kept, as a session's output is.
#[divan::bench(args = PDUS)]
fn encode(bencher: Bencher, name: &str) {
    let pdu = pdu(name);
    let mut output = BytesMut::new();
    pdu.encode(&mut output).expect("it fits");
    bencher.counter(BytesCount::new(output.len())).bench_local(|| {
        output.clear();
        pdu.encode(&mut output).expect("it fits");
        output.len()
    });
}
