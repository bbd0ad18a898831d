//! A daemon that does nothing but hold the address, as a process of its own that can be killed and frozen.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smsc_node::ha::{
    FloatingAddress, FloatingIp, FloatingIpConfig, FloatingMode, GuardCommand, HaError, HoldState, Leadership, Lease,
    MonoTime,
};

pub const VIP4: &str = "10.78.0.100";
pub const VIP6: &str = "fd00:78::64";
/// Address, prefix length, interface.
const VIPS: &[(&str, u8, &str)] = &[(VIP4, 32, "eth0"), (VIP6, 128, "eth0")];
const LOOPBACK_VIPS: &[(&str, u8, &str)] = &[("127.0.0.100", 32, "")];

/// Says that a process of this test binary is a helper, and carries its options.
const ROLE: &str = "SMSC_HA_TEST_DAEMON";
/// What the helper says begins with this, so that the test harness's own lines are told apart.
const MARK: &str = "HA ";

#[derive(Clone)]
pub struct NodeOptions {
    pub valid_lft_s: u32,
    pub peer: Option<SocketAddr>,
    pub loopback: bool,
    pub node_id: u64,
    /// How long a claim waits for others to answer.
    pub probe_wait: Duration,
    pub addresses: &'static [(&'static str, u8, &'static str)],
    /// Memory that it takes, MB.
    pub memory: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            valid_lft_s: 2,
            peer: None,
            loopback: false,
            node_id: 1,
            probe_wait: Duration::ZERO,
            addresses: VIPS,
            memory: 0,
        }
    }
}

/// Opens the floating IP of the lab in the namespace of the calling thread.
pub fn open(options: &NodeOptions) -> Result<FloatingIp, HaError> {
    let vips = if options.loopback { LOOPBACK_VIPS } else { options.addresses };
    let addresses = vips.iter().map(|(address, prefix_len, interface)| FloatingAddress {
        address: address.parse().expect("literal"),
        prefix_len: *prefix_len,
        interface: (*interface).to_owned(),
    });
    FloatingIp::open(FloatingIpConfig {
        mode: if options.loopback { FloatingMode::Loopback } else { FloatingMode::Netlink },
        addresses: addresses.collect(),
        valid_lft_s: options.valid_lft_s,
        renew_interval: Duration::from_millis(300),
        probe_wait: options.probe_wait,
        cluster_id: 99,
        node_id: options.node_id,
        peers: options.peer.into_iter().collect(),
        guard: GuardCommand { program: env!("CARGO_BIN_EXE_smsc-node").into(), args: vec!["guard".into()] },
    })
}

/// Extends the lease as long as it lives, as confirmed heartbeats would.
pub fn keep_extending(lease: &Arc<Lease>, length: Duration) {
    lease.extend(MonoTime::now() + length);
    let lease = Arc::downgrade(lease);
    thread::spawn(move || {
        while lease.upgrade().is_some_and(|lease| lease.extend(MonoTime::now() + length)) {
            thread::sleep(Duration::from_millis(30));
        }
    });
}

/// A running helper daemon.
pub struct Node {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
    token_hash: [u8; 32],
    guard_pid: u32,
}

