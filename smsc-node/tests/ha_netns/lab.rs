//! Hosts `a`, `b`, `c` as network namespaces on a bridge in a namespace of its own.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use smsc_node::ha::ReleaseCertificate;
use smsc_node::ha::netlink::AddressTable;

const HOSTS: [&str; 3] = ["a", "b", "c"];
static LABS: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    prefix: String,
}

impl Lab {
    /// `None` without root.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("ht{}-{number}", std::process::id()) };
        for host in ["sw", "a", "b", "c"] {
            run(&format!("netns add {}", lab.namespace(host)));
            lab.ip(host, "link set lo up");
        }
        lab.switch("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        lab.switch("link set br0 up");
        for (index, host) in HOSTS.iter().enumerate() {
            let number = index + 1;
            lab.switch(&format!("link add p-{host} type veth peer name eth0 netns {}", lab.namespace(host)));
            lab.ip(host, &format!("link set eth0 address {}", lab.mac(host)));
            lab.switch(&format!("link set p-{host} master br0 up"));
            lab.ip(host, "link set eth0 up");
            lab.ip(host, &format!("addr add 10.78.0.{number}/24 dev eth0"));
            lab.ip(host, &format!("addr add fd00:78::{number}/64 dev eth0 nodad"));
        }
        Some(lab)
    }

    /// Plugs the host into the network a second time, as eth1.
    pub fn second_interface(&self, host: &str) {
        self.switch(&format!("link add q-{host} type veth peer name eth1 netns {}", self.namespace(host)));
        self.switch(&format!("link set q-{host} master br0 up"));
        self.ip(host, "link set eth1 up");
        let number = host_number(host) + 10;
        self.ip(host, &format!("addr add 10.78.0.{number}/24 dev eth1"));
    }

    /// Runs `work` on a thread inside the host's namespace; processes it starts are inside, too.
    pub fn within<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).expect("made by new");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn ip(&self, host: &str, arguments: &str) {
        run(&format!("-n {} {arguments}", self.namespace(host)));
    }

    /// Makes the host forget where `address` is; it need not know.
    pub fn forget_neighbour(&self, host: &str, address: &str) {
        let arguments = ["-n", &self.namespace(host), "neigh", "del", address, "dev", "eth0"];
        let _ = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    }

    pub fn tc(&self, host: &str, arguments: &str) {
        let output = Command::new("tc").args(["-n", &self.namespace(host)]).args(arguments.split_whitespace()).output();
        let output = output.expect("iproute2 is installed");
        assert!(output.status.success(), "tc {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// How many filters of ours the host's interface has, both ways.
    pub fn filters(&self, host: &str, interface: &str) -> usize {
        let show = |hook: &str| {
            let namespace = self.namespace(host);
            let output = Command::new("tc").args(["-n", &namespace, "filter", "show", "dev", interface, hook]).output();
            String::from_utf8_lossy(&output.expect("iproute2 is installed").stdout).matches("smsc-lease").count()
        };
        show("ingress") + show("egress")
    }

    pub fn switch(&self, arguments: &str) {
        self.ip("sw", arguments);
    }

    pub fn mac(&self, host: &str) -> String {
        format!("02:00:00:00:01:0{}", host_number(host))
    }

    pub fn address(&self, host: &str, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 78, 0, host_number(host)], port))
    }

    /// Gives the host an entry that says `address` is at `at`.
    pub fn set_neighbour(&self, host: &str, address: &str, at: &str, state: &str) {
        let mac = self.mac(at);
        self.ip(host, &format!("neigh replace {address} lladdr {mac} dev eth0 nud {state}"));
    }

    pub fn neighbour(&self, host: &str, address: &str) -> String {
        run(&format!("-n {} neigh show {address}", self.namespace(host)))
    }

    /// TCP segments that reached the host, from its kernel's counters.
    pub fn tcp_segments_received(&self, host: &str) -> u64 {
        self.tcp_counter(host, "InSegs")
    }

    /// TCP segments that the host sent, or has ready to be sent.
    pub fn tcp_segments_sent(&self, host: &str) -> u64 {
        self.tcp_counter(host, "OutSegs")
    }

    /// TCP segments that the host had to send again.
    pub fn tcp_segments_repeated(&self, host: &str) -> u64 {
        self.tcp_counter(host, "RetransSegs")
    }

    fn tcp_counter(&self, host: &str, name: &str) -> u64 {
        self.within(host, || {
            let table = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("procfs");
            let rows: Vec<Vec<&str>> = table
                .lines()
                .filter(|line| line.starts_with("Tcp:"))
                .map(|line| line.split_whitespace().collect())
                .collect();
            let column = rows[0].iter().position(|column| *column == name).expect("snmp(7)");
            rows[1][column].parse().expect("a number")
        })
    }

    /// Watches for the address to go, on a thread of its own: when it was last asked for and there, and when it was
    /// first asked for in vain.
    pub fn watch_address(&self, host: &str, address: IpAddr) -> JoinHandle<(Instant, Instant)> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).expect("made by new");
        let (saw, sighted) = channel();
        let watch = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            let mut table = AddressTable::open().expect("netlink");
            let begun = Instant::now();
            let mut seen = begun;
            loop {
                let asked = Instant::now();
                if table.find(address).expect("dump").is_empty() {
                    return (seen, asked);
                }
                seen = asked;
                let _ = saw.send(());
                assert!(begun.elapsed() < Duration::from_secs(10), "the address stays");
                thread::sleep(Duration::from_micros(50));
            }
        });
        // A fault that follows is watched from its first moment.
        sighted.recv().expect("the address is there");
        watch
    }

    pub fn release_listener(&self, host: &str, port: u16) -> CertificateSink {
        let address = self.address(host, port);
        self.within(host, || CertificateSink::bind(address))
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in ["a", "b", "c", "sw"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).output();
        }
    }
}

/// Receives certificates and notes when they came.
pub struct CertificateSink {
    socket: UdpSocket,
}

impl CertificateSink {
    pub fn bind(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a positive span");
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub fn next(&mut self) -> (ReleaseCertificate, Instant) {
        let mut buffer = [0; 100];
        let length = self.socket.recv(&mut buffer).expect("a certificate comes");
        (ReleaseCertificate::decode(&buffer[..length]).expect("well formed"), Instant::now())
    }
}

fn host_number(host: &str) -> u8 {
    let index = HOSTS.iter().position(|name| *name == host).expect("a host of the lab");
    u8::try_from(index + 1).expect("three hosts")
}

fn run(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
