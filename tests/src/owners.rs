//! Who owns the floating address at every moment, seen from outside the cluster: which hosts hold it, which answer ARP
//! requests for it, and which accept connections to its SMPP port.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::LinkAddr;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Lab;

mod knock;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(1);
const ARP_INTERVAL: Duration = Duration::from_millis(1);
const SYN_INTERVAL: Duration = Duration::from_millis(4);
const ETHERTYPE_ARP: u16 = 0x0806;
/// `AF_PACKET` of linux/socket.h.
const AF_PACKET: i32 = 17;
const INTERFACE: &str = "eth0";

/// A time for which a host certainly held the address: from the first sample with it to the last one.
#[derive(Clone, Copy, Debug)]
struct Held {
    from: Instant,
    to: Instant,
}

/// Watches until [`OwnerWatch::finish`].
#[derive(Debug)]
pub struct OwnerWatch {
    stop: Arc<AtomicBool>,
    holders: Vec<(&'static str, JoinHandle<Vec<Held>>)>,
    answers: JoinHandle<io::Result<Answers>>,
    accepts: JoinHandle<io::Result<Answers>>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// How often the address went to a host.
    pub tenures: usize,
    /// ARP requests sent, and those answered.
    pub asked: u64,
    /// See `asked`.
    pub answered: u64,
    /// Attempts to connect, each to both hosts at once, and those accepted.
    pub knocked: u64,
    /// See `knocked`.
    pub accepted: u64,
    /// Every moment with two hosts that answered for the address.
    pub violations: Vec<String>,
    /// Every time in which two hosts had the address, whether or not they answered.
    pub held_twice: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Answers {
    asked: u64,
    answered: u64,
    doubles: Vec<String>,
}

impl OwnerWatch {
    /// Watches the floating address of `lab` from the hosts a and b themselves, and by ARP from `esme`.
    pub fn start(lab: &Lab) -> OwnerWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let address: Ipv4Addr = lab.target().split(':').next().and_then(|ip| ip.parse().ok()).expect("an IPv4 address");
        let holders = ["a", "b"].map(|host| {
            let stop = Arc::clone(&stop);
            (host, lab.inside(host, move || watch_holder(address, &stop)))
        });
        let answers = {
            let stop = Arc::clone(&stop);
            lab.inside("esme", move || watch_answers(address, &stop))
        };
        let accepts = {
            let stop = Arc::clone(&stop);
            let macs = ["a", "b"].map(|host| lab.hardware_address(host));
            lab.inside("esme", move || knock::watch(address, macs, &stop))
        };
        OwnerWatch { stop, holders: holders.into(), answers, accepts }
    }

    /// Stops watching and tells what was seen.
    ///
    /// # Panics
    /// If a watcher could not work.
    pub fn finish(self) -> Owners {
        self.stop.store(true, Ordering::Relaxed);
        let mut tenures = Vec::new();
        for (host, watcher) in self.holders {
            let held = watcher.join().expect("the watcher of a host does not panic");
            tenures.extend(held.into_iter().map(|held| (host, held)));
        }
        let answers = self.answers.join().expect("the ARP watcher does not panic").expect("ARP works in the lab");
        tenures.sort_by_key(|(_, held)| held.from);
        let accepts = self.accepts.join().expect("the one who knocks does not panic").expect("TCP works in the lab");
        let mut violations = answers.doubles;
        violations.extend(accepts.doubles);
        let mut held_twice = Vec::new();
        for (at, (host, held)) in tenures.iter().enumerate() {
            for (other, later) in tenures[at + 1..].iter().take_while(|(_, later)| later.from < held.to) {
                if other != host {
                    let both = held.to.min(later.to).saturating_duration_since(later.from);
                    held_twice.push(format!("{host} and {other} held the address for {both:?}"));
                }
            }
        }
        Owners {
            tenures: tenures.len(),
            asked: answers.asked,
            answered: answers.answered,
            knocked: accepts.asked,
            accepted: accepts.answered,
            violations,
            held_twice,
        }
    }
}

fn watch_holder(address: Ipv4Addr, stop: &AtomicBool) -> Vec<Held> {
    let mut tenures: Vec<Held> = Vec::new();
    let mut held_before = false;
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        let held = getifaddrs().expect("interfaces can be listed").any(|entry| {
            entry.address.and_then(|a| a.as_sockaddr_in().map(|a| a.ip())).is_some_and(|ip| ip == address)
        });
        if held {
            match tenures.last_mut().filter(|_| held_before) {
                Some(tenure) => tenure.to = before,
                None => {
                    let now = Instant::now();
                    tenures.push(Held { from: now, to: now });
                }
            }
        }
        held_before = held;
        thread::sleep(SAMPLE_INTERVAL);
    }
    tenures
}

