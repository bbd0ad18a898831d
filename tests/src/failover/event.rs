//! What befalls the owner of the address.

use std::fmt;

/// An event that moves the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Event {
    /// kill -9 of the process.
    Kill,
    /// The host is lost: its cable is pulled.
    HostLoss,
    /// Its traffic is lost, the carrier stays.
    Partition,
    /// SIGSTOP of the daemon.
    FrozenDaemon,
    /// SIGSTOP of everything on the host, as when a virtual machine is paused.
    FrozenHost,
    /// Planned.
    Handover,
}

impl Event {
    /// All, in the order of the table.
    pub const ALL: [Event; 6] =
        [Event::Kill, Event::HostLoss, Event::Partition, Event::FrozenDaemon, Event::FrozenHost, Event::Handover];

    /// Median and longest outage wanted, milliseconds; `None` where no longest is.
    pub fn wanted_ms(self) -> (f64, Option<f64>) {
        match self {
            Event::Kill => (60.0, Some(150.0)),
            Event::HostLoss | Event::Partition | Event::FrozenDaemon | Event::FrozenHost => (280.0, Some(450.0)),
            Event::Handover => (30.0, None),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Event::Kill => "kill -9",
            Event::HostLoss => "host loss",
            Event::Partition => "partition",
            Event::FrozenDaemon => "frozen daemon",
            Event::FrozenHost => "frozen host",
            Event::Handover => "handover",
        })
    }
}
