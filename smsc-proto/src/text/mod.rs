//! Message text: alphabets, the user data header, and messages of several segments.
//!
//! All of it follows 3GPP TS 23.038 (alphabets) and TS 23.040 (user data), as SMPP carries them: in `short_message` and
//! `message_payload` a septet of the GSM alphabet takes a whole octet. [`gsm7::pack`] gives the packed form that networks
//! carry.

mod alphabet;
pub mod gsm7;
mod long;
mod segment;
mod udh;

pub use alphabet::{Alphabet, TextError};
pub use long::{Content, FormError, LongForm, join_contents};
pub use segment::{
    JoinError, Part, Reference, SEGMENTS_MAX, Segment, SplitError, join, segment_count, split, split_encoded,
};
pub use udh::{Concatenation, Element, UdhError, UserDataHeader};
