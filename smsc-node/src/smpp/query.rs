//! query_sm, cancel_sm and replace_sm against what is stored: what to answer, or what to propose. Pure.

use bytes::Bytes;
use smsc_proto::pdu::{CancelSm, QuerySm, QuerySmResult, ReplaceSm};
use smsc_proto::status::RefusalStatus;
use smsc_proto::time::{AbsoluteTime, SmppTime, UtcOffset, WallTime};
use smsc_proto::tlv::Tag;
use smsc_proto::types::{Address, InterfaceVersion, MessageId, MessageState, TimeString};
use smsc_raft::model::{self, Account, Finish, Message, Replace};

use super::ports::{Directory, Found};
use super::submit;

/// The id that a message_id of ours stands for; `None` for what never was one.
pub fn id_of(message_id: &MessageId) -> Option<u64> {
    let text = message_id.as_str()?;
    // Our own form alone: no sign, no leading zero.
    let id = text.parse::<u64>().ok()?;
    (id.to_string() == text).then_some(id)
}

/// What query_sm is told.
///
/// # Errors
/// The status to refuse with: there is no such message, or it is not one of this account and source address.
pub fn query(
    query: &QuerySm,
    account: &Account,
    found: &Found,
    version: InterfaceVersion,
) -> Result<QuerySmResult, RefusalStatus> {
    let failed = RefusalStatus::ESME_RQUERYFAIL;
    let (state, final_at, error) = match found {
        Found::Waiting(message) => {
            let submission = message.submission.as_ref().ok_or(failed)?;
            if !concerns(account, &submission.account, &query.source_addr, submission.source.as_ref()) {
                return Err(failed);
            }
            // v3.4 does not know SCHEDULED.
            let scheduled = submission.scheduled_at_ms > 0
                && message.attempts == 0
                && message.due_at_ms == submission.scheduled_at_ms
                && version >= InterfaceVersion::V5_0;
            let state = if scheduled { MessageState::SCHEDULED } else { MessageState::ENROUTE };
            (state, TimeString::default(), message.last_error)
        }
        Found::Final(record) => {
            if !concerns(account, &record.account, &query.source_addr, record.source.as_ref()) {
                return Err(failed);
            }
            let state = MessageState(u8::try_from(record.state).map_err(|_| failed)?);
            (state, time_string(WallTime::from_millis(record.final_at_ms)), record.error)
        }
        Found::Unknown => return Err(failed),
    };
    // error_code has one octet; a code of the network (the lower 16 bits) above that is not to look like another one.
    let error_code = u8::try_from(error & 0xffff).unwrap_or(u8::MAX);
    Ok(QuerySmResult {
        message_id: query.message_id.detached(),
        final_date: final_at,
        message_state: state,
        error_code,
    })
}

/// What to propose for cancel_sm of one message by its id.
///
/// # Errors
/// The status to refuse with: the message is not there, not this account's, not between these addresses, or final.
pub fn cancel(
    cancel: &CancelSm,
    account: &Account,
    message: &Message,
    directory: &Directory,
    now: WallTime,
) -> Result<Finish, RefusalStatus> {
    let failed = RefusalStatus::ESME_RCANCELFAIL;
    let submission = message.submission.as_ref().ok_or(failed)?;
    let own = concerns(account, &submission.account, &cancel.source_addr, submission.source.as_ref());
    let there = cancel.destination_addr.is_empty() || same(&cancel.destination_addr, submission.destination.as_ref());
    if !own || !there {
        return Err(failed);
    }
    let at_ms = now.as_millis();
    Ok(Finish {
        id: message.id,
        state: model::MessageState::Deleted as i32,
        at_ms,
        receipt: directory.routes.deletion_receipt(message, at_ms, directory.settings.receipt_validity_s),
        account: account.system_id.clone(),
        ..Finish::default()
    })
}

