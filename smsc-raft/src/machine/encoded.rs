//! A batch as the log holds it, its commands decoded one at a time.
//!
//! Followers apply nothing else. A list of all commands would be moved again and again while it grows, only to be walked
//! through once.

use bytes::{Buf as _, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, decode_key, message, skip_field, uint32, uint64};

use crate::model::Command;

/// The fields of [`model::Batch`](crate::model::Batch).
const VERSION: u32 = 1;
const STAMP_MS: u32 = 2;
const COMMANDS: u32 = 3;

/// An encoded [`model::Batch`](crate::model::Batch): what stands beside its commands, and an iterator over those.
pub(super) struct EncodedBatch {
    pub version: u32,
    pub stamp_ms: u64,
    /// Commands that are not read yet.
    left: usize,
    rest: Bytes,
}

impl EncodedBatch {
    /// # Errors
    /// The bytes are no batch.
    pub fn open(encoded: &Bytes) -> Result<Self, DecodeError> {
        let mut batch = Self { version: 0, stamp_ms: 0, left: 0, rest: encoded.clone() };
        let mut rest = encoded.as_ref();
        while rest.has_remaining() {
            let (tag, wire_type) = decode_key(&mut rest)?;
            let context = DecodeContext::default();
            match tag {
                VERSION => uint32::merge(wire_type, &mut batch.version, &mut rest, context)?,
                STAMP_MS => uint64::merge(wire_type, &mut batch.stamp_ms, &mut rest, context)?,
                _ => {
                    batch.left += usize::from(tag == COMMANDS);
                    skip_field(wire_type, tag, &mut rest, context)?;
                }
            }
        }
        Ok(batch)
    }

    fn next_command(&mut self) -> Result<Option<Command>, DecodeError> {
        while self.rest.has_remaining() {
            let (tag, wire_type) = decode_key(&mut self.rest)?;
            if tag == COMMANDS {
                self.left = self.left.saturating_sub(1);
                let mut command = Command::default();
                message::merge(wire_type, &mut command, &mut self.rest, DecodeContext::default())?;
                return Ok(Some(command));
            }
            skip_field(wire_type, tag, &mut self.rest, DecodeContext::default())?;
        }
        Ok(None)
    }
}

/// The commands; after an error nothing that follows means anything.
impl Iterator for EncodedBatch {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_command().transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for EncodedBatch {}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::model::command::Op;
    use crate::model::{Batch, Finish, Submission, Submit};

    fn batch() -> Batch {
        let submission = Submission { account: "shop".to_owned(), ..Default::default() };
        let ops = [
            Op::Submit(Submit { submission: Some(submission) }),
            Op::Finish(Finish { id: 300, ..Default::default() }),
            Op::Submit(Submit::default()),
        ];
        Batch { version: 1, stamp_ms: 1 << 40, commands: ops.map(|op| Command { op: Some(op) }).into() }
    }

    #[test]
    fn it_holds_what_the_whole_does() {
        let whole = batch();
        let encoded = EncodedBatch::open(&whole.encode_to_vec().into()).unwrap();
        assert_eq!((encoded.version, encoded.stamp_ms), (whole.version, whole.stamp_ms));
        assert_eq!(encoded.len(), whole.commands.len());
        assert_eq!(encoded.collect::<Result<Vec<_>, _>>().unwrap(), whole.commands);
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let mut bytes = batch().encode_to_vec();
        let commands = batch().commands;
        message::encode(9, &commands[0], &mut bytes);
        message::encode(COMMANDS, &commands[1], &mut bytes);
        let encoded = EncodedBatch::open(&bytes.into()).unwrap();
        assert_eq!(encoded.len(), 4);
        let read = encoded.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(read, [commands.as_slice(), &commands[1..2]].concat());
    }

    #[test]
    fn bytes_that_are_cut_off_are_no_batch() {
        let bytes = Bytes::from(batch().encode_to_vec());
        assert!(EncodedBatch::open(&bytes.slice(..bytes.len() - 1)).is_err());
        assert!(EncodedBatch::open(&Bytes::from_static(b"\x1a\x7f")).is_err());
        let garbled = Bytes::from_static(b"\x1a\x02\x0a\x7f");
        assert!(EncodedBatch::open(&garbled).unwrap().next().unwrap().is_err());
    }
}
