//! The phases of a node, seen from the outside, and which may follow which.

use std::fmt;

/// What a node is doing about leadership and the floating IP.
///
/// ```text
/// Standby ──▶ Claiming ──▶ Active ──▶ Releasing ──▶ Standby
///                 └───────────────────────▲
/// ```
///
/// `Claiming` may fail (the lease ended, the address could not be added), and then whatever was begun is released.
/// There is no way from `Active` to `Standby` past `Releasing`: an address that was held is always taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Follows the leader; holds no address and answers no client.
    Standby,
    /// Raft says leader: catching up, probing, adding the address, opening the listener.
    Claiming,
    /// Holds the address and serves, for as long as the lease lasts.
    Active,
    /// Giving back: sessions closed, address off, its sockets destroyed.
    Releasing,
}

/// A step between phases that the table of [`Phase`] does not have; the caller has a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node that is {from} cannot become {to}: this is a fault of the program, report it with the log")]
pub struct PhaseError {
    /// The phase the node is in, and stays in.
    pub from: Phase,
    /// The phase that was asked for.
    pub to: Phase,
}

impl Phase {
    /// Every phase, in the order of a whole turn.
    pub const ALL: [Self; 4] = [Self::Standby, Self::Claiming, Self::Active, Self::Releasing];

    /// Whether `next` may follow this phase directly.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Standby, Self::Claiming)
                | (Self::Claiming, Self::Active | Self::Releasing)
                | (Self::Active, Self::Releasing)
                | (Self::Releasing, Self::Standby)
        )
    }

    /// Takes the step to `next`.
    ///
    /// # Errors
    /// [`PhaseError`] if the table forbids it; the caller keeps the phase it had.
    pub fn step(self, next: Self) -> Result<Self, PhaseError> {
        if self.may_become(next) { Ok(next) } else { Err(PhaseError { from: self, to: next }) }
    }

    /// Whether the address may be on this node in this phase.
    #[must_use]
    pub fn may_hold_address(self) -> bool {
        self != Self::Standby
    }

    /// The name used in logs, metrics and `smscctl status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Claiming => "claiming",
            Self::Active => "active",
            Self::Releasing => "releasing",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_turn_is_allowed() {
        let mut phase = Phase::Standby;
        for next in [Phase::Claiming, Phase::Active, Phase::Releasing, Phase::Standby] {
            phase = phase.step(next).expect("each step of the turn is in the table");
        }
        assert_eq!(phase, Phase::Standby);
    }

    #[test]
    fn the_only_way_back_to_standby_is_through_releasing() {
        for from in Phase::ALL {
            assert_eq!(from.may_become(Phase::Standby), from == Phase::Releasing, "{from}");
        }
    }

    #[test]
    fn active_is_reached_by_claiming_alone() {
        for from in Phase::ALL {
            assert_eq!(from.may_become(Phase::Active), from == Phase::Claiming, "{from}");
        }
        assert_eq!(Phase::Standby.step(Phase::Active), Err(PhaseError { from: Phase::Standby, to: Phase::Active }));
    }
}
