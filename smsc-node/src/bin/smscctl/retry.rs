//! `smscctl retry`: when failed attempts are repeated.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use smsc_node::delivery::retry::default_delays_ms;
use smsc_proto::rpc::admin::SettingsRequest;
use smsc_raft::model::{ErrorClass, ErrorMapping, RetryPolicy, RetrySchedule, Settings};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, table};

/// The fields of the subcommands' JSON.
pub const JSON_HELP: &str = "\
JSON fields, for each policy: link (empty: all without one of their own), attempts_max, jitter_percent (0: default),
  schedules (class, delays_ms, attempts_max), errors (error, class).";

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum RetryCommand {
    /// The policies, and the delays of each class that follow from them.
    #[command(after_help = JSON_HELP)]
    Show,
    /// Change a policy: options that are not given keep what is set.
    Set(SetArgs),
    /// Put an error of a link into a class. An error is a network_error_code: network type times 65536 plus code; 524288
    /// plus the command_status for an answer of a message centre.
    Map {
        /// The error.
        error: u32,
        /// Its class; permanent is never tried again.
        #[arg(value_enum)]
        class: ClassArg,
        /// The link; all, without.
        #[arg(long, default_value = "")]
        link: String,
    },
    /// Let an error have its usual class again.
    Unmap {
        /// The error.
        error: u32,
        /// The link; all, without.
        #[arg(long, default_value = "")]
        link: String,
    },
    /// Delete a policy: the link follows that for all then, and all follow the defaults.
    Delete {
        /// The link; all, without.
        #[arg(long, default_value = "")]
        link: String,
    },
}

/// What to change.
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// The link; all that have no policy of their own, without.
    #[arg(long, default_value = "")]
    link: String,
    /// The class of errors that --delays-ms and --attempts-max are for; without, --attempts-max is over all classes.
    #[arg(long, value_enum)]
    class: Option<ClassArg>,
    /// Delays between attempts, with commas; the last one repeats; \"\" for the default. Milliseconds.
    #[arg(long, value_name = "MS,MS...", requires = "class")]
    delays_ms: Option<String>,
    /// Attempts until a message is undeliverable; 0 for no limit but its validity.
    #[arg(long)]
    attempts_max: Option<u32>,
    /// By how much delays are moved at random in either direction, 1 to 50; 0 for the default of 10. Percent.
    #[arg(long)]
    jitter_percent: Option<u32>,
}

/// A class of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassArg {
    /// What no other class fits.
    Unknown,
    /// Out of reach.
    Absent,
    /// Occupied for a moment.
    Busy,
    /// No room in the handset.
    MemoryFull,
    /// The network takes on no more for now.
    Congestion,
    /// The link is not connected.
    LinkDown,
    /// Something is broken on the way.
    SystemFailure,
    /// Never deliverable.
    Permanent,
}

impl From<ErrorClass> for ClassArg {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Unknown => Self::Unknown,
            ErrorClass::Absent => Self::Absent,
            ErrorClass::Busy => Self::Busy,
            ErrorClass::MemoryFull => Self::MemoryFull,
            ErrorClass::Congestion => Self::Congestion,
            ErrorClass::LinkDown => Self::LinkDown,
            ErrorClass::SystemFailure => Self::SystemFailure,
            ErrorClass::Permanent => Self::Permanent,
        }
    }
}

impl From<ClassArg> for ErrorClass {
    fn from(class: ClassArg) -> Self {
        match class {
            ClassArg::Unknown => Self::Unknown,
            ClassArg::Absent => Self::Absent,
            ClassArg::Busy => Self::Busy,
            ClassArg::MemoryFull => Self::MemoryFull,
            ClassArg::Congestion => Self::Congestion,
            ClassArg::LinkDown => Self::LinkDown,
            ClassArg::SystemFailure => Self::SystemFailure,
            ClassArg::Permanent => Self::Permanent,
        }
    }
}

/// A class's word.
pub fn word(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Unknown => "unknown",
        ErrorClass::Absent => "absent",
        ErrorClass::Busy => "busy",
        ErrorClass::MemoryFull => "memory-full",
        ErrorClass::Congestion => "congestion",
        ErrorClass::LinkDown => "link-down",
        ErrorClass::SystemFailure => "system-failure",
        ErrorClass::Permanent => "permanent",
    }
}

