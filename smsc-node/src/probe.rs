//! An ESME that watches: it submits one message at a time as fast as it is answered, and measures how long it goes
//! without an answer when a node dies, freezes or hands over.
//!
//! It behaves as an ESME that wants its messages through: on any failure it connects again at once, and again every few
//! milliseconds, until a submission is acknowledged.
//!
//! ```no_run
//! # async fn example() {
//! use smsc_node::probe::{self, ProbeEvent, ProbeOptions};
//!
//! let options = ProbeOptions::new("127.0.0.100:2775".parse().expect("an address"), "esme1", "secret1");
//! let stop = tokio::time::sleep(std::time::Duration::from_secs(10));
//! let summary = probe::run(&options, stop, |event| {
//!     if let ProbeEvent::Outage(outage) = event {
//!         println!("{} ms", outage.duration.as_millis());
//!     }
//! })
//! .await;
//! # }
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use smsc_proto::command::{CommandId, SequenceNumber};
use smsc_proto::error::{DecodeError, EncodeError, FrameError, ValueError};
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{Bind, Body, DeliverSm, Pdu, SubmitSm, Unbind};
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::types::{Address, BindMode, MessageType, Npi, Password, RegisteredDelivery, SystemId, Ton};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// What the probe submits, where, and how patient it is.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// The SMS centre: the floating IP and its port.
    pub target: SocketAddr,
    /// Account to bind as, at most 15 octets.
    pub system_id: String,
    /// Its password, at most 8 octets.
    pub password: String,
    /// Source address of the messages, at most 20 octets; empty for the account's own.
    pub source: String,
    /// Their destination, international, at most 20 digits.
    pub destination: String,
    /// Their text, at most 254 octets.
    pub text: String,
    /// Bind as a transceiver, ask for a receipt of every message and report those that come.
    pub receipts: bool,
    /// How long connecting may take before the next attempt.
    pub connect_timeout: Duration,
    /// How long the bind or a submission may go without an answer before the connection counts as dead.
    pub response_timeout: Duration,
    /// From one failed attempt to the next.
    pub retry_interval: Duration,
}

impl ProbeOptions {
    /// Submits to a simulated handset; connects within 50 ms, answered within 250 ms, tries every 5 ms.
    pub fn new(target: SocketAddr, system_id: impl Into<String>, password: impl Into<String>) -> Self {
        ProbeOptions {
            target,
            system_id: system_id.into(),
            password: password.into(),
            source: String::new(),
            destination: "15550000000".into(),
            text: "probe".into(),
            receipts: false,
            connect_timeout: Duration::from_millis(50),
            response_timeout: Duration::from_millis(250),
            retry_interval: Duration::from_millis(5),
        }
    }
}

/// Why a connection was given up, or could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The kernel or the network said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing was heard in time.
    #[error("{what} not answered within {limit:?}")]
    Silence {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The SMS centre ended the session or closed the connection.
    #[error("{0}")]
    Ended(&'static str),
    /// A request was refused.
    #[error("{command} refused: {status}")]
    Refused {
        /// Which one.
        command: CommandId,
        /// With what.
        status: RefusalStatus,
    },
    /// What came is not SMPP.
    #[error("what came is no PDU: {0}")]
    Frame(#[from] FrameError),
    /// A PDU could not be read.
    #[error("a PDU that cannot be read: {0}")]
    Pdu(#[from] DecodeError),
}

/// The probe's options cannot be put into PDUs.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Account or address.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Text.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A time without service, as an ESME saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// When the last acknowledgement before it came.
    pub last_ack_at: SystemTime,
    /// From there to the first acknowledgement after it.
    pub duration: Duration,
    /// From there to when the probe noticed: the connection broke, was refused or went silent.
    pub noticed_after: Duration,
    /// From there to the answer to the bind on the connection that served again.
    pub bound_after: Duration,
    /// What it noticed first.
    pub cause: String,
    /// Attempts to connect, the last of which succeeded.
    pub connects: u32,
}

/// What the probe reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEvent {
    /// The first submission was acknowledged: from now on outages are measured.
    Ready,
    /// A submission was acknowledged.
    Acked {
        /// From sent to answered.
        latency: Duration,
        /// The message's id, if it is a decimal number as ours are.
        id: Option<u64>,
    },
    /// A receipt for this message came.
    Receipt {
        /// The message's id.
        id: u64,
    },
    /// An attempt failed; reported for every one.
    Failed(String),
    /// Service is back.
    Outage(Outage),
}

/// What the probe saw from start to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeSummary {
    /// Submissions acknowledged.
    pub acked: u64,
    /// Submissions that never got an answer.
    pub unknown: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Outages that ended.
    pub outages: u64,
    /// The longest of them.
    pub longest_outage: Duration,
    /// The longest time between two acknowledgements, outages included.
    pub longest_gap: Duration,
    /// The service was not back when the probe was stopped: for how long.
    pub down_since: Option<Duration>,
}

