//! From a TOML table to a [`Config`]: each section, then the relations between them.

mod floating_ip;
mod quorum;
mod raft;
mod smpp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::net::is_loopback;
use super::raw::{Problem, Problems, Section};
use super::{
    CdrConfig, Config, LogConfig, LogFormat, LogLevel, Member, RaftConfig, Role, ShutdownConfig, StoreConfig, TlsConfig,
};
use floating_ip::floating_ip;
use quorum::{gateway_beside, quorum};
use raft::raft;
use smpp::smpp;

const ROLES: [(&str, Role); 2] = [("data", Role::Data), ("witness", Role::Witness)];
/// Node ids fit an octet, because message ids carry them.
const NODE_ID: std::ops::RangeInclusive<u64> = 1..=255;
const NAME_NEEDS: &str = "must be 1 to 32 letters, digits, '-' or '_'";
const HOST_PORT_NEEDS: &str = "must be a host and a port from 1 to 65535, as in \"10.75.0.1:7400\"";
/// sockaddr_un holds 108 octets, one of them the terminator.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads everything there is and collects what is wrong. The configuration must not be used unless nothing is.
pub(super) fn check(table: toml::Table, base: &Path) -> (Config, Vec<Problem>) {
    let p = &mut Problems::default();
    let mut top = Section::new("", table);
    let cluster = name(&mut top, "cluster", p);
    let node_id = top.integer("node_id", None, NODE_ID, "", p);
    let own_name = name(&mut top, "name", p);
    let role = top.choice("role", &ROLES, true, p);
    let data_dir = path(&mut top, "data_dir", base, p).unwrap_or_default();
    let me = Member { id: node_id, name: own_name, addr: String::new(), role };

    let raft = raft(&mut top, &me, p);
    let quorum = quorum(&mut top, &me, &raft, p);
    let tls = tls(&mut top, base, &raft, p);
    let (admin_socket, admin_drills) = admin(&mut top, base, &data_dir, p);
    let smpp = smpp(&mut top, role, base, p);
    let floating_ip = floating_ip(&mut top, role, &raft, p);
    gateway_beside(&quorum, floating_ip.as_ref(), p);
    let store = store(&mut top, p);
    let cdr = cdr(&mut top, base, role, p);
    let http_listen = http(&mut top, &raft, p);
    let log = log(&mut top, p);
    let shutdown = shutdown(&mut top, p);
    top.end(p);

    let config = Config {
        cluster,
        node_id,
        name: me.name,
        role,
        data_dir,
        raft,
        quorum,
        tls,
        admin_socket,
        admin_drills,
        smpp,
        floating_ip,
        store,
        cdr,
        http_listen,
        log,
        shutdown,
    };
    (config, std::mem::take(p).into_list())
}

/// A section that may be left out, in which case each of its keys takes its default.
fn optional(top: &mut Section, key: &'static str, p: &mut Problems) -> Section {
    top.section(key, p).unwrap_or_else(|| Section::new(key, toml::Table::new()))
}

fn name(section: &mut Section, key: &'static str, p: &mut Problems) -> String {
    let text = section.text(key, NAME_NEEDS, p);
    let good =
        (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let full = section.key(key);
    if !good && !p.is_faulty(&full) {
        p.add(&full, Some(format!("{text:?}")), NAME_NEEDS);
    }
    text
}

fn path(section: &mut Section, key: &'static str, base: &Path, p: &mut Problems) -> Option<PathBuf> {
    const NEEDS: &str = "must be a path in quotes";
    let full = section.key(key);
    let text = section.text(key, NEEDS, p);
    if p.is_faulty(&full) {
        return None;
    }
    if text.is_empty() || text.contains('\0') {
        p.add(&full, Some(format!("{text:?}")), NEEDS);
        return None;
    }
    Some(base.join(text))
}

fn seconds(
    section: &mut Section,
    key: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    p: &mut Problems,
) -> Duration {
    Duration::from_secs(section.integer(key, Some(default), range, "seconds", p))
}

/// `range` must end below 2^32.
fn count(
    section: &mut Section,
    key: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    unit: &str,
    p: &mut Problems,
) -> u32 {
    u32::try_from(section.integer(key, Some(default), range, unit, p)).expect("the ranges given here end below 2^32")
}

fn port(section: &mut Section, key: &'static str, default: u16, p: &mut Problems) -> u16 {
    u16::try_from(section.integer(key, Some(default.into()), 1..=65535, "", p)).expect("the range ends at 65535")
}

fn port_or_none(section: &mut Section, key: &'static str, p: &mut Problems) -> Option<u16> {
    section.holds(key).then(|| port(section, key, 1, p))
}

fn tls(top: &mut Section, base: &Path, raft: &RaftConfig, p: &mut Problems) -> Option<TlsConfig> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Mutual,
        Off,
    }
    let mut s = optional(top, "tls", p);
    match s.choice("mode", &[("mutual", Mode::Mutual), ("off", Mode::Off)], false, p) {
        Mode::Mutual => {
            let mut file = |key| path(&mut s, key, base, p).unwrap_or_default();
            let tls = TlsConfig { ca: file("ca"), cert: file("cert"), key: file("key") };
            s.end(p);
            Some(tls)
        }
        Mode::Off => {
            s.end(p);
            let far = std::iter::once(&raft.advertise)
                .chain(raft.members.iter().map(|member| &member.addr))
                .find(|addr| !is_loopback(addr));
            let only = "is allowed only where all nodes are on this machine (loopback addresses)";
            p.relation(
                raft.listen.ip().is_loopback(),
                "tls.mode",
                "\"off\"",
                &["raft.listen"],
                format!("{only}, but raft.listen = \"{}\"; make certificates with `smscctl cert`", raft.listen),
            );
            if let Some(far) = far.filter(|_| raft.listen.ip().is_loopback()) {
                p.relation(
                    false,
                    "tls.mode",
                    "\"off\"",
                    &["raft.advertise"],
                    format!("{only}, but a member is at {far:?}; make certificates with `smscctl cert`"),
                );
            }
            None
        }
    }
}

