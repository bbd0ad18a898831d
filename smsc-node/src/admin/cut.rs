//! Cutting this host off for a while, so that it comes back whatever happens to whoever asked for it.
//!
//! Packets are dropped by a rule of the kernel (nftables, in a table of the drill's own) that holds for interfaces
//! named in a set; the interfaces are put into the set with a timeout, and it is the kernel that takes them out again.
//! No process has to live for that, neither `smscctl` nor this one.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;

/// The table of the drill; removed when the cut is over, and replaced by the next one if it was left behind.
const TABLE: &str = "netdev smsc_drill";
/// Before all other chains.
const PRIORITY: i32 = -500;

/// A cut whose rules are in place and that has not begun.
pub(super) struct Cut {
    interfaces: Vec<String>,
}

impl Cut {
    /// Puts the rules in place for the interface that has `peers_ip` and those of the floating addresses.
    ///
    /// # Errors
    /// A sentence for the operator: the node has no network of its own, or nftables cannot be used here.
    pub(super) fn prepare(peers_ip: IpAddr, floating_interfaces: &[String]) -> Result<Self, String> {
        let mut interfaces = floating_interfaces.to_vec();
        let towards_peers =
            interface_of(peers_ip).ok_or_else(|| format!("no interface of this host has {peers_ip}"))?;
        if peers_ip.is_loopback() {
            return Err("the nodes of this cluster share this host's loopback, which cannot be cut for one of them; \
                        rehearse this on nodes with addresses of their own, such as those of scripts/lab"
                .to_owned());
        }
        interfaces.push(towards_peers);
        interfaces.sort_unstable();
        interfaces.dedup();
        nft(&rules(&interfaces))?;
        Ok(Self { interfaces })
    }

    /// Cuts, waits until it is over, and removes the rules.
    pub(super) fn strike(self, pause: Duration) {
        tracing::warn!(interfaces = ?self.interfaces, pause_ms = pause.as_millis(), "a drill cuts this host off");
        if let Err(text) = nft(&elements(&self.interfaces, pause)) {
            tracing::error!("the drill is off: {text}");
            return;
        }
        thread::sleep(pause);
        tracing::warn!("the cut of the drill is over");
        if let Err(text) = nft(&format!("delete table {TABLE}\n")) {
            tracing::warn!("the drill's empty rules are left behind: {text}");
        }
    }
}

fn interface_of(ip: IpAddr) -> Option<String> {
    let has = |storage: nix::sys::socket::SockaddrStorage| match ip {
        IpAddr::V4(v4) => storage.as_sockaddr_in().is_some_and(|found| found.ip() == v4),
        IpAddr::V6(v6) => storage.as_sockaddr_in6().is_some_and(|found| found.ip() == v6),
    };
    getifaddrs().ok()?.find(|entry| entry.address.is_some_and(has)).map(|entry| entry.interface_name)
}

fn quoted(interfaces: &[String]) -> String {
    interfaces.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn rules(interfaces: &[String]) -> String {
    let devices = quoted(interfaces);
    // Declared first, so that there is one to delete.
    format!(
        "table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n\
         set cut {{ type ifname; flags timeout; }}\n\
         chain in {{ type filter hook ingress devices = {{ {devices} }} priority {PRIORITY}; iifname @cut drop; }}\n\
         chain out {{ type filter hook egress devices = {{ {devices} }} priority {PRIORITY}; oifname @cut drop; }}\n\
         }}\n"
    )
}

fn elements(interfaces: &[String], pause: Duration) -> String {
    let timed = |name: &String| format!("\"{name}\" timeout {}ms", pause.as_millis());
    let timed = interfaces.iter().map(timed).collect::<Vec<_>>().join(", ");
    format!("add element {TABLE} cut {{ {timed} }}\n")
}

/// Has `nft` (of the package nftables) carry out a script as a whole or not at all.
fn nft(script: &str) -> Result<(), String> {
    let failed = |what: String| format!("a cut needs nft of the package nftables and CAP_NET_ADMIN: {what}");
    let program = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"]
        .into_iter()
        .find(|path| std::fs::exists(path).is_ok_and(|there| there));
    let program = program.ok_or_else(|| failed("nft is not installed".to_owned()))?;
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match (output.status.success(), written) {
        (true, Some(Ok(()))) => Ok(()),
        _ => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_come_out_by_themselves() {
        let interfaces = ["eth0".to_owned(), "eth1.7".to_owned()];
        assert_eq!(
            elements(&interfaces, Duration::from_millis(2500)),
            "add element netdev smsc_drill cut { \"eth0\" timeout 2500ms, \"eth1.7\" timeout 2500ms }\n"
        );
        assert!(rules(&interfaces).contains("hook egress devices = { \"eth0\", \"eth1.7\" }"));
    }

    #[test]
    fn loopback_is_not_cut() {
        let refused = Cut::prepare(IpAddr::from([127, 0, 0, 1]), &[]).err().expect("refused");
        assert!(refused.contains("loopback"), "{refused}");
    }
}
