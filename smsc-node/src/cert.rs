//! Makes a cluster's certificates: its CA, and one certificate each for the nodes and the operators.
//!
//! All of them lie in one directory as PEM: `ca.pem` and `ca.key`, `node-1.pem` and `node-1.key`, `admin-kim.pem` and
//! `admin-kim.key`. A node is given `ca.pem` and its own pair, never `ca.key`. Keys are ECDSA P-256. What exists is
//! never overwritten.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use smsc_raft::consensus::tls::{Credentials, Holder, TlsError, TlsFiles};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of a CA: ten years.
const CA_LIFE: Duration = Duration::from_secs(3653 * DAY.as_secs());

/// Life of a node's or operator's certificate: two years.
const LEAF_LIFE: Duration = Duration::from_secs(730 * DAY.as_secs());

/// Certificates count from a day ago, so that a node whose clock is behind takes them too.
const CLOCK_SKEW: Duration = DAY;

/// The CA's certificate in its directory.
pub const CA_CERT: &str = "ca.pem";

/// The CA's key in its directory.
pub const CA_KEY: &str = "ca.key";

/// The longest name of an operator; with its prefix it must fit a DNS label of 63 characters (RFC 1035 section 2.3.4).
const ADMIN_NAME_LEN_MAX: usize = 57;

/// A pair of files that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// The key to it, readable by its owner only.
    pub key: PathBuf,
}

/// Why no certificate was made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// There is one already.
    #[error("{path} exists already and is left as it is; remove it first if it is to be replaced")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no CA to sign with.
    #[error("there is no CA in {dir} ({file} is missing); make one with: smscctl cert ca --dir {dir} --cluster NAME")]
    NoCa {
        /// The directory.
        dir: PathBuf,
        /// The file that is missing.
        file: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA's files do not hold a CA.
    #[error("the CA in {dir} cannot be used: {reason}")]
    BadCa {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name does not fit into a certificate.
    #[error("{what} {value:?} cannot be used: {reason}")]
    BadName {
        /// What the name is for.
        what: &'static str,
        /// The name.
        value: String,
        /// What it must be.
        reason: &'static str,
    },
    /// The certificate cannot be generated.
    #[error("cannot make the certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The certificate does not pass the checks that a node makes at its start, so it was not kept.
    #[error("the new certificate does not pass the checks: {0}")]
    Unusable(#[source] TlsError),
}

/// Makes the cluster's CA in the directory, which is created if need be. Valid for ten years.
///
/// # Errors
/// See [`CertError`]; an existing CA is left alone.
pub fn init_ca(dir: &Path, cluster: &str) -> Result<Issued, CertError> {
    check_text("cluster name", cluster)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::CommonName, format!("{cluster} CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, CA_LIFE);
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;

    fs::create_dir_all(dir).map_err(file_error("create", dir))?;
    let issued = Issued { cert: dir.join(CA_CERT), key: dir.join(CA_KEY) };
    store(&issued, &cert.pem(), &key.serialize_pem())?;
    Ok(issued)
}

/// Makes the certificate of a node, for use towards peers and operators. Valid for two years.
///
/// `name` is what operators call the node. `hosts` are further names and addresses by which clients other than this
/// system's own may check it; peers and `smscctl` check the id.
///
/// # Errors
/// See [`CertError`]; an existing certificate is left alone.
pub fn issue_node(dir: &Path, id: u64, name: &str, hosts: &[String]) -> Result<Issued, CertError> {
    if id == 0 {
        return Err(bad_name("node id", "0", "ids begin at 1"));
    }
    check_text("node name", name)?;
    if let Some(host) = hosts.iter().find(|host| host.starts_with("node-") || host.starts_with("admin-")) {
        return Err(bad_name("host name", host, "names that begin with node- or admin- stand for nodes and operators"));
    }
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    issue(dir, &Holder::Node(id), name, hosts, usages)
}

/// Makes the certificate of an operator, for `smscctl`. Valid for two years.
///
/// # Errors
/// See [`CertError`]; an existing certificate is left alone.
pub fn issue_admin(dir: &Path, name: &str) -> Result<Issued, CertError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > ADMIN_NAME_LEN_MAX || !name.chars().all(allowed) || name.ends_with('-') {
        let reason = "use 1 to 57 lower-case letters, digits and hyphens, the last one no hyphen";
        return Err(bad_name("operator name", name, reason));
    }
    issue(dir, &Holder::Admin(name.to_owned()), name, &[], vec![ExtendedKeyUsagePurpose::ClientAuth])
}

fn issue(
    dir: &Path,
    holder: &Holder,
    name: &str,
    hosts: &[String],
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> Result<Issued, CertError> {
    let ca_pem = read_ca(dir, CA_CERT)?;
    let bad_ca = |e: rcgen::Error| CertError::BadCa { dir: dir.to_owned(), reason: e.to_string() };
    let ca_key = KeyPair::from_pem(&read_ca(dir, CA_KEY)?).map_err(bad_ca)?;
    let ca = Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(bad_ca)?;

    let mut names = vec![holder.dns_name()];
    names.extend_from_slice(hosts);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, LEAF_LIFE);
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &ca)?;

    let file = |extension: &str| dir.join(format!("{holder}.{extension}"));
    let issued = Issued { cert: file("pem"), key: file("key") };
    store(&issued, &cert.pem(), &key.serialize_pem())?;
    let files = TlsFiles { ca: dir.join(CA_CERT), cert: issued.cert.clone(), key: issued.key.clone() };
    match Credentials::load(&files) {
        Ok(_) => Ok(issued),
        Err(error) => {
            // Best effort: the error below names the files.
            let _ = fs::remove_file(&issued.cert);
            let _ = fs::remove_file(&issued.key);
            Err(CertError::Unusable(error))
        }
    }
}

fn set_life(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
}

fn read_ca(dir: &Path, file: &'static str) -> Result<String, CertError> {
    let path = dir.join(file);
    fs::read_to_string(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => CertError::NoCa { dir: dir.to_owned(), file },
        _ => file_error("read", &path)(e),
    })
}

