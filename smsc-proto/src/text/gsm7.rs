//! The GSM 7-bit default alphabet and its extension table (3GPP TS 23.038 sections 6.2.1 and 6.2.1.1), and packing.
//!
//! Unpacked, a septet takes an octet: the form of SMPP. Packed, eight septets take seven octets: the form of networks.

use super::alphabet::{Alphabet, TextError};

/// The septet that makes the next one a character of the extension table.
pub const ESCAPE: u8 = 0x1b;

/// The default alphabet by septet. At the escape stands what a reader shows that knows no extension: a space.
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', //
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', ' ', 'Æ', 'æ', 'ß', 'É', //
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', //
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?', //
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', //
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§', //
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', //
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table: septet after the escape, and its character (the page break is a form feed).
const EXTENSION: [(u8, char); 10] = [
    (0x0a, '\u{c}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2f, '\\'),
    (0x3c, '['),
    (0x3d, '~'),
    (0x3e, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// How a character is written: one septet, or the escape and one of the extension table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Default(u8),
    Extended(u8),
}

/// Codes of the characters up to U+00FF, so that writing common text needs no search.
const LOW_CODES: [Option<Code>; 256] = {
    let mut codes = [None; 256];
    let mut septet = 0;
    while septet < DEFAULT.len() {
        let c = DEFAULT[septet] as usize;
        if c < codes.len() && septet != ESCAPE as usize {
            codes[c] = Some(Code::Default(septet as u8));
        }
        septet += 1;
    }
    let mut i = 0;
    while i < EXTENSION.len() {
        let (septet, c) = EXTENSION[i];
        if (c as usize) < codes.len() {
            codes[c as usize] = Some(Code::Extended(septet));
        }
        i += 1;
    }
    codes
};

/// Septets a character takes: 1, or 2 for one of the extension table; `None` if the alphabet lacks it.
#[must_use]
pub fn septets_of(character: char) -> Option<usize> {
    match code_of(character)? {
        Code::Default(_) => Some(1),
        Code::Extended(_) => Some(2),
    }
}

/// Writes `text` as unpacked septets.
///
/// # Errors
/// [`TextError::Unwritable`] with the first character that neither table has.
pub fn encode(text: &str) -> Result<Vec<u8>, TextError> {
    let mut septets = Vec::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match code_of(character) {
            Some(Code::Default(septet)) => septets.push(septet),
            Some(Code::Extended(septet)) => septets.extend([ESCAPE, septet]),
            None => {
                return Err(TextError::Unwritable { alphabet: Alphabet::Gsm7, character, index });
            }
        }
    }
    Ok(septets)
}

/// Reads unpacked septets.
///
/// As TS 23.038 asks of a receiver, an escape before a septet that the extension table leaves open shows the character of
/// the default alphabet, and an escape before an escape, or at the end, shows a space.
///
/// # Errors
/// [`TextError::Unreadable`] with the first octet over 127.
pub fn decode(octets: &[u8]) -> Result<String, TextError> {
    match octets.iter().position(|&octet| octet > 0x7f) {
        Some(offset) => Err(TextError::Unreadable { alphabet: Alphabet::Gsm7, octet: octets[offset], offset }),
        None => Ok(decode_lossy(octets)),
    }
}

/// Reads unpacked septets; an octet over 127 becomes U+FFFD.
pub(super) fn decode_lossy(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        text.push(match octet {
            ESCAPE => match octets.next() {
                None | Some(ESCAPE) => ' ',
                Some(extended) => extension_character(extended),
            },
            septet => default_character(septet),
        });
    }
    text
}

/// Bits left empty between a user data header and packed text, so that the text starts at a septet (0 to 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FillBits(u8);

impl FillBits {
    /// No header, no empty bits.
    pub const NONE: FillBits = FillBits(0);

    /// The bits after a header of `octets` octets, its length octet included (3GPP TS 23.040 section 9.2.3.24).
    #[must_use]
    pub const fn after_header(octets: usize) -> Self {
        // One octet is a septet and a bit, so each seventh header needs none; below 7.
        FillBits(((7 - octets % 7) % 7) as u8)
    }

