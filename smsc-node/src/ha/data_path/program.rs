//! The filter itself: drops what concerns the floating addresses once the deadline has passed, and lets everything else
//! go on to whichever filters come behind it.
//!
//! What "concerns" means depends on the direction. Outgoing: sent *from* a floating address (ARP sender, IP source, the
//! target of a neighbour advertisement). Incoming: sent *to* one, or asking who has it. Traffic of this host to the
//! address while another node holds it, the other's announcements included, is not touched.

use std::net::IpAddr;

use super::asm::{Assembler, Helper, Label, Reg, Width};

/// Which way the packets go, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ha) enum Direction {
    /// From the network to the host.
    Ingress,
    /// From the host to the network.
    Egress,
}

/// The map's slots: until when packets pass (CLOCK_MONOTONIC nanoseconds), and how many were dropped each way.
pub(super) const SLOT_DEADLINE: u32 = 0;
pub(super) const SLOT_DROPPED_INGRESS: u32 = 1;
pub(super) const SLOT_DROPPED_EGRESS: u32 = 2;
pub(super) const SLOTS: u32 = 3;

/// Not our business: the next filter decides (TC_ACT_UNSPEC). TC_ACT_OK would keep the packet from it.
const VERDICT_PASS: i32 = -1;
/// TC_ACT_SHOT.
const VERDICT_DROP: i32 = 2;

// struct __sk_buff of linux/bpf.h.
const SKB_PROTOCOL: i16 = 16;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_TCI: i16 = 24;
const VLAN_ID_MASK: i32 = 0x0fff;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

// Where the headers keep what is looked at.
const ARP_SENDER: i32 = 14;
const ARP_TARGET: i32 = 24;
const IPV4_SOURCE: i32 = 12;
const IPV4_DESTINATION: i32 = 16;
const IPV6_NEXT_HEADER: i32 = 6;
const IPV6_SOURCE: i32 = 8;
const IPV6_DESTINATION: i32 = 24;
const IPV6_HEADER_LEN: i32 = 40;
const ND_TARGET: i32 = IPV6_HEADER_LEN + 8;
const NEXT_HEADER_ICMPV6: i32 = 58;
const NEIGHBOUR_SOLICITATION: i32 = 135;
const NEIGHBOUR_ADVERTISEMENT: i32 = 136;

// The stack: sixteen bytes read from the packet, and below them the key of the map.
const BUFFER: i16 = -16;
const KEY: i16 = -24;

/// The instructions for one direction of an interface.
///
/// `header_len` is that of the link layer's header, 14 for Ethernet and 0 where packets begin with IP.
pub(super) fn build(direction: Direction, header_len: u8, addresses: &[IpAddr], map_fd: i32) -> Vec<u64> {
    let mut asm = Assembler::default();
    let (pass, concerned) = (asm.label(), asm.label());
    let mut filter = Filter { asm, header_len: header_len.into(), direction, pass, concerned, addresses };
    filter.asm.copy(Reg::R6, Reg::R1);
    filter.skip_other_vlans();
    filter.look_at_addresses();
    filter.compare_deadline(map_fd);
    filter.asm.place(pass);
    filter.asm.set(Reg::R0, VERDICT_PASS);
    filter.asm.exit();
    filter.asm.finish()
}

struct Filter<'a> {
    asm: Assembler,
    header_len: i32,
    direction: Direction,
    pass: Label,
    concerned: Label,
    addresses: &'a [IpAddr],
}

