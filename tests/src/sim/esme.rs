//! An ESME: the other side of the session, with moods. It submits, takes messages and receipts, is slow, refuses, leaves
//! without a word, and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use smsc_proto::pdu::{Bind, Body, DeliverSm, DeliverSmResp, SubmitSm};
use smsc_proto::receipt::ParsedReceipt;
use smsc_proto::session::{Event, Session, SessionConfig, Side, State, Ticket};
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, BindMode, EsmClass, MessageType, Npi, PriorityFlag, RegisteredDelivery, TimeString, Ton,
};

use super::net::{Arrived, ConnectionId, End};
use super::operator::{ACCOUNTS, WINDOW};
use super::serving::timer_ms;
use super::world::World;
use crate::invariant::Seen;
use crate::oracle::{self, Answer};

/// Numbers that are submitted to; the last one is nobody's.
const NUMBERS: [&str; 12] =
    ["15550", "15551", "15552", "15553", "16660", "16661", "17770", "17771", "17772", "1000", "2000", "19990"];

/// How an ESME treats what it gets, until it connects again.
#[derive(Clone, Copy, Debug)]
struct Mood {
    answers_after_ms: u64,
    /// One delivery in so many; 0 for none.
    refuses_for_now: u64,
    refuses_for_good: u64,
    keeps_silent: u64,
    submits_every_ms: u64,
}

impl Mood {
    const GOOD: Mood =
        Mood { answers_after_ms: 2, refuses_for_now: 0, refuses_for_good: 0, keeps_silent: 0, submits_every_ms: 0 };

    fn of(world: &mut World) -> Self {
        if world.calm {
            return Self::GOOD;
        }
        let chance = &mut world.chance;
        let slow_ms = [0, 5, 60, 400][chance.index(4)];
        Mood {
            answers_after_ms: slow_ms,
            refuses_for_now: [0, 3, 10][chance.index(3)],
            refuses_for_good: [0, 0, 12][chance.index(3)],
            keeps_silent: [0, 0, 20][chance.index(3)],
            submits_every_ms: [15, 60, 150][chance.index(3)],
        }
    }
}

#[derive(Debug)]
struct Connected {
    id: ConnectionId,
    session: Session,
    /// The submission of each request on its way.
    asked: BTreeMap<u64, usize>,
    next_token: u64,
    answers: BTreeMap<(u64, u64), (Ticket, Reply)>,
    gave_up: u64,
    leaves_ms: u64,
    submits_ms: u64,
    ended: bool,
}

#[derive(Debug)]
enum Reply {
    Take(Box<DeliverSm>),
    Refuse(RefusalStatus),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Esme {
    account: usize,
    mode: BindMode,
    mood: Mood,
    connected: Option<Connected>,
    connect_ms: u64,
}

impl Esme {
    /// An ESME of one of the [`ACCOUNTS`].
    pub fn new(account: usize, mode: BindMode) -> Self {
        Self { account, mode, mood: Mood::GOOD, connected: None, connect_ms: 0 }
    }

    /// Its connection.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connected.as_ref().map(|connected| connected.id)
    }

    /// Whether it wants to connect.
    pub fn wants_connection(&self, now_ms: u64) -> bool {
        self.connected.is_none() && self.connect_ms <= now_ms
    }

    /// Whether it is bound, and nothing it asked is open.
    pub fn is_quiet(&self) -> bool {
        let quiet = |connected: &Connected| {
            connected.asked.is_empty()
                && connected.answers.is_empty()
                && matches!(connected.session.state(), State::Bound(_))
        };
        self.connected.as_ref().is_some_and(quiet)
    }

    /// When it does something next.
    pub fn next_ms(&self, world: &World) -> u64 {
        let Some(connected) = &self.connected else { return self.connect_ms };
        let mut next = world.net.arrives_ms(connected.id, End::Esme).unwrap_or(u64::MAX);
        next = next.min(timer_ms(connected.session.poll_timeout())).min(connected.leaves_ms);
        next = next.min(connected.answers.first_key_value().map_or(u64::MAX, |row| row.0.0));
        if self.submits(world) { next.min(connected.submits_ms) } else { next }
    }

    fn submits(&self, world: &World) -> bool {
        !world.calm
            && self.mode.can_submit()
            && self.connected.as_ref().is_some_and(|connected| {
                matches!(connected.session.state(), State::Bound(_)) && connected.session.outgoing_room() > 0
            })
    }

    /// Nobody listens.
    pub fn try_later(&mut self, world: &mut World) {
        self.connect_ms = world.now_ms() + world.chance.between(5, 80);
    }

