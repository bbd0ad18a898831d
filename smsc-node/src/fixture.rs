//! What tests of several rooms begin with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smsc_raft::consensus::tls::Security;
use smsc_raft::store::StoreConfig;

use crate::clock::{Clock as _, SystemClock};

/// The store of a node with the id 1 in `dir`, small, and patient beside other tests.
pub(crate) fn store_config(dir: &Path, addr: SocketAddr) -> StoreConfig {
    StoreConfig {
        node_id: 1,
        witness: false,
        dir: dir.join("data"),
        listen: addr,
        security: Security::plaintext(addr).expect("loopback"),
        heartbeat: Duration::from_millis(30),
        election: (Duration::from_millis(500), Duration::from_millis(1_000)),
        lease: Duration::from_millis(900),
        quorum: None,
        log_segment_bytes: 1 << 20,
        log_cache_bytes: 1 << 20,
        store_cache_bytes: 1 << 20,
        overlay_bytes: 8 << 20,
        checkpoint_interval: Duration::from_secs(5),
        clock_ms: Arc::new(|| SystemClock.wall().as_millis()),
    }
}
