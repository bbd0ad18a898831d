//! Which input is refused, and in which words. Pure.

use std::collections::BTreeSet;

use rustls::pki_types::DnsName;
use smsc_proto::rpc::admin::Member as AdminMember;
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{
    Account, Address, DefaultAlphabet, DeliverOperation, DistributionList, ErrorClass, HandsetRange, NumberChunk,
    Outbind, ReceiptContent, RetryPolicy, Route, SessionPolicy, Settings,
};

use crate::delivery::retry::JITTER_PERCENT_MAX;
use crate::delivery::route::list::NumberSet;
use crate::delivery::route::{LINK_HANDSET, TARGET_REFUSE};
use crate::smpp::account::network;

/// Longest system_id without its final NUL (SMPP v3.4 section 5.2.1).
const SYSTEM_ID_LEN_MAX: usize = 15;
/// Longest password without its final NUL (SMPP v3.4 section 5.2.2).
const PASSWORD_LEN_MAX: usize = 8;
/// Longest address without its final NUL (SMPP v3.4 section 5.2.8).
const DIGITS_LEN_MAX: usize = 20;
/// Largest number of simultaneous binds and largest window of an account.
const BINDS_MAX: u32 = 1000;
const WINDOW_MAX: u32 = 10_000;
/// Longest validity of anything: the four weeks that networks commonly allow at most, doubled. Seconds.
const VALIDITY_MAX_S: u64 = 56 * 24 * 3600;
/// Longest wait of a handset or between two attempts: a week. Milliseconds.
const WAIT_MAX_MS: u64 = 7 * 24 * 3600 * 1000;
/// Longest list of waits.
const RETRY_DELAYS_MAX: usize = 64;
/// Most retry policies, and most errors that one of them maps.
const RETRY_POLICIES_MAX: usize = 256;
const ERROR_MAPPINGS_MAX: usize = 256;
/// Longest name of a route, a link or a list.
const NAME_LEN_MAX: usize = 60;
/// Largest priority and weight of a route.
const ROUTE_ORDER_MAX: u32 = 1_000_000;
const DAY_MINUTES: u32 = 24 * 60;
/// Octets of one chunk of a number list, and chunks of one list: 20 million numbers.
const CHUNK_BYTES_MAX: usize = 256 << 10;
const CHUNKS_MAX: u32 = 1_000;
/// Longest time that finals are kept: ten years. Seconds.
const RETENTION_MAX_S: u64 = 3653 * 24 * 3600;

/// Longest name of a distribution list without its final NUL (SMPP v3.4 section 5.2.27).
const LIST_NAME_LEN_MAX: usize = 20;
/// Offsets from UTC that there are. Minutes.
const UTC_OFFSETS_MIN: std::ops::RangeInclusive<i32> = -720..=840;
/// Longest wait for the one attempt at a message, that a response may have to wait for. Seconds.
const TRANSACTION_TIMER_MAX_S: u32 = 60;

/// A refusal's words.
pub(super) type Refused = String;

