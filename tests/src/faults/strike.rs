//! Brings faults about on the hosts of a lab, and undoes them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_proto::rpc::admin::{FaultRequest, HandoverRequest, fault_request::Kind};
use tonic::transport::Endpoint;

use super::plan::Fault;
use crate::lab::{self, Lab};

/// The longest a node may take to answer an operator.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// What queues behind a slow link before it is dropped.
const SLOW_LATENCY: &str = "400ms";

/// A fault that lasts until it is undone.
#[derive(Clone, Debug)]
pub struct Struck {
    /// What.
    pub fault: Fault,
    /// On which host.
    pub host: String,
}

/// Has this happen to that host now. `None` says that it could not: the host's node was dead, or had no leadership to
/// hand over.
///
/// # Panics
/// If the lab itself does not work.
pub fn strike(lab: &Lab, fault: Fault, host: &str) -> Option<Struck> {
    let struck = match fault {
        Fault::Kill => signal(lab.node_pid(host), Signal::SIGKILL),
        Fault::Freeze => signal(lab.node_pid(host), Signal::SIGSTOP),
        Fault::FreezeHost => lab.try_fault(lab::Fault::FreezeHost, host),
        Fault::Restart => signal(lab.node_pid(host), Signal::SIGTERM),
        Fault::GuardKill => guards(lab, host).into_iter().any(|pid| signal(Some(pid), Signal::SIGKILL)),
        Fault::Cut => {
            lab.fault(lab::Fault::Cut, host);
            true
        }
        Fault::Mute => {
            switch(lab, host, &format!("chain c {{ type filter hook ingress device \"p-{host}\" priority 0; drop; }}"))
        }
        Fault::Deaf => {
            switch(lab, host, &format!("chain c {{ type filter hook egress device \"p-{host}\" priority 0; drop; }}"))
        }
        Fault::Split => split(lab, host),
        Fault::SlowLink(kbit) => {
            let rate = format!("{kbit}kbit");
            let shape = ["root", "tbf", "rate", &rate, "burst", "8kb", "latency", SLOW_LATENCY];
            let out = tc(lab, host, "eth0", "replace", &shape);
            tc(lab, "sw", &format!("p-{host}"), "replace", &shape) && out
        }
        Fault::DiskFull => fill(lab, host).is_ok(),
        Fault::ClockStep(by_ms) => {
            let clock_step_ms = i64::from(by_ms);
            ask(lab, host, FaultRequest { kind: Kind::ClockStep as i32, clock_step_ms, ..Default::default() })
        }
        Fault::DiskStall(freeze_ms) => {
            ask(lab, host, FaultRequest { kind: Kind::DiskStall as i32, freeze_ms, ..Default::default() })
        }
        Fault::Handover => hand_over(lab, host),
    };
    struck.then(|| Struck { fault, host: host.to_owned() })
}

/// Undoes what does not end by itself. To start a dead node again, to thaw and to plug in is [`Lab::heal`]'s, which is to
/// follow.
pub fn undo(lab: &Lab, struck: &Struck) {
    let host = struck.host.as_str();
    match struck.fault {
        Fault::Mute | Fault::Deaf | Fault::Split => {
            nft(lab, &format!("table netdev {0}\ndelete table netdev {0}\n", table(host)));
        }
        Fault::SlowLink(_) => {
            // One that a cut took with it is gone as well.
            tc(lab, host, "eth0", "del", &["root"]);
            tc(lab, "sw", &format!("p-{host}"), "del", &["root"]);
        }
        Fault::DiskFull => drop(std::fs::remove_file(filler(lab, host))),
        Fault::ClockStep(by_ms) => {
            // A node that ended meanwhile starts with the right time.
            let clock_step_ms = -i64::from(by_ms);
            ask(lab, host, FaultRequest { kind: Kind::ClockStep as i32, clock_step_ms, ..Default::default() });
        }
        Fault::Kill
        | Fault::Freeze
        | Fault::FreezeHost
        | Fault::Cut
        | Fault::DiskStall(_)
        | Fault::Restart
        | Fault::GuardKill
        | Fault::Handover => {}
    }
}

