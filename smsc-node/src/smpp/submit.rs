//! From a submission as an ESME wrote it to one as it is stored: checked, routed, stamped. Pure.

use bytes::Bytes;
use smsc_proto::pdu::{DataSm, SubmitSm};
use smsc_proto::time::{SmppTime, WallTime};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, EsmClass, InterfaceVersion, MessageType, MessagingMode, Npi, PriorityFlag, RegisteredDelivery,
    ReplaceIfPresent, TimeString, Ton,
};
use smsc_raft::model::{self, Account, MessageKind, Settings, Submission};
use std::time::Duration;

use super::alphabet::StoredText;
use super::ports::Directory;
use super::status::SubmitRefusal;
use crate::delivery::route;

/// Life of a message when neither ESME nor account nor operator say. Seconds.
const VALIDITY_DEFAULT_S: u64 = 86_400;
/// The longest life when the operator does not say. Seconds.
const VALIDITY_MAX_S: u64 = 7 * 86_400;
/// How long a message of datagram or transaction mode waits for its attempt when the operator does not say. Seconds;
/// less than the 10 s that many ESMEs wait for a response.
const TRANSACTION_TIMER_S: u64 = 5;
/// Octets of short_message in v3.4 (SMPP v3.4 section 5.2.22); v5.0 allows one more.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// Letters of a sender's name that phones show (GSM 03.40 section 9.1.2.5).
const NAME_OCTETS_MAX: usize = 11;
/// The highest priority_flag (v5.0 section 4.7.23: 0 to 4 on some networks).
const PRIORITY_MAX: PriorityFlag = PriorityFlag(4);
/// The highest number_of_messages (v3.4 section 5.3.2.39).
const NUMBER_OF_MESSAGES_MAX: u8 = 99;
/// Bits of registered_delivery that neither version defines.
const REGISTERED_DELIVERY_RESERVED: u8 = 0b1110_0000;

/// Who submits.
#[derive(Clone, Copy, Debug)]
pub struct Submitter<'a> {
    /// The account of the session.
    pub account: &'a Account,
    /// What the ESME speaks.
    pub version: InterfaceVersion,
    /// The session's id in the registry.
    pub session_id: u64,
}

/// The submission to store for `submit`, received at `now`.
///
/// # Errors
/// [`SubmitRefusal`]: the caller answers its status and proposes nothing.
pub fn submission(
    submit: &SubmitSm,
    submitter: Submitter<'_>,
    directory: &Directory,
    now: WallTime,
) -> Result<Submission, SubmitRefusal> {
    let account = submitter.account;
    submit.tlvs.check_lengths()?;
    check_flags(submit)?;
    check_values(&submit.tlvs)?;
    check_text(submit, submitter.version)?;
    let service_type = submit.service_type.as_str().ok_or(SubmitRefusal::ServiceType)?;
    let source = source(&submit.source_addr, account)?;
    let destination = destination(&submit.destination_addr)?;
    let mut times = times(&submit.schedule_delivery_time, &submit.validity_period, account, &directory.settings, now)?;
    let at_once = is_at_once(submit.esm_class);
    if at_once {
        if times.scheduled_at_ms > 0 {
            return Err(SubmitRefusal::Schedule);
        }
        if submit.replace_if_present_flag == ReplaceIfPresent::REPLACE {
            return Err(SubmitRefusal::ReplaceAtOnce);
        }
        times.expires_at_ms = times.expires_at_ms.min((now + transaction_timer(&directory.settings)).as_millis());
    }
    let query = route::Query {
        account: &account.system_id,
        source: &source.digits,
        destination: &destination,
        service_type,
        text: route::Text {
            data_coding: u32::from(submit.data_coding.0),
            esm_class: u32::from(submit.esm_class.0),
            octets: &submit.short_message,
        },
        now_ms: now.as_millis(),
    };
    let routed = directory.routes.route(&query).map_err(SubmitRefusal::NotRouted)?;
    let alphabet = account.default_alphabet();
    let text = StoredText::of(alphabet, submit.data_coding, submit.esm_class, &submit.short_message, &submit.tlvs)
        .ok_or(SubmitRefusal::Length)?;
    Ok(Submission {
        account: account.system_id.clone(),
        kind: MessageKind::Submitted as i32,
        service_type: service_type.to_owned(),
        source: Some(source),
        destination: Some(destination),
        esm_class: u32::from(submit.esm_class.0),
        protocol_id: u32::from(submit.protocol_id),
        priority_flag: u32::from(submit.priority_flag.0),
        registered_delivery: u32::from(submit.registered_delivery.0),
        data_coding: text.data_coding,
        short_message: text.short_message,
        tlvs: text.tlvs,
        queue_kind: routed.kind as i32,
        queue_key: routed.key,
        link: routed.link,
        expires_at_ms: times.expires_at_ms,
        scheduled_at_ms: times.scheduled_at_ms,
        receipt_for: 0,
        replace_if_present: submit.replace_if_present_flag == ReplaceIfPresent::REPLACE,
        session_id: submitter.session_id,
        multi_index: 0,
        multi_count: 0,
        attempts_max: u32::from(at_once),
    })
}

