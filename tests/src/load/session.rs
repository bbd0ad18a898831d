//! One session of the generator: connect, bind, keep the window full, account for every answer, connect again.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smsc_proto::command::{CommandId, Header, SequenceNumber};
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{Bind, Body, DeliverSmResp, EnquireLinkResp, Pdu, SubmitSmResp, Unbind, UnbindResp};
use smsc_proto::status::CommandStatus;
use smsc_proto::types::{MessageId, Password, SystemId};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::load::LoadError;
use crate::load::in_flight::{InFlight, Sent};
use crate::load::journal::{Event, Journal};
use crate::load::ledger::Ledger;
use crate::load::notice::{self, Notice};
use crate::load::options::LoadOptions;
use crate::load::supply::Supply;
use crate::load::template::{RunTag, SubmitTemplate};

/// How far the run is; every session follows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Submit.
    Sending,
    /// Submit nothing more, answer what comes.
    Settling,
    /// Unbind and end.
    Closing,
}

/// What all sessions of a run share. One thread, so that nothing is locked.
#[derive(Debug)]
pub struct Shared {
    /// What was asked for.
    pub options: LoadOptions,
    /// The tag of this run.
    pub run: RunTag,
    /// The message.
    pub template: SubmitTemplate,
    /// The account.
    pub ledger: RefCell<Ledger>,
    /// What may be sent.
    pub supply: RefCell<Supply>,
    /// The journal, if one is kept.
    pub journal: RefCell<Option<Journal>>,
    /// How far the run is.
    pub phase: Cell<Phase>,
    /// Submissions without an answer, of all sessions.
    pub in_flight: Cell<usize>,
    /// Why the run cannot go on.
    pub failed: RefCell<Option<LoadError>>,
}

impl Shared {
    /// Writes to the journal, if there is one; a failure ends the run.
    pub fn note(&self, at: Instant, session: usize, event: impl FnOnce() -> Event) {
        let mut journal = self.journal.borrow_mut();
        let Some(journal) = journal.as_mut() else {
            return;
        };
        if let Err(error) = journal.append(at, session, &event()) {
            self.fail(error);
        }
    }

    /// Ends the run; the first reason counts.
    pub fn fail(&self, error: LoadError) {
        self.failed.borrow_mut().get_or_insert(error);
    }
}

/// Sessions look at the phase and at their timers at least this often.
const TICK: Duration = Duration::from_millis(20);
/// With a rate, messages become due between answers.
const TICK_PACED: Duration = Duration::from_millis(1);
/// After a refusal a session submits nothing for this long, so that a server that refuses is not also flooded.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);
/// What unbinding may take before the connection is just closed.
const UNBIND_TIMEOUT: Duration = Duration::from_secs(1);
const READ_OCTETS: usize = 64 * 1024;

/// How a connection ended.
enum End {
    /// The run is over.
    Closed,
    /// It was lost, or the bind failed.
    Lost(String),
    /// The bind was refused by this status.
    BindRefused(CommandStatus),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Lost(error.to_string())
    }
}

