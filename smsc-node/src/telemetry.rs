//! Logs: to standard error, for people or as JSON lines, in UTC.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Libraries whose ordinary events are no news to an operator, and from which level on theirs are. The engine warns at
/// every call that a lost peer does not answer; that a peer is lost, and is back, is logged by the peer watch once.
const QUIET: [(&str, &str); 5] =
    [("openraft", "error"), ("h2", "warn"), ("hyper", "warn"), ("tower", "warn"), ("rustls", "warn")];

/// Logging was set up before.
#[derive(Debug, thiserror::Error)]
#[error("logging is set up already in this process")]
pub struct TelemetryError;

/// Sends the records of the whole process to standard error.
///
/// # Errors
/// [`TelemetryError`] if called twice in one process.
pub fn init(config: LogConfig) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(config.level)))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| TelemetryError)
}

fn directives(level: LogLevel) -> String {
    let word = match level {
        LogLevel::Error => return "error".to_owned(),
        LogLevel::Warn => return "warn".to_owned(),
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => return "trace".to_owned(),
    };
    let quiet: String = QUIET.iter().map(|(library, from)| format!(",{library}={from}")).collect();
    format!("{word}{quiet}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_but_for_trace() {
        assert!(directives(LogLevel::Info).starts_with("info,openraft=error"));
        assert_eq!(directives(LogLevel::Trace), "trace");
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug] {
            directives(level).parse::<EnvFilter>().unwrap();
        }
    }
}