/// Whether the message is attempted once, soon or never: datagram and transaction mode (SMPP v3.4 section 2.10).
///
/// Both are committed like any other message, so that a positive answer means the same for all; but they do not wait
/// for a number to come back, and are not tried again.
fn is_at_once(class: EsmClass) -> bool {
    matches!(class.mode(), MessagingMode::Datagram | MessagingMode::Forward)
}

/// How long a message of datagram or transaction mode may wait for its attempt.
pub fn transaction_timer(settings: &Settings) -> Duration {
    Duration::from_secs(or_default(u64::from(settings.transaction_timer_s), TRANSACTION_TIMER_S))
}

/// data_sm as the submit_sm that means the same; the message is in message_payload, and qos_time_to_live is its
/// validity_period.
///
/// # Errors
/// [`SubmitRefusal`] for an address above the 20 octets that an address of a message may have.
pub fn of_data_sm(data: DataSm) -> Result<SubmitSm, SubmitRefusal> {
    Ok(SubmitSm {
        service_type: data.service_type,
        source_addr: data.source_addr.try_into().map_err(|_| SubmitRefusal::Source)?,
        destination_addr: data.destination_addr.try_into().map_err(|_| SubmitRefusal::Destination)?,
        esm_class: data.esm_class,
        registered_delivery: data.registered_delivery,
        data_coding: data.data_coding,
        validity_period: data.tlvs.qos_time_to_live().map(relative).unwrap_or_default(),
        tlvs: data.tlvs,
        ..SubmitSm::default()
    })
}

/// Seconds as a time string; at most the 99 days it can hold, which is more than any operator's maximum.
fn relative(seconds: u32) -> TimeString {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let [days, hours, minutes, seconds] = [(hours / 24).min(99), hours % 24, minutes % 60, seconds % 60];
    let text = format!("0000{days:02}{hours:02}{minutes:02}{seconds:02}000R");
    text.parse().expect("a time string has 16 characters")
}

/// When a message may be delivered; UTC milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Not after this.
    pub expires_at_ms: u64,
    /// Not before this; 0 for at once.
    pub scheduled_at_ms: u64,
}

/// Reads schedule_delivery_time and validity_period (SMPP v3.4 sections 5.2.15 and 5.2.16).
///
/// A validity_period above the operator's maximum is cut to it. Without one the message lives for the account's default
/// or the operator's, counted from the time it is scheduled for.
///
/// # Errors
/// [`SubmitRefusal::Schedule`] and [`SubmitRefusal::Expiry`] for what is no time, what is over at `now`, and what ends
/// before it begins.
pub fn times(
    schedule: &TimeString,
    validity: &TimeString,
    account: &Account,
    settings: &Settings,
    now: WallTime,
) -> Result<Times, SubmitRefusal> {
    let longest = Duration::from_secs(or_default(settings.validity_max_s, VALIDITY_MAX_S));
    let scheduled = match resolve(schedule, now).ok_or(SubmitRefusal::Schedule)? {
        Some(at) if at <= now || at > now + longest => return Err(SubmitRefusal::Schedule),
        scheduled => scheduled,
    };
    let begins = scheduled.unwrap_or(now);
    let expires = match resolve(validity, now).ok_or(SubmitRefusal::Expiry)? {
        Some(at) if at <= begins => return Err(SubmitRefusal::Expiry),
        Some(at) => at.min(begins + longest),
        None => {
            let operator = or_default(settings.validity_default_s, VALIDITY_DEFAULT_S);
            let life = Duration::from_secs(or_default(u64::from(account.default_validity_s), operator));
            begins + life.min(longest)
        }
    };
    Ok(Times { expires_at_ms: expires.as_millis(), scheduled_at_ms: scheduled.map_or(0, WallTime::as_millis) })
}