/// What to propose for replace_sm.
///
/// # Errors
/// The status to refuse with. A message whose text is message_payload cannot be replaced, nor by one that is.
pub fn replace(
    replace: &ReplaceSm,
    account: &Account,
    message: &Message,
    directory: &Directory,
    now: WallTime,
) -> Result<Replace, RefusalStatus> {
    let failed = RefusalStatus::ESME_RREPLACEFAIL;
    let submission = message.submission.as_ref().ok_or(failed)?;
    if !concerns(account, &submission.account, &replace.source_addr, submission.source.as_ref()) {
        return Err(failed);
    }
    let stored_tlvs = smsc_proto::tlv::Tlvs::try_from(submission.tlvs.clone()).map_err(|_| failed)?;
    if replace.tlvs.contains(Tag::MESSAGE_PAYLOAD) || stored_tlvs.contains(Tag::MESSAGE_PAYLOAD) {
        return Err(failed);
    }
    if replace.sm_default_msg_id != 0 {
        return Err(RefusalStatus::ESME_RINVDFTMSGID);
    }
    let times =
        submit::times(&replace.schedule_delivery_time, &replace.validity_period, account, &directory.settings, now)
            .map_err(|refusal| refusal.status())?;
    submit::check_registered(replace.registered_delivery).map_err(|refusal| refusal.status())?;
    // The times that are named must fit those that stay.
    let begins_at_ms = match replace.schedule_delivery_time.is_empty() {
        true => submission.scheduled_at_ms.max(now.as_millis()),
        false => times.scheduled_at_ms.max(now.as_millis()),
    };
    if !replace.validity_period.is_empty() && times.expires_at_ms <= begins_at_ms {
        return Err(RefusalStatus::ESME_RINVEXPIRY);
    }
    let stays_until_ms = submission.expires_at_ms;
    if replace.validity_period.is_empty() && stays_until_ms > 0 && stays_until_ms <= begins_at_ms {
        return Err(RefusalStatus::ESME_RINVSCHED);
    }
    let given = |text: &TimeString, at_ms: u64| if text.is_empty() { 0 } else { at_ms };
    Ok(Replace {
        id: message.id,
        account: account.system_id.clone(),
        short_message: Bytes::copy_from_slice(&replace.short_message),
        registered_delivery: u32::from(replace.registered_delivery.0),
        scheduled_at_ms: given(&replace.schedule_delivery_time, times.scheduled_at_ms),
        expires_at_ms: given(&replace.validity_period, times.expires_at_ms),
    })
}

/// Whether a message is the account's, and from the source address that the request names, if it names one.
fn concerns(account: &Account, owner: &str, named: &Address, source: Option<&model::Address>) -> bool {
    owner == account.system_id && (named.is_empty() || same(named, source))
}

fn same(named: &Address, stored: Option<&model::Address>) -> bool {
    stored.is_some_and(|stored| stored.digits.as_bytes() == named.addr.as_bytes())
}

