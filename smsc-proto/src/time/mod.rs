//! Time: the two clocks every room shares, and the time strings of SMPP.
//!
//! [`WallTime`] is what goes into the log, into receipts and onto the wire; [`MonoTime`] drives timers and never leaves
//! the process. They are separate types without a conversion, because a wall clock may be set back while a timer runs:
//!
//! ```compile_fail,E0308
//! use smsc_proto::time::{MonoTime, WallTime};
//! let elapsed = WallTime::from_millis(10).saturating_since(MonoTime::from_nanos(5));
//! ```
//!
//! Nobody here asks the operating system what time it is: `now` is always an argument.

pub(crate) mod civil;
mod clock;
mod error;
mod smpp;

pub use clock::{MonoTime, WallTime};
pub use error::{TimeError, TimeField};
pub use smpp::{AbsoluteTime, RelativeTime, SmppTime, UtcOffset};
