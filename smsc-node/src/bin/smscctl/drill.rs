//! `smscctl drill`: rehearses a failure and measures the outage as an ESME sees it.

mod measure;
mod owners;
mod report;

use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use smsc_node::probe::ProbeOptions;
use smsc_proto::rpc::admin::{DrillsRequest, LastTakeoverRequest, MessageShowRequest, StatusRequest, StatusResponse};
use smsc_proto::rpc::raft::{NodeRole, PeerStatus};
use smsc_raft::model::DrillRecord;

use crate::connect::ConnectArgs;
use crate::exit::{Failure, Kind};
use crate::output::Format;
use report::Report;

/// The fields of a drill's JSON.
pub const JSON_HELP: &str = "\
JSON fields of a drill (rotation: a list of them, one for each step):
  id (null if it could not be stored), kind (handover|kill|freeze|cut|disk-stall|rotation), started_at, target,
  system_id, recovered, old_leader, old_term, new_leader, new_term (null if no node could tell), trigger_at, last_ack_at,
  noticed_at, bound_at, first_ack_at (UTC, null for not seen), outage_ms (last acknowledgement before to first one after,
  null if there was none), cause (what the ESME noticed first), connects, acked_before, acked_after, unknown (submissions
  without answer), refused, handover_ms, receipts_recovered (of messages acknowledged before, that came after),
  receipts_missing, lost (acknowledged and unknown to the cluster; null if that could not be found out),
  owners {in_turn, looks, two_at_once}, takeover {noticed_by, noticed_at, voting_at, elected_at, leading_at,
  announced_at, serving_at, first_bind_at, first_ack_at} (the new leader's own account and clock, null if it has none)";

/// The longest wait for the service before the failure.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The port of SMPP.
const SMPP_PORT: u16 = 2775;

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum DrillCommand {
    /// Hand leadership over as before an upgrade.
    Handover {
        /// The standby; without it the best one is chosen.
        #[arg(long, value_name = "ID")]
        to: Option<u64>,
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// Have the leader's process die at once, as by SIGKILL. Its supervisor has to start it again.
    Kill {
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// Have the leader's process stand still, as by SIGSTOP.
    Freeze {
        /// For how long, 100 to 60000. Milliseconds.
        #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
        freeze_ms: u32,
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// Cut the leader's host off from the network, in its kernel, which lets go by itself. Run it from another host.
    Cut {
        /// For how long, 100 to 60000. Milliseconds.
        #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
        cut_ms: u32,
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// Have the leader's log wait as on a disk that stalls; beyond store.disk_stall_max_ms it hands over.
    DiskStall {
        /// For how long, 100 to 60000. Milliseconds.
        #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
        stall_ms: u32,
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// Have every data node lead once, by handovers, and come back to the leader of before.
    Rotation {
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// The drills so far.
    #[command(after_help = JSON_HELP)]
    History,
}

/// Who watches, and how.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Go on though no standby is ready or the quorum is not healthy: the service may stay away.
    #[arg(long)]
    force: bool,
    /// The SMPP server; without it the floating address and port 2775.
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// The account to bind as. It submits one message after the other.
    #[arg(long, default_value = "esme1")]
    system_id: String,
    /// Its password.
    #[arg(long, default_value = "secret1", env = "SMSC_DRILL_PASSWORD", hide_env_values = true)]
    password: String,
    /// Bind as a transmitter and ask for no receipts; what is lost is then not found out.
    #[arg(long)]
    no_receipts: bool,
    /// Where the messages go.
    #[arg(long, value_name = "NUMBER", default_value = "15550000000")]
    destination: String,
    /// How long to wait for the service to come back. Seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    limit_s: u64,
}

/// The failure to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Handover { to: u64 },
    Kill,
    Freeze { ms: u32 },
    Cut { ms: u32 },
    DiskStall { ms: u32 },
}

impl Failing {
    fn word(self) -> &'static str {
        match self {
            Failing::Handover { .. } => "handover",
            Failing::Kill => "kill",
            Failing::Freeze { .. } => "freeze",
            Failing::Cut { .. } => "cut",
            Failing::DiskStall { .. } => "disk-stall",
        }
    }

    /// How long the failure itself lasts.
    fn lasts(self) -> Duration {
        match self {
            Failing::Handover { .. } | Failing::Kill => Duration::ZERO,
            Failing::Freeze { ms } | Failing::Cut { ms } | Failing::DiskStall { ms } => {
                Duration::from_millis(u64::from(ms))
            }
        }
    }

    /// After which time an ESME that noticed nothing will not notice any more; `None` if it is bound to notice.
    fn unnoticed_after(self) -> Option<Duration> {
        match self {
            Failing::Handover { .. } | Failing::DiskStall { .. } => Some(self.lasts() + Duration::from_secs(2)),
            Failing::Kill | Failing::Freeze { .. } | Failing::Cut { .. } => None,
        }
    }
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: DrillCommand, format: Format) -> Result<(), Failure> {
    let (failing, args) = match command {
        DrillCommand::History => return history(connect, format).await,
        DrillCommand::Rotation { drill } => return rotate(connect, drill, format).await,
        DrillCommand::Handover { to, drill } => (Failing::Handover { to: to.unwrap_or(0) }, drill),
        DrillCommand::Kill { drill } => (Failing::Kill, drill),
        DrillCommand::Freeze { freeze_ms, drill } => (Failing::Freeze { ms: freeze_ms }, drill),
        DrillCommand::Cut { cut_ms, drill } => (Failing::Cut { ms: cut_ms }, drill),
        DrillCommand::DiskStall { stall_ms, drill } => (Failing::DiskStall { ms: stall_ms }, drill),
    };
    let before = connect.leader_client().await?.status(StatusRequest {}).await?.into_inner();
    check(&before, args.force)?;
    confirm(&what(failing, &before), &before, args.yes)?;
    let report = drill(connect, failing, failing.word(), &args, &before).await?;
    format.show(&report, Report::human)?;
    report.verdict(args.limit_s)
}

/// Every data node leads once, the leader of now last.
async fn rotate(connect: &ConnectArgs, args: DrillArgs, format: Format) -> Result<(), Failure> {
    let before = connect.leader_client().await?.status(StatusRequest {}).await?.into_inner();
    check(&before, args.force)?;
    let turns = turns(&before);
    if turns.len() < 2 {
        return Err(Failure::refused("there is no other data node to lead in turn"));
    }
    confirm(
        &format!("leadership goes round {} times; every ESME has to bind again each time", turns.len()),
        &before,
        args.yes,
    )?;
    let mut reports = Vec::new();
    for to in turns {
        let before = ready_to_hand_over(connect, to).await?;
        reports.push(drill(connect, Failing::Handover { to }, "rotation", &args, &before).await?);
        if reports.last().is_some_and(|report| report.verdict(args.limit_s).is_err()) {
            break;
        }
    }
    format.show(&reports, |reports| reports.iter().map(Report::human).collect())?;
    reports.iter().try_for_each(|report| report.verdict(args.limit_s))
}

/// The data nodes in the order in which they lead: that of their ids, the leader of now at the end.
fn turns(status: &StatusResponse) -> Vec<u64> {
    let data = status.members.iter().filter(|m| m.role() == NodeRole::Data && status.voters.contains(&m.node_id));
    let mut ids: Vec<u64> = data.map(|member| member.node_id).collect();
    ids.sort_unstable_by_key(|id| (*id == status.leader_id, *id));
    ids
}

/// Waits until that node would take over.
async fn ready_to_hand_over(connect: &ConnectArgs, to: u64) -> Result<StatusResponse, Failure> {
    let end = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let status = connect.leader_client().await?.status(StatusRequest {}).await?.into_inner();
        let ready = |m: &PeerStatus| m.node_id == to && m.not_ready.is_empty() && !m.version.is_empty();
        if status.quorum_healthy && status.leader_id != to && status.members.iter().any(ready) {
            return Ok(status);
        }
        if tokio::time::Instant::now() >= end {
            let warnings = status.warnings.join("; ");
            return Err(Failure::refused(format!("node {to} is not ready to take over: {warnings}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Watches, has it fail, and keeps the report in the replicated state.
async fn drill(
    connect: &ConnectArgs,
    failing: Failing,
    word: &str,
    args: &DrillArgs,
    before: &StatusResponse,
) -> Result<Report, Failure> {
    let target = target(args, before)?;
    let mut options = ProbeOptions::new(target, args.system_id.as_str(), args.password.as_str());
    options.destination.clone_from(&args.destination);
    options.receipts = !args.no_receipts;
    let limit = Duration::from_secs(args.limit_s);
    let measured = measure::measure(connect, failing, options, READY_WITHIN, limit).await?;
    let mut report = Report::new(word, target, &args.system_id, before, &measured);
    // A leader that stood still or was cut off is asked again once it is back; a killed one once it was started again.
    let patience = failing.lasts() + Duration::from_secs(15);
    if let Err(failure) = complete(connect, &mut report, &measured.without_receipt, patience).await {
        eprintln!("smscctl: the drill could not be stored: {failure}");
    }
    Ok(report)
}

/// Asks the new leader how it came to lead and what it knows of these messages, and has it keep the report.
async fn complete(
    connect: &ConnectArgs,
    report: &mut Report,
    without_receipt: &[u64],
    patience: Duration,
) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        match try_complete(connect, report, without_receipt).await {
            Err(failure) if tokio::time::Instant::now() >= end => return Err(failure),
            Err(Failure { kind: Kind::Unreachable | Kind::NoLeader, .. }) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            done => return done,
        }
    }
}

async fn try_complete(connect: &ConnectArgs, report: &mut Report, without_receipt: &[u64]) -> Result<(), Failure> {
    let mut client = connect.leader_client().await?;
    let after = client.status(StatusRequest {}).await?.into_inner();
    report.lead_by(after.leader_id, after.term);
    // A node of an older version has none.
    if let Ok(takeover) = client.last_takeover(LastTakeoverRequest {}).await {
        report.taken_over(&takeover.into_inner());
    }
    let mut lost = 0;
    for id in without_receipt {
        match client.message_show(MessageShowRequest { id: *id }).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::NotFound => lost += 1,
            Err(status) => return Err(status.into()),
        }
    }
    report.lost = report.receipts_recovered.map(|_| lost);
    let record = DrillRecord {
        id: 0,
        kind: report.kind.clone(),
        started_at_ms: report.started_at_ms,
        report: serde_json::to_string(report).map_err(Failure::refused)?,
    };
    report.id = Some(client.drill_put(record).await?.into_inner().id);
    Ok(())
}

async fn history(connect: &ConnectArgs, format: Format) -> Result<(), Failure> {
    let drills = connect.client().await?.drills(DrillsRequest {}).await?.into_inner().drills;
    let reports = drills.into_iter().map(|drill| {
        let read = serde_json::from_str::<Report>(&drill.report);
        let report = read.map_err(|error| Failure::refused(format!("drill {} cannot be read: {error}", drill.id)))?;
        Ok(Report { id: Some(drill.id), ..report })
    });
    let reports = reports.collect::<Result<Vec<_>, Failure>>()?;
    format.show(&reports, |reports| report::history(reports))
}

/// Refuses a drill that would end the service.
fn check(status: &StatusResponse, force: bool) -> Result<(), Failure> {
    let ready = status.members.iter().any(|member| {
        member.role() == NodeRole::Data
            && member.node_id != status.leader_id
            && !status.unreachable.contains(&member.node_id)
            && member.not_ready.is_empty()
    });
    let reason = match (status.quorum_healthy, ready) {
        _ if force => return Ok(()),
        (true, true) => return Ok(()),
        (false, _) => "the quorum is not healthy",
        (true, false) => "no standby is ready to take over",
    };
    let warnings = status.warnings.join("; ");
    Err(Failure::refused(format!("{reason}, so the service might stay away ({warnings}); --force drills all the same")))
}

fn target(args: &DrillArgs, status: &StatusResponse) -> Result<SocketAddr, Failure> {
    if let Some(target) = &args.target {
        let mut found =
            target.to_socket_addrs().map_err(|error| Failure::usage(format!("--target {target}: {error}")))?;
        return found.next().ok_or_else(|| Failure::usage(format!("--target {target} has no address")));
    }
    let address = status.floating_addresses.first().and_then(|net| net.split('/').next()?.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| {
        Failure::usage("the asked node knows no floating address; name the SMPP server with --target HOST:PORT")
    })?;
    Ok(SocketAddr::new(address, SMPP_PORT))
}

fn what(failing: Failing, status: &StatusResponse) -> String {
    let leader = status.members.iter().find(|member| member.node_id == status.leader_id);
    let name = leader.map_or("?", |member| member.name.as_str());
    let what = match failing {
        Failing::Handover { .. } => format!("{name} hands leadership over; every ESME has to bind again"),
        Failing::Kill => format!("the process of {name} dies; every ESME loses its connection"),
        Failing::Freeze { ms } => {
            format!("the process of {name} stands still for {ms} ms; every ESME has to bind again")
        }
        Failing::Cut { ms } => format!(
            "the host of {name} is cut off from its network for {ms} ms, with everything else on it; every ESME has to \
             bind again, and a command that runs on that host sees nothing of it"
        ),
        Failing::DiskStall { ms } if status.arbiter => {
            format!("the log of {name} is not written for {ms} ms; a pair acknowledges nothing meanwhile")
        }
        Failing::DiskStall { ms } => format!(
            "the log of {name} is not written for {ms} ms; if that is longer than its store.disk_stall_max_ms it hands \
             over, and every ESME has to bind again"
        ),
    };
    match failing {
        Failing::Kill | Failing::Freeze { .. } | Failing::Cut { .. } if status.arbiter => {
            format!(
                "{what}; the other node asks its quorum device to go on alone: a fence switches the host of {name} off"
            )
        }
        _ => what,
    }
}

fn confirm(what: &str, status: &StatusResponse, yes: bool) -> Result<(), Failure> {
    eprintln!("drill on cluster {}: {what}, and {} sessions are bound", status.cluster, status.sessions);
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("a drill without a terminal to ask on needs --yes"));
    }
    eprint!("Go on? (yes/no) ");
    // The prompt is a courtesy; the answer decides.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::refused)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::refused("not done: the answer was not yes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_of_now_leads_last() {
        let member = |node_id, role: NodeRole| PeerStatus { node_id, role: role as i32, ..Default::default() };
        let status = StatusResponse {
            leader_id: 2,
            voters: vec![1, 2, 3, 4],
            members: vec![
                member(1, NodeRole::Data),
                member(2, NodeRole::Data),
                member(3, NodeRole::Witness),
                member(4, NodeRole::Data),
                member(5, NodeRole::Data),
            ],
            ..Default::default()
        };
        assert_eq!(turns(&status), [1, 4, 2]);
    }
}
