//! Who a node is to its peers: mutual TLS under one CA per cluster.
//!
//! A certificate names its holder as a DNS name: `node-7` is the node with id 7, `admin-kim` an operator. Nodes check
//! each other's name on every connection, so a node's certificate is of no use to pose as another one.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use webpki::{EndEntityCert, KeyUsage};

/// Where a holder's certificate, its key and the cluster's CA lie, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA that signed every certificate of the cluster.
    pub ca: PathBuf,
    /// The holder's certificate.
    pub cert: PathBuf,
    /// The key to it; not readable by other users.
    pub key: PathBuf,
}

/// Why there is no authenticated transport. Nothing was opened; the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check that the file exists and that this user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no usable {what} in PEM format: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// Any user of this host could take the key.
    #[error("{path} is accessible to every user of this host; run: chmod 600 {path}")]
    KeyExposed {
        /// The key's file.
        path: PathBuf,
    },
    /// Key and certificate are not a pair.
    #[error("the key in {key} does not belong to the certificate in {cert}: {reason}")]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// What the library said.
        reason: String,
    },
    /// The CA does not vouch for the certificate: signed by another one, expired, or not yet valid.
    #[error("the certificate in {cert} does not pass the check against the CA in {ca}: {reason}; issue a new one")]
    NotTrusted {
        /// The certificate's file.
        cert: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// What the verifier said.
        reason: String,
    },
    /// The certificate names no node and no operator, or more than one.
    #[error("the certificate in {cert} names neither exactly one node (node-ID) nor one operator (admin-NAME)")]
    Nameless {
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate is someone else's.
    #[error("the certificate in {cert} belongs to {found}, but this node needs one for node-{node_id}")]
    WrongHolder {
        /// The certificate's file.
        cert: PathBuf,
        /// Whom it names.
        found: Holder,
        /// This node.
        node_id: u64,
    },
    /// Without TLS anyone who reaches the port is a member, so only this host may.
    #[error("tls = \"off\" is allowed on a loopback address only, not on {listen}; configure certificates")]
    PlaintextExposed {
        /// The address asked for.
        listen: SocketAddr,
    },
}

/// Whom a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A node of the cluster.
    Node(u64),
    /// An operator.
    Admin(String),
}

impl Holder {
    /// The DNS name in the holder's certificate.
    pub fn dns_name(&self) -> String {
        match self {
            Holder::Node(id) => format!("node-{id}"),
            Holder::Admin(name) => format!("admin-{name}"),
        }
    }

    /// The holder of a certificate that the TLS layer has verified; `None` unless it names exactly one.
    pub fn of(cert: &CertificateDer<'_>) -> Option<Self> {
        let cert = EndEntityCert::try_from(cert).ok()?;
        let mut holders = cert.valid_dns_names().filter_map(Self::parse);
        let holder = holders.next()?;
        holders.next().is_none().then_some(holder)
    }

    fn parse(name: &str) -> Option<Self> {
        if let Some(digits) = name.strip_prefix("node-") {
            let id: u64 = digits.parse().ok()?;
            // One spelling per node: no sign, no leading zeros.
            return (id.to_string() == digits).then_some(Holder::Node(id));
        }
        let admin = name.strip_prefix("admin-")?;
        (!admin.is_empty()).then(|| Holder::Admin(admin.to_owned()))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dns_name())
    }
}

/// A checked certificate with its key and the CA to check others against.
pub struct Credentials {
    holder: Holder,
    ca: Certificate,
    identity: Identity,
    files: TlsFiles,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("holder", &self.holder).field("files", &self.files).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads and checks the three files, so that a mistake shows at the start and not at the first connection.
    ///
    /// # Errors
    /// Every [`TlsError`] but the last two; the caller reports it and does not start.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let (ca_pem, cert_pem, key_pem) = (read(&files.ca)?, read(&files.cert)?, read_key(&files.key)?);
        let ca = CertificateDer::from_pem_slice(&ca_pem).map_err(|e| malformed(&files.ca, "CA certificate", e))?;
        let chain = CertificateDer::pem_slice_iter(&cert_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| malformed(&files.cert, "certificate", e))?;
        let Some(cert) = chain.first() else {
            return Err(malformed(&files.cert, "certificate", "no certificate in it"));
        };
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|e| malformed(&files.key, "private key", e))?;

        let holder = Holder::of(cert).ok_or_else(|| TlsError::Nameless { cert: files.cert.clone() })?;
        verify(&ca, &chain, &holder).map_err(|reason| match reason {
            Distrust::Ca(reason) => malformed(&files.ca, "CA certificate", reason),
            Distrust::Cert(reason) => {
                TlsError::NotTrusted { cert: files.cert.clone(), ca: files.ca.clone(), reason: reason.to_string() }
            }
        })?;
        check_pair(chain, key).map_err(|e| TlsError::KeyMismatch {
            key: files.key.clone(),
            cert: files.cert.clone(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            holder,
            ca: Certificate::from_pem(ca_pem),
            identity: Identity::from_pem(cert_pem, key_pem),
            files: files.clone(),
        })
    }

    /// Whom the certificate stands for.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// For a connection to that node, and to no other.
    pub fn client(&self, target: u64) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(self.ca.clone())
            .identity(self.identity.clone())
            .domain_name(Holder::Node(target).dns_name())
    }

    /// For a connection to a node known by its host name or address only, which its certificate must name.
    pub fn client_of_host(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(self.ca.clone()).identity(self.identity.clone()).domain_name(host)
    }

    /// For a server that talks to nobody whom the CA does not vouch for.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(self.identity.clone()).client_ca_root(self.ca.clone())
    }
}