/// Probes until `stop` completes.
///
/// `on_event` is called at once for everything that happens, on the way to the next submission: it must be quick.
///
/// # Errors
/// [`ProbeError`] if the options do not fit the PDUs; nothing was sent then.
pub async fn run(
    options: &ProbeOptions,
    stop: impl Future<Output = ()>,
    on_event: impl FnMut(ProbeEvent),
) -> Result<ProbeSummary, ProbeError> {
    let mut probe = Probe {
        options,
        requests: Requests::new(options)?,
        on_event,
        summary: ProbeSummary::default(),
        last_ack: None,
        failing: None,
    };
    tokio::select! {
        never = probe.serve() => match never {},
        () = stop => {}
    }
    if let Some((last_ack, _)) = probe.last_ack.filter(|_| probe.failing.is_some()) {
        probe.summary.down_since = Some(last_ack.elapsed());
    }
    Ok(probe.summary)
}

/// The PDUs the probe sends, but for their sequence numbers.
struct Requests {
    bind: Pdu,
    submit: BytesMut,
}

impl Requests {
    fn new(options: &ProbeOptions) -> Result<Self, ProbeError> {
        let bind = Bind {
            system_id: SystemId::new(options.system_id.clone())?,
            password: Password::new(options.password.clone())?,
            ..Bind::default()
        };
        let submit = SubmitSm {
            source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, options.source.clone())?,
            destination_addr: Address::international(options.destination.clone())?,
            short_message: options.text.clone().into(),
            registered_delivery: if options.receipts { RegisteredDelivery::RECEIPT } else { RegisteredDelivery::NONE },
            ..SubmitSm::default()
        };
        let mut octets = BytesMut::new();
        Pdu::new(SequenceNumber::FIRST, Body::SubmitSm(submit)).encode(&mut octets)?;
        let mode = if options.receipts { BindMode::Transceiver } else { BindMode::Transmitter };
        Ok(Requests { bind: Pdu::new(SequenceNumber::FIRST, Body::bind(mode, bind)), submit: octets })
    }
}

/// From the first failure to the next acknowledgement.
struct Failing {
    noticed: Instant,
    /// The last successful bind since.
    bound: Option<Instant>,
    cause: String,
    connects: u32,
}

struct Probe<'a, F> {
    options: &'a ProbeOptions,
    requests: Requests,
    on_event: F,
    summary: ProbeSummary,
    last_ack: Option<(Instant, SystemTime)>,
    failing: Option<Failing>,
}

