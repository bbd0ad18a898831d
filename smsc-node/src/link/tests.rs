//! Links over real connections on loopback: a store of one node, the delivery engine, and a scripted message centre.

mod operations;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use smsc_proto::pdu::{Body, DeliverSm, Pdu, SubmitSm, SubmitSmResp};
use smsc_proto::session::{Event, Session, SessionConfig, Side, Ticket};
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::text::{Part, join};
use smsc_proto::types::{Address, BindMode, EsmClass, MessageId, Npi, Ton};
use smsc_raft::consensus::types::Member;
use smsc_raft::model::command::Op;
use smsc_raft::model::link::{IdBase, Mode};
use smsc_raft::model::{self, Account, AccountPut, FinalRecord, LinkPut, QueueKind, Submission, Submit};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::StoreConfig;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::cdr::files::FilesConfig;
use crate::cdr::{CdrStatus, CdrWriter};
use crate::delivery::driver::{Delivery, DeliveryParts};
use crate::delivery::route::RouteTable;
use crate::fixture::store_config;

const SOON: Duration = Duration::from_secs(30);

/// A message centre of one node that leads.
struct Centre {
    store: Store,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    dir: TempDir,
}

/// What works while it leads.
struct Serving {
    links: Links,
    events: mpsc::UnboundedSender<LinkEvent>,
    delivery: Delivery,
}

impl Serving {
    async fn stop(self) {
        self.links.stop(Duration::ZERO).await;
        self.delivery.stop().await;
    }
}