impl Filter<'_> {
    /// A tagged packet belongs to another network, where the same address may be somebody else's. VLAN 0 is none.
    fn skip_other_vlans(&mut self) {
        let untagged = self.asm.label();
        self.asm.load(Width::Word, Reg::R0, Reg::R6, SKB_VLAN_PRESENT);
        self.asm.jump_if_eq(Reg::R0, 0, untagged);
        self.asm.load(Width::Word, Reg::R0, Reg::R6, SKB_VLAN_TCI);
        self.asm.and(Reg::R0, VLAN_ID_MASK);
        self.asm.jump_if_ne(Reg::R0, 0, self.pass);
        self.asm.place(untagged);
    }

    /// Ends at `concerned` or at `pass`. What no address needs is left out: the kernel refuses a program with
    /// instructions that nothing leads to.
    fn look_at_addresses(&mut self) {
        let (arp, ipv4, ipv6) = (self.asm.label(), self.asm.label(), self.asm.label());
        let any_ipv4 = self.addresses.iter().any(IpAddr::is_ipv4);
        let any_ipv6 = self.addresses.iter().any(IpAddr::is_ipv6);
        self.asm.load(Width::Word, Reg::R7, Reg::R6, SKB_PROTOCOL);
        for (ethertype, label, wanted) in
            [(ETHERTYPE_IPV4, ipv4, any_ipv4), (ETHERTYPE_ARP, arp, any_ipv4), (ETHERTYPE_IPV6, ipv6, any_ipv6)]
        {
            if wanted {
                self.asm.jump_if_eq32(Reg::R7, ethertype.to_be().into(), label);
            }
        }
        self.asm.jump(self.pass);
        if any_ipv4 {
            self.asm.place(ipv4);
            self.look_at_ipv4();
            self.asm.place(arp);
            self.look_at_arp();
        }
        if any_ipv6 {
            self.asm.place(ipv6);
            self.look_at_ipv6();
        }
    }

    fn look_at_ipv4(&mut self) {
        self.read(if self.direction == Direction::Egress { IPV4_SOURCE } else { IPV4_DESTINATION }, 4);
        self.match_ipv4(self.concerned);
        self.asm.jump(self.pass);
    }

    fn look_at_arp(&mut self) {
        match self.direction {
            Direction::Egress => {
                self.read(ARP_SENDER, 4);
                self.match_ipv4(self.concerned);
                self.asm.jump(self.pass);
            }
            Direction::Ingress => {
                let asked = self.asm.label();
                self.read(ARP_TARGET, 4);
                self.match_ipv4(asked);
                self.asm.jump(self.pass);
                self.asm.place(asked);
                // An announcement names the address as sender, too: it is the rightful owner's.
                self.read(ARP_SENDER, 4);
                self.match_ipv4(self.pass);
                self.asm.jump(self.concerned);
            }
        }
    }

    fn look_at_ipv6(&mut self) {
        self.read(if self.direction == Direction::Egress { IPV6_SOURCE } else { IPV6_DESTINATION }, 16);
        self.match_ipv6(self.concerned);
        let discovery = match self.direction {
            Direction::Egress => NEIGHBOUR_ADVERTISEMENT,
            Direction::Ingress => NEIGHBOUR_SOLICITATION,
        };
        for (offset, value) in [(IPV6_NEXT_HEADER, NEXT_HEADER_ICMPV6), (IPV6_HEADER_LEN, discovery)] {
            self.read(offset, 1);
            self.asm.load(Width::Byte, Reg::R0, Reg::R10, BUFFER);
            self.asm.jump_if_ne(Reg::R0, value, self.pass);
        }
        self.read(ND_TARGET, 16);
        self.match_ipv6(self.concerned);
        self.asm.jump(self.pass);
    }

    /// Drops and counts unless the deadline lies ahead.
    fn compare_deadline(&mut self, map_fd: i32) {
        let drop = self.asm.label();
        self.asm.place(self.concerned);
        self.look_up(map_fd, SLOT_DEADLINE);
        // A map of three slots has a first one; the kernel wants to see the question asked.
        self.asm.jump_if_eq(Reg::R0, 0, drop);
        self.asm.load(Width::Double, Reg::R8, Reg::R0, 0);
        self.asm.call(Helper::KtimeGetNs);
        self.asm.jump_if_gt_reg(Reg::R8, Reg::R0, self.pass);
        let slot = if self.direction == Direction::Egress { SLOT_DROPPED_EGRESS } else { SLOT_DROPPED_INGRESS };
        self.look_up(map_fd, slot);
        self.asm.jump_if_eq(Reg::R0, 0, drop);
        self.asm.set(Reg::R1, 1);
        self.asm.atomic_add(Reg::R0, 0, Reg::R1);
        self.asm.place(drop);
        self.asm.set(Reg::R0, VERDICT_DROP);
        self.asm.exit();
    }

    /// `r0 = &map[slot]`
    fn look_up(&mut self, map_fd: i32, slot: u32) {
        self.asm.store_word(Reg::R10, KEY, slot as i32);
        self.asm.set_map(Reg::R1, map_fd);
        self.asm.copy(Reg::R2, Reg::R10);
        self.asm.add(Reg::R2, KEY.into());
        self.asm.call(Helper::MapLookupElem);
    }

    /// Copies bytes from behind the link layer's header to the buffer; a packet too short for them passes.
    fn read(&mut self, offset: i32, len: i32) {
        self.asm.copy(Reg::R1, Reg::R6);
        self.asm.set(Reg::R2, self.header_len + offset);
        self.asm.copy(Reg::R3, Reg::R10);
        self.asm.add(Reg::R3, BUFFER.into());
        self.asm.set(Reg::R4, len);
        self.asm.call(Helper::SkbLoadBytes);
        self.asm.jump_if_ne(Reg::R0, 0, self.pass);
    }

    fn match_ipv4(&mut self, found: Label) {
        self.asm.load(Width::Word, Reg::R0, Reg::R10, BUFFER);
        for address in self.addresses {
            if let IpAddr::V4(address) = address {
                self.asm.jump_if_eq32(Reg::R0, u32::from_ne_bytes(address.octets()), found);
            }
        }
    }

    fn match_ipv6(&mut self, found: Label) {
        for address in self.addresses {
            let IpAddr::V6(address) = address else {
                continue;
            };
            let octets = address.octets();
            let half = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().expect("eight of sixteen bytes"));
            let next = self.asm.label();
            for (offset, value) in [(BUFFER, half(0)), (BUFFER + 8, half(8))] {
                self.asm.load(Width::Double, Reg::R0, Reg::R10, offset);
                self.asm.set64(Reg::R1, value);
                self.asm.jump_if_ne_reg(Reg::R0, Reg::R1, next);
            }
            self.asm.jump(found);
            self.asm.place(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which instructions can be reached from the first; a jump out of the program panics.
    fn reached(program: &[u64]) -> Vec<bool> {
        let mut reached = vec![false; program.len()];
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let bytes = program[at].to_ne_bytes();
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let target = || at.checked_add_signed(1 + isize::from(offset)).expect("within the program");
            match bytes[0] {
                0x95 => {}
                0x05 => open.push(target()),
                0x18 => {
                    reached[at + 1] = true;
                    open.push(at + 2);
                }
                opcode if matches!(opcode & 7, 5 | 6) && opcode != 0x85 => open.extend([at + 1, target()]),
                _ => open.push(at + 1),
            }
        }
        reached
    }

    #[test]
    fn nothing_in_a_program_is_out_of_reach_whatever_the_addresses() {
        let four: IpAddr = "10.75.0.100".parse().expect("literal");
        let six: IpAddr = "fd00:75::64".parse().expect("literal");
        for direction in [Direction::Ingress, Direction::Egress] {
            for addresses in [&[four][..], &[six], &[four, six], &[six, six, four, four]] {
                let program = build(direction, 14, addresses, 3);
                assert!(reached(&program).iter().all(|reached| *reached), "{direction:?} {addresses:?}");
                assert!(program.len() < 4096, "the limit of older kernels");
            }
        }
    }
}
