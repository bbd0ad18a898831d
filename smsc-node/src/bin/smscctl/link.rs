//! `smscctl link`: the other message centres that we bind to.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{LinkPutRequest, LinkStatus, LinkStatusRequest, LinksRequest};
use smsc_raft::model::link::{IdBase, LongMessages, Mode, Receipts};
use smsc_raft::model::{Link, LinkDelete, LinkTls, MessageState};

use crate::connect::{Client, ConnectArgs};
use crate::exit::Failure;
use crate::output::{Format, dash, list, table, time};
use crate::words::AlphabetWord;

/// The fields of `link list --json`; those of a link in the file of `export` and `apply` are the same.
pub const JSON_HELP: &str = "\
JSON fields, for each link (0 or empty: the default):
  name, addresses, system_id, system_type, address_range, mode (transceiver, pair, transmitter, receiver), binds,
  version (3.3, 3.4, 5.0), tls {ca_file, server_name} or absent, window, rate_per_s, enquire_link_s, response_s,
  reconnect_min_ms, reconnect_max_ms, response_ids and receipt_ids (auto, decimal, hex), source_ton, source_npi,
  destination_ton, destination_npi, long_messages (udh, sar, payload), default_alphabet (gsm7, latin1, ascii),
  receipts (always, never), unreported (expired, unknown, accepted, delivered), receipt_grace_s, disabled. The password is never shown.";

/// The fields of `link status --json`.
pub const STATUS_HELP: &str = "\
JSON fields, for each link, since the leader serves:
  name, disabled, in_flight, throttled_until, rate_per_s (0: no limit), submitted, accepted, refused, throttled,
  unanswered, receipts, receipts_unmatched, receipts_held, mo, binds [mode, state (connecting, bound, waiting), address,
  error, since]";

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum LinkCommand {
    /// All links.
    #[command(after_help = JSON_HELP)]
    List,
    /// How the links stand: binds, throughput, receipts.
    #[command(after_help = STATUS_HELP)]
    Status,
    /// Make a link, or change one: options that are not given keep what is set. A route leads to it by the target
    /// link:NAME.
    Put(Box<PutArgs>),
    /// Delete a link. It settles what is under way and unbinds.
    Delete {
        /// The link.
        name: String,
    },
}

/// A link's options.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    /// 1 to 32 of a-z, 0-9, - and _.
    name: String,
    /// host:port of the message centre; may be given several times, replaces what is set, tried in turn.
    #[arg(long = "address", value_delimiter = ',')]
    addresses: Option<Vec<String>>,
    /// What we bind as, 1 to 15 characters.
    #[arg(long)]
    system_id: Option<String>,
    /// 1 to 8 characters; needed for a new link, and never shown again.
    #[arg(long, env = "SMSC_LINK_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// At most 12 characters.
    #[arg(long)]
    system_type: Option<String>,
    /// address_range of the bind, at most 40 characters.
    #[arg(long)]
    address_range: Option<String>,
    /// transceiver, pair (a transmitter and a receiver), transmitter or receiver.
    #[arg(long)]
    mode: Option<String>,
    /// How many binds, or pairs of binds: 1 to 16.
    #[arg(long, value_name = "N")]
    binds: Option<u32>,
    /// Version of SMPP: 3.3, 3.4 or 5.0.
    #[arg(long = "smpp-version", value_name = "VERSION")]
    version: Option<String>,
    /// Whether to connect with TLS.
    #[arg(long, value_name = "BOOL")]
    tls: Option<bool>,
    /// PEM file on the data nodes with the CAs to trust; empty for those of the system.
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<String>,
    /// Name in the peer's certificate; empty for the host of the address.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Unanswered submit_sm per bind, 0 for 10.
    #[arg(long, value_name = "N")]
    window: Option<u32>,
    /// submit_sm per second over all binds, 0 for no limit.
    #[arg(long, value_name = "N")]
    rate_per_s: Option<u32>,
    /// Silence before an enquire_link, 0 for 30. Seconds.
    #[arg(long, value_name = "S")]
    enquire_link_s: Option<u32>,
    /// Longest wait for an answer, 0 for 30. Seconds.
    #[arg(long, value_name = "S")]
    response_s: Option<u32>,
    /// First wait before a bind is tried again, doubled at each failure, 0 for 1000. Milliseconds.
    #[arg(long, value_name = "MS")]
    reconnect_min_ms: Option<u32>,
    /// Longest of these waits, 0 for 60000. Milliseconds.
    #[arg(long, value_name = "MS")]
    reconnect_max_ms: Option<u32>,
    /// Base of message_id in submit_sm_resp: auto, decimal or hex.
    #[arg(long, value_name = "BASE")]
    response_ids: Option<String>,
    /// Base of the message ids in receipts: auto, decimal or hex.
    #[arg(long, value_name = "BASE")]
    receipt_ids: Option<String>,
    /// Type of number of what is sent, instead of the ESME's; -1 for the ESME's.
    #[arg(long, value_name = "TON", allow_negative_numbers = true)]
    source_ton: Option<i32>,
    /// Numbering plan of the source; -1 for the ESME's.
    #[arg(long, value_name = "NPI", allow_negative_numbers = true)]
    source_npi: Option<i32>,
    /// Type of number of the destination; -1 for the ESME's.
    #[arg(long, value_name = "TON", allow_negative_numbers = true)]
    destination_ton: Option<i32>,
    /// Numbering plan of the destination; -1 for the ESME's.
    #[arg(long, value_name = "NPI", allow_negative_numbers = true)]
    destination_npi: Option<i32>,
    /// How text goes that takes several segments: udh, sar or payload.
    #[arg(long, value_name = "FORM")]
    long_messages: Option<String>,
    /// What data_coding 0 means to the peer.
    #[arg(long, value_name = "ALPHABET")]
    default_alphabet: Option<AlphabetWord>,
    /// always, or never: what the peer accepts is final then.
    #[arg(long, value_name = "WHEN")]
    receipts: Option<String>,
    /// State of a message whose receipt does not come: expired, unknown, accepted or delivered.
    #[arg(long, value_name = "STATE")]
    unreported: Option<String>,
    /// How long a receipt is waited for behind the end of the validity, 0 for 3600. Seconds.
    #[arg(long, value_name = "S")]
    receipt_grace_s: Option<u32>,
    /// Whether it stays unbound.
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
}

