//! Filters on an interface's way in and way out (tc(8), linux/pkt_sched.h, linux/pkt_cls.h).

use std::io;

use super::{NETLINK_ROUTE, NetlinkSocket, attributes, push_attribute, read_u32};

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const TCMSG_LEN: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
/// The program's result is the verdict.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// Never handed to the network card.
const TCA_CLS_FLAGS_SKIP_HW: u32 = 1;

/// The qdisc that carries filters for both directions and queues nothing, and its two hooks.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;

const ETH_P_ALL: u16 = 3;
/// Filters of one priority are of one kind and protocol; where somebody else has the first, the next is as good.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=8;

const KIND: &[u8] = b"bpf\0";
/// As `tc filter show` prints it, and by which leftovers are known.
const FILTER_NAME: &[u8] = b"smsc-lease\0";

/// One of the two hooks of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Hook {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    fn parent(self) -> u32 {
        match self {
            Self::Ingress => CLSACT_INGRESS,
            Self::Egress => CLSACT_EGRESS,
        }
    }
}

/// A filter of ours where the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterEntry {
    link_index: u32,
    hook: Hook,
    handle: u32,
    priority: u16,
}

/// The filters of this host's interfaces (of the network namespace of the thread that opened it).
pub struct FilterTable {
    socket: NetlinkSocket,
}

impl FilterTable {
    /// Opens a netlink socket to the kernel; changing filters needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The system's, if no socket can be had.
    pub fn open() -> io::Result<Self> {
        NetlinkSocket::open(NETLINK_ROUTE).map(|socket| Self { socket })
    }

    /// Makes sure that the interface has hooks. They stay when the last filter is gone, because others may use them.
    ///
    /// # Errors
    /// The kernel's: ENOENT if it was built without them (CONFIG_NET_SCH_INGRESS).
    pub fn add_hooks(&mut self, link_index: u32) -> io::Result<()> {
        let mut body = tcmsg(link_index, CLSACT_HANDLE, CLSACT_PARENT, 0);
        push_attribute(&mut body, TCA_KIND, b"clsact\0");
        match self.socket.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &body, |_, _| {}) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Attaches a loaded program under `handle` at the first priority that takes it, in front of what is there. A
    /// filter of ours with the same handle is replaced in one step, so that there is no moment without.
    ///
    /// # Errors
    /// The kernel's, of the last priority tried.
    pub fn attach(&mut self, link_index: u32, hook: Hook, handle: u32, program_fd: i32) -> io::Result<FilterEntry> {
        let earlier = self.ours(link_index, hook, handle)?;
        let mut options = Vec::new();
        push_attribute(&mut options, TCA_BPF_FD, &program_fd.to_ne_bytes());
        push_attribute(&mut options, TCA_BPF_NAME, FILTER_NAME);
        push_attribute(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
        push_attribute(&mut options, TCA_BPF_FLAGS_GEN, &TCA_CLS_FLAGS_SKIP_HW.to_ne_bytes());
        let mut last_error = None;
        for priority in earlier.iter().map(|entry| entry.priority).chain(PRIORITIES) {
            let entry = FilterEntry { link_index, hook, handle, priority };
            let mut body = entry.message();
            push_attribute(&mut body, TCA_KIND, KIND);
            push_attribute(&mut body, TCA_OPTIONS, &options);
            match self.socket.request(RTM_NEWTFILTER, NLM_F_CREATE, &body, |_, _| {}) {
                Ok(()) => {
                    for other in earlier.iter().filter(|other| **other != entry) {
                        self.detach(other)?;
                    }
                    return Ok(entry);
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.expect("some priority was tried"))
    }

    /// Takes a filter off; one that is not there any more counts as taken off.
    ///
    /// # Errors
    /// The kernel's: EPERM without CAP_NET_ADMIN.
    pub fn detach(&mut self, entry: &FilterEntry) -> io::Result<()> {
        let mut body = entry.message();
        push_attribute(&mut body, TCA_KIND, KIND);
        match self.socket.request(RTM_DELTFILTER, 0, &body, |_, _| {}) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_gone(&error) => Ok(()),
            result => result,
        }
    }

    /// The filters that a program of this name attached under `handle`, this process or an earlier one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ours(&mut self, link_index: u32, hook: Hook, handle: u32) -> io::Result<Vec<FilterEntry>> {
        let body = tcmsg(link_index, 0, hook.parent(), 0);
        let found = self.socket.dump(RTM_GETTFILTER, &body, |kind, body| {
            if kind == RTM_NEWTFILTER { parse_filter(link_index, hook, body) } else { None }
        });
        let mut found = match found {
            // An interface without hooks, or one that has just gone, has none.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_gone(&error) => Vec::new(),
            result => result?,
        };
        found.retain(|entry| entry.handle == handle);
        Ok(found)
    }
}

impl FilterEntry {
    /// The interface it is on.
    #[must_use]
    pub fn link_index(&self) -> u32 {
        self.link_index
    }

    /// Which way it looks.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    fn message(&self) -> Vec<u8> {
        let info = u32::from(self.priority) << 16 | u32::from(ETH_P_ALL.to_be());
        tcmsg(self.link_index, self.handle, self.hook.parent(), info)
    }
}

/// ENODEV: the interface is gone.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

fn tcmsg(link_index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [link_index, handle, parent, info] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    debug_assert_eq!(body.len(), TCMSG_LEN);
    body
}

fn parse_filter(link_index: u32, hook: Hook, body: &[u8]) -> Option<FilterEntry> {
    let (handle, info) = (read_u32(body, 8)?, read_u32(body, 16)?);
    let (mut is_bpf, mut is_ours) = (false, false);
    for (kind, payload) in attributes(body.get(TCMSG_LEN..)?) {
        match kind {
            TCA_KIND => is_bpf = payload == KIND,
            TCA_OPTIONS => {
                is_ours = attributes(payload).any(|(kind, payload)| kind == TCA_BPF_NAME && payload == FILTER_NAME);
            }
            _ => {}
        }
    }
    let priority = u16::try_from(info >> 16).ok()?;
    (is_bpf && is_ours).then_some(FilterEntry { link_index, hook, handle, priority })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_ours_is_known_by_kind_and_name() {
        let entry = FilterEntry { link_index: 3, hook: Hook::Egress, handle: 77, priority: 2 };
        let mut body = entry.message();
        push_attribute(&mut body, TCA_KIND, KIND);
        let mut options = Vec::new();
        push_attribute(&mut options, TCA_BPF_NAME, FILTER_NAME);
        push_attribute(&mut body, TCA_OPTIONS, &options);
        assert_eq!(parse_filter(3, Hook::Egress, &body), Some(entry));
        let at = body.len() - 4;
        body[at] ^= 1;
        assert_eq!(parse_filter(3, Hook::Egress, &body), None);
        for cut in 0..body.len() {
            assert_eq!(parse_filter(3, Hook::Egress, &body[..cut]), None);
        }
    }

    #[test]
    fn an_interface_without_hooks_has_no_filters() {
        let mut table = FilterTable::open().expect("netlink needs no privilege");
        assert_eq!(table.ours(1, Hook::Ingress, 12_345).expect("dumped"), Vec::new());
    }
}
