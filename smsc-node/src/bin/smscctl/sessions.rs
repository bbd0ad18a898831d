//! `smscctl sessions`.

use serde::Serialize;
use smsc_proto::rpc::admin::{SessionsRequest, sessions_response::Item};
use smsc_raft::model::BindMode;

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table, time};

/// The fields of `sessions --json`.
pub const JSON_HELP: &str = "\
JSON fields, for each bind:
  id, system_id, mode (transmitter|receiver|transceiver), live (false: left over from a leader that is gone, the ESME
  has not come back), peer, client (the ESME's own address where peer is a proxy, else empty), tls, local,
  interface_version (as \"3.4\"), system_type, address_range, node, term, since (UTC)";

#[derive(Debug, Serialize)]
struct SessionView {
    id: u64,
    system_id: String,
    mode: &'static str,
    live: bool,
    peer: String,
    client: String,
    tls: bool,
    local: String,
    interface_version: String,
    system_type: String,
    address_range: String,
    node: u64,
    term: u64,
    since: Option<String>,
}

/// Asks and prints.
pub async fn run(connect: &ConnectArgs, account: Option<&str>, format: Format) -> Result<(), Failure> {
    let sessions = connect.client().await?.sessions(SessionsRequest {}).await?.into_inner().items;
    let views = sessions.into_iter().map(view);
    let views: Vec<SessionView> =
        views.filter(|view| account.is_none_or(|account| view.system_id == account)).collect();
    format.show(&views, |views| {
        let rows: Vec<[String; 8]> = views.iter().map(row).collect();
        let heading = ["ID", "SYSTEM_ID", "MODE", "STATE", "PEER", "VERSION", "NODE", "SINCE"];
        table(heading, &rows, "no sessions")
    })
}

fn view(item: Item) -> SessionView {
    let session = item.session.unwrap_or_default();
    let mode = match session.mode() {
        BindMode::Transmitter => "transmitter",
        BindMode::Receiver => "receiver",
        BindMode::Transceiver => "transceiver",
    };
    SessionView {
        id: session.id,
        mode,
        live: item.live,
        interface_version: format!("{}.{}", session.interface_version >> 4, session.interface_version & 0xF),
        since: time(session.since_ms),
        system_id: session.system_id,
        peer: session.peer,
        client: session.client,
        tls: session.tls,
        local: session.local,
        system_type: session.system_type,
        address_range: session.address_range,
        node: session.node,
        term: session.term,
    }
}

fn row(view: &SessionView) -> [String; 8] {
    [
        view.id.to_string(),
        view.system_id.clone(),
        view.mode.to_owned(),
        if view.live { "bound" } else { "lost" }.to_owned(),
        // Who it is, not by which way it comes.
        if view.client.is_empty() { view.peer.clone() } else { view.client.clone() },
        view.interface_version.clone(),
        view.node.to_string(),
        dash(view.since.as_deref().unwrap_or("")),
    ]
}
