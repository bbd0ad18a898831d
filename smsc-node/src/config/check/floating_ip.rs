//! The section `[floating_ip]`.

use std::time::Duration;

use super::{data_only, seconds};
use crate::config::raw::{Problems, Section};
use crate::config::{FloatingIpConfig, FloatingIpMode, FloatingNet, HostNet, RaftConfig, Role};

pub(super) fn floating_ip(
    top: &mut Section,
    role: Role,
    raft: &RaftConfig,
    p: &mut Problems,
) -> Option<FloatingIpConfig> {
    let mut s = data_only(top, "floating_ip", role, p)?;
    let modes = [("interface", FloatingIpMode::Interface), ("loopback", FloatingIpMode::Loopback)];
    let mode = s.choice("mode", &modes, true, p);
    let mode_known = !p.is_faulty("floating_ip.mode");
    let read = floating_addresses(&mut s, mode_known.then_some(mode == FloatingIpMode::Loopback), raft, p);
    let interface = s.text_or_none("interface", INTERFACE_NEEDS, p);
    let some_need_it = read.is_empty() || read.iter().any(|(_, own)| own.is_none());
    match &interface {
        Some(name) if !is_interface_name(name) => {
            p.add("floating_ip.interface", Some(format!("{name:?}")), INTERFACE_NEEDS);
        }
        Some(name) if mode_known && mode == FloatingIpMode::Loopback => {
            p.add("floating_ip.interface", Some(format!("{name:?}")), "goes with mode = \"interface\" only; remove it");
        }
        None if some_need_it
            && mode_known
            && mode == FloatingIpMode::Interface
            && !p.is_faulty("floating_ip.interface") =>
        {
            p.add("floating_ip.interface", None, format!("is missing; {INTERFACE_NEEDS}"));
        }
        _ => {}
    }
    let interface = interface.unwrap_or_default();
    let addresses = read
        .into_iter()
        .map(|(net, own)| FloatingNet { net, interface: own.unwrap_or_else(|| interface.clone()) })
        .collect();
    let valid_lft = seconds(&mut s, "valid_lft_s", 2, 1..=60, p);
    let probe = s.integer("probe_ms", Some(0), 0..=1000, "milliseconds", p);
    s.end(p);
    p.relation(
        valid_lft > raft.lease,
        "floating_ip.valid_lft_s",
        valid_lft.as_secs(),
        &["raft.lease_ms", "raft.election_max_ms"],
        format!(
            "must be longer than raft.lease_ms = {}, or the kernel drops the address while the node leads",
            raft.lease.as_millis()
        ),
    );
    Some(FloatingIpConfig { mode, addresses, valid_lft, probe: Duration::from_millis(probe) })
}

const INTERFACE_NEEDS: &str = "must be the name of a network interface, 1 to 15 characters, as `ip link` shows it";

fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len()) && !name.bytes().any(|b| b.is_ascii_whitespace() || b == b'/' || b == b':' || b == 0)
}

/// The floating addresses, with the interfaces that they name themselves. `loopback` is `None` where the mode is not
/// known, and then the kind is not judged.
fn floating_addresses(
    s: &mut Section,
    loopback: Option<bool>,
    raft: &RaftConfig,
    p: &mut Problems,
) -> Vec<(HostNet, Option<String>)> {
    const NEEDS: &str = "must be a list of addresses, as in [\"10.75.0.100/32\", \"10.75.8.100/32 dev eth0.8\"]";
    let texts = s.texts("addresses", NEEDS, p);
    if texts.as_ref().is_none_or(Vec::is_empty) && !p.is_faulty("floating_ip.addresses") {
        p.add("floating_ip.addresses", None, format!("is missing or empty; it {NEEDS}"));
    }
    let mut addresses: Vec<(HostNet, Option<String>)> = Vec::new();
    for (index, text) in texts.unwrap_or_default().iter().enumerate() {
        let key = format!("floating_ip.addresses[{index}]");
        let value = Some(format!("{text:?}"));
        let (net, interface) = FloatingNet::split(text);
        let address = match net.parse::<HostNet>() {
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
            p.add(&key, value, "must be a loopback address (127.0.0.0/8 or ::1) with mode = \"loopback\"");
        } else if loopback == Some(false) && ip.is_loopback() {
            p.add(
                &key,
                value,
                "must not be a loopback address with mode = \"interface\"; other hosts could not reach it",
            );
        } else if ip == raft.listen.ip() && !ip.is_loopback() {
            p.add(&key, value, "must not be this node's own address (raft.listen), because it moves to the other node");
        } else if addresses.iter().any(|(earlier, _)| earlier.addr == ip) {
            p.add(&key, value, "stands twice");
        } else if loopback == Some(true) && interface.is_some() {
            p.add(&key, value, "names an interface, which goes with mode = \"interface\" only; remove it");
        } else if interface.is_some_and(|name| !is_interface_name(name)) {
            p.add(&key, value, format!("names an interface that cannot be one: it {INTERFACE_NEEDS}"));
        }
        addresses.push((address, interface.map(str::to_owned)));
    }
    addresses
}