/// A link in a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkEntry {
    pub name: String,
    addresses: Vec<String>,
    system_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    system_type: String,
    address_range: String,
    mode: String,
    binds: u32,
    version: String,
    window: u32,
    rate_per_s: u32,
    enquire_link_s: u32,
    response_s: u32,
    reconnect_min_ms: u32,
    reconnect_max_ms: u32,
    response_ids: String,
    receipt_ids: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ton: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_npi: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_ton: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_npi: Option<u32>,
    long_messages: String,
    default_alphabet: AlphabetWord,
    receipts: String,
    unreported: String,
    receipt_grace_s: u32,
    disabled: bool,
    // Tables stand behind plain values in TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct TlsEntry {
    ca_file: String,
    server_name: String,
}

const MODES: [(&str, Mode); 4] = [
    ("transceiver", Mode::Transceiver),
    ("pair", Mode::Pair),
    ("transmitter", Mode::Transmitter),
    ("receiver", Mode::Receiver),
];
const BASES: [(&str, IdBase); 3] = [("auto", IdBase::Auto), ("decimal", IdBase::Decimal), ("hex", IdBase::Hex)];
const FORMS: [(&str, LongMessages); 3] =
    [("udh", LongMessages::Udh), ("sar", LongMessages::Sar), ("payload", LongMessages::Payload)];
const RECEIPTS: [(&str, Receipts); 2] = [("always", Receipts::Always), ("never", Receipts::Never)];
const UNREPORTED: [(&str, MessageState); 5] = [
    ("", MessageState::Scheduled),
    ("expired", MessageState::Expired),
    ("unknown", MessageState::Unknown),
    ("accepted", MessageState::Accepted),
    ("delivered", MessageState::Delivered),
];
const VERSIONS: [(&str, u32); 4] = [("", 0), ("3.3", 0x33), ("3.4", 0x34), ("5.0", 0x50)];

/// The value of a word; an empty one is the first.
fn value<T: Copy>(what: &str, word: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(known, _)| *known == word).or(words.first().filter(|_| word.is_empty()));
    found.map(|row| row.1).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|row| row.0).filter(|known| !known.is_empty()).collect();
        format!("{what} {word:?} is none of {}", known.join(", "))
    })
}

fn word<T: PartialEq>(value: &T, words: &[(&str, T)]) -> String {
    words.iter().find(|row| row.1 == *value).map_or(String::new(), |row| row.0.to_owned())
}