pub(super) fn system_id(text: &str) -> Result<(), Refused> {
    let fits = (1..=SYSTEM_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    Err(format!(
        "system_id {text:?} cannot be used: 1 to {SYSTEM_ID_LEN_MAX} printable ASCII characters without spaces \
         (SMPP v3.4 section 5.2.1)"
    ))
}

pub(super) fn password(text: &str) -> Result<(), Refused> {
    let fits = (1..=PASSWORD_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if fits {
        return Ok(());
    }
    // Without the password itself: refusals end up in logs.
    Err(format!(
        "the password cannot be used: 1 to {PASSWORD_LEN_MAX} printable ASCII characters, for a bind has no room for \
         more (SMPP v3.4 section 5.2.2)"
    ))
}

/// An account to store, beside the others.
pub(super) fn account<'a>(account: &Account, others: impl Iterator<Item = &'a Account>) -> Result<(), Refused> {
    system_id(&account.system_id)?;
    let mut own = BTreeSet::new();
    for code in &account.short_codes {
        digits("short code", code, 1)?;
        if !own.insert(code) {
            return Err(format!("short code {code} is named twice"));
        }
    }
    at_most("binds", account.binds_max, BINDS_MAX)?;
    at_most("window", account.window, WINDOW_MAX)?;
    if u64::from(account.default_validity_s) > VALIDITY_MAX_S {
        return Err(format!("the default validity is longer than {VALIDITY_MAX_S} s"));
    }
    if !UTC_OFFSETS_MIN.contains(&account.receipt_utc_offset_min) {
        let (least, most) = (UTC_OFFSETS_MIN.start(), UTC_OFFSETS_MIN.end());
        return Err(format!("receipt_utc_offset_min {} is not from {least} to {most}", account.receipt_utc_offset_min));
    }
    let known = DefaultAlphabet::try_from(account.default_alphabet).is_ok()
        && ReceiptContent::try_from(account.receipt_content).is_ok()
        && DeliverOperation::try_from(account.receipt_operation).is_ok()
        && DeliverOperation::try_from(account.message_operation).is_ok();
    if !known {
        return Err(
            "the account's alphabet, or the form of its receipts or messages, is unknown to this version".to_owned()
        );
    }
    if let Some(policy) = &account.session {
        session_policy(policy)?;
    }
    if let Some(outbind) = &account.outbind {
        if account.session.as_ref().is_some_and(|policy| policy.tls_only || !policy.client_name.is_empty()) {
            return Err("outbind goes without TLS, so an account cannot have it and bind through TLS only".to_owned());
        }
        self::outbind(outbind)?;
    }
    if !account.may_transmit && !account.may_receive {
        return Err("an account that may neither transmit nor receive is of no use; disable it instead".to_owned());
    }
    if own.is_empty() {
        return Ok(());
    }
    for other in others.filter(|other| other.system_id != account.system_id) {
        if let Some(code) = other.short_codes.iter().find(|code| own.contains(code)) {
            return Err(format!("short code {code} belongs to account {:?} already", other.system_id));
        }
    }
    Ok(())
}

/// A distribution list to store; `exists` tells of a system_id, `members_max` is what one submit_multi may have.
pub(super) fn list(list: &DistributionList, exists: impl Fn(&str) -> bool, members_max: usize) -> Result<(), Refused> {
    let fits = (1..=LIST_NAME_LEN_MAX).contains(&list.name.len()) && list.name.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(format!(
            "name {:?} cannot be used: 1 to {LIST_NAME_LEN_MAX} printable ASCII characters without spaces (SMPP v3.4 \
             section 5.2.27)",
            list.name
        ));
    }
    if !list.account.is_empty() && !exists(&list.account) {
        return Err(format!("there is no account {:?} to keep the list for; put it first", list.account));
    }
    if list.members.is_empty() || list.members.len() > members_max {
        return Err(format!("a list has 1 to {members_max} members, this one has {}", list.members.len()));
    }
    list.members.iter().try_for_each(|Address { ton, npi, digits: text }| {
        if *ton > 6 || *npi > 18 {
            return Err(format!("member {ton}/{npi}/{text}: ton is 0 to 6, npi 0 to 18"));
        }
        digits("member", text, 1)
    })
}

/// How sessions are held.
fn session_policy(policy: &SessionPolicy) -> Result<(), Refused> {
    for text in &policy.networks {
        if network(text).is_none() {
            return Err(format!(
                "network {text:?} is none: an address with a prefix length as in \"192.0.2.0/24\", or an address alone"
            ));
        }
    }
    if !policy.client_name.is_empty() && DnsName::try_from(policy.client_name.as_str()).is_err() {
        return Err(format!("client_name {:?} is no DNS name, as a certificate carries it", policy.client_name));
    }
    at_most("enquire_link_s", policy.enquire_link_s, 3600)?;
    at_most("inactivity_s", policy.inactivity_s, 86_400)?;
    at_most("response_s", policy.response_s, 600)?;
    for (name, value) in [("response_s", policy.response_s), ("enquire_link_s", policy.enquire_link_s)] {
        if policy.inactivity_s != 0 && value >= policy.inactivity_s {
            return Err(format!("{name} {value} must be less than inactivity_s {}", policy.inactivity_s));
        }
    }
    at_most("burst", policy.burst, 1_000_000)
}

fn outbind(outbind: &Outbind) -> Result<(), Refused> {
    host_port(&outbind.addr)?;
    if !outbind.system_id.is_empty() {
        system_id(&outbind.system_id)?;
    }
    if outbind.password.is_empty() { Ok(()) } else { password(&outbind.password) }
}

