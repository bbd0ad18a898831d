//! Clients that connect while nobody has the address: their requests are passed on to the new owner.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{SockFilter, SockRef};

use crate::kept::listen_ahead;
use crate::lab::Lab;
use crate::node::{self, NodeOptions, VIP4, VIP6};
use crate::{LiveLease, SMPP_PORT};

/// See the attempts of `kept`: a client's kernel asks again after a second.
const SYN_RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 5;
/// Return 0, which is to drop.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

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
            let begun = Instant::now();
            let client = scope.spawn(|| lab.within("c", || TcpStream::connect(server)));
            node::wait_until("its request comes", || lab.tcp_segments_received("a") > asked);
            hold.release_to_successor().expect("root may");
            let passing = scope.spawn(|| relay.pass_on());
            let next = LiveLease::new(2);
            let _held = lab.within("b", || successor.claim(&next.leadership()).expect("a has released it"));
            let client = client.join().expect("no panic").expect("connected to the new owner");
            let took = begun.elapsed();
            let (_served, peer) = listener.accept().expect("connected above");
            assert_eq!(peer, client.local_addr().expect("connected"));
            let back = took < SYN_RETRY;
            assert!(!back || lab.tcp_segments_repeated("c") == repeated, "the request that was passed on did nothing");
            assert!(passing.join().expect("no panic") >= 1);
            back
        })
    })
}

#[test]
fn a_client_that_connects_before_the_new_owner_is_there_is_passed_on() {
    let _ = lab_or_skip!();
    for vip in [VIP4, VIP6] {
        let connected = (0..ATTEMPTS).any(|_| connects_too_early(vip));
        assert!(connected, "the machine is too busy to tell ({vip})");
    }
}
