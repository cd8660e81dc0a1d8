//! One stage on one worker: opens the work document, prepares leased shards once, and turns a step
//! and a set of shards into tree blocks. Computing stays off the control threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rayon::prelude::*;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::score::CompiledScorer;
use sheaf_dataflow::sink::materialise;
use sheaf_dataflow::stores::Stores;
use sheaf_dataflow::view::CompiledView;
use sheaf_learn::kernels::Level;
use sheaf_learn::program::{Local, Program};
use sheaf_learn::tree::{Block, Merger};
use sheaf_runtime::canonical;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::work::{TaskOutput, Work, encode_outputs, merge_outputs};
use tokio_util::task::AbortOnDropHandle;

use crate::cache::{InUse, ShardCache, ViewKey};
use crate::score::score_chunk;

/// What all stages of a worker share.
#[derive(Clone)]
pub struct Bench {
    /// Object stores that may be read.
    pub stores: Stores,
    /// Encoded shards.
    pub cache: ShardCache,
    /// Threads that compute partials.
    pub pool: Arc<rayon::ThreadPool>,
    /// Runs reading and encoding.
    pub reading: tokio::runtime::Handle,
    /// Threads to read and compute with.
    pub threads: usize,
    /// Computes every partial twice, from an emptied cache and local, and fails if a bit differs.
    pub paranoid: bool,
    /// Instruction set of the kernels.
    pub level: Level,
}

/// A shard that failed, and why.
#[derive(Debug)]
pub struct ShardFault {
    /// The shard (or task), or the first of those that failed together.
    pub shard: u32,
    /// Why.
    pub fault: Fault,
}

/// What a worker sends for one step.
pub struct Answer {
    /// Complete, aligned blocks that cover exactly the shards asked for.
    pub blocks: Vec<(Block, Option<Vec<u8>>)>,
    /// Time spent reading and encoding, ns.
    pub read_ns: u64,
    /// Time spent on partials, ns.
    pub compute_ns: u64,
    /// Time spent merging, ns.
    pub merge_ns: u64,
    /// Rows of the shards.
    pub rows: u64,
}

/// A stage that is open.
pub struct StageRunner {
    bench: Bench,
    leaves: u32,
    kind: Kind,
    /// One step's request at a time: a second one (after a new lease) finds the caches whole.
    turn: tokio::sync::Mutex<()>,
}

enum Kind {
    Steps(Steps),
    Count(Reader),
    Materialise { dataset: Dataset, area: String },
    Score { reader: Reader, scorer: CompiledScorer, chunks: Vec<u32>, to: String },
}

struct Steps {
    key: ViewKey,
    _in_use: InUse,
    reader: Reader,
    view: CompiledView,
    boundaries: Vec<u32>,
    program: Box<dyn Program>,
    locals: Mutex<BTreeMap<u32, Local>>,
}

type Leaf = (u32, Option<Vec<u8>>);

impl StageRunner {
    /// Opens a work document: plans its SQL, compiles its expressions, builds its program.
    pub async fn open(work: Work, bench: Bench) -> Result<Self, Fault> {
        let (leaves, kind) = match work {
            Work::Count { dataset } => {
                let units = dataset.units();
                (units, Kind::Count(Reader::open(Arc::new(dataset), bench.stores.clone(), None).await?))
            }
            Work::Materialise { dataset, area } => (1, Kind::Materialise { dataset, area }),
            Work::Steps { dataset, view, program } => {
                let identity = (dataset.fingerprint(), &view);
                let key: ViewKey = canonical::hash(&identity).map_err(Fault::internal)?.into();
                let (shards, boundaries, now_ns) = (dataset.shards(), dataset.boundaries(), dataset.now_ns.unwrap_or_default());
                let reader = Reader::open(Arc::new(dataset), bench.stores.clone(), Some(view.inputs())).await?;
                let view = view.compile(reader.schema(), &bench.stores.session(now_ns))?;
                let program = sheaf_learn::registry::build_at(&program, bench.level)?;
                let _in_use = bench.cache.in_use(&key);
                (shards, Kind::Steps(Steps { key, _in_use, reader, view, boundaries, program, locals: Mutex::default() }))
            }
            Work::Score { dataset, scorer, chunks, to } => {
                let (leaves, now_ns) = (chunks.len().saturating_sub(1) as u32, dataset.now_ns.unwrap_or_default());
                let reader = Reader::open(Arc::new(dataset), bench.stores.clone(), Some(scorer.inputs())).await?;
                let scorer = scorer.compile(reader.schema(), &bench.stores.session(now_ns))?;
                (leaves, Kind::Score { reader, scorer, chunks, to })
            }
        };
        Ok(Self { bench, leaves, kind, turn: tokio::sync::Mutex::new(()) })
    }

