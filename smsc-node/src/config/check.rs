//! From a TOML table to a [`Config`]: each section, then the relations between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::net::{is_host_port, is_loopback};
use super::raw::{Problem, Problems, Section};
use super::{
    Config, FloatingIpConfig, FloatingIpMode, HostNet, LogConfig, LogFormat, LogLevel, Member,
    RaftConfig, Role, ShutdownConfig, SmppConfig, StoreConfig, TlsConfig,
};

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
    let me = Member {
        id: node_id,
        name: own_name,
        addr: String::new(),
        role,
    };

    let raft = raft(&mut top, &me, p);
    let tls = tls(&mut top, base, &raft, p);
    let admin_socket = admin_socket(&mut top, base, &data_dir, p);
    let smpp = smpp(&mut top, role, p);
    let floating_ip = floating_ip(&mut top, role, &raft, p);
    let store = store(&mut top, p);
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
        tls,
        admin_socket,
        smpp,
        floating_ip,
        store,
        http_listen,
        log,
        shutdown,
    };
    (config, std::mem::take(p).into_list())
}

/// A section that may be left out, in which case each of its keys takes its default.
fn optional(top: &mut Section, key: &'static str, p: &mut Problems) -> Section {
    top.section(key, p)
        .unwrap_or_else(|| Section::new(key, toml::Table::new()))
}

fn name(section: &mut Section, key: &'static str, p: &mut Problems) -> String {
    let text = section.text(key, NAME_NEEDS, p);
    let good = (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let full = section.key(key);
    if !good && !p.is_faulty(&full) {
        p.add(&full, Some(format!("{text:?}")), NAME_NEEDS);
    }
    text
}

fn path(
    section: &mut Section,
    key: &'static str,
    base: &Path,
    p: &mut Problems,
) -> Option<PathBuf> {
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
    u32::try_from(section.integer(key, Some(default), range, unit, p))
        .expect("the ranges given here end below 2^32")
}

fn port(section: &mut Section, key: &'static str, default: u16, p: &mut Problems) -> u16 {
    u16::try_from(section.integer(key, Some(default.into()), 1..=65535, "", p))
        .expect("the range ends at 65535")
}

fn port_or_none(section: &mut Section, key: &'static str, p: &mut Problems) -> Option<u16> {
    section.holds(key).then(|| port(section, key, 1, p))
}

/// Timers that fit each other. Milliseconds.
#[derive(Clone, Copy)]
struct Profile {
    heartbeat: u64,
    election_min: u64,
    election_max: u64,
}

/// Nodes in one room or one metropolitan area.
const LAN: Profile = Profile {
    heartbeat: 30,
    election_min: 90,
    election_max: 150,
};
/// Nodes tens of milliseconds apart, or a network that stalls at times.
const WAN: Profile = Profile {
    heartbeat: 150,
    election_min: 600,
    election_max: 1200,
};

fn raft(top: &mut Section, me: &Member, p: &mut Problems) -> RaftConfig {
    let mut s = top
        .section("raft", p)
        .unwrap_or_else(|| Section::new("raft", toml::Table::new()));
    let listen = s.socket_addr("listen", p);
    if listen.is_none() && !p.is_faulty("raft.listen") {
        p.add("raft.listen", None, "is missing; it must be this node's own IP address and a port, as in \"10.75.0.1:7400\"");
    }
    let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7400)));
    let advertise = s.text_or_none("advertise", HOST_PORT_NEEDS, p);
    if let Some(text) = advertise.as_ref().filter(|text| !is_host_port(text)) {
        p.add("raft.advertise", Some(format!("{text:?}")), HOST_PORT_NEEDS);
    }
    if advertise.is_none() && listen.ip().is_unspecified() && !p.is_faulty("raft.advertise") {
        p.add("raft.advertise", None, format!("is missing; raft.listen = \"{listen}\" does not tell the other nodes where this one is"));
    }
    let advertise = advertise.unwrap_or_else(|| listen.to_string());

    let profile = s.choice("profile", &[("lan", LAN), ("wan", WAN)], false, p);
    let heartbeat = s.integer(
        "heartbeat_ms",
        Some(profile.heartbeat),
        5..=10_000,
        "milliseconds",
        p,
    );
    let election_min = s.integer(
        "election_min_ms",
        Some(profile.election_min),
        20..=60_000,
        "milliseconds",
        p,
    );
    let election_max = s.integer(
        "election_max_ms",
        Some(profile.election_max),
        30..=120_000,
        "milliseconds",
        p,
    );
    // A tenth for the difference in pace of two clocks and for the time a leader needs to stop.
    let lease = s.integer(
        "lease_ms",
        Some(election_max - election_max / 10),
        20..=119_999,
        "milliseconds",
        p,
    );
    p.relation(heartbeat < election_min, "raft.heartbeat_ms", heartbeat, &["raft.election_min_ms"],
        format!("must be less than raft.election_min_ms = {election_min}, or a healthy leader is voted out"));
    p.relation(election_min < election_max, "raft.election_min_ms", election_min, &["raft.election_max_ms"],
        format!("must be less than raft.election_max_ms = {election_max}, or two nodes keep standing at the same moment"));
    p.relation(lease < election_max, "raft.lease_ms", lease, &["raft.election_max_ms"],
        format!("must be less than raft.election_max_ms = {election_max}, or two nodes may believe that they lead"));
    p.relation(heartbeat < lease, "raft.lease_ms", lease, &["raft.heartbeat_ms", "raft.election_max_ms"],
        format!("must be more than raft.heartbeat_ms = {heartbeat}, or the lease ends between two heartbeats"));

    let members = s.sections("members", p);
    let given = members.is_some();
    let members: Vec<Member> = members
        .unwrap_or_default()
        .into_iter()
        .map(|section| member(section, p))
        .collect();
    let release_port = port_or_none(&mut s, "release_port", p);
    let bootstrap = s.flag("bootstrap", false, p);
    s.end(p);
    if bootstrap && !given && !p.is_faulty("raft.members") {
        p.add("raft.members", None, "is missing; with raft.bootstrap = true it must list all first members, this node included");
    }
    if given && !p.is_faulty("raft.members") {
        check_members(&members, me, &advertise, p);
    }
    let ms = Duration::from_millis;
    RaftConfig {
        listen,
        advertise,
        heartbeat: ms(heartbeat),
        election_min: ms(election_min),
        election_max: ms(election_max),
        lease: ms(lease),
        members,
        release_port,
        bootstrap,
    }
}

