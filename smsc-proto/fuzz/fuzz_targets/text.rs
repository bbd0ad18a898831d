//! Alphabets, user data headers, segments, times and receipts: the first octet says which.

#![no_main]

#[path = "../../tests/fuzz_bodies/mod.rs"]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_bodies::any(input));
