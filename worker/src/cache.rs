//! Parts of encoded shards by name, under the worker's memory budget. What does not fit is written to the
//! spill folder and read back when it is used: the first shards stay in memory and the rest on disk, since
//! passes run round and round and a cache of the latest would never hold what comes next. A cache only:
//! everything in it can be made again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::{Grant, MemoryBudget};

use crate::parts::Values;
use crate::spill::{self, Spilled};

/// Names a part of a view of a dataset.
pub type PartKey = Arc<str>;

/// The cache; cheap to clone.
#[derive(Clone)]
pub struct ShardCache {
    inner: Arc<Inner>,
}

struct Inner {
    budget: MemoryBudget,
    spill: PathBuf,
    next_file: AtomicU64,
    parts: Mutex<BTreeMap<PartKey, Part>>,
}

/// A part of all shards that have it, how many open stages use it, and which shards their steps need now.
#[derive(Default)]
struct Part {
    users: usize,
    needed: Vec<Arc<[Range<u32>]>>,
    shards: BTreeMap<u32, Entry>,
}

impl Part {
    fn is_needed(&self, index: u32) -> bool {
        self.needed.iter().any(|ranges| ranges.iter().any(|range| range.contains(&index)))
    }
}

/// Keeps parts from being forgotten for want of memory, as long as it lives.
pub struct InUse {
    cache: ShardCache,
    keys: Vec<PartKey>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut parts = self.cache.parts();
        for key in &self.keys {
            if let Some(part) = parts.get_mut(key) {
                part.users -= 1;
            }
        }
    }
}

impl InUse {
    /// Says that a step is about to read shards of the parts. Whoever says so before it looks what is missing finds
    /// all of them until it is done with them.
    pub fn needs(&self, ranges: &[Range<u32>]) -> Needed {
        let ranges: Arc<[Range<u32>]> = ranges.into();
        let mut parts = self.cache.parts();
        for key in &self.keys {
            parts.entry(Arc::clone(key)).or_default().needed.push(Arc::clone(&ranges));
        }
        drop(parts);
        Needed { cache: self.cache.clone(), keys: self.keys.clone(), ranges }
    }

    /// Forgets the parts of one shard, but those that a step needs.
    pub fn forget(&self, index: u32) {
        let mut parts = self.cache.parts();
        let idle = |key: &PartKey| {
            let part = parts.get_mut(key).filter(|part| !part.is_needed(index))?;
            part.shards.remove(&index)
        };
        let forgotten: Vec<Option<Entry>> = self.keys.iter().map(idle).collect();
        drop(parts);
        // A file may be removed: that goes without the lock.
        drop(forgotten);
    }
}

/// Keeps shards from being forgotten by other stages, or by an earlier order of the same one, as long as it lives.
pub struct Needed {
    cache: ShardCache,
    keys: Vec<PartKey>,
    ranges: Arc<[Range<u32>]>,
}

impl Needed {
    /// The shards.
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }
}

impl Drop for Needed {
    fn drop(&mut self) {
        let mut parts = self.cache.parts();
        for key in &self.keys {
            if let Some(part) = parts.get_mut(key) {
                part.needed.retain(|needed| !Arc::ptr_eq(needed, &self.ranges));
            }
        }
    }
}

enum Entry {
    Memory { values: Values, _grant: Grant },
    Spilled(Spilled),
}

/// A shard whose parts are all there; those on disk were read for it.
pub struct Found {
    /// Values in the order of the keys.
    pub values: Vec<Values>,
    /// Memory of those that were on disk.
    pub grant: Option<Grant>,
}

impl ShardCache {
    /// An empty cache that spills below `spill` (an existing folder of this process alone).
    pub fn new(budget: MemoryBudget, spill: &Path) -> Self {
        Self { inner: Arc::new(Inner { budget, spill: spill.to_owned(), next_file: AtomicU64::new(0), parts: Mutex::default() }) }
    }

