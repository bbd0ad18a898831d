//! `smscctl route`: where destinations go.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{RouteTestRequest, RoutesRequest};
use smsc_raft::model::{QueueKind, Rewrite, Route, RouteDelete, TimeWindow};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table};

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The fields of the subcommands' JSON.
pub const JSON_HELP: &str = "\
JSON fields, for each route: prefix, target, account (empty: for all), and those of name, priority, weight, pattern, source,
  service_type, hours, days, utc_offset_minutes, list, keyword, strip, prepend, ton, npi that are set.
JSON fields of a test: number, steps (sentences), refused (null or why), queue (\"number N\" or \"esme SYSTEM_ID\"), ways
  (link, destination, ton, npi; in the order tried).";

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum RouteCommand {
    /// All routes.
    #[command(after_help = JSON_HELP)]
    List,
    /// Make a route, or change the one with this prefix, account and name. The longest prefix wins, a route for an
    /// account before one for all; then the lowest priority, equals sharing the load by weight, the rest as fallback.
    Put(Box<RouteEntry>),
    /// Delete a route.
    Delete {
        /// Its prefix.
        prefix: String,
        /// Its account, if it is for one only.
        #[arg(long, default_value = "")]
        account: String,
        /// Its name, if it has one.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Explain where a message would go, step by step.
    #[command(after_help = JSON_HELP)]
    Test(TestArgs),
}

/// A route, as options, in a file and in JSON.
#[derive(Clone, Debug, Default, PartialEq, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// The first digits of the destination; \"\" for all.
    pub prefix: String,
    /// handset for the simulated handsets, esme:SYSTEM_ID for an account's receivers, link:NAME for another message
    /// centre, refuse to accept nothing.
    pub target: String,
    /// Only for submissions of this account; such a route wins over one for all.
    #[arg(long, default_value = "")]
    #[serde(default)]
    pub account: String,
    /// Tells routes with the same prefix and account apart.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The lowest goes first, the others when it is down or refuses.
    #[arg(long, default_value_t = 0)]
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Share of the load among routes of one priority; 0 counts as 1.
    #[arg(long, default_value_t = 0)]
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: u32,
    /// Regular expression that the number must match.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// What the source address must begin with.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The service_type that the message must have.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_type: String,
    /// When the route is open, as 08:00-18:00; always, without.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hours: String,
    /// On which days, as mon,tue; every day, without.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub days: String,
    /// Minutes that the hours are ahead of UTC.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    #[serde(default, skip_serializing_if = "is_zero_signed")]
    pub utc_offset_minutes: i32,
    /// The number list that the number must be on; with the target refuse, a list that goes before all other routes.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub list: String,
    /// The first word of the message; such a route goes before short codes.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyword: String,
    /// Digits taken off the number towards the link.
    #[arg(long, default_value_t = 0)]
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strip: u32,
    /// What is then put in front of it.
    #[arg(long, default_value = "")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prepend: String,
    /// Type of number towards the link; as submitted, without.
    #[arg(long, requires = "npi")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ton: Option<u32>,
    /// Numbering plan towards the link; as submitted, without.
    #[arg(long, requires = "ton")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npi: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero_signed(value: &i32) -> bool {
    *value == 0
}

impl TryFrom<RouteEntry> for Route {
    type Error = String;

    fn try_from(entry: RouteEntry) -> Result<Self, String> {
        let window = window(&entry)?;
        let with_type = entry.ton.is_some();
        let rewrite = Rewrite {
            strip: entry.strip,
            prepend: entry.prepend,
            with_type,
            ton: entry.ton.unwrap_or(0),
            npi: entry.npi.unwrap_or(0),
        };
        Ok(Self {
            prefix: entry.prefix,
            target: entry.target,
            account: entry.account,
            name: entry.name,
            priority: entry.priority,
            weight: entry.weight,
            pattern: entry.pattern,
            source: entry.source,
            service_type: entry.service_type,
            window,
            list: entry.list,
            rewrite: (rewrite != Rewrite::default()).then_some(rewrite),
            keyword: entry.keyword,
        })
    }
}

impl From<Route> for RouteEntry {
    fn from(route: Route) -> Self {
        let rewrite = route.rewrite.unwrap_or_default();
        let typed = |value: u32| rewrite.with_type.then_some(value);
        let window = route.window.unwrap_or_default();
        let minute = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        let whole = window.from_minute == window.to_minute;
        let hours = format!("{}-{}", minute(window.from_minute), minute(window.to_minute));
        let days = WEEKDAYS.iter().enumerate().filter(|(bit, _)| window.weekdays >> bit & 1 == 1);
        let days: Vec<&str> = days.map(|(_, day)| *day).collect();
        Self {
            prefix: route.prefix,
            target: route.target,
            account: route.account,
            name: route.name,
            priority: route.priority,
            weight: route.weight,
            pattern: route.pattern,
            source: route.source,
            service_type: route.service_type,
            hours: if whole { String::new() } else { hours },
            days: days.join(","),
            utc_offset_minutes: window.utc_offset_minutes,
            list: route.list,
            keyword: route.keyword,
            strip: rewrite.strip,
            prepend: rewrite.prepend.clone(),
            ton: typed(rewrite.ton),
            npi: typed(rewrite.npi),
        }
    }
}

fn window(entry: &RouteEntry) -> Result<Option<TimeWindow>, String> {
    if entry.hours.is_empty() && entry.days.is_empty() {
        return if entry.utc_offset_minutes == 0 {
            Ok(None)
        } else {
            Err("an offset from UTC is of use with hours or days only".to_owned())
        };
    }
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute) = (hour.parse::<u32>().ok()?, minute.parse::<u32>().ok()?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let hours = match entry.hours.as_str() {
        "" => Some((0, 0)),
        hours => hours.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?))),
    };
    let (from_minute, to_minute) =
        hours.ok_or_else(|| format!("hours {:?} are not of the form 08:00-18:00", entry.hours))?;
    let mut weekdays = 0;
    for day in entry.days.split(',').map(str::trim).filter(|day| !day.is_empty()) {
        let bit = WEEKDAYS.iter().position(|known| *known == day);
        weekdays |= 1 << bit.ok_or_else(|| format!("day {day:?} is none of {}", WEEKDAYS.join(", ")))?;
    }
    Ok(Some(TimeWindow { from_minute, to_minute, weekdays, utc_offset_minutes: entry.utc_offset_minutes }))
}

