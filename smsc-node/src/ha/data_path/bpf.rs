//! bpf(2): maps and programs of the kernel.
//!
//! The only way to the system call is by a pointer to a structure that itself holds addresses, so this is the one place
//! of the data path that needs `unsafe`; what leaves here is safe.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// The verifier's remarks on a program it refuses; the last lines say why.
const LOG_LEN: usize = 64 * 1024;

/// As `bpftool` shows it; at most 15 bytes.
const NAME: &[u8] = b"smsc_lease";
/// Nothing called here is kept for programs under the GPL (since Linux 5.8).
const LICENSE: &[u8] = b"Apache-2.0\0";

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// An array of 64-bit numbers that the kernel's programs and this process share.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
}

impl Map {
    /// Makes one of `slots` zeros.
    ///
    /// # Errors
    /// EPERM without CAP_BPF (CAP_SYS_ADMIN before Linux 5.8), ENOSYS or EINVAL where the kernel has no bpf(2).
    pub(super) fn create(slots: u32) -> io::Result<Self> {
        let mut attributes = MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: slots,
            name: name(),
            ..MapCreate::default()
        };
        // SAFETY: the structure holds no addresses.
        let fd = unsafe { bpf(BPF_MAP_CREATE, &mut attributes) }?;
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The number that programs name the map by while they are loaded.
    pub(super) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Sets one slot; programs see it at once, and whole.
    ///
    /// # Errors
    /// E2BIG for a slot that is not there.
    pub(super) fn set(&self, slot: u32, mut value: u64) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, slot, &mut value)
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// ENOENT for a slot that is not there.
    pub(super) fn get(&self, slot: u32) -> io::Result<u64> {
        let mut value = 0;
        self.element(BPF_MAP_LOOKUP_ELEM, slot, &mut value)?;
        Ok(value)
    }

    fn element(&self, command: libc::c_int, slot: u32, value: &mut u64) -> io::Result<()> {
        let mut attributes = MapElement {
            map_fd: self.raw_fd() as u32,
            padding: 0,
            key: (&raw const slot) as u64,
            value: std::ptr::from_mut(value) as u64,
            flags: 0,
        };
        // SAFETY: key and value point to four and eight bytes that outlive the call, as the map was made for.
        unsafe { bpf(command, &mut attributes) }.map(drop)
    }
}

/// Loads a classifier for tc and returns what it is attached by; the kernel keeps the program as long as it is attached.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN. A program that the kernel's verifier refuses is `InvalidInput` with the end
/// of what it said.
pub(super) fn load_classifier(instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut log = Vec::new();
    let error = match try_load(instructions, &mut log) {
        Ok(fd) => return Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Err(error),
        Err(error) => error,
    };
    log.resize(LOG_LEN, 0);
    match try_load(instructions, &mut log) {
        Ok(fd) => Ok(fd),
        Err(_) => {
            let text = String::from_utf8_lossy(&log);
            let text = text.trim_end_matches('\0').trim_end();
            let last = text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ");
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{error}: {last}")))
        }
    }
}

fn try_load(instructions: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len()).expect("a filter is a few hundred instructions long"),
        insns: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).expect("64 KiB"),
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name: name(),
    };
    // SAFETY: instructions, license and log outlive the call, with the lengths given (the license ends with a zero).
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call.
///
/// # Safety
/// `attributes` is the structure that `command` wants, and what it points to is valid for as long as the call lasts.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the structure is ours for the length of the call; the rest is promised by the caller.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(answer).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn name() -> [u8; 16] {
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME);
    name
}
