//! `smscctl export` and `smscctl apply`: the operators' part of the replicated state as one file.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{
    AccountPutRequest, AccountsRequest, HandsetsRequest, LinkPutRequest, ListsRequest, RoutesRequest, SettingsRequest,
};
use smsc_raft::model::{
    Account, AccountDelete, DistributionList, HandsetDelete, HandsetRange, Link, LinkDelete, ListDelete, NumberPlan,
    RetryPolicy, Route, RouteDelete, Settings,
};

use crate::connect::{Client, ConnectArgs};
use crate::exit::Failure;
use crate::handset::RangeEntry;
use crate::link::{self, LinkEntry};
use crate::list;
use crate::output::{Format, json, print};
use crate::policy::{OutbindEntry, SessionEntry};
use crate::retry::PolicyEntry;
use crate::route::RouteEntry;
use crate::words::{AlphabetWord, ContentWord, OperationWord};

/// What `apply` is told.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// The file, TOML or JSON; - for standard input. An account may have `password` instead of `password_hash`;
    /// with neither, the one that is set stays. A link may have `password`; without, the one that is set stays.
    file: PathBuf,
    /// Delete accounts, routes, lists, links and handsets that the file does not have.
    #[arg(long)]
    prune: bool,
    /// Tell what would be done, do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<SettingsEntry>,
    #[serde(default)]
    accounts: Vec<AccountEntry>,
    #[serde(default)]
    routes: Vec<RouteEntry>,
    #[serde(default)]
    lists: Vec<ListEntry>,
    #[serde(default)]
    links: Vec<LinkEntry>,
    #[serde(default)]
    handsets: Vec<RangeEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsEntry {
    retry_delays_ms: Vec<u64>,
    validity_default_s: u64,
    validity_max_s: u64,
    receipt_validity_s: u64,
    final_retention_s: u64,
    transaction_timer_s: u32,
    number_waiting_max: u64,
    account_waiting_max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    number_plan: Option<PlanEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retry: Vec<PolicyEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct PlanEntry {
    country_code: String,
    national_prefix: String,
    international_prefix: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    system_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    #[serde(default = "yes")]
    may_transmit: bool,
    #[serde(default = "yes")]
    may_receive: bool,
    #[serde(default)]
    short_codes: Vec<String>,
    #[serde(default)]
    binds_max: u32,
    #[serde(default)]
    window: u32,
    #[serde(default)]
    rate_per_s: u32,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    default_validity_s: u32,
    #[serde(default)]
    default_alphabet: AlphabetWord,
    #[serde(default)]
    receipt_content: ContentWord,
    #[serde(default)]
    receipt_operation: OperationWord,
    #[serde(default)]
    message_operation: OperationWord,
    #[serde(default)]
    receipt_utc_offset_min: i32,
    #[serde(default)]
    receipts_to_submitter: bool,
    #[serde(default, skip_serializing_if = "SessionEntry::is_default")]
    session: SessionEntry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbind: Option<OutbindEntry>,
    #[serde(default)]
    waiting_max: u64,
}

/// Members are digits, or ton/npi/digits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ListEntry {
    name: String,
    #[serde(default)]
    account: String,
    members: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What is stored now.
struct Stored {
    settings: Settings,
    accounts: Vec<Account>,
    routes: Vec<Route>,
    lists: Vec<DistributionList>,
    /// Without their passwords.
    links: Vec<Link>,
    handsets: Vec<HandsetRange>,
}

impl Stored {
    async fn read(client: &mut Client) -> Result<Self, Failure> {
        Ok(Self {
            settings: client.settings(SettingsRequest {}).await?.into_inner().settings.unwrap_or_default(),
            accounts: client.accounts(AccountsRequest { with_hashes: true }).await?.into_inner().accounts,
            routes: client.routes(RoutesRequest {}).await?.into_inner().routes,
            lists: client.lists(ListsRequest {}).await?.into_inner().lists,
            links: link::all(client).await?,
            handsets: client.handsets(HandsetsRequest {}).await?.into_inner().ranges,
        })
    }
}

/// One step of an application.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    DeleteRoute(RouteDelete),
    DeleteList(String),
    DeleteAccount(String),
    DeleteHandset(String),
    DeleteLink(String),
    PutLink(Box<Link>),
    PutAccount(Box<AccountPutRequest>),
    PutRoute(Box<Route>),
    PutList(DistributionList),
    PutHandset(HandsetRange),
    PutSettings(Settings),
}

