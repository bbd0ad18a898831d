//! What is measured beside: keepalived with fast adverts (VRRPv3, RFC 5798) on two hosts, and a trivial TCP server that
//! tells its host's name.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::event::Event;
use crate::lab::{self, Lab};
use crate::owners::{OwnerWatch, Owners};

/// The port of the trivial server.
const PORT: u16 = 2775;
/// From one attempt of the client to the next.
const ATTEMPT_EVERY: Duration = Duration::from_millis(5);
/// How long an attempt may take; others begin meanwhile.
const ATTEMPT_MAX: Duration = Duration::from_millis(1000);
/// After which time without the other host a round has failed.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);
/// Calm before an event, several adverts and announcements long.
const CALM: Duration = Duration::from_millis(1500);

/// Two hosts with keepalived; `a` has the higher priority.
pub struct Vrrp {
    hosts: [Host; 2],
    watch: Option<OwnerWatch>,
    lab: Lab,
}

struct Host {
    name: &'static str,
    keepalived: Option<Child>,
    server: Option<Child>,
}

impl Vrrp {
    /// Starts both and waits until `a` serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(name: &str, net: &str) -> Vrrp {
        let lab = Lab::named(name, net, &["up", "--bare"], &[]);
        let mut hosts = ["a", "b"].map(|name| Host { name, keepalived: None, server: None });
        for host in &mut hosts {
            host.start(&lab);
        }
        let mut vrrp = Vrrp { hosts, watch: None, lab };
        vrrp.await_owner("a");
        vrrp.watch = Some(OwnerWatch::start(&vrrp.lab));
        vrrp
    }

    /// From the event on `a` to the first answer of `b` to an attempt begun after it, milliseconds; then `a` is the
    /// owner again.
    ///
    /// # Errors
    /// A sentence: `b` did not take over.
    pub fn round(&mut self, event: Event) -> Result<f64, String> {
        self.await_owner("a");
        thread::sleep(CALM);
        let began = Instant::now();
        self.strike(event);
        let took = self.first_answer_of("b", began);
        self.heal();
        took
    }

    fn strike(&self, event: Event) {
        let host = &self.hosts[0];
        match event {
            Event::Kill => host.signal(Signal::SIGKILL, true),
            Event::HostLoss => drop(self.lab.fault(lab::Fault::Cut, host.name)),
            Event::Partition => drop(self.lab.fault(lab::Fault::Partition, host.name)),
            Event::FrozenDaemon => host.signal(Signal::SIGSTOP, false),
            Event::FrozenHost => host.signal(Signal::SIGSTOP, true),
            Event::Handover => host.signal(Signal::SIGTERM, false),
        }
    }

    fn heal(&mut self) {
        self.lab.heal("a");
        let lab = &self.lab;
        let host = &mut self.hosts[0];
        host.stop();
        // keepalived leaves the address behind when it is killed.
        let mut command = lab.command(host.name, "ip");
        command.args(["addr", "del", &lab.target().replace(":2775", "/32"), "dev", "eth0"]);
        let _ = command.stderr(Stdio::null()).status();
        host.start(lab);
    }

    /// The attempts are made in the order of time, so the first answer of the right host is the earliest attempt's.
    fn first_answer_of(&self, wanted: &str, began: Instant) -> Result<f64, String> {
        let answers = attempts(&self.lab, began + TAKEOVER_MAX, wanted);
        let at = answers.recv_timeout(TAKEOVER_MAX + ATTEMPT_MAX).map_err(|_| format!("{wanted} did not take over"))?;
        Ok(at.saturating_duration_since(began).as_secs_f64() * 1000.0)
    }

    fn await_owner(&self, wanted: &str) {
        let answers = attempts(&self.lab, Instant::now() + TAKEOVER_MAX, wanted);
        let answered = answers.recv_timeout(TAKEOVER_MAX + ATTEMPT_MAX);
        assert!(answered.is_ok(), "{wanted} does not serve: is keepalived working?");
    }

    /// Ends it and tells who owned the address.
    ///
    /// # Panics
    /// If those who watch could not work.
    pub fn finish(mut self) -> Owners {
        let watch = self.watch.take().expect("taken here only");
        watch.finish()
    }
}

