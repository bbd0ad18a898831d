//! The section `[quorum]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{count, optional};
use crate::config::raw::{Problems, Section};
use crate::config::{
    FenceConfig, FloatingIpConfig, FloatingIpMode, GatewayConfig, Member, QuorumConfig, QuorumDevice, RaftConfig, Role,
};

/// The first kinds of device that a file can name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Witness,
    Fence,
    Gateway,
    Operator,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Witness => "witness",
            Word::Fence => "fence",
            Word::Gateway => "gateway",
            Word::Operator => "operator",
        }
    }
}

pub(super) fn quorum(top: &mut Section, me: &Member, raft: &RaftConfig, p: &mut Problems) -> QuorumConfig {
    let mut s = optional(top, "quorum", p);
    let given = s.holds("device");
    let words = [Word::Witness, Word::Fence, Word::Gateway, Word::Operator].map(|word| (word.as_str(), word));
    let word = s.choice("device", &words, false, p);
    let data = raft.members.iter().filter(|member| member.role == Role::Data).count();
    let pair = data == 2 && raft.members.len() == 2;
    let word = match (given, me.role) {
        // A node that joins later, a pair and a witness say nothing else; with a third member Raft needs no device.
        (false, Role::Data) if raft.members.is_empty() || pair => Word::Operator,
        (false, _) => Word::Witness,
        (true, _) => word,
    };
    let gateway = gateway(&mut s, given && word == Word::Gateway, p);
    let fence = fence(&mut s, given && word == Word::Fence, p);
    let arm_within = s.integer("arm_within_s", Some(3600), 1..=86_400, "seconds", p);
    s.end(p);
    if given && !p.is_faulty("quorum.device") {
        relations(word, me, raft, pair, p);
    }
    let arm_within = Duration::from_secs(arm_within);
    if word == Word::Fence {
        let longest = fence.after + fence.standby_delay + fence.timeout * (fence.retries + 1);
        p.relation(
            longest < arm_within,
            "quorum.arm_within_s",
            arm_within.as_secs(),
            &["quorum.fence_timeout_s", "quorum.fence_retries", "quorum.after_ms", "quorum.standby_delay_ms"],
            format!(
                "must be more than the {} s that the fence may take with its retries, or its yes comes too late",
                longest.as_secs_f64()
            ),
        );
    }
    let device = match word {
        Word::Witness => QuorumDevice::Witness,
        Word::Gateway => QuorumDevice::Gateway(GatewayConfig {
            address: gateway.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            after: fence.after,
            standby_delay: fence.standby_delay,
        }),
        Word::Fence => QuorumDevice::Fence(fence),
        Word::Operator => QuorumDevice::Operator,
    };
    QuorumConfig { device, arm_within }
}

fn relations(word: Word, me: &Member, raft: &RaftConfig, pair: bool, p: &mut Problems) {
    let value = format!("\"{}\"", word.as_str());
    p.relation(
        me.role == Role::Data || word == Word::Witness,
        "quorum.device",
        &value,
        &["role"],
        "is for role = \"data\" only; a witness is a quorum device itself, so remove the section",
    );
    if raft.members.is_empty() {
        return;
    }
    match word {
        Word::Witness => p.relation(
            !pair,
            "quorum.device",
            &value,
            &["raft.members"],
            "needs a third member: add the witness to raft.members, or choose \"fence\", \"gateway\" or \"operator\" for \
             two nodes alone",
        ),
        Word::Fence | Word::Gateway | Word::Operator => p.relation(
            pair,
            "quorum.device",
            &value,
            &["raft.members"],
            format!(
                "is for exactly two members with role = \"data\", but raft.members holds {}; more than two voters need \
                 no device, so remove the section",
                raft.members.len()
            ),
        ),
    }
}

fn gateway(s: &mut Section, chosen: bool, p: &mut Problems) -> Option<IpAddr> {
    const NEEDS: &str = "must be the IP address of the next hop on a floating address's network, as in \"192.0.2.1\"";
    let text = s.text_or_none("gateway", NEEDS, p);
    let address = text.as_ref().and_then(|text| text.parse().ok());
    match &text {
        Some(_) if !chosen => p.add("quorum.gateway", None, "goes with device = \"gateway\" only; remove it"),
        Some(text) if address.is_none() => p.add("quorum.gateway", Some(format!("{text:?}")), NEEDS),
        None if chosen && !p.is_faulty("quorum.gateway") => {
            p.add("quorum.gateway", None, format!("is missing; it {NEEDS}"));
        }
        _ => {}
    }
    address
}

/// A gateway is asked on the network of a floating address of its family.
pub(super) fn gateway_beside(quorum: &QuorumConfig, floating: Option<&FloatingIpConfig>, p: &mut Problems) {
    let QuorumDevice::Gateway(gateway) = &quorum.device else { return };
    let Some(floating) = floating else { return };
    p.relation(
        floating.mode == FloatingIpMode::Interface
            && floating.addresses.iter().any(|one| one.net.addr.is_ipv4() == gateway.address.is_ipv4()),
        "quorum.gateway",
        gateway.address,
        &["floating_ip.mode", "floating_ip.addresses"],
        "needs a floating address of its family in mode = \"interface\": it is asked on that one's interface",
    );
}

fn fence(s: &mut Section, chosen: bool, p: &mut Problems) -> FenceConfig {
    const NEEDS: &str = "must be a program and its arguments, as in [\"/usr/sbin/fence_ipmilan\", \"--action=off\"], the \
                         program with its whole path";
    let mut command = |key: &'static str| {
        let texts = s.texts(key, NEEDS, p);
        let full = s.key(key);
        let bad = texts.as_ref().is_some_and(|texts| texts.first().is_none_or(|program| !program.starts_with('/')));
        if bad && !p.is_faulty(&full) {
            p.add(&full, texts.as_ref().map(|texts| format!("{texts:?}")), NEEDS);
        }
        if texts.is_some() && !chosen && !p.is_faulty(&full) {
            p.add(&full, None, "goes with device = \"fence\" only; remove it");
        }
        texts.filter(|texts| !texts.is_empty())
    };
    let off = command("fence_command");
    let verify = command("fence_verify");
    if chosen && off.is_none() && !p.is_faulty("quorum.fence_command") {
        p.add("quorum.fence_command", None, format!("is missing; it {NEEDS}"));
    }
    FenceConfig {
        command: off.unwrap_or_default(),
        verify,
        timeout: Duration::from_secs(s.integer("fence_timeout_s", Some(20), 1..=600, "seconds", p)),
        retries: count(s, "fence_retries", 3, 0..=100, "retries", p),
        after: Duration::from_millis(s.integer("after_ms", Some(500), 0..=600_000, "milliseconds", p)),
        standby_delay: Duration::from_millis(s.integer("standby_delay_ms", Some(1000), 0..=600_000, "milliseconds", p)),
    }
}

impl FenceConfig {
    /// The programs that must be there before the node starts, with the keys that name them.
    pub(in crate::config) fn programs(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let named = [("quorum.fence_command", Some(&self.command)), ("quorum.fence_verify", self.verify.as_ref())];
        named.into_iter().filter_map(|(key, command)| Some((key, PathBuf::from(command?.first()?))))
    }
}