fn member(mut s: Section, p: &mut Problems) -> Member {
    let id = s.integer("id", None, NODE_ID, "", p);
    let name = name(&mut s, "name", p);
    let key = s.key("addr");
    let addr = s.text("addr", HOST_PORT_NEEDS, p);
    if !p.is_faulty(&key) && !is_host_port(&addr) {
        p.add(&key, Some(format!("{addr:?}")), HOST_PORT_NEEDS);
    }
    let role = s.choice("role", &ROLES, false, p);
    s.end(p);
    Member {
        id,
        name,
        addr,
        role,
    }
}

fn check_members(members: &[Member], me: &Member, advertise: &str, p: &mut Problems) {
    for (index, member) in members.iter().enumerate() {
        let key = |field: &str| format!("raft.members[{index}].{field}");
        for (other_index, other) in members.iter().enumerate().take(index) {
            let others = |field: &str| format!("raft.members[{other_index}].{field}");
            p.relation(
                member.id != other.id,
                &key("id"),
                member.id,
                &[&others("id")],
                "stands twice; each member needs an id of its own",
            );
            p.relation(
                member.name != other.name,
                &key("name"),
                format_args!("{:?}", member.name),
                &[&others("name")],
                "stands twice; each member needs a name of its own",
            );
            p.relation(
                member.addr != other.addr,
                &key("addr"),
                format_args!("{:?}", member.addr),
                &[&others("addr")],
                "stands twice; each member needs an address of its own",
            );
        }
    }
    let Some(index) = members.iter().position(|member| member.id == me.id) else {
        p.relation(
            false,
            "raft.members",
            format!("{:?}", members.iter().map(|m| m.id).collect::<Vec<_>>()),
            &["node_id"],
            format!("must hold this node, node_id = {}", me.id),
        );
        return;
    };
    let own = &members[index];
    let key = |field: &str| format!("raft.members[{index}].{field}");
    p.relation(
        own.name == me.name,
        &key("name"),
        format_args!("{:?}", own.name),
        &["name", "node_id"],
        format!(
            "is this node, whose name is {:?}; both must be the same",
            me.name
        ),
    );
    p.relation(
        own.role == me.role,
        &key("role"),
        format_args!("\"{}\"", own.role),
        &["role", "node_id"],
        format!(
            "is this node, whose role is \"{}\"; both must be the same",
            me.role
        ),
    );
    p.relation(
        own.addr == advertise,
        &key("addr"),
        format_args!("{:?}", own.addr),
        &["raft.listen", "raft.advertise", "node_id"],
        format!("is this node, whose raft.advertise is {advertise:?}; both must be the same"),
    );
    let data = members.iter().any(|member| member.role == Role::Data);
    p.relation(
        data,
        "raft.members",
        "only witnesses",
        &[],
        "must hold at least one member with role = \"data\"",
    );
}

