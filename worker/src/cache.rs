//! Encoded shards by view, under the worker's memory budget. What does not fit is written to the
//! spill folder and read back when it is used. A cache only: everything in it can be made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_learn::program::{decode, encode};
use sheaf_learn::shard::EncodedShard;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::{Grant, MemoryBudget};

/// Names a view of a dataset.
pub type ViewKey = Arc<str>;

/// The cache; cheap to clone.
#[derive(Clone)]
pub struct ShardCache {
    inner: Arc<Inner>,
}

struct Inner {
    budget: MemoryBudget,
    spill: PathBuf,
    next_file: AtomicU64,
    views: Mutex<BTreeMap<ViewKey, View>>,
}

/// The shards of one view, and how many open stages use it.
#[derive(Default)]
struct View {
    users: usize,
    shards: BTreeMap<u32, Entry>,
}

/// Keeps a view from being forgotten for want of memory, as long as it lives.
pub struct InUse {
    cache: ShardCache,
    view: ViewKey,
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(view) = self.cache.views().get_mut(&self.view) {
            view.users -= 1;
        }
    }
}

enum Entry {
    Memory { shard: Arc<EncodedShard>, _grant: Grant },
    Spilled { path: PathBuf, bytes: u64 },
}

impl ShardCache {
    /// An empty cache that spills below `spill` (an existing folder of this process alone).
    pub fn new(budget: MemoryBudget, spill: &Path) -> Self {
        Self { inner: Arc::new(Inner { budget, spill: spill.to_owned(), next_file: AtomicU64::new(0), views: Mutex::default() }) }
    }

    /// Says that a stage uses the view. What no stage uses is forgotten first when memory runs short.
    pub fn in_use(&self, view: &ViewKey) -> InUse {
        self.views().entry(Arc::clone(view)).or_default().users += 1;
        InUse { cache: self.clone(), view: Arc::clone(view) }
    }

    /// The shards of `wanted` that the view lacks, ascending.
    pub fn missing(&self, view: &ViewKey, wanted: impl Iterator<Item = u32>) -> Vec<u32> {
        let views = self.views();
        let have = views.get(view);
        wanted.filter(|shard| have.is_none_or(|h| !h.shards.contains_key(shard))).collect()
    }

    /// Keeps a shard, in memory if the budget allows, else on disk.
    pub fn insert(&self, view: &ViewKey, shard: EncodedShard) -> Result<(), Fault> {
        let index = shard.index;
        let bytes = shard.bytes() as u64;
        let entry = match self.grant(bytes) {
            Some(grant) => Entry::Memory { shard: Arc::new(shard), _grant: grant },
            None => self.spill(&shard, bytes)?,
        };
        let replaced = self.views().entry(Arc::clone(view)).or_default().shards.insert(index, entry);
        replaced.iter().for_each(remove_file);
        Ok(())
    }

    /// The shard, if the view has it.
    pub fn get(&self, view: &ViewKey, index: u32) -> Result<Option<Arc<EncodedShard>>, Fault> {
        let path = match self.views().get(view).and_then(|view| view.shards.get(&index)) {
            None => return Ok(None),
            Some(Entry::Memory { shard, .. }) => return Ok(Some(Arc::clone(shard))),
            Some(Entry::Spilled { path, .. }) => path.clone(),
        };
        let bytes = std::fs::read(&path).map_err(|e| retry(format!("read spilled shard {}: {e}", path.display())))?;
        let shard = decode("spilled shard", &bytes).map_err(|e| retry(e.to_string()))?;
        Ok(Some(Arc::new(shard)))
    }

    /// Grants memory, forgetting views that no stage uses until it fits.
    fn grant(&self, bytes: u64) -> Option<Grant> {
        loop {
            if let Some(grant) = self.inner.budget.grant(bytes) {
                return Some(grant);
            }
            let mut views = self.views();
            let idle = views.iter().find(|(_, view)| view.users == 0).map(|(key, _)| Arc::clone(key))?;
            let forgotten = views.remove(&idle);
            drop(views);
            forgotten.iter().flat_map(|view| view.shards.values()).for_each(remove_file);
        }
    }

    /// Forgets one shard.
    pub fn remove_shard(&self, view: &ViewKey, index: u32) {
        let removed = self.views().get_mut(view).and_then(|view| view.shards.remove(&index));
        if let Some(entry) = removed {
            remove_file(&entry);
        }
    }

    /// Bytes in memory and on disk.
    pub fn sizes(&self) -> (u64, u64) {
        let spilled = |entry: &Entry| if let Entry::Spilled { bytes, .. } = entry { *bytes } else { 0 };
        let on_disk = self.views().values().flat_map(|view| view.shards.values()).map(spilled).sum();
        (self.inner.budget.used(), on_disk)
    }

    fn spill(&self, shard: &EncodedShard, bytes: u64) -> Result<Entry, Fault> {
        // A name is never used twice: a file that is read may be forgotten, but not overwritten.
        let number = self.inner.next_file.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.spill.join(format!("{number}.shard"));
        let write = || {
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, encode(shard))?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|e| retry(format!("spill shard {} to {}: {e}", shard.index, path.display())))?;
        Ok(Entry::Spilled { path, bytes })
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<ViewKey, View>> {
        // The map is valid between any two of its calls: a panic elsewhere does not spoil it.
        self.inner.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_file(entry: &Entry) {
    if let Entry::Spilled { path, .. } = entry
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(file = %path.display(), %error, "spilled shard not removed");
    }
}

fn retry(message: String) -> Fault {
    Fault { retry: true, ..Fault::internal(message) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sheaf_learn::shard::Column;

    use super::*;

    fn shard(index: u32) -> EncodedShard {
        let columns = vec![Column::F64(vec![f64::from(index), f64::NAN]), Column::Code(vec![index, 9])];
        EncodedShard { index, rows: 2, bounds: [0, 1, 1, 2], columns, target: Some(vec![0.0, 1.0]), ..EncodedShard::default() }
    }

    #[test]
    fn what_does_not_fit_is_spilled_and_comes_back_with_its_bits() {
        let folder = tempfile::tempdir().unwrap();
        let one = shard(0).bytes() as u64;
        let cache = ShardCache::new(MemoryBudget::new(one * 2), folder.path());
        let view: ViewKey = "view".into();
        let used = cache.in_use(&view);
        for index in 0..5 {
            cache.insert(&view, shard(index)).unwrap();
        }
        assert_eq!(cache.sizes(), (one * 2, one * 3));
        for index in 0..5 {
            let back = cache.get(&view, index).unwrap().unwrap();
            assert_eq!(encode(&*back), encode(&shard(index)));
        }
        assert_eq!(cache.missing(&view, 3..7), vec![5, 6]);
        // Once no stage uses it, another view takes its place in memory, and its files go.
        drop(used);
        let other: ViewKey = "other".into();
        let _used = cache.in_use(&other);
        cache.insert(&other, shard(7)).unwrap();
        assert_eq!(cache.sizes(), (one, 0));
        assert_eq!(cache.missing(&view, 0..2), vec![0, 1]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
