//! An ESME that does one thing after the other: asks, waits for the answer, and takes what it is sent meanwhile.
//!
//! It blocks its thread; every wait has an end, so that a test fails instead of hanging.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smsc_proto::command::SequenceNumber;
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{
    AlertNotification, Bind, Body, DataSm, DataSmResp, DeliverSm, DeliverSmResp, EnquireLinkResp, Pdu,
};
use smsc_proto::status::CommandStatus;
use smsc_proto::types::{BindMode, InterfaceVersion, MessageId};

/// How long an answer may take: longer than a takeover.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a connection is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What a message centre delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// By deliver_sm.
    Deliver(DeliverSm),
    /// By data_sm.
    Data(DataSm),
    /// No message: an alert_notification.
    Alert(AlertNotification),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Esme {
    stream: TcpStream,
    input: BytesMut,
    framer: Framer,
    sequence: u32,
    delivered: VecDeque<Delivered>,
}

impl Esme {
    /// Connects and binds as a transceiver; tries again while nobody listens or the bind is refused, as when another node
    /// is taking over.
    ///
    /// # Panics
    /// After half a minute.
    pub fn bound(to: SocketAddr, system_id: &str, password: &str, version: InterfaceVersion) -> Esme {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tried = Esme::connect(to).and_then(|mut esme| esme.bind(system_id, password, version).map(|()| esme));
            match tried {
                Ok(esme) => return esme,
                Err(error) => assert!(Instant::now() < deadline, "no bind at {to}: {error}"),
            }
            std::thread::sleep(RETRY);
        }
    }

    fn connect(to: SocketAddr) -> std::io::Result<Esme> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        Ok(Esme::on(stream))
    }

    /// On a connection that is there, not bound.
    pub fn on(stream: TcpStream) -> Esme {
        Esme { stream, input: BytesMut::new(), framer: Framer::default(), sequence: 0, delivered: VecDeque::new() }
    }

    fn bind(&mut self, system_id: &str, password: &str, version: InterfaceVersion) -> std::io::Result<()> {
        match self.bind_as(BindMode::Transceiver, system_id, password, version)? {
            CommandStatus::ESME_ROK => Ok(()),
            status => Err(std::io::Error::other(format!("{status:?}"))),
        }
    }

    /// Asks to be bound and gives the answer's status.
    ///
    /// # Errors
    /// The connection ends, or no answer comes within half a minute.
    pub fn bind_as(
        &mut self,
        mode: BindMode,
        system_id: &str,
        password: &str,
        version: InterfaceVersion,
    ) -> std::io::Result<CommandStatus> {
        let bind = Bind {
            system_id: system_id.parse().expect("a short name"),
            password: password.parse().expect("a short password"),
            interface_version: version,
            ..Bind::default()
        };
        Ok(self.try_ask(Body::bind(mode, bind))?.status)
    }

    /// Sends octets as they are.
    ///
    /// # Panics
    /// The connection has ended.
    pub fn send_octets(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the connection lasts");
    }

    /// The next PDU, whatever it is; it is not answered.
    ///
    /// # Errors
    /// The connection ends, or none comes within half a minute.
    pub fn next_pdu(&mut self) -> std::io::Result<Pdu> {
        self.receive(Instant::now() + PATIENCE)
    }

    /// Asks and waits for the answer.
    ///
    /// # Panics
    /// The connection ends, or no answer comes within half a minute.
    pub fn ask(&mut self, body: Body) -> Pdu {
        self.try_ask(body).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    fn try_ask(&mut self, body: Body) -> std::io::Result<Pdu> {
        self.sequence += 1;
        let sequence = SequenceNumber(self.sequence);
        self.send(Pdu::new(sequence, body))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pdu = self.receive(deadline)?;
            if pdu.sequence == sequence && pdu.command_id().is_response() {
                return Ok(pdu);
            }
            self.take(pdu)?;
        }
    }

    /// The first message delivered, now or within half a minute, that `wanted` says is meant. Others are kept.
    ///
    /// # Panics
    /// None comes in time.
    pub fn await_delivered(&mut self, what: &str, wanted: impl Fn(&Delivered) -> bool) -> Delivered {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.delivered.iter().position(&wanted) {
                return self.delivered.remove(at).expect("it was found there");
            }
            let pdu = self.receive(deadline).unwrap_or_else(|error| panic!("{what} does not come: {error}"));
            self.take(pdu).expect("the connection lasts");
        }
    }

    /// Answers a request of the message centre.
    fn take(&mut self, pdu: Pdu) -> std::io::Result<()> {
        let message_id = Some(MessageId::default());
        let answer = match pdu.body {
            Body::DeliverSm(deliver) => {
                self.delivered.push_back(Delivered::Deliver(deliver));
                Body::DeliverSmResp(DeliverSmResp { message_id, ..DeliverSmResp::default() })
            }
            Body::DataSm(data) => {
                self.delivered.push_back(Delivered::Data(data));
                Body::DataSmResp(DataSmResp { message_id, ..DataSmResp::default() })
            }
            Body::EnquireLink(_) => Body::EnquireLinkResp(EnquireLinkResp::default()),
            Body::AlertNotification(alert) => {
                self.delivered.push_back(Delivered::Alert(alert));
                return Ok(());
            }
            // Answers to nothing are none of ours.
            _ => return Ok(()),
        };
        self.send(Pdu::new(pdu.sequence, answer))
    }

    fn send(&mut self, pdu: Pdu) -> std::io::Result<()> {
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets).expect("it fits on the wire");
        self.stream.write_all(&octets)
    }

    fn receive(&mut self, deadline: Instant) -> std::io::Result<Pdu> {
        let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        loop {
            if let Some(frame) = self.framer.next_frame(&mut self.input).map_err(|error| invalid(error.to_string()))? {
                return Pdu::decode(frame).map_err(|error| invalid(format!("{error:?}")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut octets = [0; 4_096];
            match self.stream.read(&mut octets)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&octets[..count]),
            }
        }
    }
}
