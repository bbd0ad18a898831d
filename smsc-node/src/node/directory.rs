//! The replicated configuration, made ready to be asked by many: built anew when it has changed.

use std::sync::{Arc, Mutex, PoisonError};

use smsc_proto::status::RefusalStatus;
use smsc_raft::model::{Address, Message, MessageState, Submission};
use smsc_raft::store::Store;

use crate::delivery::receipt;
use crate::delivery::route::RouteTable;
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
}

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
                let built = build(store, version);
                *kept = Some(built.clone());
                built
            }
        }
    }
}

fn build(store: &Store, version: u64) -> Kept {
    let built = store.read(|machine| {
        let table = Arc::new(RouteTable::build(machine.accounts(), machine.routes(), machine.handsets()));
        let accounts = machine.accounts().map(|account| (account.system_id.clone(), Arc::new(account.clone())));
        let directory = Directory {
            accounts: accounts.collect(),
            lists: machine.lists().map(|list| (list.name.clone(), Arc::new(list.clone()))).collect(),
            routes: Box::new(Table(table.clone())),
            settings: machine.settings(),
        };
        Ok(Kept { version, directory: Arc::new(directory), table })
    });
    built.expect("accounts, routes and settings are in memory")
}

struct Table(Arc<RouteTable>);

impl Routes for Table {
    fn route(&self, account: &str, destination: &Address) -> Result<Routed, RefusalStatus> {
        match self.0.route(account, destination) {
            Ok(routed) => Ok(Routed { kind: routed.kind, key: routed.key, link: routed.link.to_owned() }),
            Err(refusal) => Err(refusal.status()),
        }
    }

    fn deletion_receipt(&self, message: &Message, at_ms: u64, validity_s: u64) -> Option<Submission> {
        let account = message.submission.as_ref().map_or("", |submission| submission.account.as_str());
        receipt::submission(message, MessageState::Deleted, at_ms, 0, self.0.receipt_terms(account, validity_s))
    }
}