/// A route to store; `exists` tells of a system_id.
pub(super) fn route(route: &Route, exists: impl Fn(&str) -> bool) -> Result<(), Refused> {
    digits("prefix", &route.prefix, 0)?;
    match route.target.split_once(':') {
        None if route.target == LINK_HANDSET || route.target == TARGET_REFUSE => {}
        Some(("link", name)) => word("link", name)?,
        Some(("esme", account)) => {
            if !exists(account) {
                return Err(format!("there is no account {account:?} to route to; put it first"));
            }
        }
        _ => {
            return Err(format!(
                "target {:?} is none: \"handset\" for the simulated handsets, \"esme:SYSTEM_ID\" for an account, \
                 \"link:NAME\" for another message centre or \"refuse\"",
                route.target
            ));
        }
    }
    if !route.account.is_empty() && !exists(&route.account) {
        return Err(format!("there is no account {:?} to route for; put it first", route.account));
    }
    for (what, text) in [("name", &route.name), ("list", &route.list)] {
        if !text.is_empty() {
            word(what, text)?;
        }
    }
    if !route.pattern.is_empty()
        && let Err(error) = regex::Regex::new(&route.pattern)
    {
        return Err(format!("pattern {:?} is no regular expression: {error}", route.pattern));
    }
    at_most("priority", route.priority, ROUTE_ORDER_MAX)?;
    at_most("weight", route.weight, ROUTE_ORDER_MAX)?;
    if route.keyword.chars().any(char::is_whitespace) {
        return Err(format!("keyword {:?} is more than one word", route.keyword));
    }
    if let Some(window) = &route.window {
        at_most("the first minute of the window", window.from_minute, DAY_MINUTES - 1)?;
        at_most("the last minute of the window", window.to_minute, DAY_MINUTES)?;
        at_most("the set of weekdays", window.weekdays, 0x7f)?;
        if window.utc_offset_minutes.unsigned_abs() >= DAY_MINUTES {
            return Err(format!("an offset of {} minutes from UTC is above a day", window.utc_offset_minutes));
        }
    }
    if let Some(rewrite) = &route.rewrite {
        let prepend = rewrite.prepend.strip_prefix('+').unwrap_or(&rewrite.prepend);
        digits("what is put in front", prepend, 0)?;
        at_most("the number of digits to take off", rewrite.strip, DIGITS_LEN_MAX as u32)?;
        at_most("ton", rewrite.ton, 255)?;
        at_most("npi", rewrite.npi, 255)?;
    }
    Ok(())
}

/// Some numbers of a list.
pub(super) fn number_chunk(chunk: &NumberChunk) -> Result<(), Refused> {
    word("list", &chunk.list)?;
    if chunk.numbers.len() > CHUNK_BYTES_MAX || chunk.index >= CHUNKS_MAX {
        return Err(format!(
            "a chunk may have {CHUNK_BYTES_MAX} octets and a list {CHUNKS_MAX} chunks: use smscctl numbers import"
        ));
    }
    NumberSet::of_chunks([chunk]).map(drop).map_err(|error| error.to_string())
}

