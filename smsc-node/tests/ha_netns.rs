//! The floating IP on real interfaces: hosts are network namespaces on one bridge, so this needs root. Without it the
//! tests that need it print a SKIPPED line and pass; those of the loopback mode run anyway.

#![allow(missing_docs, reason = "a test binary")]

/// Skips the calling test, loudly, where namespaces cannot be made.
macro_rules! lab_or_skip {
    () => {
        match $crate::lab::Lab::new() {
            Some(lab) => lab,
            None => {
                eprintln!("SKIPPED (line {}): needs root to make network namespaces", line!());
                return;
            }
        }
    };
}

#[path = "ha_netns/data_path.rs"]
mod data_path;
#[path = "ha_netns/early.rs"]
mod early;
#[path = "ha_netns/kept.rs"]
mod kept;
#[path = "ha_netns/lab.rs"]
mod lab;
#[path = "ha_netns/neighbours.rs"]
mod neighbours;
#[path = "ha_netns/node.rs"]
mod node;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lab::Lab;
use nix::sys::signal::Signal;
use node::{Node, NodeOptions, VIP4, VIP6};
use smsc_node::ha::netlink::{AddressTable, Lifetime, SocketTable};
use smsc_node::ha::tickle::Tickler;
use smsc_node::ha::{HaError, HoldState, Leadership, Lease, LossReason, MonoTime, arp, link::LinkPort};

const SMPP_PORT: u16 = 2775;

fn vip4() -> IpAddr {
    VIP4.parse().expect("literal")
}

fn vip6() -> IpAddr {
    VIP6.parse().expect("literal")
}

/// Whether neither address is on the host of the calling thread.
fn both_gone() -> bool {
    let mut table = AddressTable::open().expect("netlink");
    [vip4(), vip6()].into_iter().all(|address| table.find(address).expect("dump").is_empty())
}

/// A lease that is kept alive until it is dropped, as the consensus layer would.
struct LiveLease {
    lease: Arc<Lease>,
}

impl LiveLease {
    fn new(term: u64) -> Self {
        let lease = Lease::new(term);
        node::keep_extending(&lease, Duration::from_millis(300));
        Self { lease }
    }

    fn leadership(&self) -> Leadership {
        Leadership::new(Arc::clone(&self.lease))
    }
}

impl Drop for LiveLease {
    fn drop(&mut self) {
        self.lease.end();
    }
}

#[test]
fn an_address_that_nobody_renews_is_dropped_by_the_kernel() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let mut table = AddressTable::open().expect("netlink");
        let link = table.link("eth0").expect("the lab's interface");
        assert!(link.mac.is_some() && link.carrier);
        for (address, prefix_len) in [(vip4(), 32), (vip6(), 128)] {
            table.add(link.index, address, prefix_len, 1).expect("root may");
            let entries = table.find(address).expect("dump");
            assert_eq!(entries.len(), 1);
            assert!(matches!(entries[0].lifetime, Lifetime::Seconds(0..=1)), "{entries:?}");
        }
        let begun = Instant::now();
        while !both_gone() {
            assert!(begun.elapsed() < Duration::from_secs(4), "the kernel keeps the address");
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("MEASURED kernel dropped addresses of valid_lft 1 s after {:?}", begun.elapsed());
        let renewed = table.renew(link.index, vip4(), 32, 1, || true).expect("a list is read");
        assert!(!renewed && both_gone(), "a renewal must not add an address that is gone");
    });
}

#[test]
fn a_claim_holds_past_the_kernel_lifetime_and_a_release_leaves_nothing() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let options = NodeOptions { valid_lft_s: 1, ..NodeOptions::default() };
        let ip = node::open(&options).expect("root may");
        let live = LiveLease::new(5);
        let begun = Instant::now();
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        eprintln!("MEASURED claim took {:?}", begun.elapsed());
        assert_eq!(ip.held_by_term(), Some(5));
        assert!(hold.conflicts().is_empty());
        assert!(matches!(ip.claim(&live.leadership()), Err(HaError::StillHeld { term: 5 })));

        let mut table = AddressTable::open().expect("netlink");
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            for address in [vip4(), vip6()] {
                let entries = table.find(address).expect("dump");
                assert_eq!(entries.len(), 1, "{address} is renewed");
                assert!(matches!(entries[0].lifetime, Lifetime::Seconds(_)));
            }
            thread::sleep(Duration::from_millis(20));
        }

        let listener = TcpListener::bind(("0.0.0.0", SMPP_PORT)).expect("a free port");
        let connect = || TcpStream::connect((vip4(), SMPP_PORT)).expect("the address is held");
        let mut client = lab.within("c", connect);
        let (mut served, _) = listener.accept().expect("connected above");
        let begun = Instant::now();
        let released = hold.release().expect("root may");
        eprintln!("MEASURED release took {:?}", begun.elapsed());
        assert_eq!((released.taken_down.addresses, released.taken_down.sockets), (2, 1));
        assert!(released.certificate().proves(&live.lease.release_token_hash()));
        assert!(both_gone());
        let error = served.read(&mut [0]).expect_err("destroyed");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        client.set_read_timeout(Some(Duration::from_millis(300))).expect("a positive span");
        let error = client.read(&mut [0]).expect_err("nothing may leave under a released address");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(ip.held_by_term(), None);
    });
}