/// What to test.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// The destination, as an ESME would write it.
    number: String,
    /// The submitting account; none, as for a message from a phone, without.
    #[arg(long, default_value = "")]
    account: String,
    /// The source address.
    #[arg(long, default_value = "")]
    source: String,
    /// The message's service_type.
    #[arg(long, default_value = "")]
    service_type: String,
    /// The message's text, for routes by keyword.
    #[arg(long, default_value = "")]
    text: String,
    /// Type of number of the destination.
    #[arg(long, default_value_t = 0)]
    ton: u32,
    /// When, as milliseconds since 1970; now, without.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    at_ms: u64,
}

#[derive(Debug, Serialize)]
struct TestView {
    number: String,
    steps: Vec<String>,
    refused: Option<String>,
    queue: Option<String>,
    ways: Vec<WayView>,
}

#[derive(Debug, Serialize)]
struct WayView {
    link: String,
    destination: String,
    ton: u32,
    npi: u32,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: RouteCommand, format: Format) -> Result<(), Failure> {
    let mut client = connect.client().await?;
    match command {
        RouteCommand::List => {
            let routes = client.routes(RoutesRequest {}).await?.into_inner().routes;
            let views: Vec<_> = routes.into_iter().map(RouteEntry::from).collect();
            format.show(&views, |views| {
                let rows: Vec<_> = views.iter().map(row).collect();
                table(["PREFIX", "TARGET", "FOR ACCOUNT", "NAME", "PRIORITY", "WEIGHT", "WHEN"], &rows, "no routes")
            })
        }
        RouteCommand::Put(entry) => {
            let sentence = format!("destinations {}... go to {}", entry.prefix, entry.target);
            client.route_put(Route::try_from(*entry).map_err(Failure::usage)?).await?;
            format.done(&sentence)
        }
        RouteCommand::Delete { prefix, account, name } => {
            let sentence = format!("the route for {prefix}... is deleted");
            client.route_delete(RouteDelete { prefix, account, name }).await?;
            format.done(&sentence)
        }
        RouteCommand::Test(args) => test(connect, args, format).await,
    }
}

