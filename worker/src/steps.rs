//! A stage of steps on one worker: what it keeps per shard and per stage, and how the shards of a step become tree
//! blocks. Partials of floats are merged leaf by leaf along the tree; those that are sums of integers are added into
//! one accumulator per thread and block, for a histogram must not be made per shard.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rayon::prelude::*;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::view::{CompiledView, Part, View};
use sheaf_learn::algorithm::Exchange;
use sheaf_learn::program::{Chapters, Local, Partial, Program, Step};
use sheaf_learn::shard::EncodedShard;
use sheaf_learn::tree::{Block, cover};
use sheaf_runtime::canonical;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::Grant;
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, RwLock};

use crate::cache::{InUse, Needed, PartKey, ShardCache};
use crate::parts::put_together;
use crate::stage::{Bench, Leaf, ShardFault, merged, nanos, retryable};
use crate::sums::{Room, Summed, sums};

/// What a step is told: its message, how many chapters it goes with, and those that were fetched for it.
#[derive(Debug, Default)]
pub struct Told {
    /// The step's message.
    pub message: Bytes,
    /// How many chapters it goes with.
    pub chapters: u32,
    /// Number of the first fetched chapter.
    pub first: u32,
    /// Chapters that the stage lacked.
    pub fetched: Vec<Bytes>,
}

/// Everything that a stage of steps keeps.
pub(crate) struct Steps {
    dataset: Arc<Dataset>,
    view: View,
    parts: Vec<Part>,
    pub(crate) keys: Vec<PartKey>,
    /// The parts without the columns, and their keys.
    frame: (Vec<Part>, Vec<PartKey>),
    /// Keys of the columns.
    columns: Vec<PartKey>,
    in_use: InUse,
    pub(crate) boundaries: Vec<u32>,
    program: Box<dyn Program>,
    /// Decoded once for all steps. A step that was given up may still read them: whoever adds some waits for it.
    chapters: Arc<RwLock<Kept>>,
    locals: Mutex<BTreeMap<u32, (Local, Grant)>>,
    /// What makes the parts at these positions.
    encoders: Mutex<BTreeMap<Vec<usize>, Arc<OnceCell<Encoder>>>>,
}

/// Chapters and the memory that they take, about: their bytes, as far as it was granted.
struct Kept {
    chapters: Chapters,
    grants: Vec<Grant>,
}

/// Reads and encodes some parts of a view.
pub(crate) struct Encoder {
    pub(crate) reader: Reader,
    pub(crate) view: CompiledView,
    pub(crate) parts: Vec<Part>,
    pub(crate) keys: Vec<PartKey>,
}

/// Blocks of one step, and what they took.
pub(crate) struct Computed {
    pub(crate) blocks: Vec<(Block, Option<Vec<u8>>)>,
    pub(crate) rows: u64,
    pub(crate) compute_ns: u64,
    pub(crate) merge_ns: u64,
}

/// Blocks and what their shards sum up to.
type Sums = Vec<(Block, Option<Summed<Partial>>)>;

/// Chapters that nobody changes while a step reads them.
pub(crate) struct Reading(OwnedRwLockReadGuard<Kept>);

impl Steps {
    pub(crate) async fn open(dataset: Dataset, view: View, program: Box<dyn Program>, bench: &Bench) -> Result<Self, Fault> {
        let fingerprint = dataset.fingerprint();
        let (parts, names): (Vec<Part>, Vec<String>) = view.parts().into_iter().unzip();
        let key = |name: String| canonical::hash(&(&fingerprint, name)).map(PartKey::from).map_err(Fault::internal);
        let keys = names.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let named = || parts.iter().zip(&keys);
        let besides = named().filter(|(part, _)| !matches!(part, Part::Column(_)));
        let columns = named().filter(|(part, _)| matches!(part, Part::Column(_)));
        let kept = Kept { chapters: program.chapters(), grants: Vec::new() };
        Ok(Self {
            frame: besides.map(|(part, key)| (*part, Arc::clone(key))).unzip(),
            columns: columns.map(|(_, key)| Arc::clone(key)).collect(),
            in_use: bench.cache.in_use(&keys),
            boundaries: dataset.boundaries(),
            dataset: Arc::new(dataset),
            view,
            parts,
            keys,
            program,
            chapters: Arc::new(RwLock::new(kept)),
            locals: Mutex::default(),
            encoders: Mutex::default(),
        })
    }

