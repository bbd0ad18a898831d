//! What the fuzz targets run on their input, so that ordinary tests can run it too.

mod session;

pub use session::session;

use bytes::{BufMut, Bytes, BytesMut};

use crate::arbitrary::{Sample, Source};
use crate::command::CommandId;
use crate::error::DecodeError;
use crate::frame::{Framer, Header};
use crate::pdu::{COMMAND_IDS, Pdu};
use crate::tlv::{Tlv, Tlvs};

/// Reads `input` as a stream of PDUs, cut in two ways; as a command_id and a body; and as choices that a PDU is made of.
///
/// # Panics
/// If a frame that decodes does not encode to itself, or its TLVs do not survive being taken apart; if an answerable
/// error does not lead to an answer that decodes; if a stream in pieces gives other frames than the whole; or if a made
/// PDU does not decode to itself.
pub fn codec(input: &[u8]) {
    let frames = frames_of(input, input.len().max(1));
    let piece = input.last().map_or(1, |octet| usize::from(*octet) + 1);
    assert_eq!(frames_of(input, piece), frames, "in pieces of {piece} octets the stream has other frames");
    for frame in frames {
        decode(frame);
    }
    if let Some((choice, body)) = input.split_first() {
        decode(framed(COMMAND_IDS[usize::from(*choice) % COMMAND_IDS.len()], body));
    }
    let pdu = Pdu::sample(&mut Source::new(input));
    assert_eq!(Pdu::decode(encode(&pdu)).as_ref(), Ok(&pdu), "a made PDU decodes to another");
}

/// The frames of a stream that arrives in pieces of `piece` octets, up to where it is broken.
fn frames_of(stream: &[u8], piece: usize) -> Vec<Bytes> {
    let mut framer = Framer::default();
    let mut buf = BytesMut::new();
    let mut frames = vec![];
    for piece in stream.chunks(piece) {
        buf.extend_from_slice(piece);
        loop {
            let has_frame = framer.has_frame(&buf);
            let frame = framer.next_frame(&mut buf);
            assert_eq!(has_frame, !matches!(frame, Ok(None)), "has_frame knows what next_frame says");
            match frame {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// `body` behind the header that belongs to it.
fn framed(command_id: CommandId, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    for word in [(Header::LENGTH + body.len()) as u32, command_id.0, 0, 1] {
        frame.put_u32(word);
    }
    frame.put_slice(body);
    frame.freeze()
}

fn decode(frame: Bytes) {
    match Pdu::decode(frame.clone()) {
        Ok(pdu) => {
            assert_eq!(encode(&pdu), frame, "{pdu:?} encodes to other octets than it came from");
            take_apart(pdu.body.tlvs());
        }
        Err(DecodeError::Answerable(bad)) => {
            let answer = Pdu::refusal(bad.header.command_id, bad.header.sequence_number, bad.status());
            assert_eq!(Pdu::decode(encode(&answer)).as_ref(), Ok(&answer), "the answer to: {bad}");
        }
        Err(DecodeError::Fatal(error)) => panic!("a frame was cut that is none: {error}"),
    }
}

fn take_apart(tlvs: &Tlvs) {
    let mut again = Tlvs::new();
    for Tlv { tag, value } in tlvs.iter() {
        again.push(tag, &value).expect("it came out of a length of two octets");
    }
    assert_eq!(&again, tlvs);
    assert_eq!(&tlvs.detached(), tlvs);
    assert!(tlvs.without(|_| true).is_empty());
    if let Some(first) = tlvs.iter().next() {
        let without = tlvs.without(|tag| tag == first.tag);
        assert!(!without.contains(first.tag) && tlvs.get(first.tag) == Some(first.value));
        assert_eq!(without.iter().count() + tlvs.get_all(first.tag).count(), tlvs.iter().count());
    }
    let _ = tlvs.check_lengths();
}

fn encode(pdu: &Pdu) -> Bytes {
    let mut out = BytesMut::new();
    pdu.encode(&mut out).expect("what was decoded or sampled fits its length fields");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::session::run;
    use crate::session::CloseReason;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = std::fs::read_dir(&corpus).expect("the corpus is part of the tree");
        let inputs: Vec<_> = files
            .map(|entry| std::fs::read(entry.expect("a directory that can be read").path()))
            .collect::<Result<_, _>>()
            .expect("files that can be read");
        assert!(!inputs.is_empty(), "{} is empty", corpus.display());
        inputs
    }

    #[test]
    fn the_corpus_of_the_codec_passes() {
        for input in corpus("codec") {
            super::codec(&input);
        }
    }

    /// And sessions get to every end that there is, so the steps are not shallow.
    #[test]
    fn the_corpus_of_the_session_passes() {
        let mut ends = BTreeSet::new();
        for input in corpus("session") {
            ends.insert(match run(&input) {
                CloseReason::Unbound => "unbound",
                CloseReason::Closed => "closed",
                CloseReason::Disconnected => "disconnected",
                CloseReason::SessionInit => "session_init",
                CloseReason::Inactivity => "inactivity",
                CloseReason::EnquireLink => "enquire_link",
                CloseReason::NoAnswer(_) => "no answer",
                CloseReason::Malformed(_) => "malformed",
            });
        }
        assert_eq!(ends.len(), 8, "sessions ended only so: {ends:?}");
    }
}
