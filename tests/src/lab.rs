//! A cluster of real processes in network namespaces, made by `scripts/lab`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde::Deserialize;

/// How long the cluster may take to be whole again after a fault is undone.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Labs share the machine's two cores with their load: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// The nodes of a lab that is no pair; the witness, which no fault of the other two concerns, is asked first.
const WITH_WITNESS: &[&str] = &["w", "a", "b"];
/// The network between the two of [`Lab::two`].
const BETWEEN: &str = "10.76.255";
/// Numbers networks and names of this process's labs.
static LABS: AtomicU8 = AtomicU8::new(0);

/// What `scripts/lab fault` can do to a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9.
    Kill,
    /// SIGSTOP.
    Freeze,
    /// SIGSTOP of all that runs on the host, the guard of the address too.
    FreezeHost,
    /// The cable is pulled.
    Cut,
    /// Traffic is lost, the carrier stays.
    Partition,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::FreezeHost => "freeze-host",
            Fault::Cut => "cut",
            Fault::Partition => "partition",
        }
    }
}

/// A lab that runs; `Drop` takes it down, after a panic as well.
#[derive(Debug)]
pub struct Lab {
    name: String,
    net: String,
    script: PathBuf,
    /// Where the nodes keep everything.
    pub state_dir: PathBuf,
    nodes: &'static [&'static str],
    _turn: Option<MutexGuard<'static, ()>>,
}

/// A host, as `scripts/lab status --json` tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Host {
    /// Its network namespace.
    pub namespace: String,
    /// Its own address.
    pub ip: String,
    /// running, frozen, dead or none.
    pub process: String,
    /// Of its node.
    pub pid: Option<i32>,
    /// The admin socket of its node.
    pub socket: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
struct LabStatus {
    state_dir: PathBuf,
    leader: Option<String>,
    hosts: BTreeMap<String, Host>,
}

/// What is read of `smscctl status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterStatus {
    /// 0 for none.
    pub leader_id: u64,
    /// Of the node that answered.
    pub term: u64,
    /// A majority answers.
    pub quorum_healthy: bool,
    /// 0 for none.
    pub address_holder: u64,
    /// Members that do not answer.
    pub unreachable: Vec<u64>,
    /// The members.
    pub members: Vec<Member>,
}

/// A member, as `smscctl status --json` tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Unique in the cluster.
    pub node_id: u64,
    /// The host's name.
    pub name: String,
    /// Why it would not take over now; empty if it would.
    #[serde(default)]
    pub not_ready: String,
    /// data or witness.
    pub role: String,
    /// How a node of a pair stands.
    #[serde(default)]
    pub pair: Option<Pair>,
}

/// How a node of a pair stands, as `smscctl status --json` tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Pair {
    /// outdated, in-sync or sole.
    pub standing: String,
    /// Whether it goes on alone now.
    pub armed: bool,
}

/// Says loudly that a test is left out. In CI (`CI=true`) nothing may be: there it fails the test.
///
/// # Panics
/// In CI.
pub fn skip(reason: &str) {
    // Not eprintln, which the test runner would hide.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "nothing may be skipped in CI: {reason}");
}

