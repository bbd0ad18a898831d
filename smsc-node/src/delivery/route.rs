//! From a destination to the queue that leads there.
//!
//! An account's short code, in full, comes first; then the operator's routes, those for the submitting account before
//! those for all, the longest prefix first; then the ranges of simulated handsets, the longest prefix first. What
//! nothing covers is refused. Every step is a few hash lookups, whatever the number of accounts and routes.

use std::collections::HashMap;
use std::sync::Arc;

use smsc_proto::status::RefusalStatus;
use smsc_raft::model::{Account, Address, HandsetRange, QueueKind, Route};

use super::receipt::Terms;

/// Name of the link to an account's receivers.
pub const LINK_ESME: &str = "esme";
/// Name of the link to the simulated handsets, and a route's target for it.
pub const LINK_HANDSET: &str = "handset";
/// What precedes the system_id in a route's target.
const TARGET_ESME: &str = "esme:";

/// Where a submission goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// What kind of queue.
    pub kind: QueueKind,
    /// The number's digits, or the account's system_id.
    pub key: String,
    /// Name of the link: [`LINK_ESME`] or [`LINK_HANDSET`].
    pub link: &'static str,
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
}

impl RouteRefusal {
    /// The command_status that the submission earns (SMPP v3.4 section 5.1.3).
    pub fn status(self) -> RefusalStatus {
        RefusalStatus::ESME_RINVDSTADR
    }
}

#[derive(Debug)]
enum Target {
    Handset,
    Esme(String),
}

/// Prefixes and what they lead to; finds the longest that begins a number.
#[derive(Debug)]
struct PrefixMap<T> {
    by_prefix: HashMap<String, T>,
    /// The lengths that occur, the longest first.
    lengths: Vec<usize>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::new(), lengths: Vec::new() }
    }
}

impl<T> PrefixMap<T> {
    fn insert(&mut self, prefix: &str, value: T) {
        if let Err(at) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
            self.lengths.insert(at, prefix.len());
        }
        self.by_prefix.insert(prefix.to_owned(), value);
    }

    fn longest(&self, number: &str) -> Option<&T> {
        self.lengths.iter().find_map(|length| self.by_prefix.get(number.get(..*length)?))
    }
}

/// Accounts, routes and handset ranges, made ready to be asked. Built anew when one of them changes.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Owner of each short code.
    short_codes: HashMap<String, String>,
    /// The system_ids that there are, so that a route to none of them is noticed.
    system_ids: std::collections::HashSet<String>,
    routes: PrefixMap<Target>,
    account_routes: HashMap<String, PrefixMap<Target>>,
    handsets: PrefixMap<Arc<HandsetRange>>,
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
                table.short_codes.insert(number_of(code).to_owned(), account.system_id.clone());
            }
        }
        for route in routes {
            let target = match route.target.strip_prefix(TARGET_ESME) {
                Some(system_id) => Target::Esme(system_id.to_owned()),
                None if route.target == LINK_HANDSET => Target::Handset,
                None => continue,
            };
            let map = match route.account.as_str() {
                "" => &mut table.routes,
                account => table.account_routes.entry(account.to_owned()).or_default(),
            };
            map.insert(number_of(&route.prefix), target);
        }
        for range in handsets {
            table.handsets.insert(number_of(&range.prefix), Arc::new(range.clone()));
        }
        table
    }

    /// Where a submission of `account` (empty for none, as with MO) to `destination` goes.
    ///
    /// # Errors
    /// [`RouteRefusal`]: the caller answers [`RouteRefusal::status`] and stores nothing.
    pub fn route(&self, account: &str, destination: &Address) -> Result<Routed, RouteRefusal> {
        let number = number_of(&destination.digits);
        if number.is_empty() {
            return Err(RouteRefusal::NoDestination);
        }
        if let Some(owner) = self.short_codes.get(number) {
            return Ok(esme(owner));
        }
        let own = self.account_routes.get(account).and_then(|routes| routes.longest(number));
        match own.or_else(|| self.routes.longest(number)) {
            Some(Target::Esme(system_id)) if self.system_ids.contains(system_id) => Ok(esme(system_id)),
            Some(Target::Esme(_)) => Err(RouteRefusal::NoAccount),
            Some(Target::Handset) if self.handset(number).is_none() => Err(RouteRefusal::NoHandset),
            None if self.handset(number).is_none() => Err(RouteRefusal::NotCovered),
            Some(Target::Handset) | None => {
                Ok(Routed { kind: QueueKind::Number, key: number.to_owned(), link: LINK_HANDSET })
            }
        }
    }

    /// How an account wants its receipts, with the operator's validity for them (seconds, 0 for the default).
    pub fn receipt_terms(&self, account: &str, validity_s: u64) -> Terms {
        Terms { validity_s, ..self.receipts.get(account).copied().unwrap_or_default() }
    }

    /// The range of simulated handsets that a number belongs to.
    pub fn handset(&self, number: &str) -> Option<&Arc<HandsetRange>> {
        self.handsets.longest(number_of(number))
    }
}

