//! `smscctl message`: find, show, cancel.

use clap::{Args, Subcommand};
use serde::Serialize;
use smsc_proto::rpc::admin::{MessageCancelRequest, MessageFindRequest, MessageShowRequest, MessageView as Known};
use smsc_proto::text::Alphabet;
use smsc_raft::model::{
    Address, AttemptOutcome, DeliveryAttempt, FinalRecord, MessageKind, MessageState, QueueKind, Submission,
};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table, time};
use crate::retry;

/// The fields of the subcommands' JSON.
pub const JSON_HELP: &str = "\
JSON fields, for each message:
  id (text), state (scheduled|enroute|delivered|expired|deleted|undeliverable|accepted|unknown|rejected|skipped),
  final, kind (submitted|mo|receipt), account, source, destination, accepted_at, final_at, attempts, error (network
  error code), receipt_id, receipt_for, link, tries (at, link, outcome temporary|delivered|permanent|accepted, class,
  error; those that are kept, the latest at the end); while it waits also queue, due_at, expires_at, scheduled_at, data_coding, text
  (null if it cannot be shown), bytes_hex. Times are UTC, null for none.";

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum MessageCommand {
    /// Messages, newest first.
    #[command(after_help = JSON_HELP)]
    Find(FindArgs),
    /// One message.
    #[command(after_help = JSON_HELP)]
    Show {
        /// Its id, as in the submit_sm_resp.
        id: u64,
    },
    /// Cancel a message that waits; its ESME gets a receipt if it asked for one.
    Cancel {
        /// Its id.
        id: u64,
    },
}

/// What to look for.
#[derive(Clone, Debug, Args)]
pub struct FindArgs {
    /// Submitted by this account.
    #[arg(long, default_value = "")]
    account: String,
    /// From exactly this number.
    #[arg(long, default_value = "")]
    source: String,
    /// To exactly this number.
    #[arg(long, default_value = "")]
    destination: String,
    /// Only messages that wait.
    #[arg(long)]
    waiting: bool,
    /// How many at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only ids below this one: the last id of an earlier answer gives the next page.
    #[arg(long, value_name = "ID", default_value_t = 0)]
    before: u64,
}

#[derive(Debug, Default, Serialize)]
struct MessageView {
    id: String,
    state: String,
    r#final: bool,
    kind: &'static str,
    account: String,
    source: String,
    destination: String,
    accepted_at: Option<String>,
    final_at: Option<String>,
    attempts: u32,
    error: u32,
    receipt_id: Option<String>,
    receipt_for: Option<String>,
    link: String,
    tries: Vec<TryView>,
    #[serde(flatten)]
    waiting: Option<WaitingView>,
}

#[derive(Debug, Serialize)]
struct TryView {
    at: Option<String>,
    link: String,
    outcome: &'static str,
    class: Option<&'static str>,
    error: u32,
}

impl From<&DeliveryAttempt> for TryView {
    fn from(attempt: &DeliveryAttempt) -> Self {
        let (outcome, failed) = match attempt.outcome() {
            AttemptOutcome::Temporary => ("temporary", true),
            AttemptOutcome::Delivered => ("delivered", false),
            AttemptOutcome::Permanent => ("permanent", false),
            AttemptOutcome::Accepted => ("accepted", false),
        };
        Self {
            at: time(attempt.at_ms),
            link: attempt.link.clone(),
            outcome,
            class: failed.then(|| retry::word(attempt.class())),
            error: attempt.error,
        }
    }
}

#[derive(Debug, Serialize)]
struct WaitingView {
    queue: String,
    due_at: Option<String>,
    expires_at: Option<String>,
    scheduled_at: Option<String>,
    data_coding: u32,
    text: Option<String>,
    bytes_hex: String,
    /// The id under which another message centre has it.
    remote_id: Option<String>,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: MessageCommand, format: Format) -> Result<(), Failure> {
    match command {
        MessageCommand::Find(args) => find(connect, args, format).await,
        MessageCommand::Show { id } => {
            let known = connect.client().await?.message_show(MessageShowRequest { id }).await?.into_inner();
            format.show(&view(known), detail)
        }
        MessageCommand::Cancel { id } => {
            let known = connect.client().await?.message_cancel(MessageCancelRequest { id }).await?.into_inner();
            format.show(&view(known), |view| format!("message {} is {}", view.id, view.state))
        }
    }
}