    /// The number of bits, 0 to 6.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// Packs septets, eight into seven octets, lowest bits first, behind `fill` empty bits; bits left at the end are zero.
///
/// # Errors
/// [`TextError::Unreadable`] with the first octet that is no septet.
pub fn pack(septets: &[u8], fill: FillBits) -> Result<Vec<u8>, TextError> {
    let bits = usize::from(fill.0) + 7 * septets.len();
    let mut octets = vec![0; if septets.is_empty() { 0 } else { bits.div_ceil(8) }];
    let mut bit = usize::from(fill.0);
    for (offset, &septet) in septets.iter().enumerate() {
        if septet > 0x7f {
            return Err(TextError::Unreadable { alphabet: Alphabet::Gsm7, octet: septet, offset });
        }
        let [low, high] = (u16::from(septet) << (bit % 8)).to_le_bytes();
        octets[bit / 8] |= low;
        if high != 0 {
            octets[bit / 8 + 1] |= high;
        }
        bit += 7;
    }
    Ok(octets)
}

/// Takes `count` septets out of packed octets, after `fill` empty bits.
///
/// The count must be known: seven bits left over at the end look like an `@`.
///
/// # Errors
/// [`TextError::SeptetsMissing`] if the octets hold fewer.
pub fn unpack(octets: &[u8], fill: FillBits, count: usize) -> Result<Vec<u8>, TextError> {
    let available = septet_capacity(octets.len(), fill);
    if count > available {
        return Err(TextError::SeptetsMissing { wanted: count, available });
    }
    let mut bit = usize::from(fill.0);
    let mut septets = Vec::with_capacity(count);
    for _ in 0..count {
        let low = octets[bit / 8];
        // The last septet may end with its octet; then the next one is not looked at.
        let high = octets.get(bit / 8 + 1).copied().unwrap_or(0);
        septets.push((u16::from_le_bytes([low, high]) >> (bit % 8)) as u8 & 0x7f);
        bit += 7;
    }
    Ok(septets)
}

/// Whole septets that `octets` packed octets hold behind `fill` empty bits.
#[must_use]
pub const fn septet_capacity(octets: usize, fill: FillBits) -> usize {
    octets.saturating_mul(8).saturating_sub(fill.0 as usize) / 7
}

/// Packs a user data field: header octets as they are, fill bits, packed text (3GPP TS 23.040 section 9.2.3.24).
///
/// Returns the value of TP-User-Data-Length, which counts septets and the header as the septets it covers, and the octets.
///
/// # Errors
/// [`TextError::Unreadable`] if `septets` holds an octet over 127, [`TextError::TooManySeptets`] past a length of 255.
pub fn pack_user_data(header: &[u8], septets: &[u8]) -> Result<(u8, Vec<u8>), TextError> {
    let length = header_septets(header.len()).saturating_add(septets.len());
    let length_field = u8::try_from(length).map_err(|_| TextError::TooManySeptets { septets: length })?;
    let mut octets = header.to_vec();
    octets.extend(pack(septets, FillBits::after_header(header.len()))?);
    Ok((length_field, octets))
}

/// Reads the text of a packed user data field whose first `header_len` octets are its header.
///
/// `length` is TP-User-Data-Length, in septets.
///
/// # Errors
/// [`TextError::SeptetsMissing`] if the header or the text is shorter than the length says.
pub fn unpack_user_data(octets: &[u8], header_len: usize, length: u8) -> Result<Vec<u8>, TextError> {
    let wanted = usize::from(length);
    let missing = TextError::SeptetsMissing { wanted, available: septet_capacity(octets.len(), FillBits::NONE) };
    let text = octets.get(header_len..).ok_or_else(|| missing.clone())?;
    let count = wanted.checked_sub(header_septets(header_len)).ok_or(missing)?;
    unpack(text, FillBits::after_header(header_len), count)
}

/// Septets that a header of that many octets covers, its fill bits included.
const fn header_septets(octets: usize) -> usize {
    octets.saturating_mul(8).div_ceil(7)
}

fn code_of(character: char) -> Option<Code> {
    let number = character as usize;
    if let Some(code) = LOW_CODES.get(number) {
        return *code;
    }
    let extended = EXTENSION.iter().find(|&&(_, c)| c == character);
    if let Some(&(septet, _)) = extended {
        return Some(Code::Extended(septet));
    }
    // What is left are the Greek capitals, all in one row of the table.
    let row = 0x10..ESCAPE;
    row.into_iter().find(|&septet| DEFAULT[usize::from(septet)] == character).map(Code::Default)
}

fn default_character(septet: u8) -> char {
    DEFAULT.get(usize::from(septet)).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn extension_character(septet: u8) -> char {
    EXTENSION.iter().find(|(code, _)| *code == septet).map_or_else(|| default_character(septet), |&(_, c)| c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_tables_are_written_and_read_back_whole() {
        for septet in 0..128u8 {
            if septet == ESCAPE {
                continue;
            }
            let c = DEFAULT[usize::from(septet)].to_string();
            assert_eq!(encode(&c), Ok(vec![septet]), "{c:?}");
            assert_eq!(decode(&[septet]), Ok(c));
        }
        for (septet, c) in EXTENSION {
            assert_eq!(encode(&c.to_string()), Ok(vec![ESCAPE, septet]));
            assert_eq!(decode(&[ESCAPE, septet]), Ok(c.to_string()));
            assert_eq!(septets_of(c), Some(2));
        }
        assert_eq!(septets_of('ç'), None);
        assert_eq!(septets_of('`'), None);
    }

    #[test]
    fn landmarks_of_the_table() {
        let octets = [0x00, 0x02, 0x10, 0x1f, 0x24, 0x40, 0x5b, 0x5f, 0x60, 0x7b, 0x7f];
        assert_eq!(encode("@$ΔÉ¤¡Ä§¿äà"), Ok(octets.to_vec()));
    }

    #[test]
    fn undefined_escapes_follow_the_rules_for_receivers() {
        assert_eq!(decode(&[ESCAPE, b'A']), Ok("A".into()));
        assert_eq!(decode(&[ESCAPE, ESCAPE, 0x65]), Ok(" e".into()));
        assert_eq!(decode(&[b'a', ESCAPE]), Ok("a ".into()));
        assert_eq!(
            decode(&[b'a', 0x80]),
            Err(TextError::Unreadable { alphabet: Alphabet::Gsm7, octet: 0x80, offset: 1 })
        );
        assert_eq!(Alphabet::Gsm7.decode_lossy(&[0x80, 0]), "\u{fffd}@");
    }

    /// Checks a text against its packed octets in both directions.
    fn check_packed(text: &str, fill: FillBits, octets: &[u8]) {
        let septets = encode(text).unwrap();
        assert_eq!(pack(&septets, fill).unwrap(), octets, "{text:?}");
        assert_eq!(unpack(octets, fill, septets.len()), Ok(septets));
    }

    #[test]
    fn packing_matches_known_octets() {
        check_packed("", FillBits::NONE, &[]);
        check_packed("1", FillBits::NONE, &[0x31]);
        check_packed("12", FillBits::NONE, &[0x31, 0x19]);
        check_packed("hellohello", FillBits::NONE, &[0xe8, 0x32, 0x9b, 0xfd, 0x46, 0x97, 0xd9, 0xec, 0x37]);
        // Eight septets fill seven octets to the last bit.
        check_packed("@@@@@@@à", FillBits::NONE, &[0, 0, 0, 0, 0, 0, 0xfe]);
        // After a concatenation header of 6 octets one bit stays empty.
        assert_eq!(FillBits::after_header(6).bits(), 1);
        check_packed("a", FillBits::after_header(6), &[0xc2]);
        assert_eq!(FillBits::after_header(7), FillBits::NONE);
        assert_eq!(FillBits::after_header(8).bits(), 6);
    }

    #[test]
    fn user_data_length_counts_the_header_in_septets() {
        let header = [5, 0, 3, 0x2a, 2, 1];
        let (length, octets) = pack_user_data(&header, &[b'a'; 153]).unwrap();
        assert_eq!(length, 160);
        assert_eq!(octets.len(), 140);
        assert_eq!(unpack_user_data(&octets, header.len(), length), Ok(vec![b'a'; 153]));
        assert!(unpack_user_data(&octets, header.len(), 6).is_err());
        assert!(unpack_user_data(&octets, header.len(), 161).is_err());
        assert!(unpack_user_data(&octets, 141, 160).is_err());
        assert_eq!(pack_user_data(&header, &[0; 249]), Err(TextError::TooManySeptets { septets: 256 }));
    }

    proptest! {
        #[test]
        fn packed_septets_come_back(
            septets in prop::collection::vec(0u8..128, 0..200), header in 0usize..20,
        ) {
            let fill = FillBits::after_header(header);
            let octets = pack(&septets, fill).unwrap();
            prop_assert!(octets.len() <= (septets.len() * 7 + 6).div_ceil(8));
            prop_assert_eq!(unpack(&octets, fill, septets.len()), Ok(septets));
        }

        #[test]
        fn octets_unpack_to_what_packs_again(octets in any::<Vec<u8>>()) {
            let count = septet_capacity(octets.len(), FillBits::NONE);
            let septets = unpack(&octets, FillBits::NONE, count).unwrap();
            let spare = octets.len() * 8 - count * 7;
            let mut expected = octets.clone();
            if let Some(last) = expected.last_mut() {
                *last &= 0xff >> spare;
            }
            prop_assert_eq!(pack(&septets, FillBits::NONE).unwrap(), expected);
        }
    }
}