impl LinkEntry {
    /// The link as it is stored.
    ///
    /// # Errors
    /// A word that means nothing.
    pub fn link(self) -> Result<Link, String> {
        let name = self.name;
        let in_link = |error: String| format!("link {name}: {error}");
        Ok(Link {
            addresses: self.addresses,
            system_id: self.system_id,
            password: self.password.unwrap_or_default(),
            system_type: self.system_type,
            address_range: self.address_range,
            mode: value("mode", &self.mode, &MODES).map_err(in_link)? as i32,
            binds: self.binds,
            interface_version: value("version", &self.version, &VERSIONS).map_err(in_link)?,
            tls: self.tls.map(|tls| LinkTls { ca_file: tls.ca_file, server_name: tls.server_name }),
            window: self.window,
            rate_per_s: self.rate_per_s,
            enquire_link_s: self.enquire_link_s,
            response_s: self.response_s,
            reconnect_min_ms: self.reconnect_min_ms,
            reconnect_max_ms: self.reconnect_max_ms,
            response_ids: value("response_ids", &self.response_ids, &BASES).map_err(in_link)? as i32,
            receipt_ids: value("receipt_ids", &self.receipt_ids, &BASES).map_err(in_link)? as i32,
            source_ton: self.source_ton,
            source_npi: self.source_npi,
            destination_ton: self.destination_ton,
            destination_npi: self.destination_npi,
            long_messages: value("long_messages", &self.long_messages, &FORMS).map_err(in_link)? as i32,
            default_alphabet: self.default_alphabet.into(),
            receipts: value("receipts", &self.receipts, &RECEIPTS).map_err(in_link)? as i32,
            unreported: value("unreported", &self.unreported, &UNREPORTED).map_err(in_link)? as i32,
            receipt_grace_s: self.receipt_grace_s,
            disabled: self.disabled,
            name: name.clone(),
        })
    }
}

impl From<Link> for LinkEntry {
    fn from(link: Link) -> Self {
        Self {
            mode: word(&link.mode(), &MODES),
            version: word(&link.interface_version, &VERSIONS),
            response_ids: word(&link.response_ids(), &BASES),
            receipt_ids: word(&link.receipt_ids(), &BASES),
            long_messages: word(&link.long_messages(), &FORMS),
            default_alphabet: link.default_alphabet.into(),
            receipts: word(&link.receipts(), &RECEIPTS),
            unreported: word(&link.unreported(), &UNREPORTED),
            name: link.name,
            addresses: link.addresses,
            system_id: link.system_id,
            password: None,
            system_type: link.system_type,
            address_range: link.address_range,
            binds: link.binds,
            tls: link.tls.map(|tls| TlsEntry { ca_file: tls.ca_file, server_name: tls.server_name }),
            window: link.window,
            rate_per_s: link.rate_per_s,
            enquire_link_s: link.enquire_link_s,
            response_s: link.response_s,
            reconnect_min_ms: link.reconnect_min_ms,
            reconnect_max_ms: link.reconnect_max_ms,
            source_ton: link.source_ton,
            source_npi: link.source_npi,
            destination_ton: link.destination_ton,
            destination_npi: link.destination_npi,
            receipt_grace_s: link.receipt_grace_s,
            disabled: link.disabled,
        }
    }
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: LinkCommand, format: Format) -> Result<(), Failure> {
    match command {
        LinkCommand::List => {
            let links = all(&mut connect.client().await?).await?;
            let views: Vec<LinkEntry> = links.into_iter().map(LinkEntry::from).collect();
            format.show(&views, |views| human(views))
        }
        LinkCommand::Status => {
            let links = connect.leader_client().await?.link_status(LinkStatusRequest {}).await?.into_inner().links;
            let views: Vec<StatusView> = links.into_iter().map(StatusView::from).collect();
            format.show(&views, |views| status_table(views))
        }
        LinkCommand::Put(args) => {
            let mut client = connect.leader_client().await?;
            let before = all(&mut client).await?.into_iter().find(|link| link.name == args.name);
            let sentence = match before {
                Some(_) => format!("link {} is changed", args.name),
                None => format!("link {} is made", args.name),
            };
            let link = put(*args, before).map_err(Failure::refused)?;
            client.link_put(LinkPutRequest { link: Some(link) }).await?;
            format.done(&sentence)
        }
        LinkCommand::Delete { name } => {
            connect.client().await?.link_delete(LinkDelete { name: name.clone() }).await?;
            format.done(&format!("link {name} is deleted"))
        }
    }
}

