//! What data_coding 0 means to an account or a link: from its alphabet to the GSM one, which is what data_coding 0 stands
//! for in the store, and back. Pure.
//!
//! Nothing is lost on either way. What the GSM alphabet cannot write is stored as what it is, under a data_coding that
//! names the account's alphabet; what the account's alphabet cannot write is delivered as UCS-2. A segment that a link
//! carries is the exception: it has no room for that ([`delivered_segment`]). Text with another data_coding says itself
//! what it is and is left alone.

use bytes::Bytes;
use smsc_proto::text::{Alphabet, Element, UserDataHeader};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{DataCoding, EsmClass};
use smsc_raft::model::DefaultAlphabet;

/// data_coding of the message centre's default alphabet.
const DEFAULT: u8 = 0;
/// Octets that message_payload holds.
const TEXT_OCTETS_MAX: usize = u16::MAX as usize;
/// Information elements that choose a national language (3GPP TS 23.040 sections 9.2.3.24.15 and 16): the text is in
/// tables of the GSM alphabet, whatever the account's alphabet is.
const NATIONAL_LANGUAGE: [u8; 2] = [0x24, 0x25];

/// A message's text as it stands in its field.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What it says of itself.
    pub data_coding: u8,
    /// Whether a user data header stands in front.
    pub has_header: bool,
    /// Whether TLVs say that it is a segment of a longer message.
    pub is_segment: bool,
    /// Header and text.
    pub octets: &'a [u8],
}

/// A message's text and parameters as they are stored. Octets are copied, because a slice would keep the whole receive
/// buffer as long as the message waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredText {
    /// data_coding.
    pub data_coding: u32,
    /// short_message; empty if the text is in message_payload.
    pub short_message: Bytes,
    /// The TLVs, as on the wire.
    pub tlvs: Bytes,
}

impl StoredText {
    /// What is stored of a text that comes from whoever has data_coding 0 stand for `alphabet`. `None` if it does not
    /// fit into message_payload any more.
    pub fn of(
        alphabet: DefaultAlphabet,
        data_coding: DataCoding,
        esm_class: EsmClass,
        short_message: &Bytes,
        tlvs: &Tlvs,
    ) -> Option<StoredText> {
        let payload = tlvs.get(Tag::MESSAGE_PAYLOAD);
        let octets = payload.as_ref().unwrap_or(short_message);
        let written = Text::new(data_coding.0, esm_class.udhi(), tlvs, octets);
        let Some((data_coding, octets)) = stored(alphabet, written) else {
            return Some(StoredText {
                data_coding: u32::from(data_coding.0),
                short_message: Bytes::copy_from_slice(short_message),
                tlvs: Bytes::copy_from_slice(tlvs.as_bytes()),
            });
        };
        let data_coding = u32::from(data_coding);
        if payload.is_none() {
            let tlvs = Bytes::copy_from_slice(tlvs.as_bytes());
            return Some(StoredText { data_coding, short_message: octets.into(), tlvs });
        }
        let mut tlvs = tlvs.without(|tag| tag == Tag::MESSAGE_PAYLOAD);
        tlvs.push(Tag::MESSAGE_PAYLOAD, &octets).ok()?;
        Some(StoredText { data_coding, short_message: Bytes::new(), tlvs: Bytes::copy_from_slice(tlvs.as_bytes()) })
    }

    /// The text, with its header, wherever it is.
    pub fn octets(&self) -> Bytes {
        let tlvs = Tlvs::try_from(self.tlvs.clone()).unwrap_or_default();
        octets_of(&self.short_message, &tlvs)
    }
}

/// The text of a message, with its header, wherever it is.
pub fn octets_of(short_message: &Bytes, tlvs: &Tlvs) -> Bytes {
    match tlvs.get(Tag::MESSAGE_PAYLOAD) {
        Some(payload) if short_message.is_empty() => payload,
        _ => short_message.clone(),
    }
}

/// A text written otherwise: its data_coding, and its octets with the header in front.
pub type Rewritten = (u8, Vec<u8>);

impl<'a> Text<'a> {
    /// The text of a message with these optional parameters.
    pub fn new(data_coding: u8, has_header: bool, tlvs: &Tlvs, octets: &'a [u8]) -> Self {
        Self { data_coding, has_header, is_segment: tlvs.contains(Tag::SAR_TOTAL_SEGMENTS), octets }
    }

    /// Whether it is a segment of a longer message.
    pub fn is_part(self) -> bool {
        self.parts().is_some_and(|(_, _, is_segment)| is_segment)
    }

    /// The header's octets, the text's, and whether it is a segment of a longer message. `None` if the header cannot be
    /// read, or says that the text is in a national table.
    fn parts(self) -> Option<(&'a [u8], &'a [u8], bool)> {
        if !self.has_header {
            return Some((&[], self.octets, self.is_segment));
        }
        let (header, body) = UserDataHeader::parse(self.octets).ok()?;
        let national =
            |element: &Element| matches!(element, Element::Other { id, .. } if NATIONAL_LANGUAGE.contains(id));
        if header.elements.iter().any(national) {
            return None;
        }
        let is_segment = self.is_segment || header.concatenation().is_some();
        Some((&self.octets[..self.octets.len() - body.len()], body, is_segment))
    }
}

/// The text of an account or a link as it is stored; `None` if it stays as it is.
pub fn stored(alphabet: DefaultAlphabet, text: Text<'_>) -> Option<Rewritten> {
    let own = other_than_gsm(alphabet).filter(|_| text.data_coding == DEFAULT)?;
    let (header, body, is_segment) = text.parts()?;
    // Segments of one message are all to have the same data_coding, whatever is in each.
    let written = match is_segment {
        true => None,
        false => own.decode(body).ok().and_then(|read| Alphabet::Gsm7.encode(&read).ok()),
    };
    match written {
        Some(written) if header.len() + written.len() <= TEXT_OCTETS_MAX => {
            Some((DEFAULT, [header, &written].concat()))
        }
        _ => Some((own.data_coding(), text.octets.to_vec())),
    }
}

