//! Quorum devices: what decides whether one of two nodes may go on alone. The rules that come after a yes are in
//! [`smsc_raft::quorum`].

mod fence;
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use smsc_raft::quorum::{Device, Policy, QuorumConfig};

use crate::config::{Config, QuorumDevice};

/// The pause after a device said no.
const RETRY: Duration = Duration::from_secs(5);
/// The same for one that only looks.
const GATEWAY_RETRY: Duration = Duration::from_secs(1);
/// How long a returning peer may take for the last entries before its partner goes on alone again.
const REJOIN_WITHIN: Duration = Duration::from_secs(2);

/// How this node takes part in a pair; `None` where a third member is its quorum device. The device's work is done on
/// `runtime`.
#[must_use]
pub fn quorum(config: &Config, runtime: &tokio::runtime::Handle) -> Option<QuorumConfig> {
    let (name, rules, device) = match &config.quorum.device {
        QuorumDevice::Witness => return None,
        QuorumDevice::Operator => ("operator", Device::Operator, None),
        QuorumDevice::Fence(fence) => {
            let rules = Device::Automatic {
                after: fence.after,
                standby_delay: fence.standby_delay,
                retry: RETRY,
                proves_off: true,
            };
            let device = fence::Fence::new(fence.clone(), config.cluster.clone(), config.name.clone(), runtime.clone());
            ("fence", rules, Some(Arc::new(device) as Arc<dyn smsc_raft::quorum::QuorumDevice>))
        }
        QuorumDevice::Gateway(gateway) => {
            let rules = Device::Automatic {
                after: gateway.after,
                standby_delay: gateway.standby_delay,
                retry: GATEWAY_RETRY,
                proves_off: false,
            };
            let floating = config.floating_ip.as_ref().map_or_else(Vec::new, |floating| floating.addresses.clone());
            let device = gateway::Gateway::new(gateway, floating, runtime.clone());
            ("gateway", rules, Some(Arc::new(device) as Arc<dyn smsc_raft::quorum::QuorumDevice>))
        }
    };
    let policy = Policy {
        device: rules,
        window: config.quorum.arm_within,
        lease: config.raft.election_max,
        rejoin_within: REJOIN_WITHIN,
    };
    Some(QuorumConfig { name, policy, device })
}
