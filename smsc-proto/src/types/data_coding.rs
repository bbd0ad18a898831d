//! The alphabet of short_message (SMPP v3.4 section 5.2.19).

use crate::types::macros::octet_code;

octet_code! {
    /// How short_message is encoded. 0xc0 and above follow GSM 03.38: message waiting and message class.
    DataCoding {
        /// The message centre's default alphabet, here GSM 7-bit unpacked.
        DEFAULT = 0x00;
        /// IA5 (CCITT T.50), ASCII.
        IA5 = 0x01;
        /// Octets, not text (in TDMA and CDMA).
        BINARY_ALIAS = 0x02;
        /// Latin 1 (ISO 8859-1).
        LATIN1 = 0x03;
        /// Octets, not text.
        BINARY = 0x04;
        /// JIS (X 0208-1990).
        JIS = 0x05;
        /// Cyrillic (ISO 8859-5).
        CYRILLIC = 0x06;
        /// Latin and Hebrew (ISO 8859-8).
        LATIN_HEBREW = 0x07;
        /// UCS-2 (ISO 10646), big endian.
        UCS2 = 0x08;
        /// Pictogram encoding.
        PICTOGRAM = 0x09;
        /// ISO-2022-JP, music codes.
        MUSIC_CODES = 0x0A;
        /// Extended Kanji JIS (X 0212-1990).
        EXTENDED_KANJI_JIS = 0x0D;
        /// KS C 5601.
        KS_C_5601 = 0x0E;
    }
}