impl Node {
    /// Starts it in the namespace of the calling thread; it claims at once, under term 7.
    pub fn start(options: &NodeOptions) -> Self {
        let peer = options.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "helper_daemon", "--nocapture", "--test-threads=1"])
            .env(
                ROLE,
                format!(
                    "{},{},{peer},{}",
                    if options.loopback { "loopback" } else { "netlink" },
                    options.valid_lft_s,
                    options.memory
                ),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (say, said) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, message)) = line.split_once(MARK) {
                    let _ = say.send(message.to_owned());
                }
            }
        });
        let mut node = Self { child, stdin, said, token_hash: [0; 32], guard_pid: 0 };
        let hello = node.next();
        let mut words = hello.split_whitespace();
        node.guard_pid = words.next().and_then(|pid| pid.parse().ok()).expect("the guard's pid");
        let hex = words.next().expect("the hash");
        for (byte, digits) in node.token_hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("hex");
            *byte = u8::from_str_radix(digits, 16).expect("hex");
        }
        node
    }

    pub fn expect(&mut self, wanted: &str) {
        let said = self.next();
        assert_eq!(said, wanted);
    }

    pub fn expect_end(&mut self) {
        assert!(self.child.wait().expect("ours").success());
    }

    pub fn expect_killed(&mut self) {
        assert!(!self.child.wait().expect("ours").success());
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it reads");
    }

    pub fn signal(&self, signal: Signal) {
        signal_process(self.child.id(), signal);
    }

    pub fn guard_pid(&self) -> u32 {
        self.guard_pid
    }

    pub fn token_hash(&self) -> [u8; 32] {
        self.token_hash
    }

    fn next(&mut self) -> String {
        self.said.recv_timeout(Duration::from_secs(10)).expect("the helper says something")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper daemon; returns at once in an ordinary test run.
pub fn daemon_main() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let mut words = role.split(',');
    let mut word = || words.next().expect("written by start");
    let (mode, valid_lft_s, peer, memory) = (word(), word(), word(), word());
    let options = NodeOptions {
        loopback: mode == "loopback",
        valid_lft_s: valid_lft_s.parse().expect("written by start"),
        peer: peer.parse().ok(),
        memory: memory.parse().expect("written by start"),
        ..NodeOptions::default()
    };
    // Written to, so that it is really there, to the end.
    let _memory = vec![1_u8; options.memory << 20];
    let ip = open(&options).expect("the test has looked");
    let lease = Lease::new(7);
    keep_extending(&lease, Duration::from_millis(300));
    let hex: String = lease.release_token_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    say(&format!("{} {hex}", ip.guard_pid().expect("open starts it")));
    let hold = ip.claim(&Leadership::new(Arc::clone(&lease))).expect("nobody else has it");
    if !options.loopback {
        // Both families, as an IPv6 socket takes them in.
        let listener = TcpListener::bind(("::", 2775)).expect("a free port");
        let keeper = ip.keeper().expect("not in loopback mode");
        thread::spawn(move || {
            let mut served = Vec::new();
            for connection in listener.incoming() {
                let connection: Arc<TcpStream> = Arc::new(connection.expect("somebody connects"));
                let socket: Weak<TcpStream> = Arc::downgrade(&connection);
                served.push((keeper.keep(socket), connection));
                say("accepted");
            }
        });
    }
    say("held");
    let watched = hold.watch();
    thread::spawn(move || {
        wait_until_within("the hold ends", Duration::from_secs(60), || *watched.borrow() != HoldState::Held);
        match *watched.borrow() {
            HoldState::Lost(reason) => say(&format!("lost {reason:?}")),
            state => say(&format!("{state:?}").to_lowercase()),
        }
    });
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "end" => lease.end(),
            "release" => {
                hold.release().expect("root may");
                thread::sleep(Duration::from_millis(50));
                return;
            }
            other => panic!("unknown word {other}"),
        }
    }
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    wait_until_within(what, Duration::from_secs(8), done);
}

pub fn wait_until_within(what: &str, limit: Duration, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "waited in vain: {what}");
        thread::sleep(Duration::from_micros(500));
    }
}

/// Waits until the guard has opened what passes on requests to connect, which it does after it has taken over the watch.
pub fn wait_until_guard_is_ready(pid: u32) {
    // An ear for the requests, an ear for the new owner, and a sender.
    let packet_sockets = 3 * VIPS.len();
    wait_until("the guard has opened what passes on", || {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/packet")).expect("it runs and is ours");
        let inodes: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs and is ours");
        let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        let is_packet = |to: &std::path::PathBuf| {
            let name = to.to_string_lossy();
            inodes.iter().any(|inode| name == format!("socket:[{inode}]"))
        };
        links.filter(is_packet).count() == packet_sockets
    });
}

/// How many file descriptors the guard has open when it keeps no socket of a session, once it is ready.
pub fn files_of_bare_guard(pid: u32) -> usize {
    wait_until_guard_is_ready(pid);
    open_files(pid)
}

/// How many file descriptors a process of ours has open.
pub fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs and is ours").count()
}

pub fn process_exists(pid: u32) -> bool {
    // A zombie whose parent has not looked yet has ended.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn signal_process(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("it is ours");
}

fn say(message: &str) {
    println!("{MARK}{message}");
}
