//! Certificates for the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use smsc_raft::consensus::tls::{Credentials, Security, TlsError, TlsFiles};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity};

/// A CA and a directory for what it issues.
pub struct Pki {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ca.pem"), ca.pem()).expect("writable");
        Self { dir, ca }
    }

    /// The files of a holder with these DNS names.
    pub fn files(&self, names: &[&str]) -> TlsFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let stem = names.join("+");
        let mut params = CertificateParams::new(names).expect("DNS names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.ca).expect("a certificate");
        let write = |name: String, content: String| -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, content).expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
            path
        };
        TlsFiles {
            ca: self.dir.path().join("ca.pem"),
            cert: write(format!("{stem}.pem"), cert.pem()),
            key: write(format!("{stem}.key"), key.serialize_pem()),
        }
    }

    pub fn load(&self, names: &[&str]) -> Result<Credentials, TlsError> {
        Credentials::load(&self.files(names))
    }

    pub fn node(&self, id: u64) -> Security {
        let credentials = self.load(&[&format!("node-{id}")]).expect("a good certificate");
        Security::mutual(credentials, id).expect("the node's own")
    }

    pub fn ca(&self) -> Certificate {
        Certificate::from_pem(self.ca.pem())
    }

    pub fn identity(&self, name: &str) -> Identity {
        let files = self.files(&[name]);
        Identity::from_pem(fs::read(files.cert).expect("readable"), fs::read(files.key).expect("readable"))
    }
}
