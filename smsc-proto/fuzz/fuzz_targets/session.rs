//! A session between a random peer, a random owner and a random clock: see `smsc_proto::fuzzing::session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smsc_proto::fuzzing::session(input));
