//! Reading and writing the parameter types of SMPP v3.4 section 3.1 and v5.0 section 3.1.
//!
//! Every read names its field, so that an error says which parameter was wrong and which command_status it earns.
//! Reading never copies: strings and octets come out as slices of the frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{EncodeError, FieldError, Problem};

/// A cursor over the body of one PDU.
///
/// It cannot read past the frame it was made from, whatever the lengths inside the frame claim.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at octet `position` of `frame`. A position behind the end reads as an empty body.
    #[inline]
    pub fn new(frame: &'a Bytes, position: usize) -> Self {
        let position = position.min(frame.len());
        Reader { frame, position }
    }

    /// Octets not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.position
    }

    /// One-octet integer.
    #[inline]
    pub fn u8(&mut self, field: &'static str) -> Result<u8, FieldError> {
        self.array::<1>(field).map(|[octet]| octet)
    }

    /// Two-octet integer, most significant octet first.
    #[inline]
    pub fn u16(&mut self, field: &'static str) -> Result<u16, FieldError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four-octet integer, most significant octet first.
    #[inline]
    pub fn u32(&mut self, field: &'static str) -> Result<u32, FieldError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// `count` octets as they are.
    #[inline]
    pub fn octets(&mut self, field: &'static str, count: usize) -> Result<Bytes, FieldError> {
        if count == 0 {
            return Ok(Bytes::new());
        }
        let left = self.remaining();
        if count > left {
            return Err(FieldError::new(field, Problem::Truncated { needed: count, left }));
        }
        let octets = self.frame.slice(self.position..self.position + count);
        self.position += count;
        Ok(octets)
    }

    /// C-Octet String of at most `octets_max` octets before its NUL. The NUL is read and not returned.
    #[inline]
    pub fn c_octets(&mut self, field: &'static str, octets_max: usize) -> Result<Bytes, FieldError> {
        let rest = &self.frame[self.position..];
        let window = &rest[..rest.len().min(octets_max + 1)];
        match window.iter().position(|octet| *octet == 0) {
            Some(0) => {
                self.position += 1;
                Ok(Bytes::new())
            }
            Some(length) => {
                let octets = self.frame.slice(self.position..self.position + length);
                self.position += length + 1;
                Ok(octets)
            }
            None if rest.len() > octets_max => Err(FieldError::new(field, Problem::TooLong { octets_max })),
            None => Err(FieldError::new(field, Problem::Unterminated)),
        }
    }

    /// Everything that is left, possibly nothing.
    #[inline]
    pub fn rest(&mut self) -> Bytes {
        let octets = if self.remaining() == 0 { Bytes::new() } else { self.frame.slice(self.position..) };
        self.position = self.frame.len();
        octets
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FieldError> {
        match self.frame[self.position..].first_chunk::<N>() {
            Some(octets) => {
                self.position += N;
                Ok(*octets)
            }
            None => Err(FieldError::new(field, Problem::Truncated { needed: N, left: self.remaining() })),
        }
    }
}

/// Appends parameters to a buffer; the counterpart of [`Reader`].
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Appends behind whatever `out` already holds.
    #[inline]
    pub fn new(out: &'a mut BytesMut) -> Self {
        Writer { out }
    }

    /// One-octet integer.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// Two-octet integer, most significant octet first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    /// Four-octet integer, most significant octet first.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    /// Octets as they are.
    #[inline]
    pub fn octets(&mut self, value: &[u8]) {
        self.out.put_slice(value);
    }

    /// C-Octet String: `value`, which holds no NUL, and the NUL that ends it.
    #[inline]
    pub fn c_octets(&mut self, value: &[u8]) {
        self.out.put_slice(value);
        self.out.put_u8(0);
    }

    /// A count or length in one octet.
    ///
    /// # Errors
    /// [`EncodeError`] if `count` is above 255: the caller has to split the list or use message_payload.
    #[inline]
    pub fn count(&mut self, field: &'static str, count: usize) -> Result<(), EncodeError> {
        let octet = u8::try_from(count).map_err(|_| EncodeError { field, count, count_max: 255 })?;
        self.u8(octet);
        Ok(())
    }
}

/// A parameter, or a fixed sequence of parameters, that a PDU body is made of.
///
/// `write` after `read` gives the octets that were read.
pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError>;
    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError>;
}

impl Field for u8 {
    #[inline]
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        reader.u8(name)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, _name: &'static str) -> Result<(), EncodeError> {
        writer.u8(*self);
        Ok(())
    }
}

/// Octets behind a length of one octet: sm_length with short_message.
impl Field for Bytes {
    #[inline]
    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
        let length = reader.u8(name)?;
        reader.octets(name, usize::from(length))
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
        writer.count(name, self.len())?;
        writer.octets(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_big_endian() {
        let frame = Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7]);
        let mut reader = Reader::new(&frame, 0);
        assert_eq!(reader.u8("a"), Ok(0x01));
        assert_eq!(reader.u16("b"), Ok(0x0203));
        assert_eq!(reader.u32("c"), Ok(0x0405_0607));
        assert_eq!(reader.remaining(), 0);
        assert_eq!(reader.u8("d"), Err(FieldError::new("d", Problem::Truncated { needed: 1, left: 0 })));
    }

    #[test]
    fn c_octets_stop_at_their_nul_and_know_their_limit() {
        let frame = Bytes::from_static(b"abc\0\0abcd");
        let mut reader = Reader::new(&frame, 0);
        assert_eq!(reader.c_octets("a", 3).as_deref(), Ok(b"abc".as_slice()));
        assert_eq!(reader.c_octets("b", 3).as_deref(), Ok(b"".as_slice()));
        assert_eq!(reader.c_octets("c", 3), Err(FieldError::new("c", Problem::TooLong { octets_max: 3 })));
        assert_eq!(reader.c_octets("c", 4), Err(FieldError::new("c", Problem::Unterminated)));
        assert_eq!(reader.remaining(), 4, "a refused read moves nothing");
    }

    #[test]
    fn a_position_behind_the_end_is_an_empty_body() {
        let frame = Bytes::from_static(b"ab");
        let mut reader = Reader::new(&frame, 16);
        assert_eq!(reader.remaining(), 0);
        assert!(reader.rest().is_empty());
    }
}
