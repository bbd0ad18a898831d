//! `smscctl settings`: what all nodes share beside accounts and routes.

use clap::{Args, Subcommand};
use serde::Serialize;
use smsc_proto::rpc::admin::SettingsRequest;
use smsc_raft::model::{NumberPlan, Settings};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::Format;

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum SettingsCommand {
    /// The settings. JSON fields: retry_delays_ms, validity_default_s, validity_max_s, receipt_validity_s,
    /// final_retention_s, transaction_timer_s; 0 or empty means the default.
    /// final_retention_s, number_waiting_max, account_waiting_max, country_code, national_prefix,
    /// international_prefix; 0 or empty means the default. Retry policies: smscctl retry.
    Show,
    /// Change settings: options that are not given keep what is set; 0 or an empty list means the default.
    Set(SetArgs),
}

/// The settings to change.
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// Delays between attempts, with commas; the last one repeats: for every class of error without delays of its own,
    /// see smscctl retry. Milliseconds.
    #[arg(long, value_name = "MS,MS...")]
    retry_delays_ms: Option<String>,
    /// Life of a message that names none. Seconds.
    #[arg(long, value_name = "S")]
    validity_default_s: Option<u64>,
    /// The longest life a message may ask for. Seconds.
    #[arg(long, value_name = "S")]
    validity_max_s: Option<u64>,
    /// Life of a receipt. Seconds.
    #[arg(long, value_name = "S")]
    receipt_validity_s: Option<u64>,
    /// How long messages that are final answer queries. Seconds.
    #[arg(long, value_name = "S")]
    final_retention_s: Option<u64>,
    /// How long a message of datagram or transaction mode waits for its one attempt. Seconds.
    #[arg(long, value_name = "S")]
    transaction_timer_s: Option<u32>,
    /// Messages that may wait for one number; more are refused with ESME_RMSGQFUL.
    #[arg(long)]
    number_waiting_max: Option<u64>,
    /// Messages of one account that may wait, unless the account has a limit of its own.
    #[arg(long)]
    account_waiting_max: Option<u64>,
    /// The country code of national numbers, as 49; \"\" to take numbers as they are written.
    #[arg(long)]
    country_code: Option<String>,
    /// What stands in front of a national number, as 0.
    #[arg(long)]
    national_prefix: Option<String>,
    /// What stands in front of an international number, as 00.
    #[arg(long)]
    international_prefix: Option<String>,
}

#[derive(Debug, Serialize)]
struct SettingsView {
    retry_delays_ms: Vec<u64>,
    validity_default_s: u64,
    validity_max_s: u64,
    receipt_validity_s: u64,
    final_retention_s: u64,
    transaction_timer_s: u32,
    number_waiting_max: u64,
    account_waiting_max: u64,
    country_code: String,
    national_prefix: String,
    international_prefix: String,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: SettingsCommand, format: Format) -> Result<(), Failure> {
    match command {
        SettingsCommand::Show => {
            let answer = connect.client().await?.settings(SettingsRequest {}).await?.into_inner();
            format.show(&view(answer.settings.unwrap_or_default()), human)
        }
        SettingsCommand::Set(args) => {
            let mut client = connect.leader_client().await?;
            let before = client.settings(SettingsRequest {}).await?.into_inner().settings.unwrap_or_default();
            client.settings_put(changed(args, before)?).await?;
            format.done("the settings are changed")
        }
    }
}

fn changed(args: SetArgs, before: Settings) -> Result<Settings, Failure> {
    let delays = args.retry_delays_ms.map(|text| {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse::<u64>().map_err(|_| part.to_owned())).collect::<Result<Vec<_>, _>>()
    });
    let delays =
        delays.transpose().map_err(|part| Failure::usage(format!("--retry-delays-ms: {part:?} is no number")))?;
    let plan = before.number_plan.unwrap_or_default();
    let plan = NumberPlan {
        country_code: args.country_code.unwrap_or(plan.country_code),
        national_prefix: args.national_prefix.unwrap_or(plan.national_prefix),
        international_prefix: args.international_prefix.unwrap_or(plan.international_prefix),
    };
    Ok(Settings {
        retry_delays_ms: delays.unwrap_or(before.retry_delays_ms),
        validity_default_s: args.validity_default_s.unwrap_or(before.validity_default_s),
        validity_max_s: args.validity_max_s.unwrap_or(before.validity_max_s),
        receipt_validity_s: args.receipt_validity_s.unwrap_or(before.receipt_validity_s),
        final_retention_s: args.final_retention_s.unwrap_or(before.final_retention_s),
        transaction_timer_s: args.transaction_timer_s.unwrap_or(before.transaction_timer_s),
        number_waiting_max: args.number_waiting_max.unwrap_or(before.number_waiting_max),
        account_waiting_max: args.account_waiting_max.unwrap_or(before.account_waiting_max),
        number_plan: (!plan.country_code.is_empty()).then_some(plan),
        ..before
    })
}

fn view(settings: Settings) -> SettingsView {
    let plan = settings.number_plan.unwrap_or_default();
    SettingsView {
        retry_delays_ms: settings.retry_delays_ms,
        validity_default_s: settings.validity_default_s,
        validity_max_s: settings.validity_max_s,
        receipt_validity_s: settings.receipt_validity_s,
        final_retention_s: settings.final_retention_s,
        transaction_timer_s: settings.transaction_timer_s,
        number_waiting_max: settings.number_waiting_max,
        account_waiting_max: settings.account_waiting_max,
        country_code: plan.country_code,
        national_prefix: plan.national_prefix,
        international_prefix: plan.international_prefix,
    }
}

fn human(view: &SettingsView) -> String {
    let seconds = |value: u64| if value == 0 { "default".to_owned() } else { format!("{value} s") };
    let delays: Vec<String> = view.retry_delays_ms.iter().map(u64::to_string).collect();
    let delays = if delays.is_empty() { "default".to_owned() } else { format!("{} ms", delays.join(", ")) };
    let limit = |value: u64| if value == 0 { "none".to_owned() } else { format!("{value} messages") };
    let numbers = match view.country_code.as_str() {
        "" => "as written".to_owned(),
        code => format!(
            "national {:?}, international {:?}, country {code}",
            view.national_prefix, view.international_prefix
        ),
    };
    format!(
        "retry delays      {delays}\nvalidity default  {}\nvalidity max      {}\nreceipt validity  {}\n\
         final retention   {}\ntransaction timer {}\nlimit per number  {}\nlimit per account {}\nnumbers           {numbers}",
        seconds(view.validity_default_s),
        seconds(view.validity_max_s),
        seconds(view.receipt_validity_s),
        seconds(view.final_retention_s),
        seconds(view.transaction_timer_s.into()),
        limit(view.number_waiting_max),
        limit(view.account_waiting_max),
    )
}