impl Step {
    fn sentence(&self) -> String {
        match self {
            Step::DeleteRoute(route) if route.account.is_empty() => format!("delete route {:?}", route.prefix),
            Step::DeleteRoute(route) => format!("delete route {:?} of {}", route.prefix, route.account),
            Step::DeleteAccount(name) => format!("delete account {name}"),
            Step::DeleteList(name) => format!("delete list {name}"),
            Step::PutList(list) => format!("put list {}", list.name),
            Step::DeleteLink(name) => format!("delete link {name}"),
            Step::PutLink(link) => format!("put link {}", link.name),
            Step::DeleteHandset(prefix) => format!("delete handsets {prefix}"),
            Step::PutAccount(put) => {
                format!("put account {}", put.account.as_ref().map_or("", |account| account.system_id.as_str()))
            }
            Step::PutRoute(route) => format!("put route {:?} to {}", route.prefix, route.target),
            Step::PutHandset(range) => format!("put handsets {}", range.prefix),
            Step::PutSettings(_) => "put settings".to_owned(),
        }
    }

    async fn take(self, client: &mut Client) -> Result<(), Failure> {
        match self {
            Step::DeleteRoute(delete) => client.route_delete(delete).await.map(drop),
            Step::DeleteAccount(system_id) => client.account_delete(AccountDelete { system_id }).await.map(drop),
            Step::DeleteList(name) => client.list_delete(ListDelete { name }).await.map(drop),
            Step::PutList(list) => client.list_put(list).await.map(drop),
            Step::DeleteHandset(prefix) => client.handset_delete(HandsetDelete { prefix }).await.map(drop),
            Step::DeleteLink(name) => client.link_delete(LinkDelete { name }).await.map(drop),
            Step::PutLink(link) => client.link_put(LinkPutRequest { link: Some(*link) }).await.map(drop),
            Step::PutAccount(put) => client.account_put(*put).await.map(drop),
            Step::PutRoute(route) => client.route_put(*route).await.map(drop),
            Step::PutHandset(range) => client.handset_put(range).await.map(drop),
            Step::PutSettings(settings) => client.settings_put(settings).await.map(drop),
        }?;
        Ok(())
    }
}

/// Prints the file.
pub async fn export(connect: &ConnectArgs, format: Format) -> Result<(), Failure> {
    let stored = Stored::read(&mut connect.leader_client().await?).await?;
    let file = file_of(stored);
    match format {
        Format::Json => print(&json(&file)?),
        Format::Human => print(&toml::to_string(&file).map_err(Failure::refused)?),
    }
}

/// Brings the cluster to what the file says. JSON: the steps, as sentences.
pub async fn apply(connect: &ConnectArgs, args: ApplyArgs, format: Format) -> Result<(), Failure> {
    let file = parse(&read(&args.file)?)
        .map_err(|reason| Failure::refused(format!("{} is no file to apply: {reason}", args.file.display())))?;
    let mut client = connect.leader_client().await?;
    let stored = Stored::read(&mut client).await?;
    let steps = steps(file, &stored, args.prune).map_err(Failure::refused)?;
    let sentences: Vec<String> = steps.iter().map(Step::sentence).collect();
    if !args.dry_run {
        for (done, step) in steps.into_iter().enumerate() {
            let sentence = step.sentence();
            step.take(&mut client).await.map_err(|failure| Failure {
                text: format!("{sentence}: {failure} ({done} of {} steps are done)", sentences.len()),
                ..failure
            })?;
        }
    }
    format.show(&sentences, |sentences| match sentences.is_empty() {
        true => "nothing to do".to_owned(),
        false => sentences.join("\n"),
    })
}

/// The text of a file, or of standard input for `-`.
pub fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?;
    Ok(text)
}

/// JSON begins with a brace, which no TOML file of this kind does.
fn parse(text: &str) -> Result<ClusterFile, String> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error| error.to_string())
    }
}

