//! query_sm, cancel_sm and replace_sm against what is stored: what to answer, or what to propose. Pure.
//!
//! The message_id of a submit_multi stands for all of its messages: a query tells what is still to come or went wrong
//! among them, a cancel or a replacement does to each that waits.

use bytes::Bytes;
use smsc_proto::pdu::{CancelSm, QuerySm, QuerySmResult, ReplaceSm};
use smsc_proto::status::RefusalStatus;
use smsc_proto::time::{AbsoluteTime, SmppTime, UtcOffset, WallTime};
use smsc_proto::tlv::Tag;
use smsc_proto::types::{Address, EsmClass, InterfaceVersion, MessageId, MessageState, Npi, TimeString, Ton};
use smsc_raft::machine::keys::bare;
use smsc_raft::model::{self, Account, Finish, Message, Replace};

use crate::link::outbound::segment_count;

use super::alphabet::{self, Text};
use super::ports::{Between, Directory, Found};
use super::submit;

/// The id that a message_id of ours stands for; `None` for what never was one.
pub fn id_of(message_id: &MessageId) -> Option<u64> {
    let text = message_id.as_str()?;
    // Our own form alone: no sign, no leading zero.
    let id = text.parse::<u64>().ok()?;
    (id.to_string() == text).then_some(id)
}

/// The ids that one message_id stands for: those of a submit_multi, by the id of the first, or the one message's.
pub fn ids(id: u64, first: &Found) -> std::ops::Range<u64> {
    let (index, count) = match first {
        Found::Waiting(message) => {
            message.submission.as_ref().map_or((0, 0), |made| (made.multi_index, made.multi_count))
        }
        Found::Final(record) => (record.multi_index, record.multi_count),
        Found::Unknown => (0, 0),
    };
    let count = if index == 0 { u64::from(count).max(1) } else { 1 };
    id..id.saturating_add(count)
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

/// Whether a message with this result has come to its end.
pub fn is_final(result: &QuerySmResult) -> bool {
    !matches!(result.message_state, MessageState::SCHEDULED | MessageState::ENROUTE)
}

/// The result for two messages of one submit_multi: the one that still waits, else the one that was not delivered, else
/// the later one.
pub fn together(first: QuerySmResult, second: QuerySmResult) -> QuerySmResult {
    let weight = |result: &QuerySmResult| match result.message_state {
        MessageState::SCHEDULED | MessageState::ENROUTE => 2,
        MessageState::DELIVERED | MessageState::ACCEPTED => 0,
        _ => 1,
    };
    let later = second.final_date.as_bytes() > first.final_date.as_bytes();
    match weight(&second).cmp(&weight(&first)) {
        std::cmp::Ordering::Greater => second,
        std::cmp::Ordering::Equal if later => second,
        _ => first,
    }
}

/// What cancel_sm means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelTarget {
    /// The message of this id, or those of its submit_multi.
    Id(u64),
    /// Everything that waits between two numbers.
    Between(Between),
}

impl CancelTarget {
    /// What `cancel` of `account` means (SMPP v3.4 section 4.9.1). Without a source address the one that submissions
    /// without source address got.
    ///
    /// # Errors
    /// The status to refuse with: the message_id is none of ours, or neither it nor the addresses say what is meant.
    pub fn of(cancel: &CancelSm, account: &Account) -> Result<Self, RefusalStatus> {
        if !cancel.message_id.as_bytes().is_empty() {
            return id_of(&cancel.message_id).map(CancelTarget::Id).ok_or(RefusalStatus::ESME_RINVMSGID);
        }
        let digits = |address: &Address| address.addr.as_str().map(str::to_owned).filter(|digits| !digits.is_empty());
        let source = match cancel.source_addr.is_empty() {
            true => account.short_codes.first().cloned(),
            false => digits(&cancel.source_addr),
        };
        Ok(CancelTarget::Between(Between {
            source: source.ok_or(RefusalStatus::ESME_RINVSRCADR)?,
            destination: digits(&cancel.destination_addr).ok_or(RefusalStatus::ESME_RINVDSTADR)?,
            service_type: cancel.service_type.as_str().ok_or(RefusalStatus::ESME_RINVSERTYP)?.to_owned(),
        }))
    }
}

/// What to propose for cancel_sm of one of the messages that it may mean.
///
/// # Errors
/// The status to refuse with: the message is not this account's, or not between these addresses.
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
    Ok(Finish { account: account.system_id.clone(), ..deletion(message, directory, now) })
}

/// What to propose for a message that was cancelled, whoever had it.
pub fn deletion(message: &Message, directory: &Directory, now: WallTime) -> Finish {
    let at_ms = now.as_millis();
    Finish {
        segments: message.submission.as_ref().map_or(0, segment_count),
        id: message.id,
        state: model::MessageState::Deleted as i32,
        at_ms,
        receipt: directory.routes.deletion_receipt(message, at_ms, directory.settings.receipt_validity_s),
        ..Finish::default()
    }
}

