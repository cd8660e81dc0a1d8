//! What a worker counts, behind one struct with small methods, and its pages on the admin port.

use std::sync::Arc;

use sheaf_runtime::admin::{Pages, Readiness};
use sheaf_runtime::memory::MemoryBudget;
use sheaf_runtime::metrics::{By, Count, Exposition, Level, Seconds};

use crate::cache::ShardCache;
use crate::stage::Answer;

/// Counters of a worker; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    exposition: Exposition,
    readiness: Readiness,
    connected: Level,
    joins: Count,
    cache_bytes: Level,
    spilled_bytes: Level,
    budget_bytes: Level,
    budget_used_bytes: Level,
    rows: Count,
    read_bytes: Count,
    read: Seconds,
    compute: Seconds,
    merge: Seconds,
    answers: Count,
    blocks: Count,
    pushes: Count,
    pushed_bytes: Count,
    failures: By<Count>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero; not ready, for it has not joined.
    pub fn new() -> Self {
        let mut e = Exposition::new("worker");
        let inner = Inner {
            readiness: Readiness::not_yet("it has not joined a cluster yet"),
            connected: e.level("connected", "1 while the worker is a member of a cluster"),
            joins: e.count("joins", "Times that the worker joined; each after the first is a reconnection"),
            cache_bytes: e.level("cache_bytes", "Encoded shards in memory"),
            spilled_bytes: e.level("spilled_bytes", "Encoded shards in the spill folder"),
            budget_bytes: e.level("memory_budget_bytes", "The budget that --memory sets"),
            budget_used_bytes: e.level("memory_budget_used_bytes", "Bytes of the budget that are granted"),
            rows: e.count("rows", "Rows gone through, over all steps"),
            read_bytes: e.count("read_bytes", "Bytes of input read"),
            read: e.seconds("read_seconds", "Time spent reading and encoding"),
            compute: e.seconds("compute_seconds", "Time spent on partials"),
            merge: e.seconds("merge_seconds", "Time spent merging partials"),
            answers: e.count("answers", "Orders of shards of a step that were answered"),
            blocks: e.count("blocks_pushed", "Blocks of partials that were sent"),
            pushes: e.count("pushes", "Messages with blocks that were sent"),
            pushed_bytes: e.count("pushed_bytes", "Bytes of blocks that were sent"),
            failures: e.counts("worker_shard_failures", "Shards that could not be computed", "again", &["yes", "no"]),
            exposition: e,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the worker takes work.
    pub fn readiness(&self) -> &Readiness {
        &self.inner.readiness
    }

    /// The worker is a member of a cluster.
    pub fn joined(&self) {
        self.inner.joins.inc();
        self.inner.connected.set(1);
        self.inner.readiness.ready();
    }

    /// The worker is a member no more.
    pub fn left(&self, why: &str) {
        self.inner.connected.set(0);
        self.inner.readiness.not_ready(why);
    }

    /// An order was computed.
    pub fn answered(&self, answer: &Answer) {
        self.inner.answers.inc();
        self.inner.rows.inc_by(answer.rows);
        self.inner.read_bytes.inc_by(answer.bytes_read);
        self.inner.read.add_ns(answer.read_ns);
        self.inner.compute.add_ns(answer.compute_ns);
        self.inner.merge.add_ns(answer.merge_ns);
    }

    /// A message with so many blocks of so many bytes was sent.
    pub fn pushed(&self, blocks: usize, bytes: usize) {
        self.inner.pushes.inc();
        self.inner.blocks.inc_by(blocks as u64);
        self.inner.pushed_bytes.inc_by(bytes as u64);
    }

    /// A shard could not be computed.
    pub fn shard_failed(&self, retry: bool) {
        self.inner.failures.of(if retry { "yes" } else { "no" }).inc();
    }
}

/// [`Pages`] of a worker.
pub struct WorkerPages {
    /// What is counted.
    pub metrics: Metrics,
    /// Encoded shards.
    pub cache: ShardCache,
    /// The budget that they are part of.
    pub budget: MemoryBudget,
}

#[tonic::async_trait]
impl Pages for WorkerPages {
    async fn metrics(&self) -> Result<String, String> {
        let (cached, spilled) = self.cache.sizes();
        let inner = &self.metrics.inner;
        let levels = [
            (&inner.cache_bytes, cached),
            (&inner.spilled_bytes, spilled),
            (&inner.budget_bytes, self.budget.limit()),
            (&inner.budget_used_bytes, self.budget.used()),
        ];
        for (level, bytes) in levels {
            level.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        inner.exposition.text()
    }

    async fn live(&self) -> Result<(), String> {
        // That this answers shows that the control threads turn.
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        self.metrics.readiness().state()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_is_counted() {
        let (metrics, folder) = (Metrics::new(), tempfile::tempdir().unwrap());
        let budget = MemoryBudget::new(1 << 20);
        let cache = ShardCache::new(budget.clone(), folder.path());
        let pages = WorkerPages { metrics: metrics.clone(), cache, budget };
        assert_eq!(pages.ready().await.unwrap_err(), "it has not joined a cluster yet");
        metrics.joined();
        metrics.answered(&Answer { rows: 7, read_ns: 500_000_000, bytes_read: 9, ..Answer::default() });
        metrics.pushed(2, 100);
        metrics.shard_failed(true);
        assert_eq!(pages.ready().await, Ok(()));
        metrics.left("it is draining");
        assert_eq!(pages.ready().await.unwrap_err(), "it is draining");
        let text = pages.metrics().await.unwrap();
        for line in [
            "sheaf_rows_total 7",
            "sheaf_read_seconds_total 0.5",
            "sheaf_read_bytes_total 9",
            "sheaf_blocks_pushed_total 2",
            "sheaf_pushed_bytes_total 100",
            "sheaf_worker_shard_failures_total{again=\"yes\"} 1",
            "sheaf_memory_budget_bytes 1048576",
            "sheaf_joins_total 1",
            "sheaf_connected 0",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
    }
}
