//! One stage on one worker: opens the work document, prepares leased shards once, and has a step and a set of
//! shards turned into tree blocks ([`crate::steps`]), or runs one-off tasks. Computing stays off the control threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::reader::Reader;
use sheaf_dataflow::rows::CompiledRows;
use sheaf_dataflow::sink::materialise;
use sheaf_dataflow::stores::Stores;
use sheaf_learn::kernels::Level;
use sheaf_learn::tree::{Block, Merger};
use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::Grant;
use sheaf_runtime::work::{TaskOutput, Work, encode_outputs, merge_outputs};
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::cache::ShardCache;
use crate::chunk::{ROW_GROUP_BYTES, write_chunk};
use crate::metrics::Metrics;
use crate::parts::take_apart;
use crate::steps::{Encoder, Steps, Told};

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
    /// Time spent fetching chapters and the step's message, ns.
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
    Steps(Arc<Steps>),
    Count(Reader),
    Materialise { dataset: Box<Dataset>, area: String },
    Write { reader: Reader, rows: CompiledRows, chunks: Vec<u32>, to: PathBuf },
}

/// A shard or task and what it gives.
pub(crate) type Leaf<T> = (u32, Option<T>);

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
                (dataset.shards(), Kind::Steps(Arc::new(Steps::open(dataset, *view, program, &bench).await?)))
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

    /// The chapters that a step with `count` of them needs and that are not here.
    pub async fn lacking(&self, count: u32) -> Range<u32> {
        match &self.kind {
            Kind::Steps(steps) => steps.known().await..count,
            _ => count..count,
        }
    }

    /// Computes the partials of `ranges` for a step.
    pub async fn compute(self: &Arc<Self>, ranges: &[Range<u32>], told: Told) -> Result<Answer, ShardFault> {
        let _turn = self.turn.lock().await;
        let mut answer = Answer::default();
        match &self.kind {
            Kind::Steps(steps) => self.steps(steps, ranges, told, &mut answer).await?,
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
            steps.forget();
        }
    }

    async fn steps(
        self: &Arc<Self>,
        steps: &Arc<Steps>,
        ranges: &[Range<u32>],
        mut told: Told,
        answer: &mut Answer,
    ) -> Result<(), ShardFault> {
        let first = ranges.first().map_or(0, |r| r.start);
        let began = Instant::now();
        let needed = steps.needs(ranges);
        self.prepare(ranges).await?;
        answer.read_ns = nanos(began);
        let reading = steps.read_chapters(&mut told, &self.bench.cache).await;
        let reading = reading.map_err(|fault| ShardFault { shard: first, fault })?;
        let (steps, bench, leaves) = (Arc::clone(steps), self.bench.clone(), self.leaves);
        let (send, done) = tokio::sync::oneshot::channel();
        self.bench.pool.spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| steps.blocks(&bench, leaves, needed, &told, &reading));
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
                let made = ROW_GROUP_BYTES.saturating_add(rows.bytes_at_once());
                let bytes = reader.working_bytes(shards.clone()).await?.saturating_add(made as u64);
                let _grant = self.bench.cache.budget().work(bytes).await;
                let rows = write_chunk(reader, rows, shards, to, task).await?;
                Ok((rows.to_string(), rows))
            }
        }
    }
}

/// Merges leaves, ascending, into the complete blocks of each range.
pub(crate) fn merged<T>(
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

pub(crate) fn nanos(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

pub(crate) fn retryable(message: &str) -> Fault {
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