/// A policy, in a file and in JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyEntry {
    link: String,
    attempts_max: u32,
    jitter_percent: u32,
    schedules: Vec<ScheduleEntry>,
    errors: Vec<MappingEntry>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ScheduleEntry {
    class: ClassArg,
    #[serde(default)]
    delays_ms: Vec<u64>,
    #[serde(default)]
    attempts_max: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MappingEntry {
    error: u32,
    class: ClassArg,
}

impl From<RetryPolicy> for PolicyEntry {
    fn from(policy: RetryPolicy) -> Self {
        let schedule = |schedule: &RetrySchedule| ScheduleEntry {
            class: schedule.class().into(),
            delays_ms: schedule.delays_ms.clone(),
            attempts_max: schedule.attempts_max,
        };
        let mapping = |mapping: &ErrorMapping| MappingEntry { error: mapping.error, class: mapping.class().into() };
        Self {
            schedules: policy.schedules.iter().map(schedule).collect(),
            errors: policy.errors.iter().map(mapping).collect(),
            link: policy.link,
            attempts_max: policy.attempts_max,
            jitter_percent: policy.jitter_percent,
        }
    }
}

impl From<PolicyEntry> for RetryPolicy {
    fn from(entry: PolicyEntry) -> Self {
        let schedule = |schedule: ScheduleEntry| RetrySchedule {
            class: ErrorClass::from(schedule.class) as i32,
            delays_ms: schedule.delays_ms,
            attempts_max: schedule.attempts_max,
        };
        let mapping = |mapping: MappingEntry| ErrorMapping {
            error: mapping.error,
            class: ErrorClass::from(mapping.class) as i32,
        };
        Self {
            schedules: entry.schedules.into_iter().map(schedule).collect(),
            errors: entry.errors.into_iter().map(mapping).collect(),
            link: entry.link,
            attempts_max: entry.attempts_max,
            jitter_percent: entry.jitter_percent,
        }
    }
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: RetryCommand, format: Format) -> Result<(), Failure> {
    if matches!(command, RetryCommand::Show) {
        let answer = connect.client().await?.settings(SettingsRequest {}).await?.into_inner();
        let settings = answer.settings.unwrap_or_default();
        let views: Vec<PolicyEntry> = settings.retry.iter().cloned().map(PolicyEntry::from).collect();
        return format.show(&views, |_| human(&settings));
    }
    let mut client = connect.leader_client().await?;
    let before = client.settings(SettingsRequest {}).await?.into_inner().settings.unwrap_or_default();
    client.settings_put(changed(command, before)?).await?;
    format.done("the retry policies are changed")
}

fn changed(command: RetryCommand, mut settings: Settings) -> Result<Settings, Failure> {
    match command {
        RetryCommand::Show => {}
        RetryCommand::Set(args) => set(policy(&mut settings, &args.link), args)?,
        RetryCommand::Map { error, class, link } => {
            let policy = policy(&mut settings, &link);
            policy.errors.retain(|mapping| mapping.error != error);
            policy.errors.push(ErrorMapping { error, class: ErrorClass::from(class) as i32 });
        }
        RetryCommand::Unmap { error, link } => {
            policy(&mut settings, &link).errors.retain(|mapping| mapping.error != error);
        }
        RetryCommand::Delete { link } => settings.retry.retain(|policy| policy.link != link),
    }
    settings.retry.retain(|policy| *policy != RetryPolicy { link: policy.link.clone(), ..Default::default() });
    Ok(settings)
}

fn policy<'a>(settings: &'a mut Settings, link: &str) -> &'a mut RetryPolicy {
    let at = settings.retry.iter().position(|policy| policy.link == link).unwrap_or_else(|| {
        settings.retry.push(RetryPolicy { link: link.to_owned(), ..Default::default() });
        settings.retry.len() - 1
    });
    &mut settings.retry[at]
}

