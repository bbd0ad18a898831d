//! The section `[raft]` and its members.

use std::net::SocketAddr;
use std::time::Duration;

use super::{HOST_PORT_NEEDS, NODE_ID, ROLES, name, port_or_none};
use crate::config::net::is_host_port;
use crate::config::raw::{Problems, Section};
use crate::config::{Member, RaftConfig, Role};

/// Timers that fit each other. Milliseconds.
#[derive(Clone, Copy)]
struct Profile {
    heartbeat: u64,
    election_min: u64,
    election_max: u64,
}

/// Nodes in one room or one metropolitan area.
const LAN: Profile = Profile { heartbeat: 50, election_min: 190, election_max: 240 };
/// Nodes tens of milliseconds apart, or a network that stalls at times.
const WAN: Profile = Profile { heartbeat: 150, election_min: 600, election_max: 1200 };

pub(super) fn raft(top: &mut Section, me: &Member, p: &mut Problems) -> RaftConfig {
    let mut s = top.section("raft", p).unwrap_or_else(|| Section::new("raft", toml::Table::new()));
    let listen = s.socket_addr("listen", p);
    if listen.is_none() && !p.is_faulty("raft.listen") {
        p.add(
            "raft.listen",
            None,
            "is missing; it must be this node's own IP address and a port, as in \"10.75.0.1:7400\"",
        );
    }
    let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7400)));
    let advertise = s.text_or_none("advertise", HOST_PORT_NEEDS, p);
    if let Some(text) = advertise.as_ref().filter(|text| !is_host_port(text)) {
        p.add("raft.advertise", Some(format!("{text:?}")), HOST_PORT_NEEDS);
    }
    if advertise.is_none() && listen.ip().is_unspecified() && !p.is_faulty("raft.advertise") {
        p.add(
            "raft.advertise",
            None,
            format!("is missing; raft.listen = \"{listen}\" does not tell the other nodes where this one is"),
        );
    }
    let advertise = advertise.unwrap_or_else(|| listen.to_string());

    let profile = s.choice("profile", &[("lan", LAN), ("wan", WAN)], false, p);
    let heartbeat = s.integer("heartbeat_ms", Some(profile.heartbeat), 5..=10_000, "milliseconds", p);
    let election_min = s.integer("election_min_ms", Some(profile.election_min), 20..=60_000, "milliseconds", p);
    let election_max = s.integer("election_max_ms", Some(profile.election_max), 30..=120_000, "milliseconds", p);
    // A tenth for the difference in pace of two clocks and for the time a leader needs to stop.
    let lease = s.integer("lease_ms", Some(election_max - election_max / 10), 20..=119_999, "milliseconds", p);
    p.relation(
        heartbeat < election_min,
        "raft.heartbeat_ms",
        heartbeat,
        &["raft.election_min_ms"],
        format!("must be less than raft.election_min_ms = {election_min}, or a healthy leader is voted out"),
    );
    p.relation(
        election_min < election_max,
        "raft.election_min_ms",
        election_min,
        &["raft.election_max_ms"],
        format!(
            "must be less than raft.election_max_ms = {election_max}, or two nodes keep standing at the same moment"
        ),
    );
    p.relation(
        lease < election_max,
        "raft.lease_ms",
        lease,
        &["raft.election_max_ms"],
        format!("must be less than raft.election_max_ms = {election_max}, or two nodes may believe that they lead"),
    );
    p.relation(
        heartbeat < lease,
        "raft.lease_ms",
        lease,
        &["raft.heartbeat_ms", "raft.election_max_ms"],
        format!("must be more than raft.heartbeat_ms = {heartbeat}, or the lease ends between two heartbeats"),
    );

    let members = s.sections("members", p);
    let given = members.is_some();
    let members: Vec<Member> = members.unwrap_or_default().into_iter().map(|section| member(section, p)).collect();
    let release_port = port_or_none(&mut s, "release_port", p);
    let bootstrap = s.flag("bootstrap", false, p);
    s.end(p);
    if bootstrap && !given && !p.is_faulty("raft.members") {
        p.add(
            "raft.members",
            None,
            "is missing; with raft.bootstrap = true it must list all first members, this node included",
        );
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
    Member { id, name, addr, role }
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
        format!("is this node, whose name is {:?}; both must be the same", me.name),
    );
    p.relation(
        own.role == me.role,
        &key("role"),
        format_args!("\"{}\"", own.role),
        &["role", "node_id"],
        format!("is this node, whose role is \"{}\"; both must be the same", me.role),
    );
    p.relation(
        own.addr == advertise,
        &key("addr"),
        format_args!("{:?}", own.addr),
        &["raft.listen", "raft.advertise", "node_id"],
        format!("is this node, whose raft.advertise is {advertise:?}; both must be the same"),
    );
    let data = members.iter().any(|member| member.role == Role::Data);
    p.relation(data, "raft.members", "only witnesses", &[], "must hold at least one member with role = \"data\"");
}