/// Writes the pair, both or none.
fn store(issued: &Issued, cert: &str, key: &str) -> Result<(), CertError> {
    if issued.cert.exists() {
        return Err(CertError::Exists { path: issued.cert.clone() });
    }
    create(&issued.key, key, 0o600)?;
    create(&issued.cert, cert, 0o644).inspect_err(|_| {
        // Best effort: this key was made just now and belongs to no certificate.
        let _ = fs::remove_file(&issued.key);
    })
}

fn create(path: &Path, content: &str, mode: u32) -> Result<(), CertError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(CertError::Exists { path: path.to_owned() }),
        Err(e) => return Err(file_error("create", path)(e)),
    };
    write_synced(&mut file, content).map_err(|e| {
        // Best effort: half a file is of no use.
        let _ = fs::remove_file(path);
        file_error("write", path)(e)
    })
}

fn write_synced(file: &mut File, content: &str) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn file_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> CertError {
    move |source| CertError::File { doing, path: path.to_owned(), source }
}

fn check_text(what: &'static str, value: &str) -> Result<(), CertError> {
    // RFC 5280 appendix A limits the names to 64 characters; the CA's adds three.
    let fits = (1..=60).contains(&value.len()) && value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if fits { Ok(()) } else { Err(bad_name(what, value, "use 1 to 60 printable ASCII characters")) }
}

fn bad_name(what: &'static str, value: impl fmt::Display, reason: &'static str) -> CertError {
    CertError::BadName { what, value: value.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn load(dir: &Path, issued: &Issued) -> Result<Credentials, TlsError> {
        let files = TlsFiles { ca: dir.join(CA_CERT), cert: issued.cert.clone(), key: issued.key.clone() };
        Credentials::load(&files)
    }

    #[test]
    fn issued_certificates_name_their_holders() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = dir.path().join("pki");
        let ca = init_ca(&pki, "demo").expect("made");
        let hosts = ["host.example".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let node = issue_node(&pki, 7, "alpha", &hosts).expect("made");
        let admin = issue_admin(&pki, "kim").expect("made");
        assert_eq!(*load(&pki, &node).expect("usable").holder(), Holder::Node(7));
        assert_eq!(*load(&pki, &admin).expect("usable").holder(), Holder::Admin("kim".to_owned()));
        for key in [ca.key, node.key, admin.key] {
            let mode = fs::metadata(&key).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let node = init_ca(dir.path(), "demo").and_then(|_| issue_node(dir.path(), 1, "a", &[])).expect("made");
        let before = fs::read(&node.cert).expect("readable");
        assert!(matches!(init_ca(dir.path(), "demo"), Err(CertError::Exists { .. })));
        assert!(matches!(issue_node(dir.path(), 1, "a", &[]), Err(CertError::Exists { .. })));
        fs::remove_file(&node.key).expect("removable");
        assert!(matches!(issue_node(dir.path(), 1, "a", &[]), Err(CertError::Exists { .. })));
        assert!(!node.key.exists());
        assert_eq!(fs::read(&node.cert).expect("readable"), before);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(issue_node(dir.path(), 1, "a", &[]), Err(CertError::NoCa { file: CA_CERT, .. })));
        init_ca(dir.path(), "demo").expect("made");
        for name in ["", "Kim", "a b", "kim-", "ü", &"x".repeat(58)] {
            assert!(matches!(issue_admin(dir.path(), name), Err(CertError::BadName { .. })), "{name:?}");
        }
        assert!(matches!(issue_node(dir.path(), 0, "a", &[]), Err(CertError::BadName { .. })));
        let posing = ["node-2".to_owned()];
        assert!(matches!(issue_node(dir.path(), 1, "a", &posing), Err(CertError::BadName { .. })));
    }

    #[test]
    fn a_key_of_another_ca_is_noticed() {
        let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        init_ca(dir.path(), "demo").expect("made");
        init_ca(other.path(), "demo").expect("made");
        fs::copy(other.path().join(CA_KEY), dir.path().join(CA_KEY)).expect("copied");
        assert!(matches!(issue_node(dir.path(), 1, "a", &[]), Err(CertError::Unusable(_))));
        assert!(!dir.path().join("node-1.pem").exists());
    }
}