    /// It is connected and asks to be bound.
    pub fn connect(&mut self, world: &mut World, id: ConnectionId) {
        let now = world.clock.mono();
        let now_ms = world.now_ms();
        let config = SessionConfig {
            window_outgoing: WINDOW as usize,
            window_incoming: 1_000,
            enquire_link: Some(Duration::from_millis(2_500)),
            response: Duration::from_secs(5),
            ..SessionConfig::default()
        };
        let mut session = Session::new(Side::Esme, config, now);
        let system_id = ACCOUNTS[self.account].0.parse().expect("a short name");
        let bind = Bind { system_id, interface_version: smsc_proto::types::InterfaceVersion::V3_4, ..Bind::default() };
        if let Err(error) = session.bind(now, self.mode, bind) {
            world.fail(format!("an open session does not bind: {error}"));
        }
        self.mood = Mood::of(world);
        let leaves_ms = if world.calm { u64::MAX } else { now_ms + world.chance.between(100, 6_000) };
        self.connected = Some(Connected {
            id,
            session,
            asked: BTreeMap::new(),
            next_token: 0,
            answers: BTreeMap::new(),
            gave_up: 0,
            leaves_ms,
            submits_ms: now_ms,
            ended: false,
        });
    }

    /// The world is calm from now on.
    pub fn calm_down(&mut self) {
        self.mood = Mood::GOOD;
        if let Some(connected) = &mut self.connected {
            connected.leaves_ms = u64::MAX;
        }
    }

    /// Does everything that can be done now.
    pub fn step(&mut self, world: &mut World) {
        let Some(mut connected) = self.connected.take() else { return };
        let (now, now_ms) = (world.clock.mono(), world.now_ms());
        while let Some(arrived) = world.net.read(now_ms, connected.id, End::Esme) {
            match arrived {
                Arrived::Octets(octets) => connected.session.handle_bytes(now, &octets),
                Arrived::Closed => {
                    connected.session.handle_disconnect();
                    break;
                }
            }
        }
        connected.session.handle_timeout(now);
        self.events(world, &mut connected);
        connected.answer(world);
        if connected.leaves_ms <= now_ms {
            connected.leaves_ms = u64::MAX;
            match world.chance.index(3) {
                0 => connected.session.unbind(now),
                1 => connected.session.close(),
                _ => {
                    world.net.cut(now_ms, connected.id, &mut world.chance);
                    connected.session.handle_disconnect();
                }
            }
        }
        self.connected = Some(connected);
        self.submit(world);
        let Some(mut connected) = self.connected.take() else { return };
        self.events(world, &mut connected);
        world.net.write(now_ms, connected.id, End::Esme, connected.session.output(), &mut world.chance);
        if connected.ended {
            world.net.close(now_ms, connected.id, End::Esme);
            let answers_unexpected = connected.session.counts().unexpected_answers;
            world.see(&Seen::SessionEnded { answers_unexpected, answers_late: connected.gave_up });
            self.connect_ms = now_ms + world.chance.between(1, 150);
        } else {
            self.connected = Some(connected);
        }
    }

    fn events(&mut self, world: &mut World, connected: &mut Connected) {
        while let Some(event) = connected.session.poll_event() {
            match event {
                Event::Bound { .. } => connected.submits_ms = world.now_ms(),
                Event::BindRefused { .. } => connected.session.close(),
                Event::Answered { token, answer } => {
                    let Some(tag) = connected.asked.remove(&token) else { continue };
                    let id = match answer.body {
                        Body::SubmitSmResp(resp) => resp.message_id,
                        _ => None,
                    };
                    let id = id.and_then(|id| id.as_str()?.parse().ok());
                    let answer = match (answer.status, id) {
                        (CommandStatus::ESME_ROK, Some(id)) => Answer::Acked(id),
                        (CommandStatus::ESME_ROK, None) => {
                            world.fail(format!("submission {tag} is accepted without an id"));
                            Answer::Unknown
                        }
                        _ => Answer::Refused,
                    };
                    world.tell(|| format!("submission {tag} is {answer:?}"));
                    world.answer(tag, answer);
                }
                Event::Lost { token } => {
                    connected.gave_up += 1;
                    if let Some(tag) = connected.asked.remove(&token) {
                        world.answer(tag, Answer::Unknown);
                    }
                }
                Event::Request { ticket, body: Body::DeliverSm(deliver) } => {
                    self.take(world, connected, ticket, deliver);
                }
                Event::Request { ticket, .. } => connected.session.refuse(ticket, RefusalStatus::ESME_RINVCMDID),
                Event::Unbinding | Event::Outbind(_) | Event::Alert(_) | Event::BindRequested { .. } => {}
                Event::Closed { .. } => connected.ended = true,
            }
        }
    }

