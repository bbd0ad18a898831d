//! What a number list of a million entries costs: its import, its memory, and the routing of one message.
//!
//! `cargo run --release -p smsc-node --example bench_routes`

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use smsc_node::delivery::route::list::NumberSet;
use smsc_node::delivery::route::{Query, RouteTable, Text};
use smsc_raft::model::{Address, HandsetRange, Route};

const NUMBERS: u64 = 1_000_000;
const ROUNDS: u64 = 1_000_000;

fn main() {
    // Every 97th of a block of numbers, as ports are scattered.
    let numbers: Vec<String> = (0..NUMBERS).map(|n| format!("4917{:09}", n * 97)).collect();
    let begun = Instant::now();
    let set = NumberSet::of(numbers.iter().map(String::as_str)).expect("digits");
    println!("sorted in {:?}", begun.elapsed());
    let begun = Instant::now();
    let chunks = set.chunks("ported", 1);
    let bytes: usize = chunks.iter().map(|chunk| chunk.numbers.len()).sum();
    println!("{} commands, {bytes} octets, in {:?}", chunks.len(), begun.elapsed());
    let begun = Instant::now();
    let set = Arc::new(NumberSet::of_chunks(&chunks).expect("just written"));
    println!("read from the log's chunks in {:?}, {} octets in memory", begun.elapsed(), set.len() * 8);

    let route = |list: &str| Route {
        prefix: "49".to_owned(),
        name: list.to_owned(),
        target: "link:x".to_owned(),
        list: list.to_owned(),
        ..Default::default()
    };
    let range = HandsetRange { prefix: "49".to_owned(), ..Default::default() };
    let without = RouteTable::build([], &[route("")], [&range]);
    let lists = HashMap::from([("ported".to_owned(), set)]);
    let with = RouteTable::build([], &[route("ported"), route("")], [&range]).with_lists(lists);
    for (what, table) in [("one route", &without), ("with a list of a million", &with)] {
        let begun = Instant::now();
        for n in 0..ROUNDS {
            let digits = format!("4917{:09}", n * 89);
            let destination = Address { ton: 1, npi: 1, digits };
            let text = Text::default();
            let query =
                Query { account: "a", source: "1", destination: &destination, service_type: "", text, now_ms: n };
            let _ = black_box(table.route(&query));
        }
        println!("{what}: {:.0} ns per message", begun.elapsed().as_nanos() as f64 / ROUNDS as f64);
    }
}
