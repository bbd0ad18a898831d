//! What holds for every PDU, and for octets that are none.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::encode;
use crate::arbitrary::{Sample, Source, pdus};
use crate::fuzzing;
use crate::pdu::{Body, COMMAND_IDS, Pdu};

/// Octets with a header in front that names an operation and the right length.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    (0..COMMAND_IDS.len(), vec(prop_oneof![3 => Just(0), 2 => any::<u8>()], 0..200)).prop_map(|(operation, body)| {
        let mut frame = Vec::new();
        for word in [16 + body.len() as u32, COMMAND_IDS[operation].0, 0, 1] {
            frame.extend_from_slice(&word.to_be_bytes());
        }
        frame.extend(body);
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn decoding_undoes_encoding(pdu in pdus()) {
        prop_assert_eq!(Pdu::decode(encode(&pdu)), Ok(pdu));
    }

    #[test]
    fn encoding_undoes_decoding(frame in frames()) {
        if let Ok(pdu) = Pdu::decode(Bytes::from(frame.clone())) {
            prop_assert_eq!(encode(&pdu), frame);
        }
    }

    /// One octet changed, anywhere: refused or read, never a panic, and what is read is what was there.
    #[test]
    fn a_changed_octet_does_no_harm(pdu in pdus(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut frame = encode(&pdu).to_vec();
        let at = at.index(frame.len());
        frame[at] = octet;
        fuzzing::codec(&frame);
    }

    /// A PDU that ends anywhere in its body is refused or is another PDU, but not read past its end.
    #[test]
    fn a_cut_pdu_does_no_harm(pdu in pdus(), at in any::<prop::sample::Index>()) {
        let mut frame = encode(&pdu).to_vec();
        frame.truncate(16 + at.index(frame.len() - 15));
        let command_length = frame.len() as u32;
        frame[..4].copy_from_slice(&command_length.to_be_bytes());
        fuzzing::codec(&frame);
    }

    #[test]
    fn any_octets_do_no_harm(octets in vec(any::<u8>(), 0..400)) {
        fuzzing::codec(&octets);
    }

    /// The fields of a PDU share its frame: decoding copies nothing.
    #[test]
    fn decoding_copies_nothing(pdu in pdus()) {
        let frame = encode(&pdu);
        let range = frame.as_ptr_range();
        if let Ok(Pdu { body: Body::SubmitSm(submit), .. }) = Pdu::decode(frame.clone()) {
            for octets in [submit.short_message.as_ref(), submit.destination_addr.addr.as_bytes()] {
                prop_assert!(octets.is_empty() || range.contains(&octets.as_ptr()));
            }
        }
    }

    #[test]
    fn a_pdu_is_appended_behind_what_is_there(first in pdus(), second in pdus()) {
        let mut out = BytesMut::new();
        first.encode(&mut out).expect("sampled PDUs fit");
        second.encode(&mut out).expect("sampled PDUs fit");
        prop_assert_eq!(out.freeze(), [encode(&first), encode(&second)].concat());
    }
}

/// Samples reach every operation, so the properties above speak about all of them.
#[test]
fn every_operation_is_sampled() {
    for (variant, command_id) in COMMAND_IDS.iter().enumerate() {
        let octets = [variant as u8, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let pdu = Pdu::sample(&mut Source::new(&octets));
        assert_eq!(pdu.command_id(), *command_id);
        assert_eq!(Pdu::decode(encode(&pdu)), Ok(pdu));
    }
}