    /// Computes the partials of `ranges` for the step that `message` opens.
    pub async fn compute(self: &Arc<Self>, ranges: &[Range<u32>], message: &[u8]) -> Result<Answer, ShardFault> {
        let _turn = self.turn.lock().await;
        let mut answer = Answer { blocks: Vec::new(), read_ns: 0, compute_ns: 0, merge_ns: 0, rows: 0 };
        let leaves = match &self.kind {
            Kind::Steps(_) => self.steps(ranges, message, &mut answer).await?,
            _ => self.tasks(ranges, &mut answer).await?,
        };
        let began = Instant::now();
        self.merge(ranges, leaves, &mut answer)?;
        answer.merge_ns = nanos(began);
        Ok(answer)
    }

    /// Forgets what the stage kept per shard; encoded shards stay for the stages after it.
    pub fn close(&self) {
        if let Kind::Steps(steps) = &self.kind {
            steps.locals.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    async fn steps(
        self: &Arc<Self>,
        ranges: &[Range<u32>],
        message: &[u8],
        answer: &mut Answer,
    ) -> Result<Vec<Leaf>, ShardFault> {
        let began = Instant::now();
        self.prepare(ranges).await?;
        answer.read_ns = nanos(began);
        let began = Instant::now();
        let first = ranges.first().map_or(0, |r| r.start);
        let (runner, wanted, bytes) = (Arc::clone(self), ranges.to_vec(), message.to_vec());
        let (send, done) = tokio::sync::oneshot::channel();
        self.bench.pool.spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| runner.partials(&wanted, &bytes));
            let result = std::panic::catch_unwind(work).unwrap_or_else(|_| {
                Err(ShardFault { shard: first, fault: retryable("a partial panicked; see the worker's log") })
            });
            // Nobody waits any more when the stage was closed meanwhile.
            let _ = send.send(result);
        });
        let (leaves, rows) =
            done.await.map_err(|_| ShardFault { shard: first, fault: retryable("the compute pool is gone") })??;
        answer.compute_ns = nanos(began);
        answer.rows = rows;
        Ok(leaves)
    }

    /// Reads and encodes the shards of `ranges` that the cache lacks, in pieces cut at load units.
    pub async fn prepare(self: &Arc<Self>, ranges: &[Range<u32>]) -> Result<(), ShardFault> {
        let Kind::Steps(steps) = &self.kind else { return Ok(()) };
        let missing = self.bench.cache.missing(&steps.key, ranges.iter().cloned().flatten());
        let pieces = pieces(&missing, &steps.boundaries, self.bench.threads);
        let mut running: FuturesUnordered<_> = pieces
            .into_iter()
            .map(|piece| {
                let (runner, first) = (Arc::clone(self), piece.start);
                let task = AbortOnDropHandle::new(self.bench.reading.spawn(async move { runner.read(piece).await }));
                async move {
                    task.await
                        .unwrap_or_else(|e| Err(ShardFault { shard: first, fault: retryable(&format!("reading panicked: {e}")) }))
                }
            })
            .collect();
        while let Some(result) = running.next().await {
            result?;
        }
        Ok(())
    }

    async fn read(&self, piece: Range<u32>) -> Result<(), ShardFault> {
        let Kind::Steps(steps) = &self.kind else { return Ok(()) };
        let mut next = piece.start;
        let mut stream = std::pin::pin!(steps.reader.shards(piece));
        while let Some(prepared) = stream.next().await {
            let at = |fault: Fault| ShardFault { shard: next, fault };
            let prepared = prepared.map_err(|e| at(e.into()))?;
            let encoded = steps.view.encode(&prepared).map_err(|e| at(e.into()))?;
            self.bench.cache.insert(&steps.key, encoded).map_err(at)?;
            next += 1;
        }
        Ok(())
    }

    fn partials(&self, ranges: &[Range<u32>], message: &[u8]) -> Result<(Vec<Leaf>, u64), ShardFault> {
        let Kind::Steps(steps) = &self.kind else { return Ok((Vec::new(), 0)) };
        let first = ranges.first().map_or(0, |r| r.start);
        let step = steps.program.open(message).map_err(|e| ShardFault { shard: first, fault: e.into() })?;
        let shards: Vec<u32> = ranges.iter().cloned().flatten().collect();
        let one = |shard: u32| -> Result<(Leaf, u64), ShardFault> {
            let at = |fault: Fault| ShardFault { shard, fault };
            let encoded = self.bench.cache.get(&steps.key, shard).map_err(at)?;
            let encoded = encoded.ok_or_else(|| at(retryable("the shard left the cache before it was used")))?;
            let kept = self.locals(steps).remove(&shard);
            let mut local = kept.unwrap_or_else(|| steps.program.local());
            let partial = step.partial(&encoded, &mut local);
            if self.bench.paranoid && step.partial(&encoded, &mut steps.program.local()) != partial {
                return Err(at(Fault::internal(format!("two partials of shard {shard} differ"))));
            }
            self.locals(steps).insert(shard, local);
            Ok(((shard, partial), encoded.rows as u64))
        };
        let results: Vec<(Leaf, u64)> = shards.into_par_iter().map(one).collect::<Result<_, _>>()?;
        let rows = results.iter().map(|(_, rows)| rows).sum();
        if self.bench.paranoid {
            self.forget_some(steps, message);
        }
        Ok((results.into_iter().map(|(leaf, _)| leaf).collect(), rows))
    }

    /// Drops a third of the caches, chosen by the message's content: what is lost must be made again
    /// with the same bits.
    fn forget_some(&self, steps: &Steps, message: &[u8]) {
        let salt = canonical::hash_bytes(message);
        let chosen = |shard: u32| canonical::hash_bytes(format!("{salt}{shard}").as_bytes()).as_bytes()[0].is_multiple_of(3);
        let shards: Vec<u32> = self.locals(steps).keys().copied().filter(|s| chosen(*s)).collect();
        for shard in shards {
            self.locals(steps).remove(&shard);
            self.bench.cache.remove_shard(&steps.key, shard);
        }
    }

    fn locals<'a>(&self, steps: &'a Steps) -> std::sync::MutexGuard<'a, BTreeMap<u32, Local>> {
        steps.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tasks(self: &Arc<Self>, ranges: &[Range<u32>], answer: &mut Answer) -> Result<Vec<Leaf>, ShardFault> {
        let began = Instant::now();
        let mut running: FuturesUnordered<_> = FuturesUnordered::new();
        let mut waiting = ranges.iter().cloned().flatten();
        let mut leaves = Vec::new();
        let start = |task: u32| {
            let runner = Arc::clone(self);
            let handle = AbortOnDropHandle::new(self.bench.reading.spawn(async move { runner.task(task).await }));
            async move { (task, handle.await.unwrap_or_else(|e| Err(retryable(&format!("task {task} panicked: {e}"))))) }
        };
        running.extend(waiting.by_ref().take(self.bench.threads).map(start));
        while let Some((task, result)) = running.next().await {
            let (output, rows) = result.map_err(|fault| ShardFault { shard: task, fault })?;
            answer.rows += rows;
            leaves.push((task, Some(encode_outputs(&[TaskOutput { task, output }]))));
            running.extend(waiting.next().map(start));
        }
        answer.read_ns = nanos(began);
        leaves.sort_unstable_by_key(|(task, _)| *task);
        Ok(leaves)
    }

    /// Runs one task: gives its output as JSON and the rows it went through.
    async fn task(&self, task: u32) -> Result<(String, u64), Fault> {
        match &self.kind {
            Kind::Steps(_) => Err(Fault::internal("a stage of steps has no tasks")),
            Kind::Count(reader) => {
                let rows = reader.count(task).await?;
                Ok((rows.to_string(), rows))
            }
            Kind::Materialise { dataset, area } => {
                let written = materialise(dataset, &self.bench.stores, area).await?;
                let rows = written.rows();
                Ok((serde_json::to_string(&written).map_err(Fault::internal)?, rows))
            }
            Kind::Score { reader, scorer, chunks, to } => {
                let shards = chunks[task as usize]..chunks[task as usize + 1];
                let rows = score_chunk(reader, scorer, shards, Path::new(to), task).await?;
                Ok((rows.to_string(), rows))
            }
        }
    }

    fn merge(&self, ranges: &[Range<u32>], leaves: Vec<Leaf>, answer: &mut Answer) -> Result<(), ShardFault> {
        let mut leaves = leaves.into_iter().peekable();
        for range in ranges {
            let mut merger = Merger::new(self.leaves);
            while let Some((index, value)) = leaves.next_if(|(index, _)| range.contains(index)) {
                let block = Block { level: 0, index };
                merger.insert(block, value, |a, b| self.merge_two(&a, &b)).map_err(|fault| ShardFault { shard: index, fault })?;
            }
            answer.blocks.extend(merger.into_blocks());
        }
        Ok(())
    }

    fn merge_two(&self, left: &[u8], right: &[u8]) -> Result<Vec<u8>, Fault> {
        match &self.kind {
            Kind::Steps(steps) => Ok(steps.program.merge(left, right)?),
            _ => merge_outputs(left, right),
        }
    }
}