/// All links, without their passwords.
pub async fn all(client: &mut Client) -> Result<Vec<Link>, Failure> {
    Ok(client.links(LinksRequest {}).await?.into_inner().links)
}

fn put(args: PutArgs, before: Option<Link>) -> Result<Link, String> {
    let before = LinkEntry::from(before.unwrap_or_else(|| Link { name: args.name, ..Default::default() }));
    let number = |given: Option<i32>, before: Option<u32>| match given {
        Some(value) => u32::try_from(value).ok(),
        None => before,
    };
    let tls_before = before.tls.clone().unwrap_or_default();
    let names_tls = args.tls_ca_file.is_some() || args.tls_server_name.is_some();
    let tls = TlsEntry {
        ca_file: args.tls_ca_file.unwrap_or(tls_before.ca_file),
        server_name: args.tls_server_name.unwrap_or(tls_before.server_name),
    };
    let with_tls = args.tls.unwrap_or(names_tls || before.tls.is_some());
    LinkEntry {
        name: before.name,
        addresses: args.addresses.unwrap_or(before.addresses),
        system_id: args.system_id.unwrap_or(before.system_id),
        password: args.password,
        system_type: args.system_type.unwrap_or(before.system_type),
        address_range: args.address_range.unwrap_or(before.address_range),
        mode: args.mode.unwrap_or(before.mode),
        binds: args.binds.unwrap_or(before.binds),
        version: args.version.unwrap_or(before.version),
        window: args.window.unwrap_or(before.window),
        rate_per_s: args.rate_per_s.unwrap_or(before.rate_per_s),
        enquire_link_s: args.enquire_link_s.unwrap_or(before.enquire_link_s),
        response_s: args.response_s.unwrap_or(before.response_s),
        reconnect_min_ms: args.reconnect_min_ms.unwrap_or(before.reconnect_min_ms),
        reconnect_max_ms: args.reconnect_max_ms.unwrap_or(before.reconnect_max_ms),
        response_ids: args.response_ids.unwrap_or(before.response_ids),
        receipt_ids: args.receipt_ids.unwrap_or(before.receipt_ids),
        source_ton: number(args.source_ton, before.source_ton),
        source_npi: number(args.source_npi, before.source_npi),
        destination_ton: number(args.destination_ton, before.destination_ton),
        destination_npi: number(args.destination_npi, before.destination_npi),
        long_messages: args.long_messages.unwrap_or(before.long_messages),
        default_alphabet: args.default_alphabet.unwrap_or(before.default_alphabet),
        receipts: args.receipts.unwrap_or(before.receipts),
        unreported: args.unreported.unwrap_or(before.unreported),
        receipt_grace_s: args.receipt_grace_s.unwrap_or(before.receipt_grace_s),
        disabled: args.disabled.unwrap_or(before.disabled),
        tls: with_tls.then_some(tls),
    }
    .link()
}

