//! One method per call: pass on to the leader or check, propose, answer.

use std::io;
use std::sync::Arc;

use smsc_proto::rpc::admin::admin_server::Admin;
use smsc_proto::rpc::admin::{
    AccountPutRequest, AccountsRequest, AccountsResponse, DigestRequest, DigestResponse, Done, DrillsRequest,
    DrillsResponse, FaultRequest, FaultResponse, HandoverRequest, HandoverResponse, HandsetSendRequest,
    HandsetSendResponse, HandsetsRequest, HandsetsResponse, InitRequest, JoinRequest, LastTakeoverRequest,
    LastTakeoverResponse, LeaveRequest, LinkPutRequest, LinkStatusRequest, LinkStatusResponse, LinksRequest,
    LinksResponse, ListsRequest, ListsResponse, MessageCancelRequest, MessageFindRequest, MessageFindResponse,
    MessageShowRequest, MessageView, NumberListsRequest, NumberListsResponse, RouteTestRequest, RouteTestResponse,
    RoutesRequest, RoutesResponse, SessionsRequest, SessionsResponse, SettingsRequest, SettingsResponse, StatusRequest,
    StatusResponse, TakeoverRequest, TakeoverResponse, sessions_response,
};
use smsc_raft::machine::Machine;
use smsc_raft::model::command::Op;
use smsc_raft::model::{
    Account, AccountDelete, AccountPut, DistributionList, DrillPut, DrillRecord, Finish, HandsetDelete, HandsetPut,
    HandsetRange, Link, LinkDelete, LinkPut, ListDelete, ListPut, MessageState, NumberChunk, NumberChunkPut,
    NumberListDelete, Route, RouteDelete, RoutePut, RouteSet, RouteUnset, Settings, SettingsPut, Submit,
};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::Store;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::link::outbound::segment_count;

use super::fault::{Fault, HEADSTART};
use super::host::{AdminConfig, AdminHost};
use super::relay::{Answers, Relay};
use super::{check, cluster, links, messages, refusal};
use crate::smpp::multi::DESTINATIONS_MAX;

/// The longest report of a drill that is kept, bytes.
const DRILL_REPORT_BYTES_MAX: usize = 64 << 10;

type Answer<T> = Result<Response<T>, Status>;

/// The admin service of a node. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct AdminService {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    host: Arc<dyn AdminHost>,
    config: AdminConfig,
    relay: Relay,
    /// Held from the check of a change against what is stored until it is stored.
    changing: Mutex<()>,
}

/// Passes the call on to the leader if it is for the leader and this node is not, and returns its answer.
macro_rules! pass_on {
    ($self:ident, $request:ident, $answers:expr, $call:ident) => {
        if let Some(mut leader) = $self.inner.relay.way(&$request, $answers)? {
            let passed_on = $self.inner.relay.passed_on($request);
            return $self.inner.relay.passed_back(leader.$call(passed_on).await);
        }
    };
}

impl AdminService {
    /// The service of this node.
    pub fn new(store: Store, host: Arc<dyn AdminHost>, config: AdminConfig) -> Self {
        let relay = Relay { store: store.clone(), node_id: config.node_id };
        Self { inner: Arc::new(Inner { store, host, config, relay, changing: Mutex::new(()) }) }
    }

    fn read<R>(&self, read: impl FnOnce(&Machine) -> io::Result<R>) -> Result<R, Status> {
        self.inner.store.read(read).map_err(|error| refusal::disk(&error))
    }

    async fn propose(&self, op: Op) -> Result<Outcome, Status> {
        self.inner.store.propose(op).await.map_err(|error| refusal::proposal(&error))
    }