/// Prints a line past the test runner's capture.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Lab {
    /// A lab that is ready, or `None` with a loud word if this machine or this run is not meant for one.
    ///
    /// # Panics
    /// If the lab does not come up; its own words say why.
    pub fn up() -> Option<Lab> {
        Self::up_with(&[])
    }

    /// As [`Lab::up`], with these variables in the environment of `scripts/lab`.
    ///
    /// # Panics
    /// As [`Lab::up`].
    pub fn up_with(environment: &[(&str, &str)]) -> Option<Lab> {
        Self::in_turn(&["up"], WITH_WITNESS, environment)
    }

    /// A lab of two nodes alone with this quorum device (fence or operator); otherwise as [`Lab::up`].
    ///
    /// # Panics
    /// If the lab does not come up; its own words say why.
    pub fn pair(device: &str) -> Option<Lab> {
        Self::in_turn(&["up", "--pair", device], &["a", "b"], &[])
    }

    /// Two clusters that reach each other by way of their `esme` hosts, otherwise as [`Lab::up_with`]. The first one is to
    /// be dropped last.
    ///
    /// # Panics
    /// As [`Lab::up`], or if the networks cannot be joined.
    pub fn two(environment: &[(&str, &str)]) -> Option<[Lab; 2]> {
        let turn = Self::turn()?;
        let mut labs = [Lab::numbered(WITH_WITNESS), Lab::numbered(WITH_WITNESS)];
        labs[0]._turn = Some(turn);
        let starting = [labs[0].starting(&["up"], environment), labs[1].starting(&["up"], environment)];
        for (lab, starting) in labs.iter_mut().zip(starting) {
            lab.started(&["up"], starting);
        }
        labs[0].join(&labs[1]);
        Some(labs)
    }

    /// One of this process's labs, when the one before is down.
    fn in_turn(arguments: &[&str], nodes: &'static [&'static str], environment: &[(&str, &str)]) -> Option<Lab> {
        let turn = Self::turn()?;
        let mut lab = Lab::numbered(nodes);
        lab._turn = Some(turn);
        lab.start(arguments, environment);
        Some(lab)
    }

    /// The right to have labs, when those before are down; `None` with a loud word if this is no place for them.
    fn turn() -> Option<MutexGuard<'static, ()>> {
        if std::env::var_os("SMSC_CLUSTER_TESTS").is_none() {
            skip("cluster tests run with SMSC_CLUSTER_TESTS=1 (scripts/test sets it)");
            return None;
        }
        if !Uid::effective().is_root() {
            skip("cluster tests need root for network namespaces");
            return None;
        }
        // A test that failed has taken its lab down all the same.
        Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn numbered(nodes: &'static [&'static str]) -> Lab {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Lab::of(format!("test-{}-{number}", std::process::id()), format!("10.76.{number}"), nodes)
    }

    /// Lets the hosts of both labs reach each other: their networks have the `esme` hosts as routers. It ends with the
    /// namespaces.
    fn join(&self, other: &Lab) {
        let [near, far] = [self, other].map(|lab| lab.namespace("esme"));
        ip(&["link", "add", "between", "netns", &near, "type", "veth", "peer", "name", "between", "netns", &far]);
        for (lab, own, next, reached) in [(self, 1, 2, other), (other, 2, 1, self)] {
            let router = lab.namespace("esme");
            let [own, next] = [own, next].map(|last| format!("{BETWEEN}.{last}"));
            let network = format!("{}.0/24", reached.net);
            ip(&["-n", &router, "addr", "add", &format!("{own}/30"), "dev", "between"]);
            ip(&["-n", &router, "link", "set", "between", "up"]);
            ip(&["-n", &router, "route", "add", &network, "via", &next]);
            ip(&["netns", "exec", &router, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
            let router = lab.host("esme").ip;
            for host in ["a", "b"] {
                ip(&["-n", &lab.namespace(host), "route", "add", &network, "via", &router]);
            }
        }
    }

    /// A lab under this name, in the network of three numbers, for a program that runs as root; `arguments` are those of
    /// `scripts/lab`, `up` first.
    ///
    /// # Panics
    /// If the lab does not come up; its own words say why.
    pub fn named(name: &str, net: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Lab {
        let mut lab = Lab::of(name.to_owned(), net.to_owned(), WITH_WITNESS);
        lab.start(arguments, environment);
        lab
    }

    fn of(name: String, net: String, nodes: &'static [&'static str]) -> Lab {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lab");
        Lab { name, net, script, state_dir: PathBuf::new(), nodes, _turn: None }
    }

    fn start(&mut self, arguments: &[&str], environment: &[(&str, &str)]) {
        let starting = self.starting(arguments, environment);
        self.started(arguments, starting);
    }

    fn starting(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
        let mut command = self.script(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("scripts/lab: {error}"))
    }

    fn started(&mut self, arguments: &[&str], starting: Child) {
        let output = starting.wait_with_output().unwrap_or_else(|error| panic!("scripts/lab: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/lab {arguments:?}: {}\n{said}", output.status);
        self.state_dir = self.status().state_dir;
    }

    /// The floating address and the SMPP port.
    pub fn target(&self) -> String {
        format!("{}.100:2775", self.net)
    }

    /// The floating address and the SMPP port for TLS, and the file with the authority of its certificate; for a lab with
    /// SMSC_SMPP_TLS in its environment.
    pub fn tls_target(&self) -> (String, PathBuf) {
        (format!("{}.100:3550", self.net), self.state_dir.join("tls/ca.pem"))
    }

    /// Does this to a host; `leader` and `standby` are resolved at the call. Returns the host's name.
    pub fn fault(&self, fault: Fault, host: &str) -> String {
        self.run(&["fault", fault.word(), host]).trim().to_owned()
    }

    /// The same to a host whose node may be ending just now; whether it was done.
    ///
    /// # Panics
    /// If `scripts/lab` cannot be started.
    pub fn try_fault(&self, fault: Fault, host: &str) -> bool {
        let output = self.script(&["fault", fault.word(), host]).output();
        output.unwrap_or_else(|error| panic!("scripts/lab: {error}")).status.success()
    }

    /// Undoes all faults of a host; starts its node if it is dead.
    pub fn heal(&self, host: &str) {
        self.run(&["heal", host]);
    }

    /// A host of this lab.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn host(&self, name: &str) -> Host {
        self.status().hosts.remove(name).unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// The process of the node on `host`, if it runs.
    pub fn node_pid(&self, host: &str) -> Option<Pid> {
        let text = std::fs::read_to_string(self.state_dir.join(format!("{host}.pid"))).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, field 2, may hold anything up to the last parenthesis; field 3 is the state, field 22 the start.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let runs = fields.next()? != "Z" && fields.nth(18)? == started;
        runs.then(|| pid.parse().ok().map(Pid::from_raw)).flatten()
    }

    /// The hardware address of `host` on the lab's network.
    ///
    /// # Panics
    /// If it has none.
    pub fn hardware_address(&self, host: &str) -> [u8; 6] {
        let found = self.inside(host, || {
            let addresses = nix::ifaddrs::getifaddrs().ok()?;
            let mut links = addresses.filter(|entry| entry.interface_name == "eth0");
            links.find_map(|entry| entry.address?.as_link_addr()?.addr())
        });
        found.join().ok().flatten().unwrap_or_else(|| panic!("{host} has no hardware address on eth0"))
    }

    /// The host that leads.
    ///
    /// # Panics
    /// If none does.
    pub fn leader(&self) -> String {
        self.status().leader.expect("a node leads")
    }

    /// A program on a host. Ended with the test, should it still run then.
    pub fn command(&self, host: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Runs `smscctl` against the node on `host`.
    pub fn ctl(&self, host: &str, arguments: &[&str]) -> Output {
        let socket = self.state_dir.join(format!("{host}.sock"));
        let smscctl = program("smscctl");
        Command::new(&smscctl)
            .arg("--socket")
            .arg(socket)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", smscctl.display()))
    }

    /// Runs `smscctl` against the leader and returns what it says.
    ///
    /// # Panics
    /// If no node leads, or it does not succeed.
    pub fn ctl_leader(&self, arguments: &[&str]) -> String {
        let output = self.ctl(&self.leader(), arguments);
        assert!(output.status.success(), "smscctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the node on `host` tells of the cluster, if it answers.
    pub fn cluster_status(&self, host: &str) -> Option<ClusterStatus> {
        let output = self.ctl(host, &["status", "--json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// The same of the first node that answers.
    fn any_status(&self) -> Option<ClusterStatus> {
        self.nodes.iter().find_map(|host| self.cluster_status(host))
    }

    /// Waits until a node other than `than` leads and holds the address. Returns its name.
    ///
    /// # Panics
    /// After ten seconds.
    pub fn await_other_leader(&self, than: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        let others: Vec<&str> = self.nodes.iter().copied().filter(|host| *host != than).collect();
        loop {
            for host in &others {
                let Some(status) = self.cluster_status(host) else { continue };
                let leader = status.members.iter().find(|member| member.node_id == status.leader_id);
                if let Some(leader) =
                    leader.filter(|leader| leader.name != than && status.address_holder == leader.node_id)
                {
                    return leader.name.clone();
                }
            }
            assert!(Instant::now() < deadline, "no node but {than} leads after ten seconds: {:?}", self.any_status());
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until all members answer, one leads and holds the address, and the other data node would take over; in a
    /// pair, until both are in sync.
    ///
    /// # Panics
    /// After a minute.
    pub fn await_whole(&self) {
        let deadline = Instant::now() + WHOLE_TIMEOUT;
        loop {
            let status = self.any_status();
            let whole = status.as_ref().is_some_and(|status| {
                let leader = status.members.iter().find(|member| member.node_id == status.leader_id);
                let ready = |member: &Member| {
                    member.role != "data" || member.node_id == status.leader_id || member.not_ready.is_empty()
                };
                let in_sync = |member: &Member| member.pair.as_ref().is_none_or(|pair| pair.standing == "in-sync");
                status.quorum_healthy
                    && status.members.iter().all(in_sync)
                    && status.unreachable.is_empty()
                    && leader.is_some_and(|leader| leader.role == "data" && leader.node_id == status.address_holder)
                    && status.members.iter().all(ready)
            });
            if whole {
                return;
            }
            assert!(Instant::now() < deadline, "the cluster is not whole again after a minute: {status:?}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asks the node on `host` to stop in an orderly way and waits until it has.
    ///
    /// # Panics
    /// If no node runs there, or it does not stop within 30 seconds.
    pub fn stop(&self, host: &str) {
        let pid = self.host(host).pid.unwrap_or_else(|| panic!("no node runs on {host}"));
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .unwrap_or_else(|error| panic!("cannot stop the node on {host}: {error}"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.host(host).process != "dead" {
            assert!(Instant::now() < deadline, "the node on {host} does not stop");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs `work` on a thread whose network is that of `host`; sockets it makes stay in that network.
    ///
    /// # Panics
    /// If the thread cannot enter the namespace, or `work` panics.
    pub fn inside<T: Send + 'static>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = Path::new("/run/netns").join(self.namespace(host));
        thread::spawn(move || {
            let namespace = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            work()
        })
    }

    /// The ends of the nodes' logs, to be printed when something went wrong.
    pub fn log_ends(&self) -> String {
        self.nodes
            .iter()
            .map(|host| {
                let log = std::fs::read_to_string(self.state_dir.join(format!("{host}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                format!("--- {host}\n{end}\n")
            })
            .collect()
    }

    /// The network namespace of `host`; that of the switch between the hosts is `sw`.
    pub fn namespace(&self, host: &str) -> String {
        format!("smsc-{}-{host}", self.name)
    }

    fn status(&self) -> LabStatus {
        let text = self.run(&["status", "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("scripts/lab status --json: {error}: {text}"))
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments).output().unwrap_or_else(|error| panic!("scripts/lab: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/lab {arguments:?}: {}\n{said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.args(["--name", &self.name, "--net", &self.net]).args(arguments).stdin(Stdio::null());
        command.env("SMSC_BIN_DIR", bin_dir());
        command
    }
}

/// Runs ip(8).
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("ip {arguments:?}: {error}"));
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.log_ends());
        }
        // Not up, or half up: `up` has cleaned up by itself.
        let _ = self.script(&["down"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Where the programs are: `SMSC_BIN_DIR`, or beside the test that runs.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("SMSC_BIN_DIR") {
        return dir.into();
    }
    let own = std::env::current_exe().expect("a program knows its own file");
    let dir = own.parent().expect("a file lies in a folder");
    // A test is target/PROFILE/deps/cluster-HASH, our own programs lie in target/PROFILE.
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
}

/// The file of one of our programs.
///
/// # Panics
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    let file = bin_dir().join(name);
    assert!(file.exists(), "{} is missing; build it with: cargo build --workspace", file.display());
    file
}
