//! From a submission as an ESME wrote it to one as it is stored: checked, routed, stamped. Pure.

use bytes::Bytes;
use smsc_proto::pdu::{DataSm, SubmitMulti, SubmitSm};
use smsc_proto::time::{SmppTime, WallTime};
use smsc_proto::tlv::Tag;
use smsc_proto::types::{
    Address, DestAddress, EsmClass, InterfaceVersion, MessageType, MessagingMode, Npi, PriorityFlag,
    RegisteredDelivery, ReplaceIfPresent, TimeString, Ton,
};
use smsc_raft::model::{self, Account, MessageKind, Settings, Submission};
use std::time::Duration;

use super::ports::Directory;
use super::status::SubmitRefusal;

/// Life of a message when neither ESME nor account nor operator say. Seconds.
const VALIDITY_DEFAULT_S: u64 = 86_400;
/// The longest life when the operator does not say. Seconds.
const VALIDITY_MAX_S: u64 = 7 * 86_400;
/// Octets of short_message in v3.4 (SMPP v3.4 section 5.2.22); v5.0 allows one more.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// Letters of a sender's name that phones show (GSM 03.40 section 9.1.2.5).
const NAME_OCTETS_MAX: usize = 11;
/// The highest priority_flag (v5.0 section 4.7.23: 0 to 4 on some networks).
const PRIORITY_MAX: PriorityFlag = PriorityFlag(4);
/// Bits of registered_delivery that neither version defines.
const REGISTERED_DELIVERY_RESERVED: u8 = 0b1110_0000;

/// Who submits.
#[derive(Clone, Copy, Debug)]
pub struct Submitter<'a> {
    /// The account of the session.
    pub account: &'a Account,
    /// What the ESME speaks.
    pub version: InterfaceVersion,
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
    check_text(submit, submitter.version)?;
    let service_type = submit.service_type.as_str().ok_or(SubmitRefusal::ServiceType)?;
    let source = source(&submit.source_addr, account)?;
    let destination = destination(&submit.destination_addr)?;
    let times = times(&submit.schedule_delivery_time, &submit.validity_period, account, &directory.settings, now)?;
    let routed = directory.routes.route(&account.system_id, &destination).map_err(SubmitRefusal::NotRouted)?;
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
        data_coding: u32::from(submit.data_coding.0),
        // Copies, because a slice would keep the whole receive buffer as long as the message waits.
        short_message: Bytes::copy_from_slice(&submit.short_message),
        tlvs: Bytes::copy_from_slice(submit.tlvs.as_bytes()),
        queue_kind: routed.kind as i32,
        queue_key: routed.key,
        link: routed.link,
        expires_at_ms: times.expires_at_ms,
        scheduled_at_ms: times.scheduled_at_ms,
        receipt_for: 0,
        replace_if_present: submit.replace_if_present_flag == ReplaceIfPresent::REPLACE,
    })
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

/// submit_multi as one submit_sm for each destination, or the refusal of that destination.
pub fn of_submit_multi(multi: &SubmitMulti) -> impl Iterator<Item = (Address, Result<SubmitSm, SubmitRefusal>)> + '_ {
    multi.dest_addresses.iter().map(|destination| match destination {
        DestAddress::Sme(address) => (address.clone(), Ok(single(multi, address.clone()))),
        // unsuccess_sme has no room for the name of a list that is as long as an address: it fits.
        DestAddress::DistributionList(name) => {
            let named = Address::new(Ton::UNKNOWN, Npi::UNKNOWN, Bytes::copy_from_slice(name.as_bytes()));
            (named.unwrap_or_default(), Err(SubmitRefusal::DistributionList))
        }
    })
}