/// Lets the node's process on that host go on if it stands still.
pub fn thaw(lab: &Lab, host: &str) {
    // Whatever runs already is left as it is, and one that is dead has nothing to hear.
    signal(lab.node_pid(host), Signal::SIGCONT);
}

fn signal(pid: Option<Pid>, signal: Signal) -> bool {
    pid.is_some_and(|pid| kill(pid, signal).is_ok())
}

/// The guards that run on a host.
fn guards(lab: &Lab, host: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", &lab.namespace(host)]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pids = text.split_whitespace().filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == "smsc-guard")
    });
    pids.filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

fn table(host: &str) -> String {
    format!("faults_{host}")
}

fn switch(lab: &Lab, host: &str, chain: &str) -> bool {
    let table = table(host);
    nft(lab, &format!("table netdev {table}\ndelete table netdev {table}\ntable netdev {table} {{\n{chain}\n}}\n"))
}

/// What each of the two data hosts sends to the other's hardware address is dropped at its port.
fn split(lab: &Lab, host: &str) -> bool {
    let other = match host {
        "a" => "b",
        "b" => "a",
        _ => return false,
    };
    let chain = |from: &str, to: &str| {
        let mac = lab.hardware_address(to).map(|octet| format!("{octet:02x}")).join(":");
        format!("chain {from} {{ type filter hook ingress device \"p-{from}\" priority 0; ether daddr {mac} drop; }}\n")
    };
    switch(lab, host, &format!("{}{}", chain(host, other), chain(other, host)))
}

fn nft(lab: &Lab, script: &str) -> bool {
    let mut command = lab.command("sw", "nft");
    command.arg(script).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn tc(lab: &Lab, namespace: &str, device: &str, action: &str, what: &[&str]) -> bool {
    let mut command = lab.command(namespace, "tc");
    command.args(["qdisc", action, "dev", device]).args(what);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn filler(lab: &Lab, host: &str) -> PathBuf {
    lab.state_dir.join(host).join("filler")
}

/// Takes all the room that is left on the host's disk, which is small and its own.
fn fill(lab: &Lab, host: &str) -> io::Result<()> {
    let path = filler(lab, host);
    let disk = statvfs(path.parent().expect("in the node's folder"))?;
    let free = disk.blocks_available() * disk.fragment_size();
    let file = File::create(&path)?;
    // The node writes meanwhile: what is left is taken in ever smaller pieces.
    let (mut at, mut piece) = (0_i64, i64::try_from(free).unwrap_or(i64::MAX));
    while piece >= 4096 {
        match fallocate(file.as_fd(), FallocateFlags::empty(), at, piece) {
            Ok(()) => at += piece,
            Err(_) => piece /= 2,
        }
    }
    Ok(())
}

fn ask(lab: &Lab, host: &str, request: FaultRequest) -> bool {
    let node_id = match host {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    let request = FaultRequest { node_id, ..request };
    asked(lab, host, async |client| client.fault(request).await.is_ok())
}

fn hand_over(lab: &Lab, host: &str) -> bool {
    asked(lab, host, async |client| client.handover(HandoverRequest::default()).await.is_ok())
}

/// Asks the node on `host` as an operator does; false if it does not answer.
fn asked(lab: &Lab, host: &str, ask: impl AsyncFnOnce(&mut AdminClient<tonic::transport::Channel>) -> bool) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let socket = lab.state_dir.join(format!("{host}.sock"));
    runtime.block_on(async {
        let asking = async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).ok()?;
            let mut client = AdminClient::new(endpoint.connect().await.ok()?);
            Some(ask(&mut client).await)
        };
        tokio::time::timeout(ASK_WITHIN, asking).await.ok().flatten().unwrap_or(false)
    })
}
