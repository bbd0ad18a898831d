//! PDUs made from a string of octets, for property tests and fuzzers.
//!
//! The same octets make the same PDU, fewer or smaller octets a simpler one, so that whatever shrinks the octets
//! shrinks the PDU. Present in tests and with the feature `testing`.

use bytes::Bytes;

use crate::command::SequenceNumber;
use crate::pdu::{Body, Pdu};
use crate::status::CommandStatus;

/// A supply of choices. When the octets are used up every further choice is the simplest one.
#[derive(Debug)]
pub struct Source<'a> {
    octets: &'a [u8],
}

impl<'a> Source<'a> {
    /// Chooses by these octets.
    pub fn new(octets: &'a [u8]) -> Self {
        Source { octets }
    }

    /// Whether the octets are used up.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// One octet; 0 when there are none left.
    pub fn u8(&mut self) -> u8 {
        match self.octets.split_first() {
            Some((octet, rest)) => {
                self.octets = rest;
                *octet
            }
            None => 0,
        }
    }

    /// Two octets.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// Four octets.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Up to `octets_max` octets.
    pub fn octets(&mut self, octets_max: usize) -> Bytes {
        let length = usize::from(self.u8()) % (octets_max + 1);
        (0..length).map(|_| self.u8()).collect()
    }

    /// Up to `octets_max` octets without a NUL.
    pub fn c_octets(&mut self, octets_max: usize) -> Bytes {
        self.octets(octets_max).iter().map(|octet| (*octet).max(1)).collect()
    }

    /// Up to seven entries.
    pub fn list<T>(&mut self, entry: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.u8() % 8;
        (0..count).map(|_| entry(self)).collect()
    }
}

/// A type that can be made from a [`Source`].
pub trait Sample: Sized {
    /// Makes a value that can be encoded and that decodes to itself.
    fn sample(source: &mut Source<'_>) -> Self;
}

impl Sample for u8 {
    fn sample(source: &mut Source<'_>) -> Self {
        source.u8()
    }
}

/// short_message.
impl Sample for Bytes {
    fn sample(source: &mut Source<'_>) -> Self {
        source.octets(255)
    }
}

impl Sample for Pdu {
    fn sample(source: &mut Source<'_>) -> Self {
        Pdu { body: Body::sample(source), status: CommandStatus(source.u32()), sequence: SequenceNumber(source.u32()) }
    }
}

/// Every kind of PDU.
#[cfg(test)]
pub fn pdus() -> impl proptest::strategy::Strategy<Value = Pdu> {
    use proptest::prelude::*;
    proptest::collection::vec(any::<u8>(), 0..600).prop_map(|octets| Pdu::sample(&mut Source::new(&octets)))
}