/// Cuts ascending shard indices into contiguous pieces, about `threads` in all, at load units.
fn pieces(missing: &[u32], boundaries: &[u32], threads: usize) -> Vec<Range<u32>> {
    let target = missing.len().div_ceil(threads.max(1)).max(1);
    let mut out: Vec<Range<u32>> = Vec::new();
    for &shard in missing {
        let cut = boundaries.binary_search(&shard).is_ok();
        match out.last_mut() {
            Some(piece) if piece.end == shard && !(cut && piece.len() >= target) => piece.end += 1,
            _ => out.push(shard..shard + 1),
        }
    }
    out
}

fn nanos(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

fn retryable(message: &str) -> Fault {
    Fault { retry: true, ..Fault::internal(message) }
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_contiguous_and_cut_at_units() {
        assert_eq!(pieces(&[0, 1, 2, 3, 4, 5], &[0, 2, 4], 2), vec![0..4, 4..6]);
        assert_eq!(pieces(&[0, 1, 2, 3, 4, 5], &[0, 3], 2), vec![0..3, 3..6]);
        assert_eq!(pieces(&[0, 1, 5, 6], &[0], 4), vec![0..2, 5..7]);
        assert_eq!(pieces(&[], &[0], 4), Vec::<std::ops::Range<u32>>::new());
    }
}
