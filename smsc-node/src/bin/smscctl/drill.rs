//! `smscctl drill`: rehearses a failure and measures the outage as an ESME sees it.

mod measure;
mod report;

use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use smsc_node::probe::ProbeOptions;
use smsc_proto::rpc::admin::{DrillsRequest, StatusRequest, StatusResponse};
use smsc_proto::rpc::raft::NodeRole;
use smsc_raft::model::DrillRecord;

use crate::connect::ConnectArgs;
use crate::exit::{Failure, Kind};
use crate::output::Format;
use report::Report;

/// The fields of a drill's JSON.
pub const JSON_HELP: &str = "\
JSON fields of a drill:
  id (null if it could not be stored), kind (handover|kill|freeze), started_at, target, system_id, recovered,
  old_leader, old_term, new_leader, new_term (null if no node could tell), trigger_at, last_ack_at, noticed_at, bound_at,
  first_ack_at (UTC, null for not seen), outage_ms (last acknowledgement before to first one after, null if there was
  none), cause (what the ESME noticed first), connects, acked_before, acked_after, unknown (submissions without answer),
  refused, handover_ms";

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
}

impl Failing {
    fn word(self) -> &'static str {
        match self {
            Failing::Handover { .. } => "handover",
            Failing::Kill => "kill",
            Failing::Freeze { .. } => "freeze",
        }
    }
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: DrillCommand, format: Format) -> Result<(), Failure> {
    let (failing, args) = match command {
        DrillCommand::History => return history(connect, format).await,
        DrillCommand::Handover { to, drill } => (Failing::Handover { to: to.unwrap_or(0) }, drill),
        DrillCommand::Kill { drill } => (Failing::Kill, drill),
        DrillCommand::Freeze { freeze_ms, drill } => (Failing::Freeze { ms: freeze_ms }, drill),
    };
    let before = connect.leader_client().await?.status(StatusRequest {}).await?.into_inner();
    check(&before, args.force)?;
    let target = target(&args, &before)?;
    confirm(failing, &before, args.yes)?;
    let mut options = ProbeOptions::new(target, args.system_id.as_str(), args.password.as_str());
    options.destination = args.destination.clone();
    let limit = Duration::from_secs(args.limit_s);
    let measured = measure::measure(connect, failing, options, READY_WITHIN, limit).await?;
    let mut report = Report::new(failing.word(), target, &args.system_id, &before, &measured);
    // A frozen leader is asked again once it is awake; a killed one once it was started again.
    let patience = match failing {
        Failing::Freeze { ms } => Duration::from_millis(u64::from(ms)) + Duration::from_secs(15),
        Failing::Handover { .. } | Failing::Kill => Duration::from_secs(15),
    };
    if let Err(failure) = store(connect, &mut report, patience).await {
        eprintln!("smscctl: the drill could not be stored: {failure}");
    }
    format.show(&report, Report::human)?;
    if report.recovered {
        return Ok(());
    }
    Err(Failure::refused(format!("the service was not back within {} s: see smscctl status", args.limit_s)))
}

/// Asks the new leader how it stands and has it keep the report.
async fn store(connect: &ConnectArgs, report: &mut Report, patience: Duration) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        match try_store(connect, report).await {
            Err(failure) if tokio::time::Instant::now() >= end => return Err(failure),
            Err(Failure { kind: Kind::Unreachable | Kind::NoLeader, .. }) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            done => return done,
        }
    }
}

async fn try_store(connect: &ConnectArgs, report: &mut Report) -> Result<(), Failure> {
    let mut client = connect.leader_client().await?;
    let after = client.status(StatusRequest {}).await?.into_inner();
    report.lead_by(after.leader_id, after.term);
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

fn confirm(failing: Failing, status: &StatusResponse, yes: bool) -> Result<(), Failure> {
    let leader = status.members.iter().find(|member| member.node_id == status.leader_id);
    let name = leader.map_or("?", |member| member.name.as_str());
    let what = match failing {
        Failing::Handover { .. } => format!("{name} hands leadership over; every ESME has to bind again"),
        Failing::Kill => format!("the process of {name} dies; every ESME loses its connection"),
        Failing::Freeze { ms } => {
            format!("the process of {name} stands still for {ms} ms; every ESME has to bind again")
        }
    };
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
