//! Octets to PDUs and back: see `smsc_proto::fuzzing::codec`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smsc_proto::fuzzing::codec(input));
