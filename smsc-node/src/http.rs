//! Metrics and health over HTTP, for Prometheus and for supervisors.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text format |
//! | `/health/live` | 200 as long as the process answers |
//! | `/health/ready` | 200, or 503 and the reason |

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::listen::{ListenError, listen};
use crate::metrics::Metrics;

/// Connections served at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the node may be relied on now; `Err` says in a few words why not.
pub type Readiness = Result<(), String>;

/// Asked at each request for readiness; must not block.
pub type ReadyProbe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// The listening server.
pub struct HttpServer {
    listener: TcpListener,
}

impl HttpServer {
    /// Listens; nothing is answered until [`HttpServer::serve`].
    ///
    /// # Errors
    /// [`ListenError`], for instance if the port is busy.
    pub fn bind(addr: SocketAddr) -> Result<Self, ListenError> {
        Ok(Self { listener: listen("http.listen", addr)? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the returned future is dropped, which also ends connections still open.
    pub async fn serve(self, metrics: Arc<Metrics>, ready: ReadyProbe) -> Infallible {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics and health");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (metrics, ready) = (Arc::clone(&metrics), Arc::clone(&ready));
            connections.spawn(async move {
                let _permit = permit;
                let service = service_fn(move |request| {
                    let response = answer(&request, &metrics, &ready);
                    async move { Ok::<_, Infallible>(response) }
                });
                // A client that breaks off or talks nonsense is its own loss.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .keep_alive(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, ready: &ReadyProbe) -> Response<Full<Bytes>> {
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, text, "only GET and HEAD\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            respond(StatusCode::OK, prometheus, metrics.render())
        }
        "/health/live" => respond(StatusCode::OK, text, "live\n".into()),
        "/health/ready" => match ready() {
            Ok(()) => respond(StatusCode::OK, text, "ready\n".into()),
            Err(reason) => respond(StatusCode::SERVICE_UNAVAILABLE, text, format!("not ready: {reason}\n")),
        },
        _ => respond(StatusCode::NOT_FOUND, text, "known paths: /metrics /health/live /health/ready\n".into()),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(addr: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn paths_methods_and_readiness() {
        let server = HttpServer::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = server.local_addr().unwrap();
        let well = Arc::new(AtomicBool::new(false));
        let probe: ReadyProbe = {
            let well = Arc::clone(&well);
            Arc::new(move || if well.load(Ordering::Relaxed) { Ok(()) } else { Err("no leader is known".into()) })
        };
        let task = tokio::spawn(server.serve(Arc::new(Metrics::default()), probe));

        let not_ready = ask(addr, "GET", "/health/ready").await;
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(not_ready.ends_with("not ready: no leader is known\n"), "{not_ready}");
        well.store(true, Ordering::Relaxed);
        assert!(ask(addr, "GET", "/health/ready").await.starts_with("HTTP/1.1 200"));
        assert!(ask(addr, "HEAD", "/health/live").await.ends_with("\r\n\r\n"));
        let metrics = ask(addr, "GET", "/metrics").await;
        assert!(metrics.contains("text/plain; version=0.0.4") && metrics.contains("\nsmsc_"), "{metrics}");
        assert!(ask(addr, "POST", "/metrics").await.starts_with("HTTP/1.1 405"));
        assert!(ask(addr, "GET", "/").await.starts_with("HTTP/1.1 404"));
        task.abort();
    }
}