    /// What makes the parts at `lacking`; compiled when it is first needed.
    pub(crate) async fn encoder(&self, lacking: &[usize], bench: &Bench) -> Result<Arc<OnceCell<Encoder>>, Fault> {
        let cell = {
            let mut encoders = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(encoders.entry(lacking.to_vec()).or_default())
        };
        let compile = || async {
            let parts: Vec<Part> = lacking.iter().map(|at| self.parts[*at]).collect();
            let view = self.view.only(&parts);
            let reader = Reader::open_view(Arc::clone(&self.dataset), bench.stores.clone(), &view).await?;
            let session = bench.stores.session(self.dataset.now_ns.unwrap_or_default());
            let view = view.compile(reader.schema(), &session)?;
            Ok::<_, Fault>(Encoder { reader, view, parts, keys: lacking.iter().map(|at| Arc::clone(&self.keys[*at])).collect() })
        };
        cell.get_or_try_init(compile).await?;
        Ok(cell)
    }

    /// Forgets what was kept per shard.
    pub(crate) fn forget(&self) {
        self.locals().clear();
    }

    /// How many chapters there are.
    pub(crate) async fn known(&self) -> u32 {
        self.chapters.read().await.chapters.len() as u32
    }

    /// Decodes the fetched chapters that are new, and gives all to a step.
    pub(crate) async fn read_chapters(&self, told: &mut Told, cache: &ShardCache) -> Result<Reading, Fault> {
        let fetched = std::mem::take(&mut told.fetched);
        if !fetched.is_empty() {
            let mut kept = self.chapters.write().await;
            for (number, chapter) in (told.first as usize..).zip(fetched) {
                // Another order may have brought it meanwhile.
                if number == kept.chapters.len() {
                    self.program.append(&mut kept.chapters, &chapter)?;
                    kept.grants.extend(cache.make_room(chapter.len() as u64));
                }
            }
        }
        Ok(Reading(Arc::clone(&self.chapters).read_owned().await))
    }

    /// Says that a step is about to read shards.
    pub(crate) fn needs(&self, ranges: &[Range<u32>]) -> Needed {
        self.in_use.needs(ranges)
    }

    fn locals(&self) -> MutexGuard<'_, BTreeMap<u32, (Local, Grant)>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard from the cache; what was on disk counts as long as the grant lives.
    fn shard(&self, cache: &ShardCache, index: u32, columns: bool) -> Result<(EncodedShard, Option<Grant>), Fault> {
        let (parts, keys) = if columns { (&self.parts, &self.keys) } else { (&self.frame.0, &self.frame.1) };
        let found = cache.get(keys, index)?.ok_or_else(|| retryable("the shard left the cache before it was used"))?;
        Ok((put_together(index, parts.iter().copied().zip(found.values))?, found.grant))
    }

    /// The blocks of the needed shards for a step, encoded.
    pub(crate) fn blocks(
        &self,
        bench: &Bench,
        leaves: u32,
        needed: Needed,
        told: &Told,
        reading: &Reading,
    ) -> Result<Computed, ShardFault> {
        let ranges = needed.ranges();
        let first = ranges.first().map_or(0, |r| r.start);
        let at = |fault: Fault| ShardFault { shard: first, fault };
        let began = Instant::now();
        let step = self.program.open(&reading.0.chapters, told.chapters as usize, &told.message).map_err(|e| at(e.into()))?;
        let round = Round { steps: self, bench, step: step.as_ref() };
        let (blocks, rows, compute_ns, began) = match self.program.exchange() {
            Exchange::Tree => {
                let (partials, rows) = round.partials(ranges)?;
                let (compute_ns, began) = (nanos(began), Instant::now());
                let blocks = merged(leaves, ranges, partials, |a, b| Ok(self.program.merge(a, b)?))?;
                let encode = |(block, value): (Block, Option<Partial>)| (block, value.map(Partial::into_bytes));
                (blocks.into_par_iter().map(encode).collect(), rows, compute_ns, began)
            }
            Exchange::Sum => {
                let (blocks, rows) = round.sums(ranges, leaves)?;
                let (compute_ns, began) = (nanos(began), Instant::now());
                let encode = |(block, sum): (Block, Option<Summed<Partial>>)| (block, sum.map(|sum| sum.value.into_bytes()));
                (blocks.into_par_iter().map(encode).collect(), rows, compute_ns, began)
            }
        };
        drop(needed);
        if bench.paranoid {
            self.forget_some(&told.message);
        }
        Ok(Computed { blocks, rows, compute_ns, merge_ns: nanos(began) })
    }

    /// Drops a third of the caches, chosen by the message's content: what is lost must be made again
    /// with the same bits. What another step is about to read stays.
    fn forget_some(&self, message: &[u8]) {
        let salt = canonical::hash_bytes(message);
        let chosen = |shard: u32| canonical::hash_bytes(format!("{salt}{shard}").as_bytes()).as_bytes()[0].is_multiple_of(3);
        let shards: Vec<u32> = self.locals().keys().copied().filter(|s| chosen(*s)).collect();
        for shard in shards {
            self.locals().remove(&shard);
            self.in_use.forget(shard);
        }
    }
}