/// A name that operators give.
fn word(what: &str, text: &str) -> Result<(), Refused> {
    let fits = (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    Err(format!("{what} {text:?} cannot be used: 1 to {NAME_LEN_MAX} printable ASCII characters without spaces"))
}

pub(super) fn handset(range: &HandsetRange) -> Result<(), Refused> {
    digits("prefix", &range.prefix, 1)?;
    let Ok(behaviour) = Behaviour::try_from(range.behaviour) else {
        return Err(format!("behaviour {} is unknown to this version", range.behaviour));
    };
    match (behaviour, range.absent_ms) {
        (Behaviour::Absent, 0) => {
            return Err("an absent range needs the time it stays absent, absent_ms, from 1".to_owned());
        }
        (Behaviour::Absent, ms) if u64::from(ms) > WAIT_MAX_MS => {
            return Err(format!("absent_ms {ms} is longer than a week, {WAIT_MAX_MS}"));
        }
        (Behaviour::Deliver | Behaviour::Fail, 1..) => {
            return Err("absent_ms is for the behaviour absent only".to_owned());
        }
        _ => {}
    }
    at_most("delay_ms", range.delay_ms, 60_000)?;
    at_most("delay_max_ms", range.delay_max_ms, 60_000)?;
    let parts = [range.absent_permille, range.busy_permille, range.memory_full_permille, range.fail_permille];
    let sum = parts.into_iter().fold(0, u32::saturating_add);
    if sum > 1_000 {
        return Err(format!("the parts of attempts that fail add up to {sum} of 1000"));
    }
    if u64::from(range.period_ms) > WAIT_MAX_MS || range.window_ms > range.period_ms {
        return Err("window_ms is a part of period_ms, which is a week at most".to_owned());
    }
    // Three octets on the wire, of which the first is the network type (SMPP v3.4 section 5.3.2.31).
    at_most("network error", range.error, 0xFFFF)
}

pub(super) fn settings(settings: &Settings) -> Result<(), Refused> {
    delays(&settings.retry_delays_ms)?;
    if settings.retry.len() > RETRY_POLICIES_MAX {
        return Err(format!("more than {RETRY_POLICIES_MAX} retry policies"));
    }
    let mut links = BTreeSet::new();
    for policy in &settings.retry {
        if !links.insert(&policy.link) {
            return Err(format!("link {:?} has two retry policies", policy.link));
        }
        retry(policy)?;
    }
    if let Some(plan) = &settings.number_plan {
        digits("country code", &plan.country_code, 1)?;
        digits("national prefix", &plan.national_prefix, 0)?;
        digits("international prefix", &plan.international_prefix, 0)?;
    }
    for (name, value, most) in [
        ("validity_default_s", settings.validity_default_s, VALIDITY_MAX_S),
        ("validity_max_s", settings.validity_max_s, VALIDITY_MAX_S),
        ("receipt_validity_s", settings.receipt_validity_s, VALIDITY_MAX_S),
        ("final_retention_s", settings.final_retention_s, RETENTION_MAX_S),
    ] {
        if value != 0 && !(60..=most).contains(&value) {
            return Err(format!("{name} {value} is out of the range 60 to {most}; 0 means the default"));
        }
    }
    at_most("transaction_timer_s", settings.transaction_timer_s, TRANSACTION_TIMER_MAX_S)?;
    if settings.validity_max_s != 0 && settings.validity_default_s > settings.validity_max_s {
        return Err(format!(
            "validity_default_s {} is above validity_max_s {}",
            settings.validity_default_s, settings.validity_max_s
        ));
    }
    Ok(())
}

fn retry(policy: &RetryPolicy) -> Result<(), Refused> {
    if !policy.link.is_empty() {
        word("link", &policy.link)?;
    }
    at_most("jitter", policy.jitter_percent, JITTER_PERCENT_MAX)?;
    let mut classes = BTreeSet::new();
    for schedule in &policy.schedules {
        if ErrorClass::try_from(schedule.class).is_err() {
            return Err(format!("class {} is unknown to this version", schedule.class));
        }
        if schedule.class() == ErrorClass::Permanent {
            return Err("what is permanent is never tried again: it has no schedule".to_owned());
        }
        if !classes.insert(schedule.class) {
            return Err(format!("class {} has two schedules", schedule.class().as_str_name()));
        }
        delays(&schedule.delays_ms)?;
    }
    let mut errors = BTreeSet::new();
    for mapping in &policy.errors {
        if ErrorClass::try_from(mapping.class).is_err() {
            return Err(format!("class {} is unknown to this version", mapping.class));
        }
        if !errors.insert(mapping.error) {
            return Err(format!("error {} is mapped twice", mapping.error));
        }
        at_most("error", mapping.error, 0xff_ffff)?;
    }
    if policy.errors.len() > ERROR_MAPPINGS_MAX {
        return Err(format!("more than {ERROR_MAPPINGS_MAX} errors are mapped"));
    }
    Ok(())
}

fn delays(delays_ms: &[u64]) -> Result<(), Refused> {
    if delays_ms.len() > RETRY_DELAYS_MAX {
        return Err(format!("more than {RETRY_DELAYS_MAX} retry delays"));
    }
    for delay in delays_ms {
        if !(100..=WAIT_MAX_MS).contains(delay) {
            return Err(format!("retry delay {delay} ms is out of the range 100 to {WAIT_MAX_MS} (a week)"));
        }
    }
    Ok(())
}

/// The number of a handset or the destination it sends to.
pub(super) fn number(what: &str, text: &str) -> Result<(), Refused> {
    digits(what, text, 1)
}

/// A member to form a cluster with or to join one.
pub(super) fn member(member: &AdminMember) -> Result<(), Refused> {
    if !(1..=255).contains(&member.node_id) {
        return Err(format!("node id {} is out of the range 1 to 255", member.node_id));
    }
    let info = member.info.as_ref().ok_or("a member without an address")?;
    let name_fits = (1..=60).contains(&info.name.len()) && info.name.bytes().all(|b| b.is_ascii_graphic());
    if !name_fits {
        return Err(format!("name {:?} cannot be used: 1 to 60 printable ASCII characters without spaces", info.name));
    }
    host_port(&info.addr)
}

fn host_port(addr: &str) -> Result<(), Refused> {
    let well = addr.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if well { Ok(()) } else { Err(format!("address {addr:?} is not of the form host:port")) }
}

fn digits(what: &str, text: &str, len_min: usize) -> Result<(), Refused> {
    let fits = (len_min..=DIGITS_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { Ok(()) } else { Err(format!("{what} {text:?} cannot be used: {len_min} to {DIGITS_LEN_MAX} digits")) }
}

fn at_most(what: &str, value: u32, most: u32) -> Result<(), Refused> {
    if value <= most { Ok(()) } else { Err(format!("{what} {value} is above {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::RetrySchedule;

    fn esme(system_id: &str, codes: &[&str]) -> Account {
        Account {
            system_id: system_id.to_owned(),
            may_transmit: true,
            may_receive: true,
            short_codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn names_and_passwords_fit_a_bind() {
        for (text, good) in [("esme1", true), ("", false), ("a b", false), ("123456789012345", true)] {
            assert_eq!(system_id(text).is_ok(), good, "{text:?}");
        }
        assert!(system_id("1234567890123456").is_err());
        assert!(system_id("n\0l").is_err());
        for (text, good) in [("secret12", true), ("secret123", false), ("", false), ("gr\u{fc}n", false)] {
            assert_eq!(password(text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_short_code_has_one_owner() {
        let stored = [esme("esme1", &["1000"]), esme("esme2", &["2000"])];
        assert!(account(&esme("esme1", &["1000", "1001"]), stored.iter()).is_ok());
        let refused = account(&esme("esme1", &["1000", "2000"]), stored.iter()).expect_err("taken");
        assert!(refused.contains("2000") && refused.contains("esme2"), "{refused}");
        assert!(account(&esme("esme3", &["3000", "3000"]), stored.iter()).is_err());
        assert!(account(&esme("esme3", &["+300"]), stored.iter()).is_err());
    }

    #[test]
    fn lists_have_a_name_and_members() {
        let exists = |account: &str| account == "esme1";
        let given = |name: &str, account: &str, members: &[&str]| DistributionList {
            name: name.to_owned(),
            account: account.to_owned(),
            members: members.iter().map(|digits| Address { ton: 1, npi: 1, digits: (*digits).to_owned() }).collect(),
        };
        for (given, good) in [
            (given("friends", "", &["15551", "15552"]), true),
            (given("friends", "esme1", &["15551"]), true),
            (given("friends", "nobody", &["15551"]), false),
            (given("my friends", "", &["15551"]), false),
            (given("a-name-of-21-letters.", "", &["15551"]), false),
            (given("friends", "", &[]), false),
            (given("friends", "", &["1", "2", "3"]), false),
            (given("friends", "", &["15x"]), false),
        ] {
            assert_eq!(list(&given, exists, 2).is_ok(), good, "{given:?}");
        }
    }

    #[test]
    fn session_policies_hold_what_a_bind_can_be_judged_by() {
        let with = |policy: SessionPolicy| {
            let account = Account { session: Some(policy), ..esme("esme1", &[]) };
            self::account(&account, std::iter::empty())
        };
        let base = SessionPolicy::default;
        for good in [
            base(),
            SessionPolicy { networks: vec!["192.0.2.0/24".to_owned(), "2001:db8::1".to_owned()], ..base() },
            SessionPolicy { client_name: "esme.example".to_owned(), ..base() },
            SessionPolicy { enquire_link_s: 5, inactivity_s: 60, response_s: 3, burst: 50, ..base() },
        ] {
            assert_eq!(with(good.clone()), Ok(()), "{good:?}");
        }
        for bad in [
            SessionPolicy { networks: vec!["192.0.2.0/33".to_owned()], ..base() },
            SessionPolicy { client_name: "no name".to_owned(), ..base() },
            SessionPolicy { enquire_link_s: 60, inactivity_s: 60, ..base() },
            SessionPolicy { response_s: 601, ..base() },
        ] {
            assert!(with(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_account_s_choices_are_ones_that_there_are() {
        let check = |change: fn(&mut Account)| {
            let mut given = esme("esme1", &["1000"]);
            change(&mut given);
            account(&given, [].iter()).is_ok()
        };
        assert!(check(|account| account.receipt_utc_offset_min = -720));
        assert!(!check(|account| account.receipt_utc_offset_min = 841));
        assert!(check(|account| account.default_alphabet = DefaultAlphabet::Ascii as i32));
        assert!(!check(|account| account.default_alphabet = 9));
        assert!(!check(|account| account.receipt_content = 9));
    }

    #[test]
    fn outbind_goes_to_an_address_and_without_tls() {
        let with = |addr: &str, password: &str, tls_only| {
            let outbind = Outbind { addr: addr.to_owned(), password: password.to_owned(), ..Outbind::default() };
            let session = Some(SessionPolicy { tls_only, ..SessionPolicy::default() });
            account(&Account { outbind: Some(outbind), session, ..esme("esme1", &[]) }, std::iter::empty())
        };
        assert_eq!(with("esme.example:2775", "hello", false), Ok(()));
        assert!(with("esme.example", "hello", false).is_err());
        assert!(with("esme.example:2775", "far too long", false).is_err());
        assert!(with("esme.example:2775", "hello", true).is_err());
    }

    #[test]
    fn routes_lead_somewhere() {
        let exists = |account: &str| account == "esme1";
        let to = |prefix: &str, target: &str, account: &str| Route {
            prefix: prefix.to_owned(),
            target: target.to_owned(),
            account: account.to_owned(),
            ..Default::default()
        };
        for (given, good) in [
            (to("49", "link:x", ""), true),
            (to("49", "link:", ""), false),
            (to("49", "refuse", ""), true),
            (Route { pattern: "(".to_owned(), ..to("49", "handset", "") }, false),
            (Route { keyword: "two words".to_owned(), ..to("49", "handset", "") }, false),
            (to("49", "handset", ""), true),
            (to("", "esme:esme1", "esme1"), true),
            (to("49", "esme:nobody", ""), false),
            (to("49", "handset", "nobody"), false),
            (to("49", "smpp", ""), false),
            (to("4x", "handset", ""), false),
        ] {
            assert_eq!(route(&given, exists).is_ok(), good, "{given:?}");
        }
    }

    #[test]
    fn a_range_is_absent_for_a_time() {
        let range = |behaviour: Behaviour, absent_ms| HandsetRange {
            prefix: "1777".to_owned(),
            behaviour: behaviour as i32,
            absent_ms,
            ..Default::default()
        };
        assert!(handset(&range(Behaviour::Absent, 7000)).is_ok());
        assert!(handset(&range(Behaviour::Absent, 0)).is_err());
        assert!(handset(&range(Behaviour::Deliver, 7000)).is_err());
        assert!(handset(&HandsetRange { prefix: String::new(), ..range(Behaviour::Deliver, 0) }).is_err());
    }

    #[test]
    fn settings_stay_in_their_ranges() {
        assert!(settings(&Settings::default()).is_ok());
        assert!(settings(&Settings { retry_delays_ms: vec![5000, 30_000], ..Default::default() }).is_ok());
        assert!(settings(&Settings { retry_delays_ms: vec![0], ..Default::default() }).is_err());
        let upside_down = Settings { validity_default_s: 7200, validity_max_s: 3600, ..Default::default() };
        assert!(settings(&upside_down).is_err());
        let retry = |policy: RetryPolicy| settings(&Settings { retry: vec![policy], ..Default::default() });
        let schedule = |class: ErrorClass| RetrySchedule { class: class as i32, ..Default::default() };
        assert!(retry(RetryPolicy { schedules: vec![schedule(ErrorClass::Busy)], ..Default::default() }).is_ok());
        let permanent = RetryPolicy { schedules: vec![schedule(ErrorClass::Permanent)], ..Default::default() };
        assert!(retry(permanent).is_err());
        assert!(retry(RetryPolicy { jitter_percent: 51, ..Default::default() }).is_err());
    }
}