#[test]
fn a_lease_that_ends_takes_the_address_with_it() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        let begun = Instant::now();
        live.lease.end();
        node::wait_until("the loss", || hold.state() == HoldState::Lost(LossReason::LeaseEnded));
        eprintln!("MEASURED end of lease to address gone {:?}", begun.elapsed());
        assert!(both_gone());
        let again = ip.claim(&live.leadership());
        assert!(matches!(again, Err(HaError::NotLeader { term: 1 })));
        let next = LiveLease::new(2);
        drop(hold);
        drop(ip.claim(&next.leadership()).expect("a new term may claim"));
        assert!(both_gone());

        let unextended = Lease::new(3);
        unextended.extend(MonoTime::now() + Duration::from_millis(150));
        let hold = ip.claim(&Leadership::new(unextended)).expect("the lease is still good");
        node::wait_until("the loss", || hold.state() != HoldState::Held);
        assert!(both_gone());
    });
}

#[test]
fn an_address_removed_by_hand_is_reported_and_not_put_back() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        lab.ip("a", &format!("addr del {VIP4}/32 dev eth0"));
        node::wait_until("the loss", || hold.state() == HoldState::Lost(LossReason::AddressGone));
        assert!(both_gone());
    });
}

#[test]
fn a_leftover_of_an_earlier_run_is_removed_at_start() {
    let lab = lab_or_skip!();
    lab.ip("a", &format!("addr add {VIP4}/24 dev eth0"));
    lab.ip("a", &format!("addr add {VIP6}/128 dev lo"));
    lab.within("a", || {
        assert!(!both_gone());
        let _ip = node::open(&NodeOptions::default()).expect("root may");
        assert!(both_gone());
    });
}

#[test]
fn each_form_of_announcement_moves_a_neighbours_entry() {
    let lab = lab_or_skip!();
    let vip = VIP4.parse().expect("literal");
    for (name, build) in [
        ("request", arp::announcement_request as fn([u8; 6], _) -> Vec<u8>),
        ("reply", arp::announcement_reply as fn([u8; 6], _) -> Vec<u8>),
    ] {
        // The entry is new, and Linux is at its most reluctant to change one within its first second.
        lab.set_neighbour("c", VIP4, "a", "reachable");
        lab.within("b", || {
            let port = LinkPort::open("eth0", vip4()).expect("root may");
            let link = AddressTable::open().and_then(|mut table| table.link("eth0"));
            let mac = link.expect("the lab's").mac.expect("veth has one");
            port.send(&build(mac, vip)).expect("the link is up");
        });
        node::wait_until(name, || lab.neighbour("c", VIP4).contains(&lab.mac("b")));
    }
}

#[test]
fn a_claim_moves_the_neighbours_entries_of_both_families() {
    let lab = lab_or_skip!();
    for address in [VIP4, VIP6] {
        lab.set_neighbour("c", address, "a", "reachable");
    }
    lab.within("b", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let begun = Instant::now();
        let _hold = ip.claim(&live.leadership()).expect("nobody else has it");
        for address in [VIP4, VIP6] {
            node::wait_until(address, || lab.neighbour("c", address).contains(&lab.mac("b")));
        }
        eprintln!("MEASURED neighbours follow within {:?} of the claim's start", begun.elapsed());
        lab.set_neighbour("c", VIP4, "a", "stale");
        let follows = || lab.neighbour("c", VIP4).contains(&lab.mac("b"));
        node::wait_until("the schedule brings a strayed entry back", follows);
    });
}

