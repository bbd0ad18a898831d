//! The node's configuration file: read whole, checked whole, every problem reported at once.
//!
//! Parsing and checking are pure; [`Config::load`] alone opens files. `deploy/config/` holds a commented example for
//! each role.

mod check;
mod net;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use ipnet::IpNet;
pub use net::{FloatingNet, HostNet};
pub use raw::Problem;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Keeps everything, may lead, serve SMPP and hold the floating address.
    Data,
    /// Votes and keeps everything, never serves.
    Witness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Data => "data",
            Role::Witness => "witness",
        })
    }
}

/// A checked configuration. Only [`Config::load`] and [`Config::parse`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the cluster, the same on all its nodes.
    pub cluster: String,
    /// 1 to 255, unique in the cluster and never used again for another machine.
    pub node_id: u64,
    /// Short name for people.
    pub name: String,
    /// What this node is for.
    pub role: Role,
    /// Where this node, and no other, keeps its data.
    pub data_dir: PathBuf,
    /// Consensus between the nodes.
    pub raft: RaftConfig,
    /// Who decides when one of two nodes may go on alone.
    pub quorum: QuorumConfig,
    /// Certificates for the traffic between nodes; `None` means plain text, which is allowed on loopback alone.
    pub tls: Option<TlsConfig>,
    /// Socket on which `smscctl` reaches this node.
    pub admin_socket: PathBuf,
    /// Whether `smscctl drill` may have this node fail: die, stand still, be cut off, stall its disk.
    pub admin_drills: bool,
    /// The SMPP server; `Some` on data nodes, `None` on a witness.
    pub smpp: Option<SmppConfig>,
    /// The floating address; `Some` on data nodes, `None` on a witness.
    pub floating_ip: Option<FloatingIpConfig>,
    /// Limits of the store.
    pub store: StoreConfig,
    /// Call detail records; `None` writes none, as on a witness.
    pub cdr: Option<CdrConfig>,
    /// Where metrics and health are served; `None` serves neither.
    pub http_listen: Option<SocketAddr>,
    /// How to log.
    pub log: LogConfig,
    /// How to stop.
    pub shutdown: ShutdownConfig,
}

/// The files of call detail records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdrConfig {
    /// Where they lie; made if it is not there.
    pub dir: PathBuf,
    /// A file that has grown to this is finished.
    pub rotate_mib: u32,
    /// So is one that holds records and is this old.
    pub rotate_after: Duration,
    /// Finished files that are kept, the oldest go first; 0 for all.
    pub keep_files: u32,
}

/// Consensus between the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// Where the peers' gRPC is served.
    pub listen: SocketAddr,
    /// `host:port` under which the other nodes reach this one.
    pub advertise: String,
    /// How often a leader shows that it is alive.
    pub heartbeat: Duration,
    /// The least and the longest time a node waits, once the lease is over, before it stands for leader.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
    /// How long a leader may act after the last heartbeat that a majority answered; less than `election_max`.
    pub lease: Duration,
    /// The first members, this node included; empty on a node that joins a running cluster.
    pub members: Vec<Member>,
    /// UDP port, on every node, of the certificates that a dead leader's addresses were released; `None` means each
    /// node's gRPC port.
    pub release_port: Option<u16>,
    /// Form the cluster from `members` if the data directory is empty at start.
    pub bootstrap: bool,
}

impl RaftConfig {
    /// Where this node hears release certificates.
    #[must_use]
    pub fn release_listen(&self) -> SocketAddr {
        SocketAddr::new(self.listen.ip(), self.release_port.unwrap_or(self.listen.port()))
    }

    /// Where the node whose gRPC is at `addr` (`host:port`) hears release certificates, as `host:port`.
    #[must_use]
    pub fn release_addr(&self, addr: &str) -> String {
        match (self.release_port, addr.rsplit_once(':')) {
            (Some(port), Some((host, _))) => format!("{host}:{port}"),
            _ => addr.to_owned(),
        }
    }
}

/// Who decides when one of two nodes may go on alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumConfig {
    /// The device.
    pub device: QuorumDevice,
    /// How long after its peer was lost a node may still go on alone; later it counts as outdated.
    pub arm_within: Duration,
}