    /// The budget that the cache keeps to.
    pub fn budget(&self) -> &MemoryBudget {
        &self.inner.budget
    }

    /// Says that a stage uses the parts. What no stage uses is forgotten first when memory runs short.
    pub fn in_use(&self, keys: &[PartKey]) -> InUse {
        let mut parts = self.parts();
        for key in keys {
            parts.entry(Arc::clone(key)).or_default().users += 1;
        }
        InUse { cache: self.clone(), keys: keys.to_vec() }
    }

    /// The shards of `wanted` that lack parts, in their order, each with the positions of these parts among `keys`.
    pub fn missing(&self, keys: &[PartKey], wanted: impl Iterator<Item = u32>) -> Vec<(u32, Vec<usize>)> {
        let parts = self.parts();
        let have: Vec<Option<&Part>> = keys.iter().map(|key| parts.get(key)).collect();
        let lacks = |part: &Option<&Part>, shard: u32| part.is_none_or(|part| !part.shards.contains_key(&shard));
        let of = |shard: u32| (0..have.len()).filter(|at| lacks(&have[*at], shard)).collect::<Vec<_>>();
        wanted.map(|shard| (shard, of(shard))).filter(|(_, missing)| !missing.is_empty()).collect()
    }

    /// Memory for something else, for which what no stage uses is forgotten; nothing if it does not fit even so.
    pub fn make_room(&self, bytes: u64) -> Option<Grant> {
        self.grants(&[bytes]).and_then(|mut grants| grants.pop())
    }

    /// Keeps parts of a shard, in memory if the budget allows, else on disk.
    pub fn insert(&self, index: u32, made: Vec<(PartKey, Values)>) -> Result<(), Fault> {
        let bytes: Vec<u64> = made.iter().map(|(_, values)| values.bytes()).collect();
        let (keys, values): (Vec<PartKey>, Vec<Values>) = made.into_iter().unzip();
        let entries: Vec<Entry> = match self.grants(&bytes) {
            Some(grants) => values.into_iter().zip(grants).map(|(values, _grant)| Entry::Memory { values, _grant }).collect(),
            None => self.spill(index, &values)?.into_iter().map(Entry::Spilled).collect(),
        };
        let mut parts = self.parts();
        let old: Vec<Option<Entry>> =
            keys.into_iter().zip(entries).map(|(key, entry)| parts.entry(key).or_default().shards.insert(index, entry)).collect();
        drop(parts);
        // What was replaced goes without the lock: a file may be removed.
        drop(old);
        Ok(())
    }

    /// The parts of a shard, if all are there.
    pub fn get(&self, keys: &[PartKey], index: u32) -> Result<Option<Found>, Fault> {
        let mut out: Vec<Result<Values, Spilled>> = Vec::with_capacity(keys.len());
        {
            let parts = self.parts();
            for key in keys {
                match parts.get(key).and_then(|part| part.shards.get(&index)) {
                    None => return Ok(None),
                    Some(Entry::Memory { values, .. }) => out.push(Ok(values.clone())),
                    Some(Entry::Spilled(spilled)) => out.push(Err(spilled.clone())),
                }
            }
        }
        let on_disk: u64 = out.iter().filter_map(|part| part.as_ref().err()).map(Spilled::bytes).sum();
        let grant = (on_disk > 0).then(|| self.inner.budget.take(on_disk));
        let values = out.into_iter().map(|part| part.or_else(|spilled| spilled.read())).collect::<Result<_, _>>()?;
        Ok(Some(Found { values, grant }))
    }