async fn test(connect: &ConnectArgs, args: TestArgs, format: Format) -> Result<(), Failure> {
    let TestArgs { number, account, source, service_type, text, ton, at_ms } = args;
    let request = RouteTestRequest { number, account, source, service_type, text, at_ms, ton };
    let answer = connect.client().await?.route_test(request).await?.into_inner();
    let refused = (!answer.refused.is_empty()).then(|| answer.refused.clone());
    let queue = match answer.kind() {
        QueueKind::Esme => format!("esme {}", answer.key),
        QueueKind::Number => format!("number {}", answer.key),
    };
    let ways = answer.ways.into_iter().map(|way| {
        let destination = way.destination.unwrap_or_default();
        WayView { link: way.link, destination: destination.digits, ton: destination.ton, npi: destination.npi }
    });
    let view = TestView {
        number: answer.number,
        steps: answer.steps,
        queue: refused.is_none().then_some(queue),
        refused,
        ways: ways.collect(),
    };
    format.show(&view, |view| {
        let mut lines: Vec<String> = view.steps.iter().map(|step| format!("- {step}")).collect();
        lines.extend(view.queue.iter().map(|queue| format!("queue: {queue}")));
        lines.extend(view.ways.iter().enumerate().map(|(at, way)| {
            let order = if at == 0 { "link" } else { "else" };
            format!("{order}: {} as {} (ton {}, npi {})", way.link, way.destination, way.ton, way.npi)
        }));
        lines.extend(view.refused.iter().map(|_| "refused".to_owned()));
        lines.join("\n")
    })
}

fn row(view: &RouteEntry) -> [String; 7] {
    let account = if view.account.is_empty() { "all" } else { &view.account };
    let conditions = [
        ("number ~ ", &view.pattern),
        ("source ", &view.source),
        ("service ", &view.service_type),
        ("", &view.hours),
        ("", &view.days),
        ("list ", &view.list),
        ("keyword ", &view.keyword),
    ];
    let conditions = conditions.iter().filter(|(_, value)| !value.is_empty());
    let conditions: Vec<String> = conditions.map(|(what, value)| format!("{what}{value}")).collect();
    [
        dash(&view.prefix),
        view.target.clone(),
        account.to_owned(),
        dash(&view.name),
        view.priority.to_string(),
        view.weight.max(1).to_string(),
        dash(&conditions.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_everything_is_the_same_there_and_back() {
        let entry = RouteEntry {
            prefix: "49".to_owned(),
            target: "link:x".to_owned(),
            name: "night".to_owned(),
            priority: 2,
            weight: 3,
            pattern: "^49".to_owned(),
            hours: "20:00-06:30".to_owned(),
            days: "mon,sun".to_owned(),
            utc_offset_minutes: -90,
            list: "ported".to_owned(),
            keyword: "join".to_owned(),
            strip: 2,
            prepend: "0".to_owned(),
            ton: Some(2),
            npi: Some(1),
            ..Default::default()
        };
        let route = Route::try_from(entry.clone()).expect("well");
        let window = route.window.as_ref().expect("it has hours");
        assert_eq!((window.from_minute, window.to_minute, window.weekdays), (1_200, 390, 0x41));
        assert_eq!(RouteEntry::from(route), entry);
        let plain = Route { prefix: "49".to_owned(), target: "handset".to_owned(), ..Default::default() };
        assert_eq!(Route::try_from(RouteEntry::from(plain.clone())), Ok(plain));
    }

    #[test]
    fn hours_and_days_that_are_none_are_told() {
        for (hours, days) in [("8-18", ""), ("08:00-25:00", ""), ("", "monday")] {
            let entry = RouteEntry { hours: hours.to_owned(), days: days.to_owned(), ..Default::default() };
            assert!(Route::try_from(entry).is_err(), "{hours} {days}");
        }
    }
}
