//! What can be set on the command line of `smsc-load run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use smsc_proto::types::BindMode;

use crate::load::LoadError;
use crate::load::template::TAG_OCTETS;

/// The bind operation that sessions use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Bind {
    /// bind_transceiver
    Trx,
    /// bind_transmitter
    Tx,
}

impl From<Bind> for BindMode {
    fn from(bind: Bind) -> Self {
        match bind {
            Bind::Trx => BindMode::Transceiver,
            Bind::Tx => BindMode::Transmitter,
        }
    }
}

/// Submits messages over SMPP and checks what comes back. Without --count and --seconds it runs until Ctrl-C.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// Address and port of the SMS centre.
    #[arg(long, default_value = "127.0.0.100:2775")]
    pub target: SocketAddr,
    /// Account to bind as.
    #[arg(long, default_value = "esme1")]
    pub system_id: String,
    /// Its password.
    #[arg(long, default_value = "secret1")]
    pub password: String,
    /// Simultaneous sessions.
    #[arg(long, default_value_t = 8)]
    pub sessions: usize,
    /// Requests a session may have without an answer.
    #[arg(long, default_value_t = 50)]
    pub window: usize,
    /// Bind operation.
    #[arg(long, value_enum, default_value_t = Bind::Trx)]
    pub bind: Bind,
    /// Messages to submit.
    #[arg(long)]
    pub count: Option<u64>,
    /// Seconds to submit for.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Stop submitting when standard input is closed.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// Messages per second, due at even distances whatever the answers do; as fast as the windows allow without it.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Ask for a receipt of every message, answer them, and fail when one is missing.
    #[arg(long)]
    pub receipts: bool,
    /// Source address of the messages.
    #[arg(long, default_value = "1000")]
    pub source: String,
    /// Start of the destination numbers, which have 11 digits.
    #[arg(long, default_value = "1555")]
    pub destination_prefix: String,
    /// How many different destination numbers are used, in turn.
    #[arg(long, default_value_t = 1_000_000)]
    pub destinations: u64,
    /// Octets of a message; above 254 it goes as message_payload.
    #[arg(long, default_value_t = 20)]
    pub size: usize,
    /// Append every acknowledgement, receipt, refusal, unknown outcome and connection event to this file.
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Connect again at once when a connection is lost; messages without an answer count as unknown and others are
    /// submitted in their place.
    #[arg(long)]
    pub reconnect: bool,
    /// Milliseconds between attempts to connect.
    #[arg(long, default_value_t = 5)]
    pub retry_ms: u64,
    /// Milliseconds an attempt to connect may take.
    #[arg(long, default_value_t = 100)]
    pub connect_timeout_ms: u64,
    /// Milliseconds without an answer after which a connection counts as lost.
    #[arg(long, default_value_t = 10_000)]
    pub response_timeout_ms: u64,
    /// Seconds without a new receipt after which those that are missing count as lost.
    #[arg(long, default_value_t = 10.0)]
    pub settle: f64,
    /// Also fail on refusals, unknown outcomes and receipts that come twice.
    #[arg(long)]
    pub strict: bool,
    /// Print the counts of every second on standard error.
    #[arg(long)]
    pub progress: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Digits of a destination number, prefix included.
pub const DESTINATION_DIGITS: usize = 11;

impl LoadOptions {
    /// Checks what clap cannot: ranges and contradictions.
    ///
    /// # Errors
    /// [`LoadError::Options`] with everything that is wrong, a sentence each.
    pub fn check(&self) -> Result<(), LoadError> {
        let mut wrong = Vec::new();
        let mut expect = |fine: bool, sentence: String| {
            if !fine {
                wrong.push(sentence);
            }
        };
        expect(self.sessions > 0, "--sessions must be at least 1".into());
        expect(self.window > 0, "--window must be at least 1".into());
        expect(
            !(self.receipts && self.bind == Bind::Tx),
            "--receipts needs --bind trx: a transmitter receives nothing".into(),
        );
        expect(
            (TAG_OCTETS..=65_535).contains(&self.size),
            format!("--size is {}: it must be {TAG_OCTETS} to 65535", self.size),
        );
        expect(self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate must be above 0".into());
        expect(
            self.seconds.is_none_or(|seconds| Duration::try_from_secs_f64(seconds).is_ok()),
            "--seconds must be at least 0".into(),
        );
        expect(Duration::try_from_secs_f64(self.settle).is_ok(), "--settle must be at least 0".into());
        let digits = DESTINATION_DIGITS.saturating_sub(self.destination_prefix.len());
        expect(
            digits > 0 && self.destination_prefix.bytes().all(|d| d.is_ascii_digit()),
            format!("--destination-prefix must be fewer than {DESTINATION_DIGITS} digits"),
        );
        let numbers = 10_u64.pow(u32::try_from(digits).unwrap_or(0));
        expect(
            (1..=numbers).contains(&self.destinations),
            format!("--destinations must be 1 to {numbers}: {digits} digits follow the prefix"),
        );
        if wrong.is_empty() { Ok(()) } else { Err(LoadError::Options(wrong.join("\n"))) }
    }

    /// Time between attempts to connect.
    pub fn retry_interval(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    /// How long connecting may take.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// How long an answer may take before the connection counts as lost.
    pub fn response_timeout(&self) -> Duration {
        Duration::from_millis(self.response_timeout_ms)
    }
}
