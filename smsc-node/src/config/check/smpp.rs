//! The SMPP server's section.

use std::net::IpAddr;
use std::path::Path;

use super::{count, data_only, path, port, seconds};
use crate::config::raw::{Problems, Section};
use crate::config::{IpNet, Role, SmppConfig, SmppTlsConfig};

/// The port that IANA has for SMPP through TLS.
const TLS_PORT: u16 = 3550;

pub(super) fn smpp(top: &mut Section, role: Role, base: &Path, p: &mut Problems) -> Option<SmppConfig> {
    const SYSTEM_ID_NEEDS: &str = "must be 1 to 15 printable ASCII characters";
    let mut s = data_only(top, "smpp", role, p)?;
    let system_id = s.text_or_none("system_id", SYSTEM_ID_NEEDS, p).unwrap_or_else(|| "SMSC".to_owned());
    if !(1..=15).contains(&system_id.len()) || !system_id.bytes().all(|b| b.is_ascii_graphic()) {
        p.add("smpp.system_id", Some(format!("{system_id:?}")), SYSTEM_ID_NEEDS);
    }
    let tls = tls(&mut s, base, p);
    let smpp = SmppConfig {
        listen_port: port(&mut s, "listen_port", 2775, p),
        system_id,
        window_default: count(&mut s, "window_default", 100, 1..=10_000, "requests", p),
        binds_max_default: count(&mut s, "binds_max_default", 10, 1..=10_000, "binds", p),
        connections_max: count(&mut s, "connections_max", 2000, 1..=100_000, "connections", p),
        session_init_timer: seconds(&mut s, "session_init_timer_s", 5, 1..=300, p),
        enquire_link_interval: seconds(&mut s, "enquire_link_interval_s", 30, 1..=3600, p),
        inactivity_timer: seconds(&mut s, "inactivity_timer_s", 300, 2..=86_400, p),
        response_timer: seconds(&mut s, "response_timer_s", 10, 1..=600, p),
        pdu_bytes_max: count(&mut s, "pdu_bytes_max", 65_536, 1024..=1_048_576, "octets", p),
        proxy_networks: networks(&mut s, "proxy_networks", p),
        tls,
    };
    s.end(p);
    let inactivity = smpp.inactivity_timer.as_secs();
    p.relation(
        smpp.response_timer < smpp.inactivity_timer,
        "smpp.response_timer_s",
        smpp.response_timer.as_secs(),
        &["smpp.inactivity_timer_s"],
        format!(
            "must be less than smpp.inactivity_timer_s = {inactivity}, or a session ends while an answer may still come"
        ),
    );
    p.relation(
        smpp.enquire_link_interval < smpp.inactivity_timer,
        "smpp.enquire_link_interval_s",
        smpp.enquire_link_interval.as_secs(),
        &["smpp.inactivity_timer_s"],
        format!("must be less than smpp.inactivity_timer_s = {inactivity}, or a dead connection is never asked"),
    );
    if let Some(tls) = &smpp.tls {
        p.relation(
            tls.listen_port != smpp.listen_port,
            "smpp.tls.listen_port",
            tls.listen_port,
            &["smpp.listen_port"],
            "must not be smpp.listen_port, where ESMEs speak without TLS",
        );
    }
    Some(smpp)
}

/// The listener with TLS; without its section there is none.
fn tls(smpp: &mut Section, base: &Path, p: &mut Problems) -> Option<SmppTlsConfig> {
    let mut s = smpp.section("tls", p)?;
    let tls = SmppTlsConfig {
        listen_port: port(&mut s, "listen_port", TLS_PORT, p),
        cert: path(&mut s, "cert", base, p).unwrap_or_default(),
        key: path(&mut s, "key", base, p).unwrap_or_default(),
        client_ca: if s.holds("client_ca") { path(&mut s, "client_ca", base, p) } else { None },
    };
    s.end(p);
    Some(tls)
}

fn networks(s: &mut Section, key: &'static str, p: &mut Problems) -> Vec<IpNet> {
    const NEEDS: &str = "must be a list of networks or addresses, as in [\"10.75.0.0/24\", \"fd00::5\"]";
    let full = s.key(key);
    let mut networks = Vec::new();
    for text in s.texts(key, NEEDS, p).unwrap_or_default() {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        match text.parse::<IpNet>().ok().or_else(address) {
            Some(network) => networks.push(network.trunc()),
            None => p.add(&full, Some(format!("{text:?}")), NEEDS),
        }
    }
    networks
}