/// One step over some shards.
struct Round<'a> {
    steps: &'a Steps,
    bench: &'a Bench,
    step: &'a dyn Step,
}

impl Round<'_> {
    /// The partial of every shard, in order, and the rows of all.
    fn partials(&self, ranges: &[Range<u32>]) -> Result<(Vec<Leaf<Partial>>, u64), ShardFault> {
        let shards: Vec<u32> = ranges.iter().cloned().flatten().collect();
        let one = |shard: u32| {
            let (partial, rows) = self.with(shard, |encoded, local| self.partial(encoded, local))?;
            Ok(((shard, partial), rows))
        };
        let results: Vec<(Leaf<Partial>, u64)> = shards.into_par_iter().map(one).collect::<Result<_, ShardFault>>()?;
        let rows = results.iter().map(|(_, rows)| rows).sum();
        Ok((results.into_iter().map(|(leaf, _)| leaf).collect(), rows))
    }

    /// The sum of every block of the ranges, and the rows of all.
    fn sums(&self, ranges: &[Range<u32>], leaves: u32) -> Result<(Sums, u64), ShardFault> {
        let blocks: Vec<Block> = ranges.iter().flat_map(|range| cover(range.clone(), leaves)).collect();
        let room = Room::new(self.bench.cache.budget(), self.step.sum_bytes() as u64);
        let add = |shard: u32, sum: &mut Option<Partial>| Ok(self.with(shard, |encoded, local| self.add(encoded, local, sum))?.1);
        sums(blocks, leaves, &room, add, |a, b| Ok(self.steps.program.merge(a, b)?))
    }

    /// The shard's partial; in paranoid mode it must come out again from an emptied local.
    fn partial(&self, encoded: &EncodedShard, local: &mut Local) -> Result<Option<Partial>, Fault> {
        let partial = self.step.partial(encoded, local);
        if self.bench.paranoid && self.step.partial(encoded, &mut self.steps.program.local()) != partial {
            return Err(Fault::internal(format!("two partials of shard {} differ", encoded.index)));
        }
        Ok(partial)
    }

    /// Adds the shard to a sum; in paranoid mode alone, twice, and compared with its partial.
    fn add(&self, encoded: &EncodedShard, local: &mut Local, sum: &mut Option<Partial>) -> Result<(), Fault> {
        if self.bench.paranoid {
            let partial = self.partial(encoded, local)?;
            let mut alone = None;
            self.step.accumulate(encoded, &mut self.steps.program.local(), &mut alone)?;
            if alone != partial {
                return Err(Fault::internal(format!("shard {} adds something else than its partial", encoded.index)));
            }
        }
        Ok(self.step.accumulate(encoded, local, sum)?)
    }

    /// Calls `with` with a shard, as far as the step reads it, and what is kept for it; gives the shard's rows too.
    fn with<T>(
        &self,
        shard: u32,
        with: impl FnOnce(&EncodedShard, &mut Local) -> Result<T, Fault>,
    ) -> Result<(T, u64), ShardFault> {
        let at = |fault: Fault| ShardFault { shard, fault };
        let (mut local, room) = match self.steps.locals().remove(&shard) {
            Some((local, grant)) => (local, Some(grant)),
            None => (self.steps.program.local(), None),
        };
        let columns = self.bench.paranoid || self.step.reads_columns(&local);
        let (encoded, reading) = self.steps.shard(&self.bench.cache, shard, columns).map_err(at)?;
        let value = with(&encoded, &mut local).map_err(at)?;
        let rows = encoded.rows as u64;
        drop((encoded, reading));
        // What does not fit is made again.
        if let Some(grant) = self.room(shard, &local, room).map_err(at)? {
            self.steps.locals().insert(shard, (local, grant));
        }
        Ok((value, rows))
    }

    /// Memory for a local. One that stands for the shard's columns takes their place: they go to disk.
    fn room(&self, shard: u32, local: &Local, held: Option<Grant>) -> Result<Option<Grant>, Fault> {
        let bytes = self.step.local_bytes(local) as u64;
        if held.as_ref().is_some_and(|grant| grant.bytes() == bytes) {
            return Ok(held);
        }
        drop(held);
        let spare = self.bench.cache.budget().spare(bytes);
        if spare.is_some() || self.step.reads_columns(local) {
            return Ok(spare);
        }
        self.bench.cache.displace(&self.steps.columns, shard, bytes)
    }
}
