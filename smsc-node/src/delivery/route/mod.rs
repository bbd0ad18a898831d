//! From a destination to the queue and the links that lead there.
//!
//! In this order: lists of refused numbers; routes by keyword; an account's short code, in full; the operator's routes,
//! those for the submitting account before those for all, the longest prefix first; the ranges of simulated handsets.
//! What nothing covers is refused. Among the routes of one prefix those that fit the message stand in the order of their
//! priority, equals sharing the load by weight; behind the first one they are its fallback. A few hash lookups, whatever
//! the number of accounts and routes, and a binary search for each list that is asked.

pub mod list;
mod number;
mod prefix;
mod rule;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use list::NumberSet;
use prefix::PrefixMap;
pub use rule::{Query, Text};
use rule::{Rule, Target};
use smol_str::SmolStr;
use smsc_proto::status::RefusalStatus;
use smsc_raft::model::{Account, Address, HandsetRange, Message, NumberPlan, QueueKind, Route};

use super::receipt::Terms;
use super::retry::scramble;

/// Name of the link to an account's receivers.
pub const LINK_ESME: &str = "esme";
/// Name of the link to the simulated handsets, and a route's target for it.
pub const LINK_HANDSET: &str = "handset";
/// What precedes the system_id in a route's target.
pub const TARGET_ESME: &str = "esme:";
/// What precedes the name of a link to another message centre in a route's target.
pub const TARGET_LINK: &str = "link:";
/// A route's target for what is not accepted.
pub const TARGET_REFUSE: &str = "refuse";

/// Where a submission goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// What kind of queue.
    pub kind: QueueKind,
    /// The number's digits, or the account's system_id.
    pub key: String,
    /// Name of the link: [`LINK_ESME`], [`LINK_HANDSET`] or another message centre's.
    pub link: String,
}

/// Why a submission goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    /// The destination address is empty.
    #[error("the destination address is empty")]
    NoDestination,
    /// No short code, route or handset range covers the destination.
    #[error("no short code, route or handset range covers the destination: add one with smscctl")]
    NotCovered,
    /// The route that covers it names an account that is not there.
    #[error("the route of the destination names an account that does not exist: correct the route with smscctl")]
    NoAccount,
    /// The route that covers it leads to handsets, but no range of them covers it.
    #[error("the route of the destination leads to handsets, but no handset range covers it: add one with smscctl")]
    NoHandset,
    /// The operator refuses the destination.
    #[error("a route refuses the destination")]
    Refused,
}

impl RouteRefusal {
    /// The command_status that the submission earns (SMPP v3.4 section 5.1.3).
    pub fn status(self) -> RefusalStatus {
        RefusalStatus::ESME_RINVDSTADR
    }
}

/// Where a message may go.
#[derive(Debug)]
enum Way<'a> {
    Esme(&'a str),
    /// By one of these, the best first.
    Links(Vec<&'a Rule>),
    /// To a range of handsets that needs no route.
    Handset,
}

/// A decision, step by step, as [`RouteTable::explain`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The number as it is routed.
    pub number: String,
    /// What was looked at, and what came of it, a sentence each.
    pub steps: Vec<String>,
    /// The decision.
    pub decision: Result<Routed, RouteRefusal>,
    /// The links in the order in which they are tried, with the address that each is given.
    pub links: Vec<(SmolStr, Address)>,
}

/// Where steps are told, if anybody listens.
struct Trace<'a>(Option<&'a mut Vec<String>>);

impl Trace<'_> {
    fn say(&mut self, sentence: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(sentence());
        }
    }
}

/// Accounts, routes and handset ranges, made ready to be asked. Built anew when one of them changes.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Owner of each short code.
    short_codes: HashMap<String, String>,
    /// The system_ids that there are, so that a route to none of them is noticed.
    system_ids: HashSet<String>,
    blacklists: PrefixMap<Vec<Rule>>,
    keywords: PrefixMap<Vec<Rule>>,
    routes: PrefixMap<Vec<Rule>>,
    account_routes: HashMap<String, PrefixMap<Vec<Rule>>>,
    handsets: PrefixMap<Arc<HandsetRange>>,
    lists: HashMap<String, Arc<NumberSet>>,
    plan: Option<NumberPlan>,
    /// How accounts want their receipts, those who want them otherwise than by default.
    receipts: HashMap<String, Terms>,
}

