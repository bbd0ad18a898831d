//! `smscctl cluster`: form, grow, shrink, hand over.

use std::io::IsTerminal as _;
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use smsc_proto::rpc::admin::{
    DigestRequest, HandoverRequest, InitRequest, JoinRequest, LeaveRequest, Member, TakeoverRequest, digest_response,
};
use smsc_proto::rpc::raft::{NodeInfo, NodeRole};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, table};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Form a new cluster. Once in its life, on one of its first nodes; all of them must be running.
    Init {
        /// Every first member, the asked node included: ID,NAME,HOST:PORT,ROLE with ROLE data or witness.
        #[arg(long = "member", required = true, value_name = "ID,NAME,HOST:PORT,ROLE")]
        members: Vec<MemberArg>,
    },
    /// Have a node join; it is brought up to date first, then it votes. It must be running, with bootstrap off and
    /// without data.
    Join {
        /// The node's id, 1 to 255, never used before in this cluster.
        #[arg(long)]
        id: u64,
        /// Its short name.
        #[arg(long)]
        name: String,
        /// Where its peers reach it, host:port.
        #[arg(long, value_name = "HOST:PORT")]
        raft_addr: String,
        /// What it is for.
        #[arg(long, value_enum, default_value_t = RoleArg::Data)]
        role: RoleArg,
    },
    /// Have a node leave for good. Stop it afterwards.
    Leave {
        /// The node's id.
        id: u64,
    },
    /// Compare the state of all nodes: a checksum over everything each has applied. Nodes at the same index must agree;
    /// at rest all come to the same one. Reads all of every node's store. JSON fields of each item: node_id, name, index,
    /// digest (null with the reason in failed).
    Digest,
    /// Give leadership and the floating address to a standby, without loss. JSON fields: from, to, term, took_ms.
    Handover {
        /// The standby; without it the best one is chosen.
        #[arg(long, value_name = "ID")]
        to: Option<u64>,
    },
    /// Have the asked node of a pair go on alone, because you know that the other one is down. Ask the node that is left,
    /// on its own host or with --addr. Refused while the other one answers, and where the asked node may lack messages.
    /// JSON fields: since_term, since_index.
    Takeover {
        /// The id of the node that is down.
        #[arg(long = "peer-is-down", value_name = "ID")]
        peer: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Go on even if this node may lack messages that only the other one has acknowledged: they are lost then, and
        /// the other node must never be started with its data again.
        #[arg(long)]
        accept_loss: bool,
    },
}

/// A node's role on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Keeps everything, may lead.
    Data,
    /// Votes and keeps everything, never serves.
    Witness,
}

/// A member on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberArg {
    id: u64,
    name: String,
    addr: String,
    role: RoleArg,
}

impl FromStr for MemberArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [id, name, addr, role] = text.split(',').collect::<Vec<_>>()[..] else {
            return Err("four parts are needed: ID,NAME,HOST:PORT,ROLE".to_owned());
        };
        Ok(Self {
            id: id.parse().map_err(|_| format!("{id:?} is no node id"))?,
            name: name.to_owned(),
            addr: addr.to_owned(),
            role: RoleArg::from_str(role, false).map_err(|_| format!("{role:?} is no role: data or witness"))?,
        })
    }
}

#[derive(Debug, Serialize)]
struct TakeoverView {
    since_term: u64,
    since_index: u64,
}