    /// Memory for what stands for these parts of a shard: if it does not fit, the parts go to disk first. Nothing if
    /// it does not fit even so.
    pub fn displace(&self, keys: &[PartKey], index: u32, bytes: u64) -> Result<Option<Grant>, Fault> {
        if let Some(grant) = self.make_room(bytes) {
            return Ok(Some(grant));
        }
        let in_memory: Vec<(PartKey, Values)> = {
            let parts = self.parts();
            let values = |key: &PartKey| match parts.get(key)?.shards.get(&index)? {
                Entry::Memory { values, .. } => Some((Arc::clone(key), values.clone())),
                Entry::Spilled(_) => None,
            };
            keys.iter().filter_map(values).collect()
        };
        if in_memory.is_empty() {
            return Ok(None);
        }
        let (keys, values): (Vec<PartKey>, Vec<Values>) = in_memory.into_iter().unzip();
        let spilled = self.spill(index, &values)?;
        drop(values);
        self.replace(&keys, index, spilled);
        Ok(self.make_room(bytes))
    }

    /// Puts parts on disk in the place of those in memory.
    fn replace(&self, keys: &[PartKey], index: u32, spilled: Vec<Spilled>) {
        let mut parts = self.parts();
        let mut old = Vec::new();
        for (key, spilled) in keys.iter().zip(spilled) {
            // What was forgotten meanwhile stays forgotten.
            if let Some(entry) = parts.get_mut(key).and_then(|part| part.shards.get_mut(&index)) {
                old.push(std::mem::replace(entry, Entry::Spilled(spilled)));
            }
        }
        drop(parts);
        // What was replaced goes without the lock: a file may be removed.
        drop(old);
    }

    /// Grants memory for all or none, forgetting parts that no stage uses until it fits.
    fn grants(&self, bytes: &[u64]) -> Option<Vec<Grant>> {
        loop {
            let grants: Option<Vec<Grant>> = bytes.iter().map(|bytes| self.inner.budget.keep(*bytes)).collect();
            if grants.is_some() {
                return grants;
            }
            let mut parts = self.parts();
            let idle = parts.iter().find(|(_, part)| part.users == 0).map(|(key, _)| Arc::clone(key))?;
            let forgotten = parts.remove(&idle);
            drop(parts);
            drop(forgotten);
        }
    }

    /// Bytes in memory and on disk.
    pub fn sizes(&self) -> (u64, u64) {
        let spilled = |entry: &Entry| if let Entry::Spilled(spilled) = entry { spilled.bytes() } else { 0 };
        let on_disk = self.parts().values().flat_map(|part| part.shards.values()).map(spilled).sum();
        (self.inner.budget.used(), on_disk)
    }