#[test]
fn a_probe_finds_a_host_that_still_has_the_address() {
    let lab = lab_or_skip!();
    lab.ip("a", &format!("addr add {VIP4}/32 dev eth0"));
    lab.within("b", || {
        let options = NodeOptions { probe_wait: Duration::from_millis(200), ..NodeOptions::default() };
        let ip = node::open(&options).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("a conflict is reported, not obeyed");
        assert_eq!(hold.conflicts().len(), 1);
        assert_eq!(hold.conflicts()[0].0, vip4());
        drop(hold);

        // Asked beside the claim, it answers the same.
        let ip = node::open(&NodeOptions { node_id: 2, ..NodeOptions::default() }).expect("root may");
        let _hold = ip.claim(&live.leadership()).expect("a conflict is reported, not obeyed");
        node::wait_until("the other host is heard", || {
            ip.conflict().is_some_and(|conflict| conflict.address == vip4())
        });
    });
}

#[test]
fn what_is_certified_is_off_and_will_not_be_claimed_again() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(4);
        let leadership = live.leadership();
        let certify = || ip.certify(&leadership);
        assert!(matches!(certify(), Err(HaError::StillHeld { term: 4 })), "it may be claimed at any time");
        let hold = ip.claim(&leadership).expect("nobody else has it");
        assert!(matches!(certify(), Err(HaError::StillHeld { term: 4 })));
        hold.release().expect("root may");
        assert!(matches!(certify(), Err(HaError::StillHeld { term: 4 })), "it may be claimed again");
        live.lease.end();
        let certificate = certify().expect("it is off, and stays so");
        assert!(certificate.proves(&live.lease.release_token_hash()) && both_gone());
        assert!(matches!(ip.claim(&leadership), Err(HaError::NotLeader { term: 4 })));
    });
}

#[test]
fn what_is_prepared_and_not_claimed_leaves_nothing() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(6);
        let prepared = ip.prepare(&live.leadership()).expect("nothing is in the way");
        assert!(both_gone(), "the address is not taken yet");
        assert!(matches!(ip.prepare(&live.leadership()), Err(HaError::StillHeld { term: 6 })));
        drop(prepared);
        assert_eq!(ip.held_by_term(), None);
        let prepared = ip.prepare(&live.leadership()).expect("the one before let go");
        let hold = prepared.claim().expect("nobody else has it");
        assert!(!both_gone() && hold.state() == HoldState::Held);
        let prepared = {
            drop(hold);
            ip.prepare(&live.leadership()).expect("the one before let go")
        };
        live.lease.end();
        assert!(matches!(prepared.claim(), Err(HaError::NotLeader { term: 6 })));
        assert!(both_gone() && ip.held_by_term().is_none());
    });
}

