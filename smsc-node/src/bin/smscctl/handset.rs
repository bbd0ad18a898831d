//! `smscctl handset`: the simulated handsets.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{HandsetSendRequest, HandsetsRequest};
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{HandsetDelete, HandsetRange};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum HandsetCommand {
    /// All ranges. JSON fields, for each: prefix, behaviour (deliver|fail|absent), absent_ms, delay_ms, error, and those
    /// of off, delay_max_ms, absent_permille, busy_permille, memory_full_permille, fail_permille, period_ms, window_ms,
    /// echo that are set.
    List,
    /// Make a range of numbers, or change the one with this prefix. The longest prefix wins.
    Put(PutArgs),
    /// Delete a range.
    Delete {
        /// Its prefix.
        prefix: String,
    },
    /// Switch numbers off: those of a range, or some of them by a longer prefix. What waits for them waits on.
    Off {
        /// The first digits of the numbers, or a number.
        prefix: String,
    },
    /// Switch numbers on again: what waits for them moves at once.
    On {
        /// The prefix that was switched off.
        prefix: String,
    },
    /// Have a handset send a message to a short code. JSON field: message_id.
    Send {
        /// The handset's number.
        from: String,
        /// The short code.
        to: String,
        /// The text.
        text: String,
    },
}

/// A range's options.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    /// The first digits of the numbers.
    prefix: String,
    /// What they do with a message.
    #[arg(value_enum)]
    behaviour: BehaviourArg,
    /// For absent: how long from the first attempt a number stays out of reach, at most a week. Milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    absent_ms: u32,
    /// Time that one delivery takes, at most 60000. Milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u32,
    /// The network error code they report, 0 for the usual one.
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    error: u32,
    /// A delivery takes between --delay-ms and this, at random. Milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_max_ms: u32,
    /// Of 1000 attempts, so many find the number out of reach.
    #[arg(long, value_name = "N", default_value_t = 0)]
    absent_permille: u32,
    /// Of 1000 attempts, so many find the number busy.
    #[arg(long, value_name = "N", default_value_t = 0)]
    busy_permille: u32,
    /// Of 1000 attempts, so many find the handset's memory full.
    #[arg(long, value_name = "N", default_value_t = 0)]
    memory_full_permille: u32,
    /// Of 1000 attempts, so many fail for good.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_permille: u32,
    /// With --window-ms: out of reach for that part of each period, each number at times of its own. Milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "window_ms")]
    period_ms: u32,
    /// See --period-ms. Milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "period_ms")]
    window_ms: u32,
    /// Answer each message with the same text, to where it came from.
    #[arg(long)]
    echo: bool,
}

/// What handsets do with a message, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BehaviourArg {
    /// Take it.
    Deliver,
    /// Refuse it for good.
    Fail,
    /// Be out of reach for a while, then take it.
    Absent,
}

/// A range, in a file and in JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RangeEntry {
    pub prefix: String,
    pub behaviour: String,
    #[serde(default)]
    pub absent_ms: u32,
    #[serde(default)]
    pub delay_ms: u32,
    #[serde(default)]
    pub error: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub off: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub delay_max_ms: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub absent_permille: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub busy_permille: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_full_permille: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub fail_permille: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub period_ms: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub window_ms: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub echo: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TryFrom<RangeEntry> for HandsetRange {
    type Error = String;

    fn try_from(entry: RangeEntry) -> Result<Self, String> {
        let behaviours = [Behaviour::Deliver, Behaviour::Fail, Behaviour::Absent];
        let behaviour = behaviours.into_iter().find(|known| word(*known) == entry.behaviour).ok_or_else(|| {
            format!("handsets {}: behaviour {:?} is none of deliver, fail, absent", entry.prefix, entry.behaviour)
        })?;
        Ok(Self {
            prefix: entry.prefix,
            behaviour: behaviour as i32,
            absent_ms: entry.absent_ms,
            delay_ms: entry.delay_ms,
            error: entry.error,
            off: entry.off,
            delay_max_ms: entry.delay_max_ms,
            absent_permille: entry.absent_permille,
            busy_permille: entry.busy_permille,
            memory_full_permille: entry.memory_full_permille,
            fail_permille: entry.fail_permille,
            period_ms: entry.period_ms,
            window_ms: entry.window_ms,
            echo: entry.echo,
        })
    }
}

impl From<HandsetRange> for RangeEntry {
    fn from(range: HandsetRange) -> Self {
        Self {
            behaviour: word(range.behaviour()).to_owned(),
            prefix: range.prefix,
            absent_ms: range.absent_ms,
            delay_ms: range.delay_ms,
            error: range.error,
            off: range.off,
            delay_max_ms: range.delay_max_ms,
            absent_permille: range.absent_permille,
            busy_permille: range.busy_permille,
            memory_full_permille: range.memory_full_permille,
            fail_permille: range.fail_permille,
            period_ms: range.period_ms,
            window_ms: range.window_ms,
            echo: range.echo,
        }
    }
}

