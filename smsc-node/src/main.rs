//! The daemon's command line.

mod allocator;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use smsc_node::config::Config;
use smsc_node::exit::Exit;
use smsc_node::{admin, ha, node, telemetry};

/// One node of an SMS centre: two of them (and a witness) keep every accepted message and take over from each other.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArgs>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The node's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file, start nothing.
    CheckConfig {
        /// The configuration file.
        file: PathBuf,
    },
    /// Watch over the floating address for a daemon; started by the daemon itself.
    #[command(hide = true, disable_help_flag = true)]
    Guard {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Wake the daemon that a drill froze; started by the daemon itself.
    #[command(hide = true)]
    Thaw {
        /// After so many milliseconds.
        after_ms: u64,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
   0  stopped as asked (SIGTERM or SIGINT), all work settled
  64  the command line or the configuration is wrong; nothing was bound
  69  something is not there now, as a port in use
  70  the node failed; the log says why
  73  the data directory cannot be used
  77  a capability is missing";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too. If the terminal is gone there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Config } else { Exit::Ok }.into();
        }
    };
    match (cli.command, cli.run) {
        (Some(Command::Guard { args }), _) => ha::guard::guard_main(args),
        (Some(Command::Thaw { after_ms }), _) => thaw(after_ms).into(),
        (Some(Command::CheckConfig { file }), _) => check_config(&file).into(),
        (None, Some(args)) => run(&args.config).into(),
        (None, None) => {
            eprintln!("smsc-node: name the configuration with --config FILE; --help tells more");
            Exit::Config.into()
        }
    }
}

fn thaw(after_ms: u64) -> Exit {
    match admin::fault::thaw(Duration::from_millis(after_ms)) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("smsc-node: the frozen daemon could not be woken: {error}");
            Exit::Internal
        }
    }
}

fn check_config(file: &Path) -> Exit {
    match Config::load(file) {
        Ok(config) => {
            println!(
                "{}: good, {} node {} ({}) of cluster {}",
                file.display(),
                config.role,
                config.node_id,
                config.name,
                config.cluster
            );
            Exit::Ok
        }
        Err(error) => {
            eprintln!("{error}");
            Exit::Config
        }
    }
}

fn run(file: &Path) -> Exit {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Config;
        }
    };
    if let Err(error) = telemetry::init(config.log) {
        eprintln!("smsc-node: {error}");
        return Exit::Internal;
    }
    match node::run(config) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!("{error}");
            error.exit()
        }
    }
}
