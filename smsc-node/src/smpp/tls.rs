//! SMPP through TLS: the certificates that ESMEs are shown, read again when they change, and the names in theirs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use webpki::EndEntityCert;

use crate::config::SmppTlsConfig;

/// How often the files are looked at. A certificate is renewed days before it expires.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Why TLS cannot be offered to ESMEs. At the start the node does not run; later the certificates before stay.
#[derive(Debug, thiserror::Error)]
pub enum SmppTlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check that the file exists and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {what} in PEM format: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// Certificate and key do not go together, or the library cannot use them.
    #[error("smpp.tls.cert and smpp.tls.key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// The authorities for ESMEs' certificates cannot be used.
    #[error("smpp.tls.client_ca cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

/// The certificates in use. Connections that are open keep what they began with.
#[derive(Debug)]
pub struct Certificates {
    files: SmppTlsConfig,
    current: Mutex<(Arc<ServerConfig>, Stamp)>,
}

/// What tells one state of the files from another: of each its inode, size and time of change.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`SmppTlsError`]: a file is missing or wrong.
    pub fn load(files: SmppTlsConfig) -> Result<Self, SmppTlsError> {
        // Before they are read, so that a change in between is seen the next time.
        let stamp = stamp(&files);
        let config = server_config(&files)?;
        Ok(Self { files, current: Mutex::new((config, stamp)) })
    }

    /// What the next connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Reads the files again. Says whether anything had changed; `force` reads them in any case.
    ///
    /// # Errors
    /// [`SmppTlsError`]: what was in use stays in use until the files change once more.
    pub fn reload(&self, force: bool) -> Result<bool, SmppTlsError> {
        let stamp = stamp(&self.files);
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if !force && current.1 == stamp {
                return Ok(false);
            }
            current.1 = stamp;
        }
        let config = server_config(&self.files)?;
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0 = config;
        Ok(true)
    }

    /// Reads the files again whenever they change, and on SIGHUP, for as long as the process runs.
    ///
    /// # Errors
    /// If the signal's handler cannot be put in place.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let mut hangups = signal(SignalKind::hangup())?;
        let certificates = self.clone();
        tokio::spawn(async move {
            loop {
                let asked = tokio::select! {
                    _ = hangups.recv() => true,
                    () = tokio::time::sleep(LOOK_INTERVAL) => false,
                };
                match certificates.reload(asked) {
                    Ok(true) => tracing::info!("the certificates for ESMEs were read anew"),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "the certificates for ESMEs stay as they were"),
                }
            }
        });
        Ok(())
    }
}

fn stamp(files: &SmppTlsConfig) -> Stamp {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    let of = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    paths.into_iter().flatten().map(of).collect()
}

fn server_config(files: &SmppTlsConfig) -> Result<Arc<ServerConfig>, SmppTlsError> {
    let chain = certificates(&files.cert, "certificate")?;
    let key = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| malformed(&files.key, "private key", error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "authority's certificate")? {
                roots.add(certificate)?;
            }
            // Which account needs one is known at its bind.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, SmppTlsError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| malformed(path, what, error))?;
    if found.is_empty() { Err(malformed(path, what, "there is none")) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, SmppTlsError> {
    fs::read(path).map_err(|source| SmppTlsError::Unreadable { path: path.to_owned(), source })
}

fn malformed(path: &Path, what: &'static str, reason: impl ToString) -> SmppTlsError {
    SmppTlsError::Malformed { path: path.to_owned(), what, reason: reason.to_string() }
}

/// Whether a certificate that the TLS layer has verified carries this DNS name.
pub fn has_name(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(entity), Ok(name)) = (EndEntityCert::try_from(certificate), ServerName::try_from(name)) else {
        return false;
    };
    entity.verify_is_valid_for_subject_name(&name).is_ok()
}
