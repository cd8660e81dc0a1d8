//! One stage on one worker: opens the work document, prepares leased shards once, and turns a step
//! and a set of shards into tree blocks. Computing stays off the control threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rayon::prelude::*;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::rows::CompiledRows;
use sheaf_dataflow::sink::materialise;
use sheaf_dataflow::stores::Stores;
use sheaf_dataflow::view::{CompiledView, Part, View};
use sheaf_learn::kernels::Level;
use sheaf_learn::program::{Local, Partial, Program};
use sheaf_learn::shard::EncodedShard;
use sheaf_learn::tree::{Block, Merger};
use sheaf_runtime::canonical;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::Grant;
use sheaf_runtime::work::{TaskOutput, Work, encode_outputs, merge_outputs};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::cache::{InUse, PartKey, ShardCache};
use crate::chunk::{ROW_GROUP_BYTES, write_chunk};
use crate::metrics::Metrics;
use crate::parts::{put_together, take_apart};

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
    /// What is counted.
    pub metrics: Metrics,
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
#[derive(Debug, Default)]
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
    /// Bytes of input read since the last answer.
    pub bytes_read: u64,
    /// Time spent fetching the step's message, ns.
    pub fetch_ns: u64,
    /// Memory of the blocks, until they are sent.
    pub grant: Option<Grant>,
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
    Steps(Box<Steps>),
    Count(Reader),
    Materialise { dataset: Box<Dataset>, area: String },
    Write { reader: Reader, rows: CompiledRows, chunks: Vec<u32>, to: PathBuf },
}

struct Steps {
    dataset: Arc<Dataset>,
    view: View,
    parts: Vec<Part>,
    keys: Vec<PartKey>,
    /// The parts without the columns, and their keys.
    frame: (Vec<Part>, Vec<PartKey>),
    _in_use: InUse,
    boundaries: Vec<u32>,
    program: Box<dyn Program>,
    locals: Mutex<BTreeMap<u32, (Local, Grant)>>,
    /// What makes the parts at these positions.
    encoders: Mutex<BTreeMap<Vec<usize>, Arc<OnceCell<Encoder>>>>,
}

/// Reads and encodes some parts of a view.
struct Encoder {
    reader: Reader,
    view: CompiledView,
    parts: Vec<Part>,
    keys: Vec<PartKey>,
}

/// Blocks of one step, and what they took.
struct Computed {
    blocks: Vec<(Block, Option<Vec<u8>>)>,
    rows: u64,
    compute_ns: u64,
    merge_ns: u64,
}

type Leaf<T> = (u32, Option<T>);

impl Steps {
    async fn open(dataset: Dataset, view: View, program: Box<dyn Program>, bench: &Bench) -> Result<Self, Fault> {
        let fingerprint = dataset.fingerprint();
        let (parts, names): (Vec<Part>, Vec<String>) = view.parts().into_iter().unzip();
        let key = |name: String| canonical::hash(&(&fingerprint, name)).map(PartKey::from).map_err(Fault::internal);
        let keys = names.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let besides = parts.iter().zip(&keys).filter(|(part, _)| !matches!(part, Part::Column(_)));
        Ok(Self {
            frame: besides.map(|(part, key)| (*part, Arc::clone(key))).unzip(),
            _in_use: bench.cache.in_use(&keys),
            boundaries: dataset.boundaries(),
            dataset: Arc::new(dataset),
            view,
            parts,
            keys,
            program,
            locals: Mutex::default(),
            encoders: Mutex::default(),
        })
    }

    /// What makes the parts at `lacking`; compiled when it is first needed.
    async fn encoder(&self, lacking: &[usize], bench: &Bench) -> Result<Arc<OnceCell<Encoder>>, Fault> {
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

    fn locals(&self) -> MutexGuard<'_, BTreeMap<u32, (Local, Grant)>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard from the cache; what was on disk counts as long as the grant lives.
    fn shard(&self, cache: &ShardCache, index: u32, columns: bool) -> Result<(EncodedShard, Option<Grant>), Fault> {
        let (parts, keys) = if columns { (&self.parts, &self.keys) } else { (&self.frame.0, &self.frame.1) };
        let found = cache.get(keys, index)?.ok_or_else(|| retryable("the shard left the cache before it was used"))?;
        Ok((put_together(index, parts.iter().copied().zip(found.values))?, found.grant))
    }
}

impl StageRunner {
    /// Opens a work document: plans its SQL, compiles its expressions, builds its program.
    pub async fn open(work: Work, bench: Bench) -> Result<Self, Fault> {
        let bench = Bench { stores: bench.stores.metered(), ..bench };
        let (leaves, kind) = match work {
            Work::Count { dataset } => {
                let units = dataset.units();
                (units, Kind::Count(Reader::open(Arc::new(dataset), bench.stores.clone(), None).await?))
            }
            Work::Materialise { dataset, area } => (1, Kind::Materialise { dataset: Box::new(dataset), area }),
            Work::Steps { dataset, view, program } => {
                let program = sheaf_learn::registry::build_at(&program, bench.level)?;
                (dataset.shards(), Kind::Steps(Box::new(Steps::open(dataset, *view, program, &bench).await?)))
            }
            Work::Write { dataset, rows, chunks, to } => {
                let (leaves, now_ns) = (chunks.len().saturating_sub(1) as u32, dataset.now_ns.unwrap_or_default());
                // Where this process may not write, an order does not help.
                let to = bench.stores.folder(&to)?;
                let reader = Reader::open(Arc::new(dataset), bench.stores.clone(), rows.inputs()).await?;
                let rows = rows.compile(reader.schema(), &bench.stores.session(now_ns))?;
                (leaves, Kind::Write { reader, rows, chunks, to })
            }
        };
        Ok(Self { bench, leaves, kind, turn: tokio::sync::Mutex::new(()) })
    }

