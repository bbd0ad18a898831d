//! The secret that proves that a leader's address is released.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// The secret of one term, known to the leader and its guard until it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseToken([u8; 32]);

impl ReleaseToken {
    /// A fresh secret.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the kernel's random source does not fail once the system has booted");
        Self(bytes)
    }

    /// The secret as it stands in a certificate.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the peers are told beforehand.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        release_token_hash(&self.0)
    }
}

impl fmt::Debug for ReleaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReleaseToken(..)")
    }
}

/// SHA-256 of a release token.
#[must_use]
pub fn release_token_hash(token: &[u8; 32]) -> [u8; 32] {
    digest::digest(&digest::SHA256, token).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
