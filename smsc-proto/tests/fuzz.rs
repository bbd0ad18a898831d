//! Random input for the fuzz bodies: plain octets, and octets that look like what the body reads.

mod fuzz_bodies;

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

/// Octets of every kind, up to `len_max`.
fn octets(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=len_max)
}

/// A choice of alphabet and octets that are mostly septets, escapes or surrogates.
fn likely_text(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        8 => 0u8..0x80,
        2 => Just(0x1b),
        2 => 0xd8u8..=0xdf,
        1 => any::<u8>(),
    ];
    vec(octet, 0..=len_max)
}

/// A header of elements that are mostly well formed, and some text.
fn likely_user_data() -> impl Strategy<Value = Vec<u8>> {
    let element = (
        prop_oneof![Just(0u8), Just(4), Just(5), Just(8), any::<u8>()],
        vec(0u8..5, 0..6),
        prop_oneof![9 => Just(0u8), 1 => any::<u8>()],
    );
    (vec(element, 0..5), octets(20)).prop_map(|(elements, text)| {
        let mut user_data = vec![0];
        for (id, data, error) in elements {
            user_data.extend([id, (data.len() as u8).wrapping_add(error)]);
            user_data.extend(data);
        }
        user_data[0] = (user_data.len() - 1) as u8;
        user_data.extend(text);
        user_data
    })
}

/// Eight octets of `now` and sixteen characters near a time string.
fn likely_time() -> impl Strategy<Value = Vec<u8>> {
    let two_digits = |max: u8| (0..=max).prop_map(|number| format!("{number:02}"));
    let fields = (
        two_digits(99),
        two_digits(13),
        two_digits(32),
        two_digits(24),
        two_digits(60),
        two_digits(60),
        0u8..=9,
        two_digits(49),
        "[-+Rr]",
    );
    (any::<[u8; 8]>(), fields).prop_map(|(now, (yy, mo, dd, hh, mi, ss, t, nn, p))| {
        let text = format!("{yy}{mo}{dd}{hh}{mi}{ss}{t}{nn}{p}");
        [now.as_slice(), text.as_bytes()].concat()
    })
}

/// Pieces of receipts in any order.
fn likely_receipt() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "id:", "sub:", "dlvrd:", "submit date:", "Submit_Date:", "done date:", "DONEDATE:", "stat:", "err:", "text:",
        ])
        .prop_map(|key| format!(" {key}").into_bytes()),
        2 => "[0-9]{1,12}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["DELIVRD", "expired", "REJECTED", "2611210252", "261121025249", "0002290000"])
            .prop_map(|value| value.as_bytes().to_vec()),
        1 => octets(8),
        1 => Just(b" ".to_vec()),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn alphabet(input in prop_oneof![octets(200), likely_text(200)]) {
        fuzz_bodies::alphabet(&input);
    }

    #[test]
    fn packing(input in prop_oneof![octets(300), likely_text(300)]) {
        fuzz_bodies::packing(&input);
    }

    #[test]
    fn user_data_header(input in prop_oneof![octets(300), likely_user_data()]) {
        fuzz_bodies::user_data_header(&input);
    }

    #[test]
    fn segments(input in prop_oneof![octets(1_000), likely_text(1_000)]) {
        fuzz_bodies::segments(&input);
    }

    #[test]
    fn time(input in prop_oneof![1 => octets(24), 3 => likely_time()]) {
        fuzz_bodies::time(&input);
    }

    #[test]
    fn receipt(input in prop_oneof![1 => octets(200), 3 => likely_receipt()]) {
        fuzz_bodies::receipt(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Around 255 segments, where the count ends.
    #[test]
    fn segments_near_the_limit(choice in 0u8..4, octet in 0u8..0x80, len in 33_000usize..40_000) {
        let mut input = vec![octet; len];
        input[0] = choice;
        fuzz_bodies::segments(&input);
    }
}

#[test]
fn the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/text");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is part of the tree") {
        let path = entry.expect("a directory that can be read").path();
        fuzz_bodies::any(&std::fs::read(&path).expect("a file that can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}
