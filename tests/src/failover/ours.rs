//! The cluster in its lab, as ESMEs see it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use smsc_node::probe::{self, Outage, ProbeEvent, ProbeOptions};
use smsc_proto::command::{CommandId, SequenceNumber};
use smsc_proto::pdu::{Bind, Body, Pdu};
use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_proto::rpc::admin::{HandoverRequest, LastTakeoverRequest, LastTakeoverResponse};
use smsc_proto::types::{BindMode, Password, SystemId};
use tonic::transport::Endpoint;

use super::event::Event;
use crate::faults::plan::Fault;
use crate::faults::strike::{Struck, strike, undo};
use crate::lab::{self, Lab, program, tell};
use crate::owners::{OwnerWatch, Owners};

/// Service before each event.
const CALM: Duration = Duration::from_secs(1);
/// After which time without the end of an outage a round has failed.
const OUTAGE_MAX: Duration = Duration::from_secs(30);
/// An ESME that reconnects at once gives an attempt this long before the next.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(15);
/// It relies on being told that its connection is gone, and gives up on silence after this.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages are stored for this account, which never binds.
const STORED_ACCOUNT: &str = "stored";
/// Where they go.
const STORED_PREFIX: &str = "4930";
/// The account of the receivers that idle.
const IDLE_ACCOUNT: &str = "idle";
const PASSWORD: &str = "secret3";

/// What a round came to, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the last acknowledgement before to the first after.
    pub outage_ms: f64,
    /// When the last of the idle receivers was told, from the new leader's announcement of the address.
    pub told_ms: Option<f64>,
}

/// The cluster, its ESMEs and those who watch.
pub struct Ours {
    lab: Lab,
    probe: Receiver<ProbeEvent>,
    idle: Idle,
    load: Option<Child>,
    watch: Option<OwnerWatch>,
}

