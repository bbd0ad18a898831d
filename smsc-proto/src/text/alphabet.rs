//! The alphabets a text may be written in, and the way from and to `str`.

use std::fmt;

use super::gsm7;

/// How the octets of a text stand for characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// GSM 7-bit default alphabet with its extension table, a septet per octet (3GPP TS 23.038 section 6.2.1).
    Gsm7,
    /// IA5 / ASCII, octets 0 to 127.
    Ascii,
    /// ISO 8859-1, in which every octet is the code point of the same number.
    Latin1,
    /// UCS-2, most significant octet first; surrogate pairs are understood and written, as in UTF-16.
    Ucs2,
}

impl Alphabet {
    /// The alphabet that a `data_coding` names (SMPP v3.4 section 5.2.19).
    ///
    /// `None` for binary data, for codings that are not known here (JIS, Cyrillic, ...) and for reserved values: their text
    /// can be carried, but not read. A message centre's default alphabet (0) is the GSM alphabet.
    #[must_use]
    pub fn from_data_coding(data_coding: u8) -> Option<Self> {
        match data_coding {
            0x00 => Some(Alphabet::Gsm7),
            0x01 => Some(Alphabet::Ascii),
            0x03 => Some(Alphabet::Latin1),
            0x08 => Some(Alphabet::Ucs2),
            // GSM message waiting indication: the text is in the default alphabet.
            0xc0..=0xdf => Some(Alphabet::Gsm7),
            // GSM message class: bit 2 tells 8-bit data from the default alphabet.
            0xf0..=0xff if data_coding & 0x04 == 0 => Some(Alphabet::Gsm7),
            _ => None,
        }
    }

    /// The `data_coding` that says no more than this alphabet.
    #[must_use]
    pub const fn data_coding(self) -> u8 {
        match self {
            Alphabet::Gsm7 => 0x00,
            Alphabet::Ascii => 0x01,
            Alphabet::Latin1 => 0x03,
            Alphabet::Ucs2 => 0x08,
        }
    }

    /// The GSM alphabet if it can write all of `text`, else UCS-2: what a handset would choose.
    #[must_use]
    pub fn narrowest(text: &str) -> Self {
        if text.chars().all(|c| gsm7::septets_of(c).is_some()) { Alphabet::Gsm7 } else { Alphabet::Ucs2 }
    }

    /// Writes `text` in this alphabet, one septet per octet for the GSM alphabet.
    ///
    /// # Errors
    /// [`TextError::Unwritable`] with the first character that the alphabet lacks.
    pub fn encode(self, text: &str) -> Result<Vec<u8>, TextError> {
        match self {
            Alphabet::Gsm7 => gsm7::encode(text),
            Alphabet::Ascii => encode_octets(self, text, 0x7f),
            Alphabet::Latin1 => encode_octets(self, text, 0xff),
            Alphabet::Ucs2 => Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        }
    }

    /// Reads octets written in this alphabet.
    ///
    /// # Errors
    /// [`TextError::Unreadable`] for an octet over 127 in ASCII or the GSM alphabet, [`TextError::OddLength`] and
    /// [`TextError::UnpairedSurrogate`] for UCS-2.
    pub fn decode(self, octets: &[u8]) -> Result<String, TextError> {
        match self {
            Alphabet::Gsm7 => gsm7::decode(octets),
            Alphabet::Ascii => match octets.iter().position(|&octet| octet > 0x7f) {
                Some(offset) => Err(TextError::Unreadable { alphabet: self, octet: octets[offset], offset }),
                None => Ok(octets.iter().map(|&octet| char::from(octet)).collect()),
            },
            Alphabet::Latin1 => Ok(octets.iter().map(|&octet| char::from(octet)).collect()),
            Alphabet::Ucs2 => decode_ucs2(octets),
        }
    }

    /// Reads octets for a log or a table: what cannot be read becomes U+FFFD, nothing is refused.
    #[must_use]
    pub fn decode_lossy(self, octets: &[u8]) -> String {
        let replaced = |octet: u8| {
            if octet > 0x7f { char::REPLACEMENT_CHARACTER } else { char::from(octet) }
        };
        match self {
            Alphabet::Gsm7 => gsm7::decode_lossy(octets),
            Alphabet::Ascii => octets.iter().map(|&octet| replaced(octet)).collect(),
            Alphabet::Latin1 => octets.iter().map(|&octet| char::from(octet)).collect(),
            Alphabet::Ucs2 => {
                let mut text: String =
                    char::decode_utf16(code_units(octets)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
                if octets.len() % 2 == 1 {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
                text
            }
        }
    }
}

impl fmt::Display for Alphabet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Alphabet::Gsm7 => "the GSM 7-bit alphabet",
            Alphabet::Ascii => "ASCII",
            Alphabet::Latin1 => "Latin-1",
            Alphabet::Ucs2 => "UCS-2",
        })
    }
}

