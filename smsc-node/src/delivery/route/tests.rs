//! Routes, each kind by itself and against each other.

use smsc_raft::model::{Rewrite, Submission, TimeWindow};

use super::*;

/// Wednesday, 25 November 2026, 21:30 UTC.
const NOW_MS: u64 = 1_795_642_200_000;

fn to(digits: &str) -> Address {
    Address { ton: 1, npi: 1, digits: digits.to_owned() }
}

fn ask<'a>(account: &'a str, destination: &'a Address) -> Query<'a> {
    Query { account, source: "1000", destination, service_type: "", text: Text::default(), now_ms: NOW_MS }
}

fn account(system_id: &str, codes: &[&str]) -> Account {
    let short_codes = codes.iter().map(|code| (*code).to_owned()).collect();
    Account { system_id: system_id.to_owned(), short_codes, ..Default::default() }
}

fn route(prefix: &str, target: &str, account: &str) -> Route {
    Route { prefix: prefix.to_owned(), target: target.to_owned(), account: account.to_owned(), ..Default::default() }
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
    let found = table().route(&ask(account, &to(digits)));
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

/// A link, and what is said of its route: priority, weight, and the rest.
type Said<'a> = (&'a str, u32, u32, fn(&mut Route));

/// Routes of prefix 49 to links, with this said of each.
fn links_to(routes: &[Said<'_>]) -> RouteTable {
    let made = routes.iter().map(|(link, priority, weight, change)| {
        let mut made = route("49", &format!("link:{link}"), "");
        (made.name, made.priority, made.weight) = ((*link).to_owned(), *priority, *weight);
        change(&mut made);
        made
    });
    RouteTable::build([], &made.collect::<Vec<_>>(), [])
}

fn links_of(table: &RouteTable, digits: &str, change: impl FnOnce(&mut Submission)) -> Vec<String> {
    let mut submission = Submission { destination: Some(to(digits)), link: "stored".to_owned(), ..Default::default() };
    change(&mut submission);
    let message = Message { submission: Some(submission), ..Default::default() };
    table.links(&message, NOW_MS).iter().map(ToString::to_string).collect()
}

#[test]
fn priority_first_the_rest_is_fallback() {
    let table = links_to(&[("c", 2, 0, |_| {}), ("a", 0, 0, |_| {}), ("b", 1, 0, |_| {})]);
    assert_eq!(links_of(&table, "491", |_| {}), ["a", "b", "c"]);
    assert_eq!(table.route(&ask("", &to("491"))).unwrap().link, "a");
    assert_eq!(links_of(&table, "331", |_| {}), ["stored"]);
}

#[test]
fn equals_share_by_weight() {
    let table = links_to(&[("a", 0, 3, |_| {}), ("b", 0, 1, |_| {})]);
    let first = (0..4_000).filter(|n| links_of(&table, &format!("49{n}"), |_| {})[0] == "a").count();
    assert!((2_850..=3_150).contains(&first), "{first} of 4000 by a, whose share is 3000");
    assert_eq!(links_of(&table, "4917", |_| {}).len(), 2);
}

#[test]
fn conditions_leave_routes_out() {
    let table = links_to(&[
        ("source", 0, 0, |r| r.source = "44".to_owned()),
        ("service", 1, 0, |r| r.service_type = "VMA".to_owned()),
        ("hours", 2, 0, |r| r.window = Some(TimeWindow { from_minute: 0, to_minute: 60, ..Default::default() })),
        ("pattern", 3, 0, |r| r.pattern = "^4915[0-9]{3}$".to_owned()),
        ("all", 4, 0, |_| {}),
    ]);
    assert_eq!(links_of(&table, "4917", |_| {}), ["all"]);
    assert_eq!(links_of(&table, "4915123", |_| {}), ["pattern", "all"]);
    assert_eq!(links_of(&table, "4917", |s| s.service_type = "VMA".to_owned()), ["service", "all"]);
    assert_eq!(links_of(&table, "4917", |s| s.source = Some(to("441"))), ["source", "all"]);
}

#[test]
fn a_list_names_the_ported_and_a_blacklist_goes_before_all() {
    let set = |numbers: &[&str]| Arc::new(NumberSet::of(numbers.iter().copied()).unwrap());
    let lists = HashMap::from([("ported".to_owned(), set(&["4917"])), ("black".to_owned(), set(&["4918", "1000"]))]);
    let mut ported = route("49", "link:other", "");
    (ported.name, ported.list) = ("ported".to_owned(), "ported".to_owned());
    let plain = Route { priority: 1, ..route("49", "link:home", "") };
    let black = Route { list: "black".to_owned(), ..route("", "refuse", "") };
    let table = RouteTable::build(&[account("one", &["1000"])], &[ported, plain, black], []).with_lists(lists);
    let link = |digits: &str| table.route(&ask("", &to(digits))).map(|routed| routed.link);
    assert_eq!(link("4917"), Ok("other".to_owned()));
    assert_eq!(link("4916"), Ok("home".to_owned()));
    assert_eq!(link("4918"), Err(RouteRefusal::Refused));
    assert_eq!(link("1000"), Err(RouteRefusal::Refused));
}

#[test]
fn a_keyword_takes_its_part_of_a_shared_code() {
    let keyword = Route { keyword: "join".to_owned(), ..route("1000", "esme:two", "") };
    let table = RouteTable::build(&[account("one", &["1000"]), account("two", &[])], &[keyword], []);
    let owner = |text: &str| {
        let destination = to("1000");
        let query = Query { text: Text { octets: text.as_bytes(), ..Text::default() }, ..ask("", &destination) };
        table.route(&query).unwrap().key
    };
    assert_eq!((owner("Join us").as_str(), owner("leave").as_str()), ("two", "one"));
}

#[test]
fn numbers_are_brought_to_one_form_and_written_as_the_link_wants() {
    let plan = NumberPlan {
        country_code: "49".to_owned(),
        national_prefix: "0".to_owned(),
        international_prefix: "00".to_owned(),
    };
    let table = links_to(&[("a", 0, 0, |r| {
        r.rewrite = Some(Rewrite { strip: 2, prepend: "0".to_owned(), with_type: true, ton: 2, npi: 1 });
    })])
    .with_plan(Some(plan));
    let national = Address { ton: 0, npi: 1, digits: "017155".to_owned() };
    let explanation = table.explain(&ask("", &national));
    assert_eq!(explanation.number, "4917155");
    assert_eq!(explanation.decision.unwrap().key, "4917155");
    let (link, address) = &explanation.links[0];
    assert_eq!((&**link, address.digits.as_str(), address.ton), ("a", "017155", 2));
    let submission = Submission { destination: Some(national), queue_key: "4917155".to_owned(), ..Default::default() };
    let message = Message { submission: Some(submission), ..Default::default() };
    assert_eq!(&table.towards("a", &message, NOW_MS), address);
}

#[test]
fn an_explanation_says_why_each_route_was_left_out() {
    let table = links_to(&[("night", 0, 0, |r| {
        r.window = Some(TimeWindow { from_minute: 0, to_minute: 60, ..Default::default() });
    })]);
    let explanation = table.explain(&ask("", &to("4917")));
    assert_eq!(explanation.decision, Err(RouteRefusal::NotCovered));
    assert!(explanation.steps.iter().any(|step| step.contains("outside the route's hours")), "{explanation:?}");
}
