//! How an account's sessions are held, and how it is called: as options of `smscctl account put`, and as it is written
//! in files and in JSON.

use clap::Args;
use serde::{Deserialize, Serialize};
use smsc_raft::model::{Outbind, SessionPolicy};

/// Options of `account put`; those that are not given keep what is set.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionArgs {
    /// A network that the account may bind from, as 192.0.2.0/24; may be given several times and replaces what is set.
    #[arg(long = "network", value_name = "NET", value_delimiter = ',', conflicts_with = "any_network")]
    networks: Option<Vec<String>>,
    /// The account may bind from anywhere.
    #[arg(long)]
    any_network: bool,
    /// Whether it may bind through TLS only.
    #[arg(long, value_name = "BOOL")]
    tls_only: Option<bool>,
    /// DNS name that the ESME's certificate must carry; empty asks for none. Implies TLS.
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// Silence after which the ESME is asked whether it is there, 0 for the node's default. Seconds.
    #[arg(long, value_name = "S")]
    enquire_link_s: Option<u32>,
    /// Time without a transaction after which it is unbound, 0 for the node's default. Seconds.
    #[arg(long, value_name = "S")]
    inactivity_s: Option<u32>,
    /// How long the ESME may take to answer, 0 for the node's default. Seconds.
    #[arg(long, value_name = "S")]
    response_s: Option<u32>,
    /// Submissions that may come at once before the rate holds them back, 0 for what one second gives.
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
}

impl SessionArgs {
    /// What is stored, with what was given in its place.
    pub fn apply(self, before: Option<SessionPolicy>) -> Option<SessionPolicy> {
        let before = before.unwrap_or_default();
        let networks = if self.any_network { Some(Vec::new()) } else { self.networks };
        let policy = SessionPolicy {
            networks: networks.unwrap_or(before.networks),
            tls_only: self.tls_only.unwrap_or(before.tls_only),
            client_name: self.client_name.unwrap_or(before.client_name),
            enquire_link_s: self.enquire_link_s.unwrap_or(before.enquire_link_s),
            inactivity_s: self.inactivity_s.unwrap_or(before.inactivity_s),
            response_s: self.response_s.unwrap_or(before.response_s),
            burst: self.burst.unwrap_or(before.burst),
        };
        SessionEntry::of(policy).into_policy()
    }
}

/// Options of `account put` about outbind.
#[derive(Clone, Debug, Default, Args)]
pub struct OutbindArgs {
    /// Where the ESME is called by outbind while messages wait and no receiver is bound.
    #[arg(long = "outbind", value_name = "HOST:PORT", conflicts_with = "no_outbind")]
    outbind_addr: Option<String>,
    /// Our name in outbind; the message centre's own if not given.
    #[arg(long, value_name = "NAME", requires = "outbind_addr")]
    outbind_system_id: Option<String>,
    /// Our password in outbind.
    #[arg(long, env = "SMSC_OUTBIND_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    outbind_password: Option<String>,
    /// The ESME is not called.
    #[arg(long)]
    no_outbind: bool,
}

impl OutbindArgs {
    /// What is stored, with what was given in its place.
    pub fn apply(self, before: Option<Outbind>) -> Option<Outbind> {
        if self.no_outbind {
            return None;
        }
        match (self.outbind_addr, before) {
            (None, None) => None,
            (None, Some(before)) => {
                Some(Outbind { password: self.outbind_password.unwrap_or(before.password), ..before })
            }
            (Some(addr), before) => {
                let before = before.unwrap_or_default();
                Some(Outbind {
                    addr,
                    system_id: self.outbind_system_id.unwrap_or(before.system_id),
                    password: self.outbind_password.unwrap_or(before.password),
                })
            }
        }
    }
}

/// How sessions are held, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionEntry {
    networks: Vec<String>,
    tls_only: bool,
    client_name: String,
    enquire_link_s: u32,
    inactivity_s: u32,
    response_s: u32,
    burst: u32,
}

impl SessionEntry {
    /// Whether nothing differs from what the node's configuration says.
    pub fn is_default(&self) -> bool {
        *self == SessionEntry::default()
    }

    /// As it is written.
    pub fn of(policy: SessionPolicy) -> Self {
        let SessionPolicy { networks, tls_only, client_name, enquire_link_s, inactivity_s, response_s, burst } = policy;
        Self { networks, tls_only, client_name, enquire_link_s, inactivity_s, response_s, burst }
    }

    /// As it is stored: not at all, when nothing differs from the default.
    pub fn into_policy(self) -> Option<SessionPolicy> {
        if self.is_default() {
            return None;
        }
        let Self { networks, tls_only, client_name, enquire_link_s, inactivity_s, response_s, burst } = self;
        Some(SessionPolicy { networks, tls_only, client_name, enquire_link_s, inactivity_s, response_s, burst })
    }
}

/// How an ESME is called, as it is written. The password is told in exports alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutbindEntry {
    addr: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    system_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    password: String,
}

impl OutbindEntry {
    /// As it is written.
    pub fn of(outbind: Outbind) -> Self {
        let Outbind { addr, system_id, password } = outbind;
        Self { addr, system_id, password }
    }

    /// As it is stored; without a password the one that is set for this address stays.
    pub fn into_outbind(self, before: Option<&Outbind>) -> Outbind {
        let Self { addr, system_id, password } = self;
        let kept = before.filter(|before| password.is_empty() && before.addr == addr);
        let password = kept.map(|before| before.password.clone()).unwrap_or(password);
        Outbind { addr, system_id, password }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays() {
        let before = SessionPolicy { burst: 5, tls_only: true, ..Default::default() };
        let args = SessionArgs { networks: Some(vec!["192.0.2.0/24".to_owned()]), ..Default::default() };
        let after = args.apply(Some(before)).expect("something is set");
        assert_eq!((after.burst, after.tls_only, after.networks.len()), (5, true, 1));
        let args = SessionArgs { any_network: true, tls_only: Some(false), burst: Some(0), ..Default::default() };
        assert_eq!(args.apply(Some(after)), None, "back to the defaults");
    }

    #[test]
    fn outbind_is_set_changed_and_removed() {
        let args = |addr: Option<&str>, password: Option<&str>| OutbindArgs {
            outbind_addr: addr.map(str::to_owned),
            outbind_password: password.map(str::to_owned),
            ..Default::default()
        };
        assert_eq!(args(None, None).apply(None), None);
        let set = args(Some("a:1"), Some("p")).apply(None);
        assert_eq!(set.as_ref().map(|outbind| (outbind.addr.as_str(), outbind.password.as_str())), Some(("a:1", "p")));
        assert_eq!(args(None, None).apply(set.clone()), set);
        let removed = OutbindArgs { no_outbind: true, ..Default::default() };
        assert_eq!(removed.apply(set), None);
    }
}
