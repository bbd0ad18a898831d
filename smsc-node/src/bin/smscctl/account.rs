//! `smscctl account`: the ESMEs that may bind.

use clap::{Args, Subcommand};
use serde::Serialize;
use smsc_proto::rpc::admin::{AccountPutRequest, AccountsRequest};
use smsc_raft::model::{Account, AccountDelete};

use crate::connect::{Client, ConnectArgs};
use crate::exit::Failure;
use crate::output::{Format, list, table};
use crate::policy::{OutbindArgs, OutbindEntry, SessionArgs, SessionEntry};
use crate::words::{AlphabetWord, ContentWord, OperationWord};

/// The fields of `account list --json` and `account show --json`.
pub const JSON_HELP: &str = "\
JSON fields, for each account:
  system_id, may_transmit, may_receive, short_codes, binds_max (0: the node's default), window (0: the node's default),
  rate_per_s (0: no limit), disabled, default_validity_s (0: the operator's default), default_alphabet (gsm7, latin1 or
  ascii), receipt_content (both, text or tlvs), receipt_operation and message_operation (deliver_sm or data_sm),
  receipt_utc_offset_min, receipts_to_submitter,
  session { networks (none: from anywhere), tls_only, client_name, enquire_link_s, inactivity_s, response_s (0: the
  node's default), burst (0: what one second gives) }, outbind { addr, system_id } or null";

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountCommand {
    /// All accounts.
    #[command(after_help = JSON_HELP)]
    List,
    /// One account.
    #[command(after_help = JSON_HELP)]
    Show {
        /// The account.
        system_id: String,
    },
    /// Make an account, or change one: options that are not given keep what is set.
    Put(Box<PutArgs>),
    /// Delete an account. Its binds end with their connections.
    Delete {
        /// The account.
        system_id: String,
    },
}

/// An account's options.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    /// 1 to 15 printable ASCII characters.
    system_id: String,
    /// 1 to 8 printable ASCII characters; needed for a new account.
    #[arg(long, env = "SMSC_ACCOUNT_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// A number that the account owns, 1 to 20 digits; may be given several times and replaces what is set.
    #[arg(long = "short-code", value_delimiter = ',', conflicts_with = "no_short_codes")]
    short_codes: Option<Vec<String>>,
    /// The account owns no number.
    #[arg(long)]
    no_short_codes: bool,
    /// Whether it may submit.
    #[arg(long, value_name = "BOOL")]
    may_transmit: Option<bool>,
    /// Whether it may receive.
    #[arg(long, value_name = "BOOL")]
    may_receive: Option<bool>,
    /// Simultaneous binds, 0 for the node's default.
    #[arg(long, value_name = "N")]
    binds_max: Option<u32>,
    /// Unanswered requests either side may have, 0 for the node's default.
    #[arg(long, value_name = "N")]
    window: Option<u32>,
    /// Accepted submissions per second, 0 for no limit.
    #[arg(long, value_name = "N")]
    rate_per_s: Option<u32>,
    /// Whether binds are refused.
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
    /// Life of a message that names none, 0 for the operator's default. Seconds.
    #[arg(long, value_name = "S")]
    default_validity_s: Option<u32>,
    /// What data_coding 0 means in messages from and to the account.
    #[arg(long, value_enum)]
    default_alphabet: Option<AlphabetWord>,
    /// What receipts hold.
    #[arg(long, value_enum)]
    receipt_content: Option<ContentWord>,
    /// The operation by which receipts are delivered.
    #[arg(long, value_enum)]
    receipt_operation: Option<OperationWord>,
    /// The operation by which other messages are delivered.
    #[arg(long, value_enum)]
    message_operation: Option<OperationWord>,
    /// Offset from UTC of the dates in the text of receipts, -720 to 840. Minutes.
    #[arg(long, value_name = "MIN", allow_hyphen_values = true)]
    receipt_utc_offset_min: Option<i32>,
    /// Whether receipts go to the bind that submitted, as long as it is there; otherwise to any that receives.
    #[arg(long, value_name = "BOOL")]
    receipts_to_submitter: Option<bool>,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    outbind: OutbindArgs,
    /// Messages of the account that may wait, 0 for the operator's setting.
    #[arg(long, value_name = "N")]
    waiting_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct AccountView {
    system_id: String,
    may_transmit: bool,
    may_receive: bool,
    short_codes: Vec<String>,
    binds_max: u32,
    window: u32,
    rate_per_s: u32,
    disabled: bool,
    default_validity_s: u32,
    default_alphabet: AlphabetWord,
    receipt_content: ContentWord,
    receipt_operation: OperationWord,
    message_operation: OperationWord,
    receipt_utc_offset_min: i32,
    receipts_to_submitter: bool,
    session: SessionEntry,
    outbind: Option<OutbindEntry>,
    waiting_max: u64,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: AccountCommand, format: Format) -> Result<(), Failure> {
    match command {
        AccountCommand::List => {
            let views: Vec<_> = all(&mut connect.client().await?).await?.into_iter().map(view).collect();
            format.show(&views, |views| human(views))
        }
        AccountCommand::Show { system_id } => {
            let found = find(&mut connect.client().await?, &system_id).await?;
            let found = found.ok_or_else(|| Failure::not_found(format!("there is no account {system_id:?}")))?;
            format.show(&view(found), |view| human(std::slice::from_ref(view)))
        }
        AccountCommand::Put(args) => {
            let mut client = connect.leader_client().await?;
            let before = find(&mut client, &args.system_id).await?;
            let sentence = match before {
                Some(_) => format!("account {} is changed", args.system_id),
                None => format!("account {} is made", args.system_id),
            };
            client.account_put(put(*args, before)).await?;
            format.done(&sentence)
        }
        AccountCommand::Delete { system_id } => {
            let mut client = connect.client().await?;
            client.account_delete(AccountDelete { system_id: system_id.clone() }).await?;
            format.done(&format!("account {system_id} is deleted"))
        }
    }
}

async fn all(client: &mut Client) -> Result<Vec<Account>, Failure> {
    Ok(client.accounts(AccountsRequest { with_hashes: false }).await?.into_inner().accounts)
}

async fn find(client: &mut Client, system_id: &str) -> Result<Option<Account>, Failure> {
    Ok(all(client).await?.into_iter().find(|account| account.system_id == system_id))
}

fn put(args: PutArgs, before: Option<Account>) -> AccountPutRequest {
    let new = || Account { system_id: args.system_id, may_transmit: true, may_receive: true, ..Default::default() };
    let before = before.unwrap_or_else(new);
    let short_codes = if args.no_short_codes { Some(Vec::new()) } else { args.short_codes };
    let account = Account {
        short_codes: short_codes.unwrap_or(before.short_codes),
        may_transmit: args.may_transmit.unwrap_or(before.may_transmit),
        may_receive: args.may_receive.unwrap_or(before.may_receive),
        binds_max: args.binds_max.unwrap_or(before.binds_max),
        window: args.window.unwrap_or(before.window),
        rate_per_s: args.rate_per_s.unwrap_or(before.rate_per_s),
        disabled: args.disabled.unwrap_or(before.disabled),
        default_validity_s: args.default_validity_s.unwrap_or(before.default_validity_s),
        default_alphabet: args.default_alphabet.map_or(before.default_alphabet, i32::from),
        receipt_content: args.receipt_content.map_or(before.receipt_content, i32::from),
        receipt_operation: args.receipt_operation.map_or(before.receipt_operation, i32::from),
        message_operation: args.message_operation.map_or(before.message_operation, i32::from),
        receipt_utc_offset_min: args.receipt_utc_offset_min.unwrap_or(before.receipt_utc_offset_min),
        receipts_to_submitter: args.receipts_to_submitter.unwrap_or(before.receipts_to_submitter),
        session: args.session.apply(before.session),
        outbind: args.outbind.apply(before.outbind),
        waiting_max: args.waiting_max.unwrap_or(before.waiting_max),
        system_id: before.system_id,
        password_hash: before.password_hash,
    };
    AccountPutRequest { account: Some(account), password: args.password.unwrap_or_default() }
}

fn view(account: Account) -> AccountView {
    AccountView {
        system_id: account.system_id,
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
    }
}

fn human(views: &[AccountView]) -> String {
    let or = |value: u32, zero: &str| if value == 0 { zero.to_owned() } else { value.to_string() };
    let row = |view: &AccountView| {
        let may = match (view.disabled, view.may_transmit, view.may_receive) {
            (true, _, _) => "nothing (disabled)",
            (false, true, true) => "transmit, receive",
            (false, true, false) => "transmit",
            (false, false, true) => "receive",
            (false, false, false) => "nothing",
        };
        [
            view.system_id.clone(),
            may.to_owned(),
            list(&view.short_codes),
            or(view.binds_max, "default"),
            or(view.window, "default"),
            or(view.rate_per_s, "no limit"),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    table(["SYSTEM_ID", "MAY", "SHORT CODES", "BINDS", "WINDOW", "RATE/S"], &rows, "no accounts")
}
