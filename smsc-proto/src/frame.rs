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
        Framer { command_length_max: command_length_max.max(16) }
    }

    /// The largest command_length accepted.
    pub fn command_length_max(&self) -> u32 {
        self.command_length_max
    }

    /// Whether [`Framer::next_frame`] has something to say: there is a whole PDU at the front of `buf`, or none can be.
    #[inline]
    pub fn has_frame(&self, buf: &[u8]) -> bool {
        let Some(length) = buf.first_chunk::<4>() else {
            return false;
        };
        let command_length = u32::from_be_bytes(*length);
        let too_short = (command_length as usize) < Header::LENGTH;
        let too_long = command_length > self.command_length_max && buf.len() >= Header::LENGTH;
        too_short || too_long || buf.len() >= command_length as usize
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
                Ok(header) => Err(FrameError::TooLong { header, limit: self.command_length_max }),
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::pdus;
    use crate::command::{CommandId, SequenceNumber};
    use crate::status::CommandStatus;

    fn header(command_length: u32) -> BytesMut {
        let mut octets = BytesMut::new();
        for word in [command_length, 0x15, 0, 9] {
            octets.extend_from_slice(&u32::to_be_bytes(word));
        }
        octets
    }

    #[test]
    fn a_length_below_a_header_is_refused_at_once() {
        for command_length in 0..16_u32 {
            let mut buf = BytesMut::from(command_length.to_be_bytes().as_slice());
            assert!(Framer::default().has_frame(&buf));
            let refused = Framer::default().next_frame(&mut buf);
            assert_eq!(refused, Err(FrameError::TooShort { command_length }));
            assert_eq!(buf.len(), 4);
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_anything_is_reserved() {
        for command_length in [1025, 0x7fff_ffff, u32::MAX] {
            let mut whole = header(command_length);
            let mut buf = BytesMut::new();
            let mut framer = Framer::new(1024);
            for octet in whole.split_to(15) {
                buf.extend_from_slice(&[octet]);
                assert!(!framer.has_frame(&buf));
                assert_eq!(framer.next_frame(&mut buf), Ok(None));
            }
            buf.extend_from_slice(&whole);
            assert!(framer.has_frame(&buf));
            let capacity = buf.capacity();
            let header = Header {
                command_length,
                command_id: CommandId::ENQUIRE_LINK,
                command_status: CommandStatus::ESME_ROK,
                sequence_number: SequenceNumber(9),
            };
            assert_eq!(framer.next_frame(&mut buf), Err(FrameError::TooLong { header, limit: 1024 }));
            assert_eq!(buf.capacity(), capacity);
        }
    }

    #[test]
    fn the_limit_itself_is_accepted_and_room_is_made_for_it() {
        let mut buf = header(1024);
        let mut framer = Framer::new(1024);
        assert_eq!(framer.next_frame(&mut buf), Ok(None));
        assert!(buf.capacity() >= 1024);
        buf.resize(1024, 0);
        assert_eq!(framer.next_frame(&mut buf).map(|frame| frame.map(|f| f.len())), Ok(Some(1024)));
        assert!(buf.is_empty());
    }

    proptest! {
        /// However the network cuts the stream, the same PDUs come out.
        #[test]
        fn any_split_gives_the_same_frames(sent in vec(pdus(), 1..5), sizes in vec(1..64_usize, 1..40)) {
            let mut stream = BytesMut::new();
            for pdu in &sent {
                pdu.encode(&mut stream).expect("sampled PDUs fit");
            }
            let mut framer = Framer::default();
            let mut buf = BytesMut::new();
            let mut received = Vec::new();
            let mut sizes = sizes.iter().cycle();
            while !stream.is_empty() {
                let size = (*sizes.next().expect("a cycle never ends")).min(stream.len());
                buf.extend_from_slice(&stream.split_to(size));
                let before = received.len();
                let has_frame = framer.has_frame(&buf);
                while let Some(frame) = framer.next_frame(&mut buf).expect("lengths in range") {
                    received.push(crate::pdu::Pdu::decode(frame).expect("whole PDUs"));
                }
                prop_assert_eq!(has_frame, received.len() > before);
            }
            prop_assert!(buf.is_empty());
            prop_assert_eq!(received, sent);
        }
    }
}