fn esme(system_id: &str) -> Routed {
    Routed { kind: QueueKind::Esme, key: system_id.to_owned(), link: LINK_ESME }
}

/// The digits without the plus sign that some write in front of an international number.
fn number_of(digits: &str) -> &str {
    digits.strip_prefix('+').unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to(digits: &str) -> Address {
        Address { ton: 1, npi: 1, digits: digits.to_owned() }
    }

    fn account(system_id: &str, codes: &[&str]) -> Account {
        let short_codes = codes.iter().map(|code| (*code).to_owned()).collect();
        Account { system_id: system_id.to_owned(), short_codes, ..Default::default() }
    }

    fn route(prefix: &str, target: &str, account: &str) -> Route {
        Route { prefix: prefix.to_owned(), target: target.to_owned(), account: account.to_owned() }
    }

    fn range(prefix: &str) -> HandsetRange {
        HandsetRange { prefix: prefix.to_owned(), ..Default::default() }
    }

    fn table() -> RouteTable {
        RouteTable::build(
            &[account("one", &["1000", "1001"]), account("two", &["2000"])],
            &[
                route("15", "esme:two", ""),
                route("155", "handset", ""),
                route("1", "esme:one", "one"),
                route("9", "esme:nobody", ""),
                route("8", "handset", ""),
            ],
            &[range("1555"), range("1")],
        )
    }

    #[track_caller]
    fn check(account: &str, digits: &str, expected: Result<(QueueKind, &str), RouteRefusal>) {
        let found = table().route(account, &to(digits));
        assert_eq!(found.as_ref().map(|routed| (routed.kind, routed.key.as_str())), expected.as_ref().map(|e| *e));
    }

    #[test]
    fn the_order_is_short_code_own_route_route_handset() {
        check("two", "1000", Ok((QueueKind::Esme, "one")));
        check("two", "1544", Ok((QueueKind::Esme, "two")));
        check("two", "15551", Ok((QueueKind::Number, "15551")));
        check("two", "+15551", Ok((QueueKind::Number, "15551")));
        check("one", "15551", Ok((QueueKind::Esme, "one")));
        check("two", "16", Ok((QueueKind::Number, "16")));
        check("two", "10001", Ok((QueueKind::Number, "10001")));
    }

    #[test]
    fn what_nothing_covers_is_refused() {
        check("two", "", Err(RouteRefusal::NoDestination));
        check("two", "3", Err(RouteRefusal::NotCovered));
        check("two", "91", Err(RouteRefusal::NoAccount));
        check("two", "81", Err(RouteRefusal::NoHandset));
        check("two", "\u{e9}", Err(RouteRefusal::NotCovered));
        assert_eq!(RouteRefusal::NotCovered.status(), RefusalStatus::ESME_RINVDSTADR);
    }

    proptest! {
        /// The lookup by length finds what a walk over all prefixes finds.
        #[test]
        fn the_longest_prefix_wins(prefixes in prop::collection::hash_set("[0-2]{0,4}", 0..20), number in "[0-2]{1,6}") {
            let mut map = PrefixMap::default();
            for prefix in &prefixes {
                map.insert(prefix, prefix.clone());
            }
            let walked = prefixes.iter().filter(|prefix| number.starts_with(*prefix)).max_by_key(|prefix| prefix.len());
            prop_assert_eq!(map.longest(&number), walked);
        }
    }
}
