//! High availability on the network side: the floating IP, the guard that takes it back, and what tells the
//! neighbours and the clients that it moved.
//!
//! The address is held by one node at a time, because only a [`Leadership`] can claim it and a leadership is a term
//! and a lease. It is guarded four deep: the daemon drops it when the lease ends, the guard process when the daemon dies
//! or stands still, a filter in the kernel silences it at the end of the lease even if the whole host stands still, and
//! the kernel drops it when nobody renews the address's lifetime.
//!
//! | room | what it knows |
//! |---|---|
//! | `role` | the phases of a node and which may follow which (pure) |
//! | `preflight` | what is checked at start, and what an earlier run left |
//! | `floating_ip`, `hold` | claim, renewal, release |
//! | `data_path` | the filter by which the kernel itself keeps to the lease |
//! | `guard` | the process that outlives the daemon, what is said to it, and the sockets that it keeps |
//! | `certificate` | the datagram by which a peer learns that it need not wait out the lease |
//! | `takedown` | address off, sockets destroyed, both verified; the daemon and the guard share it |
//! | `netlink` | addresses, links, filters and sockets of the kernel; no process is ever started for them |
//! | `herald` | announcements, questions to neighbours, defence against other hosts |
//! | `arp`, `na`, `announce`, `link` | the frames (pure), their schedule (pure), the socket they leave by |
//! | `relay`, `tap` | connection requests that came before the next owner was there |
//! | `tickle` | the segment that makes a client of the lost owner reconnect now |
//!
//! The lease and the token of its term come from `smsc_raft::leadership`; of SMPP and of Raft's own workings nothing
//! here knows.

pub mod announce;
pub mod arp;
mod bell;
pub mod certificate;
mod checksum;
pub mod data_path;
pub mod error;
pub mod floating_ip;
pub mod guard;
mod herald;
pub mod hold;
pub mod link;
pub mod na;
pub mod netlink;
mod preflight;
pub mod relay;
pub mod role;
pub mod takedown;
mod tap;
pub mod tickle;

pub use certificate::{ReleaseCertificate, ReleaseListener};
pub use error::HaError;
pub use floating_ip::{Conflict, DataPathState, FloatingAddress, FloatingIp, FloatingIpConfig, FloatingMode};
pub use guard::keep::{Keeper, Kept};
pub use guard::{Guard, GuardCommand, guard_main};
pub use hold::{HoldState, IpHold, LossReason, Released};
pub use role::Phase;
pub use smsc_raft::leadership::{Leadership, Lease, MonoTime, ReleaseToken, release_token_hash};
