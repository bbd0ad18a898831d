//! Clients that connect while nobody has the address: their requests are passed on to the new owner.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{SockFilter, SockRef};

use crate::kept::listen_ahead;
use crate::lab::Lab;
use crate::node::{self, Node, NodeOptions, VIP4, VIP6};
use crate::{LiveLease, SMPP_PORT};

/// See the attempts of `kept`: a client's kernel asks again after a second.
const SYN_RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 5;
/// Return 0, which is to drop.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Waits until the client, which began to connect then, has reached the new owner. Returns whether it was by its first
/// request; nothing was repeated then.
fn connected_at_once(
    lab: &Lab,
    client: ScopedJoinHandle<'_, io::Result<TcpStream>>,
    listener: &TcpListener,
    begun: Instant,
    repeated: u64,
) -> bool {
    let client = client.join().expect("no panic").expect("connected to the new owner");
    let took = begun.elapsed();
    let (_served, peer) = listener.accept().expect("connected above");
    assert_eq!(peer, client.local_addr().expect("connected"));
    let back = took < SYN_RETRY;
    assert!(!back || lab.tcp_segments_repeated("c") == repeated, "the request that was passed on did nothing");
    back
}

/// A client connects to an owner that answers no more; then the address moves. Returns whether it was connected by its
/// first request.
fn connects_too_early(vip: &str) -> bool {
    let lab = Lab::new().expect("looked at before");
    let server = SocketAddr::new(vip.parse().expect("literal"), SMPP_PORT);
    // The client knows where the address is, as one that was connected does.
    lab.set_neighbour("c", vip, "a", "reachable");
    let listener = lab.within("b", || listen_ahead(server));
    let successor =
        lab.within("b", || node::open(&NodeOptions { node_id: 2, ..NodeOptions::default() }).expect("root may"));
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        let quiet = listen_ahead(server);
        SockRef::from(&quiet).attach_filter(&[DROP]).expect("a filter of one instruction");
        let relay = ip.relay().expect("root may").expect("not in loopback mode");
        let (asked, repeated) = (lab.tcp_segments_received("a"), lab.tcp_segments_repeated("c"));
        std::thread::scope(|scope| {
            relay.listen().expect("root may");
            let begun = Instant::now();
            let client = scope.spawn(|| lab.within("c", || TcpStream::connect(server)));
            node::wait_until("its request comes", || lab.tcp_segments_received("a") > asked);
            hold.release().expect("root may");
            let passing = scope.spawn(|| relay.pass_on(None));
            let next = LiveLease::new(2);
            let _held = lab.within("b", || successor.claim(&next.leadership()).expect("a has released it"));
            let back = connected_at_once(&lab, client, &listener, begun, repeated);
            let passed = passing.join().expect("no panic");
            assert!(!back || passed >= 1, "it came back without being passed on");
            back
        })
    })
}

/// A daemon dies or stands still, a client connects, and only then another host takes over. Returns whether the client was
/// connected by its first request.
fn connects_after(fault: Signal, vip: &str, knows_the_way: bool) -> bool {
    let lab = Lab::new().expect("looked at before");
    let server = SocketAddr::new(vip.parse().expect("literal"), SMPP_PORT);
    if knows_the_way {
        lab.set_neighbour("c", vip, "a", "reachable");
    }
    let mut certificates = lab.release_listener("b", 4_000);
    let options = NodeOptions { peer: Some(lab.address("b", 4_000)), ..NodeOptions::default() };
    let mut daemon = lab.within("a", || Node::start(&options));
    daemon.expect("held");
    let listener = lab.within("b", || listen_ahead(server));
    let successor =
        lab.within("b", || node::open(&NodeOptions { node_id: 2, ..NodeOptions::default() }).expect("root may"));
    daemon.signal(fault);
    let (_certificate, _) = certificates.next();
    let (sent, repeated) = (lab.tcp_segments_sent("c"), lab.tcp_segments_repeated("c"));
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let client = scope.spawn(|| lab.within("c", || TcpStream::connect(server)));
        node::wait_until("it asks", || lab.tcp_segments_sent("c") > sent);
        let next = LiveLease::new(8);
        let _held = lab.within("b", || successor.claim(&next.leadership()).expect("a is released"));
        connected_at_once(&lab, client, &listener, begun, repeated)
    })
}

#[test]
fn a_client_that_connects_after_a_failure_is_passed_on_by_the_guard() {
    let _ = lab_or_skip!();
    for fault in [Signal::SIGKILL, Signal::SIGSTOP] {
        for (vip, knows_the_way) in [(VIP4, true), (VIP4, false), (VIP6, true), (VIP6, false)] {
            let connected = (0..ATTEMPTS).any(|_| connects_after(fault, vip, knows_the_way));
            assert!(connected, "the machine is too busy to tell ({fault}, {vip}, {knows_the_way})");
        }
    }
}

#[test]
fn a_client_that_connects_before_the_new_owner_is_there_is_passed_on() {
    let _ = lab_or_skip!();
    for vip in [VIP4, VIP6] {
        let connected = (0..ATTEMPTS).any(|_| connects_too_early(vip));
        assert!(connected, "the machine is too busy to tell ({vip})");
    }
}
