//! The process itself, from `/proc/self`, under the names all Prometheus clients use.

use std::fmt::Write as _;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::kinds::Writer;

/// What `/proc` tells about this process. A value that cannot be read is left out of the text.
pub(super) fn render(w: &mut Writer) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let ticks_per_s = system(SysconfVar::CLK_TCK);
        let page_bytes = system(SysconfVar::PAGE_SIZE);
        if let (Some(ticks_per_s), Some(page_bytes)) = (ticks_per_s, page_bytes) {
            let seconds = stat.cpu_ticks as f64 / ticks_per_s as f64;
            row(w, "process_cpu_seconds_total", "counter", "Time spent on a processor.", seconds);
            let resident = stat.resident_pages.saturating_mul(page_bytes);
            row(w, "process_resident_memory_bytes", "gauge", "Memory in use.", resident);
        }
        row(w, "process_virtual_memory_bytes", "gauge", "Address space in use.", stat.virtual_bytes);
        row(w, "process_threads", "gauge", "Threads.", stat.threads);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory being read.
        row(w, "process_open_fds", "gauge", "Open file descriptors.", entries.count().saturating_sub(1));
    }
}

fn row(w: &mut Writer, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    w.head(name, kind, help);
    // Writing to a String cannot fail.
    let _ = writeln!(w.text, "{name} {value}");
}

fn system(var: SysconfVar) -> Option<u64> {
    sysconf(var).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

/// The fields of `/proc/self/stat` of interest (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses and may hold anything, blanks and parentheses included.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` begins with the third field.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "12 (a) b) S 1 12 12 0 -1 4194560 1 0 0 0 70 30 0 0 20 0 5 0 1000 8192 25 18446744073709551615";
        let stat = Stat { cpu_ticks: 100, threads: 5, virtual_bytes: 8192, resident_pages: 25 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse(""), None);
    }
}
