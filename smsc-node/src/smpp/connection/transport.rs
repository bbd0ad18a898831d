//! The octets of a session on its socket: as they are, or through TLS, behind a proxy's header where one is due.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::{Buf as _, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::ha::{Keeper, Kept};
use crate::smpp::proxy::ProxyHeader;

/// Octets of output that are handed to TLS at once: it keeps what it has encrypted until the socket takes it.
const TLS_CHUNK: usize = 64 * 1024;

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many octets of the session were appended.
    Octets(usize),
    /// Something, but nothing of the session yet.
    Nothing,
    /// The peer has ended the connection.
    End,
}

pub(in crate::smpp) struct Transport {
    stream: Arc<TcpStream>,
    /// While another process holds the connection, too.
    kept: Option<Kept>,
    proxy: Option<ProxyHeader>,
    client: Option<SocketAddr>,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    /// A session's transport on `stream`: through TLS with `tls`, behind a header if the peer is a proxy.
    pub(in crate::smpp) fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>, proxied: bool) -> io::Result<Self> {
        let tls = tls.map(|config| ServerConnection::new(config).map(Box::new)).transpose();
        Ok(Self {
            stream: Arc::new(stream),
            kept: None,
            proxy: proxied.then(ProxyHeader::default),
            client: None,
            tls: tls.map_err(io::Error::other)?,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The ESME's own address, if a proxy told it.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The certificate that the ESME showed and TLS has verified.
    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref()?.peer_certificates()?.first()
    }

    /// What to wait for, when the session wants to read and has something to write.
    pub(super) fn interest(&self, wants_read: bool, wants_write: bool) -> Option<Interest> {
        let (read, write) = match &self.tls {
            None => (wants_read, wants_write),
            // What the session has to write waits for the end of the handshake.
            Some(tls) if tls.is_handshaking() => (wants_read, tls.wants_write()),
            Some(tls) => (wants_read, wants_write || tls.wants_write()),
        };
        match (read, write) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<tokio::io::Ready> {
        self.stream.ready(interest).await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Reads what is there into the room that `input` has.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; anything else ends the connection.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> io::Result<Received> {
        if self.proxy.is_some() && self.read_proxy_header()? == Received::End {
            return Ok(Received::End);
        }
        if self.proxy.is_some() {
            return Ok(Received::Nothing);
        }
        match &mut self.tls {
            None => match self.stream.try_read_buf(input)? {
                0 => Ok(Received::End),
                count => Ok(Received::Octets(count)),
            },
            Some(tls) => read_tls(&self.stream, tls, input),
        }
    }

    fn read_proxy_header(&mut self) -> io::Result<Received> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(header) = &mut self.proxy {
            let missing = header.missing().map_err(invalid)?;
            if missing == 0 {
                self.client = header.client().map_err(invalid)?;
                self.proxy = None;
                break;
            }
            let mut octets = [0; 256];
            let most = missing.min(octets.len());
            match self.stream.try_read(&mut octets[..most])? {
                0 => return Ok(Received::End),
                count => header.push(&octets[..count]),
            }
        }
        Ok(Received::Nothing)
    }

    /// Writes what the socket takes now, and says how many octets of `output` were taken.
    ///
    /// # Errors
    /// The connection is at its end.
    pub(super) fn write(&mut self, output: &mut BytesMut) -> io::Result<usize> {
        let before = output.len();
        let done = match &mut self.tls {
            None => write_plain(&self.stream, output),
            Some(tls) => write_tls(&self.stream, tls, output),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(before - output.len()),
        }
    }

    /// Whether something that was written waits to leave, or cannot leave before the handshake has ended.
    pub(super) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    /// Whether output can be taken at all yet.
    pub(super) fn is_open(&self) -> bool {
        self.proxy.is_none() && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Tells the peer that nothing more comes, at the layer of TLS; to be written like any output.
    pub(super) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// Keeps the connection open should this process die.
    pub(super) fn keep(&mut self, keeper: &Keeper) {
        let stream: Weak<TcpStream> = Arc::downgrade(&self.stream);
        self.kept = Some(keeper.keep(stream));
    }

    /// Sends the end of the connection's octets.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        SockRef::from(&*self.stream).shutdown(Shutdown::Write)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            // Closing it here alone would end nothing. Failing means that it has ended already.
            let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Both);
            drop(kept);
        }
    }
}

fn write_plain(stream: &TcpStream, output: &mut BytesMut) -> io::Result<()> {
    while !output.is_empty() {
        let count = stream.try_write(output)?;
        output.advance(count);
    }
    Ok(())
}

fn write_tls(stream: &TcpStream, tls: &mut ServerConnection, output: &mut BytesMut) -> io::Result<()> {
    loop {
        while tls.wants_write() {
            tls.write_tls(&mut Socket(stream))?;
        }
        if output.is_empty() || tls.is_handshaking() {
            return Ok(());
        }
        let chunk = &output[..output.len().min(TLS_CHUNK)];
        let count = io::Write::write(&mut tls.writer(), chunk)?;
        output.advance(count);
    }
}

fn read_tls(stream: &TcpStream, tls: &mut ServerConnection, input: &mut BytesMut) -> io::Result<Received> {
    if tls.read_tls(&mut Socket(stream))? == 0 {
        return Ok(Received::End);
    }
    let state = match tls.process_new_packets() {
        Ok(state) => state,
        Err(error) => {
            // The peer is told why, if the socket takes it at once.
            let _ = tls.write_tls(&mut Socket(stream));
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    };
    let count = state.plaintext_bytes_to_read();
    let start = input.len();
    input.resize(start + count, 0);
    if let Err(error) = io::Read::read_exact(&mut tls.reader(), &mut input[start..]) {
        input.truncate(start);
        return Err(error);
    }
    match (count, state.peer_has_closed()) {
        (0, true) => Ok(Received::End),
        (0, false) => Ok(Received::Nothing),
        _ => Ok(Received::Octets(count)),
    }
}

/// The socket as rustls reads and writes it, never waiting.
struct Socket<'a>(&'a TcpStream);

impl io::Read for Socket<'_> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(octets)
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.try_write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