fn steps(file: ClusterFile, stored: &Stored, prune: bool) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    if prune {
        let routes: BTreeSet<_> = file.routes.iter().map(|r| (&r.account, &r.prefix, &r.name)).collect();
        let accounts: BTreeSet<_> = file.accounts.iter().map(|a| a.system_id.as_str()).collect();
        let lists: BTreeSet<_> = file.lists.iter().map(|list| list.name.as_str()).collect();
        let handsets: BTreeSet<_> = file.handsets.iter().map(|h| h.prefix.as_str()).collect();
        let gone = stored.routes.iter().filter(|r| !routes.contains(&(&r.account, &r.prefix, &r.name)));
        steps.extend(gone.map(|route| {
            let Route { prefix, account, name, .. } = route.clone();
            Step::DeleteRoute(RouteDelete { prefix, account, name })
        }));
        let gone = stored.lists.iter().filter(|list| !lists.contains(list.name.as_str()));
        steps.extend(gone.map(|list| Step::DeleteList(list.name.clone())));
        let gone = stored.accounts.iter().filter(|a| !accounts.contains(a.system_id.as_str()));
        steps.extend(gone.map(|account| Step::DeleteAccount(account.system_id.clone())));
        let links: BTreeSet<_> = file.links.iter().map(|link| link.name.as_str()).collect();
        let gone = stored.links.iter().filter(|link| !links.contains(link.name.as_str()));
        steps.extend(gone.map(|link| Step::DeleteLink(link.name.clone())));
        let gone = stored.handsets.iter().filter(|h| !handsets.contains(h.prefix.as_str()));
        steps.extend(gone.map(|range| Step::DeleteHandset(range.prefix.clone())));
    }
    for entry in file.accounts {
        steps.extend(account_step(entry, stored)?.map(|put| Step::PutAccount(Box::new(put))));
    }
    for entry in file.links {
        let link = entry.link()?;
        // A password in the file is put anew: the one that is set cannot be compared.
        if !link.password.is_empty() || !stored.links.contains(&link) {
            steps.push(Step::PutLink(Box::new(link)));
        }
    }
    for entry in file.routes {
        let route = Route::try_from(entry)?;
        if !stored.routes.contains(&route) {
            steps.push(Step::PutRoute(Box::new(route)));
        }
    }
    for entry in file.lists {
        let list = list_of(entry)?;
        if !stored.lists.contains(&list) {
            steps.push(Step::PutList(list));
        }
    }
    for entry in file.handsets {
        let range = HandsetRange::try_from(entry)?;
        if !stored.handsets.contains(&range) {
            steps.push(Step::PutHandset(range));
        }
    }
    let settings = file.settings.map(settings_of);
    steps.extend(settings.filter(|settings| *settings != stored.settings).map(Step::PutSettings));
    Ok(steps)
}

fn account_step(entry: AccountEntry, stored: &Stored) -> Result<Option<AccountPutRequest>, String> {
    let known = stored.accounts.iter().find(|account| account.system_id == entry.system_id);
    let hash = match &entry.password_hash {
        Some(hex) => from_hex(hex).ok_or_else(|| format!("account {}: password_hash is no hex", entry.system_id))?,
        None => known.map(|known| known.password_hash.to_vec()).unwrap_or_default(),
    };
    let account = Account {
        system_id: entry.system_id,
        password_hash: hash.into(),
        may_transmit: entry.may_transmit,
        may_receive: entry.may_receive,
        short_codes: entry.short_codes,
        binds_max: entry.binds_max,
        window: entry.window,
        rate_per_s: entry.rate_per_s,
        disabled: entry.disabled,
        default_validity_s: entry.default_validity_s,
        default_alphabet: entry.default_alphabet.into(),
        receipt_content: entry.receipt_content.into(),
        receipt_operation: entry.receipt_operation.into(),
        message_operation: entry.message_operation.into(),
        receipt_utc_offset_min: entry.receipt_utc_offset_min,
        receipts_to_submitter: entry.receipts_to_submitter,
        session: entry.session.into_policy(),
        outbind: entry.outbind.map(|entry| entry.into_outbind(known.and_then(|known| known.outbind.as_ref()))),
        waiting_max: entry.waiting_max,
    };
    if entry.password.is_none() && known == Some(&account) {
        return Ok(None);
    }
    Ok(Some(AccountPutRequest { account: Some(account), password: entry.password.unwrap_or_default() }))
}

fn list_of(entry: ListEntry) -> Result<DistributionList, String> {
    let members = entry.members.iter().map(|text| list::member(text)).collect::<Result<_, _>>();
    let members = members.map_err(|reason| format!("list {}: {reason}", entry.name))?;
    Ok(DistributionList { name: entry.name, account: entry.account, members })
}

fn settings_of(entry: SettingsEntry) -> Settings {
    Settings {
        retry_delays_ms: entry.retry_delays_ms,
        validity_default_s: entry.validity_default_s,
        validity_max_s: entry.validity_max_s,
        receipt_validity_s: entry.receipt_validity_s,
        final_retention_s: entry.final_retention_s,
        transaction_timer_s: entry.transaction_timer_s,
        retry: entry.retry.into_iter().map(RetryPolicy::from).collect(),
        number_waiting_max: entry.number_waiting_max,
        account_waiting_max: entry.account_waiting_max,
        number_plan: entry.number_plan.map(|plan| NumberPlan {
            country_code: plan.country_code,
            national_prefix: plan.national_prefix,
            international_prefix: plan.international_prefix,
        }),
    }
}