fn human(views: &[LinkEntry]) -> String {
    let or = |value: u32, zero: &str| if value == 0 { zero.to_owned() } else { value.to_string() };
    let row = |view: &LinkEntry| {
        let version = if view.version.is_empty() { "3.4" } else { &view.version };
        let tls = if view.tls.is_some() { " TLS" } else { "" };
        [
            if view.disabled { format!("{} (disabled)", view.name) } else { view.name.clone() },
            list(&view.addresses),
            view.system_id.clone(),
            format!("{} x {}, {version}{tls}", view.binds.max(1), view.mode),
            or(view.window, "10"),
            or(view.rate_per_s, "no limit"),
            format!("{}, {}/{}", view.receipts, view.response_ids, view.receipt_ids),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    table(["NAME", "ADDRESSES", "SYSTEM_ID", "BINDS", "WINDOW", "RATE/S", "RECEIPTS, IDS"], &rows, "no links")
}

#[derive(Debug, Serialize)]
struct StatusView {
    name: String,
    disabled: bool,
    in_flight: u32,
    throttled_until: Option<String>,
    rate_per_s: u32,
    submitted: u64,
    accepted: u64,
    refused: u64,
    throttled: u64,
    unanswered: u64,
    receipts: u64,
    receipts_unmatched: u64,
    receipts_held: u32,
    mo: u64,
    binds: Vec<BindView>,
}

#[derive(Debug, Serialize)]
struct BindView {
    mode: String,
    state: String,
    address: String,
    error: String,
    since: Option<String>,
}

impl From<LinkStatus> for StatusView {
    fn from(status: LinkStatus) -> Self {
        let bind = |bind: smsc_proto::rpc::admin::LinkBindStatus| BindView {
            mode: bind.mode,
            state: bind.state,
            address: bind.address,
            error: bind.error,
            since: time(bind.since_ms),
        };
        Self {
            name: status.name,
            disabled: status.disabled,
            in_flight: status.in_flight,
            throttled_until: time(status.throttled_until_ms),
            rate_per_s: status.rate_per_s,
            submitted: status.submitted,
            accepted: status.accepted,
            refused: status.refused,
            throttled: status.throttled,
            unanswered: status.lost,
            receipts: status.receipts,
            receipts_unmatched: status.receipts_unmatched,
            receipts_held: status.receipts_held,
            mo: status.mo,
            binds: status.binds.into_iter().map(bind).collect(),
        }
    }
}

fn status_table(views: &[StatusView]) -> String {
    let mut text = {
        let row = |view: &StatusView| {
            let bound = view.binds.iter().filter(|bind| bind.state == "bound").count();
            let state = match (view.disabled, view.binds.is_empty()) {
                (true, _) => "disabled".to_owned(),
                (false, true) => "not running".to_owned(),
                (false, false) if view.throttled_until.is_some() => "throttled".to_owned(),
                (false, false) => format!("{bound} of {} bound", view.binds.len()),
            };
            [
                view.name.clone(),
                state,
                view.in_flight.to_string(),
                view.submitted.to_string(),
                view.accepted.to_string(),
                view.refused.to_string(),
                view.throttled.to_string(),
                view.unanswered.to_string(),
                format!("{} ({} unmatched)", view.receipts, view.receipts_unmatched),
                view.mo.to_string(),
            ]
        };
        let rows: Vec<_> = views.iter().map(row).collect();
        let heading = [
            "NAME",
            "STATE",
            "IN FLIGHT",
            "SUBMITTED",
            "ACCEPTED",
            "REFUSED",
            "THROTTLED",
            "UNANSWERED",
            "RECEIPTS",
            "MO",
        ];
        table(heading, &rows, "no links")
    };
    for view in views {
        for bind in view.binds.iter().filter(|bind| !bind.error.is_empty()) {
            text.push_str(&format!("{} {}: {} ({})\n", view.name, dash(&bind.mode), bind.error, bind.state));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: LinkCommand,
    }

    fn args(line: &str) -> PutArgs {
        match Line::try_parse_from(line.split(' ')).expect("understood").command {
            LinkCommand::Put(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let made = put(
            args(
                "link put c1 --address a:2775,b:2775 --system-id me --password pw --mode pair --smpp-version 5.0 \
                 --source-ton 5 --tls-ca-file /etc/ca.pem --response-ids hex --unreported expired",
            ),
            None,
        )
        .expect("sound");
        assert_eq!((made.addresses.len(), made.mode(), made.interface_version), (2, Mode::Pair, 0x50));
        assert_eq!((made.source_ton, made.response_ids()), (Some(5), IdBase::Hex));
        let shown = Link { password: String::new(), ..made.clone() };
        let changed = put(args("link put c1 --window 50 --source-ton -1"), Some(shown.clone())).expect("sound");
        assert_eq!(changed, Link { window: 50, source_ton: None, ..shown });
        let open = put(args("link put c1 --tls false"), Some(made)).expect("sound");
        assert_eq!(open.tls, None);
        assert!(put(args("link put c1 --mode both"), None).unwrap_err().contains("transceiver, pair"));
    }

    #[test]
    fn an_entry_says_all_of_a_link_but_its_password() {
        let link = Link {
            name: "c1".to_owned(),
            addresses: vec!["a:1".to_owned()],
            system_id: "me".to_owned(),
            interface_version: 0x33,
            tls: Some(LinkTls { ca_file: "f".to_owned(), server_name: "n".to_owned() }),
            receipts: Receipts::Never as i32,
            unreported: MessageState::Delivered as i32,
            destination_npi: Some(0),
            ..Default::default()
        };
        let entry = LinkEntry::from(Link { password: "secret".to_owned(), ..link.clone() });
        let text = toml::to_string(&entry).expect("TOML");
        assert!(!text.contains("secret"));
        assert_eq!(toml::from_str::<LinkEntry>(&text).expect("readable").link(), Ok(link));
    }
}