fn single(multi: &SubmitMulti, destination_addr: Address) -> SubmitSm {
    SubmitSm {
        service_type: multi.service_type.clone(),
        source_addr: multi.source_addr.clone(),
        destination_addr,
        esm_class: multi.esm_class,
        protocol_id: multi.protocol_id,
        priority_flag: multi.priority_flag,
        schedule_delivery_time: multi.schedule_delivery_time.clone(),
        validity_period: multi.validity_period.clone(),
        registered_delivery: multi.registered_delivery,
        // Not used in submit_multi (SMPP v3.4 section 4.5.1).
        replace_if_present_flag: ReplaceIfPresent::DO_NOT_REPLACE,
        data_coding: multi.data_coding,
        sm_default_msg_id: multi.sm_default_msg_id,
        short_message: multi.short_message.clone(),
        tlvs: multi.tlvs.clone(),
    }
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

/// Refuses what no version defines (SMPP v3.4 section 5.2.17).
pub(super) fn check_registered(registered: RegisteredDelivery) -> Result<(), SubmitRefusal> {
    if registered.0 & REGISTERED_DELIVERY_RESERVED == 0 { Ok(()) } else { Err(SubmitRefusal::RegisteredDelivery) }
}

/// Whether an ESME may submit this class of message.
///
/// Datagram mode asks for less than store and forward and gets that. Forward mode asks for the outcome in the response,
/// which is not offered. Receipts and notifications are made by message centres alone.
fn submittable(class: EsmClass) -> bool {
    let kind = matches!(
        class.message_type(),
        MessageType::Default
            | MessageType::DeliveryAcknowledgement
            | MessageType::UserAcknowledgement
            | MessageType::ConversationAbort
    );
    kind && class.mode() != MessagingMode::Forward
}

fn check_text(submit: &SubmitSm, version: InterfaceVersion) -> Result<(), SubmitRefusal> {
    let longest = SHORT_MESSAGE_OCTETS_MAX + usize::from(version >= InterfaceVersion::V5_0);
    if submit.short_message.len() > longest {
        return Err(SubmitRefusal::Length);
    }
    let payload = submit.tlvs.get(Tag::MESSAGE_PAYLOAD);
    let text = match &payload {
        Some(_) if !submit.short_message.is_empty() => return Err(SubmitRefusal::TwoTexts),
        Some(payload) => payload,
        None => &submit.short_message,
    };
    let header_fits = text.first().is_some_and(|length| usize::from(*length) < text.len());
    if submit.esm_class.udhi() && !header_fits {
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

    const NOW: WallTime = WallTime::from_millis(1_795_229_569_000);

    fn good() -> SubmitSm {
        SubmitSm {
            source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
            destination_addr: Address::international("15551").expect("short"),
            short_message: "hello".into(),
            ..SubmitSm::default()
        }
    }

    fn submit(change: impl FnOnce(&mut SubmitSm)) -> Result<Submission, SubmitRefusal> {
        let directory = directory(|_| {});
        let mut submit = good();
        change(&mut submit);
        let submitter = Submitter { account: &directory.accounts["esme1"], version: InterfaceVersion::V3_4 };
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
        refused(RefusalStatus::ESME_RINVESMCLASS, |s| s.esm_class = EsmClass(0x02));
        refused(RefusalStatus::ESME_RINVESMCLASS, |s| s.esm_class = EsmClass::DELIVERY_RECEIPT);
        refused(RefusalStatus::ESME_RINVPRTFLG, |s| s.priority_flag = PriorityFlag(5));
        refused(RefusalStatus::ESME_RINVREGDLVFLG, |s| s.registered_delivery = RegisteredDelivery(0x20));
        refused(RefusalStatus::ESME_RINVREPFLAG, |s| s.replace_if_present_flag = ReplaceIfPresent(2));
        refused(RefusalStatus::ESME_RINVDFTMSGID, |s| s.sm_default_msg_id = 1);
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
        let submitter = Submitter { account: &directory.accounts["esme1"], version: InterfaceVersion::V5_0 };
        let long = SubmitSm { short_message: vec![b'x'; 255].into(), ..good() };
        assert!(submission(&long, submitter, &directory, NOW).is_ok());
    }

    #[test]
    fn submit_multi_is_one_submission_each() {
        let multi = SubmitMulti {
            dest_addresses: vec![
                DestAddress::Sme(Address::international("15551").expect("short")),
                DestAddress::DistributionList("friends".parse().expect("short")),
            ],
            short_message: "hello".into(),
            ..SubmitMulti::default()
        };
        let each: Vec<_> = of_submit_multi(&multi).collect();
        assert_eq!(each.len(), 2);
        assert_eq!(each[0].1.as_ref().map(|submit| submit.short_message.clone()), Ok("hello".into()));
        assert_eq!(each[1].1, Err(SubmitRefusal::DistributionList));
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
