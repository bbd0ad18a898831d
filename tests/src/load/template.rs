//! submit_sm octets made once; per message only sequence_number, destination and the tag in the text change.

use bytes::BytesMut;
use smsc_proto::command::SequenceNumber;
use smsc_proto::pdu::{Body, Pdu, SubmitSm};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{Address, Npi, RegisteredDelivery, Ton};

use crate::load::LoadError;
use crate::load::options::{DESTINATION_DIGITS, LoadOptions};

/// Every text starts with a tag of this many octets: who runs, and the number of the message. As many as a receipt
/// repeats, so that a receipt names the message it is about by itself.
pub const TAG_OCTETS: usize = RUN_OCTETS + NUMBER_OCTETS;
const RUN_OCTETS: usize = 8;
const NUMBER_OCTETS: usize = 12;

/// Texts above this go as message_payload (SMPP v3.4 section 5.2.22).
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;

/// Tells the messages of one run from those of all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunTag([u8; RUN_OCTETS]);

impl RunTag {
    /// The tag of the run with this number.
    pub fn new(run: u32) -> Self {
        let mut tag = [0; RUN_OCTETS];
        tag.copy_from_slice(format!("{run:08x}").as_bytes());
        RunTag(tag)
    }

    /// The message number in a text of this run; `None` for any other text.
    pub fn number_in(&self, text: &[u8]) -> Option<u64> {
        let tag = text.first_chunk::<TAG_OCTETS>()?;
        let (run, number) = tag.split_at(RUN_OCTETS);
        if run != self.0 {
            return None;
        }
        number
            .iter()
            .try_fold(0_u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
    }
}

/// The octets of a submit_sm, and where in them the parts that change stand.
#[derive(Clone, Debug)]
pub struct SubmitTemplate {
    octets: Vec<u8>,
    number_digits_at: usize,
    number_digits: usize,
    destinations: u64,
    tag_number_at: usize,
}

impl SubmitTemplate {
    /// The submit_sm that `options` describe, for the run with this tag.
    ///
    /// # Errors
    /// [`LoadError::Options`] if an address or the size does not fit the PDU.
    pub fn new(options: &LoadOptions, run: RunTag) -> Result<Self, LoadError> {
        let wrong = |error: &dyn std::fmt::Display| LoadError::Options(error.to_string());
        let mut text = Vec::with_capacity(options.size);
        text.extend_from_slice(&run.0);
        text.extend_from_slice(&[b'0'; NUMBER_OCTETS]);
        text.extend((TAG_OCTETS..options.size).map(|at| b"the quick brown fox "[at % 20]));
        let number_digits = DESTINATION_DIGITS - options.destination_prefix.len();
        let destination = format!("{}{}", options.destination_prefix, "0".repeat(number_digits));
        let mut submit = SubmitSm {
            source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, options.source.clone())
                .map_err(|error| wrong(&error))?,
            destination_addr: Address::international(destination.clone()).map_err(|error| wrong(&error))?,
            registered_delivery: if options.receipts { RegisteredDelivery::RECEIPT } else { RegisteredDelivery::NONE },
            ..SubmitSm::default()
        };
        if text.len() > SHORT_MESSAGE_OCTETS_MAX {
            let mut tlvs = Tlvs::new();
            tlvs.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|error| wrong(&error))?;
            submit.tlvs = tlvs;
        } else {
            submit.short_message = text.clone().into();
        }
        let mut octets = BytesMut::new();
        Pdu::new(SequenceNumber::FIRST, Body::SubmitSm(submit)).encode(&mut octets).map_err(|error| wrong(&error))?;
        let octets = octets.to_vec();
        // Header, service_type, source: ton, npi, digits and NUL; then ton and npi of the destination.
        let destination_at = 16 + 1 + 2 + options.source.len() + 1 + 2;
        let text_at = octets.len() - text.len();
        Ok(SubmitTemplate {
            number_digits_at: destination_at + options.destination_prefix.len(),
            number_digits,
            destinations: options.destinations,
            tag_number_at: text_at + RUN_OCTETS,
            octets,
        })
    }

    /// Appends the submit_sm of message `number` to `out`.
    pub fn append(&self, out: &mut BytesMut, sequence: SequenceNumber, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        let pdu = &mut out[start..];
        pdu[12..16].copy_from_slice(&sequence.0.to_be_bytes());
        let digits_at = self.number_digits_at;
        write_digits(&mut pdu[digits_at..digits_at + self.number_digits], number % self.destinations);
        write_digits(&mut pdu[self.tag_number_at..self.tag_number_at + NUMBER_OCTETS], number);
    }
}

/// `value` in decimal over the whole of `place`, with leading zeros.
fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        // Below 10, so that it fits.
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: LoadOptions,
    }

    fn check(size: usize, number: u64, destination: &str) {
        let line = Line::parse_from(["load", "--receipts", "--destinations", "1000", "--size", &size.to_string()]);
        let run = RunTag::new(0xbeef);
        let template = SubmitTemplate::new(&line.options, run).expect("fits");
        let mut out = BytesMut::from(&b"before"[..]);
        template.append(&mut out, SequenceNumber(77), number);
        let _ = out.split_to(6);
        let pdu = Pdu::decode(out.freeze()).expect("a whole PDU");
        assert_eq!(pdu.sequence, SequenceNumber(77));
        let Body::SubmitSm(submit) = pdu.body else { panic!("{:?}", pdu.body) };
        assert_eq!(submit.destination_addr.addr.as_str(), Some(destination));
        assert_eq!(submit.source_addr.addr.as_str(), Some("1000"));
        assert_eq!(submit.registered_delivery, RegisteredDelivery::RECEIPT);
        let text = submit.tlvs.get(Tag::MESSAGE_PAYLOAD).unwrap_or(submit.short_message);
        assert_eq!(text.len(), size);
        assert_eq!(run.number_in(&text), Some(number));
        assert_eq!(RunTag::new(0xbee).number_in(&text), None);
    }

    #[test]
    fn only_the_parts_that_differ_are_changed() {
        check(20, 0, "15550000000");
        check(160, 123_456, "15550000456");
        check(254, 999, "15550000999");
        check(2000, 1_000_007, "15550000007");
    }
}
