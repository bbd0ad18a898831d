//! `smscctl handset`: the simulated handsets.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use smsc_proto::rpc::admin::{HandsetSendRequest, HandsetsRequest};
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{HandsetDelete, HandsetRange};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum HandsetCommand {
    /// All ranges. JSON fields, for each: prefix, behaviour (deliver|fail|absent), absent_ms, delay_ms, error.
    List,
    /// Make a range of numbers, or change the one with this prefix. The longest prefix wins.
    Put(PutArgs),
    /// Delete a range.
    Delete {
        /// Its prefix.
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

#[derive(Debug, Serialize)]
struct RangeView {
    prefix: String,
    behaviour: &'static str,
    absent_ms: u32,
    delay_ms: u32,
    error: u32,
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
            let views: Vec<_> = ranges.into_iter().map(view).collect();
            format.show(&views, |views| {
                let rows: Vec<_> = views.iter().map(row).collect();
                table(["PREFIX", "BEHAVIOUR", "ABSENT MS", "DELAY MS", "ERROR"], &rows, "no simulated handsets")
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
            };
            client.handset_put(range).await?;
            format.done(&sentence)
        }
        HandsetCommand::Delete { prefix } => {
            let sentence = format!("the handsets {prefix}... are deleted");
            client.handset_delete(HandsetDelete { prefix }).await?;
            format.done(&sentence)
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

fn view(range: HandsetRange) -> RangeView {
    RangeView {
        behaviour: word(range.behaviour()),
        prefix: range.prefix,
        absent_ms: range.absent_ms,
        delay_ms: range.delay_ms,
        error: range.error,
    }
}

fn row(view: &RangeView) -> [String; 5] {
    let number = |value: u32| dash(&if value == 0 { String::new() } else { value.to_string() });
    [view.prefix.clone(), view.behaviour.to_owned(), number(view.absent_ms), number(view.delay_ms), number(view.error)]
}