fn time_string(at: WallTime) -> TimeString {
    let text = SmppTime::Absolute(AbsoluteTime::from_wall(at, UtcOffset::UTC)).to_string();
    text.parse().expect("a time string has 16 characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::fakes::directory;
    use smsc_proto::types::RegisteredDelivery;
    use smsc_raft::model::{FinalRecord, Submission};
    use std::sync::Arc;

    fn message(id: u64) -> Message {
        let submission = Submission {
            account: "esme1".into(),
            source: Some(model::Address { ton: 0, npi: 1, digits: "1000".into() }),
            destination: Some(model::Address { ton: 1, npi: 1, digits: "15551".into() }),
            scheduled_at_ms: 5_000,
            ..Submission::default()
        };
        Message { id, submission: Some(submission), due_at_ms: 5_000, last_error: 0x03_01_1b, ..Message::default() }
    }

    fn address(digits: &str) -> Address {
        Address { addr: digits.parse().expect("short"), ..Address::default() }
    }

    #[test]
    fn only_our_own_form_is_an_id() {
        let id = |text: &str| id_of(&text.parse().expect("short"));
        assert_eq!(id("42"), Some(42));
        for text in ["", "042", "+42", "4 2", "18446744073709551616", "2a"] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn a_query_tells_the_state_to_the_account_alone() {
        let directory = directory(|_| {});
        let ask = |account: &str, source: &str, found: &Found, version| {
            let request =
                QuerySm { message_id: "7".parse().expect("short"), source_addr: address(source), ..QuerySm::default() };
            query(&request, &directory.accounts[account], found, version)
        };
        let waiting = Found::Waiting(Arc::new(message(7)));
        let told = ask("esme1", "1000", &waiting, InterfaceVersion::V3_4).expect("its own");
        assert_eq!((told.message_state, told.error_code), (MessageState::ENROUTE, 0xff));
        let told = ask("esme1", "", &waiting, InterfaceVersion::V5_0).expect("its own");
        assert_eq!(told.message_state, MessageState::SCHEDULED);
        let record = FinalRecord {
            state: model::MessageState::Delivered as i32,
            final_at_ms: 1_795_229_569_000,
            account: "esme1".into(),
            ..FinalRecord::default()
        };
        let told = ask("esme1", "", &Found::Final(Box::new(record)), InterfaceVersion::V3_4).expect("its own");
        assert_eq!(told.message_state, MessageState::DELIVERED);
        assert_eq!(told.final_date, "261121025249000+");
        for (account, source, found) in
            [("esme2", "1000", &waiting), ("esme1", "2000", &waiting), ("esme1", "", &Found::Unknown)]
        {
            assert_eq!(ask(account, source, found, InterfaceVersion::V3_4), Err(RefusalStatus::ESME_RQUERYFAIL));
        }
    }

    #[test]
    fn a_cancel_names_account_and_addresses() {
        let directory = directory(|_| {});
        let ask = |account: &str, to: &str| {
            let request = CancelSm { destination_addr: address(to), ..CancelSm::default() };
            cancel(&request, &directory.accounts[account], &message(7), &directory, WallTime::from_millis(9))
        };
        let made = ask("esme1", "").expect("its own");
        assert_eq!((made.id, made.state(), made.account.as_str()), (7, model::MessageState::Deleted, "esme1"));
        assert!(ask("esme1", "15551").is_ok());
        assert_eq!(ask("esme1", "15552"), Err(RefusalStatus::ESME_RCANCELFAIL));
        assert_eq!(ask("esme2", ""), Err(RefusalStatus::ESME_RCANCELFAIL));
    }

    #[test]
    fn a_replacement_keeps_the_times_it_does_not_name() {
        let directory = directory(|_| {});
        let ask = |request: ReplaceSm, message: &Message| {
            replace(&request, &directory.accounts["esme1"], message, &directory, WallTime::from_millis(1_000))
        };
        let text = ReplaceSm { short_message: "new".into(), ..ReplaceSm::default() };
        let made = ask(text.clone(), &message(7)).expect("its own");
        assert_eq!((made.scheduled_at_ms, made.expires_at_ms, &made.short_message[..]), (0, 0, &b"new"[..]));
        let timed = ReplaceSm { validity_period: "000000000100000R".parse().expect("short"), ..text.clone() };
        assert_eq!(ask(timed, &message(7)).expect("its own").expires_at_ms, 61_000);
        let too_short = ReplaceSm { validity_period: "000000000004000R".parse().expect("short"), ..text.clone() };
        assert_eq!(ask(too_short, &message(7)), Err(RefusalStatus::ESME_RINVEXPIRY));
        let mut ends = message(7);
        ends.submission.as_mut().expect("set above").expires_at_ms = 61_000;
        let too_late = ReplaceSm { schedule_delivery_time: "000000000100000R".parse().expect("short"), ..text.clone() };
        assert_eq!(ask(too_late, &ends), Err(RefusalStatus::ESME_RINVSCHED));
        let reserved = ReplaceSm { registered_delivery: RegisteredDelivery(0x80), ..text.clone() };
        assert_eq!(ask(reserved, &message(7)), Err(RefusalStatus::ESME_RINVREGDLVFLG));
        let mut with_payload = message(7);
        with_payload.submission.as_mut().expect("set above").tlvs = Bytes::from_static(b"\x04\x24\0\x01x");
        assert_eq!(ask(text, &with_payload), Err(RefusalStatus::ESME_RREPLACEFAIL));
    }
}