impl Ours {
    /// A cluster with load beside the probe (messages per second, 0 for none), so many receivers that idle, and so many
    /// messages stored.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(name: &str, net: &str, rate: u32, idle: usize, stored: u64) -> Ours {
        let lab = Lab::named(name, net, &["up"], &[]);
        lab.ctl_leader(&[
            "account",
            "put",
            IDLE_ACCOUNT,
            "--password",
            PASSWORD,
            "--short-code",
            "4000",
            "--binds-max",
            "1000",
        ]);
        if stored > 0 {
            lab.ctl_leader(&["account", "put", STORED_ACCOUNT, "--password", PASSWORD, "--short-code", "3000"]);
            lab.ctl_leader(&["route", "put", STORED_PREFIX, &format!("esme:{STORED_ACCOUNT}")]);
            store(&lab, stored);
        }
        let load = (rate > 0).then(|| {
            let mut command = lab.command("esme", program("smsc-load"));
            command.args(["--target", &lab.target(), "--system-id", "esme2", "--password", "secret2"]);
            command.args(["--source", "2000", "--reconnect", "--response-timeout-ms", "1000", "--receipts"]);
            command.args(["--rate", &rate.to_string(), "--json", "--until-stdin-closes"]);
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            command.spawn().unwrap_or_else(|error| panic!("smsc-load: {error}"))
        });
        let target: SocketAddr = lab.target().parse().expect("an address and a port");
        let probe = start_probe(&lab, target);
        let idle = Idle::start(&lab, target, idle);
        let watch = Some(OwnerWatch::start(&lab));
        Ours { lab, probe, idle, load, watch }
    }

    /// One event, from service to service; then the cluster is whole again. Logs are kept in `keep` if the outage was
    /// longer than `longest_ms`.
    ///
    /// # Errors
    /// A sentence: the service did not come back. Logs are kept then as well.
    pub fn round(&mut self, event: Event, longest_ms: f64, keep: &Path) -> Result<Round, String> {
        self.lab.await_whole();
        self.idle.await_all();
        thread::sleep(CALM);
        while self.probe.try_recv().is_ok() {}
        let leader = self.lab.leader();
        let term = self.lab.cluster_status("w").map_or(0, |status| status.term);
        let struck = self.strike(event, &leader);
        let outage = self.await_outage();
        let told = outage.as_ref().ok().and_then(|_| self.told_ms(&leader, term));
        for struck in &struck {
            undo(&self.lab, struck);
        }
        self.lab.heal(&leader);
        let outage_ms = outage.map(|outage| outage.duration.as_secs_f64() * 1000.0);
        let is_outlier = outage_ms.as_ref().map_or(true, |ms| *ms > longest_ms);
        if is_outlier {
            keep_logs(&self.lab, keep);
        }
        Ok(Round { outage_ms: outage_ms?, told_ms: told })
    }

    fn strike(&self, event: Event, leader: &str) -> Vec<Struck> {
        let fault = match event {
            Event::Kill => Fault::Kill,
            Event::HostLoss => Fault::Cut,
            Event::FrozenDaemon => Fault::Freeze,
            Event::FrozenHost => Fault::FreezeHost,
            Event::Partition => {
                self.lab.fault(lab::Fault::Partition, leader);
                return Vec::new();
            }
            Event::Handover => {
                let done =
                    asked(&self.lab, leader, async |client| client.handover(HandoverRequest::default()).await.is_ok());
                assert_eq!(done, Some(true), "the handover was refused");
                return Vec::new();
            }
        };
        strike(&self.lab, fault, leader).into_iter().collect()
    }

    fn await_outage(&self) -> Result<Outage, String> {
        let deadline = Instant::now() + OUTAGE_MAX;
        loop {
            match self.probe.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ProbeEvent::Outage(outage)) => return Ok(outage),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no outage was seen to end within {} s", OUTAGE_MAX.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the probe has ended".to_owned()),
            }
        }
    }

    /// When the last idle receiver was told, from the announcement of the address by the leader after `leader`.
    fn told_ms(&mut self, leader: &str, term: u64) -> Option<f64> {
        let last = self.idle.await_told()?;
        let other = if leader == "a" { "b" } else { "a" };
        let taken: LastTakeoverResponse = asked(&self.lab, other, async |client| {
            client.last_takeover(LastTakeoverRequest {}).await.map(tonic::Response::into_inner).ok()
        })??;
        if taken.term <= term {
            return None;
        }
        let announced = SystemTime::UNIX_EPOCH + Duration::from_micros(taken.announced_at_us);
        // One that was told before, as by the guard's reset, is told in no time.
        Some(last.duration_since(announced).unwrap_or_default().as_secs_f64() * 1000.0)
    }

    /// Ends it all and tells who owned the address.
    ///
    /// # Panics
    /// If those who watch could not work.
    pub fn finish(mut self) -> Owners {
        let watch = self.watch.take().expect("taken here only");
        watch.finish()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.idle.stop();
        if let Some(load) = &mut self.load {
            // Its figures are not wanted. Both fail when it has ended, which is as well.
            let _ = load.kill();
            let _ = load.wait();
        }
    }
}

fn start_probe(lab: &Lab, target: SocketAddr) -> Receiver<ProbeEvent> {
    let (tell, events) = channel();
    let mut options = ProbeOptions::new(target, "esme1", "secret1");
    options.connect_timeout = CONNECT_TIMEOUT;
    options.response_timeout = RESPONSE_TIMEOUT;
    options.retry_interval = Duration::from_millis(2);
    // Ends with the program.
    drop(lab.inside("esme", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let on_event = |event| {
            if !matches!(event, ProbeEvent::Acked { .. }) {
                // Nobody listens any more when the program ends.
                let _ = tell.send(event);
            }
        };
        runtime.block_on(probe::run(&options, std::future::pending(), on_event)).map(drop)
    }));
    events
}

fn store(lab: &Lab, count: u64) {
    tell(&format!("storing {count} messages"));
    let mut command = lab.command("esme", program("smsc-load"));
    command.args(["--target", &lab.target(), "--count", &count.to_string(), "--destination-prefix", STORED_PREFIX]);
    command.args(["--sessions", "8", "--window", "100", "--json"]).stdout(Stdio::null());
    let status = command.status().unwrap_or_else(|error| panic!("smsc-load: {error}"));
    assert!(status.success(), "the messages could not be stored: {status}");
}