/// How the nodes of a cluster trust each other.
#[derive(Clone, Debug)]
pub struct Security {
    credentials: Option<Arc<Credentials>>,
}

impl Security {
    /// Mutual TLS as this node.
    ///
    /// # Errors
    /// [`TlsError::WrongHolder`] when the certificate is not this node's.
    pub fn mutual(credentials: Credentials, node_id: u64) -> Result<Self, TlsError> {
        if credentials.holder != Holder::Node(node_id) {
            return Err(TlsError::WrongHolder { cert: credentials.files.cert, found: credentials.holder, node_id });
        }
        Ok(Self { credentials: Some(Arc::new(credentials)) })
    }

    /// No TLS, for trials on one host.
    ///
    /// # Errors
    /// [`TlsError::PlaintextExposed`] unless the node listens on a loopback address.
    pub fn plaintext(listen: SocketAddr) -> Result<Self, TlsError> {
        if !listen.ip().to_canonical().is_loopback() {
            return Err(TlsError::PlaintextExposed { listen });
        }
        Ok(Self { credentials: None })
    }

    /// This node's credentials; `None` without TLS.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_deref()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn read_key(path: &Path) -> Result<Vec<u8>, TlsError> {
    let metadata = fs::metadata(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(TlsError::KeyExposed { path: path.to_owned() });
    }
    read(path)
}

fn malformed(path: &Path, what: &'static str, reason: impl fmt::Display) -> TlsError {
    TlsError::Malformed { path: path.to_owned(), what, reason: reason.to_string() }
}

enum Distrust {
    Ca(webpki::Error),
    Cert(webpki::Error),
}

fn verify(ca: &CertificateDer<'_>, chain: &[CertificateDer<'_>], holder: &Holder) -> Result<(), Distrust> {
    let anchor = webpki::anchor_from_trusted_cert(ca).map_err(Distrust::Ca)?;
    let (cert, intermediates) = chain.split_first().expect("the caller has seen the first certificate");
    let usages: &[KeyUsage] = match holder {
        Holder::Node(_) => &[KeyUsage::server_auth(), KeyUsage::client_auth()],
        Holder::Admin(_) => &[KeyUsage::client_auth()],
    };
    let cert = EndEntityCert::try_from(cert).map_err(Distrust::Cert)?;
    for usage in usages {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        cert.verify_for_usage(
            algorithms,
            std::slice::from_ref(&anchor),
            intermediates,
            UnixTime::now(),
            *usage,
            None,
            None,
        )
        .map_err(Distrust::Cert)?;
    }
    Ok(())
}

/// The TLS library compares key and certificate when it is configured; this asks it ahead of time.
fn check_pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_one_spelling_only() {
        for (name, holder) in [
            ("node-1", Some(Holder::Node(1))),
            ("node-18446744073709551615", Some(Holder::Node(u64::MAX))),
            ("node-18446744073709551616", None),
            ("node-01", None),
            ("node-+1", None),
            ("node-", None),
            ("admin-kim", Some(Holder::Admin("kim".to_owned()))),
            ("admin-", None),
            ("host.example", None),
        ] {
            assert_eq!(Holder::parse(name), holder, "{name}");
        }
    }

    #[test]
    fn plaintext_stays_on_the_host() {
        for (listen, allowed) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(Security::plaintext(listen).is_ok(), allowed, "{listen}");
        }
    }
}
