//! A connection to a message centre: TCP, with TLS where the link asks for it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use smsc_raft::model::{Link, LinkTls};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Octets read at once.
const READ_OCTETS: usize = 16 * 1024;
/// Silence after which the kernel asks a peer whether it is there, beside enquire_link.
const KEEPALIVE: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    flushing: bool,
}

impl Wire {
    /// Connects to `address` (host:port), within `within`.
    ///
    /// # Errors
    /// No such host, no connection, or no trust in the peer's certificate; the text says which.
    pub async fn connect(address: &str, link: &Link, within: Duration) -> io::Result<Self> {
        let connecting = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            let stream: Box<dyn Stream> = match &link.tls {
                Some(tls) => Box::new(secure(tcp, address, tls).await?),
                None => Box::new(tcp),
            };
            Ok(Self { stream, flushing: false })
        };
        match tokio::time::timeout(within, connecting).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was not established in time")),
        }
    }

    /// Writes from `output` and reads into `input` what can be; returns when either moved. `input` is `None` while the
    /// peer is to be held back. Safe to give up at any time.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn transfer(&mut self, output: &mut BytesMut, mut input: Option<&mut BytesMut>) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_transfer(context, output, input.as_deref_mut())).await
    }

    fn poll_transfer(
        &mut self,
        context: &mut Context<'_>,
        output: &mut BytesMut,
        input: Option<&mut BytesMut>,
    ) -> Poll<io::Result<()>> {
        let mut moved = false;
        while !output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    output.advance(count);
                    (moved, self.flushing) = (true, true);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        // TLS keeps back what it could not write.
        if self.flushing
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context)
        {
            flushed?;
            self.flushing = false;
        }
        if let Some(input) = input {
            match self.poll_read(context, input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut octets = [0; READ_OCTETS];
        let mut buffer = ReadBuf::new(&mut octets);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Says that nothing more follows.
    pub async fn shutdown(&mut self) {
        // The peer may be gone already.
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

async fn secure(tcp: TcpStream, address: &str, tls: &LinkTls) -> io::Result<TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = if tls.server_name.is_empty() { host } else { tls.server_name.as_str() };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a TLS server")))?;
    TlsConnector::from(Arc::new(client_config(tls)?)).connect(name, tcp).await
}

/// Read anew for every connection: a CA file that was replaced takes effect without a restart.
fn client_config(tls: &LinkTls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if tls.ca_file.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            return Err(io::Error::other(
                "the system has no CA certificates: install ca-certificates, or name a CA file",
            ));
        }
    } else {
        let path = Path::new(&tls.ca_file);
        let unusable = |reason: &dyn std::fmt::Display| {
            io::Error::other(format!("{} holds no usable CA certificates in PEM format: {reason}", path.display()))
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
            roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
        }
        if roots.is_empty() {
            return Err(unusable(&"it is empty"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