async fn find(connect: &ConnectArgs, args: FindArgs, format: Format) -> Result<(), Failure> {
    /// The most that one call gives.
    const PAGE: u32 = 1000;
    let mut client = connect.client().await?;
    let mut views = Vec::new();
    let mut before = args.before;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    loop {
        let missing = u32::try_from(limit - views.len()).unwrap_or(PAGE).min(PAGE);
        let request = MessageFindRequest {
            account: args.account.clone(),
            source: args.source.clone(),
            destination: args.destination.clone(),
            limit: missing,
            waiting_only: args.waiting,
            before,
        };
        let page = client.message_find(request).await?.into_inner();
        views.extend(page.messages.into_iter().map(view));
        before = page.before;
        if !page.more || views.len() >= limit {
            break;
        }
    }
    format.show(&views, |views| {
        let row = |view: &MessageView| {
            [
                view.id.clone(),
                view.state.clone(),
                view.kind.to_owned(),
                dash(&view.account),
                dash(&view.source),
                dash(&view.destination),
                dash(view.accepted_at.as_deref().unwrap_or("")),
                view.attempts.to_string(),
            ]
        };
        let rows: Vec<_> = views.iter().map(row).collect();
        let heading = ["ID", "STATE", "KIND", "ACCOUNT", "SOURCE", "DESTINATION", "ACCEPTED", "ATTEMPTS"];
        table(heading, &rows, "no messages")
    })
}

fn view(known: Known) -> MessageView {
    let state = known.state();
    let state = state.as_str_name().trim_start_matches("MESSAGE_STATE_").to_lowercase();
    let some_id = |id: u64| (id != 0).then(|| id.to_string());
    let base = MessageView { id: known.id.to_string(), state, ..Default::default() };
    if let Some(record) = known.r#final {
        return MessageView {
            r#final: true,
            kind: kind(record.kind()),
            source: digits(record.source.as_ref()),
            destination: digits(record.destination.as_ref()),
            accepted_at: time(record.accepted_at_ms),
            final_at: time(record.final_at_ms),
            attempts: record.attempts,
            error: record.error,
            receipt_id: some_id(record.receipt_id),
            receipt_for: some_id(record.receipt_for),
            tries: tries(&record),
            link: record.link,
            account: record.account,
            ..base
        };
    }
    let message = known.waiting.unwrap_or_default();
    let submission = message.submission.unwrap_or_default();
    MessageView {
        kind: kind(submission.kind()),
        source: digits(submission.source.as_ref()),
        destination: digits(submission.destination.as_ref()),
        accepted_at: time(message.accepted_at_ms),
        attempts: message.attempts,
        error: message.last_error,
        receipt_for: some_id(submission.receipt_for),
        tries: message.attempt_log.iter().map(TryView::from).collect(),
        link: message.handed.as_ref().map_or(&submission.link, |handed| &handed.link).clone(),
        waiting: Some(WaitingView {
            queue: queue(&submission),
            due_at: time(message.due_at_ms),
            expires_at: time(submission.expires_at_ms),
            scheduled_at: time(submission.scheduled_at_ms),
            data_coding: submission.data_coding,
            text: text(&submission),
            bytes_hex: submission.short_message.iter().map(|byte| format!("{byte:02x}")).collect(),
            remote_id: message.handed.map(|handed| handed.remote_id),
        }),
        account: submission.account,
        ..base
    }
}

/// The attempts that are kept of a message that is final; the one that ended it is told by the record itself.
fn tries(record: &FinalRecord) -> Vec<TryView> {
    let mut tries: Vec<_> = record.attempt_log.iter().map(TryView::from).collect();
    if record.attempted {
        tries.push(TryView {
            at: time(record.final_at_ms),
            link: record.link.clone(),
            outcome: match record.state() {
                MessageState::Delivered => "delivered",
                MessageState::Accepted => "accepted",
                // An attempt that failed for now, when the validity was over.
                MessageState::Expired => "temporary",
                _ => "permanent",
            },
            class: None,
            error: record.error,
        });
    }
    tries
}

fn kind(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Submitted => "submitted",
        MessageKind::Mo => "mo",
        MessageKind::Receipt => "receipt",
        MessageKind::Alert => "alert",
    }
}

fn digits(address: Option<&Address>) -> String {
    address.map(|address| address.digits.clone()).unwrap_or_default()
}