    fn take(&mut self, world: &mut World, connected: &mut Connected, ticket: Ticket, deliver: DeliverSm) {
        let now_ms = world.now_ms();
        let chance = &mut world.chance;
        let mut turns = |one_in: u64| one_in > 0 && chance.one_in(one_in);
        let reply = if turns(self.mood.refuses_for_now) {
            Reply::Refuse(RefusalStatus::ESME_RX_T_APPN)
        } else if deliver.esm_class.message_type() == MessageType::Default && turns(self.mood.refuses_for_good) {
            // A receipt that is refused for good is gone for good: that is the ESME's will, and told apart nowhere.
            Reply::Refuse(RefusalStatus::ESME_RX_R_APPN)
        } else if turns(self.mood.keeps_silent) {
            return;
        } else {
            Reply::Take(Box::new(deliver))
        };
        let at_ms = now_ms + chance.between(0, self.mood.answers_after_ms);
        connected.next_token += 1;
        connected.answers.insert((at_ms, connected.next_token), (ticket, reply));
    }

    fn submit(&mut self, world: &mut World) {
        let now_ms = world.now_ms();
        while self.submits(world) {
            let Some(connected) = self.connected.as_mut().filter(|connected| connected.submits_ms <= now_ms) else {
                return;
            };
            connected.submits_ms = now_ms + world.chance.between(0, 2 * self.mood.submits_every_ms);
            let registered = u8::try_from([0, 1, 1, 2, 3][world.chance.index(5)]).expect("two bits");
            let (system_id, code) = ACCOUNTS[self.account];
            let tag = world.oracle.ask(system_id, registered);
            let body = message(world, tag, code, registered);
            connected.next_token += 1;
            let token = connected.next_token;
            match connected.session.request(world.clock.mono(), token, Body::SubmitSm(body)) {
                Ok(()) => drop(connected.asked.insert(token, tag)),
                Err(error) => world.fail(format!("submission {tag} cannot be sent: {error}")),
            }
        }
    }
}

impl Connected {
    fn answer(&mut self, world: &mut World) {
        while let Some(first) = self.answers.first_entry() {
            if first.key().0 > world.now_ms() {
                return;
            }
            match first.remove() {
                (ticket, Reply::Refuse(status)) => self.session.refuse(ticket, status),
                (ticket, Reply::Take(deliver)) => {
                    if self.session.state() != State::Closed {
                        took(world, &deliver);
                    }
                    let resp = Body::DeliverSmResp(DeliverSmResp::default());
                    self.session.respond(ticket, CommandStatus::ESME_ROK, resp);
                }
            }
        }
    }
}

fn took(world: &mut World, deliver: &DeliverSm) {
    if deliver.esm_class.message_type() != MessageType::DeliveryReceipt {
        return;
    }
    let parsed = ParsedReceipt::parse(&deliver.short_message).ok().and_then(|receipt| receipt.id);
    match parsed.and_then(|id| id.parse().ok()) {
        Some(id) => world.oracle.receipt(id),
        None => world.fail(format!("a receipt without an id: {:?}", deliver.short_message)),
    }
}

fn message(world: &mut World, tag: usize, code: &str, registered: u8) -> SubmitSm {
    let chance = &mut world.chance;
    let number = NUMBERS[chance.index(NUMBERS.len())];
    let time = |seconds: u64| -> TimeString { format!("0000000000{seconds:02}000R").parse().expect("16 characters") };
    let schedule = if chance.one_in(12) { time(chance.between(1, 3)) } else { TimeString::default() };
    let validity = if chance.one_in(6) { time(chance.between(4, 9)) } else { TimeString::default() };
    SubmitSm {
        source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, code.to_owned()).expect("a short number"),
        destination_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, number.to_owned()).expect("a short number"),
        priority_flag: PriorityFlag(u8::try_from(chance.between(0, 2)).expect("a small number")),
        esm_class: EsmClass::default(),
        registered_delivery: RegisteredDelivery(registered),
        schedule_delivery_time: schedule,
        validity_period: validity,
        short_message: oracle::text(tag),
        tlvs: set_dpf(tag),
        ..SubmitSm::default()
    }
}

/// Some submissions ask for an alert.
fn set_dpf(tag: usize) -> Tlvs {
    let mut tlvs = Tlvs::new();
    if tag.is_multiple_of(3) {
        tlvs.push_u8(Tag::SET_DPF, 1);
    }
    tlvs
}
