//! The replicated configuration, made ready to be asked by many: built anew when it has changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smsc_proto::status::RefusalStatus;
use smsc_raft::machine::Machine;
use smsc_raft::model::{Account, DistributionList, HandsetRange, Message, MessageState, Route, Submission};
use smsc_raft::store::Store;

use crate::delivery::receipt;
use crate::delivery::route::list::NumberSet;
use crate::delivery::route::{Query, RouteTable};
use crate::smpp::ports::{Directory, Routed, Routes};

/// The directory as it was when the store's configuration had this version.
#[derive(Default)]
pub(super) struct DirectoryCache {
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    version: u64,
    directory: Arc<Directory>,
    table: Arc<RouteTable>,
    lists: Lists,
}

/// The number lists that are in effect, with their generation: a list of a million numbers is read once.
type Lists = HashMap<String, (u64, Arc<NumberSet>)>;

impl DirectoryCache {
    /// The directory as it is now.
    pub(super) fn directory(&self, store: &Store) -> Arc<Directory> {
        self.current(store).directory
    }

    /// The routes as they are now.
    pub(super) fn table(&self, store: &Store) -> Arc<RouteTable> {
        self.current(store).table
    }

    fn current(&self, store: &Store) -> Kept {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the state is, so that a change in between is seen the next time.
        let version = store.config_version();
        match &*kept {
            Some(current) if current.version == version => current.clone(),
            _ => {
                let lists = kept.take().map(|before| before.lists).unwrap_or_default();
                let built = build(store, version, &lists);
                *kept = Some(built.clone());
                built
            }
        }
    }
}

fn build(store: &Store, version: u64, before: &Lists) -> Kept {
    // Entries are not applied meanwhile: only taken out here, and made ready below.
    let taken = store.read(|machine| {
        let accounts: Vec<Arc<Account>> = machine.shared_accounts().cloned().collect();
        let routes: Vec<Route> = machine.routes().cloned().collect();
        let handsets: Vec<HandsetRange> = machine.handsets().cloned().collect();
        let members: Vec<DistributionList> = machine.lists().cloned().collect();
        Ok((accounts, routes, handsets, members, read_lists(machine, before), machine.settings()))
    });
    let (accounts, routes, handsets, members, lists, settings) =
        taken.expect("accounts, routes and settings are in memory");
    let sets = lists.iter().map(|(name, (_, set))| (name.clone(), set.clone())).collect();
    let table = RouteTable::build(accounts.iter().map(|account| &**account), &routes, &handsets);
    let table = Arc::new(table.with_lists(sets).with_plan(settings.number_plan.clone()));
    let directory = Directory {
        accounts: accounts.into_iter().map(|account| (account.system_id.clone(), account)).collect(),
        lists: members.into_iter().map(|list| (list.name.clone(), Arc::new(list))).collect(),
        routes: Box::new(Table(table.clone())),
        settings,
    };
    Kept { version, directory: Arc::new(directory), table, lists }
}

fn read_lists(machine: &Machine, before: &Lists) -> Lists {
    let read = |list: &smsc_raft::model::NumberList| {
        let known = before.get(&list.name).filter(|(generation, _)| *generation == list.generation);
        let set = match known {
            Some((_, set)) => set.clone(),
            // A list that cannot be read is one that does not exist: what it is to let through stays out.
            None => match NumberSet::of_chunks(machine.number_chunks(list)) {
                Ok(set) => Arc::new(set),
                Err(error) => {
                    tracing::error!(%error, "a number list is not in effect");
                    return None;
                }
            },
        };
        Some((list.name.clone(), (list.generation, set)))
    };
    machine.number_lists().filter_map(read).collect()
}

struct Table(Arc<RouteTable>);

impl Routes for Table {
    fn route(&self, query: &Query<'_>) -> Result<Routed, RefusalStatus> {
        self.0.route(query).map_err(|refusal| refusal.status())
    }

    fn deletion_receipt(&self, message: &Message, at_ms: u64, validity_s: u64) -> Option<Submission> {
        let account = message.submission.as_ref().map_or("", |submission| submission.account.as_str());
        receipt::submission(message, MessageState::Deleted, at_ms, 0, self.0.receipt_terms(account, validity_s))
    }
}