fn queue(submission: &Submission) -> String {
    match submission.queue_kind() {
        QueueKind::Esme => format!("esme {}", submission.queue_key),
        QueueKind::Number if submission.queue_key.is_empty() => {
            format!("number {}", digits(submission.destination.as_ref()))
        }
        QueueKind::Number => format!("number {}", submission.queue_key),
    }
}

/// The text, where it is one: a user data header (SMPP v3.4 section 5.2.12) and binary codings are not.
fn text(submission: &Submission) -> Option<String> {
    const UDH_INDICATOR: u32 = 0x40;
    if submission.esm_class & UDH_INDICATOR != 0 {
        return None;
    }
    let alphabet = Alphabet::from_data_coding(u8::try_from(submission.data_coding).ok()?)?;
    Some(alphabet.decode_lossy(&submission.short_message))
}

fn detail(view: &MessageView) -> String {
    let error = if view.error == 0 { String::new() } else { view.error.to_string() };
    let mut lines = vec![
        ("id", view.id.clone()),
        ("state", view.state.clone()),
        ("kind", view.kind.to_owned()),
        ("account", view.account.clone()),
        ("source", view.source.clone()),
        ("destination", view.destination.clone()),
        ("accepted", view.accepted_at.clone().unwrap_or_default()),
        ("final", view.final_at.clone().unwrap_or_default()),
        ("attempts", view.attempts.to_string()),
        ("error", error),
        ("receipt", view.receipt_id.clone().unwrap_or_default()),
        ("receipt for", view.receipt_for.clone().unwrap_or_default()),
        ("link", view.link.clone()),
    ];
    if let Some(waiting) = &view.waiting {
        lines.extend([
            ("queue", waiting.queue.clone()),
            ("due", waiting.due_at.clone().unwrap_or_default()),
            ("expires", waiting.expires_at.clone().unwrap_or_default()),
            ("scheduled", waiting.scheduled_at.clone().unwrap_or_default()),
            ("text", waiting.text.clone().unwrap_or_else(|| format!("(hex) {}", waiting.bytes_hex))),
        ]);
    }
    if let Some(remote_id) = view.waiting.as_ref().and_then(|waiting| waiting.remote_id.clone()) {
        lines.push(("accepted as", remote_id));
    }
    lines.extend(view.tries.iter().map(|tried| {
        let class = tried.class.map(|class| format!(", {class}")).unwrap_or_default();
        let error = if tried.error == 0 { String::new() } else { format!(", error {}", tried.error) };
        let at = tried.at.as_deref().unwrap_or("");
        ("attempt", format!("{at} {} {}{class}{error}", tried.link, tried.outcome))
    }));
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use smsc_raft::model::Message;

    use super::*;

    #[test]
    fn the_help_names_every_state() {
        for value in 0..=9 {
            let state = MessageState::try_from(value).expect("a state");
            let word = state.as_str_name().trim_start_matches("MESSAGE_STATE_").to_lowercase();
            assert!(JSON_HELP.contains(&word), "{word}");
        }
    }

    #[test]
    fn a_waiting_message_shows_its_text_and_a_final_one_does_not() {
        let submission = Submission {
            account: "esme1".to_owned(),
            destination: Some(Address { digits: "15550001".to_owned(), ..Default::default() }),
            short_message: "Hello".into(),
            ..Default::default()
        };
        let message = Message { id: 7, submission: Some(submission), accepted_at_ms: 1, ..Default::default() };
        let enroute = MessageState::Enroute as i32;
        let waiting = view(Known { id: 7, state: enroute, waiting: Some(message), r#final: None });
        let json = serde_json::to_value(&waiting).expect("serializable");
        assert_eq!(json["text"], "Hello");
        assert_eq!(json["queue"], "number 15550001");
        assert_eq!(json["state"], "enroute");
        assert_eq!(json["accepted_at"], "1970-01-01T00:00:00.001Z");
        assert!(detail(&waiting).contains("text         Hello\n"));

        let record = FinalRecord { id: 7, state: MessageState::Delivered as i32, receipt_id: 8, ..Default::default() };
        let ended = view(Known { id: 7, state: record.state, waiting: None, r#final: Some(record) });
        let json = serde_json::to_value(&ended).expect("serializable");
        assert_eq!((json["final"].clone(), json["receipt_id"].clone()), (true.into(), "8".into()));
        assert!(json.get("text").is_none());
    }
}