/// What to propose for replace_sm.
///
/// The new text, in short_message or (v5.0) message_payload, takes the place of the old one wherever that stands, and is
/// in the coding that the message was submitted with. An attempt that is under way when the replacement is committed
/// goes on with the old text; if it succeeds, that was the delivery. Every later attempt has the new text.
///
/// # Errors
/// The status to refuse with.
pub fn replace(
    replace: &ReplaceSm,
    account: &Account,
    message: &Message,
    version: InterfaceVersion,
    directory: &Directory,
    now: WallTime,
) -> Result<Replace, RefusalStatus> {
    let failed = RefusalStatus::ESME_RREPLACEFAIL;
    let submission = message.submission.as_ref().ok_or(failed)?;
    if !concerns(account, &submission.account, &replace.source_addr, submission.source.as_ref()) {
        return Err(failed);
    }
    if replace.sm_default_msg_id != 0 {
        return Err(RefusalStatus::ESME_RINVDFTMSGID);
    }
    let class = EsmClass(u8::try_from(submission.esm_class).map_err(|_| failed)?);
    let payload = replace.tlvs.get(Tag::MESSAGE_PAYLOAD);
    submit::check_octets(&replace.short_message, payload.clone(), class, version)
        .map_err(|refusal| refusal.status())?;
    let times =
        submit::times(&replace.schedule_delivery_time, &replace.validity_period, account, &directory.settings, now)
            .map_err(|refusal| refusal.status())?;
    submit::check_registered(replace.registered_delivery).map_err(|refusal| refusal.status())?;
    // What is tried once and soon cannot be put off.
    if submission.attempts_max > 0 && !replace.schedule_delivery_time.is_empty() {
        return Err(RefusalStatus::ESME_RINVSCHED);
    }
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
    let octets = text(payload.as_ref().unwrap_or(&replace.short_message), account, submission, class)?;
    let (short_message, message_payload) = match payload {
        Some(_) => (Bytes::new(), Some(octets)),
        None => (octets, None),
    };
    Ok(Replace {
        id: message.id,
        account: account.system_id.clone(),
        short_message,
        message_payload,
        registered_delivery: u32::from(replace.registered_delivery.0),
        scheduled_at_ms: given(&replace.schedule_delivery_time, times.scheduled_at_ms),
        expires_at_ms: given(&replace.validity_period, times.expires_at_ms),
    })
}

/// The new text in the coding of the old one: replace_sm has no data_coding of its own.
///
/// Text of an account with another default alphabet than the GSM one was submitted with data_coding 0 and may be stored
/// in either; which, is not to change with a replacement.
fn text(octets: &Bytes, account: &Account, old: &model::Submission, class: EsmClass) -> Result<Bytes, RefusalStatus> {
    let copied = || Bytes::copy_from_slice(octets);
    if old.data_coding != 0 {
        return Ok(copied());
    }
    let written = Text { data_coding: 0, has_header: class.udhi(), is_segment: false, octets };
    match alphabet::stored(account.default_alphabet(), written) {
        None => Ok(copied()),
        Some((0, octets)) => Ok(octets.into()),
        // Characters that the stored coding has not.
        Some(_) => Err(RefusalStatus::ESME_RREPLACEFAIL),
    }
}

/// Whether a message is the account's, and from the source address that the request names, if it names one.
fn concerns(account: &Account, owner: &str, named: &Address, source: Option<&model::Address>) -> bool {
    owner == account.system_id && (named.is_empty() || same(named, source))
}

