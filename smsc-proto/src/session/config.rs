//! What a session is told at its start, and what it counts.

use std::time::Duration;

use crate::frame::COMMAND_LENGTH_MAX_DEFAULT;
use crate::types::InterfaceVersion;

/// Limits and times of one session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The newest version this side speaks.
    pub interface_version: InterfaceVersion,
    /// Requests of the peer that may wait for their answer, at least 1; the next is answered ESME_RTHROTTLED.
    pub window_incoming: usize,
    /// Requests of this side that may wait for their answer, at least 1.
    pub window_outgoing: usize,
    /// Octets of the longest PDU accepted, header included; at least 16.
    pub command_length_max: u32,
    /// session_init_timer: from the connection to the bind.
    pub session_init: Duration,
    /// enquire_link_timer: silence of the peer before it is asked whether it is there; `None` never asks.
    pub enquire_link: Option<Duration>,
    /// inactivity_timer: from the last transaction to the unbind; `None` never unbinds. An enquire_link of the peer
    /// counts as a transaction, because it says that the peer wants the session; its answer to ours does not.
    pub inactivity: Option<Duration>,
    /// response_timer: from a request to its answer.
    pub response: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            interface_version: InterfaceVersion::V5_0,
            window_incoming: 100,
            window_outgoing: 10,
            command_length_max: COMMAND_LENGTH_MAX_DEFAULT,
            session_init: Duration::from_secs(10),
            enquire_link: Some(Duration::from_secs(30)),
            inactivity: None,
            response: Duration::from_secs(30),
        }
    }
}

/// What a session has seen, and what it dealt with alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionCounts {
    /// PDUs received.
    pub received: u64,
    /// PDUs sent.
    pub sent: u64,
    /// Requests of the peer that were answered with a refusal, for whatever reason.
    pub refused: u64,
    /// Of these, requests beyond the window.
    pub throttled: u64,
    /// Of these, requests that could not be decoded.
    pub undecodable: u64,
    /// Answers of the peer that belong to no request that waits; they were ignored.
    pub unexpected_answers: u64,
    /// Requests that crossed an unbind of ours and went unanswered.
    pub crossed: u64,
}
