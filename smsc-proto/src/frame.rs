//! Cutting a stream of octets into PDUs by their command_length (SMPP v3.4 section 3.2).

use bytes::{Bytes, BytesMut};

pub use crate::command::Header;
use crate::error::FrameError;

/// The largest command_length accepted unless another limit is set: a message_payload of 65_535 octets, and 4 KiB
/// for everything else in its PDU.
pub const COMMAND_LENGTH_MAX_DEFAULT: u32 = 65_536 + 4_096;

/// Takes whole PDUs from the front of a receive buffer.
///
/// command_length is tested before anything is reserved or waited for, so a peer makes this side hold at most one
/// PDU of the limit, plus what the caller reads at once.
#[derive(Debug, Clone)]
pub struct Framer {
    command_length_max: u32,
}

impl Framer {
    /// Accepts PDUs of up to `command_length_max` octets, header included. Values below 16 count as 16.
    pub fn new(command_length_max: u32) -> Self {
        Framer {
            command_length_max: command_length_max.max(16),
        }
    }

    /// The largest command_length accepted.
    pub fn command_length_max(&self) -> u32 {
        self.command_length_max
    }

    /// The next whole PDU at the front of `buf`, or `None` if more octets are needed; room for those that are missing
    /// is then reserved. The frame is cut off without a copy.
    ///
    /// # Errors
    /// [`FrameError::TooShort`] as soon as four octets are there, [`FrameError::TooLong`] as soon as the header is. The
    /// boundary of the next PDU is lost: answer with a generic_nack and close. `buf` is left as it was.
    #[inline]
    pub fn next_frame(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = buf.first_chunk::<4>() else {
            return Ok(None);
        };
        let command_length = u32::from_be_bytes(*length);
        // A usize holds it: a limit above what memory can hold is refused by the allocator, not by this cast.
        let needed = command_length as usize;
        if needed < Header::LENGTH {
            return Err(FrameError::TooShort { command_length });
        }
        if command_length > self.command_length_max {
            return match Header::decode(buf) {
                Ok(header) => Err(FrameError::TooLong {
                    header,
                    limit: self.command_length_max,
                }),
                Err(_) => Ok(None),
            };
        }
        if buf.len() < needed {
            buf.reserve(needed - buf.len());
            return Ok(None);
        }
        Ok(Some(buf.split_to(needed).freeze()))
    }
}

impl Default for Framer {
    fn default() -> Self {
        Framer::new(COMMAND_LENGTH_MAX_DEFAULT)
    }
}