#[derive(Debug, Serialize)]
struct SentView {
    message_id: String,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: HandsetCommand, format: Format) -> Result<(), Failure> {
    let mut client = connect.client().await?;
    match command {
        HandsetCommand::List => {
            let ranges = client.handsets(HandsetsRequest {}).await?.into_inner().ranges;
            let views: Vec<_> = ranges.into_iter().map(RangeEntry::from).collect();
            format.show(&views, |views| {
                let rows: Vec<_> = views.iter().map(row).collect();
                let heading = ["PREFIX", "BEHAVIOUR", "ABSENT MS", "DELAY MS", "ERROR", "BESIDE"];
                table(heading, &rows, "no simulated handsets")
            })
        }
        HandsetCommand::Put(args) => {
            let behaviour = match args.behaviour {
                BehaviourArg::Deliver => Behaviour::Deliver,
                BehaviourArg::Fail => Behaviour::Fail,
                BehaviourArg::Absent => Behaviour::Absent,
            };
            let sentence = format!("handsets {}... {}", args.prefix, word(behaviour));
            let range = HandsetRange {
                prefix: args.prefix,
                behaviour: behaviour as i32,
                absent_ms: args.absent_ms,
                delay_ms: args.delay_ms,
                error: args.error,
                off: false,
                delay_max_ms: args.delay_max_ms,
                absent_permille: args.absent_permille,
                busy_permille: args.busy_permille,
                memory_full_permille: args.memory_full_permille,
                fail_permille: args.fail_permille,
                period_ms: args.period_ms,
                window_ms: args.window_ms,
                echo: args.echo,
            };
            client.handset_put(range).await?;
            format.done(&sentence)
        }
        HandsetCommand::Delete { prefix } => {
            let sentence = format!("the handsets {prefix}... are deleted");
            client.handset_delete(HandsetDelete { prefix }).await?;
            format.done(&sentence)
        }
        HandsetCommand::Off { prefix } => {
            let mut client = connect.leader_client().await?;
            let ranges = client.handsets(HandsetsRequest {}).await?.into_inner().ranges;
            let covering = ranges.into_iter().filter(|range| prefix.starts_with(&range.prefix));
            let covering = covering.max_by_key(|range| range.prefix.len());
            let range = covering.ok_or_else(|| Failure::not_found(format!("no range of handsets covers {prefix}")))?;
            client.handset_put(HandsetRange { prefix: prefix.clone(), off: true, ..range }).await?;
            format.done(&format!("the handsets {prefix}... are off"))
        }
        HandsetCommand::On { prefix } => {
            let mut client = connect.leader_client().await?;
            let ranges = client.handsets(HandsetsRequest {}).await?.into_inner().ranges;
            let range = ranges.into_iter().find(|range| range.prefix == prefix && range.off);
            let range = range.ok_or_else(|| {
                Failure::not_found(format!("no handsets {prefix}... are switched off: see smscctl handset list"))
            })?;
            client.handset_put(HandsetRange { off: false, ..range }).await?;
            format.done(&format!("the handsets {prefix}... are on"))
        }
        HandsetCommand::Send { from, to, text } => {
            let sent = client.handset_send(HandsetSendRequest { from, to, text }).await?.into_inner();
            let view = SentView { message_id: sent.message_id.to_string() };
            format.show(&view, |view| format!("message {} is accepted", view.message_id))
        }
    }
}

/// A behaviour's word.
pub fn word(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Deliver => "deliver",
        Behaviour::Fail => "fail",
        Behaviour::Absent => "absent",
    }
}

fn row(view: &RangeEntry) -> [String; 6] {
    let number = |value: u32| dash(&if value == 0 { String::new() } else { value.to_string() });
    let parts = [
        (view.absent_permille, "absent"),
        (view.busy_permille, "busy"),
        (view.memory_full_permille, "without memory"),
        (view.fail_permille, "fail"),
    ];
    let mut beside: Vec<String> = Vec::new();
    if view.off {
        beside.push("switched off".to_owned());
    }
    let parts = parts.iter().filter(|(part, _)| *part > 0);
    beside.extend(parts.map(|(part, what)| format!("{part} of 1000 {what}")));
    if view.period_ms > 0 {
        beside.push(format!("away for {} of {} ms", view.window_ms, view.period_ms));
    }
    if view.delay_max_ms > view.delay_ms {
        beside.push(format!("up to {} ms", view.delay_max_ms));
    }
    if view.echo {
        beside.push("answer".to_owned());
    }
    [
        view.prefix.clone(),
        view.behaviour.clone(),
        number(view.absent_ms),
        number(view.delay_ms),
        number(view.error),
        dash(&beside.join(", ")),
    ]
}
