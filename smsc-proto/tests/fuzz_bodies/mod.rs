//! What a fuzzer does with the octets it makes up, as plain functions.
//!
//! Each takes any octets and panics if a promise of the crate is broken. They are driven by random input and by a corpus
//! in the tests; the fuzz target `text` calls the same functions.

use smsc_proto::receipt::{ParsedReceipt, Receipt, ReceiptDate, ReceiptState, TEXT_OCTETS_MAX};
use smsc_proto::text::gsm7::{self, FillBits};
use smsc_proto::text::{Alphabet, Part, Reference, SEGMENTS_MAX, SplitError, UserDataHeader, join, split_encoded};
use smsc_proto::time::{SmppTime, WallTime};

/// Octets of user data that a network carries in one segment.
const USER_DATA_OCTETS: usize = 140;

/// One of the others, as the first octet says.
pub fn any(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    const BODIES: [fn(&[u8]); 6] = [alphabet, packing, user_data_header, segments, time, receipt];
    BODIES[usize::from(*choice) % BODIES.len()](input);
}

/// Alphabets: what reads can be written, and what was written reads the same.
pub fn alphabet(input: &[u8]) {
    let Some((alphabet, octets)) = choose_alphabet(input) else {
        return;
    };
    let lossy = alphabet.decode_lossy(octets);
    if let Ok(text) = alphabet.decode(octets) {
        assert_eq!(lossy, text);
        let again = alphabet.encode(&text).expect("what was read can be written");
        assert_eq!(alphabet.decode(&again).as_ref(), Ok(&text));
        // An undefined escape of the GSM alphabet is read as one character and written as that.
        if alphabet != Alphabet::Gsm7 || !octets.contains(&gsm7::ESCAPE) {
            assert_eq!(again, octets);
        }
    }
    let text = String::from_utf8_lossy(octets);
    if let Ok(written) = alphabet.encode(&text) {
        assert_eq!(alphabet.decode(&written).as_deref(), Ok(text.as_ref()));
    }
    assert!(Alphabet::narrowest(&text).encode(&text).is_ok());
}

/// Packing: whatever is taken out of packed octets packs to the same octets, but for the spare bits.
pub fn packing(input: &[u8]) {
    let Some((&header_octets, octets)) = input.split_first() else {
        return;
    };
    let fill = FillBits::after_header(usize::from(header_octets));
    let count = gsm7::septet_capacity(octets.len(), fill);
    assert!(gsm7::unpack(octets, fill, count + 1).is_err());
    let septets = gsm7::unpack(octets, fill, count).expect("they fit");
    let packed = gsm7::pack(&septets, fill).expect("they are septets");
    assert_eq!(gsm7::unpack(&packed, fill, count), Ok(septets));
    // As a length says it that does not belong to these octets.
    let header_len = usize::from(header_octets % 16);
    let _ = gsm7::unpack_user_data(octets, header_len, header_octets);
    if let Ok((length, packed)) = gsm7::pack_user_data(&octets[..octets.len() / 2], octets) {
        assert_eq!(gsm7::unpack_user_data(&packed, octets.len() / 2, length).as_deref(), Ok(octets));
    }
}

/// User data headers: octet for octet what was read, and only valid part numbers.
pub fn user_data_header(input: &[u8]) {
    let Ok((header, text)) = UserDataHeader::parse(input) else {
        assert!(Part::from_user_data(input).is_err());
        return;
    };
    let mut again = header.to_bytes().expect("what was read fits a header");
    again.extend(text);
    assert_eq!(again, input);
    if let Some(found) = header.concatenation() {
        assert!((1..=found.total).contains(&found.sequence));
        let part = Part::from_user_data(input).expect("it is a part");
        assert_eq!(part.body, text);
        assert_eq!(join(&[part]).is_ok(), found.total == 1);
    }
}

