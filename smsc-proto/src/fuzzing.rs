//! What the fuzz targets run on their input, so that ordinary tests can run it too.

mod session;

pub use session::session;

use bytes::{Bytes, BytesMut};

use crate::arbitrary::{Sample, Source};
use crate::error::DecodeError;
use crate::frame::Framer;
use crate::pdu::Pdu;

/// Reads `input` as a stream of PDUs, and makes a PDU out of it.
///
/// # Panics
/// If a frame that decodes does not encode to itself, if an answerable error does not lead to an answer that decodes, or
/// if a made PDU does not decode to itself.
pub fn codec(input: &[u8]) {
    let mut stream = BytesMut::from(input);
    let mut framer = Framer::default();
    while let Ok(Some(frame)) = framer.next_frame(&mut stream) {
        match Pdu::decode(frame.clone()) {
            Ok(pdu) => assert_eq!(encode(&pdu), frame, "{pdu:?} encodes to other octets than it came from"),
            Err(DecodeError::Answerable(bad)) => {
                let answer = Pdu::refusal(bad.header.command_id, bad.header.sequence_number, bad.status());
                assert_eq!(Pdu::decode(encode(&answer)).as_ref(), Ok(&answer), "the answer to: {bad}");
            }
            Err(DecodeError::Fatal(error)) => panic!("a frame was cut that is none: {error}"),
        }
    }
    let pdu = Pdu::sample(&mut Source::new(input));
    assert_eq!(Pdu::decode(encode(&pdu)).as_ref(), Ok(&pdu), "a made PDU decodes to another");
}

fn encode(pdu: &Pdu) -> Bytes {
    let mut out = BytesMut::new();
    pdu.encode(&mut out).expect("what was decoded or sampled fits its length fields");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn run_corpus(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).expect("the corpus is part of the tree") {
            let path = entry.expect("a directory that can be read").path();
            run(&std::fs::read(&path).expect("a file that can be read"));
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }

    #[test]
    fn the_corpus_of_the_codec_passes() {
        run_corpus("codec", super::codec);
    }

    #[test]
    fn the_corpus_of_the_session_passes() {
        run_corpus("session", super::session);
    }
}
