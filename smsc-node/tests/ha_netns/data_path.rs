//! The lease in the data path: what it silences, what it leaves alone, and how it comes and goes.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use smsc_node::ha::arp;
use smsc_node::ha::link::LinkPort;
use smsc_node::ha::netlink::{AddressTable, SocketTable};
use smsc_node::ha::{DataPathState, FloatingIp, HaError, HoldState, LossReason};

use crate::node::{self, Node, NodeOptions, VIP4, VIP6};
use crate::{LiveLease, SMPP_PORT, both_gone, vip4, vip6};

const CONNECT_WITHIN: Duration = Duration::from_millis(250);

fn reaches(address: IpAddr) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(address, SMPP_PORT), CONNECT_WITHIN).is_ok()
}

/// Whether somebody answers for the address when asked from the host of the calling thread.
fn answers(port: &LinkPort, mac: [u8; 6], wait: Duration) -> bool {
    port.forget().and_then(|()| port.ask_who_else(mac)).expect("the link is up");
    let begun = Instant::now();
    while begun.elapsed() < wait {
        if !port.foreign_claims(mac).expect("the link is up").is_empty() {
            return true;
        }
        thread::sleep(Duration::from_micros(200));
    }
    false
}

fn own_mac() -> [u8; 6] {
    let link = AddressTable::open().and_then(|mut table| table.link("eth0"));
    link.expect("the lab's").mac.expect("veth has one")
}

fn active(ip: &FloatingIp) -> smsc_node::ha::data_path::Dropped {
    match ip.data_path() {
        DataPathState::Active(dropped) => dropped,
        other => panic!("root may attach filters, but: {other:?}"),
    }
}

/// How many frames are sent to be counted: more than a client's own retries amount to.
const MANY: u64 = 200;

/// Sends an Ethernet frame with a VLAN tag (IEEE 802.1Q) from the host of the calling thread, [`MANY`] times.
fn send_tagged(vlan: u8, frame: &[u8]) {
    let tagged = [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat();
    let port = LinkPort::open("eth0", vip4()).expect("root may");
    for _ in 0..MANY {
        port.send(&tagged).expect("the link is up");
    }
}

#[test]
fn a_host_that_freezes_as_a_whole_falls_silent_and_cold_clients_reach_the_next_owner() {
    let lab = lab_or_skip!();
    // The kernel's own lifetime is long, so that it is not what silences the host.
    let mut frozen = lab.within("a", || Node::start(&NodeOptions { valid_lft_s: 30, ..NodeOptions::default() }));
    frozen.expect("held");
    let stop = AtomicBool::new(false);
    let last_answers = thread::scope(|scope| {
        let asking: Vec<_> = [vip4(), vip6()]
            .into_iter()
            .map(|address| {
                let (lab, stop) = (&lab, &stop);
                scope.spawn(move || {
                    lab.within("c", || {
                        let (port, mac) = (LinkPort::open("eth0", address).expect("root may"), own_mac());
                        let mut last = None;
                        while !stop.load(Ordering::Relaxed) {
                            if answers(&port, mac, Duration::from_millis(5)) {
                                last = Some(Instant::now());
                            }
                        }
                        last
                    })
                })
            })
            .collect();
        let connecting = scope.spawn(|| {
            lab.within("c", || {
                let mut last = None;
                while !stop.load(Ordering::Relaxed) {
                    let server = SocketAddr::new(vip4(), SMPP_PORT);
                    if TcpStream::connect_timeout(&server, Duration::from_millis(20)).is_ok() {
                        last = Some(Instant::now());
                    }
                    // The daemon accepts one only, and its queue of the others must not be what refuses.
                    thread::sleep(Duration::from_millis(10));
                }
                last
            })
        });
        thread::sleep(Duration::from_millis(300));
        let frozen_at = Instant::now();
        node::signal_process(frozen.guard_pid(), Signal::SIGSTOP);
        frozen.signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(1_500));
        stop.store(true, Ordering::Relaxed);
        let mut last = Vec::new();
        for thread in asking.into_iter().chain([connecting]) {
            let at = thread.join().expect("it only asks").expect("it answered while it lived");
            last.push(at.saturating_duration_since(frozen_at));
        }
        last
    });
    eprintln!("MEASURED freeze of the host (lease 300 ms) to its last answer, ARP, ND, TCP: {last_answers:?}");
    for last in &last_answers {
        assert!(*last < Duration::from_millis(1_000), "{last_answers:?}");
    }
    lab.within("a", || assert!(!both_gone(), "the address is still there, only silent"));

    // The next owner: a client that knows nothing reaches it every time.
    lab.within("b", || {
        let ip = node::open(&NodeOptions { node_id: 2, ..NodeOptions::default() }).expect("root may");
        let live = LiveLease::new(8);
        let hold = ip.claim(&live.leadership()).expect("the other is silent");
        assert!(hold.conflicts().is_empty(), "a silenced host does not answer the probe: {:?}", hold.conflicts());
        let listeners = [vip4(), vip6()].map(|vip| TcpListener::bind((vip, SMPP_PORT)).expect("held"));
        for round in 0..10 {
            for (vip, listener) in [VIP4, VIP6].into_iter().zip(&listeners) {
                lab.forget_neighbour("c", vip);
                let connect = || TcpStream::connect_timeout(&listener.local_addr().expect("bound"), CONNECT_WITHIN * 8);
                let _client = lab.within("c", connect).unwrap_or_else(|error| panic!("round {round} {vip}: {error}"));
                listener.accept().expect("it came here");
            }
        }
        assert_eq!(hold.state(), HoldState::Held);
    });

    frozen.signal(Signal::SIGCONT);
    node::signal_process(frozen.guard_pid(), Signal::SIGCONT);
    lab.within("a", || node::wait_until("the thawed host gives the address up", both_gone));
}