    /// Proposes a change that needs no answer; `what` is named when there is no such thing.
    async fn change(&self, op: Op, what: impl FnOnce() -> String) -> Answer<Done> {
        match self.propose(op).await? {
            Outcome::NotFound => Err(Status::not_found(format!("there is no {}", what()))),
            _ => Ok(Response::new(Done {})),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        pass_on!(self, request, Answers::Anyone, status);
        let inner = &self.inner;
        cluster::status(&inner.store, inner.host.as_ref(), &inner.config).await.map(Response::new)
    }

    async fn init(&self, request: Request<InitRequest>) -> Answer<Done> {
        let inner = &self.inner;
        cluster::init(&inner.store, &inner.config, request.into_inner()).await?;
        tracing::info!("an operator had this node form the cluster");
        Ok(Response::new(Done {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, join);
        cluster::join(&self.inner.store, request.into_inner()).await?;
        Ok(Response::new(Done {}))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, leave);
        cluster::leave(&self.inner.store, &self.inner.config, request.into_inner().node_id).await?;
        Ok(Response::new(Done {}))
    }

    async fn handover(&self, request: Request<HandoverRequest>) -> Answer<HandoverResponse> {
        pass_on!(self, request, Answers::Leader, handover);
        let inner = &self.inner;
        let to = request.into_inner().node_id;
        cluster::handover(&inner.store, inner.host.as_ref(), &inner.config, to).await.map(Response::new)
    }

    /// Answered by the node that was asked: it is the one that goes on.
    async fn takeover(&self, request: Request<TakeoverRequest>) -> Answer<TakeoverResponse> {
        let TakeoverRequest { peer_id, accept_loss } = request.into_inner();
        cluster::takeover(&self.inner.store, peer_id, accept_loss).await.map(Response::new)
    }

    async fn fault(&self, request: Request<FaultRequest>) -> Answer<FaultResponse> {
        let config = &self.inner.config;
        let asked = request.get_ref().node_id;
        if asked == 0 {
            pass_on!(self, request, Answers::Leader, fault);
        } else if asked != config.node_id {
            let text = format!("this is node {}: ask node {asked} itself to fail", config.node_id);
            return Err(Status::invalid_argument(text));
        }
        if !config.drills {
            return Err(Status::permission_denied(format!(
                "node {} does not allow drills that make it fail: set drills = true under [admin] in its \
                 configuration and restart it, or rehearse with a handover",
                config.node_id
            )));
        }
        let fault = Fault::of(request.get_ref()).map_err(Status::invalid_argument)?;
        fault.strike(&config.victim, &self.inner.store).map_err(Status::failed_precondition)?;
        Ok(Response::new(FaultResponse {
            node_id: config.node_id,
            term: self.inner.store.view().term,
            in_ms: u32::try_from(HEADSTART.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    async fn sessions(&self, request: Request<SessionsRequest>) -> Answer<SessionsResponse> {
        pass_on!(self, request, Answers::Anyone, sessions);
        let view = self.inner.store.view();
        let items = self.read(|machine| {
            let item = |session: &smsc_raft::model::SessionRecord| sessions_response::Item {
                live: view.leader == Some(session.node) && session.term == view.term,
                session: Some(session.clone()),
            };
            Ok(machine.sessions().map(item).collect())
        })?;
        Ok(Response::new(SessionsResponse { items }))
    }

    async fn accounts(&self, request: Request<AccountsRequest>) -> Answer<AccountsResponse> {
        pass_on!(self, request, Answers::Anyone, accounts);
        let stored: Vec<Arc<Account>> = self.read(|machine| Ok(machine.shared_accounts().cloned().collect()))?;
        let mut accounts: Vec<Account> = stored.into_iter().map(|account| Account::clone(&account)).collect();
        if !request.get_ref().with_hashes {
            for account in &mut accounts {
                account.password_hash.clear();
                if let Some(outbind) = &mut account.outbind {
                    outbind.password.clear();
                }
            }
        }
        Ok(Response::new(AccountsResponse { accounts }))
    }

    async fn account_put(&self, request: Request<AccountPutRequest>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, account_put);
        let AccountPutRequest { account, password } = request.into_inner();
        let mut account = account.ok_or_else(|| Status::invalid_argument("no account named"))?;
        let _changing = self.inner.changing.lock().await;
        let (checked, known) = self.read(|machine| {
            Ok((check::account(&account, machine.accounts()), machine.account(&account.system_id).cloned()))
        })?;
        checked.map_err(Status::invalid_argument)?;
        let known = known.as_ref();
        if let (Some(outbind), Some(known)) = (&mut account.outbind, known.and_then(|known| known.outbind.as_ref()))
            && outbind.password.is_empty()
            && outbind.addr == known.addr
        {
            outbind.password = known.password.clone();
        }
        if !password.is_empty() {
            check::password(&password).map_err(Status::invalid_argument)?;
            account.password_hash = self.inner.host.hash_password(&password).into();
        } else if account.password_hash.is_empty() {
            account.password_hash = known.map(|known| known.password_hash.clone()).ok_or_else(|| {
                Status::invalid_argument(format!("account {:?} is new and needs a password", account.system_id))
            })?;
        }
        self.change(Op::AccountPut(AccountPut { account: Some(account) }), String::new).await
    }

    async fn account_delete(&self, request: Request<AccountDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, account_delete);
        let delete = request.into_inner();
        let _changing = self.inner.changing.lock().await;
        let target = format!("esme:{}", delete.system_id);
        let used = self.read(|machine| {
            let uses = |route: &&Route| route.target == target || route.account == delete.system_id;
            Ok(machine.routes().find(uses).cloned())
        })?;
        if let Some(route) = used {
            return Err(Status::failed_precondition(format!(
                "the route with prefix {:?} uses account {:?}: delete it first",
                route.prefix, delete.system_id
            )));
        }
        let list = self.read(|machine| Ok(machine.lists().find(|list| list.account == delete.system_id).cloned()))?;
        if let Some(list) = list {
            let text = format!("list {:?} is kept for account {:?}: delete it first", list.name, delete.system_id);
            return Err(Status::failed_precondition(text));
        }
        let name = delete.system_id.clone();
        self.change(Op::AccountDelete(delete), || format!("account {name:?}")).await
    }

    async fn routes(&self, request: Request<RoutesRequest>) -> Answer<RoutesResponse> {
        pass_on!(self, request, Answers::Anyone, routes);
        let routes = self.read(|machine| Ok(machine.routes().cloned().collect()))?;
        Ok(Response::new(RoutesResponse { routes }))
    }

    async fn route_put(&self, request: Request<Route>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, route_put);
        let route = request.into_inner();
        let _changing = self.inner.changing.lock().await;
        let checked = self.read(|machine| {
            let exists = |account: &str| machine.account(account).is_some();
            Ok(check::route(&route, exists))
        })?;
        checked.map_err(Status::invalid_argument)?;
        let op = if route.name.is_empty() {
            Op::RoutePut(RoutePut { route: Some(route) })
        } else {
            Op::RouteSet(RouteSet { route: Some(route) })
        };
        self.change(op, String::new).await
    }

    async fn route_delete(&self, request: Request<RouteDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, route_delete);
        let RouteDelete { prefix, account, name } = request.into_inner();
        let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let what = match account.as_str() {
            "" => format!("route{named} with prefix {prefix:?} for all accounts"),
            account => format!("route{named} with prefix {prefix:?} for account {account:?}"),
        };
        let op = if name.is_empty() {
            Op::RouteDelete(RouteDelete { prefix, account, name })
        } else {
            Op::RouteUnset(RouteUnset { prefix, account, name })
        };
        self.change(op, || what).await
    }

    async fn route_test(&self, request: Request<RouteTestRequest>) -> Answer<RouteTestResponse> {
        pass_on!(self, request, Answers::Anyone, route_test);
        Ok(Response::new(self.inner.host.explain_route(request.get_ref())))
    }

    async fn number_lists(&self, request: Request<NumberListsRequest>) -> Answer<NumberListsResponse> {
        pass_on!(self, request, Answers::Anyone, number_lists);
        let lists = self.read(|machine| Ok(machine.number_lists().cloned().collect()))?;
        Ok(Response::new(NumberListsResponse { lists }))
    }

    async fn number_chunk_put(&self, request: Request<NumberChunk>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, number_chunk_put);
        let chunk = request.into_inner();
        check::number_chunk(&chunk).map_err(Status::invalid_argument)?;
        self.change(Op::NumberChunkPut(NumberChunkPut { chunk: Some(chunk) }), String::new).await
    }

    async fn number_list_delete(&self, request: Request<NumberListDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, number_list_delete);
        let delete = request.into_inner();
        let _changing = self.inner.changing.lock().await;
        let used = self.read(|machine| Ok(machine.routes().find(|route| route.list == delete.name).cloned()))?;
        if let Some(route) = used {
            return Err(Status::failed_precondition(format!(
                "the route with prefix {:?} asks list {:?}: delete it first",
                route.prefix, delete.name
            )));
        }
        let name = delete.name.clone();
        self.change(Op::NumberListDelete(delete), || format!("number list {name:?}")).await
    }

    async fn lists(&self, request: Request<ListsRequest>) -> Answer<ListsResponse> {
        pass_on!(self, request, Answers::Anyone, lists);
        let lists = self.read(|machine| Ok(machine.lists().cloned().collect()))?;
        Ok(Response::new(ListsResponse { lists }))
    }

    async fn list_put(&self, request: Request<DistributionList>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, list_put);
        let list = request.into_inner();
        let _changing = self.inner.changing.lock().await;
        let checked = self.read(|machine| {
            let exists = |account: &str| machine.account(account).is_some();
            Ok(check::list(&list, exists, DESTINATIONS_MAX))
        })?;
        checked.map_err(Status::invalid_argument)?;
        self.change(Op::ListPut(ListPut { list: Some(list) }), String::new).await
    }

