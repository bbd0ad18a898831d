//! Who may bind: system_id, password and mode to an account or a refusal; and how passwords are kept.

use std::num::NonZeroU32;
use std::sync::Arc;

use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use smsc_proto::pdu::Bind;
use smsc_proto::types::BindMode;
use smsc_raft::model::Account;

use super::ports::Directory;
use super::status::BindRefusal;

/// Format of a password hash: this octet, iterations in four octets (most significant first), salt, hash.
const VERSION: u8 = 1;
/// Octets of the salt.
const SALT_OCTETS: usize = 16;
/// Octets of the hash.
const HASH_OCTETS: usize = 32;
/// Rounds of PBKDF2. Few, because after a failover every ESME binds at once and each bind costs one hash; SMPP's
/// passwords of at most 8 octets, sent in clear, gain little from more.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// A hash that claims more rounds than this is refused: checking it would hold up everybody.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The account that `bind` proves to be, if it may bind as `mode`.
///
/// The number of binds is not checked here: the session registry does, when it takes the bind.
///
/// # Errors
/// [`BindRefusal`]: the caller answers its status and proposes nothing.
pub fn authenticate(directory: &Directory, mode: BindMode, bind: &Bind) -> Result<Arc<Account>, BindRefusal> {
    let account = bind.system_id.as_str().and_then(|system_id| directory.accounts.get(system_id));
    let account = account.ok_or(BindRefusal::UnknownAccount)?;
    if !verify_password(&account.password_hash, bind.password.as_bytes()) {
        return Err(BindRefusal::WrongPassword);
    }
    if account.disabled {
        return Err(BindRefusal::Disabled);
    }
    let allowed = (account.may_transmit || !mode.can_submit()) && (account.may_receive || !mode.can_receive());
    if allowed { Ok(account.clone()) } else { Err(BindRefusal::Mode(mode)) }
}

/// The salted hash of a password, as an account keeps it: PBKDF2 with HMAC-SHA256 and a salt of its own.
#[must_use]
pub fn hash_password(password: &[u8]) -> Vec<u8> {
    let mut salt = [0; SALT_OCTETS];
    SystemRandom::new().fill(&mut salt).expect("the kernel's random source does not fail once the system has booted");
    let mut hash = [0; HASH_OCTETS];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password, &mut hash);
    let mut encoded = vec![VERSION];
    encoded.extend(ITERATIONS.get().to_be_bytes());
    encoded.extend(salt);
    encoded.extend(hash);
    encoded
}

/// Whether `password` is the one that [`hash_password`] made `encoded` of. What is no such hash fits no password.
#[must_use]
pub fn verify_password(encoded: &[u8], password: &[u8]) -> bool {
    let Some((&[version, i0, i1, i2, i3], rest)) = encoded.split_first_chunk::<5>() else { return false };
    let Some((salt, hash)) = rest.split_first_chunk::<SALT_OCTETS>() else { return false };
    let iterations = u32::from_be_bytes([i0, i1, i2, i3]);
    match NonZeroU32::new(iterations) {
        Some(rounds) if version == VERSION && iterations <= ITERATIONS_MAX && hash.len() == HASH_OCTETS => {
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, hash).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::fakes::directory;

    fn bind(system_id: &str, password: &str) -> Bind {
        Bind {
            system_id: system_id.parse().expect("short"),
            password: password.parse().expect("short"),
            ..Bind::default()
        }
    }

    #[test]
    fn a_hash_fits_its_password_alone_and_is_salted() {
        let hash = hash_password(b"secret1");
        assert!(verify_password(&hash, b"secret1"));
        assert!(!verify_password(&hash, b"secret2"));
        assert!(!verify_password(&hash, b""));
        assert_ne!(hash, hash_password(b"secret1"));
    }

    #[test]
    fn what_is_no_hash_fits_nothing() {
        let hash = hash_password(b"x");
        for cut in 0..hash.len() {
            assert!(!verify_password(&hash[..cut], b"x"), "{cut}");
        }
        let mut newer = hash.clone();
        newer[0] = 2;
        assert!(!verify_password(&newer, b"x"));
        let mut endless = hash;
        endless[1..5].fill(0xff);
        assert!(!verify_password(&endless, b"x"));
    }

    #[test]
    fn each_reason_is_told_apart() {
        let directory = directory(|account| match account.system_id.as_str() {
            "sender" => account.may_receive = false,
            "off" => account.disabled = true,
            _ => {}
        });
        let check = |mode, system_id, password| {
            authenticate(&directory, mode, &bind(system_id, password)).map(|account| account.system_id.clone())
        };
        assert_eq!(check(BindMode::Transceiver, "esme1", "secret1"), Ok("esme1".to_owned()));
        assert_eq!(check(BindMode::Transceiver, "esme1", "wrong"), Err(BindRefusal::WrongPassword));
        assert_eq!(check(BindMode::Transceiver, "nobody", "x"), Err(BindRefusal::UnknownAccount));
        assert_eq!(check(BindMode::Transmitter, "off", "secret1"), Err(BindRefusal::Disabled));
        assert_eq!(check(BindMode::Transmitter, "sender", "secret1"), Ok("sender".to_owned()));
        for mode in [BindMode::Receiver, BindMode::Transceiver] {
            assert_eq!(check(mode, "sender", "secret1"), Err(BindRefusal::Mode(mode)));
        }
    }
}
