//! Which operation may be sent by which side in which state of a session (SMPP v3.4 sections 2.2 and 2.3, v5.0 section
//! 2.3 and 2.4).
//!
//! ```text
//!                        outbind            bind_receiver,
//!               +------(from MC)------+    bind_transceiver
//!               |                     v          |
//!   connect     |                 OUTBOUND ------+---------+
//!  ---------> OPEN                                         |
//!               |  ^                                       v
//!               |  +------- bind refused ------------- BINDING
//!               +----------- bind_* ---------------------> |
//!                                                          | bind_*_resp, ESME_ROK
//!                                                          v
//!   CLOSED <---- UNBINDING (we asked)  <--- unbind --- BOUND_TX, BOUND_RX, BOUND_TRX
//!   CLOSED <---- UNBOUND   (peer asked) <-- unbind --------+
//! ```
//!
//! Any state goes to CLOSED when the connection ends. BINDING, UNBINDING and UNBOUND are moments between the request
//! and its answer that the specification does not draw, because there a session may hold requests of both sides that
//! are not answered yet.

use std::fmt;

use crate::command::CommandId;
use crate::status::RefusalStatus;
use crate::types::{BindMode, InterfaceVersion};

/// The two ends of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The external short message entity: it binds.
    Esme,
    /// The message centre: it is bound to.
    MessageCentre,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Side {
        match self {
            Side::Esme => Side::MessageCentre,
            Side::MessageCentre => Side::Esme,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Esme => "ESME",
            Side::MessageCentre => "message centre",
        })
    }
}

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Connected, nobody is bound.
    Open,
    /// The message centre has sent outbind and waits for a bind.
    Outbound,
    /// A bind is on its way and not answered.
    Binding(BindMode),
    /// Bound.
    Bound(BindMode),
    /// This side has sent unbind and waits for the answer.
    Unbinding,
    /// The peer has sent unbind; its open requests are answered first, then the unbind.
    Unbound,
    /// Over. Nothing is read or sent any more.
    Closed,
}

impl State {
    /// One of every state, for tests and tables.
    pub const ALL: [State; 11] = [
        State::Open,
        State::Outbound,
        State::Binding(BindMode::Transmitter),
        State::Binding(BindMode::Receiver),
        State::Binding(BindMode::Transceiver),
        State::Bound(BindMode::Transmitter),
        State::Bound(BindMode::Receiver),
        State::Bound(BindMode::Transceiver),
        State::Unbinding,
        State::Unbound,
        State::Closed,
    ];

    /// The mode of the bind, while it lasts.
    pub const fn bound_mode(self) -> Option<BindMode> {
        match self {
            State::Bound(mode) => Some(mode),
            _ => None,
        }
    }

    const fn set(self) -> States {
        match self {
            State::Open => OPEN,
            State::Outbound => OUTBOUND,
            State::Bound(BindMode::Transmitter) => TX,
            State::Bound(BindMode::Receiver) => RX,
            State::Bound(BindMode::Transceiver) => TRX,
            State::Unbinding | State::Unbound => LEAVING,
            State::Binding(_) | State::Closed => NEVER,
        }
    }
}

/// A set of states, one bit each.
type States = u8;

const NEVER: States = 0;
const OPEN: States = 1;
const OUTBOUND: States = 1 << 1;
const TX: States = 1 << 2;
const RX: States = 1 << 3;
const TRX: States = 1 << 4;
const LEAVING: States = 1 << 5;
const BOUND: States = TX | RX | TRX;

/// The states in which the ESME may send this request, and those in which the message centre may.
///
/// The table of v5.0 section 2.4, which for data_sm is stricter than that of v3.4 section 2.3: a transmitter does not
/// receive by it, a receiver does not submit by it. `None`: neither version knows the request.
const fn senders(command: CommandId) -> Option<(States, States)> {
    Some(match command {
        //                                           ESME             message centre
        CommandId::BIND_TRANSMITTER => (OPEN, NEVER),
        CommandId::BIND_RECEIVER => (OPEN | OUTBOUND, NEVER),
        CommandId::BIND_TRANSCEIVER => (OPEN | OUTBOUND, NEVER),
        CommandId::OUTBIND => (NEVER, OPEN),
        CommandId::UNBIND => (BOUND | LEAVING, BOUND | LEAVING),
        CommandId::ENQUIRE_LINK => (BOUND | LEAVING, BOUND | LEAVING),
        CommandId::SUBMIT_SM => (TX | TRX, NEVER),
        CommandId::SUBMIT_MULTI => (TX | TRX, NEVER),
        CommandId::DATA_SM => (TX | TRX, RX | TRX),
        CommandId::DELIVER_SM => (NEVER, RX | TRX),
        CommandId::ALERT_NOTIFICATION => (NEVER, RX | TRX),
        CommandId::QUERY_SM => (TX | TRX, NEVER),
        CommandId::CANCEL_SM => (TX | TRX, NEVER),
        CommandId::REPLACE_SM => (TX | TRX, NEVER),
        CommandId::BROADCAST_SM => (TX | TRX, NEVER),
        CommandId::QUERY_BROADCAST_SM => (TX | TRX, NEVER),
        CommandId::CANCEL_BROADCAST_SM => (TX | TRX, NEVER),
        _ => return None,
    })
}

