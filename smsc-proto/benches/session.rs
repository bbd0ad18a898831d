//! What a session's steps cost: octets of the stream in, the octets to be written out; and how many allocations.
//!
//! `scripts/bench micro session`. Reading and writing are those of a connection: room is made in the input before what
//! was read is put there, and what was written is taken from the front of the output.

mod sample;

use bytes::{Buf as _, BytesMut};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use smsc_proto::command::SequenceNumber;
use smsc_proto::pdu::{Bind, Body, DeliverSm, DeliverSmResp, EnquireLink, Pdu, SubmitSmResp};
use smsc_proto::session::{Event, Session, SessionConfig, Side, Ticket};
use smsc_proto::status::CommandStatus;
use smsc_proto::time::MonoTime;
use smsc_proto::types::{Address, BindMode, InterfaceVersion, MessageId, Npi, SystemId, Ton};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

/// Octets that a read makes room for while a connection is busy, and while it is not.
const READ_BUSY: usize = 64 * 1024;
const READ_IDLE: usize = 2 * 1024;
const TEXT: &[u8] = &[b'x'; 160];
const NOW: MonoTime = MonoTime::from_nanos(1_000_000_000);

fn main() {
    divan::main();
}

/// A bound session of a message centre.
struct Bound {
    session: Session,
    read_size: usize,
    taken: Vec<(Ticket, Body)>,
    id: MessageId,
}

impl Bound {
    fn new(version: InterfaceVersion) -> Self {
        let config = SessionConfig { window_incoming: 1_000, window_outgoing: 1_000, ..SessionConfig::default() };
        let mut session = Session::new(Side::MessageCentre, config, NOW);
        let system_id: SystemId = "esme1".parse().expect("short");
        let bind = Bind { system_id: system_id.clone(), interface_version: version, ..Bind::default() };
        session.handle_bytes(NOW, &wire(1, Body::bind(BindMode::Transceiver, bind)));
        assert!(matches!(session.poll_event(), Some(Event::BindRequested { .. })), "it is asked to be bound");
        session.bind_accept(NOW, system_id).expect("a bind waits");
        session.output().clear();
        Self {
            session,
            read_size: READ_BUSY,
            taken: Vec::new(),
            id: MessageId::new("1234567890123456789").expect("short"),
        }
    }

    fn read(&mut self, octets: &[u8]) {
        let input = self.session.input();
        input.reserve(self.read_size);
        input.extend_from_slice(octets);
        self.session.handle_input(NOW);
    }

    fn take(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Request { ticket, body } => self.taken.push((ticket, body)),
                Event::Answered { .. } => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Answers every submit_sm that was taken.
    fn answer(&mut self) {
        for (ticket, _) in self.taken.drain(..) {
            let resp = SubmitSmResp { message_id: Some(self.id.clone()), ..SubmitSmResp::default() };
            self.session.respond(ticket, CommandStatus::ESME_ROK, Body::SubmitSmResp(resp));
        }
    }

    /// A read of requests to the write of their answers.
    fn exchange(&mut self, octets: &[u8]) -> usize {
        self.read(octets);
        self.take();
        self.answer();
        self.write()
    }

    fn write(&mut self) -> usize {
        let count = self.session.output().len();
        self.session.output().advance(count);
        count
    }
}

fn wire(sequence: u32, body: Body) -> BytesMut {
    let mut octets = BytesMut::new();
    Pdu::new(SequenceNumber(sequence), body).encode(&mut octets).expect("it fits");
    octets
}

/// So many submit_sm, one behind the other.
fn submits(count: usize) -> BytesMut {
    let submit = sample::submit_sm(160);
    let mut octets = BytesMut::new();
    for sequence in 2..count + 2 {
        octets.unsplit(wire(u32::try_from(sequence).expect("few"), Body::SubmitSm(submit.clone())));
    }
    octets
}

/// So many submit_sm by one read, each kept until all are answered; their answers by one write.
#[divan::bench(args = [1, 50])]
fn submit_sm(bencher: Bencher, window: usize) {
    let mut bound = Bound::new(InterfaceVersion::V3_4);
    let octets = submits(window);
    bencher.counter(ItemsCount::new(window)).bench_local(|| bound.exchange(&octets));
}

/// The same in v5.0, whose answers tell how near to overload the message centre is.
#[divan::bench(args = [50])]
fn submit_sm_v5(bencher: Bencher, window: usize) {
    let mut bound = Bound::new(InterfaceVersion::V5_0);
    bound.session.set_congestion(Some(0));
    let octets = submits(window);
    bencher.counter(ItemsCount::new(window)).bench_local(|| bound.exchange(&octets));
}

/// So many submit_sm that come in pieces of one segment of TCP each.
#[divan::bench(args = [50])]
fn submit_sm_in_segments(bencher: Bencher, window: usize) {
    let mut bound = Bound::new(InterfaceVersion::V3_4);
    bound.read_size = READ_IDLE;
    let octets = submits(window);
    bencher.counter(ItemsCount::new(window)).bench_local(|| {
        for segment in octets.chunks(1_448) {
            bound.read(segment);
            bound.take();
        }
        bound.answer();
        bound.write()
    });
}

/// So many deliver_sm by one write, and their answers by one read.
#[divan::bench(args = [1, 50])]
fn deliver_sm(bencher: Bencher, window: u32) {
    let mut bound = Bound::new(InterfaceVersion::V3_4);
    let deliver = DeliverSm {
        source_addr: Address::international("15550001234").expect("short"),
        destination_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
        short_message: TEXT.into(),
        ..DeliverSm::default()
    };
    let mut sequence = 0;
    let mut answers = BytesMut::with_capacity(READ_BUSY);
    bencher.counter(ItemsCount::new(window)).bench_local(|| {
        answers.clear();
        for _ in 0..window {
            sequence += 1;
            bound.session.request(NOW, 7, Body::DeliverSm(deliver.clone())).expect("the window has room");
            let answer = Pdu::new(SequenceNumber(sequence), Body::DeliverSmResp(DeliverSmResp::default()));
            answer.encode(&mut answers).expect("it fits");
        }
        let count = bound.write();
        bound.read(&answers);
        bound.take();
        count
    });
}

#[divan::bench]
fn enquire_link(bencher: Bencher) {
    let mut bound = Bound::new(InterfaceVersion::V3_4);
    let octets = wire(2, Body::EnquireLink(EnquireLink::default()));
    bencher.bench_local(|| {
        bound.read(&octets);
        bound.take();
        bound.write()
    });
}
