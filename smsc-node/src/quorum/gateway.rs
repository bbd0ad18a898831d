//! The quorum device `gateway`: observations in the place of a third machine. This node may go on alone if its peer is
//! out of reach, the gateway answers, and nobody answers for a floating address. Weaker than a fence: two nodes that have
//! lost each other and still reach the gateway are told apart by the floating address alone.

use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smsc_raft::quorum::{DevicePeer, QuorumDevice};

use crate::config::{FloatingNet, GatewayConfig};
use crate::ha::HaError;
use crate::ha::link::{LinkPort, hardware_address, wait_any_readable};

/// How often everybody is asked; all rounds must tell the same.
const ROUNDS: u32 = 3;
/// How long answers to one round are waited for: many times what a network takes, for hosts that are busy.
const ROUND: Duration = Duration::from_millis(200);
/// How long a connection to the peer's node may take. One that is refused is no answer of a node.
const CONNECT: Duration = Duration::from_millis(500);

/// See the [module](self).
pub(super) struct Gateway {
    looks: Arc<Looks>,
    /// Where it is looked, for that blocks.
    runtime: tokio::runtime::Handle,
}

struct Looks {
    gateway: IpAddr,
    floating: Vec<FloatingNet>,
}

/// A socket at an interface, and the interface's own hardware address.
struct Place {
    port: LinkPort,
    mac: [u8; 6],
}

impl Gateway {
    pub(super) fn new(config: &GatewayConfig, floating: Vec<FloatingNet>, runtime: tokio::runtime::Handle) -> Self {
        Self { looks: Arc::new(Looks { gateway: config.address, floating }), runtime }
    }
}

#[tonic::async_trait]
impl QuorumDevice for Gateway {
    async fn ask(&self, peer: &DevicePeer) -> Result<(), String> {
        // Looking changes nothing, so it may come to its end unheard: within two seconds.
        let (looks, peer) = (self.looks.clone(), peer.clone());
        let looked = self.runtime.spawn_blocking(move || looks.look(&peer)).await;
        looked.unwrap_or_else(|error| Err(format!("looking for the gateway ended badly: {error}")))
    }
}

impl Looks {
    fn look(&self, peer: &DevicePeer) -> Result<(), String> {
        if answers(&peer.addr) {
            return Err(format!("the node at {} takes connections: it is not down", peer.addr));
        }
        let (gateway, floating) = self.places().map_err(|error| error.to_string())?;
        for _ in 0..ROUNDS {
            if !self.round(&gateway, &floating)? {
                return Err(format!(
                    "the gateway {} does not answer: it is this node that is cut off, or the gateway is down",
                    self.gateway
                ));
            }
        }
        Ok(())
    }

    fn places(&self) -> Result<(Place, Vec<(IpAddr, Place)>), HaError> {
        let place = |interface: &str, address| {
            Ok::<_, HaError>(Place { port: LinkPort::open(interface, address)?, mac: hardware_address(interface)? })
        };
        // The configuration was checked: there is one of the gateway's family.
        let beside = self.floating.iter().find(|floating| floating.net.addr.is_ipv4() == self.gateway.is_ipv4());
        let interface = beside.map_or("", |floating| floating.interface.as_str());
        let floating = self.floating.iter().map(|floating| {
            let address = floating.net.addr;
            Ok((address, place(&floating.interface, address)?))
        });
        Ok((place(interface, self.gateway)?, floating.collect::<Result<_, HaError>>()?))
    }

    /// Whether the gateway answers.
    fn round(&self, gateway: &Place, floating: &[(IpAddr, Place)]) -> Result<bool, String> {
        let failed = |error: io::Error| format!("the network cannot be asked: {error}");
        for place in floating.iter().map(|(_, place)| place).chain([gateway]) {
            place.port.ask_who_else(place.mac).map_err(failed)?;
        }
        let until = Instant::now() + ROUND;
        let mut heard = false;
        loop {
            for (address, place) in floating {
                if let Some(mac) = place.port.foreign_claims(place.mac).map_err(failed)?.first() {
                    return Err(format!("{address} is in use at {}: the other node holds it", written(mac)));
                }
            }
            heard |= !gateway.port.foreign_claims(gateway.mac).map_err(failed)?.is_empty();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(heard);
            }
            let sockets: Vec<_> = floating.iter().map(|(_, place)| &place.port).chain([&gateway.port]).collect();
            let sockets: Vec<_> = sockets.iter().map(|port| port.as_fd()).collect();
            wait_any_readable(&sockets, left).map_err(failed)?;
        }
    }
}

fn answers(addr: &str) -> bool {
    let resolved = addr.to_socket_addrs().into_iter().flatten();
    resolved.into_iter().any(|addr| TcpStream::connect_timeout(&addr, CONNECT).is_ok())
}

fn written(mac: &[u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_connections_is_not_down() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound").to_string();
        let config = GatewayConfig {
            address: IpAddr::from([127, 0, 0, 1]),
            after: Duration::ZERO,
            standby_delay: Duration::ZERO,
        };
        let device = Gateway::new(&config, Vec::new(), tokio::runtime::Handle::current());
        let peer = DevicePeer { id: 2, name: "b".to_owned(), addr };
        let refused = device.ask(&peer).await.expect_err("it listens");
        assert!(refused.contains("not down"), "{refused}");
        drop(listener);
        // Nobody can be asked here: that is no yes.
        device.ask(&peer).await.expect_err("there is no interface of that name");
    }

    #[test]
    fn a_hardware_address_is_written_as_everywhere() {
        assert_eq!(written(&[2, 0, 0, 0, 0xab, 1]), "02:00:00:00:ab:01");
    }
}