#[test]
fn a_closed_filter_silences_the_address_and_nothing_else() {
    let lab = lab_or_skip!();
    let ip = lab.within("a", || node::open(&NodeOptions::default()).expect("root may"));
    let _listeners = lab
        .within("a", || ["0.0.0.0:2775", "[::]:2776"].map(|address| TcpListener::bind(address).expect("a free port")));
    assert_eq!(lab.filters("a", "eth0"), 2);

    // Somebody put the addresses there, and no lease covers them.
    for (vip, prefix_len) in [(VIP4, 32), (VIP6, 128)] {
        lab.ip("a", &format!("addr add {vip}/{prefix_len} dev eth0 nodad"));
    }
    let before = active(&ip);
    lab.within("c", || {
        for vip in [vip4(), vip6()] {
            let port = LinkPort::open("eth0", vip).expect("root may");
            assert!(!answers(&port, own_mac(), Duration::from_millis(100)), "{vip}");
            assert!(!reaches(vip), "{vip}");
        }
        // Its own addresses are as reachable as ever.
        assert!(reaches("10.78.0.1".parse().expect("literal")));
        assert!(TcpStream::connect_timeout(&"[fd00:78::1]:2776".parse().expect("literal"), CONNECT_WITHIN * 8).is_ok());
    });
    let after = active(&ip);
    assert!(after.ingress > before.ingress, "{before:?} {after:?}");

    // Not even a client that knows where the address is gets anything, nor what the host sends by itself.
    lab.set_neighbour("c", VIP4, "a", "permanent");
    lab.within("c", || assert!(!reaches(vip4())));
    lab.within("a", || {
        let port = LinkPort::open("eth0", vip4()).expect("root may");
        port.announce(own_mac()).expect_err("the kernel says that it was dropped");
    });
    assert!(active(&ip).egress > after.egress, "{after:?} {:?}", active(&ip));
    lab.ip("a", &format!("addr del {VIP4}/32 dev eth0"));
    lab.forget_neighbour("c", VIP4);

    // The same number in another VLAN is another address; VLAN 0 is this one.
    let probe = |vlan| lab.within("c", || send_tagged(vlan, &arp::probe(own_mac(), VIP4.parse().expect("literal"))));
    let before = active(&ip);
    probe(5);
    lab.within("a", || send_tagged(5, &arp::announcement_request(own_mac(), VIP4.parse().expect("literal"))));
    probe(0);
    node::wait_until("those of VLAN 0 are dropped", || active(&ip).ingress >= before.ingress + MANY);
    let after = active(&ip);
    assert!(after.ingress < before.ingress + 2 * MANY && after.egress < before.egress + MANY, "{before:?} {after:?}");

    // This host as a client of the address's owner, with a cold entry and announced to.
    lab.ip("b", &format!("addr add {VIP4}/32 dev eth0"));
    let _elsewhere = lab.within("b", || TcpListener::bind((vip4(), SMPP_PORT)).expect("a free port"));
    lab.set_neighbour("a", VIP4, "c", "stale");
    lab.within("b", || {
        LinkPort::open("eth0", vip4()).and_then(|port| {
            port.announce(own_mac()).map_err(|source| HaError::Kernel { doing: "announce".to_owned(), source })
        })
    })
    .expect("root may");
    node::wait_until("the announcement passes", || lab.neighbour("a", VIP4).contains(&lab.mac("b")));
    lab.within("a", || assert!(reaches(vip4()), "a standby may be a client"));
    lab.forget_neighbour("a", VIP4);
    lab.within("a", || assert!(reaches(vip4()), "and may ask where the address is"));
}