impl Centre {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let addr: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let config = StoreConfig { checkpoint_interval: Duration::from_secs(1), ..store_config(dir.path(), addr) };
        let store = Store::open(config).await.expect("opened");
        let member = Member { addr: addr.to_string(), name: "a".to_owned(), witness: false };
        store.initialize(BTreeMap::from([(1, member)])).await.expect("formed");
        let mut watched = store.leadership();
        let leads = tokio::time::timeout(SOON, watched.wait_for(Option::is_some)).await;
        let leadership = leads.expect("in time").expect("open").clone().expect("leads");
        let account =
            Account { system_id: "one".to_owned(), short_codes: vec!["1000".to_owned()], ..Default::default() };
        store.propose(Op::AccountPut(AccountPut { account: Some(account) })).await.expect("stored");
        Self { store, leadership, metrics: Arc::default(), dir }
    }

    fn serve(&self) -> Serving {
        let store = self.store.clone();
        let table: TableSource = Arc::new(move || {
            let built = store.read(|machine| {
                let table = RouteTable::build(machine.accounts(), machine.routes(), machine.handsets());
                Ok(table.with_plan(machine.settings().number_plan.clone()))
            });
            Arc::new(built.expect("in memory"))
        });
        let (events, link_events) = mpsc::unbounded_channel();
        let links = Links::start(LinkParts {
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            table: table.clone(),
            metrics: self.metrics.clone(),
            events: events.clone(),
        });
        let delivery = Delivery::start(DeliveryParts {
            pace: Arc::default(),
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            metrics: self.metrics.clone(),
            table,
            ends: Arc::default(),
            links: links.clone(),
            link_events,
        });
        Serving { links, events, delivery }
    }

    /// A link named c1 to `peer`, quick to reconnect.
    async fn link(&self, peer: &Peer, change: impl FnOnce(&mut Link)) {
        let mut link = Link {
            name: "c1".to_owned(),
            addresses: vec![peer.address.clone()],
            system_id: "us".to_owned(),
            password: "secret".to_owned(),
            reconnect_min_ms: 50,
            reconnect_max_ms: 200,
            response_s: 20,
            ..Default::default()
        };
        change(&mut link);
        self.store.propose(Op::LinkPut(LinkPut { link: Some(link) })).await.expect("stored");
    }

    /// Stores a message for the link; its id.
    async fn submit(&self, to: &str, change: impl FnOnce(&mut Submission)) -> u64 {
        let address = |digits: &str| Some(model::Address { ton: 1, npi: 1, digits: digits.to_owned() });
        let mut submission = Submission {
            account: "one".to_owned(),
            source: address("1000"),
            destination: address(to),
            short_message: Bytes::from_static(b"hello"),
            registered_delivery: 1,
            queue_kind: QueueKind::Number as i32,
            link: "c1".to_owned(),
            expires_at_ms: SystemClock.wall().as_millis() + 3_600_000,
            ..Default::default()
        };
        change(&mut submission);
        match self.store.propose(Op::Submit(Submit { submission: Some(submission) })).await.expect("stored") {
            Outcome::Stored(id) => id,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// Waits for a message's final state.
    async fn ended(&self, id: u64) -> FinalRecord {
        let look = async {
            loop {
                if let Some(record) = self.store.read(|machine| machine.final_record(id)).expect("read") {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, look).await.unwrap_or_else(|_| panic!("message {id} has no final state"))
    }

    /// Waits until another message centre has the message.
    async fn handed_over(&self, id: u64) {
        let look = async {
            while self.store.read(|machine| machine.message(id)).expect("read").is_none_or(|m| m.handed.is_none()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, look).await.unwrap_or_else(|_| panic!("message {id} was not handed over"));
    }
}

/// The scripted message centre.
struct Peer {
    listener: TcpListener,
    address: String,
}

/// A bind of ours at the peer.
struct Bound {
    mode: BindMode,
    asked: mpsc::UnboundedSender<Ask>,
    events: mpsc::UnboundedReceiver<Event>,
}

enum Ask {
    Answer(Ticket, CommandStatus, Box<Body>),
    Refuse(Ticket, RefusalStatus),
    Deliver(u64, Box<DeliverSm>),
    Notify(Box<Body>),
    /// Ends the connection without a word.
    Drop,
}

impl Peer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        Self { listener, address }
    }

    /// The next bind, accepted.
    async fn bound(&self) -> Bound {
        let (stream, _) = tokio::time::timeout(SOON, self.listener.accept()).await.expect("in time").expect("accepted");
        let (asked, received) = mpsc::unbounded_channel();
        let (tell, mut events) = mpsc::unbounded_channel();
        tokio::spawn(carry(stream, received, tell));
        let Some(Event::BindRequested { mode, bind }) = events.recv().await else { panic!("no bind") };
        assert_eq!((bind.system_id.as_str(), bind.password.as_bytes()), (Some("us"), &b"secret"[..]));
        Bound { mode, asked, events }
    }
}

/// One connection of the peer; accepts its bind.
async fn carry(mut stream: TcpStream, mut asked: mpsc::UnboundedReceiver<Ask>, tell: mpsc::UnboundedSender<Event>) {
    let mut session = Session::new(Side::MessageCentre, SessionConfig::default(), SystemClock.mono());
    loop {
        let mut closed = false;
        while let Some(event) = session.poll_event() {
            let now = SystemClock.mono();
            if matches!(event, Event::BindRequested { .. }) {
                session.bind_accept(now, "PEER".parse().expect("short")).expect("binding");
            }
            closed |= matches!(event, Event::Closed { .. });
            // The test may have seen enough.
            let _ = tell.send(event);
        }
        let output = session.output().split();
        if stream.write_all(&output).await.is_err() || closed {
            return;
        }
        let mut octets = [0; 4096];
        tokio::select! {
            read = stream.read(&mut octets) => match read {
                Ok(count) if count > 0 => session.handle_bytes(SystemClock.mono(), &octets[..count]),
                _ => session.handle_disconnect(),
            },
            ask = asked.recv() => match ask {
                Some(Ask::Answer(ticket, status, body)) => session.respond(ticket, status, *body),
                Some(Ask::Refuse(ticket, status)) => session.refuse(ticket, status),
                Some(Ask::Deliver(token, deliver)) => {
                    session.request(SystemClock.mono(), token, Body::DeliverSm(*deliver)).expect("bound");
                }
                Some(Ask::Notify(body)) => session.notify(*body).expect("bound"),
                Some(Ask::Drop) | None => return,
            },
        }
    }
}

impl Bound {
    async fn event(&mut self) -> Event {
        tokio::time::timeout(SOON, self.events.recv()).await.expect("in time").expect("bound")
    }

    async fn submit(&mut self) -> (Ticket, SubmitSm) {
        loop {
            if let Event::Request { ticket, body: Body::SubmitSm(submit) } = self.event().await {
                return (ticket, submit);
            }
        }
    }

    fn ask(&self, ask: Ask) {
        self.asked.send(ask).expect("bound");
    }

    fn accept(&self, ticket: Ticket, message_id: &str) {
        let message_id = Some(MessageId::new(message_id.to_owned()).expect("short"));
        let resp = Body::SubmitSmResp(SubmitSmResp { message_id, ..Default::default() });
        self.ask(Ask::Answer(ticket, CommandStatus::ESME_ROK, Box::new(resp)));
    }

    fn receipt(&self, token: u64, from: &str, message_id: &str, stat: &str) {
        let text = format!(
            "id:{message_id} sub:001 dlvrd:001 submit date:2611210252 done date:2611210253 stat:{stat} err:000 text:x"
        );
        let deliver = DeliverSm {
            source_addr: Address::international(from.to_owned()).expect("short"),
            destination_addr: Address::international("1000").expect("short"),
            esm_class: EsmClass::DELIVERY_RECEIPT,
            short_message: text.into(),
            ..Default::default()
        };
        self.ask(Ask::Deliver(token, Box::new(deliver)));
    }

    /// Waits for the answer to what was delivered under this token.
    async fn answered(&mut self, token: u64) -> Pdu {
        loop {
            match self.event().await {
                Event::Answered { token: answered, answer } if answered == token => return *answer,
                Event::Lost { token: lost } if lost == token => panic!("{token} was not answered"),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_ends_the_message_whatever_base_its_id_is_written_in() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    // Response in hexadecimal, receipt in decimal, with and without leading zeros, and the other way round.
    for (token, (to, response, receipt, stat)) in [
        ("4915112345671", "00001A2B", "6699", "DELIVRD"),
        ("4915112345672", "6700", "0000001A2C", "UNDELIV"),
        ("4915112345673", "abc-Def", "abc-Def", "EXPIRED"),
        ("4915112345674", "77", "77", "REJECTD"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = centre.submit(to, |_| ()).await;
        let (ticket, submit) = bound.submit().await;
        assert_eq!(submit.destination_addr.addr.as_ref(), to.as_bytes());
        assert_eq!(submit.registered_delivery.0, 1);
        bound.accept(ticket, response);
        centre.handed_over(id).await;
        bound.receipt(token as u64, to, receipt, stat);
        let record = centre.ended(id).await;
        assert_eq!(bound.answered(token as u64).await.status, CommandStatus::ESME_ROK);
        let state = match stat {
            "DELIVRD" => MessageState::Delivered,
            "UNDELIV" => MessageState::Undeliverable,
            "EXPIRED" => MessageState::Expired,
            _ => MessageState::Rejected,
        };
        assert_eq!((record.state(), record.attempts), (state, 1), "{stat}");
        assert_eq!((record.link.as_str(), record.link_message_id.as_str()), ("c1", response));
        assert_ne!(record.receipt_id, 0);
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_before_its_response_waits_for_it() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre
        .link(&peer, |link| (link.response_ids, link.receipt_ids) = (IdBase::Hex as i32, IdBase::Decimal as i32))
        .await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let id = centre.submit("15551", |_| ()).await;
    let (ticket, _) = bound.submit().await;
    bound.receipt(1, "15551", "255", "DELIVRD");
    // Long enough for the receipt to be looked for in vain several times.
    tokio::time::sleep(Duration::from_millis(300)).await;
    bound.accept(ticket, "FF");
    assert_eq!(centre.ended(id).await.state(), MessageState::Delivered);
    assert_eq!(bound.answered(1).await.status, CommandStatus::ESME_ROK);
    // One for no message of ours is acknowledged in the end, or it would come for ever.
    bound.receipt(2, "15551", "99999", "DELIVRD");
    assert_eq!(bound.answered(2).await.status, CommandStatus::ESME_ROK);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_next_finds_the_message_of_a_receipt() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |link| link.mode = Mode::Pair as i32).await;
    let serving = centre.serve();
    let mut binds = [peer.bound().await, peer.bound().await];
    binds.sort_by_key(|bound| bound.mode);
    assert_eq!([binds[0].mode, binds[1].mode], [BindMode::Transmitter, BindMode::Receiver]);
    let id = centre.submit("15551", |_| ()).await;
    let (ticket, _) = binds[0].submit().await;
    binds[0].accept(ticket, "a1");
    centre.handed_over(id).await;
    serving.stop().await;

    let serving = centre.serve();
    let mut binds = [peer.bound().await, peer.bound().await];
    binds.sort_by_key(|bound| bound.mode);
    binds[1].receipt(1, "15551", "A1", "DELIVRD");
    assert_eq!(centre.ended(id).await.state(), MessageState::Delivered);
    assert_eq!(binds[1].answered(1).await.status, CommandStatus::ESME_ROK);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_drops_is_bound_again_and_nothing_is_lost() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |link| link.window = 2).await;
    let settings = model::Settings { retry_delays_ms: vec![100], ..Default::default() };
    let put = Op::SettingsPut(model::SettingsPut { settings: Some(settings) });
    centre.store.propose(put).await.expect("stored");
    let serving = centre.serve();
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(centre.submit(&format!("1555{number}"), |_| ()).await);
    }
    // Twice it ends with submissions unanswered.
    for _ in 0..2 {
        let mut bound = peer.bound().await;
        drop(bound.submit().await);
        bound.ask(Ask::Drop);
    }
    let mut bound = peer.bound().await;
    let answering = tokio::spawn(async move {
        for number in 0.. {
            let (ticket, submit) = bound.submit().await;
            bound.accept(ticket, &format!("n{number}"));
            let to = String::from_utf8_lossy(submit.destination_addr.addr.as_ref()).into_owned();
            bound.receipt(number, &to, &format!("n{number}"), "DELIVRD");
        }
    });
    for id in ids {
        assert_eq!(centre.ended(id).await.state(), MessageState::Delivered);
    }
    answering.abort();
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_ended_before_its_word_of_it_came_holds_nothing_up() {
    let centre = Centre::start().await;
    let serving = centre.serve();
    // There is none: as if it had ended, and delivery had not heard of that.
    serving.events.send(LinkEvent::Up { link: "c1".to_owned(), window: 5, rate_per_s: 0 }).expect("delivery runs");
    let id = centre.submit("15551", |_| ()).await;
    let put_off = async {
        loop {
            let message = centre.store.read(|machine| machine.message(id)).expect("read").expect("it waits");
            if let [attempt, ..] = &message.attempt_log[..] {
                return (attempt.class(), message.attempts);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(SOON, put_off).await.expect("it is put off");
    assert_eq!(found, (model::ErrorClass::LinkDown, 0));
    assert!(serving.delivery.settle(SOON).await);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_for_the_message_whose_number_fits() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    // Responses in hexadecimal, receipts in decimal: 0x16 is 22, and 0x22 is another message's.
    let mut ids = Vec::new();
    for (to, response) in [("4915112345671", "16"), ("4915112345672", "22")] {
        let id = centre.submit(to, |_| ()).await;
        let (ticket, _) = bound.submit().await;
        bound.accept(ticket, response);
        centre.handed_over(id).await;
        ids.push(id);
    }
    bound.receipt(1, "4915112345671", "22", "UNDELIV");
    assert_eq!(centre.ended(ids[0]).await.state(), MessageState::Undeliverable);
    bound.receipt(2, "4915112345672", "34", "DELIVRD");
    assert_eq!(centre.ended(ids[1]).await.state(), MessageState::Delivered);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_slows_the_link_and_costs_no_message() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let id = centre.submit("15551", |_| ()).await;
    for status in [RefusalStatus::ESME_RTHROTTLED, RefusalStatus::ESME_RMSGQFUL] {
        let (ticket, _) = bound.submit().await;
        bound.ask(Ask::Refuse(ticket, status));
    }
    let (ticket, _) = bound.submit().await;
    bound.accept(ticket, "1");
    bound.receipt(1, "15551", "1", "DELIVRD");
    let record = centre.ended(id).await;
    assert_eq!((record.state(), record.attempts), (MessageState::Delivered, 1));
    let shown = async {
        while centre.metrics.links.rows().first().is_none_or(|row| row.counts.throttled < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, shown).await.expect("counted");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_ends_the_message() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let id = centre.submit("15551", |_| ()).await;
    let (ticket, _) = bound.submit().await;
    bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RINVDSTADR));
    let record = centre.ended(id).await;
    assert_eq!((record.state(), record.error), (MessageState::Undeliverable, 8 << 16 | 0x0b));
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_ends_when_all_of_its_segments_have() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let text: Bytes = (0..400u32).map(|index| b'a' + (index % 26) as u8).collect::<Vec<_>>().into();
    for (round, stats, state) in [
        (0u64, ["DELIVRD", "DELIVRD", "DELIVRD"], MessageState::Delivered),
        (1, ["DELIVRD", "UNDELIV", "DELIVRD"], MessageState::Undeliverable),
    ] {
        let to = format!("1555{round}");
        let id = centre.submit(&to, |submission| submission.short_message = text.clone()).await;
        let mut parts = Vec::new();
        for part in 0..3 {
            let (ticket, submit) = bound.submit().await;
            parts.push(Part::from_user_data(&submit.short_message).expect("a part"));
            bound.accept(ticket, &format!("r{round}p{part}"));
        }
        assert_eq!(join(&parts).expect("whole"), text);
        centre.handed_over(id).await;
        // In another order than they were sent in, and one of them twice.
        for part in [2usize, 0, 2, 1] {
            let token = round * 10 + part as u64;
            bound.receipt(token, &to, &format!("r{round}p{part}"), stats[part]);
            assert_eq!(bound.answered(token).await.status, CommandStatus::ESME_ROK);
        }
        let record = centre.ended(id).await;
        assert_eq!((record.state(), record.segments), (state, 3));
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_receipt_ends_in_the_configured_state() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre
        .link(&peer, |link| {
            link.receipt_grace_s = 1;
            link.unreported = MessageState::Accepted as i32;
        })
        .await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let soon = SystemClock.wall().as_millis() + 4_000;
    let id = centre.submit("15551", |submission| submission.expires_at_ms = soon).await;
    let (ticket, _) = bound.submit().await;
    bound.accept(ticket, "1");
    centre.handed_over(id).await;
    // The number's next message does not wait for it.
    let next = centre.submit("15551", |_| ()).await;
    let (ticket, _) = bound.submit().await;
    bound.accept(ticket, "2");
    centre.handed_over(next).await;
    let record = centre.ended(id).await;
    assert_eq!(record.state(), MessageState::Accepted);
    assert!(record.final_at_ms >= soon + 1_000, "{} {soon}", record.final_at_ms);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_s_message_is_acknowledged_once_it_is_stored() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    for (token, to, status) in [(1, "1000", CommandStatus::ESME_ROK), (2, "4711", CommandStatus::ESME_RX_P_APPN)] {
        let before = centre.store.read(|machine| Ok(machine.waiting_count())).expect("read");
        let deliver = DeliverSm {
            source_addr: Address::international("4915112345678").expect("short"),
            destination_addr: Address::international(to).expect("short"),
            short_message: Bytes::from_static(b"good morning"),
            ..Default::default()
        };
        bound.ask(Ask::Deliver(token, Box::new(deliver)));
        assert_eq!(bound.answered(token).await.status, status);
        let waiting = centre.store.read(|machine| Ok(machine.waiting_count())).expect("read");
        assert_eq!(waiting - before, u64::from(status == CommandStatus::ESME_ROK));
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_final_state_has_one_record_whatever_the_writer_missed() {
    let centre = Centre::start().await;
    let config = FilesConfig {
        dir: centre.dir.path().join("cdr"),
        cluster: "test".to_owned(),
        rotate_bytes: 4_000,
        rotate_after: Duration::from_secs(3_600),
        keep_files: 0,
    };
    let status = Arc::new(CdrStatus::default());
    let end = async |count: usize| {
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = centre.submit("15551", |_| ()).await;
            let finish = model::Finish { id, state: MessageState::Deleted as i32, ..Default::default() };
            centre.store.propose(Op::Finish(finish)).await.expect("stored");
            ids.push(id);
        }
        ids
    };
    // Written as they come, missed between two runs, and written again: each once, in order.
    let mut ids = Vec::new();
    for missed in [0, 25, 3] {
        ids.extend(if ids.is_empty() { Vec::new() } else { end(missed).await });
        let writer = CdrWriter::start(centre.store.clone(), config.clone(), status.clone()).expect("a thread");
        if ids.is_empty() {
            // The first record is the next one: the files must be there before.
            let made = async {
                while !config.dir.exists() || std::fs::read_dir(&config.dir).expect("there").count() == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(SOON, made).await.expect("files");
        }
        ids.extend(end(20).await);
        tokio::task::spawn_blocking(move || writer.stop()).await.expect("ended");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&config.dir).expect("there").map(|entry| entry.expect("there").path()).collect();
    names.sort();
    let text: String = names.iter().map(|name| std::fs::read_to_string(name).expect("text")).collect();
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: Vec<u64> =
        records.iter().map(|record| record["id"].as_str().expect("text").parse().expect("id")).collect();
    assert_eq!(found, ids);
    let numbers: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().expect("number")).collect();
    assert_eq!(numbers, (1..=ids.len() as u64).collect::<Vec<_>>());
    assert_eq!(status.warning(), None);
}
