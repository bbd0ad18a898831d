//! What neighbours and clients are told, and what is heard of rivals.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use smsc_node::ha::HoldState;
use smsc_node::ha::link::LinkPort;
use smsc_node::ha::netlink::AddressTable;
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::{self, NodeOptions, VIP4, VIP6};
use crate::{LiveLease, SMPP_PORT, vip4, vip6};

const IDLE_CLIENTS: usize = 500;

#[test]
fn a_rival_is_answered_at_once_and_remembered() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let _hold = ip.claim(&live.leadership()).expect("nobody else has it");
        assert_eq!(ip.conflict(), None);
        for (vip, text) in [(vip4(), VIP4), (vip6(), VIP6)] {
            lab.set_neighbour("c", text, "a", "reachable");
            let heard = ip.conflicts_heard();
            let (mac, begun) = lab.within("b", || {
                let port = LinkPort::open("eth0", vip).expect("root may");
                let link = AddressTable::open().and_then(|mut table| table.link("eth0"));
                let mac = link.expect("the lab's").mac.expect("veth has one");
                port.announce(mac).expect("the link is up");
                (mac, Instant::now())
            });
            node::wait_until("the claim is heard", || ip.conflicts_heard() > heard);
            node::wait_until("the clients come back", || lab.neighbour("c", text).contains(&lab.mac("a")));
            eprintln!("MEASURED rival's claim to clients back ({text}) {:?}", begun.elapsed());
            let conflict = ip.conflict().expect("heard just now");
            assert_eq!((conflict.address, conflict.other), (vip, mac));
            assert!(conflict.to_string().contains(&lab.mac("b")), "{conflict}");
        }
    });
}

#[test]
fn another_interface_of_this_host_is_no_rival() {
    let lab = lab_or_skip!();
    // Linux answers for every address of the host on every interface, so both lie on one network here.
    lab.second_interface("a");
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        // Past the third announcement, each of which asks who else has the address.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!((hold.conflicts(), ip.conflict(), ip.conflicts_heard()), (&[][..], None, 0));
        assert_eq!(hold.state(), HoldState::Held);
    });
}

#[test]
fn a_silent_rival_is_found_while_the_address_is_held() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        assert!(hold.conflicts().is_empty());
        // It announces nothing: only whoever asks hears it.
        lab.ip("b", &format!("addr add {VIP4}/32 dev eth0"));
        node::wait_until("the rival is found", || ip.conflict().is_some());
    });
}

#[test]
fn the_gateway_is_asked_and_so_learns_the_address() {
    let lab = lab_or_skip!();
    lab.ip("b", "route add default via 10.78.0.3");
    lab.ip("b", "-6 route add default via fd00:78::3");
    lab.within("b", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let _hold = ip.claim(&live.leadership()).expect("nobody else has it");
        // Announcements create no entry where there is none; a question does.
        for vip in [VIP4, VIP6] {
            node::wait_until("an entry", || lab.neighbour("c", vip).contains(&lab.mac("b")));
        }
    });
}

#[test]
fn five_hundred_idle_clients_are_told_of_the_takeover() {
    let lab = lab_or_skip!();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
    setrlimit(Resource::RLIMIT_NOFILE, most.min(4_096), most).expect("up to the hard limit");
    lab.ip("a", &format!("addr add {VIP4}/32 dev eth0"));
    let server = SocketAddr::new(vip4(), SMPP_PORT);
    // Connections that nobody accepts are established all the same, and idle.
    let _listener = lab.within("a", || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("sockets are left");
        socket.bind(&server.into()).expect("a free port");
        socket.listen(2_048).expect("bound");
        socket
    });
    let clients: Vec<TcpStream> = lab
        .within("c", || (0..IDLE_CLIENTS).map(|_| TcpStream::connect(server).expect("the address is on a")).collect());
    let addresses: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().expect("connected")).collect();
    for client in &clients {
        client.set_nonblocking(true).expect("ours");
    }
    lab.switch("link set p-a down");
    lab.within("b", || {
        let ip = node::open(&NodeOptions { node_id: 2, ..NodeOptions::default() }).expect("root may");
        let live = LiveLease::new(2);
        let begun = Instant::now();
        let hold = ip.claim(&live.leadership()).expect("a is cut off");
        let claimed = begun.elapsed();
        let run = hold.tickle(server, addresses.iter().copied()).expect("a thread");
        let mut told = resets(&clients, begun);
        told.sort();
        eprintln!(
            "MEASURED {IDLE_CLIENTS} idle clients told: claim took {claimed:?}, then first {:?} median {:?} last {:?}",
            told[0] - claimed,
            told[IDLE_CLIENTS / 2] - claimed,
            told[IDLE_CLIENTS - 1] - claimed
        );
        let back = std::collections::BTreeMap::from([(IpAddr::from([10, 78, 0, 3]), IDLE_CLIENTS)]);
        run.came_back(&back);
        assert_eq!(run.waiting(), 0);
    });
}

/// When each client was reset, counted from `begun`.
fn resets(clients: &[TcpStream], begun: Instant) -> Vec<Duration> {
    let mut waiting: Vec<&TcpStream> = clients.iter().collect();
    let mut told = Vec::new();
    while !waiting.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} clients were never told", waiting.len());
        let mut polled: Vec<_> = waiting.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut polled, PollTimeout::from(100_u8)).expect("poll");
        let now = begun.elapsed();
        waiting.retain(|client| match (&mut &**client).read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                told.push(now);
                false
            }
            other => panic!("an idle client is reset and nothing else: {other:?}"),
        });
    }
    told
}