fn tls(top: &mut Section, base: &Path, raft: &RaftConfig, p: &mut Problems) -> Option<TlsConfig> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Mutual,
        Off,
    }
    let mut s = optional(top, "tls", p);
    match s.choice(
        "mode",
        &[("mutual", Mode::Mutual), ("off", Mode::Off)],
        false,
        p,
    ) {
        Mode::Mutual => {
            let mut file = |key| path(&mut s, key, base, p).unwrap_or_default();
            let tls = TlsConfig {
                ca: file("ca"),
                cert: file("cert"),
                key: file("key"),
            };
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
                format!(
                    "{only}, but raft.listen = \"{}\"; make certificates with `smscctl cert`",
                    raft.listen
                ),
            );
            if let Some(far) = far.filter(|_| raft.listen.ip().is_loopback()) {
                p.relation(
                    false,
                    "tls.mode",
                    "\"off\"",
                    &["raft.advertise"],
                    format!(
                        "{only}, but a member is at {far:?}; make certificates with `smscctl cert`"
                    ),
                );
            }
            None
        }
    }
}

fn admin_socket(top: &mut Section, base: &Path, data_dir: &Path, p: &mut Problems) -> PathBuf {
    let mut s = optional(top, "admin", p);
    let given = s.text_or_none("socket", "must be a path in quotes", p);
    s.end(p);
    let socket = given.map_or_else(|| data_dir.join("admin.sock"), |text| base.join(text));
    p.relation(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "admin.socket", format!("{:?}", socket.display().to_string()), &["data_dir"],
        format!("must be a path of at most {SOCKET_PATH_BYTES_MAX} octets, the system's limit for a socket; name a shorter one"));
    socket
}

/// A section that belongs to data nodes; recorded as a problem on a witness.
fn data_only(
    top: &mut Section,
    key: &'static str,
    role: Role,
    p: &mut Problems,
) -> Option<Section> {
    let section = top.section(key, p);
    if role == Role::Data {
        return Some(section.unwrap_or_else(|| Section::new(key, toml::Table::new())));
    }
    if section.is_some() && !p.is_faulty("role") {
        p.add(
            key,
            None,
            "is for role = \"data\" only; a witness never serves, so remove this section",
        );
    }
    None
}