/// The third vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuorumDevice {
    /// A third member; nothing is to be decided here.
    Witness,
    /// A command that switches the peer off.
    Fence(FenceConfig),
    /// Whether the gateway answers, and nobody for the floating address.
    Gateway(GatewayConfig),
    /// An operator, by `smscctl cluster takeover`.
    Operator,
}

/// What is looked at instead of a third machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The next hop on the network of a floating address.
    pub address: IpAddr,
    /// As [`FenceConfig::after`].
    pub after: Duration,
    /// As [`FenceConfig::standby_delay`]: so long the leader has for itself.
    pub standby_delay: Duration,
}

/// The command that switches the peer off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceConfig {
    /// Program and arguments. Exit code 0 says that the peer is off.
    pub command: Vec<String>,
    /// Run after the command, if given: its exit code 0 is what says that the peer is off.
    pub verify: Option<Vec<String>>,
    /// How long either may run; then it is killed.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retries: u32,
    /// How long the peer must have been lost first.
    pub after: Duration,
    /// How much longer a node waits that does not lead, where the peer fell silent without its connections being
    /// closed: it may be alive and about to fence this node.
    pub standby_delay: Duration,
}

/// A first member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// 1 to 255.
    pub id: u64,
    /// Short name for people.
    pub name: String,
    /// `host:port` of its gRPC.
    pub addr: String,
    /// What it is for.
    pub role: Role,
}

/// Certificates, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate of the cluster's own authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// This node's private key.
    pub key: PathBuf,
}

/// The SMPP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmppConfig {
    /// TCP port on the floating addresses.
    pub listen_port: u16,
    /// Our name in bind responses; at most 15 ASCII characters (SMPP v3.4 section 5.2.1).
    pub system_id: String,
    /// Unanswered requests either side may have when the account does not say.
    pub window_default: u32,
    /// Simultaneous binds of an account that does not say.
    pub binds_max_default: u32,
    /// Open connections, bound or not.
    pub connections_max: u32,
    /// From connect to bind (SMPP v3.4 section 7.2).
    pub session_init_timer: Duration,
    /// Silence after which we ask whether the ESME is there.
    pub enquire_link_interval: Duration,
    /// Silence but for enquire_link after which we unbind.
    pub inactivity_timer: Duration,
    /// How long the ESME may take to answer a request.
    pub response_timer: Duration,
    /// Longest PDU accepted, header included. Octets.
    pub pdu_bytes_max: u32,
    /// Networks whose connections begin with a header of PROXY protocol version 2; no other connection may have one.
    pub proxy_networks: Vec<IpNet>,
    /// SMPP through TLS on a port of its own; `None` offers none.
    pub tls: Option<SmppTlsConfig>,
}

/// SMPP through TLS. The files are read again when they change and on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmppTlsConfig {
    /// TCP port on the floating addresses.
    pub listen_port: u16,
    /// Certificate chain that ESMEs are shown, PEM.
    pub cert: PathBuf,
    /// The key to it, PEM.
    pub key: PathBuf,
    /// Authorities whose certificates ESMEs may show, PEM; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// How the floating address is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatingIpMode {
    /// Added to an interface with a kernel lifetime and announced; needs CAP_NET_ADMIN and CAP_NET_RAW.
    Interface,
    /// A loopback address, where claiming means listening; needs no privilege, for one machine.
    Loopback,
}

/// The floating address or addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatingIpConfig {
    /// How they are claimed.
    pub mode: FloatingIpMode,
    /// The addresses, at least one; they move together.
    pub addresses: Vec<FloatingNet>,
    /// Kernel lifetime of a claimed address; whole seconds.
    pub valid_lft: Duration,
    /// How long a claim waits for another owner to answer; zero asks while the address is held already.
    pub probe: Duration,
}