/// Runs session `index` until the run is over or has failed.
pub async fn run(shared: &Shared, index: usize) {
    let mut bound_before = false;
    while shared.phase.get() < Phase::Closing && shared.failed.borrow().is_none() {
        let (end, bound) = match connect(shared).await {
            Ok(stream) => {
                let mut connection = Connection::new(shared, index, stream);
                let Err(end) = connection.serve().await;
                connection.abandon();
                (end, connection.bound)
            }
            Err(error) => (End::from(error), false),
        };
        bound_before |= bound;
        let (reason, hopeless) = match end {
            End::Closed => return,
            End::Lost(reason) => (reason, false),
            End::BindRefused(status) => {
                let wrong_account = matches!(status, CommandStatus::ESME_RINVPASWD | CommandStatus::ESME_RINVSYSID);
                let reason = format!("bind refused: {status}");
                (reason, wrong_account && !bound_before)
            }
        };
        if bound {
            shared.ledger.borrow_mut().disconnects += 1;
        } else {
            shared.ledger.borrow_mut().connects_failed += 1;
        }
        shared.note(Instant::now(), index, || {
            Event::Connection(if bound { format!("lost: {reason}") } else { format!("not connected: {reason}") })
        });
        if hopeless || !shared.options.reconnect {
            shared.fail(LoadError::Session { session: index, reason });
            return;
        }
        if !bound {
            sleep(shared.options.retry_interval()).await;
        }
    }
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(shared.options.target);
    let stream = timeout(shared.options.connect_timeout(), connecting)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Connection<'a> {
    shared: &'a Shared,
    index: usize,
    stream: TcpStream,
    framer: Framer,
    inbox: BytesMut,
    outbox: BytesMut,
    in_flight: InFlight,
    bound: bool,
    bind_sent: Instant,
    unbind_sent: Option<Instant>,
    paused_until: Instant,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, index: usize, stream: TcpStream) -> Self {
        let now = Instant::now();
        Connection {
            shared,
            index,
            stream,
            framer: Framer::default(),
            inbox: BytesMut::with_capacity(READ_OCTETS),
            outbox: BytesMut::with_capacity(READ_OCTETS),
            in_flight: InFlight::default(),
            bound: false,
            bind_sent: now,
            unbind_sent: None,
            paused_until: now,
        }
    }

    /// Serves the connection to its end.
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        self.send_bind()?;
        let paced = self.shared.supply.borrow().is_paced();
        let mut ticks = interval(if paced { TICK_PACED } else { TICK });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            self.fill(now);
            self.flush()?;
            let mut interest = Interest::READABLE;
            if !self.outbox.is_empty() {
                interest |= Interest::WRITABLE;
            }
            tokio::select! {
                ready = self.stream.ready(interest) => {
                    if ready?.is_readable() {
                        self.read()?;
                    }
                }
                _ = ticks.tick() => self.check_timers(Instant::now())?,
            }
        }
    }

    fn send_bind(&mut self) -> Result<(), End> {
        let options = &self.shared.options;
        let fits = |error: smsc_proto::error::ValueError| End::Lost(error.to_string());
        let bind = Bind {
            system_id: SystemId::new(options.system_id.clone()).map_err(fits)?,
            password: Password::new(options.password.clone()).map_err(fits)?,
            ..Bind::default()
        };
        self.request(Body::bind(options.bind.into(), bind));
        Ok(())
    }

    /// Submits as much as window and supply allow.
    fn fill(&mut self, now: Instant) {
        if !self.bound || now < self.paused_until {
            return;
        }
        match self.shared.phase.get() {
            Phase::Sending => {}
            Phase::Settling => return,
            Phase::Closing => {
                if self.unbind_sent.is_none() {
                    self.unbind_sent = Some(now);
                    self.request(Body::Unbind(Unbind::default()));
                }
                return;
            }
        }
        let mut supply = self.shared.supply.borrow_mut();
        let mut ledger = self.shared.ledger.borrow_mut();
        while self.in_flight.len() < self.shared.options.window {
            let Some((number, due)) = supply.take(now) else {
                break;
            };
            let sent = Sent { number, due, at: now };
            let Some(sequence) = self.in_flight.push(sent) else {
                supply.replace_one();
                break;
            };
            self.shared.in_flight.set(self.shared.in_flight.get() + 1);
            ledger.sent(now);
            self.shared.template.append(&mut self.outbox, sequence, number);
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(written) => {
                    let _ = self.outbox.split_to(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        // Nothing refers to the octets any more: start again at the front of the buffer.
        self.outbox.clear();
        self.outbox.reserve(READ_OCTETS);
        Ok(())
    }

    fn read(&mut self) -> Result<(), End> {
        self.inbox.reserve(READ_OCTETS);
        match self.stream.try_read_buf(&mut self.inbox) {
            Ok(0) => return Err(End::Lost("closed by the SMS centre".into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        while let Some(frame) = self
            .framer
            .next_frame(&mut self.inbox)
            .map_err(|error| End::Lost(format!("what came is no PDU: {error}")))?
        {
            self.handle(frame, now)?;
        }
        Ok(())
    }

    fn handle(&mut self, frame: Bytes, now: Instant) -> Result<(), End> {
        let header = Header::decode(&frame).map_err(|error| End::Lost(format!("what came is no PDU: {error}")))?;
        match header.command_id {
            CommandId::SUBMIT_SM_RESP => self.submit_answered(&header, frame, now),
            CommandId::GENERIC_NACK if self.in_flight.contains(header.sequence_number) => {
                self.submit_answered(&header, frame, now)
            }
            _ => self.other(frame, now),
        }
    }

    fn submit_answered(&mut self, header: &Header, frame: Bytes, now: Instant) -> Result<(), End> {
        let Some(sent) = self.in_flight.take(header.sequence_number) else {
            self.shared.ledger.borrow_mut().violation(format!(
                "session {}: an answer to sequence_number {}, which was answered or never sent",
                self.index, header.sequence_number
            ));
            return Ok(());
        };
        self.shared.in_flight.set(self.shared.in_flight.get() - 1);
        let number = sent.number;
        let mut ledger = self.shared.ledger.borrow_mut();
        if !header.command_status.is_ok() {
            let status = header.command_status;
            ledger.refused(status);
            self.paused_until = now + REFUSED_PAUSE;
            self.shared.note(now, self.index, || Event::Refused { number, status: status.to_string() });
            return Ok(());
        }
        let id = match Pdu::decode(frame).map(|pdu| pdu.body) {
            Ok(Body::SubmitSmResp(SubmitSmResp { message_id: Some(id), .. })) => id,
            Ok(_) => MessageId::default(),
            Err(error) => return Err(End::Lost(format!("a broken answer: {error}"))),
        };
        match notice::decimal_id(&id) {
            Some(id) => {
                ledger.acked(id, sent, now);
                self.shared.note(now, self.index, || Event::Ack { number, id });
            }
            None => ledger.violation(format!(
                "message {number} was acknowledged under the id {id:?}, which is no decimal number"
            )),
        }
        Ok(())
    }

    fn other(&mut self, frame: Bytes, now: Instant) -> Result<(), End> {
        let pdu = Pdu::decode(frame).map_err(|error| End::Lost(format!("a PDU that cannot be read: {error}")))?;
        let sequence = pdu.sequence;
        match pdu.body {
            Body::DeliverSm(deliver) => {
                match notice::read(&deliver, self.shared.run) {
                    Ok(notice) => self.noticed(notice, now),
                    Err(sentence) => self.shared.ledger.borrow_mut().violation(sentence),
                }
                let resp = DeliverSmResp { message_id: Some(MessageId::default()), ..DeliverSmResp::default() };
                self.answer(sequence, Body::DeliverSmResp(resp));
            }
            Body::EnquireLink(_) => {
                self.answer(sequence, Body::EnquireLinkResp(EnquireLinkResp::default()));
            }
            Body::Unbind(_) => {
                self.answer(sequence, Body::UnbindResp(UnbindResp::default()));
                self.flush()?;
                return Err(End::Lost("unbound by the SMS centre".into()));
            }
            Body::UnbindResp(_) if self.unbind_sent.is_some() => return Err(End::Closed),
            body if body.as_bind_resp().is_some() => {
                if !pdu.status.is_ok() {
                    return Err(End::BindRefused(pdu.status));
                }
                self.bound = true;
                self.shared.ledger.borrow_mut().binds += 1;
                self.shared.note(now, self.index, || Event::Connection("bound".into()));
            }
            body => self.shared.ledger.borrow_mut().violation(format!(
                "session {}: {} with sequence_number {sequence} and {} came unasked",
                self.index,
                body.command_id(),
                pdu.status
            )),
        }
        Ok(())
    }

    fn noticed(&mut self, notice: Notice, now: Instant) {
        let mut ledger = self.shared.ledger.borrow_mut();
        match notice {
            Notice::Final { id, number, state } => {
                ledger.reported(id, number, state, now);
                self.shared.note(now, self.index, || Event::Receipt { id, stat: state.receipt_name().to_owned() });
            }
            Notice::Intermediate => ledger.notifications += 1,
            Notice::Foreign => ledger.receipts_foreign += 1,
            Notice::Message => ledger.messages_received += 1,
        }
    }

    fn check_timers(&mut self, now: Instant) -> Result<(), End> {
        let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) > limit;
        let limit = self.shared.options.response_timeout();
        let closing = self.shared.phase.get() == Phase::Closing;
        if closing && !self.bound {
            return Err(End::Closed);
        }
        if self.unbind_sent.is_some_and(|since| over(since, UNBIND_TIMEOUT)) {
            return Err(End::Closed);
        }
        if !self.bound && over(self.bind_sent, limit) {
            return Err(End::Lost(format!("no answer to the bind for {limit:?}")));
        }
        if self.in_flight.oldest().is_some_and(|sent| over(sent.at, limit)) {
            return Err(End::Lost(format!("no answer to a submit_sm for {limit:?}")));
        }
        Ok(())
    }

    /// What has no answer now never gets one.
    fn abandon(&mut self) {
        let now = Instant::now();
        let lost = self.in_flight.len();
        self.shared.in_flight.set(self.shared.in_flight.get() - lost);
        let mut ledger = self.shared.ledger.borrow_mut();
        let mut supply = self.shared.supply.borrow_mut();
        for sent in self.in_flight.drain() {
            ledger.unknown(sent.number);
            supply.replace_one();
            self.shared.note(now, self.index, || Event::Unknown { number: sent.number });
        }
    }

    fn request(&mut self, body: Body) {
        // Numbers run out only while answers are outstanding; bind and unbind then wait for nothing.
        let sequence = self.in_flight.reserve().unwrap_or(SequenceNumber::LAST);
        self.answer(sequence, body);
    }

    fn answer(&mut self, sequence: SequenceNumber, body: Body) {
        Pdu::new(sequence, body).encode(&mut self.outbox).expect("neither lists nor texts in these PDUs");
    }
}
