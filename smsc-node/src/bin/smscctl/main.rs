//! `smscctl`: what operators do with a cluster. Every command asks one node, any of them.

mod account;
mod cert;
mod cluster;
mod connect;
mod drill;
mod exit;
mod file;
mod handset;
mod link;
mod list;
mod message;
mod numbers;
mod output;
mod policy;
mod retry;
mod route;
mod sessions;
mod settings;
mod status;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connect::ConnectArgs;
use exit::Failure;
use output::Format;

/// Operates an SMS centre.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP)]
struct Cli {
    /// Print JSON, for scripts; the help of each command names the fields.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the cluster stands: roles, term, indexes, lag, who holds the address, what to look at.
    #[command(after_help = status::JSON_HELP)]
    Status,
    /// Form, grow or shrink the cluster; hand leadership over.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Rehearse a failure and measure the outage as an ESME sees it.
    #[command(subcommand, after_help = drill::JSON_HELP)]
    Drill(drill::DrillCommand),
    /// The ESMEs that are bound, and those that a lost leader left behind.
    #[command(after_help = sessions::JSON_HELP)]
    Sessions {
        /// Only this account's.
        #[arg(long, value_name = "SYSTEM_ID")]
        account: Option<String>,
    },
    /// The ESMEs that may bind.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Where destinations go.
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// The distribution lists of submit_multi.
    #[command(subcommand)]
    List(list::ListCommand),
    /// Lists of numbers that routes ask.
    #[command(subcommand)]
    Numbers(numbers::NumbersCommand),
    /// When failed attempts are repeated, by link and class of error.
    #[command(subcommand)]
    Retry(retry::RetryCommand),
    /// The other message centres that we bind to.
    #[command(subcommand)]
    Link(link::LinkCommand),
    /// Find, show and cancel messages.
    #[command(subcommand)]
    Message(message::MessageCommand),
    /// The simulated handsets.
    #[command(subcommand)]
    Handset(handset::HandsetCommand),
    /// Validity, retention, limits, how numbers are written.
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Make the cluster's certificates.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Print accounts, routes, distribution lists, links, handsets and settings as a file (TOML, or JSON with --json).
    Export,
    /// Bring accounts, routes, distribution lists, links, handsets and settings to what a file says; an export is such
    /// a file.
    Apply(file::ApplyArgs),
}

fn main() -> ExitCode {
    // Wrong usage ends the process with 2 in here, help and version with 0.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Failure::refused(format!("cannot start: {error}"))),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    eprintln!("smscctl: {failure}");
    failure.code()
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let format = if cli.json { Format::Json } else { Format::Human };
    let connect = &cli.connect;
    match cli.command {
        Command::Status => status::run(connect, format).await,
        Command::Cluster(command) => cluster::run(connect, command, format).await,
        Command::Drill(command) => drill::run(connect, command, format).await,
        Command::Sessions { account } => sessions::run(connect, account.as_deref(), format).await,
        Command::Account(command) => account::run(connect, command, format).await,
        Command::Route(command) => route::run(connect, command, format).await,
        Command::List(command) => list::run(connect, command, format).await,
        Command::Numbers(command) => numbers::run(connect, command, format).await,
        Command::Retry(command) => retry::run(connect, command, format).await,
        Command::Link(command) => link::run(connect, command, format).await,
        Command::Message(command) => message::run(connect, command, format).await,
        Command::Handset(command) => handset::run(connect, command, format).await,
        Command::Settings(command) => settings::run(connect, command, format).await,
        Command::Cert(command) => cert::run(command, format),
        Command::Export => file::export(connect, format).await,
        Command::Apply(args) => file::apply(connect, args, format).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// clap hands the value of a global argument down by its name in the code: one of a command that is called the same
    /// would take its place.
    #[test]
    fn no_command_has_an_argument_that_is_called_as_a_global_one() {
        fn look(command: &clap::Command, globals: &[clap::Id], path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                for argument in sub.get_arguments() {
                    assert!(!globals.contains(argument.get_id()), "{path}: {}", argument.get_id());
                }
                look(sub, globals, &path);
            }
        }
        let cli = Cli::command();
        let globals: Vec<_> =
            cli.get_arguments().filter(|argument| argument.is_global_set()).map(|it| it.get_id().clone()).collect();
        assert!(globals.len() > 5);
        look(&cli, &globals, "smscctl");
    }

    #[test]
    fn what_the_scripts_call_is_understood() {
        for line in [
            "smscctl --socket a.sock status --json",
            "smscctl --socket a.sock account put esme1 --password secret1 --short-code 1000",
            "smscctl --socket a.sock handset put 1777 absent --absent-ms 7000",
            "smscctl handset off 1555",
            "smscctl route put 49 link:x --name night --hours 20:00-06:00 --days mon,tue --weight 3 --utc-offset-minutes -60",
            "smscctl route test 4917 --account esme1 --json",
            "smscctl numbers import ported -",
            "smscctl retry set --class memory-full --delays-ms 1000,2000 --attempts-max 3",
            "smscctl handset send 15550001 1000 Hello",
            "smscctl account put esme1 --default-alphabet latin1 --receipt-content tlvs --receipt-utc-offset-min -330",
            "smscctl list put friends 15551,15552 --account esme1",
            "smscctl cluster handover",
            "smscctl cluster join --id 4 --name d --raft-addr 192.0.2.4:7400 --role data",
            "smscctl cert ca --dir tls --cluster demo",
            "smscctl cert node --dir tls --id 1 --name a --host 127.0.0.1",
            "smscctl link put carrier --address smsc.example.net:2775 --system-id me --password secret",
            "smscctl link status --json",
            "smscctl drill kill --yes",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }
}