#[test]
fn a_filter_outlives_its_process_closed_and_the_next_one_takes_it_over_and_off() {
    let lab = lab_or_skip!();
    let mut node = lab.within("a", || Node::start(&NodeOptions { valid_lft_s: 30, ..NodeOptions::default() }));
    node.expect("held");
    node::signal_process(node.guard_pid(), Signal::SIGKILL);
    node.signal(Signal::SIGKILL);
    node.expect_killed();
    assert_eq!(lab.filters("a", "eth0"), 2, "it stays");
    thread::sleep(Duration::from_millis(400));
    lab.within("a", || assert!(!both_gone(), "nobody was left to take the addresses"));
    lab.within("c", || assert!(!reaches(vip4()), "the deadline has passed"));

    let ip = lab.within("a", || node::open(&NodeOptions::default()).expect("root may"));
    assert_eq!(lab.filters("a", "eth0"), 2, "replaced, not added to");
    assert_eq!(active(&ip).ingress, 0, "another map");
    lab.within("a", || {
        assert!(both_gone());
        let live = LiveLease::new(9);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        assert!(matches!(ip.close(), Err(HaError::StillHeld { term: 9 })));
        let _listener = TcpListener::bind((vip4(), SMPP_PORT)).expect("held");
        lab.within("c", || assert!(reaches(vip4()), "a lease opens it"));
        // Somebody reorders the interface.
        lab.tc("a", "qdisc del dev eth0 clsact");
        assert_eq!(lab.filters("a", "eth0"), 0);
        node::wait_until_within("the filter is put back", Duration::from_secs(20), || lab.filters("a", "eth0") == 2);
        assert_eq!(hold.state(), HoldState::Held);
        drop(hold);
        ip.close().expect("released");
    });
    assert_eq!(lab.filters("a", "eth0"), 0);
}

#[test]
fn nodes_that_share_an_interface_do_not_disturb_each_other() {
    const OTHER: &str = "10.78.0.101";
    let lab = lab_or_skip!();
    lab.ip("a", "link add eth1 type veth peer name eth2");
    for interface in ["eth1", "eth2"] {
        lab.ip("a", &format!("link set {interface} up"));
    }
    lab.within("a", || {
        let first = node::open(&NodeOptions::default()).expect("root may");
        let second = NodeOptions {
            node_id: 2,
            addresses: &[(OTHER, 32, "eth0"), ("10.80.0.100", 32, "eth1")],
            ..NodeOptions::default()
        };
        let second = node::open(&second).expect("root may");
        assert_eq!((lab.filters("a", "eth0"), lab.filters("a", "eth1")), (4, 2));
        let (one, two) = (LiveLease::new(3), LiveLease::new(4));
        let hold = first.claim(&one.leadership()).expect("nobody else has it");
        let _listener = TcpListener::bind(("0.0.0.0", SMPP_PORT)).expect("a free port");
        lab.within("c", || assert!(reaches(vip4()), "the second's filter is closed and does not mind"));
        let other = second.claim(&two.leadership()).expect("nobody else has it");
        lab.within("c", || assert!(reaches(OTHER.parse().expect("literal"))));
        drop(hold);
        lab.within("c", || assert!(!reaches(vip4())));
        first.close().expect("released");
        assert_eq!((lab.filters("a", "eth0"), lab.filters("a", "eth1")), (2, 2));
        lab.within("c", || assert!(reaches(OTHER.parse().expect("literal"))));
        drop(other);
        // An interface that is no longer configured is swept.
        drop(second);
        let third = NodeOptions { node_id: 2, addresses: &[(OTHER, 32, "eth0")], ..NodeOptions::default() };
        let third = node::open(&third).expect("root may");
        assert_eq!((lab.filters("a", "eth0"), lab.filters("a", "eth1")), (2, 0));
        third.close().expect("never held");
        assert_eq!(lab.filters("a", "eth0"), 0);
    });
}

#[test]
fn an_interface_without_carrier_is_given_up_and_not_claimed() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        assert_eq!(ip.interface_without_carrier(), None);
        let begun = Instant::now();
        lab.switch("link set p-a down");
        node::wait_until("the loss", || hold.state() == HoldState::Lost(LossReason::NoCarrier));
        eprintln!("MEASURED carrier lost to address given up {:?}", begun.elapsed());
        assert!(both_gone());
        assert_eq!(ip.interface_without_carrier().as_deref(), Some("eth0"));
        drop(hold);
        let refused = ip.claim(&live.leadership()).err().expect("nobody would reach it");
        assert!(matches!(&refused, HaError::NoCarrier { interface } if interface == "eth0"), "{refused}");
        assert!(both_gone());
        lab.switch("link set p-a up");
        node::wait_until("the carrier", || ip.interface_without_carrier().is_none());
        drop(ip.claim(&live.leadership()).expect("plugged in"));
    });
}

#[test]
fn an_address_is_never_claimed_while_old_connections_live() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        lab.ip("a", &format!("addr add {VIP4}/32 dev eth0"));
        let listener = TcpListener::bind((vip4(), SMPP_PORT)).expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("on this host");
        let (_served, _) = listener.accept().expect("connected above");
        lab.ip("a", &format!("addr del {VIP4}/32 dev eth0"));
        let mut sockets = SocketTable::open().expect("netlink");
        assert!(sockets.count(vip4()).expect("dump") >= 2, "they live on without the address");
        let live = LiveLease::new(1);
        let _hold = ip.claim(&live.leadership()).expect("nobody else has it");
        assert_eq!(sockets.count(vip4()).expect("dump"), 0);
        client.read_exact(&mut [0]).expect_err("destroyed");
    });
}