#[test]
fn a_tickle_resets_an_idle_client_of_the_lost_owner() {
    let lab = lab_or_skip!();
    for (vip, prefix_len) in [(VIP4, 32), (VIP6, 128)] {
        lab.ip("a", &format!("addr add {vip}/{prefix_len} dev eth0 nodad"));
        let server = SocketAddr::new(vip.parse().expect("literal"), SMPP_PORT);
        let listener = lab.within("a", || TcpListener::bind(server).expect("a free port"));
        let connect = || TcpStream::connect(server).expect("the address is on a");
        let mut client = lab.within("c", connect);
        let _served = listener.accept().expect("connected above");
        lab.switch("link set p-a down");
        lab.within("b", || {
            let ip = node::open(&NodeOptions::default()).expect("root may");
            let live = LiveLease::new(2);
            let hold = ip.claim(&live.leadership()).expect("a is cut off");
            let begun = Instant::now();
            let peer = client.local_addr().expect("connected");
            let run = hold.tickle(server, [peer]).expect("a thread");
            client.set_read_timeout(Some(Duration::from_secs(2))).expect("a positive span");
            let error = client.read(&mut [0]).expect_err("the client is reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let took = begun.elapsed();
            eprintln!("MEASURED tickle to reset of an idle client ({vip}) {took:?}");
            // A lost question for the client's hardware address would be repeated after a second.
            assert!(took < Duration::from_millis(700), "the first tickle did nothing");
            run.stop(peer);
            assert_eq!(run.waiting(), 0);
        });
        drop(listener);
        lab.ip("a", &format!("addr del {vip}/{prefix_len} dev eth0"));
        lab.switch("link set p-a up");
    }
}

#[test]
fn a_tickle_run_leaves_out_clients_that_were_stopped() {
    let lab = lab_or_skip!();
    lab.ip("b", &format!("addr add {VIP4}/32 dev eth0"));
    lab.within("b", || {
        let tickler = Arc::new(Tickler::open().expect("root may"));
        let server = SocketAddr::new(vip4(), SMPP_PORT);
        let clients = [lab.address("c", 40_000), lab.address("c", 40_001)];
        let received = || lab.tcp_segments_received("c");
        let run = tickler.run(server, clients).expect("a thread");
        node::wait_until("the first round", || received() == 2);
        run.stop(clients[0]);
        node::wait_until("the second round", || received() == 3);
        run.came_back(&std::collections::BTreeMap::from([(clients[1].ip(), 1)]));
        assert_eq!(run.waiting(), 0);
        thread::sleep(Duration::from_millis(1_300));
        assert_eq!(received(), 3);
    });
}

/// Runs a node in `a` with a client in `c` and does `fault` to it. Returns the node, how long the address then stayed,
/// and when the certificate came.
fn guarded(lab: &Lab, fault: Signal) -> (Node, Duration, Duration) {
    let mut listener = lab.release_listener("b", 4_000);
    let options = NodeOptions { peer: Some(lab.address("b", 4_000)), ..NodeOptions::default() };
    let mut node = lab.within("a", || Node::start(&options));
    node.expect("held");
    let connect = || TcpStream::connect((vip4(), SMPP_PORT)).expect("the address is held");
    let _client = lab.within("c", connect);
    node.expect("accepted");
    let token_hash = node.token_hash();
    node::wait_until_guard_is_ready(node.guard_pid());

    let watch = lab.watch_address("a", vip4());
    let fault_at = Instant::now();
    node.signal(fault);
    let (certificate, certified_at) = listener.next();
    let (last_seen_at, gone_at) = watch.join().expect("the watch sees the address go");
    assert!(certified_at > last_seen_at, "the certificate came before the address was gone");
    assert!(certificate.proves(&token_hash));
    assert_eq!((certificate.term, certificate.node_id, certificate.cluster_id), (7, 1, 99));
    lab.within("a", || {
        let mut sockets = SocketTable::open().expect("netlink");
        assert_eq!(sockets.count(vip4()).expect("dump"), 0, "its connections are destroyed");
        assert!(both_gone());
    });
    (node, gone_at - fault_at, certified_at - fault_at)
}

#[test]
fn the_guard_takes_the_address_back_when_the_daemon_is_killed() {
    let mut gone = Vec::new();
    let mut certified = Vec::new();
    for _ in 0..7 {
        let lab = lab_or_skip!();
        let (node, gone_after, certified_after) = guarded(&lab, Signal::SIGKILL);
        gone.push(gone_after);
        certified.push(certified_after);
        let guard = node.guard_pid();
        node::wait_until("the guard ends", || !node::process_exists(guard));
    }
    gone.sort();
    certified.sort();
    eprintln!("MEASURED kill -9 to address gone: median {:?} worst {:?}", gone[3], gone[6]);
    eprintln!("MEASURED kill -9 to certificate: median {:?} worst {:?}", certified[3], certified[6]);
    assert!(gone[3] < Duration::from_millis(100), "{gone:?}");
}

/// A killed process gives its memory back before it closes anything, which takes a tenth of a second for half a gigabyte.
#[test]
fn the_guard_does_not_wait_until_a_large_daemon_has_given_its_memory_back() {
    let mut certified = Vec::new();
    for _ in 0..3 {
        let lab = lab_or_skip!();
        let mut listener = lab.release_listener("b", 4_000);
        let peer = Some(lab.address("b", 4_000));
        let mut node = lab.within("a", || Node::start(&NodeOptions { peer, memory: 512, ..NodeOptions::default() }));
        node.expect("held");
        // Until then it is busy with its own preparations.
        node::wait_until_guard_is_ready(node.guard_pid());
        let listening = thread::spawn(move || listener.next());
        let killed_at = Instant::now();
        node.signal(Signal::SIGKILL);
        node.expect_killed();
        let ended_at = Instant::now();
        let (certificate, certified_at) = listening.join().expect("a certificate comes");
        assert!(certificate.proves(&node.token_hash()));
        lab.within("a", || assert!(both_gone()));
        eprintln!("MEASURED kill -9: certificate {:?}, end {:?}", certified_at - killed_at, ended_at - killed_at);
        certified.push(certified_at < ended_at);
    }
    // On a busy machine the thread that tells of the end may be the last to go.
    assert!(certified.contains(&true), "the guard waited for the end each time");
}

/// The kernel's word that the thread which started the guard is gone comes as this signal from the daemon's process. As
/// long as any thread of that lives, it proves nothing.
#[test]
fn the_guard_leaves_a_daemon_alone_that_can_still_act() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        let guard = ip.guard_pid().expect("claimed with a guard");
        for _ in 0..3 {
            node::signal_process(guard, Signal::SIGUSR1);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!both_gone());
        assert_eq!((hold.state(), ip.guard_pid()), (HoldState::Held, Some(guard)));
        assert!(node::process_exists(guard));
        let released = hold.release().expect("it still listens");
        assert_eq!(released.taken_down.addresses, 2);
    });
}