/// Whether `sender` may send the request `command` in `state`.
///
/// Answers are not in the table: they are allowed where a request waits for them.
///
/// # Errors
/// The status that the refusal carries: ESME_RINVCMDID for what is no request of either version, ESME_RALYBND for a
/// bind on a session that is bound, ESME_RINVBNDSTS otherwise.
pub const fn check(state: State, sender: Side, command: CommandId) -> Result<(), RefusalStatus> {
    let Some((esme, message_centre)) = senders(command) else {
        return Err(RefusalStatus::ESME_RINVCMDID);
    };
    let allowed = match sender {
        Side::Esme => esme,
        Side::MessageCentre => message_centre,
    };
    if allowed & state.set() != 0 {
        return Ok(());
    }
    // A bind is what only an unbound peer may ask for.
    let is_bind = esme & OPEN != 0;
    match (state, sender) {
        (State::Bound(_), Side::Esme) if is_bind => Err(RefusalStatus::ESME_RALYBND),
        _ => Err(RefusalStatus::ESME_RINVBNDSTS),
    }
}

/// Whether sides that speak `version` both know `command`: cell broadcast is v5.0's, and data_sm and
/// alert_notification came with v3.4. bind_transceiver did too, but many an ESME that says v3.3 sends it, and is taken
/// at its word.
pub const fn is_known(command: CommandId, version: InterfaceVersion) -> bool {
    let since = match command {
        CommandId::BROADCAST_SM | CommandId::QUERY_BROADCAST_SM | CommandId::CANCEL_BROADCAST_SM => {
            InterfaceVersion::V5_0
        }
        CommandId::DATA_SM | CommandId::ALERT_NOTIFICATION => InterfaceVersion::V3_4,
        _ => return true,
    };
    version.0 >= since.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::COMMAND_IDS;

    /// Every state, side and command against the specification, written the other way round: by state.
    #[test]
    fn the_table_is_that_of_the_specification() {
        const BOTH: [&str; 2] = ["unbind", "enquire_link"];
        const SUBMITTING: [&str; 8] = [
            "submit_sm",
            "submit_multi",
            "data_sm",
            "query_sm",
            "cancel_sm",
            "replace_sm",
            "broadcast_sm",
            "query_broadcast_sm",
        ];
        const RECEIVING: [&str; 3] = ["deliver_sm", "data_sm", "alert_notification"];
        let allowed = |state: State, sender: Side| -> Vec<&str> {
            let mut names = match (state, sender) {
                (State::Open, Side::Esme) => {
                    vec!["bind_transmitter", "bind_receiver", "bind_transceiver"]
                }
                (State::Open, Side::MessageCentre) => vec!["outbind"],
                (State::Outbound, Side::Esme) => vec!["bind_receiver", "bind_transceiver"],
                (State::Bound(mode), Side::Esme) if mode.can_submit() => {
                    [SUBMITTING.as_slice(), &["cancel_broadcast_sm"]].concat()
                }
                (State::Bound(mode), Side::MessageCentre) if mode.can_receive() => RECEIVING.to_vec(),
                _ => vec![],
            };
            if matches!(state, State::Bound(_) | State::Unbinding | State::Unbound) {
                names.extend(BOTH);
            }
            names
        };
        let mut checked = 0;
        for state in State::ALL {
            for sender in [Side::Esme, Side::MessageCentre] {
                let allowed = allowed(state, sender);
                for command in COMMAND_IDS {
                    let name = command.name().expect("every body has a name");
                    let got = check(state, sender, *command);
                    let expected = if command.is_response() {
                        Err(RefusalStatus::ESME_RINVCMDID)
                    } else if allowed.contains(&name) {
                        Ok(())
                    } else if matches!(state, State::Bound(_)) && sender == Side::Esme && name.starts_with("bind_") {
                        Err(RefusalStatus::ESME_RALYBND)
                    } else {
                        Err(RefusalStatus::ESME_RINVBNDSTS)
                    };
                    assert_eq!(got, expected, "{name} from the {sender} in {state:?}");
                    checked += 1;
                }
                assert_eq!(check(state, sender, CommandId(0x77)), Err(RefusalStatus::ESME_RINVCMDID));
            }
        }
        assert_eq!(checked, State::ALL.len() * 2 * COMMAND_IDS.len());
    }
}
