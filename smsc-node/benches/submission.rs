//! What it costs to make the submission that is stored of a submit_sm, and how many allocations it takes.
//!
//! `scripts/bench micro submission`.

// Of smsc-proto's benches.
#[path = "../../smsc-proto/benches/sample/mod.rs"]
mod sample;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use divan::{AllocProfiler, Bencher};
use smsc_node::delivery::route::{LINK_HANDSET, Query, RouteTable, Routed};
use smsc_node::smpp::ports::{Directory, Routes};
use smsc_node::smpp::submit::{Submitter, submission};
use smsc_proto::command::SequenceNumber;
use smsc_proto::pdu::{Body, Pdu, SubmitSm};
use smsc_proto::status::RefusalStatus;
use smsc_proto::time::WallTime;
use smsc_proto::types::InterfaceVersion;
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{Account, HandsetRange, Message, Settings, Submission};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

fn main() {
    divan::main();
}

/// The node's own route table, where nothing is ever deleted.
struct Table(RouteTable);

impl Routes for Table {
    fn route(&self, query: &Query<'_>) -> Result<Routed, RefusalStatus> {
        self.0.route(query).map_err(|refusal| refusal.status())
    }

    fn deletion_receipt(&self, _message: &Message, _at_ms: u64, _validity_s: u64) -> Option<Submission> {
        None
    }
}

fn directory() -> Directory {
    let account = Account { system_id: "esme1".into(), short_codes: vec!["1000".into()], ..Account::default() };
    let range = HandsetRange { prefix: "1555".into(), behaviour: Behaviour::Deliver as i32, ..HandsetRange::default() };
    let routes = RouteTable::build([&account], [], [&range]);
    Directory {
        accounts: HashMap::from([(account.system_id.clone(), Arc::new(account))]),
        lists: HashMap::new(),
        routes: Box::new(Table(routes)),
        settings: Settings::default(),
    }
}

/// As it comes out of the receive buffer.
fn submit_sm(octets: usize) -> SubmitSm {
    let submit = sample::submit_sm(octets);
    let mut buffer = BytesMut::new();
    Pdu::new(SequenceNumber::FIRST, Body::SubmitSm(submit)).encode(&mut buffer).expect("it fits");
    match Pdu::decode(buffer.freeze()).expect("just encoded").body {
        Body::SubmitSm(submit) => submit,
        other => panic!("not a submit_sm: {other:?}"),
    }
}

/// Checked, routed, stamped.
#[divan::bench(args = [20, 160, 2_000])]
fn of_submit_sm(bencher: Bencher, octets: usize) {
    let directory = directory();
    let submit = submit_sm(octets);
    let account = directory.accounts["esme1"].as_ref();
    let submitter = Submitter { account, version: InterfaceVersion::V3_4, session_id: 7 };
    let now = WallTime::from_millis(1_795_229_569_000);
    assert_eq!(submission(&submit, submitter, &directory, now).expect("good").link, LINK_HANDSET);
    bencher.bench_local(|| submission(&submit, submitter, &directory, now).expect("good"));
}