/// Limits of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Size of one file of the Raft log. MiB.
    pub log_segment_mib: u32,
    /// Newest log entries kept in memory for peers that lag. MiB.
    pub log_cache_mib: u32,
    /// How often the store's changes are written to the checkpoint.
    pub checkpoint_interval: Duration,
    /// Changes held in memory that force a checkpoint early. MiB.
    pub overlay_mib: u32,
    /// The node does not serve when the data directory's file system has less room. MiB.
    pub disk_free_min_mib: u32,
    /// How long one flush of the Raft log may take before a leader hands over, and a standby does not take over.
    pub disk_stall_max: Duration,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least important records written.
    pub level: LogLevel,
}

/// Shape of a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// The least important records written. Release builds hold nothing below `Info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The node cannot do its work.
    Error,
    /// Someone should look at this.
    Warn,
    /// What an operator wants to read later.
    Info,
    /// Every step; development builds only.
    Debug,
    /// Every byte; development builds only.
    Trace,
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long in-flight work may take to settle.
    pub drain: Duration,
    /// After which time the supervisor kills the process (TimeoutStopSec of the systemd unit).
    pub kill_after: Duration,
}

/// Why there is no configuration. Exit code 64.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{} is not valid TOML: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Place and fault.
        message: String,
    },
    /// The file can be read, but must not be followed.
    #[error("{} has {}:{}", file.display(), counted(problems.len()), listed(problems))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// All that is wrong, in the order of the sections.
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads and checks a file. Relative paths in it start at the folder that holds it.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, files named in it but missing included. Nothing was opened but
    /// the file itself, nothing is bound.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
        let text = fs::read_to_string(file).map_err(unreadable)?;
        let base = std::path::absolute(file).map_err(unreadable)?;
        let base = base.parent().unwrap_or(Path::new("/"));
        let (config, mut problems) =
            Self::read(&text, base).map_err(|message| ConfigError::Syntax { file: file.to_owned(), message })?;
        for (key, path) in config.named_files() {
            match fs::metadata(path) {
                Ok(found) if found.is_file() => {}
                Ok(_) => problems.push(missing(key, path, "is not a file")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    problems.push(missing(key, path, "does not exist; `smscctl cert` makes certificates"));
                }
                Err(error) => problems.push(missing(key, path, &format!("cannot be read: {error}"))),
            }
        }
        if let QuorumDevice::Fence(fence) = &config.quorum.device {
            for (key, program) in fence.programs().filter(|(_, program)| !program.is_file()) {
                problems.push(missing(key, &program, "is not a program on this host"));
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { file: file.to_owned(), problems }) }
    }

    /// Checks the text of a file without touching the file system. Relative paths in it start at `base`.
    ///
    /// # Errors
    /// Every problem found; one without a key if the text is no TOML.
    pub fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
        match Self::read(text, base) {
            Ok((config, problems)) if problems.is_empty() => Ok(config),
            Ok((_, problems)) => Err(problems),
            Err(message) => Err(vec![Problem { key: "file".into(), value: None, reason: message }]),
        }
    }

    fn read(text: &str, base: &Path) -> Result<(Config, Vec<Problem>), String> {
        let table = text.parse::<toml::Table>().map_err(|error| error.to_string().trim_end().to_owned())?;
        Ok(check::check(table, base))
    }

    /// The files that must be there before the node starts, with the keys that name them.
    fn named_files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = Vec::new();
        if let Some(tls) = &self.tls {
            files.extend([("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)]);
        }
        if let Some(tls) = self.smpp.as_ref().and_then(|smpp| smpp.tls.as_ref()) {
            files.extend([("smpp.tls.cert", &tls.cert), ("smpp.tls.key", &tls.key)]);
            files.extend(tls.client_ca.as_ref().map(|client_ca| ("smpp.tls.client_ca", client_ca)));
        }
        let files = files.into_iter().map(|(key, path)| (key, path.as_path()));
        // A key that is missing altogether is reported as such already.
        files.filter(|(_, path)| !path.as_os_str().is_empty()).collect()
    }
}

fn missing(key: &str, path: &Path, reason: &str) -> Problem {
    Problem { key: key.to_owned(), value: Some(format!("{:?}", path.display().to_string())), reason: reason.to_owned() }
}

fn counted(problems: usize) -> String {
    if problems == 1 { "a problem".to_owned() } else { format!("{problems} problems") }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
