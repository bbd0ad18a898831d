//! `smsc-load`: submits at full speed and checks every answer and receipt; `smsc-load probe` measures outages;
//! `smsc-load verify` compares journals with what the cluster says of its messages; `smsc-load etcd` loads an etcd cluster.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use smsc_node::probe::{self, Outage, ProbeEvent, ProbeOptions};
use smsc_tests::load::etcd::{self, EtcdOptions};
use smsc_tests::load::query::Asker;
use smsc_tests::load::{self, LoadError, LoadOptions, verify};
use tokio::signal::unix::{SignalKind, signal};

/// Load generator and verifier for SMPP message centres.
///
/// Exit code 0: everything that was acknowledged is accounted for; 1: it is not, or the run could not be carried out;
/// 2: wrong options.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: LoadOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Submits one message at a time as fast as answered and reports every outage as a line of JSON.
    Probe(ProbeArguments),
    /// Puts the same payloads into an etcd cluster, to compare.
    Etcd(EtcdOptions),
    /// Checks that every acknowledged message of some journals exists, is final once, and had a receipt.
    Verify(VerifyArguments),
}

#[derive(Args)]
struct ProbeArguments {
    /// Address and port of the SMS centre.
    #[arg(long, default_value = "127.0.0.100:2775")]
    target: SocketAddr,
    /// Account to bind as.
    #[arg(long, default_value = "esme1")]
    system_id: String,
    /// Its password.
    #[arg(long, default_value = "secret1")]
    password: String,
    /// Destination of the messages.
    #[arg(long, default_value = "15550000000")]
    destination: String,
    /// Milliseconds an attempt to connect may take.
    #[arg(long, default_value_t = 50)]
    connect_timeout_ms: u64,
    /// Milliseconds without an answer after which a connection counts as dead.
    #[arg(long, default_value_t = 250)]
    response_timeout_ms: u64,
    /// Milliseconds between failed attempts.
    #[arg(long, default_value_t = 5)]
    retry_ms: u64,
    /// Seconds to probe for; until Ctrl-C without.
    #[arg(long)]
    seconds: Option<f64>,
    /// Stop after this many outages.
    #[arg(long)]
    outages: Option<u64>,
    /// Report failed attempts on standard error.
    #[arg(long)]
    verbose: bool,
}

#[derive(Args)]
struct VerifyArguments {
    /// Journals of smsc-load; may be given more than once.
    #[arg(long, required = true, num_args = 1..)]
    journal: Vec<PathBuf>,
    /// Shell command that prints messages as JSON, say "smscctl --json message find". With {id} in it, it is run once
    /// for every acknowledged message.
    #[arg(long)]
    message_show: Option<String>,
    /// Ask the SMS centre at this address for every acknowledged message by query_sm.
    #[arg(long, conflicts_with = "message_show")]
    query: Option<SocketAddr>,
    /// With --query: the account that submitted the messages.
    #[arg(long, default_value = "esme1")]
    system_id: String,
    /// With --query: its password.
    #[arg(long, default_value = "secret1")]
    password: String,
    /// Messages were submitted without asking for receipts.
    #[arg(long)]
    no_receipts: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        None => run_load(arguments.load),
        Some(Command::Probe(probe)) => run_probe(&probe),
        Some(Command::Etcd(options)) => run_etcd(&options),
        Some(Command::Verify(verify)) => run_verify(&verify),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("smsc-load: {error}");
            match error {
                LoadError::Options(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run_load(options: LoadOptions) -> Result<ExitCode, LoadError> {
    let as_json = options.json;
    let report = load::run(options)?;
    if as_json {
        print_line(&json!(report).to_string());
    } else {
        print_line(&report.to_string());
    }
    Ok(exit_code(report.passed))
}

fn run_etcd(options: &EtcdOptions) -> Result<ExitCode, LoadError> {
    let report = etcd::run(options)?;
    if options.json {
        print_line(&json!(report).to_string());
    } else {
        print_line(&report.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn run_probe(arguments: &ProbeArguments) -> Result<ExitCode, LoadError> {
    let mut options = ProbeOptions::new(arguments.target, arguments.system_id.clone(), arguments.password.clone());
    options.destination.clone_from(&arguments.destination);
    options.connect_timeout = Duration::from_millis(arguments.connect_timeout_ms);
    options.response_timeout = Duration::from_millis(arguments.response_timeout_ms);
    options.retry_interval = Duration::from_millis(arguments.retry_ms);
    let seconds = arguments.seconds.map(Duration::try_from_secs_f64);
    let limit = seconds.transpose().map_err(|error| LoadError::Options(format!("--seconds: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let enough = tokio::sync::Notify::new();
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = enough.notified() => {}
                () = async {
                    match limit {
                        Some(limit) => tokio::time::sleep(limit).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        };
        let mut outages = 0;
        let summary = probe::run(&options, stop, |event| match event {
            ProbeEvent::Ready => print_line(&json!({"event": "ready"}).to_string()),
            ProbeEvent::Acked { .. } | ProbeEvent::Receipt { .. } => {}
            ProbeEvent::Failed(reason) => {
                if arguments.verbose {
                    eprintln!("{reason}");
                }
            }
            ProbeEvent::Outage(outage) => {
                print_line(&shown(&outage).to_string());
                outages += 1;
                if arguments.outages == Some(outages) {
                    enough.notify_one();
                }
            }
        })
        .await
        .map_err(|error| LoadError::Options(error.to_string()))?;
        print_line(
            &json!({
                "event": "summary",
                "acked": summary.acked,
                "unknown": summary.unknown,
                "refused": summary.refused,
                "outages": summary.outages,
                "longest_outage_ms": milliseconds(summary.longest_outage),
                "longest_gap_ms": milliseconds(summary.longest_gap),
                "down_ms": summary.down_since.map(milliseconds),
            })
            .to_string(),
        );
        Ok(exit_code(summary.acked > 0 && summary.down_since.is_none()))
    })
}

fn shown(outage: &Outage) -> serde_json::Value {
    let at = outage.last_ack_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "event": "outage",
        "last_ack_at_ms": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        "outage_ms": milliseconds(outage.duration),
        "noticed_after_ms": milliseconds(outage.noticed_after),
        "cause": outage.cause,
        "connects": outage.connects,
    })
}

fn run_verify(arguments: &VerifyArguments) -> Result<ExitCode, LoadError> {
    let journals = arguments.journal.iter().map(|path| load::journal::read(path)).collect::<Result<Vec<_>, _>>()?;
    let history = verify::History::of(journals.iter().flatten(), !arguments.no_receipts);
    let fates = match (&arguments.message_show, arguments.query) {
        (Some(command), _) => Some(verify::show_messages(command, history.acked_ids())?),
        (None, Some(target)) => {
            let (system_id, password) = (arguments.system_id.clone(), arguments.password.clone());
            Some(Asker { target, system_id, password }.ask(history.acked_ids())?)
        }
        (None, None) => None,
    };
    let verdict = history.check(fates.as_ref());
    if arguments.json {
        print_line(&json!(verdict).to_string());
    } else {
        print_line(&verdict.to_string());
    }
    Ok(exit_code(verdict.passed))
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn exit_code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line on standard output, there at once even when it is a pipe. A reader that has gone away is no error.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