#[derive(Debug, Serialize)]
struct HandoverView {
    from: u64,
    to: u64,
    term: u64,
    took_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DigestView {
    node_id: u64,
    name: String,
    index: u64,
    digest: Option<String>,
    failed: String,
}

impl DigestView {
    fn of(item: digest_response::Item) -> Self {
        let digest = item.failed.is_empty().then(|| format!("{:08x}", item.digest));
        Self { node_id: item.node_id, name: item.name, index: item.index, digest, failed: item.failed }
    }
}

/// Whether two nodes have applied the same and come to different states.
fn disagree(views: &[DigestView]) -> bool {
    let differ = |a: &DigestView, b: &DigestView| {
        a.index == b.index && a.digest.is_some() && b.digest.is_some() && a.digest != b.digest
    };
    views.iter().enumerate().any(|(at, a)| views[at + 1..].iter().any(|b| differ(a, b)))
}

fn digests(views: &[DigestView]) -> String {
    let row = |view: &DigestView| {
        let digest = view.digest.clone().unwrap_or_else(|| view.failed.clone());
        [view.node_id.to_string(), view.name.clone(), view.index.to_string(), digest]
    };
    table(["NODE", "NAME", "INDEX", "DIGEST"], &views.iter().map(row).collect::<Vec<_>>(), "no nodes")
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: ClusterCommand, format: Format) -> Result<(), Failure> {
    let mut client = match command {
        ClusterCommand::Join { .. } | ClusterCommand::Digest => connect.patient().client().await?,
        _ => connect.client().await?,
    };
    match command {
        ClusterCommand::Init { members } => {
            let count = members.len();
            let members = members.into_iter().map(|m| member(m.id, m.name, m.addr, m.role)).collect();
            client.init(InitRequest { members }).await?;
            format.done(&format!("the cluster is formed of {count} members; see smscctl status"))
        }
        ClusterCommand::Join { id, name, raft_addr, role } => {
            client.join(JoinRequest { member: Some(member(id, name, raft_addr, role)) }).await?;
            format.done(&format!("node {id} has joined"))
        }
        ClusterCommand::Leave { id } => {
            client.leave(LeaveRequest { node_id: id }).await?;
            format.done(&format!("node {id} has left; stop it, and never use its id again"))
        }
        ClusterCommand::Digest => {
            let items = client.digest(DigestRequest { own: false }).await?.into_inner().items;
            let views: Vec<DigestView> = items.into_iter().map(DigestView::of).collect();
            format.show(&views, |views| digests(views))?;
            if disagree(&views) {
                return Err(Failure::refused(
                    "nodes at the same index have come to different states: keep the data of all and do not hand over",
                ));
            }
            Ok(())
        }
        ClusterCommand::Takeover { peer, yes, accept_loss } => {
            confirm_takeover(peer, yes, accept_loss)?;
            let done = client.takeover(TakeoverRequest { peer_id: peer, accept_loss }).await?.into_inner();
            let sole = done.sole.unwrap_or_default();
            let view = TakeoverView { since_term: sole.since_term, since_index: sole.since_index };
            format.show(&view, |view| {
                format!(
                    "the node goes on alone since term {}, entry {}; start node {peer} again when it is repaired, it is \
                     brought up to date by itself",
                    view.since_term, view.since_index
                )
            })
        }
        ClusterCommand::Handover { to } => {
            let done = client.handover(HandoverRequest { node_id: to.unwrap_or(0) }).await?.into_inner();
            let view = HandoverView { from: done.from, to: done.to, term: done.term, took_ms: done.took_ms };
            format.show(&view, |view| {
                format!("node {} handed over to node {} in {} ms, term {}", view.from, view.to, view.took_ms, view.term)
            })
        }
    }
}

/// What an operator must be sure of before a node goes on alone.
fn confirm_takeover(peer: u64, yes: bool, accept_loss: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let mut warning = format!(
        "If node {peer} is not down, two nodes will serve at once and messages that either acknowledges will be lost. \
         Not to be reached is not the same as down: its host must be off, or its process ended for certain."
    );
    if accept_loss {
        warning.push_str(&format!(
            "\nWith --accept-loss, messages that only node {peer} has are lost for good, and it must never be started \
             with its data again."
        ));
    }
    eprintln!("{warning}");
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("this needs --yes where no one can be asked"));
    }
    eprint!("Is node {peer} certainly down? Type yes: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::refused)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::refused("not confirmed; nothing was done")) }
}

fn member(node_id: u64, name: String, addr: String, role: RoleArg) -> Member {
    let role = match role {
        RoleArg::Data => NodeRole::Data,
        RoleArg::Witness => NodeRole::Witness,
    };
    Member { node_id, info: Some(NodeInfo { addr, name, role: role as i32 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_indexes_are_compared() {
        let view = |node_id, index, digest| {
            DigestView::of(digest_response::Item { node_id, index, digest, ..Default::default() })
        };
        let failed =
            DigestView::of(digest_response::Item { node_id: 4, index: 7, failed: "no".into(), ..Default::default() });
        assert!(!disagree(&[view(1, 7, 5), view(2, 8, 6), view(3, 7, 5), failed]));
        assert!(disagree(&[view(1, 8, 5), view(2, 7, 5), view(3, 8, 6)]));
    }

    #[test]
    fn a_member_has_four_parts() {
        let member: MemberArg = "3,w,[fd00::3]:7400,witness".parse().expect("good");
        assert_eq!((member.id, member.addr.as_str(), member.role), (3, "[fd00::3]:7400", RoleArg::Witness));
        for bad in ["", "3,w,host:1", "x,w,host:1,data", "3,w,host:1,king"] {
            assert!(bad.parse::<MemberArg>().is_err(), "{bad:?}");
        }
    }
}