fn keep_logs(lab: &Lab, into: &Path) {
    let copied = std::fs::create_dir_all(into).and_then(|()| {
        ["a", "b", "w"].iter().try_for_each(|host| {
            let name = format!("{host}.log");
            std::fs::copy(lab.state_dir.join(&name), into.join(&name)).map(drop)
        })
    });
    match copied {
        Ok(()) => tell(&format!("the nodes' logs are kept in {}", into.display())),
        Err(error) => tell(&format!("the nodes' logs could not be kept in {}: {error}", into.display())),
    }
}

fn asked<T>(
    lab: &Lab,
    host: &str,
    ask: impl AsyncFnOnce(&mut AdminClient<tonic::transport::Channel>) -> T,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let socket = lab.state_dir.join(format!("{host}.sock"));
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).ok()?;
        let mut client = AdminClient::new(endpoint.connect().await.ok()?);
        Some(ask(&mut client).await)
    })
}

/// Receivers that are bound and wait, each in a thread that blocks in read, as a simple ESME does.
struct Idle {
    count: usize,
    told: Receiver<Told>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    bound: usize,
    last: Option<SystemTime>,
}

enum Told {
    Bound,
    Gone(SystemTime),
}

impl Idle {
    fn start(lab: &Lab, target: SocketAddr, count: usize) -> Idle {
        let (tell, told) = channel();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..count {
            let (tell, stop) = (tell.clone(), stop.clone());
            drop(lab.inside("esme", move || idle(target, &tell, &stop)));
        }
        Idle { count, told, stop, bound: 0, last: None }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Bound => self.bound += 1,
            Told::Gone(at) => {
                self.bound -= 1;
                self.last = self.last.max(Some(at));
            }
        }
    }

    fn await_all(&mut self) {
        let deadline = Instant::now() + OUTAGE_MAX;
        while self.bound < self.count {
            let told = self.told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            self.take(told.unwrap_or_else(|_| panic!("{} of {} idle receivers are bound", self.bound, self.count)));
        }
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
        self.last = None;
    }

    /// When the last of them was told that its connection is gone; waits until all are bound again.
    fn await_told(&mut self) -> Option<SystemTime> {
        let deadline = Instant::now() + OUTAGE_MAX;
        let mut gone = 0;
        while gone < self.count || self.bound < self.count {
            let told = self.told.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            gone += usize::from(matches!(told, Told::Gone(_)));
            self.take(told);
        }
        self.last
    }

    fn stop(&self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn idle(target: SocketAddr, tell: &Sender<Told>, stop: &std::sync::atomic::AtomicBool) {
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        match bind_receiver(target) {
            Ok(mut stream) => {
                if tell.send(Told::Bound).is_err() {
                    return;
                }
                stay_idle(&mut stream);
                if tell.send(Told::Gone(SystemTime::now())).is_err() {
                    return;
                }
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Answers enquire_link until the connection ends or the SMS centre unbinds; nothing else is sent to it.
fn stay_idle(stream: &mut TcpStream) {
    let mut pdu = [0; 16];
    while stream.read_exact(&mut pdu).is_ok() {
        let command = u32::from_be_bytes([pdu[4], pdu[5], pdu[6], pdu[7]]);
        if command != CommandId::ENQUIRE_LINK.0 {
            return;
        }
        // A response's id is its request's with the highest bit set (SMPP v3.4 section 5.1.2).
        pdu[4] |= 0x80;
        if stream.write_all(&pdu).is_err() {
            return;
        }
    }
}

fn bind_receiver(target: SocketAddr) -> std::io::Result<TcpStream> {
    let invalid = |error: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let bind = Bind {
        system_id: SystemId::new(IDLE_ACCOUNT.to_owned()).map_err(|error| invalid(error.to_string()))?,
        password: Password::new(PASSWORD.to_owned()).map_err(|error| invalid(error.to_string()))?,
        ..Bind::default()
    };
    let mut octets = bytes::BytesMut::new();
    Pdu::new(SequenceNumber::FIRST, Body::bind(BindMode::Receiver, bind))
        .encode(&mut octets)
        .map_err(|error| invalid(error.to_string()))?;
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_millis(100))?;
    stream.write_all(&octets)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    if header[8..12] != [0; 4] {
        return Err(invalid("the bind was refused".to_owned()));
    }
    // Its body, before the connection is left idle.
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let mut body = vec![0; length.clamp(16, 1024) - 16];
    stream.read_exact(&mut body)?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}
