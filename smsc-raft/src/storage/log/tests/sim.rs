//! A disk in memory that fails at a chosen call, and that loses, tears and reorders what was not synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::super::disk::{Disk, DiskFile, Lock};

/// What reaches the medium whole or not at all.
const SECTOR: usize = 512;

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and the next one works again.
    Fail,
    /// It fails half done, and so does every call until the power is back.
    Die,
}

/// What the medium has after the power was lost, of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// Everything: only the process was killed.
    All,
    /// Nothing.
    Nothing,
    /// Sectors up to some point.
    Prefix,
    /// Any sectors.
    Any,
}

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
    /// While this is set, writes and syncs wait for one of the permits.
    held: Arc<Mutex<Option<u32>>>,
}

struct State {
    files: HashMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    /// The directory as it is on the medium.
    names_synced: BTreeMap<PathBuf, u64>,
    /// The directory after each change since.
    names_since: Vec<BTreeMap<PathBuf, u64>>,
    locked: BTreeSet<PathBuf>,
    next_file: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    capacity: u64,
    rng: Rng,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    medium: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

impl Content {
    fn put(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.now.len());
        if self.medium.len() < to {
            self.medium.resize(to, 0);
        }
        self.medium[from..to].copy_from_slice(&self.now[from..to]);
    }
}

/// Keeps writes and syncs from beginning, as long as it lives.
pub(super) struct Held(Arc<Mutex<Option<u32>>>);

impl Held {
    /// Lets so many through.
    pub(super) fn allow(&self, calls: u32) {
        *self.0.lock().expect("no panic") = Some(calls);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") = None;
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            files: HashMap::new(),
            names: BTreeMap::new(),
            names_synced: BTreeMap::new(),
            names_since: Vec::new(),
            locked: BTreeSet::new(),
            next_file: 0,
            calls: 0,
            fault: None,
            dead: false,
            capacity: u64::MAX,
            rng: Rng(seed),
        }));
        Self { state, held: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Lets no write or sync begin but those that the guard allows.
    pub(super) fn hold(&self) -> Held {
        let held = Held(self.held.clone());
        held.allow(0);
        held
    }

    fn wait_for_permit(&self) {
        loop {
            match &mut *self.held.lock().expect("no panic") {
                None => return,
                Some(0) => {}
                Some(permits) => {
                    *permits -= 1;
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Calls made so far.
    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the n-th call from the beginning fail.
    pub(super) fn fail_at(&self, call: u64, fault: Fault) {
        self.state().fault = Some((call, fault));
    }

    /// Sets how many bytes all files together may have.
    pub(super) fn limit(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Power off and on. Every store on this disk must have been dropped.
    pub(super) fn crash(&self, survives: Survives) {
        let mut state = self.state();
        let State { files, names, names_synced, names_since, rng, .. } = &mut *state;
        for content in files.values_mut() {
            let count = content.dirty.len() as u64;
            let prefix = rng.below(count + 1);
            let dirty = std::mem::take(&mut content.dirty);
            for (position, sector) in dirty.into_iter().enumerate() {
                let kept = match survives {
                    Survives::All => true,
                    Survives::Nothing => false,
                    Survives::Prefix => (position as u64) < prefix,
                    Survives::Any => rng.chance(2),
                };
                if kept {
                    content.put(sector);
                }
            }
            if survives == Survives::All {
                // What a failed sync has dropped is still in the page cache.
            } else {
                content.now = content.medium.clone();
            }
        }
        let kept = match survives {
            Survives::All => names_since.len(),
            Survives::Nothing => 0,
            Survives::Prefix | Survives::Any => usize::try_from(rng.below(names_since.len() as u64 + 1)).expect("few"),
        };
        if let Some(last) = kept.checked_sub(1) {
            *names_synced = names_since[last].clone();
        }
        *names = names_synced.clone();
        names_since.clear();
        state.locked.clear();
        state.dead = false;
        state.fault = None;
    }

    /// The names in the directory, sorted.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Changes a file behind everyone's back, durably.
    pub(super) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[path];
        let content = state.files.get_mut(&id).expect("named files exist");
        change(&mut content.now);
        content.medium = content.now.clone();
        content.dirty.clear();
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[path]].now.clone()
    }

    /// Removes a file behind everyone's back, durably.
    pub(super) fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.names_synced = state.names.clone();
        state.names_since.clear();
    }

    /// Puts a file there behind everyone's back, durably.
    pub(super) fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, Content { now: bytes.to_vec(), medium: bytes.to_vec(), dirty: BTreeSet::new() });
        state.names.insert(path.to_owned(), id);
        state.names_synced = state.names.clone();
        state.names_since.clear();
    }
}

impl State {
    /// Counts a call; an error if it is the one to fail.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        match self.fault {
            Some((call, fault)) if call == self.calls => {
                self.dead = fault == Fault::Die;
                Err(io::Error::other("an injected fault"))
            }
            _ => Ok(()),
        }
    }

    fn renamed(&mut self) {
        self.names_since.push(self.names.clone());
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.state().call()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.call()?;
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut state = self.state();
        state.call()?;
        if state.locked.insert(path.to_owned()) {
            Ok(Lock::Taken(Box::new(SimLock { disk: self.clone(), path: path.to_owned() })))
        } else {
            Ok(Lock::HeldBy(None))
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.call()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, Content::default());
        state.names.insert(path.to_owned(), id);
        state.renamed();
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.call()?;
        let id = state.find(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let id = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        state.renamed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.find(path)?;
        state.names.remove(path);
        state.renamed();
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.names_synced = state.names.clone();
        state.names_since.clear();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.call()?;
        Ok(state.files[&self.id].now.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        let from = usize::try_from(offset).expect("small files");
        let bytes = state.files[&self.id].now.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.wait_for_permit();
        let mut state = self.disk.state();
        let called = state.call();
        let all = buf.len() as u64;
        let from = usize::try_from(offset).expect("small files");
        let mut len = match called {
            Ok(()) => all,
            Err(_) => state.rng.below(all + 1),
        };
        let used: u64 = state.names.values().map(|id| state.files[id].now.len() as u64).sum();
        let length = state.files[&self.id].now.len() as u64;
        let full = used + (offset + len).saturating_sub(length) > state.capacity;
        if full {
            len = len.min((length + state.capacity.saturating_sub(used)).saturating_sub(offset));
        }
        let len = usize::try_from(len).expect("small files");
        let content = state.files.get_mut(&self.id).expect("open files exist");
        if content.now.len() < from + len {
            content.now.resize(from + len, 0);
        }
        content.now[from..from + len].copy_from_slice(&buf[..len]);
        content.dirty.extend((from..from + len).step_by(SECTOR).map(|at| at / SECTOR));
        if len > 0 {
            content.dirty.insert((from + len - 1) / SECTOR);
        }
        called?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// A sync that fails writes some sectors and forgets the others, as kernels do: another one finds nothing to do.
    fn sync(&self) -> io::Result<()> {
        self.disk.wait_for_permit();
        let mut state = self.disk.state();
        let called = state.call();
        let State { files, rng, dead, .. } = &mut *state;
        let content = files.get_mut(&self.id).expect("open files exist");
        if called.is_ok() || !*dead {
            for sector in std::mem::take(&mut content.dirty) {
                if called.is_ok() || rng.chance(2) {
                    content.put(sector);
                }
            }
        }
        called
    }
}