impl RouteTable {
    /// Builds the table from the replicated configuration.
    ///
    /// A short code that two accounts own goes to the one that comes last. A route with a target that this version does
    /// not know covers nothing.
    pub fn build<'a>(
        accounts: impl IntoIterator<Item = &'a Account>,
        routes: impl IntoIterator<Item = &'a Route>,
        handsets: impl IntoIterator<Item = &'a HandsetRange>,
    ) -> Self {
        let mut table = Self::default();
        for account in accounts {
            table.system_ids.insert(account.system_id.clone());
            let terms = Terms {
                validity_s: 0,
                utc_offset_min: account.receipt_utc_offset_min,
                to_submitter: account.receipts_to_submitter,
            };
            if terms != Terms::default() {
                table.receipts.insert(account.system_id.clone(), terms);
            }
            for code in &account.short_codes {
                table.short_codes.insert(plain(code).to_owned(), account.system_id.clone());
            }
        }
        for rule in routes.into_iter().filter_map(Rule::new) {
            let account = rule.route.account.as_str();
            let map = match () {
                () if rule.is_blacklist() => &mut table.blacklists,
                () if rule.has_keyword() => &mut table.keywords,
                () if account.is_empty() => &mut table.routes,
                () => table.account_routes.entry(account.to_owned()).or_default(),
            };
            let prefix = plain(&rule.route.prefix).to_owned();
            map.entry(&prefix).push(rule);
        }
        let maps = [&mut table.blacklists, &mut table.keywords, &mut table.routes];
        for rules in maps.into_iter().chain(table.account_routes.values_mut()).flat_map(PrefixMap::values_mut) {
            rules.sort_by(|a, b| (a.route.priority, &a.route.name).cmp(&(b.route.priority, &b.route.name)));
        }
        for range in handsets {
            table.handsets.insert(plain(&range.prefix), Arc::new(range.clone()));
        }
        table
    }

    /// The table with these number lists, by name.
    #[must_use]
    pub fn with_lists(self, lists: HashMap<String, Arc<NumberSet>>) -> Self {
        Self { lists, ..self }
    }

    /// The table of a network whose subscribers write numbers like this.
    #[must_use]
    pub fn with_plan(self, plan: Option<NumberPlan>) -> Self {
        Self { plan, ..self }
    }

    /// Where a message goes.
    ///
    /// # Errors
    /// [`RouteRefusal`]: the caller answers [`RouteRefusal::status`] and stores nothing.
    pub fn route(&self, query: &Query<'_>) -> Result<Routed, RouteRefusal> {
        let number = number::canonical(query.destination, self.plan.as_ref());
        self.walk(query, &number, Trace(None)).map(|way| routed(&way, &number))
    }

    /// The number that an address means, as queues have it.
    pub fn number(&self, address: &Address) -> String {
        number::canonical(address, self.plan.as_ref()).into_owned()
    }

    /// The links that lead to a message's number, the best one first, as of `now_ms` (UTC milliseconds). When the routes
    /// have changed so that none does any more, the one that it was accepted for.
    pub fn links(&self, message: &Message, now_ms: u64) -> Vec<SmolStr> {
        let stored = message.submission.as_ref().map_or("", |submission| submission.link.as_str());
        if !self.routes.is_empty() || !self.account_routes.is_empty() || !self.keywords.is_empty() {
            let rules = self.rules(message, now_ms);
            if !rules.is_empty() {
                return rules.iter().filter_map(|rule| link_of(rule).cloned()).collect();
            }
        }
        vec![SmolStr::from(if stored.is_empty() { LINK_HANDSET } else { stored })]
    }

    /// The address that a message is given towards a link, as the route that leads there has it written.
    pub fn towards(&self, link: &str, message: &Message, now_ms: u64) -> Address {
        let Some(submission) = &message.submission else { return Address::default() };
        let original = submission.destination.clone().unwrap_or_default();
        let number = match submission.queue_key.as_str() {
            "" => number::canonical(&original, self.plan.as_ref()),
            key => key.into(),
        };
        let rules = self.rules(message, now_ms);
        let rule = rules.iter().find(|rule| link_of(rule).is_some_and(|name| &**name == link));
        number::rewritten(&number, &original, rule.and_then(|rule| rule.route.rewrite.as_ref()))
    }

    /// The same decision as [`RouteTable::route`], with all that led to it.
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let number = number::canonical(query.destination, self.plan.as_ref());
        let mut steps = Vec::new();
        if *number != query.destination.digits {
            steps.push(format!("{} is {number} in the international form", query.destination.digits));
        }
        let way = self.walk(query, &number, Trace(Some(&mut steps)));
        let links = match &way {
            Ok(Way::Links(rules)) => {
                let given = |rule: &&&Rule| {
                    let link = link_of(rule)?.clone();
                    Some((link, number::rewritten(&number, query.destination, rule.route.rewrite.as_ref())))
                };
                rules.iter().filter_map(|rule| given(&rule)).collect()
            }
            Ok(Way::Handset) => {
                vec![(SmolStr::from(LINK_HANDSET), number::rewritten(&number, query.destination, None))]
            }
            Ok(Way::Esme(_)) | Err(_) => Vec::new(),
        };
        let decision = way.map(|way| routed(&way, &number));
        if let Err(refusal) = &decision {
            steps.push(refusal.to_string());
        }
        Explanation { number: number.into_owned(), steps, decision, links }
    }

    /// How an account wants its receipts, with the operator's validity for them (seconds, 0 for the default).
    pub fn receipt_terms(&self, account: &str, validity_s: u64) -> Terms {
        Terms { validity_s, ..self.receipts.get(account).copied().unwrap_or_default() }
    }

    /// The range of simulated handsets that a number belongs to.
    pub fn handset(&self, number: &str) -> Option<&Arc<HandsetRange>> {
        self.handsets.longest(plain(number))
    }

    fn rules(&self, message: &Message, now_ms: u64) -> Vec<&Rule> {
        let Some(submission) = &message.submission else { return Vec::new() };
        let Some(destination) = &submission.destination else { return Vec::new() };
        let number = match submission.queue_key.as_str() {
            "" => number::canonical(destination, self.plan.as_ref()),
            key => key.into(),
        };
        match self.walk(&Query::of(submission, destination, now_ms), &number, Trace(None)) {
            Ok(Way::Links(rules)) => rules,
            Ok(Way::Esme(_) | Way::Handset) | Err(_) => Vec::new(),
        }
    }

    fn walk(&self, query: &Query<'_>, number: &str, mut trace: Trace<'_>) -> Result<Way<'_>, RouteRefusal> {
        if number.is_empty() {
            return Err(RouteRefusal::NoDestination);
        }
        let meant = |rule: &Rule| rule.route.account.is_empty() || rule.route.account == query.account;
        for (_, rules) in self.blacklists.matches(number) {
            let fits = |rule: &&Rule| meant(rule) && rule.misfit(query, number, &self.lists).is_none();
            if let Some(rule) = rules.iter().find(fits) {
                trace.say(|| format!("it is on the list {:?}, whose numbers are refused", rule.route.list));
                return Err(RouteRefusal::Refused);
            }
        }
        for (_, rules) in self.keywords.matches(number) {
            let rules = rules.iter().filter(|rule| meant(rule));
            if let Some(way) = self.by_rules(rules, query, number, &mut trace) {
                return way;
            }
        }
        if let Some(owner) = self.short_codes.get(number) {
            trace.say(|| format!("{number} is a short code of account {owner:?}"));
            return Ok(Way::Esme(owner));
        }
        trace.say(|| format!("{number} is no account's short code"));
        let own = self.account_routes.get(query.account);
        for (_, rules) in own.into_iter().chain([&self.routes]).flat_map(|map| map.matches(number)) {
            if let Some(way) = self.by_rules(rules.iter(), query, number, &mut trace) {
                return way;
            }
        }
        match self.handset(number) {
            Some(range) => {
                trace.say(|| format!("no route fits; the handsets {}... cover it", range.prefix));
                Ok(Way::Handset)
            }
            None => Err(RouteRefusal::NotCovered),
        }
    }

    /// The decision of the routes with one prefix, if one of them fits.
    fn by_rules<'a>(
        &'a self,
        rules: impl Iterator<Item = &'a Rule>,
        query: &Query<'_>,
        number: &str,
        trace: &mut Trace<'_>,
    ) -> Option<Result<Way<'a>, RouteRefusal>> {
        let mut fitting = Vec::new();
        for rule in rules {
            let misfit = rule.misfit(query, number, &self.lists);
            trace.say(|| match misfit {
                None => format!("{} fits", described(&rule.route)),
                Some(misfit) => format!("{} does not fit: {misfit}", described(&rule.route)),
            });
            if misfit.is_none() {
                fitting.push(rule);
            }
        }
        share(&mut fitting, number);
        let first = *fitting.first()?;
        Some(match &first.target {
            Target::Refuse => Err(RouteRefusal::Refused),
            Target::Esme(system_id) if self.system_ids.contains(system_id) => Ok(Way::Esme(system_id)),
            Target::Esme(_) => Err(RouteRefusal::NoAccount),
            Target::Link(_) => {
                let covered = self.handset(number).is_some();
                fitting.retain(|rule| link_of(rule).is_some_and(|link| covered || &**link != LINK_HANDSET));
                if fitting.is_empty() { Err(RouteRefusal::NoHandset) } else { Ok(Way::Links(fitting)) }
            }
        })
    }
}

