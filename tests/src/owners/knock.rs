//! Knocks at the SMPP port of both data hosts at once and sees which of them opens.
//!
//! A SYN (RFC 9293) for the floating address goes straight to each host's hardware address, whatever ARP says. The host
//! that has the address and listens answers SYN-ACK; this host's kernel, which knows of no such connection, resets it.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::libc;
use socket2::SockFilter;

use super::{Answers, SYN_INTERVAL, open_link};

const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;
const SMPP_PORT: u16 = 2775;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// Ports to knock from, in turn, below those that kernels give to clients: a late answer to an earlier knock is told
/// apart.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;

pub(super) fn watch(address: Ipv4Addr, hosts: [[u8; 6]; 2], stop: &AtomicBool) -> io::Result<Answers> {
    let (socket, mac, ip) = open_link(ETHERTYPE_IPV4)?;
    socket.attach_filter(&only_syn_acks())?;
    let mut seen = Answers::default();
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let port = PORTS.start + u16::try_from(number % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
        let mut sent = false;
        for host in hosts {
            match socket.send(&knock(Ends { mac, ip, port }, host, address, number)) {
                Ok(_) => sent = true,
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => return Err(error),
            }
        }
        seen.asked += u64::from(sent);
        thread::sleep(SYN_INTERVAL);
        let mut opened = std::collections::BTreeSet::new();
        let mut frame = [0; 128];
        loop {
            match (&socket).read(&mut frame) {
                Ok(length) => opened.extend(answer(&frame[..length], address, port, number)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        seen.answered += u64::from(!opened.is_empty());
        if opened.len() > 1 {
            seen.doubles.push(format!("connections to the SMPP port were accepted by {opened:02x?} at once"));
        }
    }
    Ok(seen)
}

/// Lets nothing through but IPv4 frames with TCP's SYN and ACK (classic BPF, linux/filter.h).
fn only_syn_acks() -> [SockFilter; 9] {
    let op = |code: u32, jt: u8, jf: u8, k: u32| SockFilter::new(code as u16, jt, jf, k);
    let flags = (ETHERNET_LEN + 13) as u32;
    [
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 12),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 6, u32::from(ETHERTYPE_IPV4)),
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 23),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 4, u32::from(PROTOCOL_TCP)),
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, ETHERNET_LEN as u32),
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, flags),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(SYN_ACK)),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 128),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// The end that knocks.
#[derive(Clone, Copy)]
struct Ends {
    mac: [u8; 6],
    ip: Ipv4Addr,
    port: u16,
}

/// A SYN frame whose sequence number is `number`.
fn knock(from: Ends, host: [u8; 6], to: Ipv4Addr, number: u32) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(TCP_LEN);
    tcp.extend(from.port.to_be_bytes());
    tcp.extend(SMPP_PORT.to_be_bytes());
    tcp.extend(number.to_be_bytes());
    tcp.extend([0; 4]);
    tcp.extend([(TCP_LEN as u8 / 4) << 4, SYN]);
    tcp.extend(u16::MAX.to_be_bytes());
    tcp.extend([0; 4]);
    let mut pseudo = Vec::new();
    pseudo.extend(from.ip.octets());
    pseudo.extend(to.octets());
    pseudo.extend([0, PROTOCOL_TCP]);
    pseudo.extend((TCP_LEN as u16).to_be_bytes());
    pseudo.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend(((IPV4_LEN + TCP_LEN) as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
    ip.extend(from.ip.octets());
    ip.extend(to.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(ETHERNET_LEN + IPV4_LEN + TCP_LEN);
    frame.extend(host);
    frame.extend(from.mac);
    frame.extend(ETHERTYPE_IPV4.to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The internet checksum (RFC 1071) of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let sum: u32 = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

/// The host whose SYN-ACK for this knock is in the frame.
fn answer(frame: &[u8], address: Ipv4Addr, port: u16, number: u32) -> Option<[u8; 6]> {
    let ip = frame.get(ETHERNET_LEN..)?;
    let header = usize::from(*ip.first()? & 0x0f) * 4;
    let tcp = ip.get(header..)?;
    let from_address = ip.get(12..16)? == address.octets() && tcp.get(..2)? == SMPP_PORT.to_be_bytes();
    let to_us = tcp.get(2..4)? == port.to_be_bytes() && tcp.get(8..12)? == number.wrapping_add(1).to_be_bytes();
    let opened = tcp.get(13)? & SYN_ACK == SYN_ACK;
    (from_address && to_us && opened).then(|| frame.get(6..12)?.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 4];
    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OUR_IP: Ipv4Addr = Ipv4Addr::new(10, 75, 0, 4);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 75, 0, 100);

    #[test]
    fn checksums_come_out_even() {
        let frame = knock(Ends { mac: US, ip: OUR_IP, port: 20_001 }, HOST, VIP, 7);
        let (ip, tcp) = frame[ETHERNET_LEN..].split_at(IPV4_LEN);
        assert_eq!(checksum(ip), 0);
        let mut pseudo = [&ip[12..20], &[0, PROTOCOL_TCP, 0, TCP_LEN as u8]].concat();
        pseudo.extend(tcp);
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn only_the_answer_to_this_knock_counts() {
        // The answer is the question with everything turned round.
        let mut frame = knock(Ends { mac: HOST, ip: VIP, port: SMPP_PORT }, US, OUR_IP, 99);
        let tcp = ETHERNET_LEN + IPV4_LEN;
        frame[tcp + 2..tcp + 4].copy_from_slice(&20_001_u16.to_be_bytes());
        frame[tcp + 8..tcp + 12].copy_from_slice(&8_u32.to_be_bytes());
        assert_eq!(answer(&frame, VIP, 20_001, 7), None, "no acknowledgement");
        frame[tcp + 13] = SYN_ACK;
        assert_eq!(answer(&frame, VIP, 20_001, 7), Some(HOST));
        assert_eq!(answer(&frame, VIP, 20_001, 8), None, "an earlier knock");
        assert_eq!(answer(&frame, VIP, 20_002, 7), None, "another knock");
        assert_eq!(answer(&frame[..40], VIP, 20_001, 7), None, "cut off");
    }
}