/// Whether the address is the stored one: the digits, and type of number and numbering plan where the request knows
/// them (0 is "not known"; SMPP v3.4 sections 4.8.1, 4.9.1 and 4.10.1).
fn same(named: &Address, stored: Option<&model::Address>) -> bool {
    stored.is_some_and(|stored| {
        let digits = named.addr.as_str().is_some_and(|digits| bare(digits) == bare(&stored.digits));
        let ton = named.ton == Ton::UNKNOWN || u32::from(named.ton.0) == stored.ton;
        let npi = named.npi == Npi::UNKNOWN || u32::from(named.npi.0) == stored.npi;
        digits && ton && npi
    })
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
            let account = &directory.accounts["esme1"];
            let version = InterfaceVersion::V5_0;
            replace(&request, account, message, version, &directory, WallTime::from_millis(1_000))
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
        let mut once = message(7);
        once.submission.as_mut().expect("set above").attempts_max = 1;
        let put_off = ReplaceSm { schedule_delivery_time: "000000000100000R".parse().expect("short"), ..text };
        assert_eq!(ask(put_off, &once), Err(RefusalStatus::ESME_RINVSCHED));
    }

    #[test]
    fn a_replacement_may_be_a_payload_and_keeps_the_coding() {
        let directory = directory(|account| account.default_alphabet = model::DefaultAlphabet::Latin1 as i32);
        let ask = |request: ReplaceSm, message: &Message| {
            let account = &directory.accounts["esme1"];
            replace(&request, account, message, InterfaceVersion::V3_4, &directory, WallTime::from_millis(1_000))
        };
        let short = |text: &'static [u8]| ReplaceSm { short_message: text.into(), ..ReplaceSm::default() };
        let mut long = ReplaceSm::default();
        long.tlvs.push(Tag::MESSAGE_PAYLOAD, b"@long").expect("short");
        let made = ask(long.clone(), &message(7)).expect("its own");
        assert_eq!((made.short_message, made.message_payload), (Bytes::new(), Some("\0long".into())));
        long.short_message = "both".into();
        assert_eq!(ask(long, &message(7)), Err(RefusalStatus::ESME_ROPTPARNOTALLWD));
        assert_eq!(ask(short(b"\xea"), &message(7)), Err(RefusalStatus::ESME_RREPLACEFAIL), "not in the GSM alphabet");
        let mut latin1 = message(7);
        latin1.submission.as_mut().expect("set above").data_coding = 3;
        assert_eq!(ask(short(b"\xea"), &latin1).expect("its own").short_message, &b"\xea"[..]);
        assert_eq!(ask(short(&[b'x'; 255]), &latin1), Err(RefusalStatus::ESME_RINVMSGLEN));
        latin1.submission.as_mut().expect("set above").esm_class = 0x40;
        assert_eq!(ask(short(b"\x20"), &latin1), Err(RefusalStatus::ESME_RINVMSGLEN), "no header in front");
    }

    #[test]
    fn addresses_are_compared_by_digits_and_by_type_and_plan_where_they_are_known() {
        let stored = model::Address { ton: 1, npi: 1, digits: "15551".into() };
        let named = |ton: u8, npi: u8, digits: &'static str| Address::new(Ton(ton), Npi(npi), digits).expect("short");
        for (address, expected) in [
            (named(1, 1, "15551"), true),
            (named(0, 0, "15551"), true),
            (named(1, 0, "+15551"), true),
            (named(2, 1, "15551"), false),
            (named(1, 9, "15551"), false),
            (named(1, 1, "15552"), false),
        ] {
            assert_eq!(same(&address, Some(&stored)), expected, "{address:?}");
        }
    }

    #[test]
    fn a_cancel_means_an_id_or_what_is_between_two_numbers() {
        let directory = directory(|_| {});
        let target = |change: fn(&mut CancelSm)| {
            let mut cancel = CancelSm { destination_addr: address("15551"), ..CancelSm::default() };
            change(&mut cancel);
            CancelTarget::of(&cancel, &directory.accounts["esme1"])
        };
        let between = |source: &str, service_type: &str| {
            let [source, service_type] = [source, service_type].map(str::to_owned);
            Ok(CancelTarget::Between(Between { source, destination: "15551".to_owned(), service_type }))
        };
        assert_eq!(target(|_| {}), between("1000", ""), "the account's own number");
        assert_eq!(target(|c| c.service_type = "WAP".parse().expect("short")), between("1000", "WAP"));
        assert_eq!(target(|c| c.source_addr = address("1001")), between("1001", ""));
        assert_eq!(target(|c| c.message_id = "7".parse().expect("short")), Ok(CancelTarget::Id(7)));
        assert_eq!(target(|c| c.message_id = "x7".parse().expect("short")), Err(RefusalStatus::ESME_RINVMSGID));
        assert_eq!(target(|c| c.destination_addr = Address::default()), Err(RefusalStatus::ESME_RINVDSTADR));
    }

    #[test]
    fn an_id_of_submit_multi_stands_for_all_of_its_messages() {
        let mut first = message(7);
        first.submission.as_mut().expect("set above").multi_count = 3;
        assert_eq!(ids(7, &Found::Waiting(Arc::new(first.clone()))), 7..10);
        first.submission.as_mut().expect("set above").multi_index = 1;
        assert_eq!(ids(8, &Found::Waiting(Arc::new(first))), 8..9, "only the first is known to the ESME");
        let record = FinalRecord { multi_count: 3, ..FinalRecord::default() };
        assert_eq!(ids(7, &Found::Final(Box::new(record))), 7..10);
        assert_eq!(ids(7, &Found::Unknown), 7..8);

        let result = |state: MessageState, date: &str| QuerySmResult {
            message_state: state,
            final_date: date.parse().expect("short"),
            ..QuerySmResult::default()
        };
        let delivered = result(MessageState::DELIVERED, "261121025249000+");
        let later = result(MessageState::DELIVERED, "261121025250000+");
        let expired = result(MessageState::EXPIRED, "261121025248000+");
        let enroute = result(MessageState::ENROUTE, "");
        assert_eq!(together(delivered.clone(), later.clone()), later);
        assert_eq!(together(later.clone(), delivered.clone()), later);
        assert_eq!(together(delivered.clone(), expired.clone()), expired);
        assert_eq!(together(expired.clone(), delivered), expired);
        assert_eq!(together(expired, enroute.clone()), enroute);
        assert!(!is_final(&enroute) && is_final(&later));
    }
}