fn smpp(top: &mut Section, role: Role, p: &mut Problems) -> Option<SmppConfig> {
    const SYSTEM_ID_NEEDS: &str = "must be 1 to 15 printable ASCII characters";
    let mut s = data_only(top, "smpp", role, p)?;
    let system_id = s
        .text_or_none("system_id", SYSTEM_ID_NEEDS, p)
        .unwrap_or_else(|| "SMSC".to_owned());
    if !(1..=15).contains(&system_id.len()) || !system_id.bytes().all(|b| b.is_ascii_graphic()) {
        p.add(
            "smpp.system_id",
            Some(format!("{system_id:?}")),
            SYSTEM_ID_NEEDS,
        );
    }
    let smpp = SmppConfig {
        listen_port: port(&mut s, "listen_port", 2775, p),
        system_id,
        window_default: count(&mut s, "window_default", 100, 1..=10_000, "requests", p),
        binds_max_default: count(&mut s, "binds_max_default", 10, 1..=10_000, "binds", p),
        connections_max: count(
            &mut s,
            "connections_max",
            2000,
            1..=100_000,
            "connections",
            p,
        ),
        session_init_timer: seconds(&mut s, "session_init_timer_s", 5, 1..=300, p),
        enquire_link_interval: seconds(&mut s, "enquire_link_interval_s", 30, 1..=3600, p),
        inactivity_timer: seconds(&mut s, "inactivity_timer_s", 300, 2..=86_400, p),
        response_timer: seconds(&mut s, "response_timer_s", 10, 1..=600, p),
        pdu_bytes_max: count(
            &mut s,
            "pdu_bytes_max",
            65_536,
            1024..=1_048_576,
            "octets",
            p,
        ),
    };
    s.end(p);
    let inactivity = smpp.inactivity_timer.as_secs();
    p.relation(smpp.response_timer < smpp.inactivity_timer, "smpp.response_timer_s", smpp.response_timer.as_secs(), &["smpp.inactivity_timer_s"],
        format!("must be less than smpp.inactivity_timer_s = {inactivity}, or a session ends while an answer may still come"));
    p.relation(smpp.enquire_link_interval < smpp.inactivity_timer, "smpp.enquire_link_interval_s", smpp.enquire_link_interval.as_secs(), &["smpp.inactivity_timer_s"],
        format!("must be less than smpp.inactivity_timer_s = {inactivity}, or a dead connection is never asked"));
    Some(smpp)
}

fn floating_ip(
    top: &mut Section,
    role: Role,
    raft: &RaftConfig,
    p: &mut Problems,
) -> Option<FloatingIpConfig> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Interface,
        Loopback,
    }
    let mut s = data_only(top, "floating_ip", role, p)?;
    let mode = s.choice(
        "mode",
        &[("interface", Mode::Interface), ("loopback", Mode::Loopback)],
        true,
        p,
    );
    let mode_known = !p.is_faulty("floating_ip.mode");
    let addresses = floating_addresses(
        &mut s,
        mode_known.then_some(mode == Mode::Loopback),
        raft,
        p,
    );
    let interface = s.text_or_none("interface", INTERFACE_NEEDS, p);
    match &interface {
        Some(name) if !is_interface_name(name) => {
            p.add(
                "floating_ip.interface",
                Some(format!("{name:?}")),
                INTERFACE_NEEDS,
            );
        }
        Some(name) if mode_known && mode == Mode::Loopback => {
            p.add(
                "floating_ip.interface",
                Some(format!("{name:?}")),
                "goes with mode = \"interface\" only; remove it",
            );
        }
        None if mode_known && mode == Mode::Interface && !p.is_faulty("floating_ip.interface") => {
            p.add(
                "floating_ip.interface",
                None,
                format!("is missing; {INTERFACE_NEEDS}"),
            );
        }
        _ => {}
    }
    let valid_lft = seconds(&mut s, "valid_lft_s", 2, 1..=60, p);
    let probe = s.integer("probe_ms", Some(15), 0..=1000, "milliseconds", p);
    s.end(p);
    p.relation(valid_lft > raft.lease, "floating_ip.valid_lft_s", valid_lft.as_secs(), &["raft.lease_ms", "raft.election_max_ms"],
        format!("must be longer than raft.lease_ms = {}, or the kernel drops the address while the node leads", raft.lease.as_millis()));
    Some(FloatingIpConfig {
        mode: match mode {
            Mode::Interface => FloatingIpMode::Interface(interface.unwrap_or_default()),
            Mode::Loopback => FloatingIpMode::Loopback,
        },
        addresses,
        valid_lft,
        probe: Duration::from_millis(probe),
    })
}

