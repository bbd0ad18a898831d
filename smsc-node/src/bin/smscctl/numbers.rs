//! `smscctl numbers`: lists of numbers that routes ask, as of ported numbers or of those that are refused.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use smsc_node::delivery::route::list::NumberSet;
use smsc_proto::rpc::admin::NumberListsRequest;
use smsc_raft::model::NumberListDelete;

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::file::read;
use crate::output::{Format, dash, table, time};

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum NumbersCommand {
    /// All lists. JSON fields, for each: name, numbers, imported_at.
    List,
    /// Import a list, in place of the one with this name: the new one takes effect as a whole. A million numbers take
    /// seconds. JSON field: numbers.
    Import {
        /// Name of the list.
        name: String,
        /// A number on each line, in the international form without a sign in front; text behind a comma, a semicolon
        /// or a blank does not count, nor do empty lines and those that begin with #. - for standard input.
        file: PathBuf,
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
    numbers: u64,
    imported_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ImportedView {
    numbers: usize,
}

/// Does it and prints.
pub async fn run(connect: &ConnectArgs, command: NumbersCommand, format: Format) -> Result<(), Failure> {
    let mut client = connect.leader_client().await?;
    match command {
        NumbersCommand::List => {
            let lists = client.number_lists(NumberListsRequest {}).await?.into_inner().lists;
            let view = |list: smsc_raft::model::NumberList| ListView {
                name: list.name,
                numbers: list.numbers,
                imported_at: time(list.imported_at_ms),
            };
            let views: Vec<_> = lists.into_iter().map(view).collect();
            format.show(&views, |views| {
                let row = |view: &ListView| {
                    [view.name.clone(), view.numbers.to_string(), dash(view.imported_at.as_deref().unwrap_or(""))]
                };
                let rows: Vec<_> = views.iter().map(row).collect();
                table(["LIST", "NUMBERS", "IMPORTED"], &rows, "no number lists")
            })
        }
        NumbersCommand::Import { name, file } => {
            let set = numbers(&read(&file)?).map_err(|number| {
                Failure::refused(format!("{}: {number:?} is no number of 1 to 18 digits", file.display()))
            })?;
            let lists = client.number_lists(NumberListsRequest {}).await?.into_inner().lists;
            let before = lists.iter().find(|list| list.name == name).map_or(0, |list| list.generation);
            for chunk in set.chunks(&name, before + 1) {
                client.number_chunk_put(chunk).await?;
            }
            let view = ImportedView { numbers: set.len() };
            format.show(&view, |view| format!("list {name} has {} numbers", view.numbers))
        }
        NumbersCommand::Delete { name } => {
            let sentence = format!("list {name} is deleted");
            client.number_list_delete(NumberListDelete { name }).await?;
            format.done(&sentence)
        }
    }
}

/// The numbers of a file's text, or the first that is none.
fn numbers(text: &str) -> Result<NumberSet, String> {
    let number = |line: &'_ str| -> usize { line.find([',', ';', ' ', '\t']).unwrap_or(line.len()) };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    NumberSet::of(lines.map(|line| {
        let field = &line[..number(line)];
        field.strip_prefix('+').unwrap_or(field)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_comments_and_further_columns() {
        let set = numbers("# ported\n49171,operator x\n\n+49172 y\r\n49171\n").expect("numbers");
        assert_eq!(set.len(), 2);
        assert!(set.contains("49171") && set.contains("49172"));
        assert_eq!(numbers("49\nnumber,x\n"), Err("number".to_owned()));
    }
}
