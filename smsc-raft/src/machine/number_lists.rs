//! Number lists: imported whole, in chunks, and in effect with the last of them.

use super::Machine;
use crate::model::{NumberChunk, NumberList};

impl Machine {
    /// Keeps a chunk; whether it was the last one, which puts its generation into effect and drops those before.
    pub(super) fn put_number_chunk(&mut self, chunk: NumberChunk) -> bool {
        let name = chunk.list.clone();
        let (generation, last, total) = (chunk.generation, chunk.last, chunk.total);
        // What is left of an import that was overtaken by another one.
        if self.number_lists.get(name.as_str()).is_some_and(|list| list.generation >= generation) {
            return false;
        }
        let chunks = chunk.index + 1;
        self.number_chunks.put((name.clone(), chunk_key(generation, chunk.index)), chunk);
        if !last {
            return false;
        }
        self.drop_chunks(&name, Some(generation));
        let imported_at_ms = self.stamp_ms;
        let list = NumberList { name: name.clone(), generation, chunks, numbers: total, imported_at_ms };
        self.number_lists.put(name, list);
        true
    }

    pub(super) fn delete_number_list(&mut self, name: &str) -> bool {
        self.drop_chunks(name, None);
        self.number_lists.remove(&name.to_owned())
    }

    /// Drops the chunks of a list, but for those of one generation.
    fn drop_chunks(&mut self, name: &str, keep: Option<u64>) {
        let gone = self.number_chunks.iter().filter(|row| row.1.list == name && Some(row.1.generation) != keep);
        let gone: Vec<_> = gone.map(|row| row.0.clone()).collect();
        for key in gone {
            self.number_chunks.remove(&key);
        }
    }

    /// The chunks of a list that are in effect, in order.
    pub fn number_chunks<'a>(&'a self, list: &'a NumberList) -> impl Iterator<Item = &'a NumberChunk> + 'a {
        (0..list.chunks)
            .filter_map(|index| self.number_chunks.get(&(list.name.clone(), chunk_key(list.generation, index))))
    }
}

/// Sorts as generation and index do.
fn chunk_key(generation: u64, index: u32) -> String {
    format!("{generation:016x}{index:08x}")
}