/// Asks again and again who has the address. A request reaches all hosts at once, so that two answers to one request
/// are two owners at one moment.
fn watch_answers(address: Ipv4Addr, stop: &AtomicBool) -> io::Result<Answers> {
    let (socket, mac, ip) = open_link(ETHERTYPE_ARP)?;
    let request = request(mac, ip, address);
    let mut seen = Answers::default();
    let mut sources = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        match socket.send(&request) {
            Ok(_) => seen.asked += 1,
            Err(error) if error.raw_os_error() == Some(nix::libc::ENETDOWN) => {}
            Err(error) => return Err(error),
        }
        thread::sleep(ARP_INTERVAL);
        sources.clear();
        let mut frame = [0; 128];
        loop {
            match (&socket).read(&mut frame) {
                Ok(length) => sources.extend(answer(&frame[..length], mac, address)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        seen.answered += u64::from(!sources.is_empty());
        if sources.len() > 1 {
            seen.doubles.push(format!("one ARP request was answered by {sources:02x?}"));
        }
    }
    Ok(seen)
}

/// A socket for the frames of this type on the host's link, and the host's addresses.
fn open_link(ethertype: u16) -> io::Result<(Socket, [u8; 6], Ipv4Addr)> {
    let (link, ip) = own_addresses()?;
    let mac = link.addr().ok_or_else(|| io::Error::other("eth0 has no hardware address"))?;
    let socket = Socket::new(Domain::from(AF_PACKET), Type::RAW, Some(Protocol::from(i32::from(ethertype.to_be()))))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &link)?;
    socket.set_nonblocking(true)?;
    Ok((socket, mac, ip))
}

fn own_addresses() -> io::Result<(LinkAddr, Ipv4Addr)> {
    let mut link = None;
    let mut ip = None;
    for entry in getifaddrs()?.filter(|entry| entry.interface_name == INTERFACE) {
        let Some(address) = entry.address else { continue };
        link = link.or(address.as_link_addr().copied());
        ip = ip.or(address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
    }
    link.zip(ip).ok_or_else(|| io::Error::other("the host has no address on eth0"))
}

/// An ordinary ARP request (RFC 826): it claims nothing but the asker's own address.
fn request(mac: [u8; 6], ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend(ETHERTYPE_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// Who answers with `address` in this frame; `None` for broadcasts such as announcements, and for anything else.
fn answer(frame: &[u8], mac: [u8; 6], address: Ipv4Addr) -> Option<[u8; 6]> {
    let to_us = frame.get(..6)? == mac;
    let is_reply = frame.get(12..14)? == ETHERTYPE_ARP.to_be_bytes() && frame.get(20..22)? == [0, 2];
    let about = frame.get(28..32)? == address.octets();
    (to_us && is_reply && about).then(|| frame.get(22..28)?.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 4];
    const OWNER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 75, 0, 100);

    #[test]
    fn only_answers_to_us_count() {
        let mut reply = request(OWNER, VIP, Ipv4Addr::new(10, 75, 0, 4));
        assert_eq!(answer(&reply, US, VIP), None, "a request");
        reply[21] = 2;
        assert_eq!(answer(&reply, US, VIP), None, "a broadcast");
        reply[..6].copy_from_slice(&US);
        assert_eq!(answer(&reply, US, VIP), Some(OWNER));
        assert_eq!(answer(&reply, US, Ipv4Addr::new(10, 75, 0, 9)), None, "another address");
        assert_eq!(answer(&reply[..30], US, VIP), None, "cut off");
    }
}
