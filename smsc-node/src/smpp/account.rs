//! Who may bind: system_id, password, mode and where it comes from to an account or a refusal; and how passwords are
//! kept.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use smsc_proto::pdu::Bind;
use smsc_proto::types::BindMode;
use smsc_raft::model::{Account, SessionPolicy};

use super::ports::Directory;
use super::status::BindRefusal;
use super::tls;

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

/// Where a bind comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The ESME's address, which may be behind a proxy.
    pub address: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificate that the ESME showed, verified against the authorities for ESMEs.
    pub certificate: Option<&'a CertificateDer<'a>>,
}

/// The account that `bind` proves to be, if it may bind as `mode` from there.
///
/// The number of binds is not checked here: the session registry does, when it takes the bind.
///
/// # Errors
/// [`BindRefusal`]: the caller answers its status and proposes nothing.
pub fn authenticate(
    directory: &Directory,
    mode: BindMode,
    bind: &Bind,
    origin: Origin<'_>,
) -> Result<Arc<Account>, BindRefusal> {
    let account = bind.system_id.as_str().and_then(|system_id| directory.accounts.get(system_id));
    let account = account.ok_or(BindRefusal::UnknownAccount)?;
    if let Some(policy) = &account.session {
        // Before the password, so that it cannot be guessed from elsewhere.
        admit(policy, origin)?;
    }
    if !verify_password(&account.password_hash, bind.password.as_bytes()) {
        return Err(BindRefusal::WrongPassword);
    }
    if account.disabled {
        return Err(BindRefusal::Disabled);
    }
    let allowed = (account.may_transmit || !mode.can_submit()) && (account.may_receive || !mode.can_receive());
    if allowed { Ok(account.clone()) } else { Err(BindRefusal::Mode(mode)) }
}

fn admit(policy: &SessionPolicy, origin: Origin<'_>) -> Result<(), BindRefusal> {
    // An IPv4 client of a socket for both families is an IPv4 client.
    let address = origin.address.to_canonical();
    // A network that this version cannot read admits nobody.
    let admits = |text: &String| network(text).is_some_and(|network| network.contains(&address));
    if !policy.networks.is_empty() && !policy.networks.iter().any(admits) {
        return Err(BindRefusal::Network);
    }
    if !origin.tls && (policy.tls_only || !policy.client_name.is_empty()) {
        return Err(BindRefusal::TlsNeeded);
    }
    if !policy.client_name.is_empty() {
        let named = |certificate| tls::has_name(certificate, &policy.client_name);
        if !origin.certificate.is_some_and(named) {
            return Err(BindRefusal::Certificate);
        }
    }
    Ok(())
}

/// A network as an account has it: in prefix notation, or an address alone.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
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

    fn from(address: &str) -> Origin<'static> {
        Origin { address: address.parse().expect("an address"), tls: false, certificate: None }
    }

    #[test]
    fn an_account_binds_from_its_networks_alone() {
        let networks = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.9"].map(str::to_owned);
        let policy = SessionPolicy { networks: networks.to_vec(), ..SessionPolicy::default() };
        let directory = directory(|account| account.session = Some(policy.clone()));
        let check = |address: &str, password: &str| {
            let bind = bind("esme1", password);
            authenticate(&directory, BindMode::Transmitter, &bind, from(address)).map(|_| ())
        };
        for inside in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "198.51.100.9"] {
            assert_eq!(check(inside, "secret1"), Ok(()), "{inside}");
        }
        for outside in ["192.0.3.7", "2001:db9::7", "198.51.100.8"] {
            assert_eq!(check(outside, "secret1"), Err(BindRefusal::Network), "{outside}");
            assert_eq!(check(outside, "wrong"), Err(BindRefusal::Network), "passwords are not tried from outside");
        }
    }

    #[test]
    fn an_account_may_insist_on_tls_and_on_a_certificate() {
        let params = rcgen::CertificateParams::new(vec!["esme.example".to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let check = |policy: SessionPolicy, tls, shown| {
            let directory = directory(|account| account.session = Some(policy.clone()));
            let certificate = Some(certificate.der()).filter(|_| shown);
            let origin = Origin { tls, certificate, ..from("192.0.2.7") };
            authenticate(&directory, BindMode::Transmitter, &bind("esme1", "secret1"), origin).map(|_| ())
        };
        let tls_only = || SessionPolicy { tls_only: true, ..SessionPolicy::default() };
        assert_eq!(check(tls_only(), false, false), Err(BindRefusal::TlsNeeded));
        assert_eq!(check(tls_only(), true, false), Ok(()));
        let named = |name: &str| SessionPolicy { client_name: name.to_owned(), ..SessionPolicy::default() };
        assert_eq!(check(named("esme.example"), false, false), Err(BindRefusal::TlsNeeded));
        assert_eq!(check(named("esme.example"), true, false), Err(BindRefusal::Certificate));
        assert_eq!(check(named("other.example"), true, true), Err(BindRefusal::Certificate));
        assert_eq!(check(named("esme.example"), true, true), Ok(()));
    }

    #[test]
    fn each_reason_is_told_apart() {
        let directory = directory(|account| match account.system_id.as_str() {
            "sender" => account.may_receive = false,
            "off" => account.disabled = true,
            _ => {}
        });
        let check = |mode, system_id, password| {
            let bind = bind(system_id, password);
            authenticate(&directory, mode, &bind, from("192.0.2.7")).map(|account| account.system_id.clone())
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
