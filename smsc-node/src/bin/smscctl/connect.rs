//! The way to a node: a Unix socket of this host, or its port for peers with a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use smsc_node::admin::{AT_METADATA, MESSAGE_BYTES_MAX};
use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_raft::consensus::tls::{Credentials, Holder, TlsFiles};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::exit::{Failure, Kind};

/// Where the packages' configuration puts the socket.
const SOCKET_DEFAULT: &str = "/run/smsc/admin.sock";
/// The longest that a call may take, seconds, and one that reads or moves all that is stored.
const TIMEOUT_S: u64 = 30;
/// See [`TIMEOUT_S`].
const PATIENT_S: u64 = 3600;
/// The longest that connecting to one node may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Which node to ask, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which node to ask (any will do)")]
pub struct ConnectArgs {
    /// The node's Unix socket (admin.socket of its configuration). Several may be given; the first that answers is
    /// asked.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SMSC_SOCKET",
        value_delimiter = ',',
        default_value = SOCKET_DEFAULT
    )]
    pub socket: Vec<PathBuf>,
    /// The node's port for its peers (raft.listen of its configuration) instead of a socket. Several may be given.
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',')]
    pub addr: Vec<String>,
    /// With --addr: holds ca.pem and the operator's certificate and key, admin-NAME.pem and admin-NAME.key. Without
    /// it no TLS is used, which nodes allow on loopback only.
    #[arg(long, global = true, value_name = "DIR", requires = "addr")]
    pub tls_dir: Option<PathBuf>,
    /// With --tls-dir: the operator, when the folder holds certificates of several.
    #[arg(long, global = true, value_name = "NAME", requires = "tls_dir")]
    pub admin: Option<String>,
    /// With --tls-dir: the id that the asked node's certificate must name, instead of the host of --addr.
    #[arg(long, global = true, value_name = "ID", requires = "tls_dir")]
    pub server_id: Option<u64>,
    /// Have the leader answer reads too; otherwise the asked node tells what it has applied.
    #[arg(long, global = true)]
    pub leader: bool,
    /// The longest that a call may take, seconds. Without it 30, and an hour for what reads or moves all that is stored
    /// (cluster join, cluster digest).
    #[arg(long, global = true, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout_s: Option<u64>,
}

/// Marks calls that the leader is to answer.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    leader: bool,
}

impl Interceptor for Ask {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.leader {
            request.metadata_mut().insert(AT_METADATA, MetadataValue::from_static("leader"));
        }
        Ok(request)
    }
}

/// A connection to a node's admin service.
pub type Client = AdminClient<InterceptedService<Channel, Ask>>;

impl ConnectArgs {
    /// A connection to the first node that answers.
    ///
    /// # Errors
    /// Nobody answers, or the certificates cannot be used.
    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(self.client_of(self.channel().await?, self.leader))
    }

    /// As [`ConnectArgs::client`], with every answer from the leader: to read what is to be changed.
    ///
    /// # Errors
    /// As for [`ConnectArgs::client`].
    pub async fn leader_client(&self) -> Result<Client, Failure> {
        Ok(self.client_of(self.channel().await?, true))
    }

    fn client_of(&self, channel: Channel, leader: bool) -> Client {
        AdminClient::with_interceptor(channel, Ask { leader })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The same, for a call that takes as long as all that is stored takes to be read or moved.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { timeout_s: self.timeout_s.or(Some(PATIENT_S)), ..self.clone() }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.unwrap_or(TIMEOUT_S))
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        let mut tried = Vec::new();
        for (name, endpoint) in self.endpoints()? {
            let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).timeout(self.timeout());
            let connecting = tokio::time::timeout(CONNECT_WITHIN, endpoint.connect());
            match connecting.await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => tried.push(format!("{name}: {}", root_cause(&error))),
                Err(_) => tried.push(format!("{name}: no answer within {} s", CONNECT_WITHIN.as_secs())),
            }
        }
        let advice = if self.addr.is_empty() {
            "is the node running, and may this user open its socket? Name the socket with --socket or SMSC_SOCKET \
             (admin.socket of the node's configuration), or a node elsewhere with --addr"
        } else {
            "is the node running, and is --addr its raft.listen? Nodes with TLS need --tls-dir"
        };
        Err(Failure { kind: Kind::Unreachable, text: format!("no node answers: {}; {advice}", tried.join("; ")) })
    }

    fn endpoints(&self) -> Result<Vec<(String, Endpoint)>, Failure> {
        if self.addr.is_empty() {
            return self.socket.iter().map(|path| socket_endpoint(path)).collect();
        }
        let credentials = self.tls_dir.as_deref().map(|dir| self.credentials(dir)).transpose()?;
        self.addr.iter().map(|addr| self.addr_endpoint(addr, credentials.as_ref())).collect()
    }

    fn addr_endpoint(&self, addr: &str, credentials: Option<&Credentials>) -> Result<(String, Endpoint), Failure> {
        let Some((host, _)) = addr.rsplit_once(':') else {
            return Err(Failure::usage(format!("--addr {addr:?} is not of the form HOST:PORT")));
        };
        let scheme = if credentials.is_some() { "https" } else { "http" };
        let invalid = |error: tonic::transport::Error| {
            Failure::usage(format!("--addr {addr:?} cannot be used: {}", root_cause(&error)))
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{addr}")).map_err(invalid)?;
        let Some(credentials) = credentials else {
            return Ok((addr.to_owned(), endpoint));
        };
        let tls = match self.server_id {
            Some(id) => credentials.client(id),
            None => credentials.client_of_host(host.trim_start_matches('[').trim_end_matches(']')),
        };
        Ok((addr.to_owned(), endpoint.tls_config(tls).map_err(invalid)?))
    }

    fn credentials(&self, dir: &Path) -> Result<Credentials, Failure> {
        let holder = match &self.admin {
            Some(name) => Holder::Admin(name.clone()).dns_name(),
            None => only_operator(dir)?,
        };
        let files = TlsFiles {
            ca: dir.join("ca.pem"),
            cert: dir.join(format!("{holder}.pem")),
            key: dir.join(format!("{holder}.key")),
        };
        Credentials::load(&files).map_err(Failure::refused)
    }
}

fn socket_endpoint(path: &Path) -> Result<(String, Endpoint), Failure> {
    let text = path.to_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Failure::usage(format!("--socket {path:?} is no path in UTF-8")))?;
    let endpoint = Endpoint::from_shared(format!("unix:{text}")).map_err(Failure::usage)?;
    Ok((text.to_owned(), endpoint))
}

/// The name in the folder's one certificate of an operator.
fn only_operator(dir: &Path) -> Result<String, Failure> {
    let entries =
        std::fs::read_dir(dir).map_err(|error| Failure::refused(format!("cannot read {}: {error}", dir.display())))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".pem").filter(|n| n.starts_with("admin-")).map(str::to_owned))
        .collect();
    names.sort();
    match &names[..] {
        [name] => Ok(name.clone()),
        [] => Err(Failure::refused(format!(
            "there is no operator's certificate in {}; make one with: smscctl cert admin --dir {} --name NAME",
            dir.display(),
            dir.display()
        ))),
        _ => Err(Failure::usage(format!("{} holds {}: choose with --admin NAME", dir.display(), names.join(", ")))),
    }
}

/// What is at the bottom of an error: the transport's own text says only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