fn file_of(stored: Stored) -> ClusterFile {
    let account = |account: Account| AccountEntry {
        system_id: account.system_id,
        password: None,
        password_hash: Some(to_hex(&account.password_hash)),
        may_transmit: account.may_transmit,
        may_receive: account.may_receive,
        short_codes: account.short_codes,
        binds_max: account.binds_max,
        window: account.window,
        rate_per_s: account.rate_per_s,
        disabled: account.disabled,
        default_validity_s: account.default_validity_s,
        default_alphabet: account.default_alphabet.into(),
        receipt_content: account.receipt_content.into(),
        receipt_operation: account.receipt_operation.into(),
        message_operation: account.message_operation.into(),
        receipt_utc_offset_min: account.receipt_utc_offset_min,
        receipts_to_submitter: account.receipts_to_submitter,
        session: account.session.map(SessionEntry::of).unwrap_or_default(),
        outbind: account.outbind.map(OutbindEntry::of),
        waiting_max: account.waiting_max,
    };
    let plan = |plan: NumberPlan| PlanEntry {
        country_code: plan.country_code,
        national_prefix: plan.national_prefix,
        international_prefix: plan.international_prefix,
    };
    let list = |list: DistributionList| ListEntry {
        name: list.name,
        account: list.account,
        members: list.members.iter().map(list::text_of).collect(),
    };
    ClusterFile {
        settings: Some(SettingsEntry {
            retry_delays_ms: stored.settings.retry_delays_ms,
            validity_default_s: stored.settings.validity_default_s,
            validity_max_s: stored.settings.validity_max_s,
            receipt_validity_s: stored.settings.receipt_validity_s,
            final_retention_s: stored.settings.final_retention_s,
            transaction_timer_s: stored.settings.transaction_timer_s,
            number_waiting_max: stored.settings.number_waiting_max,
            account_waiting_max: stored.settings.account_waiting_max,
            number_plan: stored.settings.number_plan.map(plan),
            retry: stored.settings.retry.into_iter().map(PolicyEntry::from).collect(),
        }),
        accounts: stored.accounts.into_iter().map(account).collect(),
        routes: stored.routes.into_iter().map(RouteEntry::from).collect(),
        lists: stored.lists.into_iter().map(list).collect(),
        links: stored.links.into_iter().map(LinkEntry::from).collect(),
        handsets: stored.handsets.into_iter().map(RangeEntry::from).collect(),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use smsc_raft::model::{Outbind, SessionPolicy};

    use super::*;

    fn stored() -> Stored {
        Stored {
            settings: Settings { retry_delays_ms: vec![5000], ..Default::default() },
            accounts: vec![Account {
                system_id: "esme1".to_owned(),
                password_hash: vec![1, 0xAB].into(),
                may_transmit: true,
                short_codes: vec!["1000".to_owned()],
                default_alphabet: AlphabetWord::Latin1.into(),
                receipt_utc_offset_min: -60,
                session: Some(SessionPolicy {
                    networks: vec!["192.0.2.0/24".to_owned()],
                    burst: 7,
                    ..Default::default()
                }),
                outbind: Some(Outbind { addr: "a:1".to_owned(), password: "p".to_owned(), ..Default::default() }),
                ..Default::default()
            }],
            routes: vec![Route { prefix: "49".to_owned(), target: "handset".to_owned(), ..Default::default() }],
            lists: vec![DistributionList {
                name: "friends".to_owned(),
                members: vec![list::member("2/1/5551").expect("well")],
                ..Default::default()
            }],
            links: vec![Link { name: "c1".to_owned(), addresses: vec!["a:1".to_owned()], ..Default::default() }],
            handsets: vec![HandsetRange { prefix: "1555".to_owned(), ..Default::default() }],
        }
    }

    #[test]
    fn an_export_applies_to_its_own_cluster_without_a_step() {
        let file = file_of(stored());
        for text in [toml::to_string(&file).expect("TOML"), json(&file).expect("JSON")] {
            let read = parse(&text).expect("readable");
            assert_eq!(read, file);
            assert_eq!(steps(read, &stored(), true), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_differs_is_put_and_what_is_gone_is_pruned() {
        let text = "[[accounts]]\nsystem_id = \"esme2\"\npassword = \"secret2\"\n";
        let taken = |prune| {
            let steps = steps(parse(text).expect("readable"), &stored(), prune).expect("well");
            steps.iter().map(Step::sentence).collect::<Vec<_>>()
        };
        assert_eq!(taken(false), ["put account esme2"]);
        let all = [
            "delete route \"49\"",
            "delete list friends",
            "delete account esme1",
            "delete link c1",
            "delete handsets 1555",
            "put account esme2",
        ];
        assert_eq!(taken(true), all);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(parse("[[accounts]]\nsystem_id = \"a\"\nwindows = 3\n").is_err());
        assert_eq!(from_hex("01aB"), Some(vec![1, 0xAB]));
        assert_eq!((from_hex("1"), from_hex("zz")), (None, None));
    }
}
