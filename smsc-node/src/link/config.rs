//! Which configuration of a link is refused, and in which words. Pure.

use smsc_raft::model::link::{IdBase, LongMessages, Mode, Receipts};
use smsc_raft::model::{DefaultAlphabet, Link, MessageState};

/// Longest name.
const NAME_LEN_MAX: usize = 32;
/// Names that mean something else where a link is named.
const RESERVED: [&str; 4] = ["esme", "handset", "refuse", "link"];
/// Largest number of binds and largest window.
const BINDS_MAX: u32 = 16;
/// See [`BINDS_MAX`].
const WINDOW_MAX: u32 = 10_000;
/// Longest enquire_link interval and response time. Seconds.
const TIMER_MAX_S: u32 = 3_600;
/// Longest wait before a bind is tried again: an hour. Milliseconds.
const RECONNECT_MAX_MS: u32 = 3_600_000;
/// Longest wait for a receipt behind the end of the validity: two weeks. Seconds.
const GRACE_MAX_S: u32 = 14 * 86_400;

/// Checks a link to store. `has_password`: one is set already, so that the link may come without.
///
/// # Errors
/// What is wrong and what is allowed, without the password.
pub fn check(link: &Link, has_password: bool) -> Result<(), String> {
    let name = &link.name;
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if !(1..=NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(letters) {
        return Err(format!("link name {name:?} cannot be used: 1 to {NAME_LEN_MAX} of a-z, 0-9, - and _"));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("{name:?} names something else in a route, choose another name"));
    }
    if link.addresses.is_empty() {
        return Err(format!("link {name} needs an address, host:port"));
    }
    for address in &link.addresses {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(format!("{address:?} is no address: host:port, an IPv6 address in brackets"));
        }
    }
    text("system_id", &link.system_id, 1, 15)?;
    if !link.password.is_empty() || !has_password {
        // Without the password itself: refusals end up in logs.
        text("password", &link.password, 1, 8).map_err(|_| {
            "the password cannot be used: 1 to 8 printable ASCII characters, for a bind has no room for more \
             (SMPP v3.4 section 5.2.2)"
                .to_owned()
        })?;
    }
    text("system_type", &link.system_type, 0, 12)?;
    text("address_range", &link.address_range, 0, 40)?;
    known("mode", Mode::try_from(link.mode).is_ok(), link.mode)?;
    known("response_ids", IdBase::try_from(link.response_ids).is_ok(), link.response_ids)?;
    known("receipt_ids", IdBase::try_from(link.receipt_ids).is_ok(), link.receipt_ids)?;
    known("long_messages", LongMessages::try_from(link.long_messages).is_ok(), link.long_messages)?;
    known("default_alphabet", DefaultAlphabet::try_from(link.default_alphabet).is_ok(), link.default_alphabet)?;
    known("receipts", Receipts::try_from(link.receipts).is_ok(), link.receipts)?;
    let unreported = matches!(
        link.unreported(),
        MessageState::Scheduled
            | MessageState::Expired
            | MessageState::Unknown
            | MessageState::Accepted
            | MessageState::Delivered
    );
    known("unreported", unreported, link.unreported)?;
    if ![0, 0x33, 0x34, 0x50].contains(&link.interface_version) {
        return Err(format!("interface version {:#x} is none of 3.3, 3.4 and 5.0", link.interface_version));
    }
    for (what, value, max) in [
        ("binds", link.binds, BINDS_MAX),
        ("window", link.window, WINDOW_MAX),
        ("enquire_link_s", link.enquire_link_s, TIMER_MAX_S),
        ("response_s", link.response_s, TIMER_MAX_S),
        ("reconnect_min_ms", link.reconnect_min_ms, RECONNECT_MAX_MS),
        ("reconnect_max_ms", link.reconnect_max_ms, RECONNECT_MAX_MS),
        ("receipt_grace_s", link.receipt_grace_s, GRACE_MAX_S),
        ("source_ton", link.source_ton.unwrap_or(0), 255),
        ("source_npi", link.source_npi.unwrap_or(0), 255),
        ("destination_ton", link.destination_ton.unwrap_or(0), 255),
        ("destination_npi", link.destination_npi.unwrap_or(0), 255),
    ] {
        if value > max {
            return Err(format!("{what} {value} is more than {max}"));
        }
    }
    if link.reconnect_max_ms > 0 && link.reconnect_max_ms < link.reconnect_min_ms {
        return Err("reconnect_max_ms is less than reconnect_min_ms".to_owned());
    }
    Ok(())
}

fn text(what: &str, value: &str, min: usize, max: usize) -> Result<(), String> {
    if (min..=max).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(());
    }
    Err(format!("{what} {value:?} cannot be used: {min} to {max} printable ASCII characters"))
}

fn known(what: &str, known: bool, value: i32) -> Result<(), String> {
    if known { Ok(()) } else { Err(format!("{what} {value} is unknown to this version")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            name: "carrier-1".to_owned(),
            addresses: vec!["smsc.example.net:2775".to_owned(), "[2001:db8::7]:2775".to_owned()],
            system_id: "me".to_owned(),
            password: "secret".to_owned(),
            ..Link::default()
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(check(&link(), false), Ok(()));
        let refused = |change: fn(&mut Link), word: &str| {
            let mut link = link();
            change(&mut link);
            let text = check(&link, false).expect_err(word);
            assert!(text.contains(word), "{text}");
        };
        refused(|link| link.name = "Carrier".to_owned(), "a-z");
        refused(|link| link.name = "handset".to_owned(), "another name");
        refused(|link| link.addresses.clear(), "host:port");
        refused(|link| link.addresses = vec!["host".to_owned()], "host:port");
        refused(|link| link.addresses = vec!["host:0".to_owned()], "host:port");
        refused(|link| link.system_id.clear(), "system_id");
        refused(|link| link.password.clear(), "password");
        refused(|link| link.interface_version = 0x40, "interface version");
        refused(|link| link.binds = 17, "binds");
        refused(|link| (link.reconnect_min_ms, link.reconnect_max_ms) = (2, 1), "reconnect_max_ms");
        refused(|link| link.unreported = MessageState::Rejected as i32, "unreported");
        refused(|link| link.source_ton = Some(256), "source_ton");
    }

    #[test]
    fn a_password_that_is_set_may_stay_and_none_is_shown() {
        assert_eq!(check(&Link { password: String::new(), ..link() }, true), Ok(()));
        let long = Link { password: "much too secret".to_owned(), ..link() };
        assert!(!check(&long, false).unwrap_err().contains("secret"));
        assert!(!format!("{:?}", link()).contains("secret"));
    }
}
