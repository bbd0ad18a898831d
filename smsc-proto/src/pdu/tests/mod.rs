//! The codec as a whole: known octets, generated PDUs, and octets that are wrong.

mod errors;
mod properties;
mod requests;
mod responses;

use bytes::{Bytes, BytesMut};

use super::{Body, Pdu};
use crate::command::SequenceNumber;
use crate::frame::Framer;
use crate::status::CommandStatus;

/// Octets written as hex digits and quoted text: `0004 'abc' 00`.
fn octets(notation: &str) -> Bytes {
    let mut octets = Vec::new();
    for (index, part) in notation.split('\'').enumerate() {
        if index % 2 == 1 {
            octets.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> =
            part.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("a hex digit") as u8).collect();
        assert!(digits.len().is_multiple_of(2), "half an octet in {part:?}");
        octets.extend(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
    }
    octets.into()
}

fn encode(pdu: &Pdu) -> Bytes {
    let mut out = BytesMut::new();
    pdu.encode(&mut out).expect("a PDU that fits its length fields");
    out.freeze()
}

/// The octets are this PDU and nothing else, in both directions, alone and in a stream behind another PDU.
#[track_caller]
fn check(notation: &str, status: CommandStatus, sequence: u32, body: Body) {
    let wire = octets(notation);
    let pdu = Pdu { status, sequence: SequenceNumber(sequence), body };
    assert_eq!(Pdu::decode(wire.clone()), Ok(pdu.clone()), "decoding");
    assert_eq!(encode(&pdu), wire, "encoding");

    let mut stream = BytesMut::new();
    Pdu::new(SequenceNumber(7), Body::Unbind(Default::default())).encode(&mut stream).expect("a header");
    pdu.encode(&mut stream).expect("as before");
    let mut framer = Framer::default();
    assert_eq!(framer.next_frame(&mut stream).map(|frame| frame.map(|f| f.len())), Ok(Some(16)));
    assert_eq!(framer.next_frame(&mut stream), Ok(Some(wire)));
    assert_eq!(framer.next_frame(&mut stream), Ok(None));
}
