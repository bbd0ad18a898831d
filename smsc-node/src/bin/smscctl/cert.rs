//! `smscctl cert`: the cluster's certificates. Asks no node.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use smsc_node::cert::{self, CertError, Issued};

use crate::exit::Failure;
use crate::output::Format;

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum CertCommand {
    /// Make the cluster's authority: ca.pem for every node, ca.key for safekeeping. Valid for ten years.
    Ca {
        /// The folder that holds the cluster's certificates.
        #[arg(long)]
        dir: PathBuf,
        /// The cluster's name.
        #[arg(long)]
        cluster: String,
    },
    /// Make a node's certificate and key, node-ID.pem and node-ID.key. Valid for two years.
    Node {
        /// The folder with the authority.
        #[arg(long)]
        dir: PathBuf,
        /// The node's id, 1 to 255.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=255))]
        id: u64,
        /// Its short name.
        #[arg(long)]
        name: String,
        /// A host name or address by which smscctl --addr reaches the node; may be given several times.
        #[arg(long = "host")]
        hosts: Vec<String>,
    },
    /// Make an operator's certificate and key for smscctl --tls-dir, admin-NAME.pem and admin-NAME.key. Valid for two
    /// years.
    Admin {
        /// The folder with the authority.
        #[arg(long)]
        dir: PathBuf,
        /// The operator: lower-case letters, digits and hyphens.
        #[arg(long)]
        name: String,
    },
}

#[derive(Debug, Serialize)]
struct IssuedView {
    cert: String,
    key: String,
}

/// Does it and prints. JSON fields: cert, key.
pub fn run(command: CertCommand, format: Format) -> Result<(), Failure> {
    let issued = match command {
        CertCommand::Ca { dir, cluster } => cert::init_ca(&dir, &cluster),
        CertCommand::Node { dir, id, name, hosts } => cert::issue_node(&dir, id, &name, &hosts),
        CertCommand::Admin { dir, name } => cert::issue_admin(&dir, &name),
    };
    let issued = issued.map_err(failure)?;
    format.show(&view(&issued), |view| format!("made {} and {}", view.cert, view.key))
}

fn failure(error: CertError) -> Failure {
    match error {
        CertError::BadName { .. } => Failure::usage(error),
        other => Failure::refused(other),
    }
}

fn view(issued: &Issued) -> IssuedView {
    IssuedView { cert: issued.cert.display().to_string(), key: issued.key.display().to_string() }
}