/// A time of the wire; `Some(None)` if none is given, `None` if it is no time.
fn resolve(text: &TimeString, now: WallTime) -> Option<Option<WallTime>> {
    match SmppTime::parse_field(text.as_bytes()).ok()? {
        Some(time) => time.resolve(now).ok().map(Some),
        None => Some(None),
    }
}

fn or_default(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

fn check_flags(submit: &SubmitSm) -> Result<(), SubmitRefusal> {
    if !submittable(submit.esm_class) {
        return Err(SubmitRefusal::EsmClass);
    }
    if submit.priority_flag > PRIORITY_MAX {
        return Err(SubmitRefusal::Priority);
    }
    check_registered(submit.registered_delivery)?;
    if submit.replace_if_present_flag > ReplaceIfPresent::REPLACE {
        return Err(SubmitRefusal::ReplaceFlag);
    }
    if submit.sm_default_msg_id != 0 {
        return Err(SubmitRefusal::PredefinedMessage);
    }
    Ok(())
}

/// TLVs that the message centre acts upon, or that have a status of their own; others are for the receiver to judge.
fn check_values(tlvs: &Tlvs) -> Result<(), SubmitRefusal> {
    if tlvs.number_of_messages().is_some_and(|count| count > NUMBER_OF_MESSAGES_MAX) {
        return Err(SubmitRefusal::NumberOfMessages);
    }
    if tlvs.set_dpf().is_some_and(|asked| asked > 1) { Err(SubmitRefusal::SetDpf) } else { Ok(()) }
}

/// Refuses what no version defines (SMPP v3.4 section 5.2.17).
pub(super) fn check_registered(registered: RegisteredDelivery) -> Result<(), SubmitRefusal> {
    if registered.0 & REGISTERED_DELIVERY_RESERVED == 0 { Ok(()) } else { Err(SubmitRefusal::RegisteredDelivery) }
}

/// Whether an ESME may submit this class of message.
///
/// Receipts and notifications are made by message centres alone.
fn submittable(class: EsmClass) -> bool {
    matches!(
        class.message_type(),
        MessageType::Default
            | MessageType::DeliveryAcknowledgement
            | MessageType::UserAcknowledgement
            | MessageType::ConversationAbort
    )
}

fn check_text(submit: &SubmitSm, version: InterfaceVersion) -> Result<(), SubmitRefusal> {
    check_octets(&submit.short_message, submit.tlvs.get(Tag::MESSAGE_PAYLOAD), submit.esm_class, version)
}

/// Refuses a text that is longer than its field may be, stands in two fields, or is shorter than its header.
pub(super) fn check_octets(
    short_message: &Bytes,
    payload: Option<Bytes>,
    class: EsmClass,
    version: InterfaceVersion,
) -> Result<(), SubmitRefusal> {
    let longest = SHORT_MESSAGE_OCTETS_MAX + usize::from(version >= InterfaceVersion::V5_0);
    if short_message.len() > longest {
        return Err(SubmitRefusal::Length);
    }
    let text = match &payload {
        Some(_) if !short_message.is_empty() => return Err(SubmitRefusal::TwoTexts),
        Some(payload) => payload,
        None => short_message,
    };
    let header_fits = text.first().is_some_and(|length| usize::from(*length) < text.len());
    if class.udhi() && !header_fits {
        return Err(SubmitRefusal::Length);
    }
    Ok(())
}

fn source(address: &Address, account: &Account) -> Result<model::Address, SubmitRefusal> {
    if address.is_empty() {
        let own = account.short_codes.first().ok_or(SubmitRefusal::NoSource)?;
        return Ok(model::Address { ton: u32::from(Ton::UNKNOWN.0), npi: u32::from(Npi::ISDN.0), digits: own.clone() });
    }
    if address.ton.name().is_none() {
        return Err(SubmitRefusal::SourceTon);
    }
    if address.npi.name().is_none() {
        return Err(SubmitRefusal::SourceNpi);
    }
    let octets = address.addr.as_bytes();
    let good = match address.ton {
        Ton::ALPHANUMERIC => octets.len() <= NAME_OCTETS_MAX && octets.iter().all(|octet| (0x20..0x7f).contains(octet)),
        _ => is_number(octets),
    };
    if good { stored(address).ok_or(SubmitRefusal::Source) } else { Err(SubmitRefusal::Source) }
}

fn destination(address: &Address) -> Result<model::Address, SubmitRefusal> {
    if address.ton.name().is_none() || address.ton == Ton::ALPHANUMERIC {
        return Err(SubmitRefusal::DestinationTon);
    }
    if address.npi.name().is_none() {
        return Err(SubmitRefusal::DestinationNpi);
    }
    let good = is_number(address.addr.as_bytes());
    if good { stored(address).ok_or(SubmitRefusal::Destination) } else { Err(SubmitRefusal::Destination) }
}

fn stored(address: &Address) -> Option<model::Address> {
    Some(model::Address {
        ton: u32::from(address.ton.0),
        npi: u32::from(address.npi.0),
        digits: address.addr.as_str()?.to_owned(),
    })
}

/// Digits and the signs a phone can dial, with a plus in front at most.
fn is_number(octets: &[u8]) -> bool {
    let digits = octets.strip_prefix(b"+").unwrap_or(octets);
    !digits.is_empty() && digits.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'*' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::fakes::directory;
    use smsc_proto::status::RefusalStatus;
    use smsc_raft::model::DefaultAlphabet;

    const NOW: WallTime = WallTime::from_millis(1_795_229_569_000);

    fn good() -> SubmitSm {
        SubmitSm {
            source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
            destination_addr: Address::international("15551").expect("short"),
            short_message: "hello".into(),
            ..SubmitSm::default()
        }
    }

    fn submitter(directory: &Directory, version: InterfaceVersion) -> Submitter<'_> {
        Submitter { account: &directory.accounts["esme1"], version, session_id: 7 }
    }

    fn submit(change: impl FnOnce(&mut SubmitSm)) -> Result<Submission, SubmitRefusal> {
        let directory = directory(|_| {});
        let mut submit = good();
        change(&mut submit);
        let submitter = submitter(&directory, InterfaceVersion::V3_4);
        submission(&submit, submitter, &directory, NOW)
    }

    fn time(text: &str) -> TimeString {
        text.parse().expect("short")
    }

    #[test]
    fn it_is_stamped_and_routed() {
        let made = submit(|submit| submit.tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7)).expect("good");
        assert_eq!((made.account.as_str(), made.queue_key.as_str(), made.link.as_str()), ("esme1", "15551", "handset"));
        assert_eq!(made.tlvs, Bytes::from_static(b"\x02\x04\0\x02\0\x07"));
        assert_eq!((made.scheduled_at_ms, made.expires_at_ms), (0, NOW.as_millis() + 86_400_000));
        assert_eq!(made.short_message, "hello");
    }

    #[test]
    fn an_empty_source_becomes_the_account_s_short_code() {
        let made = submit(|submit| submit.source_addr = Address::default()).expect("good");
        assert_eq!(made.source.expect("always there").digits, "1000");
    }

    #[track_caller]
    fn refused(status: RefusalStatus, change: impl FnOnce(&mut SubmitSm)) {
        let refusal = submit(change).expect_err("not to be accepted");
        assert_eq!(refusal.status(), status, "{refusal}");
    }

    #[test]
    fn each_fault_earns_its_status() {
        let to = |ton, addr: &'static str| Address::new(ton, Npi::ISDN, addr).expect("short");
        refused(RefusalStatus::ESME_RINVDSTADR, |s| s.destination_addr = to(Ton::UNKNOWN, ""));
        refused(RefusalStatus::ESME_RINVDSTADR, |s| s.destination_addr = to(Ton::UNKNOWN, "12a"));
        refused(RefusalStatus::ESME_RINVDSTADR, |s| s.destination_addr = to(Ton::UNKNOWN, "+"));
        refused(RefusalStatus::ESME_RINVDSTADR, |s| s.destination_addr = to(Ton::INTERNATIONAL, "999"));
        refused(RefusalStatus::ESME_RINVDSTTON, |s| s.destination_addr = to(Ton::ALPHANUMERIC, "shop"));
        refused(RefusalStatus::ESME_RINVDSTTON, |s| s.destination_addr = to(Ton(7), "15551"));
        refused(RefusalStatus::ESME_RINVDSTNPI, |s| s.destination_addr.npi = Npi(99));
        refused(RefusalStatus::ESME_RINVSRCTON, |s| s.source_addr.ton = Ton(7));
        refused(RefusalStatus::ESME_RINVSRCNPI, |s| s.source_addr.npi = Npi(99));
        refused(RefusalStatus::ESME_RINVSRCADR, |s| s.source_addr = to(Ton::UNKNOWN, "shop"));
        refused(RefusalStatus::ESME_RINVSRCADR, |s| s.source_addr = to(Ton::ALPHANUMERIC, "a name too long"));
        refused(RefusalStatus::ESME_RINVESMCLASS, |s| s.esm_class = EsmClass::DELIVERY_RECEIPT);
        refused(RefusalStatus::ESME_RINVPRTFLG, |s| s.priority_flag = PriorityFlag(5));
        refused(RefusalStatus::ESME_RINVREGDLVFLG, |s| s.registered_delivery = RegisteredDelivery(0x20));
        refused(RefusalStatus::ESME_RINVREPFLAG, |s| s.replace_if_present_flag = ReplaceIfPresent(2));
        refused(RefusalStatus::ESME_RINVDFTMSGID, |s| s.sm_default_msg_id = 1);
        refused(RefusalStatus::ESME_RINVSUBREP, |s| {
            s.replace_if_present_flag = ReplaceIfPresent::REPLACE;
            s.esm_class = EsmClass(2);
        });
        refused(RefusalStatus::ESME_RINVNUMMSGS, |s| s.tlvs.push_u8(Tag::NUMBER_OF_MESSAGES, 100));
        refused(RefusalStatus::ESME_RINVTLVVAL, |s| s.tlvs.push_u8(Tag::SET_DPF, 2));
        refused(RefusalStatus::ESME_RINVMSGLEN, |s| s.short_message = vec![b'x'; 255].into());
        refused(RefusalStatus::ESME_RINVMSGLEN, |s| s.esm_class = EsmClass(0).with_udhi(true));
        refused(RefusalStatus::ESME_ROPTPARNOTALLWD, |s| {
            s.tlvs.push(Tag::MESSAGE_PAYLOAD, b"again").expect("short");
        });
        refused(RefusalStatus::ESME_RINVPARLEN, |s| s.tlvs.push_u8(Tag::USER_MESSAGE_REFERENCE, 1));
        refused(RefusalStatus::ESME_RINVEXPIRY, |s| s.validity_period = time("not a time"));
        refused(RefusalStatus::ESME_RINVSCHED, |s| s.schedule_delivery_time = time("200101000000000+"));
    }

    #[test]
    fn datagrams_and_transactions_are_tried_once_and_soon() {
        for class in [EsmClass(0x01), EsmClass(0x02)] {
            let made = submit(|s| s.esm_class = class).expect("good");
            assert_eq!((made.attempts_max, made.expires_at_ms), (1, NOW.as_millis() + 5_000));
            let made = submit(|s| {
                s.esm_class = class;
                s.validity_period = time("000000000002000R");
            });
            assert_eq!(made.expect("good").expires_at_ms, NOW.as_millis() + 2_000);
            refused(RefusalStatus::ESME_RINVSCHED, |s| {
                s.esm_class = class;
                s.schedule_delivery_time = time("000000000100000R");
            });
        }
        let made = submit(|s| s.esm_class = EsmClass(0x03)).expect("good");
        assert_eq!((made.attempts_max, made.session_id), (0, 7));
    }

    #[test]
    fn text_in_the_account_s_alphabet_is_stored_in_ours() {
        let directory = directory(|account| account.default_alphabet = DefaultAlphabet::Latin1 as i32);
        let submitter = submitter(&directory, InterfaceVersion::V3_4);
        let short = SubmitSm { short_message: "@".into(), ..good() };
        let made = submission(&short, submitter, &directory, NOW).expect("good");
        assert_eq!((&made.short_message[..], made.data_coding), (&b"\0"[..], 0));
        let mut long = SubmitSm { short_message: Bytes::new(), ..good() };
        long.tlvs.push(Tag::MESSAGE_PAYLOAD, b"\xea").expect("short");
        long.tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7);
        let made = submission(&long, submitter, &directory, NOW).expect("good");
        assert_eq!((made.tlvs, made.data_coding), (Bytes::from_static(b"\x02\x04\0\x02\0\x07\x04\x24\0\x01\xea"), 3));
    }

    #[test]
    fn a_name_may_send_and_a_plus_may_stand_in_front() {
        let made = submit(|s| {
            s.source_addr = Address::new(Ton::ALPHANUMERIC, Npi::UNKNOWN, "Shop").expect("short");
            s.destination_addr = Address::international("+15551").expect("short");
        });
        assert_eq!(made.expect("good").source.expect("always there").digits, "Shop");
    }

    #[test]
    fn validity_and_schedule_are_resolved_cut_and_compared() {
        let account = Account { default_validity_s: 600, ..Account::default() };
        let settings = Settings { validity_max_s: 3_600, ..Settings::default() };
        let check = |schedule: &str, validity: &str| {
            times(&time(schedule), &time(validity), &account, &settings, NOW)
                .map(|times| {
                    let after = |ms: u64| if ms == 0 { 0 } else { (ms - NOW.as_millis()) / 1_000 };
                    (after(times.scheduled_at_ms), after(times.expires_at_ms))
                })
                .map_err(|refusal| refusal.status())
        };
        assert_eq!(check("", ""), Ok((0, 600)));
        assert_eq!(check("", "000000000500000R"), Ok((0, 300)));
        assert_eq!(check("", "000002000000000R"), Ok((0, 3_600)), "cut to the maximum");
        assert_eq!(check("000000001000000R", ""), Ok((600, 1_200)), "counted from the schedule");
        assert_eq!(check("000000001000000R", "000000000500000R"), Err(RefusalStatus::ESME_RINVEXPIRY));
        assert_eq!(check("000000050000000R", ""), Err(RefusalStatus::ESME_RINVSCHED), "too far ahead");
        assert_eq!(check("", "000000000000000R"), Err(RefusalStatus::ESME_RINVEXPIRY));
        assert_eq!(check("000000000000000R", ""), Err(RefusalStatus::ESME_RINVSCHED));
    }

    #[test]
    fn v5_0_has_one_octet_more() {
        let directory = directory(|_| {});
        let submitter = submitter(&directory, InterfaceVersion::V5_0);
        let long = SubmitSm { short_message: vec![b'x'; 255].into(), ..good() };
        assert!(submission(&long, submitter, &directory, NOW).is_ok());
    }

    #[test]
    fn data_sm_lives_as_long_as_it_says() {
        let life = |seconds: u32| {
            let mut data = DataSm::default();
            data.source_addr.addr = "1000".parse().expect("short");
            data.destination_addr.addr = "15551".parse().expect("short");
            data.tlvs.push_u32(Tag::QOS_TIME_TO_LIVE, seconds);
            let made = submit(|submit| *submit = of_data_sm(data).expect("short addresses"));
            made.map(|made| made.expires_at_ms - NOW.as_millis())
        };
        assert_eq!(life(93_784), Ok(93_784_000));
        assert_eq!(life(u32::MAX), Ok(VALIDITY_MAX_S * 1_000));
        assert_eq!(life(0), Err(SubmitRefusal::Expiry));
    }
}
