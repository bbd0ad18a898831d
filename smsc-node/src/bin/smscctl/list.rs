//! `smscctl list`: the distribution lists of submit_multi.

use clap::Subcommand;
use serde::Serialize;
use smsc_proto::rpc::admin::ListsRequest;
use smsc_proto::types::{Npi, Ton};
use smsc_raft::model::{Address, DistributionList, ListDelete};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, table};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum ListCommand {
    /// All lists. JSON fields, for each: name, account (empty: for all), members (each ton/npi/digits).
    List,
    /// Make a list, or put another in the place of the one with this name.
    Put {
        /// 1 to 20 printable ASCII characters: dl_name of submit_multi.
        name: String,
        /// The members, with commas: digits (as international ISDN numbers), or ton/npi/digits.
        #[arg(value_delimiter = ',', required = true)]
        members: Vec<String>,
        /// The only account that may use it; without, all may.
        #[arg(long, default_value = "")]
        account: String,
    },
    /// Delete a list.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Serialize)]
struct ListView {
    name: String,
    account: String,
    members: Vec<String>,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: ListCommand, format: Format) -> Result<(), Failure> {
    let mut client = connect.client().await?;
    match command {
        ListCommand::List => {
            let lists = client.lists(ListsRequest {}).await?.into_inner().lists;
            let view = |list: DistributionList| ListView {
                name: list.name,
                account: list.account,
                members: list.members.iter().map(text_of).collect(),
            };
            let views: Vec<_> = lists.into_iter().map(view).collect();
            format.show(&views, |views| {
                let row = |view: &ListView| {
                    let account = if view.account.is_empty() { "all" } else { &view.account };
                    [view.name.clone(), account.to_owned(), view.members.len().to_string()]
                };
                let rows: Vec<_> = views.iter().map(row).collect();
                table(["NAME", "FOR ACCOUNT", "MEMBERS"], &rows, "no lists")
            })
        }
        ListCommand::Put { name, members, account } => {
            let members = members.iter().map(|text| member(text)).collect::<Result<Vec<_>, _>>();
            let members = members.map_err(Failure::usage)?;
            let sentence = format!("list {name} has {} members", members.len());
            client.list_put(DistributionList { name, account, members }).await?;
            format.done(&sentence)
        }
        ListCommand::Delete { name } => {
            client.list_delete(ListDelete { name: name.clone() }).await?;
            format.done(&format!("list {name} is deleted"))
        }
    }
}

/// A member as it is written: digits alone are an international ISDN number.
pub fn member(text: &str) -> Result<Address, String> {
    let parts: Vec<&str> = text.trim().split('/').collect();
    let number = |part: &str| part.parse::<u8>().map(u32::from).ok();
    let address = match parts[..] {
        [digits] => Some((u32::from(Ton::INTERNATIONAL.0), u32::from(Npi::ISDN.0), digits)),
        [ton, npi, digits] => number(ton).zip(number(npi)).map(|(ton, npi)| (ton, npi, digits)),
        _ => None,
    };
    address
        .map(|(ton, npi, digits)| Address { ton, npi, digits: digits.to_owned() })
        .ok_or_else(|| format!("{text:?} is no member: write digits, or ton/npi/digits"))
}

/// A member as [`member`] reads it.
pub fn text_of(address: &Address) -> String {
    match (address.ton, address.npi) {
        (1, 1) => address.digits.clone(),
        (ton, npi) => format!("{ton}/{npi}/{}", address.digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_they_are_written() {
        for text in ["15551", "2/1/5551", "0/0/1000"] {
            assert_eq!(text_of(&member(text).expect("well")), text);
        }
        assert_eq!(member("1/1/15551").map(|address| text_of(&address)), Ok("15551".to_owned()));
        for text in ["1/15551", "x/1/2", "256/1/2"] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