/// A stored text as it is delivered to an account or over a link; `None` if it stays as it is.
pub fn delivered(alphabet: DefaultAlphabet, text: Text<'_>) -> Option<Rewritten> {
    let (own, header, read) = read_for(alphabet, text)?;
    let (data_coding, written) = match own.encode(&read) {
        Ok(written) => (DEFAULT, written),
        Err(_) => (Alphabet::Ucs2.data_coding(), Alphabet::Ucs2.encode(&read).ok()?),
    };
    (header.len() + written.len() <= TEXT_OCTETS_MAX).then(|| (data_coding, [header, &written].concat()))
}

/// The same for a segment of a longer message, which must not grow nor differ from the others in its data_coding: what
/// the alphabet cannot write becomes a question mark.
pub fn delivered_segment(alphabet: DefaultAlphabet, text: Text<'_>) -> Option<Rewritten> {
    let (own, header, read) = read_for(alphabet, text)?;
    let write = |character: char| own.encode(character.encode_utf8(&mut [0; 4])).unwrap_or_else(|_| vec![b'?']);
    let written: Vec<u8> = read.chars().flat_map(write).collect();
    Some((DEFAULT, [header, &written].concat()))
}

/// The alphabet that a stored text is to be written in, its header, and the text itself. `None` if it stays as it is.
fn read_for(alphabet: DefaultAlphabet, text: Text<'_>) -> Option<(Alphabet, &[u8], String)> {
    let own = other_than_gsm(alphabet).filter(|_| text.data_coding == DEFAULT)?;
    let (header, body, _) = text.parts()?;
    // A segment may end within a character; what cannot be read goes as it is.
    Some((own, header, Alphabet::Gsm7.decode(body).ok()?))
}

fn other_than_gsm(alphabet: DefaultAlphabet) -> Option<Alphabet> {
    match alphabet {
        DefaultAlphabet::Gsm7 => None,
        DefaultAlphabet::Latin1 => Some(Alphabet::Latin1),
        DefaultAlphabet::Ascii => Some(Alphabet::Ascii),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(octets: &[u8]) -> Text<'_> {
        Text { data_coding: 0, has_header: false, is_segment: false, octets }
    }

    #[test]
    fn the_gsm_alphabet_is_left_alone() {
        assert_eq!(stored(DefaultAlphabet::Gsm7, plain(b"\x00")), None);
        assert_eq!(delivered(DefaultAlphabet::Gsm7, plain(b"\x00")), None);
        let named = Text { data_coding: 8, ..plain(b"\0a") };
        assert_eq!(stored(DefaultAlphabet::Latin1, named), None);
        assert_eq!(delivered(DefaultAlphabet::Latin1, named), None);
    }

    #[test]
    fn latin1_becomes_gsm_and_comes_back() {
        // "@é[" in Latin-1; the bracket takes an escape.
        let gsm = (0, b"\x00\x05\x1b\x3c".to_vec());
        assert_eq!(stored(DefaultAlphabet::Latin1, plain(b"@\xe9[")), Some(gsm.clone()));
        assert_eq!(delivered(DefaultAlphabet::Latin1, plain(&gsm.1)), Some((0, b"@\xe9[".to_vec())));
    }

    #[test]
    fn what_an_alphabet_cannot_write_keeps_its_meaning() {
        // "ê" is Latin-1 alone.
        assert_eq!(stored(DefaultAlphabet::Latin1, plain(b"\xea")), Some((3, b"\xea".to_vec())));
        assert_eq!(stored(DefaultAlphabet::Ascii, plain(b"`")), Some((1, b"`".to_vec())));
        // The euro sign is none of Latin-1, "é" none of ASCII.
        assert_eq!(delivered(DefaultAlphabet::Latin1, plain(b"\x1b\x65")), Some((8, vec![0x20, 0xac])));
        assert_eq!(delivered(DefaultAlphabet::Ascii, plain(b"a\x05")), Some((8, vec![0, b'a', 0, 0xe9])));
        // No septets: as it is.
        assert_eq!(delivered(DefaultAlphabet::Latin1, plain(b"\xff")), None);
    }

    #[test]
    fn headers_stay_and_segments_keep_one_coding() {
        let ports = Text { has_header: true, ..plain(b"\x06\x05\x04\x0b\x84\0\0@") };
        assert_eq!(stored(DefaultAlphabet::Latin1, ports), Some((0, b"\x06\x05\x04\x0b\x84\0\0\0".to_vec())));
        let segment = Text { has_header: true, ..plain(b"\x05\0\x03\x01\x02\x01@") };
        assert_eq!(stored(DefaultAlphabet::Latin1, segment), Some((3, segment.octets.to_vec())));
        let sar = Text { is_segment: true, ..plain(b"@") };
        assert_eq!(stored(DefaultAlphabet::Latin1, sar), Some((3, b"@".to_vec())));
        let turkish = Text { has_header: true, ..plain(b"\x03\x24\x01\x01\x1b\x53") };
        assert_eq!(stored(DefaultAlphabet::Latin1, turkish), None);
        assert_eq!(delivered(DefaultAlphabet::Latin1, turkish), None);
        let broken = Text { has_header: true, ..plain(b"\x20\0") };
        assert_eq!(delivered(DefaultAlphabet::Latin1, broken), None);
    }
}