impl<F: FnMut(ProbeEvent)> Probe<'_, F> {
    async fn serve(&mut self) -> std::convert::Infallible {
        loop {
            if let Some(failing) = &mut self.failing {
                failing.connects += 1;
            }
            let acked_before = self.summary.acked;
            let Err(failure) = self.connection().await;
            let cause = failure.to_string();
            (self.on_event)(ProbeEvent::Failed(cause.clone()));
            self.failing.get_or_insert_with(|| Failing { noticed: Instant::now(), bound: None, cause, connects: 0 });
            // A connection that worked is replaced at once; one that did not is no reason to hurry.
            if self.summary.acked == acked_before {
                sleep(self.options.retry_interval).await;
            }
        }
    }

    /// Connects, binds and submits until something fails.
    async fn connection(&mut self) -> Result<std::convert::Infallible, ProbeFailure> {
        let connecting = TcpStream::connect(self.options.target);
        let stream = within("connecting was", self.options.connect_timeout, async { Ok(connecting.await?) }).await?;
        stream.set_nodelay(true)?;
        let inbox = BytesMut::with_capacity(4096);
        let mut line = Line { stream, framer: Framer::default(), inbox, receipts: Vec::new() };
        let limit = self.options.response_timeout;
        within("the bind was", limit, async {
            line.send(&self.requests.bind).await?;
            let answer = line.answer_to(SequenceNumber::FIRST).await?;
            refusal(self.requests.bind.command_id(), answer.status)
        })
        .await?;
        if let Some(failing) = &mut self.failing {
            failing.bound = Some(Instant::now());
        }
        let mut sequence = SequenceNumber::FIRST;
        loop {
            sequence = sequence.next();
            let sent = Instant::now();
            self.requests.submit[12..16].copy_from_slice(&sequence.0.to_be_bytes());
            let answer = within("a submission was", limit, async {
                line.stream.write_all(&self.requests.submit).await?;
                line.answer_to(sequence).await
            })
            .await;
            let done = self.answered(sent, answer);
            // Those as well that came on a connection that is lost.
            for id in line.receipts.drain(..) {
                (self.on_event)(ProbeEvent::Receipt { id });
            }
            done?;
        }
    }

    fn answered(&mut self, sent: Instant, answer: Result<Pdu, ProbeFailure>) -> Result<(), ProbeFailure> {
        let answer = answer.inspect_err(|_| self.summary.unknown += 1)?;
        refusal(CommandId::SUBMIT_SM, answer.status).inspect_err(|_| self.summary.refused += 1)?;
        let id = match &answer.body {
            Body::SubmitSmResp(response) => response.message_id.as_ref().and_then(|id| decimal(id.as_bytes())),
            _ => None,
        };
        self.acked(sent, id);
        Ok(())
    }

    fn acked(&mut self, sent: Instant, id: Option<u64>) {
        let now = Instant::now();
        let failing = self.failing.take();
        match self.last_ack {
            None => (self.on_event)(ProbeEvent::Ready),
            Some((last_ack, last_ack_at)) => {
                let gap = now.saturating_duration_since(last_ack);
                self.summary.longest_gap = self.summary.longest_gap.max(gap);
                if let Some(failing) = failing {
                    self.summary.outages += 1;
                    self.summary.longest_outage = self.summary.longest_outage.max(gap);
                    (self.on_event)(ProbeEvent::Outage(Outage {
                        last_ack_at,
                        duration: gap,
                        noticed_after: failing.noticed.saturating_duration_since(last_ack),
                        bound_after: failing.bound.unwrap_or(now).saturating_duration_since(last_ack),
                        cause: failing.cause,
                        connects: failing.connects,
                    }));
                }
            }
        }
        self.last_ack = Some((now, SystemTime::now()));
        self.summary.acked += 1;
        (self.on_event)(ProbeEvent::Acked { latency: now.saturating_duration_since(sent), id });
    }
}

async fn within<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, ProbeFailure>>,
) -> Result<T, ProbeFailure> {
    timeout(limit, work).await.unwrap_or(Err(ProbeFailure::Silence { what, limit }))
}

fn refusal(command: CommandId, status: CommandStatus) -> Result<(), ProbeFailure> {
    match RefusalStatus::new(status) {
        Some(status) => Err(ProbeFailure::Refused { command, status }),
        None => Ok(()),
    }
}

/// The message that a receipt of ours is for.
fn receipted(deliver: &DeliverSm) -> Option<u64> {
    if deliver.esm_class.message_type() != MessageType::DeliveryReceipt {
        return None;
    }
    decimal(deliver.tlvs.receipted_message_id()?.as_bytes())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// One connection, a PDU at a time.
struct Line {
    stream: TcpStream,
    framer: Framer,
    inbox: BytesMut,
    /// Messages whose receipts came while an answer was waited for.
    receipts: Vec<u64>,
}

impl Line {
    async fn send(&mut self, pdu: &Pdu) -> Result<(), ProbeFailure> {
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.stream.write_all(&octets).await?;
        Ok(())
    }

    /// The answer under this sequence number; requests of the SMS centre are answered meanwhile.
    async fn answer_to(&mut self, sequence: SequenceNumber) -> Result<Pdu, ProbeFailure> {
        loop {
            let pdu = self.next().await?;
            let command = pdu.command_id();
            if command.is_response() {
                if pdu.sequence == sequence {
                    return Ok(pdu);
                }
                continue;
            }
            if let Body::DeliverSm(deliver) = &pdu.body {
                self.receipts.extend(receipted(deliver));
            }
            let answer = command.response().and_then(Body::empty);
            if let Some(body) = answer {
                self.send(&Pdu::new(pdu.sequence, body)).await?;
            }
            if matches!(pdu.body, Body::Unbind(Unbind { .. })) {
                return Err(ProbeFailure::Ended("unbound by the SMS centre"));
            }
        }
    }

    async fn next(&mut self) -> Result<Pdu, ProbeFailure> {
        loop {
            if let Some(frame) = self.framer.next_frame(&mut self.inbox)? {
                return Ok(Pdu::decode(frame)?);
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(ProbeFailure::Ended("closed by the SMS centre"));
            }
        }
    }
}
