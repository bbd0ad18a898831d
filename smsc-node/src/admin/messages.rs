//! Finds messages, waiting or final.

use std::io;

use smsc_proto::rpc::admin::{MessageFindRequest, MessageFindResponse, MessageView};
use smsc_raft::machine::Machine;
use smsc_raft::model::{Address, FinalRecord, Message, MessageState};
use smsc_raft::store::Store;

/// Messages found when the caller names no limit, and the most it may name.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1000;
/// Ids looked at while the machine is locked; entries wait to be applied meanwhile.
const STEP_IDS: u64 = 512;
/// Ids looked at in one call.
const CALL_IDS: u64 = 200_000;

/// What is known of a message; `None` if it never was, or is forgotten.
pub(super) fn show(machine: &Machine, id: u64) -> io::Result<Option<MessageView>> {
    if let Some(message) = machine.message(id)? {
        return Ok(Some(waiting(&message, machine.stamp_ms())));
    }
    Ok(machine.final_record(id)?.map(ended))
}

/// Finds messages, newest first. Blocks the thread for as long as it reads.
pub(super) fn find(store: &Store, wanted: &MessageFindRequest) -> io::Result<MessageFindResponse> {
    let limit = match usize::try_from(wanted.limit).unwrap_or(LIMIT_MAX) {
        0 => LIMIT_DEFAULT,
        limit => limit.min(LIMIT_MAX),
    };
    let next_id = store.read(|machine| Ok(machine.next_message_id()))?;
    let mut before = if wanted.before == 0 { next_id } else { wanted.before.min(next_id) };
    let last = before.saturating_sub(CALL_IDS);
    let mut found = Vec::new();
    while before > last.max(1) {
        let Some((mut views, from)) = store.read(|machine| step(machine, wanted, before))? else {
            return Ok(MessageFindResponse { messages: found, more: false, before: 0 });
        };
        let room = limit - found.len();
        if views.len() > room || (views.len() == room && from > 1) {
            views.truncate(room);
            let before = views.last().map_or(from, |view| view.id);
            found.append(&mut views);
            return Ok(MessageFindResponse { messages: found, more: true, before });
        }
        found.append(&mut views);
        before = from;
    }
    let more = before > 1;
    Ok(MessageFindResponse { messages: found, more, before: if more { before } else { 0 } })
}

/// The matching messages of a run of ids below `before`, newest first, and where that run begins; `None` when nothing
/// lies below.
fn step(machine: &Machine, wanted: &MessageFindRequest, before: u64) -> io::Result<Option<(Vec<MessageView>, u64)>> {
    let newest_final = match wanted.waiting_only {
        true => None,
        false => machine.newest_finals(Some(before), 1)?.first().map(|record| record.id),
    };
    let oldest_waiting = machine.messages_from(0, 1)?.first().map(|message| message.id).filter(|id| *id < before);
    // Where nothing waits below, the search jumps over what has been purged.
    let end = match (oldest_waiting, newest_final) {
        (None, None) => return Ok(None),
        (None, Some(id)) => id + 1,
        (Some(_), _) => before,
    };
    let from = end.saturating_sub(STEP_IDS).max(1);
    let ids = usize::try_from(end - from).unwrap_or(usize::MAX);
    let mut views: Vec<MessageView> = machine
        .messages_from(from, ids)?
        .iter()
        .filter(|message| message.id < end && matches_message(wanted, message))
        .map(|message| waiting(message, machine.stamp_ms()))
        .collect();
    if newest_final.is_some() {
        let records = machine.newest_finals(Some(end), ids)?;
        views.extend(records.into_iter().filter(|r| r.id >= from && matches_final(wanted, r)).map(ended));
    }
    views.sort_unstable_by_key(|view| std::cmp::Reverse(view.id));
    Ok(Some((views, from)))
}

fn waiting(message: &Message, stamp_ms: u64) -> MessageView {
    let scheduled = message.submission.as_ref().is_some_and(|submission| submission.scheduled_at_ms > stamp_ms);
    let state = if scheduled { MessageState::Scheduled } else { MessageState::Enroute };
    MessageView { id: message.id, state: state as i32, waiting: Some(message.clone()), r#final: None }
}

/// What is shown of a message that is final.
pub(super) fn ended(record: FinalRecord) -> MessageView {
    MessageView { id: record.id, state: record.state, waiting: None, r#final: Some(record) }
}

fn matches_message(wanted: &MessageFindRequest, message: &Message) -> bool {
    message.submission.as_ref().is_some_and(|submission| {
        matches(wanted, &submission.account, submission.source.as_ref(), submission.destination.as_ref())
    })
}

fn matches_final(wanted: &MessageFindRequest, record: &FinalRecord) -> bool {
    matches(wanted, &record.account, record.source.as_ref(), record.destination.as_ref())
}

fn matches(
    wanted: &MessageFindRequest,
    account: &str,
    source: Option<&Address>,
    destination: Option<&Address>,
) -> bool {
    let is = |wanted: &str, address: Option<&Address>| {
        wanted.is_empty() || address.is_some_and(|address| address.digits == wanted)
    };
    (wanted.account.is_empty() || wanted.account == account)
        && is(&wanted.source, source)
        && is(&wanted.destination, destination)
}
