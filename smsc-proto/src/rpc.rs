//! Generated from `proto/`: the RPCs between nodes and of the admin service, and the records that are persisted.

#![allow(missing_docs, clippy::all, unused_qualifications)]

mod smsc {
    pub mod raft {
        pub mod v1 {
            tonic::include_proto!("smsc.raft.v1");
        }
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("smsc.store.v1");
        }
    }
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("smsc.admin.v1");
        }
    }
}

pub use smsc::admin::v1 as admin;
pub use smsc::raft::v1 as raft;
pub use smsc::store::v1 as store;

/// Without its password, so that no log line and no error text holds it.
impl std::fmt::Debug for store::Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let password = if self.password.is_empty() { "not set" } else { "set" };
        f.debug_struct("Link")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("system_id", &self.system_id)
            .field("password", &password)
            .field("mode", &self.mode)
            .field("binds", &self.binds)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}