    /// Computes the partials of `ranges` for the step that `message` opens.
    pub async fn compute(self: &Arc<Self>, ranges: &[Range<u32>], message: &[u8]) -> Result<Answer, ShardFault> {
        let _turn = self.turn.lock().await;
        let mut answer = Answer::default();
        match &self.kind {
            Kind::Steps(_) => self.steps(ranges, message, &mut answer).await?,
            _ => self.tasks(ranges, &mut answer).await?,
        }
        let bytes: usize = answer.blocks.iter().filter_map(|(_, value)| value.as_ref()).map(Vec::len).sum();
        answer.bytes_read = self.bench.stores.take_bytes_read();
        answer.grant = Some(self.bench.cache.budget().take(bytes as u64));
        Ok(answer)
    }

    /// Forgets what the stage kept per shard; encoded shards stay for the stages after it.
    pub fn close(&self) {
        if let Kind::Steps(steps) = &self.kind {
            steps.locals().clear();
        }
    }

    async fn steps(self: &Arc<Self>, ranges: &[Range<u32>], message: &[u8], answer: &mut Answer) -> Result<(), ShardFault> {
        let began = Instant::now();
        self.prepare(ranges).await?;
        answer.read_ns = nanos(began);
        let first = ranges.first().map_or(0, |r| r.start);
        let (runner, wanted, bytes) = (Arc::clone(self), ranges.to_vec(), message.to_vec());
        let (send, done) = tokio::sync::oneshot::channel();
        self.bench.pool.spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| runner.blocks(&wanted, &bytes));
            let result = std::panic::catch_unwind(work).unwrap_or_else(|_| {
                Err(ShardFault { shard: first, fault: retryable("a partial panicked; see the worker's log") })
            });
            // Nobody waits any more when the stage was closed meanwhile.
            let _ = send.send(result);
        });
        let computed = done.await.map_err(|_| ShardFault { shard: first, fault: retryable("the compute pool is gone") })??;
        (answer.blocks, answer.rows) = (computed.blocks, computed.rows);
        (answer.compute_ns, answer.merge_ns) = (computed.compute_ns, computed.merge_ns);
        Ok(())
    }

    /// Reads and encodes what the cache lacks of the shards of `ranges`, in pieces cut at load units.
    pub async fn prepare(self: &Arc<Self>, ranges: &[Range<u32>]) -> Result<(), ShardFault> {
        let Kind::Steps(steps) = &self.kind else { return Ok(()) };
        let mut lacks: BTreeMap<Vec<usize>, Vec<u32>> = BTreeMap::new();
        for (shard, lacking) in self.bench.cache.missing(&steps.keys, ranges.iter().cloned().flatten()) {
            lacks.entry(lacking).or_default().push(shard);
        }
        let mut reads = Vec::new();
        for (lacking, shards) in lacks {
            let first = |fault| ShardFault { shard: shards[0], fault };
            let encoder = steps.encoder(&lacking, &self.bench).await.map_err(first)?;
            let pieces = pieces(&shards, &steps.boundaries, self.bench.threads);
            reads.extend(pieces.into_iter().map(|piece| (Arc::clone(&encoder), piece)));
        }
        let start = |(encoder, piece): (Arc<OnceCell<Encoder>>, Range<u32>)| {
            let (runner, first) = (Arc::clone(self), piece.start);
            let task = self.bench.reading.spawn(async move { runner.read(&encoder, piece).await });
            let task = AbortOnDropHandle::new(task);
            async move {
                task.await
                    .unwrap_or_else(|e| Err(ShardFault { shard: first, fault: retryable(&format!("reading panicked: {e}")) }))
            }
        };
        let mut running = futures::stream::iter(reads.into_iter().map(start)).buffer_unordered(self.bench.threads);
        while let Some(result) = running.next().await {
            result?;
        }
        Ok(())
    }

    async fn read(&self, encoder: &OnceCell<Encoder>, piece: Range<u32>) -> Result<(), ShardFault> {
        let Some(Encoder { reader, view, parts, keys }) = encoder.get() else { return Ok(()) };
        let mut next = piece.start;
        let first = |fault| ShardFault { shard: piece.start, fault };
        let bytes = reader.working_bytes(piece.clone()).await.map_err(|e| first(e.into()))?;
        let _grant = self.bench.cache.budget().work(bytes).await;
        let mut stream = std::pin::pin!(reader.shards(piece.clone()));
        while let Some(prepared) = stream.next().await {
            let at = |fault: Fault| ShardFault { shard: next, fault };
            let prepared = prepared.map_err(|e| at(e.into()))?;
            let encoded = view.encode(&prepared).map_err(|e| at(e.into()))?;
            drop(prepared);
            let made = take_apart(encoded, parts).map_err(at)?;
            self.bench.cache.insert(next, keys.iter().cloned().zip(made).collect()).map_err(at)?;
            next += 1;
        }
        Ok(())
    }

    fn blocks(&self, ranges: &[Range<u32>], message: &[u8]) -> Result<Computed, ShardFault> {
        let first = ranges.first().map_or(0, |r| r.start);
        let Kind::Steps(steps) = &self.kind else {
            return Err(ShardFault { shard: first, fault: Fault::internal("a stage of tasks has no steps") });
        };
        let began = Instant::now();
        let (leaves, rows) = self.partials(steps, ranges, message)?;
        let compute_ns = nanos(began);
        let began = Instant::now();
        let blocks = merged(self.leaves, ranges, leaves, |a, b| Ok(steps.program.merge(a, b)?))?;
        let blocks = blocks.into_iter().map(|(block, value): (_, Option<Partial>)| (block, value.map(|v| v.encode()))).collect();
        Ok(Computed { blocks, rows, compute_ns, merge_ns: nanos(began) })
    }

    fn partials(&self, steps: &Steps, ranges: &[Range<u32>], message: &[u8]) -> Result<(Vec<Leaf<Partial>>, u64), ShardFault> {
        let first = ranges.first().map_or(0, |r| r.start);
        let step = steps.program.open(message).map_err(|e| ShardFault { shard: first, fault: e.into() })?;
        let shards: Vec<u32> = ranges.iter().cloned().flatten().collect();
        let one = |shard: u32| -> Result<(Leaf<Partial>, u64), ShardFault> {
            let at = |fault: Fault| ShardFault { shard, fault };
            let kept = steps.locals().remove(&shard);
            let mut local = kept.map_or_else(|| steps.program.local(), |(local, _)| local);
            let columns = self.bench.paranoid || step.reads_columns(&local);
            let (encoded, _grant) = steps.shard(&self.bench.cache, shard, columns).map_err(at)?;
            let partial = step.partial(&encoded, &mut local);
            if self.bench.paranoid && step.partial(&encoded, &mut steps.program.local()) != partial {
                return Err(at(Fault::internal(format!("two partials of shard {shard} differ"))));
            }
            // What does not fit is made again.
            if let Some(grant) = self.bench.cache.budget().spare(step.local_bytes(&local) as u64) {
                steps.locals().insert(shard, (local, grant));
            }
            Ok(((shard, partial), encoded.rows as u64))
        };
        let results: Vec<(Leaf<Partial>, u64)> = shards.into_par_iter().map(one).collect::<Result<_, _>>()?;
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
        let shards: Vec<u32> = steps.locals().keys().copied().filter(|s| chosen(*s)).collect();
        for shard in shards {
            steps.locals().remove(&shard);
            self.bench.cache.remove_shard(&steps.keys, shard);
        }
    }

    async fn tasks(self: &Arc<Self>, ranges: &[Range<u32>], answer: &mut Answer) -> Result<(), ShardFault> {
        let began = Instant::now();
        let mut running: FuturesUnordered<_> = FuturesUnordered::new();
        let mut waiting = ranges.iter().cloned().flatten();
        let mut leaves: Vec<Leaf<Vec<u8>>> = Vec::new();
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
        let began = Instant::now();
        leaves.sort_unstable_by_key(|(task, _)| *task);
        answer.blocks = merged(self.leaves, ranges, leaves, |a, b| merge_outputs(&a, &b))?;
        answer.merge_ns = nanos(began);
        Ok(())
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
            Kind::Write { reader, rows, chunks, to } => {
                let shards = chunks[task as usize]..chunks[task as usize + 1];
                let bytes = reader.working_bytes(shards.clone()).await?.saturating_add(ROW_GROUP_BYTES as u64);
                let _grant = self.bench.cache.budget().work(bytes).await;
                let rows = write_chunk(reader, rows, shards, to, task).await?;
                Ok((rows.to_string(), rows))
            }
        }
    }
}

/// Merges leaves, ascending, into the complete blocks of each range.
fn merged<T>(
    shards: u32,
    ranges: &[Range<u32>],
    leaves: Vec<Leaf<T>>,
    mut merge: impl FnMut(T, T) -> Result<T, Fault>,
) -> Result<Vec<(Block, Option<T>)>, ShardFault> {
    let mut out = Vec::new();
    let mut leaves = leaves.into_iter().peekable();
    for range in ranges {
        let mut merger = Merger::new(shards);
        while let Some((index, value)) = leaves.next_if(|(index, _)| range.contains(index)) {
            let block = Block { level: 0, index };
            merger.insert(block, value, &mut merge).map_err(|fault| ShardFault { shard: index, fault })?;
        }
        out.extend(merger.into_blocks());
    }
    Ok(out)
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
