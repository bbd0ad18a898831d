//! Asks the SMS centre by query_sm (SMPP v3.4 section 4.8) what became of messages: the way an ESME would.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use smsc_proto::command::SequenceNumber;
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{Bind, Body, Pdu, QuerySm};
use smsc_proto::receipt::ReceiptState;
use smsc_proto::types::{BindMode, MessageId, Password, SystemId};

use crate::load::LoadError;
use crate::load::verify::Fate;

/// Requests sent before their answers are read; below every sensible window of an account.
const WINDOW: usize = 50;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who asks whom.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The SMS centre.
    pub target: SocketAddr,
    /// The account that submitted the messages.
    pub system_id: String,
    /// Its password.
    pub password: String,
}

impl Asker {
    /// What became of each of `ids`; one that the SMS centre does not know is left out.
    ///
    /// # Errors
    /// [`LoadError::Query`] if the connection or the bind fails, or an answer is none to query_sm.
    pub fn ask(&self, ids: impl Iterator<Item = u64>) -> Result<HashMap<u64, Fate>, LoadError> {
        self.converse(ids).map_err(|source| LoadError::Query { target: self.target, source })
    }

    fn converse(&self, mut ids: impl Iterator<Item = u64>) -> io::Result<HashMap<u64, Fate>> {
        let mut line = Line::connect(self.target)?;
        let bind = Bind {
            system_id: SystemId::new(self.system_id.clone()).map_err(io::Error::other)?,
            password: Password::new(self.password.clone()).map_err(io::Error::other)?,
            ..Bind::default()
        };
        line.send(&[Pdu::new(SequenceNumber::FIRST, Body::bind(BindMode::Transmitter, bind))])?;
        let answer = line.answer()?;
        if !answer.status.is_ok() {
            return Err(io::Error::other(format!("bind refused: {}", answer.status)));
        }
        let mut fates = HashMap::new();
        loop {
            let asked: Vec<u64> = ids.by_ref().take(WINDOW).collect();
            if asked.is_empty() {
                return Ok(fates);
            }
            let queries: Vec<Pdu> = (1..).zip(&asked).map(|(sequence, id)| query(sequence, *id)).collect();
            line.send(&queries)?;
            for _ in &asked {
                let answer = line.answer()?;
                let id =
                    usize::try_from(answer.sequence.0).ok().and_then(|sequence| asked.get(sequence.wrapping_sub(1)));
                let id = id.ok_or_else(|| io::Error::other(format!("an answer to nothing asked: {answer:?}")))?;
                if let Some(fate) = fate(&answer)? {
                    fates.insert(*id, fate);
                }
            }
        }
    }
}

fn query(sequence: u32, id: u64) -> Pdu {
    let message_id = MessageId::new(id.to_string()).expect("20 digits at most");
    Pdu::new(SequenceNumber(sequence), Body::QuerySm(QuerySm { message_id, ..QuerySm::default() }))
}

/// `None` if the message is not known.
fn fate(answer: &Pdu) -> io::Result<Option<Fate>> {
    let Body::QuerySmResp(resp) = &answer.body else {
        return Err(io::Error::other(format!("query_sm was answered by {answer:?}")));
    };
    let Some(result) = resp.result.as_ref().filter(|_| answer.status.is_ok()) else {
        return Ok(None);
    };
    let state = ReceiptState::try_from(result.message_state.0).map_err(io::Error::other)?;
    Ok(Some(if result.message_state.is_final() { Fate::Final(state) } else { Fate::Waiting }))
}

struct Line {
    stream: TcpStream,
    framer: Framer,
    inbox: BytesMut,
}

impl Line {
    fn connect(target: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect_timeout(&target, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Line { stream, framer: Framer::default(), inbox: BytesMut::new() })
    }

    fn send(&mut self, pdus: &[Pdu]) -> io::Result<()> {
        let mut octets = BytesMut::new();
        for pdu in pdus {
            pdu.encode(&mut octets).map_err(io::Error::other)?;
        }
        self.stream.write_all(&octets)
    }

    /// The next answer; requests of the SMS centre are answered meanwhile.
    fn answer(&mut self) -> io::Result<Pdu> {
        let mut octets = [0; 16 * 1024];
        loop {
            while let Some(frame) = self.framer.next_frame(&mut self.inbox).map_err(io::Error::other)? {
                let pdu = Pdu::decode(frame).map_err(io::Error::other)?;
                if pdu.command_id().is_response() {
                    return Ok(pdu);
                }
                if let Some(body) = pdu.command_id().response().and_then(Body::empty) {
                    self.send(&[Pdu::new(pdu.sequence, body)])?;
                }
            }
            match self.stream.read(&mut octets)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.inbox.extend_from_slice(&octets[..read]),
            }
        }
    }
}