fn routed(way: &Way<'_>, number: &str) -> Routed {
    let (kind, key, link) = match way {
        Way::Esme(system_id) => (QueueKind::Esme, *system_id, LINK_ESME),
        Way::Handset => (QueueKind::Number, number, LINK_HANDSET),
        Way::Links(rules) => {
            let link = rules.first().and_then(|rule| link_of(rule)).map_or(LINK_HANDSET, |link| &**link);
            (QueueKind::Number, number, link)
        }
    };
    Routed { kind, key: key.to_owned(), link: link.to_owned() }
}

fn link_of(rule: &Rule) -> Option<&SmolStr> {
    match &rule.target {
        Target::Link(link) => Some(link),
        Target::Esme(_) | Target::Refuse => None,
    }
}

/// Puts the routes of each priority, which come sorted by it, in the order in which this number tries them: drawn by
/// weight. The same number always draws the same, so that the parts of a long message go one way.
fn share(rules: &mut [&Rule], number: &str) {
    let seed = number.bytes().fold(0u64, |seed, digit| scramble(seed ^ u64::from(digit)));
    for equals in rules.chunk_by_mut(|a, b| a.route.priority == b.route.priority) {
        for from in 0..equals.len().saturating_sub(1) {
            let total: u64 = equals[from..].iter().map(|rule| rule.weight()).sum();
            let mut drawn = scramble(seed ^ from as u64) % total.max(1);
            let mut at = from;
            while drawn >= equals[at].weight() {
                drawn -= equals[at].weight();
                at += 1;
            }
            equals[from..=at].rotate_right(1);
        }
    }
}

fn described(route: &Route) -> String {
    let name = if route.name.is_empty() { String::new() } else { format!(" {:?}", route.name) };
    let account = if route.account.is_empty() { String::new() } else { format!(" of account {:?}", route.account) };
    format!("route{name} {}...{account} to {}, priority {}", route.prefix, route.target, route.priority)
}

/// The digits without the plus sign that some write in front of an international number.
fn plain(digits: &str) -> &str {
    digits.strip_prefix('+').unwrap_or(digits)
}
