//! `smscctl route`: where destinations go.

use clap::Subcommand;
use serde::Serialize;
use smsc_proto::rpc::admin::RoutesRequest;
use smsc_raft::model::{Route, RouteDelete};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum RouteCommand {
    /// All routes. JSON fields, for each: prefix, target, account (empty: for all).
    List,
    /// Make a route, or change the one with this prefix and account. The longest prefix wins.
    Put {
        /// The first digits of the destination; \"\" for all.
        prefix: String,
        /// handset for the simulated handsets, esme:SYSTEM_ID for an account's receivers.
        target: String,
        /// Only for submissions of this account; such a route wins over one for all.
        #[arg(long, default_value = "")]
        account: String,
    },
    /// Delete a route.
    Delete {
        /// Its prefix.
        prefix: String,
        /// Its account, if it is for one only.
        #[arg(long, default_value = "")]
        account: String,
    },
}

#[derive(Debug, Serialize)]
struct RouteView {
    prefix: String,
    target: String,
    account: String,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: RouteCommand, format: Format) -> Result<(), Failure> {
    let mut client = connect.client().await?;
    match command {
        RouteCommand::List => {
            let routes = client.routes(RoutesRequest {}).await?.into_inner().routes;
            let view = |route: Route| RouteView { prefix: route.prefix, target: route.target, account: route.account };
            let views: Vec<_> = routes.into_iter().map(view).collect();
            format.show(&views, |views| {
                let row = |view: &RouteView| {
                    let account = if view.account.is_empty() { "all" } else { &view.account };
                    [dash(&view.prefix), view.target.clone(), account.to_owned()]
                };
                let rows: Vec<_> = views.iter().map(row).collect();
                table(["PREFIX", "TARGET", "FOR ACCOUNT"], &rows, "no routes")
            })
        }
        RouteCommand::Put { prefix, target, account } => {
            let sentence = format!("destinations {prefix}... go to {target}");
            client.route_put(Route { prefix, target, account }).await?;
            format.done(&sentence)
        }
        RouteCommand::Delete { prefix, account } => {
            let sentence = format!("the route for {prefix}... is deleted");
            client.route_delete(RouteDelete { prefix, account }).await?;
            format.done(&sentence)
        }
    }
}