    async fn list_delete(&self, request: Request<ListDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, list_delete);
        let delete = request.into_inner();
        let name = delete.name.clone();
        self.change(Op::ListDelete(delete), || format!("list {name:?}")).await
    }

    async fn links(&self, request: Request<LinksRequest>) -> Answer<LinksResponse> {
        pass_on!(self, request, Answers::Anyone, links);
        let links = self.read(|machine| Ok(machine.links().map(links::without_password).collect()))?;
        Ok(Response::new(LinksResponse { links }))
    }

    async fn link_put(&self, request: Request<LinkPutRequest>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, link_put);
        let link = request.into_inner().link;
        let _changing = self.inner.changing.lock().await;
        let name = link.as_ref().map_or(String::new(), |link| link.name.clone());
        let stored = self.read(|machine| Ok(machine.link(&name).cloned()))?;
        let link = links::to_store(link, stored.as_ref()).map_err(Status::invalid_argument)?;
        self.change(Op::LinkPut(LinkPut { link: Some(link) }), String::new).await
    }

    async fn link_delete(&self, request: Request<LinkDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, link_delete);
        let delete = request.into_inner();
        let _changing = self.inner.changing.lock().await;
        let target = format!("link:{}", delete.name);
        let used = self.read(|machine| Ok(machine.routes().find(|route| route.target == target).cloned()))?;
        if let Some(route) = used {
            return Err(Status::failed_precondition(format!(
                "the route with prefix {:?} uses link {:?}: delete it first",
                route.prefix, delete.name
            )));
        }
        let name = delete.name.clone();
        self.change(Op::LinkDelete(delete), || format!("link {name:?}")).await
    }

    async fn link_status(&self, request: Request<LinkStatusRequest>) -> Answer<LinkStatusResponse> {
        pass_on!(self, request, Answers::Leader, link_status);
        let stored: Vec<Link> = self.read(|machine| Ok(machine.links().cloned().collect()))?;
        let links = links::status(&stored, &self.inner.host.links());
        Ok(Response::new(LinkStatusResponse { links }))
    }

    async fn handsets(&self, request: Request<HandsetsRequest>) -> Answer<HandsetsResponse> {
        pass_on!(self, request, Answers::Anyone, handsets);
        let ranges = self.read(|machine| Ok(machine.handsets().cloned().collect()))?;
        Ok(Response::new(HandsetsResponse { ranges }))
    }

    async fn handset_put(&self, request: Request<HandsetRange>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, handset_put);
        let range = request.into_inner();
        check::handset(&range).map_err(Status::invalid_argument)?;
        self.change(Op::HandsetPut(HandsetPut { range: Some(range) }), String::new).await
    }

    async fn handset_delete(&self, request: Request<HandsetDelete>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, handset_delete);
        let delete = request.into_inner();
        let prefix = delete.prefix.clone();
        self.change(Op::HandsetDelete(delete), || format!("range of handsets with prefix {prefix:?}")).await
    }

    async fn handset_send(&self, request: Request<HandsetSendRequest>) -> Answer<HandsetSendResponse> {
        pass_on!(self, request, Answers::Leader, handset_send);
        let HandsetSendRequest { from, to, text } = request.into_inner();
        check::number("sender", &from).map_err(Status::invalid_argument)?;
        check::number("destination", &to).map_err(Status::invalid_argument)?;
        let simulated =
            self.read(|machine| Ok(machine.handsets().any(|range| from.starts_with(range.prefix.as_str()))))?;
        if !simulated {
            let text = format!("{from} is no simulated handset: see smscctl handset list");
            return Err(Status::failed_precondition(text));
        }
        let submission = self.inner.host.mobile_originated(&from, &to, &text).map_err(Status::failed_precondition)?;
        match self.propose(Op::Submit(Submit { submission: Some(submission) })).await? {
            Outcome::Stored(message_id) => Ok(Response::new(HandsetSendResponse { message_id })),
            other => Err(Status::internal(format!("the store answered a submission with {other:?}"))),
        }
    }

    async fn message_show(&self, request: Request<MessageShowRequest>) -> Answer<MessageView> {
        pass_on!(self, request, Answers::Anyone, message_show);
        let id = request.get_ref().id;
        let view = self.read(|machine| messages::show(machine, id))?;
        view.map(Response::new).ok_or_else(|| unknown_message(id))
    }

    async fn message_find(&self, request: Request<MessageFindRequest>) -> Answer<MessageFindResponse> {
        pass_on!(self, request, Answers::Anyone, message_find);
        let store = self.inner.store.clone();
        let found = tokio::task::spawn_blocking(move || messages::find(&store, request.get_ref()));
        let found = found.await.map_err(|error| Status::internal(format!("the search ended badly: {error}")))?;
        found.map(Response::new).map_err(|error| refusal::disk(&error))
    }

    async fn message_cancel(&self, request: Request<MessageCancelRequest>) -> Answer<MessageView> {
        pass_on!(self, request, Answers::Leader, message_cancel);
        let id = request.get_ref().id;
        let Some(message) = self.read(|machine| machine.message(id))? else {
            let ended = self.read(|machine| machine.final_record(id))?;
            return Err(ended.map_or_else(|| unknown_message(id), |record| already_final(id, record.state())));
        };
        let (state, at_ms) = (MessageState::Deleted, self.inner.host.now_ms());
        let finish = Finish {
            segments: message.submission.as_ref().map_or(0, segment_count),
            id,
            state: state as i32,
            at_ms,
            receipt: self.inner.host.receipt(&message, state, at_ms),
            ..Default::default()
        };
        match self.propose(Op::Finish(finish)).await? {
            Outcome::Finished { record } => Ok(Response::new(messages::ended(Arc::unwrap_or_clone(record)))),
            Outcome::AlreadyFinal(record) => Err(already_final(id, record.state())),
            Outcome::NotFound => Err(unknown_message(id)),
            other => Err(Status::internal(format!("the store answered a cancel with {other:?}"))),
        }
    }

    async fn settings(&self, request: Request<SettingsRequest>) -> Answer<SettingsResponse> {
        pass_on!(self, request, Answers::Anyone, settings);
        let settings = self.read(|machine| Ok(machine.settings()))?;
        Ok(Response::new(SettingsResponse { settings: Some(settings) }))
    }

    async fn settings_put(&self, request: Request<Settings>) -> Answer<Done> {
        pass_on!(self, request, Answers::Leader, settings_put);
        let settings = request.into_inner();
        check::settings(&settings).map_err(Status::invalid_argument)?;
        self.change(Op::SettingsPut(SettingsPut { settings: Some(settings) }), String::new).await
    }

    async fn last_takeover(&self, request: Request<LastTakeoverRequest>) -> Answer<LastTakeoverResponse> {
        pass_on!(self, request, Answers::Anyone, last_takeover);
        Ok(Response::new(self.inner.host.last_takeover()))
    }

    async fn digest(&self, request: Request<DigestRequest>) -> Answer<DigestResponse> {
        let inner = &self.inner;
        cluster::digest(&inner.store, &inner.config, request.into_inner()).await.map(Response::new)
    }

    async fn drills(&self, request: Request<DrillsRequest>) -> Answer<DrillsResponse> {
        pass_on!(self, request, Answers::Anyone, drills);
        let drills = self.read(|machine| Ok(machine.drills().cloned().collect()))?;
        Ok(Response::new(DrillsResponse { drills }))
    }

    async fn drill_put(&self, request: Request<DrillRecord>) -> Answer<DrillRecord> {
        pass_on!(self, request, Answers::Leader, drill_put);
        let drill = request.into_inner();
        if drill.report.len() > DRILL_REPORT_BYTES_MAX {
            let text = format!("a drill's report may have {DRILL_REPORT_BYTES_MAX} bytes at most");
            return Err(Status::invalid_argument(text));
        }
        match self.propose(Op::DrillPut(DrillPut { drill: Some(drill.clone()) })).await? {
            Outcome::DrillStored(id) => Ok(Response::new(DrillRecord { id, ..drill })),
            other => Err(Status::internal(format!("the store answered a drill with {other:?}"))),
        }
    }
}

fn unknown_message(id: u64) -> Status {
    Status::not_found(format!("there is no message {id}: never stored, or final for longer than finals are kept"))
}

fn already_final(id: u64, state: MessageState) -> Status {
    let state = state.as_str_name().trim_start_matches("MESSAGE_STATE_").to_lowercase();
    Status::failed_precondition(format!("message {id} is {state} already"))
}