#[test]
fn a_frozen_daemon_loses_the_address_to_the_guard_and_does_not_put_it_back() {
    let lab = lab_or_skip!();
    let (mut node, gone_after, _) = guarded(&lab, Signal::SIGSTOP);
    eprintln!("MEASURED SIGSTOP to address gone (lease 300 ms) {gone_after:?}");
    assert!(gone_after < Duration::from_millis(400), "{gone_after:?}");
    node.signal(Signal::SIGCONT);
    lab.within("a", || {
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            assert!(both_gone(), "a thawed daemon must not put the address back");
        }
    });
    node.expect("lost TakenByGuard");
    assert!(node::process_exists(node.guard_pid()), "the guard stays for the next term");
}

#[test]
fn the_guard_heeds_no_sigterm_and_ends_with_the_daemon() {
    let lab = lab_or_skip!();
    let mut node = lab.within("a", || Node::start(&NodeOptions::default()));
    node.expect("held");
    let guard = node.guard_pid();
    node::signal_process(guard, Signal::SIGTERM);
    node::signal_process(guard, Signal::SIGINT);
    thread::sleep(Duration::from_millis(50));
    assert!(node::process_exists(guard));
    node.say("release");
    node.expect("released");
    node.expect_end();
    node::wait_until("the guard ends", || !node::process_exists(guard));
}

#[test]
fn a_guard_that_is_killed_or_frozen_is_replaced() {
    let lab = lab_or_skip!();
    lab.within("a", || {
        let ip = node::open(&NodeOptions::default()).expect("root may");
        let live = LiveLease::new(1);
        let hold = ip.claim(&live.leadership()).expect("nobody else has it");
        let first = ip.guard_pid().expect("claimed with a guard");
        node::signal_process(first, Signal::SIGKILL);
        let replaced = || ip.guard_pid().is_some_and(|pid| pid != first);
        node::wait_until("another guard", replaced);
        assert_eq!(hold.state(), HoldState::Held);
        let second = ip.guard_pid().expect("replaced");
        node::signal_process(second, Signal::SIGSTOP);
        node::wait_until("a third guard", || ip.guard_pid().is_some_and(|pid| pid != second));
        assert_eq!(hold.state(), HoldState::Held);
        node::signal_process(ip.guard_pid().expect("replaced"), Signal::SIGSTOP);
        let second = ip.guard_pid().expect("frozen, not gone");
        drop(hold);
        let hold = ip.claim(&live.leadership()).expect("a frozen guard is replaced");
        assert_ne!(ip.guard_pid(), Some(second));
        assert_eq!(hold.state(), HoldState::Held);
    });
}

#[test]
fn loopback_mode_needs_no_privilege_and_a_killed_daemon_is_certified() {
    let mut listener = lab::CertificateSink::bind("127.0.0.1:0".parse().expect("literal"));
    let options = NodeOptions { peer: Some(listener.address()), loopback: true, ..NodeOptions::default() };
    let mut node = Node::start(&options);
    node.expect("held");
    let token_hash = node.token_hash();
    node.signal(Signal::SIGKILL);
    let (certificate, _) = listener.next();
    assert!(certificate.proves(&token_hash));

    let mut node = Node::start(&options);
    node.expect("held");
    node.say("end");
    node.expect("lost LeaseEnded");
}

/// Not a test: the process that [`Node`] starts.
#[test]
fn helper_daemon() {
    node::daemon_main();
}