fn set(policy: &mut RetryPolicy, args: SetArgs) -> Result<(), Failure> {
    if let Some(percent) = args.jitter_percent {
        policy.jitter_percent = percent;
    }
    let Some(class) = args.class.map(ErrorClass::from) else {
        policy.attempts_max = args.attempts_max.unwrap_or(policy.attempts_max);
        return Ok(());
    };
    let at = policy.schedules.iter().position(|schedule| schedule.class() == class).unwrap_or_else(|| {
        policy.schedules.push(RetrySchedule { class: class as i32, ..Default::default() });
        policy.schedules.len() - 1
    });
    let schedule = &mut policy.schedules[at];
    if let Some(text) = args.delays_ms {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let delays = parts.map(|part| part.parse::<u64>().map_err(|_| part.to_owned())).collect::<Result<Vec<_>, _>>();
        schedule.delays_ms = delays.map_err(|part| Failure::usage(format!("--delays-ms: {part:?} is no number")))?;
    }
    schedule.attempts_max = args.attempts_max.unwrap_or(schedule.attempts_max);
    Ok(())
}

fn human(settings: &Settings) -> String {
    const CLASSES: [ErrorClass; 7] = [
        ErrorClass::Unknown,
        ErrorClass::Absent,
        ErrorClass::Busy,
        ErrorClass::MemoryFull,
        ErrorClass::Congestion,
        ErrorClass::LinkDown,
        ErrorClass::SystemFailure,
    ];
    let default = RetryPolicy::default();
    let all = settings.retry.iter().find(|policy| policy.link.is_empty()).unwrap_or(&default);
    let own = settings.retry.iter().filter(|policy| !policy.link.is_empty());
    let mut rows = Vec::new();
    for policy in [all].into_iter().chain(own) {
        for class in CLASSES {
            let schedule = policy.schedules.iter().find(|schedule| schedule.class() == class);
            let delays = match schedule {
                Some(schedule) if !schedule.delays_ms.is_empty() => schedule.delays_ms.as_slice(),
                _ if !settings.retry_delays_ms.is_empty() => settings.retry_delays_ms.as_slice(),
                _ => default_delays_ms(class),
            };
            let delays: Vec<String> = delays.iter().map(|ms| seconds(*ms)).collect();
            let limits = [policy.attempts_max, schedule.map_or(0, |schedule| schedule.attempts_max)];
            let limit = limits.into_iter().filter(|limit| *limit > 0).min();
            let link = if policy.link.is_empty() { "all" } else { &policy.link };
            let limit = limit.map_or("until it expires".to_owned(), |limit| limit.to_string());
            rows.push([link.to_owned(), word(class).to_owned(), delays.join(" "), limit]);
        }
        for mapping in &policy.errors {
            let link = if policy.link.is_empty() { "all" } else { &policy.link };
            let is = format!("error {} is {}", mapping.error, word(mapping.class()));
            rows.push([link.to_owned(), is, String::new(), String::new()]);
        }
    }
    table(["LINK", "CLASS", "DELAYS, SECONDS", "ATTEMPTS"], &rows, "")
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { (ms / 1_000).to_string() } else { format!("{}.{:03}", ms / 1_000, ms % 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_after(commands: impl IntoIterator<Item = RetryCommand>) -> Settings {
        commands.into_iter().fold(Settings::default(), |settings, command| changed(command, settings).expect("well"))
    }

    fn set_args(class: Option<ClassArg>, delays_ms: Option<&str>, attempts_max: Option<u32>) -> RetryCommand {
        let delays_ms = delays_ms.map(str::to_owned);
        RetryCommand::Set(SetArgs { link: "x".to_owned(), class, delays_ms, attempts_max, jitter_percent: None })
    }

    #[test]
    fn changes_touch_what_they_name_and_empty_policies_vanish() {
        let settings = settings_after([
            set_args(Some(ClassArg::Busy), Some("1000, 2000"), Some(3)),
            set_args(None, None, Some(9)),
            RetryCommand::Map { error: 27, class: ClassArg::Permanent, link: String::new() },
        ]);
        let of_link = &settings.retry[0];
        assert_eq!((of_link.attempts_max, &of_link.schedules[0].delays_ms[..]), (9, &[1_000, 2_000][..]));
        assert_eq!(settings.retry[1].errors[0].class(), ErrorClass::Permanent);
        assert!(human(&settings).contains("error 27 is permanent"));
        let unmap = RetryCommand::Unmap { error: 27, link: String::new() };
        let settings = changed(unmap, settings).expect("well");
        assert_eq!(settings.retry.len(), 1);
        let there = settings.retry[0].clone();
        assert_eq!(RetryPolicy::from(PolicyEntry::from(there.clone())), there);
        assert!(changed(set_args(Some(ClassArg::Busy), Some("x"), None), settings).is_err());
    }
}
