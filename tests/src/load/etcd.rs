//! The same payloads put into an etcd cluster: what another store that has a put on disk on a majority before it answers
//! does on the same machine.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use prost::Message;
use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::LoadError;
use super::ledger::{latencies, record};
use super::report::{Spread, is_limit};
use super::run::cpu_time;

/// For a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be set.
#[derive(Clone, Debug, Args)]
pub struct EtcdOptions {
    /// The members' client URLs; puts go to the one that leads.
    #[arg(long = "endpoint", value_name = "URL", required = true)]
    pub endpoints: Vec<String>,
    /// Clients, each with one put under way at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Connections that they share.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// Octets of a value.
    #[arg(long, default_value_t = 160)]
    pub size: usize,
    /// How long to put.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct EtcdReport {
    /// Puts that were answered.
    pub acked: u64,
    /// The same for each second.
    pub rate_per_s: f64,
    /// From a put to its answer.
    pub ack_latency: Option<Spread>,
    /// How long it took, seconds.
    pub elapsed_s: f64,
    /// CPU time of this program.
    pub cpu_s: f64,
    /// This program used nearly all of one core: the cluster may be faster than this.
    pub generator_is_limit: bool,
}

impl fmt::Display for EtcdReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "puts answered    {}, {:.0} per second", self.acked, self.rate_per_s)?;
        if let Some(latency) = &self.ack_latency {
            writeln!(f, "put to answer    {latency}")?;
        }
        let limit = if self.generator_is_limit { ": it may be the limit itself" } else { "" };
        write!(f, "generator        {:.2} s of CPU in {:.2} s{limit}", self.cpu_s, self.elapsed_s)
    }
}

// The part of etcd's API (etcdserverpb, version 3) that is used.

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await.map(tonic::Response::into_inner)
}

async fn status(channel: &Channel) -> Result<StatusResponse, Status> {
    call(channel, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await
}

fn refused(channel: &Endpoint, status: Status) -> LoadError {
    LoadError::Etcd { endpoint: channel.uri().to_string(), status: Box::new(status) }
}

async fn connect(endpoint: &Endpoint) -> Result<Channel, LoadError> {
    endpoint.connect().await.map_err(|error| refused(endpoint, Status::from_error(error.into())))
}

/// The member that leads.
async fn leader(urls: &[String]) -> Result<Endpoint, LoadError> {
    for url in urls {
        let endpoint = Endpoint::from_shared(url.clone());
        let endpoint = endpoint.map_err(|error| LoadError::Options(format!("--endpoint {url}: {error}")))?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
        let told = status(&connect(&endpoint).await?).await.map_err(|status| refused(&endpoint, status))?;
        if told.leader != 0 && told.header.is_some_and(|header| header.member_id == told.leader) {
            return Ok(endpoint);
        }
    }
    Err(LoadError::Options("none of these etcd members leads".to_owned()))
}

/// How often anything was put into the cluster.
async fn revision(endpoint: &Endpoint, channel: &Channel) -> Result<i64, LoadError> {
    let told = status(channel).await.map_err(|status| refused(endpoint, status))?;
    Ok(told.header.map_or(0, |header| header.revision))
}

/// Puts as fast as answered, every key once, and compares what was answered with what the cluster counted.
///
/// # Errors
/// The cluster cannot be reached, refuses a put, or has counted others than were answered.
pub fn run(options: &EtcdOptions) -> Result<EtcdReport, LoadError> {
    let length = Duration::try_from_secs_f64(options.seconds);
    let length = length.map_err(|error| LoadError::Options(format!("--seconds: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, drive(options, length))
}

async fn drive(options: &EtcdOptions, length: Duration) -> Result<EtcdReport, LoadError> {
    let endpoint = leader(&options.endpoints).await?;
    let mut channels = Vec::new();
    for _ in 0..options.connections.min(options.clients) {
        channels.push(connect(&endpoint).await?);
    }
    let revision_before = revision(&endpoint, &channels[0]).await?;
    let times = Rc::new(RefCell::new(latencies()));
    let (start, cpu_before, run) = (Instant::now(), cpu_time(), rand::random::<u64>());
    let mut clients = JoinSet::new();
    for (client, channel) in (0..options.clients).zip(channels.iter().cycle()) {
        let (channel, times) = (channel.clone(), Rc::clone(&times));
        let value = Bytes::from(vec![b'x'; options.size]);
        clients.spawn_local(async move {
            let mut put = 0_u64;
            while start.elapsed() < length {
                let key = Bytes::from(format!("{run:016x}/{client}/{put}"));
                let begun = Instant::now();
                let request = PutRequest { key, value: value.clone() };
                let _: PutResponse = call(&channel, "/etcdserverpb.KV/Put", request).await?;
                record(&mut times.borrow_mut(), begun.elapsed());
                put += 1;
            }
            Ok(put)
        });
    }
    let mut acked = 0;
    while let Some(ended) = clients.join_next().await {
        acked += ended.expect("a client does not panic").map_err(|status| refused(&endpoint, status))?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu_before));
    let counted = revision(&endpoint, &channels[0]).await? - revision_before;
    if u64::try_from(counted) != Ok(acked) {
        let text = format!("{acked} puts were answered, and the revision grew by {counted}");
        return Err(refused(&endpoint, Status::data_loss(text)));
    }
    Ok(EtcdReport {
        acked,
        rate_per_s: acked as f64 / elapsed.as_secs_f64(),
        ack_latency: Spread::of(&times.borrow()),
        elapsed_s: elapsed.as_secs_f64(),
        cpu_s: cpu.as_secs_f64(),
        generator_is_limit: is_limit(cpu, elapsed),
    })
}