    fn spill(&self, index: u32, values: &[Values]) -> Result<Vec<Spilled>, Fault> {
        // A name is never used twice: a file that is read may be forgotten, but not overwritten.
        let number = self.inner.next_file.fetch_add(1, Ordering::Relaxed);
        spill::write(&self.inner.spill.join(format!("{number}.parts")), index, values)
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<PartKey, Part>> {
        // The map is valid between any two of its calls: a panic elsewhere does not spoil it.
        self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sheaf_learn::shard::Column;

    use super::*;

    const BYTES: u64 = 800;

    fn column(of: u32) -> Values {
        Values::Column(Column::F64(vec![f64::from(of); 100].into()))
    }

    fn keys(names: &[&str]) -> Vec<PartKey> {
        names.iter().map(|name| PartKey::from(*name)).collect()
    }

    fn insert(cache: &ShardCache, keys: &[PartKey], index: u32) {
        cache.insert(index, keys.iter().map(|key| (Arc::clone(key), column(index))).collect()).unwrap();
    }

    #[test]
    fn the_first_shards_stay_in_memory_and_the_rest_is_spilled() {
        let folder = tempfile::tempdir().unwrap();
        // A quarter is left to work.
        let cache = ShardCache::new(MemoryBudget::new(BYTES * 4 * 4 / 3 + 4), folder.path());
        let both = keys(&["a", "b"]);
        let used = cache.in_use(&both);
        for index in 0..5 {
            insert(&cache, &both, index);
        }
        assert_eq!(cache.sizes(), (BYTES * 4, BYTES * 6));
        for index in 0..5 {
            let found = cache.get(&both, index).unwrap().unwrap();
            assert_eq!(found.values, [column(index), column(index)]);
            let reading = if index < 2 { 0 } else { BYTES * 2 };
            assert_eq!(cache.sizes().0, BYTES * 4 + reading, "what is read back counts as long as it is used");
        }
        assert_eq!(cache.missing(&both, 3..7), vec![(5, vec![0, 1]), (6, vec![0, 1])]);
        // Another view shares one of the parts and lacks the other.
        let other = keys(&["b", "c"]);
        assert_eq!(cache.missing(&other, 0..1), vec![(0, vec![1])]);
        let _used = cache.in_use(&other);
        drop(used);
        // Once no stage uses it, its place in memory goes to another; what is shared stays.
        insert(&cache, &keys(&["c"]), 0);
        assert_eq!(cache.missing(&both, 0..1), vec![(0, vec![0])]);
        assert!(cache.missing(&other, 0..1).is_empty());
        assert_eq!(cache.sizes(), (BYTES * 3, BYTES * 3));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_stands_for_columns_takes_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::new(MemoryBudget::new(BYTES * 2 * 4 / 3 + 4), folder.path());
        let both = keys(&["a", "b"]);
        let _used = cache.in_use(&both);
        insert(&cache, &both, 0);
        insert(&cache, &both, 1);
        assert_eq!(cache.sizes(), (BYTES * 2, BYTES * 2));
        let grant = cache.displace(&both, 0, BYTES).unwrap().unwrap();
        assert_eq!((grant.bytes(), cache.sizes()), (BYTES, (BYTES, BYTES * 4)));
        assert_eq!(cache.get(&both, 0).unwrap().unwrap().values, [column(0), column(0)]);
        // What is on disk already makes no room; what fits needs none.
        assert!(cache.displace(&both, 1, BYTES * 2).unwrap().is_none());
        assert!(cache.displace(&both, 1, BYTES).unwrap().is_some());
    }

    #[test]
    fn a_shard_that_lost_a_part_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::new(MemoryBudget::new(1 << 20), folder.path());
        let both = keys(&["a", "b"]);
        insert(&cache, &both, 3);
        assert!(cache.get(&both, 3).unwrap().is_some());
        cache.in_use(&both[1..]).forget(3);
        assert!(cache.get(&both, 3).unwrap().is_none());
        assert_eq!(cache.missing(&both, 3..4), vec![(3, vec![1])]);
        assert_eq!(cache.sizes(), (BYTES, 0));
    }

    /// Stages of several jobs share columns; each forgets shards after its own steps.
    #[test]
    fn what_a_step_needs_is_not_forgotten_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ShardCache::new(MemoryBudget::new(1 << 20), folder.path());
        let (one, other) = (keys(&["target of one", "column"]), keys(&["column", "target of other"]));
        let all = keys(&["target of one", "column", "target of other"]);
        (0..4).for_each(|index| insert(&cache, &all, index));
        let (using, used) = (cache.in_use(&one), cache.in_use(&other));
        let (first, again) = (used.needs(&[0..1, 2..3]), used.needs(&[2..3, 3..4]));
        assert_eq!(first.ranges(), [0..1, 2..3]);
        (0..3).for_each(|index| using.forget(index));
        assert!(cache.missing(&other, [0, 2, 3].into_iter()).is_empty(), "a step needs them");
        assert_eq!(cache.missing(&one, 0..4), vec![(0, vec![0]), (1, vec![0, 1]), (2, vec![0])]);
        // A later order for a shard keeps it beyond the end of the first.
        drop(first);
        (0..3).for_each(|index| used.forget(index));
        assert_eq!(cache.missing(&other, 0..4), vec![(0, vec![0, 1]), (1, vec![0, 1])]);
        drop(again);
        used.forget(2);
        assert_eq!(cache.missing(&other, 2..4), vec![(2, vec![0, 1])]);
    }
}
