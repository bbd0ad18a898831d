//! Who may act: the leader's lease and the proof of it that everything asks for.

mod keeper;
mod lease;
mod token;

pub(crate) use keeper::{Keeper, KeeperConfig};
pub use lease::{Leadership, Lease, LeaseEvent, MonoTime};
pub use token::{ReleaseToken, release_token_hash};