impl Drop for Vrrp {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            host.stop();
        }
    }
}

impl Host {
    fn start(&mut self, lab: &Lab) {
        let name = self.name;
        let priority = if name == "a" { 150 } else { 100 };
        let address = lab.target().replace(":2775", "/32");
        let file = |end: &str| lab.state_dir.join(format!("keepalived-{name}.{end}"));
        let config = format!(
            "global_defs {{\n router_id {name}\n vrrp_version 3\n}}\n\
             vrrp_instance v {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
             advert_int 0.1\n virtual_ipaddress {{\n {address} dev eth0\n }}\n}}\n"
        );
        fs::write(file("conf"), config).unwrap_or_else(|error| panic!("{}: {error}", file("conf").display()));
        let log = fs::OpenOptions::new().create(true).append(true).open(file("log")).expect("a log for keepalived");
        let mut command = lab.command(name, "keepalived");
        command.args(["--dont-fork", "--vrrp", "--log-console"]);
        for (option, end) in [("--use-file", "conf"), ("--pid", "pid"), ("--vrrp_pid", "vrrp.pid")] {
            // What a killed one left would be taken for a running one.
            if end != "conf" {
                let _ = fs::remove_file(file(end));
            }
            command.arg(option).arg(file(end));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).process_group(0);
        self.keepalived = Some(command.spawn().unwrap_or_else(|error| panic!("keepalived: {error}")));
        let own = std::env::current_exe().expect("a program knows its own file");
        let mut command = lab.command(name, own);
        command.args(["serve-name", name]).stdin(Stdio::null()).process_group(0);
        self.server = Some(command.spawn().unwrap_or_else(|error| panic!("the trivial server: {error}")));
    }

    fn signal(&self, signal: Signal, with_server: bool) {
        let server = self.server.as_ref().filter(|_| with_server);
        for child in self.keepalived.iter().chain(server) {
            // One that has ended needs no signal.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    /// Ends both.
    fn stop(&mut self) {
        self.signal(Signal::SIGCONT, true);
        self.signal(Signal::SIGTERM, true);
        for mut child in self.keepalived.take().into_iter().chain(self.server.take()) {
            let deadline = Instant::now() + Duration::from_secs(3);
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() >= deadline {
                    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Attempts to connect to the floating address, one every few milliseconds from now on until `wanted` answers: when the
/// first of its answers came.
fn attempts(lab: &Lab, until: Instant, wanted: &str) -> Receiver<Instant> {
    let target: SocketAddr = lab.target().parse().expect("an address and a port");
    let wanted = wanted.to_owned();
    let (tell, told) = channel();
    drop(lab.inside("esme", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (found, mut founds) = tokio::sync::mpsc::unbounded_channel();
            let mut ticks = tokio::time::interval(ATTEMPT_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while Instant::now() < until {
                tokio::select! {
                    biased;
                    at = founds.recv() => {
                        // Nobody waits any more when it came too late.
                        let _ = at.map(|at| tell.send(at));
                        return;
                    }
                    _ = ticks.tick() => {
                        let (found, wanted) = (found.clone(), wanted.clone());
                        tokio::spawn(async move {
                            let asked = tokio::time::timeout(ATTEMPT_MAX, ask(target)).await;
                            if asked.is_ok_and(|name| name.is_ok_and(|name| name == wanted)) {
                                let _ = found.send(Instant::now());
                            }
                        });
                    }
                }
            }
        });
    }));
    told
}

async fn ask(target: SocketAddr) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut stream = tokio::net::TcpStream::connect(target).await?;
    let mut name = String::new();
    stream.read_to_string(&mut name).await?;
    Ok(name)
}

/// The trivial server: tells everybody who connects the name of its host, until it is ended.
///
/// # Errors
/// The port cannot be listened on.
pub fn serve_name(name: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    loop {
        // Whoever has gone again wants no answer.
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(name.as_bytes());
            drain(stream);
        }
    }
}

/// Closes in an orderly way.
fn drain(mut stream: TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
    let _ = stream.read(&mut [0; 16]);
}