/// Why a text could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The alphabet lacks a character of the text.
    #[error("{alphabet} has no {character:?} (character {index} of the text, from 0); use UCS-2")]
    Unwritable {
        /// The alphabet asked for.
        alphabet: Alphabet,
        /// The character it lacks.
        character: char,
        /// Its position, counted in characters from 0.
        index: usize,
    },
    /// An octet stands for nothing in the alphabet.
    #[error("octet {octet:#04x} at offset {offset} means nothing in {alphabet}, expected 0x00 to 0x7f")]
    Unreadable {
        /// The alphabet asked for.
        alphabet: Alphabet,
        /// The octet found.
        octet: u8,
        /// Its offset, from 0.
        offset: usize,
    },
    /// UCS-2 takes two octets per unit.
    #[error("a UCS-2 text has an odd length of {octets} octets")]
    OddLength {
        /// Octets given.
        octets: usize,
    },
    /// Half of a surrogate pair stands alone, as when a segment was cut in its middle.
    #[error("UCS-2 unit {unit:#06x} at offset {offset} is half of a surrogate pair")]
    UnpairedSurrogate {
        /// The unit found.
        unit: u16,
        /// Offset of its first octet, from 0.
        offset: usize,
    },
    /// Packed octets hold fewer septets than their length says.
    #[error("{wanted} septets were announced, the packed octets hold {available}")]
    SeptetsMissing {
        /// Septets announced.
        wanted: usize,
        /// Septets that the octets can hold.
        available: usize,
    },
    /// A packed user data field would hold more septets than its one-octet length can say.
    #[error("the user data takes {septets} septets, its length field holds at most 255")]
    TooManySeptets {
        /// Septets including the header.
        septets: usize,
    },
}

fn encode_octets(alphabet: Alphabet, text: &str, octet_max: u8) -> Result<Vec<u8>, TextError> {
    text.chars()
        .enumerate()
        .map(|(index, character)| {
            u8::try_from(u32::from(character)).ok().filter(|&octet| octet <= octet_max).ok_or(TextError::Unwritable {
                alphabet,
                character,
                index,
            })
        })
        .collect()
}

fn decode_ucs2(octets: &[u8]) -> Result<String, TextError> {
    if octets.len() % 2 == 1 {
        return Err(TextError::OddLength { octets: octets.len() });
    }
    let mut text = String::with_capacity(octets.len());
    let mut offset = 0;
    for c in char::decode_utf16(code_units(octets)) {
        let c = c.map_err(|e| TextError::UnpairedSurrogate { unit: e.unpaired_surrogate(), offset })?;
        offset += 2 * c.len_utf16();
        text.push(c);
    }
    Ok(text)
}

fn code_units(octets: &[u8]) -> impl Iterator<Item = u16> + '_ {
    octets.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn octet_alphabets_are_code_points() {
        assert_eq!(Alphabet::Latin1.encode("Zoë £5"), Ok(b"Zo\xeb \xa35".to_vec()));
        assert_eq!(Alphabet::Latin1.decode(b"Zo\xeb \xa35"), Ok("Zoë £5".into()));
        assert_eq!(
            Alphabet::Latin1.encode("5 €").unwrap_err().to_string(),
            "Latin-1 has no '€' (character 2 of the text, from 0); use UCS-2"
        );
        assert!(Alphabet::Ascii.encode("\u{80}").is_err());
        assert_eq!(
            Alphabet::Ascii.decode(b"ab\xff").unwrap_err().to_string(),
            "octet 0xff at offset 2 means nothing in ASCII, expected 0x00 to 0x7f"
        );
        assert_eq!(Alphabet::Ascii.decode_lossy(b"ab\xff"), "ab\u{fffd}");
    }

    #[test]
    fn ucs2_carries_surrogate_pairs() {
        let octets = [0x04, 0x1f, 0xd8, 0x3d, 0xde, 0x00];
        assert_eq!(Alphabet::Ucs2.encode("П😀"), Ok(octets.to_vec()));
        assert_eq!(Alphabet::Ucs2.decode(&octets), Ok("П😀".into()));
        assert_eq!(Alphabet::Ucs2.decode(&octets[..4]), Err(TextError::UnpairedSurrogate { unit: 0xd83d, offset: 2 }));
        assert_eq!(Alphabet::Ucs2.decode(&octets[..5]), Err(TextError::OddLength { octets: 5 }));
        assert_eq!(Alphabet::Ucs2.decode_lossy(&octets[..5]), "П\u{fffd}\u{fffd}");
    }

    #[test]
    fn data_coding_names_the_alphabet() {
        for alphabet in [Alphabet::Gsm7, Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2] {
            assert_eq!(Alphabet::from_data_coding(alphabet.data_coding()), Some(alphabet));
        }
        assert_eq!(Alphabet::from_data_coding(0x04), None);
        assert_eq!(Alphabet::from_data_coding(0xc8), Some(Alphabet::Gsm7));
        assert_eq!(Alphabet::from_data_coding(0xf1), Some(Alphabet::Gsm7));
        assert_eq!(Alphabet::from_data_coding(0xf5), None);
        assert_eq!(Alphabet::narrowest("{ok} €"), Alphabet::Gsm7);
        assert_eq!(Alphabet::narrowest("Привет"), Alphabet::Ucs2);
    }

    proptest! {
        #[test]
        fn what_can_be_written_reads_back(text in any::<String>()) {
            for alphabet in [Alphabet::Gsm7, Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2] {
                if let Ok(octets) = alphabet.encode(&text) {
                    prop_assert_eq!(alphabet.decode(&octets), Ok(text.clone()));
                    prop_assert_eq!(alphabet.decode_lossy(&octets), text.clone());
                }
            }
        }

        #[test]
        fn octet_codings_write_the_same_octets(octets in any::<Vec<u8>>()) {
            // The GSM alphabet has several spellings for undefined escapes and is not among these.
            for alphabet in [Alphabet::Ascii, Alphabet::Latin1, Alphabet::Ucs2] {
                if let Ok(text) = alphabet.decode(&octets) {
                    prop_assert_eq!(&alphabet.decode_lossy(&octets), &text);
                    prop_assert_eq!(alphabet.encode(&text), Ok(octets.clone()));
                }
            }
        }
    }
}