fn admin(top: &mut Section, base: &Path, data_dir: &Path, p: &mut Problems) -> (PathBuf, bool) {
    let mut s = optional(top, "admin", p);
    let given = s.text_or_none("socket", "must be a path in quotes", p);
    let drills = s.flag("drills", false, p);
    s.end(p);
    let socket = given.map_or_else(|| data_dir.join("admin.sock"), |text| base.join(text));
    p.relation(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "admin.socket", format!("{:?}", socket.display().to_string()), &["data_dir"],
        format!("must be a path of at most {SOCKET_PATH_BYTES_MAX} octets, the system's limit for a socket; name a shorter one"));
    (socket, drills)
}

/// A section that belongs to data nodes; recorded as a problem on a witness.
fn data_only(top: &mut Section, key: &'static str, role: Role, p: &mut Problems) -> Option<Section> {
    let section = top.section(key, p);
    if role == Role::Data {
        return Some(section.unwrap_or_else(|| Section::new(key, toml::Table::new())));
    }
    if section.is_some() && !p.is_faulty("role") {
        p.add(key, None, "is for role = \"data\" only; a witness never serves, so remove this section");
    }
    None
}

fn store(top: &mut Section, p: &mut Problems) -> StoreConfig {
    let mut s = optional(top, "store", p);
    let store = StoreConfig {
        log_segment_mib: count(&mut s, "log_segment_mib", 64, 1..=1024, "MiB", p),
        log_cache_mib: count(&mut s, "log_cache_mib", 64, 1..=65_536, "MiB", p),
        checkpoint_interval: seconds(&mut s, "checkpoint_interval_s", 5, 1..=300, p),
        overlay_mib: count(&mut s, "overlay_mib", 256, 16..=65_536, "MiB", p),
        disk_free_min_mib: count(&mut s, "disk_free_min_mib", 512, 16..=1_048_576, "MiB", p),
        disk_stall_max: Duration::from_millis(s.integer(
            "disk_stall_max_ms",
            Some(2000),
            100..=60_000,
            "milliseconds",
            p,
        )),
    };
    s.end(p);
    p.relation(
        store.disk_free_min_mib >= store.log_segment_mib,
        "store.disk_free_min_mib",
        store.disk_free_min_mib,
        &["store.log_segment_mib"],
        format!(
            "must be at least store.log_segment_mib = {}, or the next file of the log finds no room",
            store.log_segment_mib
        ),
    );
    store
}

/// Call detail records are written where the section stands.
fn cdr(top: &mut Section, base: &Path, role: Role, p: &mut Problems) -> Option<CdrConfig> {
    if role == Role::Data && top.holds("cdr") {
        let mut s = top.section("cdr", p)?;
        let cdr = CdrConfig {
            dir: path(&mut s, "dir", base, p).unwrap_or_default(),
            rotate_mib: count(&mut s, "rotate_mib", 64, 1..=4096, "MiB", p),
            rotate_after: seconds(&mut s, "rotate_after_s", 3600, 10..=604_800, p),
            keep_files: count(&mut s, "keep_files", 0, 0..=1_000_000, "files", p),
        };
        s.end(p);
        return Some(cdr);
    }
    // A witness that has it is told.
    if role == Role::Witness {
        data_only(top, "cdr", role, p);
    }
    None
}

fn http(top: &mut Section, raft: &RaftConfig, p: &mut Problems) -> Option<SocketAddr> {
    let mut s = top.section("http", p)?;
    let listen = s.socket_addr("listen", p);
    if listen.is_none() && !p.is_faulty("http.listen") {
        p.add("http.listen", None, "is missing; it must be an IP address and a port, as in \"127.0.0.1:9400\"");
    }
    s.end(p);
    if let Some(listen) = listen {
        let overlap = listen.port() == raft.listen.port()
            && (listen.ip() == raft.listen.ip() || listen.ip().is_unspecified() || raft.listen.ip().is_unspecified());
        p.relation(
            !overlap,
            "http.listen",
            format!("\"{listen}\""),
            &["raft.listen"],
            format!("must not be the port of raft.listen = \"{}\"", raft.listen),
        );
    }
    listen
}

fn log(top: &mut Section, p: &mut Problems) -> LogConfig {
    let mut s = optional(top, "log", p);
    let format = s.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], false, p);
    let levels = [
        ("info", LogLevel::Info),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let level = s.choice("level", &levels, false, p);
    s.end(p);
    LogConfig { format, level }
}

fn shutdown(top: &mut Section, p: &mut Problems) -> ShutdownConfig {
    let mut s = optional(top, "shutdown", p);
    let drain = seconds(&mut s, "drain_s", 10, 1..=600, p);
    let kill_after = seconds(&mut s, "kill_after_s", 30, 2..=3600, p);
    s.end(p);
    p.relation(drain < kill_after, "shutdown.drain_s", drain.as_secs(), &["shutdown.kill_after_s"],
        format!("must be less than shutdown.kill_after_s = {}, or the supervisor kills the node while it still settles its work", kill_after.as_secs()));
    ShutdownConfig { drain, kill_after }
}