const INTERFACE_NEEDS: &str =
    "must be the name of a network interface, 1 to 15 characters, as `ip link` shows it";

fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !name
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b == b'/' || b == b':' || b == 0)
}

/// The floating addresses. `loopback` is `None` where the mode is not known, and then the kind is not judged.
fn floating_addresses(
    s: &mut Section,
    loopback: Option<bool>,
    raft: &RaftConfig,
    p: &mut Problems,
) -> Vec<HostNet> {
    const NEEDS: &str = "must be a list of addresses, as in [\"10.75.0.100/32\"]";
    let texts = s.texts("addresses", NEEDS, p);
    if texts.as_ref().is_none_or(Vec::is_empty) && !p.is_faulty("floating_ip.addresses") {
        p.add(
            "floating_ip.addresses",
            None,
            format!("is missing or empty; it {NEEDS}"),
        );
    }
    let mut addresses: Vec<HostNet> = Vec::new();
    for (index, text) in texts.unwrap_or_default().iter().enumerate() {
        let key = format!("floating_ip.addresses[{index}]");
        let value = Some(format!("{text:?}"));
        let address = match text.parse::<HostNet>() {
            Ok(address) => address,
            Err(error) => {
                p.add(&key, value, error.to_string());
                continue;
            }
        };
        let ip = address.addr;
        if ip.is_unspecified() || ip.is_multicast() {
            p.add(&key, value, "must be the address of one host");
        } else if loopback == Some(true) && !ip.is_loopback() {
            p.add(
                &key,
                value,
                "must be a loopback address (127.0.0.0/8 or ::1) with mode = \"loopback\"",
            );
        } else if loopback == Some(false) && ip.is_loopback() {
            p.add(&key, value, "must not be a loopback address with mode = \"interface\"; other hosts could not reach it");
        } else if ip == raft.listen.ip() && !ip.is_loopback() {
            p.add(&key, value, "must not be this node's own address (raft.listen), because it moves to the other node");
        } else if addresses.iter().any(|earlier| earlier.addr == ip) {
            p.add(&key, value, "stands twice");
        }
        addresses.push(address);
    }
    addresses
}

fn store(top: &mut Section, p: &mut Problems) -> StoreConfig {
    let mut s = optional(top, "store", p);
    let store = StoreConfig {
        log_segment_mib: count(&mut s, "log_segment_mib", 64, 1..=1024, "MiB", p),
        log_cache_mib: count(&mut s, "log_cache_mib", 64, 1..=65_536, "MiB", p),
        checkpoint_interval: seconds(&mut s, "checkpoint_interval_s", 5, 1..=300, p),
        overlay_mib: count(&mut s, "overlay_mib", 256, 16..=65_536, "MiB", p),
        disk_free_min_mib: count(&mut s, "disk_free_min_mib", 512, 16..=1_048_576, "MiB", p),
    };
    s.end(p);
    p.relation(store.disk_free_min_mib >= store.log_segment_mib, "store.disk_free_min_mib", store.disk_free_min_mib, &["store.log_segment_mib"],
        format!("must be at least store.log_segment_mib = {}, or the next file of the log finds no room", store.log_segment_mib));
    store
}

fn http(top: &mut Section, raft: &RaftConfig, p: &mut Problems) -> Option<SocketAddr> {
    let mut s = top.section("http", p)?;
    let listen = s.socket_addr("listen", p);
    if listen.is_none() && !p.is_faulty("http.listen") {
        p.add(
            "http.listen",
            None,
            "is missing; it must be an IP address and a port, as in \"127.0.0.1:9400\"",
        );
    }
    s.end(p);
    if let Some(listen) = listen {
        let overlap = listen.port() == raft.listen.port()
            && (listen.ip() == raft.listen.ip()
                || listen.ip().is_unspecified()
                || raft.listen.ip().is_unspecified());
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
    let format = s.choice(
        "format",
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        false,
        p,
    );
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
