//! outbind (SMPP v3.4 section 4.1.7): calls an ESME that has messages waiting and no receiver bound, so that it binds.
//!
//! The connection is made from the floating address and is a session like any other from then on: the ESME binds as
//! receiver or transceiver within the session_init time and is checked as if it had called. One that does not is called
//! again after a while, less and less often.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smsc_proto::pdu;
use smsc_proto::time::MonoTime;
use smsc_raft::model::{Account, Outbind};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Shared, Stop};
use super::listener::{Accepted, Slots};

/// How often it is looked who has to be called.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// The wait after the first call in vain; each further one doubles it, to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Which accounts have a receiver bound here. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbinds {
    receivers: Arc<Mutex<HashMap<String, usize>>>,
}

/// A receiver of an account; dropped when it receives no more.
#[derive(Debug)]
pub(super) struct Receiving {
    outbinds: Outbinds,
    system_id: String,
}

impl Outbinds {
    /// A receiver of this account is bound.
    pub(super) fn receives(&self, system_id: &str) -> Receiving {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        *receivers.entry(system_id.to_owned()).or_default() += 1;
        Receiving { outbinds: self.clone(), system_id: system_id.to_owned() }
    }

    fn has_receiver(&self, system_id: &str) -> bool {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(system_id)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut receivers = self.outbinds.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = receivers.get_mut(&self.system_id) {
            *count -= 1;
            if *count == 0 {
                receivers.remove(&self.system_id);
            }
        }
    }
}

/// When an account may be called again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Backoff {
    next: MonoTime,
    wait: Duration,
}

impl Backoff {
    /// After a call that is in vain if it has come to nothing at `over`, the first in a row or a further one.
    fn after(before: Option<Backoff>, over: MonoTime) -> Backoff {
        let wait = before.map_or(BACKOFF.0, |before| (before.wait * 2).min(BACKOFF.1));
        Backoff { next: over + wait, wait }
    }
}

/// Calls whoever has to be called until the server stops; gives back the connections that are still there.
pub(super) async fn call(
    shared: Arc<Shared>,
    slots: Slots,
    from: Vec<IpAddr>,
    mut stop: watch::Receiver<Stop>,
) -> Accepted {
    let mut calls = JoinSet::new();
    let mut waits: HashMap<String, Backoff> = HashMap::new();
    loop {
        tokio::select! {
            _ = stop.changed() => return Accepted { connections: calls, quiet: None },
            Some(ended) = calls.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a call's task failed");
            },
            () = tokio::time::sleep(LOOK_INTERVAL) => {
                let now = shared.clock.mono();
                let directory = shared.centre.directory();
                // Who receives has answered; the next time is the first again.
                waits.retain(|system_id, _| {
                    directory.accounts.contains_key(system_id) && !shared.outbinds.has_receiver(system_id)
                });
                for account in directory.accounts.values() {
                    let Some(outbind) = due(&shared, account) else { continue };
                    let before = waits.get(&account.system_id).copied();
                    if before.is_some_and(|before| before.next > now) {
                        continue;
                    }
                    let over = now + CONNECT_WAIT + shared.config.session_init_timer;
                    waits.insert(account.system_id.clone(), Backoff::after(before, over));
                    let (system_id, outbind) = (account.system_id.clone(), outbind.clone());
                    let (shared, slots, from, stop) = (shared.clone(), slots.clone(), from.clone(), stop.clone());
                    calls.spawn(async move {
                        tracing::info!(system_id, addr = outbind.addr, "messages wait and no receiver is bound: outbind");
                        if let Err(error) = one_call(&shared, &slots, &from, &outbind, stop).await {
                            tracing::warn!(system_id, addr = outbind.addr, %error, "outbind did not reach the ESME");
                        }
                    });
                }
            }
        }
    }
}

/// How an account is to be called, if it has to be.
fn due<'a>(shared: &Shared, account: &'a Account) -> Option<&'a Outbind> {
    let outbind = account.outbind.as_ref().filter(|outbind| !outbind.addr.is_empty())?;
    let wanted = !account.disabled && account.may_receive && !shared.outbinds.has_receiver(&account.system_id);
    // A failing disk stops the node; until then nobody is called.
    (wanted && shared.centre.has_messages(&account.system_id).unwrap_or(false)).then_some(outbind)
}

async fn one_call(
    shared: &Arc<Shared>,
    slots: &Slots,
    from: &[IpAddr],
    outbind: &Outbind,
    mut stop: watch::Receiver<Stop>,
) -> io::Result<()> {
    let connected = tokio::select! {
        connected = tokio::time::timeout(CONNECT_WAIT, connect(from, &outbind.addr)) => connected,
        // A stop does not wait for an ESME that is not reached yet.
        _ = stop.changed() => return Ok(()),
    };
    let (stream, peer) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let own = if outbind.system_id.is_empty() { &shared.config.system_id } else { &outbind.system_id };
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "its system_id or password does not fit");
    let pdu = pdu::Outbind {
        system_id: own.parse().map_err(invalid)?,
        password: outbind.password.parse().map_err(invalid)?,
        ..pdu::Outbind::default()
    };
    let Some((slot, mut connection)) = slots.admit(shared, stream, peer, None)? else {
        return Err(io::Error::other("too many connections (smpp.connections_max)"));
    };
    connection.invite(pdu).map_err(io::Error::other)?;
    connection.run(stop).await;
    drop(slot);
    Ok(())
}

/// Connects from the floating address of the right family, so that the ESME sees the one it knows.
async fn connect(from: &[IpAddr], addr: &str) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in tokio::net::lookup_host(addr).await? {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(own) = from.iter().find(|own| own.is_ipv4() == target.is_ipv4()) {
            socket.bind(SocketAddr::new(*own, 0))?;
        }
        match socket.connect(target).await {
            Ok(stream) => return Ok((stream, target)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_receives_until_its_last_receiver_is_gone() {
        let outbinds = Outbinds::default();
        let (first, second) = (outbinds.receives("a"), outbinds.receives("a"));
        drop(first);
        assert!(outbinds.has_receiver("a") && !outbinds.has_receiver("b"));
        drop(second);
        assert!(!outbinds.has_receiver("a"));
    }

    #[test]
    fn calls_in_vain_become_rarer_up_to_a_limit() {
        let now = MonoTime::ZERO;
        let mut backoff = Backoff::after(None, now);
        let mut waits = vec![backoff.wait.as_secs()];
        for _ in 0..7 {
            backoff = Backoff::after(Some(backoff), now);
            waits.push(backoff.wait.as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}