/// Segments: any octets are cut into pieces that fit, and join to the same octets in any order.
pub fn segments(input: &[u8]) {
    let Some((alphabet, octets)) = choose_alphabet(input) else {
        return;
    };
    let reference = match octets.first() {
        Some(&number) if number % 2 == 0 => Reference::Eight(number),
        Some(&number) => Reference::Sixteen(u16::from(number) * 257),
        None => Reference::Eight(0),
    };
    let segments = match split_encoded(octets, alphabet, reference) {
        Ok(segments) => segments,
        Err(SplitError::TooManySegments) => {
            assert!(octets.len() > 130 * SEGMENTS_MAX);
            return;
        }
        Err(SplitError::Text(error)) => panic!("encoded text was encoded again: {error}"),
    };
    for segment in &segments {
        let carried = match alphabet {
            Alphabet::Gsm7 => {
                let septets: Vec<u8> = segment.body().iter().map(|octet| octet & 0x7f).collect();
                let (length, packed) = gsm7::pack_user_data(segment.header(), &septets).expect("it fits");
                assert!(length <= 160);
                packed
            }
            _ => segment.to_user_data(),
        };
        assert!(carried.len() <= USER_DATA_OCTETS);
    }
    if let [only] = segments.as_slice() {
        assert!(!only.has_header());
        assert_eq!(only.body(), octets);
        return;
    }
    let mut parts: Vec<Part> = segments
        .iter()
        .rev()
        .map(|segment| Part::from_user_data(&segment.to_user_data()).expect("it is a part"))
        .collect();
    assert_eq!(join(&parts).as_deref(), Ok(octets));
    parts.pop();
    assert!(join(&parts).is_err());
}

/// Time strings: what reads is written so that it reads the same, and resolves without a panic at any moment.
pub fn time(input: &[u8]) {
    let (now, text) = input.split_at(input.len().min(8));
    let mut moment = [0; 8];
    moment[..now.len()].copy_from_slice(now);
    // Whole input as well, so that a seed may be a plain time string.
    for text in [text, input] {
        let Ok(time) = SmppTime::parse(text) else {
            continue;
        };
        let written = time.to_string();
        assert_eq!(written.len(), 16);
        assert_eq!(written.parse(), Ok(time));
        for now in [u64::from_le_bytes(moment), 1_795_229_569_000] {
            let now = WallTime::from_millis(now);
            match time {
                SmppTime::Relative(time) => assert!(time.resolve(now) >= now),
                SmppTime::Absolute(time) => {
                    let _ = time.resolve(now);
                }
            }
        }
    }
}

/// Receipts: what was read of another centre's receipt can be written as ours and reads the same again.
pub fn receipt(input: &[u8]) {
    let Ok(parsed) = ParsedReceipt::parse(input) else {
        return;
    };
    assert!(parsed.id.is_some() || parsed.stat.is_some());
    let now = WallTime::from_millis(1_795_229_569_000);
    for date in [parsed.submit_date, parsed.done_date].into_iter().flatten() {
        assert_eq!(ReceiptDate::parse(date.to_string().as_bytes()), Some(date));
        let _ = date.resolve(now);
    }
    let ours = Receipt {
        id: "42".into(),
        submitted: parsed.submitted.unwrap_or(1),
        delivered: parsed.delivered.unwrap_or(0),
        submit_date: parsed.submit_date.unwrap_or(ReceiptDate::from_wall(now, 0)),
        done_date: parsed.done_date.unwrap_or(ReceiptDate::from_wall(now, 0)),
        state: parsed.state().unwrap_or(ReceiptState::Unknown),
        error: 0,
        text: parsed.text.unwrap_or_default(),
    };
    let again = ParsedReceipt::parse(&ours.render()).expect("ours is a receipt");
    assert_eq!(again.id.as_deref(), Some("42"));
    assert_eq!(again.submitted, Some(ours.submitted.min(999)));
    assert_eq!(again.delivered, Some(ours.delivered.min(999)));
    assert_eq!(again.submit_date, Some(ours.submit_date));
    assert_eq!(again.done_date, Some(ours.done_date));
    assert_eq!(again.state(), Some(ours.state));
    let start = &ours.text[..ours.text.len().min(TEXT_OCTETS_MAX)];
    assert_eq!(again.text.as_deref(), Some(start));
}

fn choose_alphabet(input: &[u8]) -> Option<(Alphabet, &[u8])> {
    let (choice, octets) = input.split_first()?;
    let alphabet = match choice % 4 {
        0 => Alphabet::Gsm7,
        1 => Alphabet::Ascii,
        2 => Alphabet::Latin1,
        _ => Alphabet::Ucs2,
    };
    Some((alphabet, octets))
}
