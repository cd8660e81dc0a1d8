//! What the coordinator counts, behind one struct with small methods: the event loop, drivers and the log
//! tell it what happened, the admin port shows it. No job ids: what is about one job is in its account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_cluster::id::{JobId, Millis};
use sheaf_cluster::{Command, Engine, Event};
use sheaf_proto::v1;
use sheaf_runtime::metrics::{By, Count, Exposition, Level, Seconds, Spans};

use crate::account::StepTotals;

/// Why a worker is gone.
const LOSSES: &[&str] = &["stream", "silent", "drained"];
/// How a job ends.
const OUTCOMES: &[&str] = &["succeeded", "failed", "cancelled"];
/// Why a block is thrown away.
const REFUSALS: &[&str] = &["no_step", "other_step", "other_term", "no_such_block", "repeated", "covered", "not_leased", "other"];
/// What happens to stages, in the engine's words.
const NOTES: &[&str] = &["lost", "leaving", "joining", "moved", "doubled", "paced", "retried", "suspected", "other"];
/// What a worker's time goes into.
const ACTIVITIES: &[&str] = &["read", "compute", "merge"];
/// What the engine wants done.
const COMMANDS: &[&str] =
    &["start_job", "stop_job", "open_stage", "compute", "accept", "refuse", "complete_step", "dismiss", "other"];

/// Counters of a coordinator; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    exposition: Exposition,
    workers: By<Level>,
    joined: Count,
    left: By<Count>,
    jobs: By<Level>,
    queued: Count,
    ended: By<Count>,
    queue_wait: Spans,
    /// When jobs that wait were submitted.
    submitted: Mutex<BTreeMap<JobId, Millis>>,
    events: Count,
    decision: Spans,
    commands: By<Count>,
    accepted: Count,
    refused: By<Count>,
    notes: By<Count>,
    speculative: Count,
    shards: Count,
    rows: Count,
    worker_seconds: BTreeMap<&'static str, Seconds>,
    shard_failures: By<Count>,
    steps: Count,
    step: Spans,
    step_overhead: Spans,
    block_bytes: Count,
    message_bytes: Count,
    chapter_bytes: Count,
    document_bytes: Count,
    log_writes: Count,
    log_write: Spans,
    log_index: Level,
    term: Level,
    checkpoints: Count,
    checkpoint_bytes: Count,
    checkpoint: Spans,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut e = Exposition::new("coordinator");
        let seconds = |activity: &'static str, e: &mut Exposition| {
            let help = "Time that workers reported of their stages, over all of them";
            (activity, e.seconds(&format!("worker_{activity}_seconds"), help))
        };
        let worker_seconds = ACTIVITIES.iter().map(|activity| seconds(activity, &mut e)).collect();
        let inner = Inner {
            workers: e.levels("workers", "Workers that are there", "state", &["active", "draining"]),
            joined: e.count("workers_joined", "Workers that joined"),
            left: e.counts("workers_left", "Workers that are gone: streams that broke, silence, drained", "reason", LOSSES),
            jobs: e.levels("jobs", "Jobs that have not ended", "state", &["queued", "running"]),
            queued: e.count("jobs_queued", "Jobs that were queued, those of earlier leaders among them"),
            ended: e.counts("jobs_ended", "Jobs that ended", "outcome", OUTCOMES),
            queue_wait: e.spans("job_queue_wait_seconds", "Time from a job's submission to its start"),
            submitted: Mutex::default(),
            events: e.count("engine_events", "Events that the engine handled"),
            decision: e.spans("engine_decision_seconds", "Time of the engine for one event"),
            commands: e.counts("engine_commands", "What the engine wanted done", "command", COMMANDS),
            accepted: e.count("blocks_accepted", "Blocks of partials that were taken in"),
            refused: e.counts("blocks_refused", "Blocks of partials that were thrown away", "reason", REFUSALS),
            notes: e.counts(
                "stage_notes",
                "What happened to stages: losses, joins, second leases, retries, suspects",
                "what",
                NOTES,
            ),
            speculative: e.count("speculative_leases", "Shards of stragglers that were leased a second time"),
            shards: e.count("shards_computed", "Shards in accepted blocks, over all steps"),
            rows: e.count("rows_computed", "Rows that workers went through, over all steps"),
            worker_seconds,
            shard_failures: e.counts("shard_failures", "Shards that workers could not compute", "again", &["yes", "no"]),
            steps: e.count("steps", "Steps that were completed"),
            step: e.spans("step_seconds", "Time of a step, from its message to the next one's"),
            step_overhead: e.spans("step_overhead_seconds", "Time of a step beside the work of its busiest worker"),
            block_bytes: e.count("block_bytes_received", "Bytes of blocks from workers"),
            message_bytes: e.count("message_bytes_sent", "Bytes of step messages to workers"),
            chapter_bytes: e.count("chapter_bytes_sent", "Bytes of chapters to workers: what stays as it is for all later steps"),
            document_bytes: e.count("document_bytes_sent", "Bytes of work documents to workers"),
            log_writes: e.count("log_writes", "Synced writes of the durable log"),
            log_write: e.spans("log_write_seconds", "Time of a write of the durable log with its sync"),
            log_index: e.level("log_last_index", "Number of the last entry of the durable log"),
            term: e.level("term", "Term of the leader"),
            checkpoints: e.count("checkpoints", "Checkpoints of training states that were committed"),
            checkpoint_bytes: e.count("checkpoint_bytes", "Bytes of those states"),
            checkpoint: e.spans("checkpoint_seconds", "Time to store and commit a checkpoint"),
            exposition: e,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, String> {
        self.inner.exposition.text()
    }

    /// The engine handled an event in this time, and wants this done.
    pub fn decided(&self, took: Duration, commands: &[Command]) {
        self.inner.events.inc();
        self.inner.decision.observe(took);
        for command in commands {
            self.inner.commands.of(command_name(command)).inc();
        }
    }

    /// Looks at an event before the engine takes it.
    pub fn event(&self, event: &Event) {
        match event {
            Event::WorkerJoined { .. } => drop(self.inner.joined.inc()),
            Event::JobQueued { job, submitted, .. } => {
                self.inner.queued.inc();
                self.submitted().insert(job.clone(), *submitted);
            }
            _ => {}
        }
    }

    /// A queued job starts.
    pub fn job_started(&self, job: &JobId, now: Millis) {
        if let Some(submitted) = self.submitted().remove(job) {
            self.inner.queue_wait.observe(Duration::from_millis(now.since(submitted).0));
        }
    }

    /// A job ended as `succeeded`, `failed` or `cancelled`.
    pub fn job_ended(&self, job: &JobId, outcome: &str) {
        self.submitted().remove(job);
        self.inner.ended.of(outcome).inc();
    }

    /// A worker is gone: its `stream` broke, it was `silent`, or it was `drained`.
    pub fn worker_left(&self, reason: &str) {
        self.inner.left.of(reason).inc();
    }

    /// Blocks of so many bytes came.
    pub fn received(&self, bytes: u64) {
        self.inner.block_bytes.inc_by(bytes);
    }

    /// A block was taken in.
    pub fn accepted(&self, shards: u64) {
        self.inner.accepted.inc();
        self.inner.shards.inc_by(shards);
    }

    /// Blocks taken in so far.
    pub fn accepted_blocks(&self) -> u64 {
        self.inner.accepted.get()
    }

    /// A block was thrown away, for this reason in the engine's words.
    pub fn refused(&self, reason: &str) {
        self.inner.refused.of(refusal(reason)).inc();
    }

    /// Something happened to a stage, and to so many shards of it.
    pub fn note(&self, what: &str, shards: u64) {
        self.inner.notes.of(what).inc();
        if what == "doubled" {
            self.inner.speculative.inc_by(shards);
        }
    }

    /// A worker could not compute a shard.
    pub fn shard_failed(&self, retry: bool) {
        self.inner.shard_failures.of(if retry { "yes" } else { "no" }).inc();
    }

    /// A worker reported its time.
    pub fn spent(&self, spent: &v1::Spent) {
        let spans = [("read", spent.read_ns), ("compute", spent.compute_ns), ("merge", spent.merge_ns)];
        for (activity, ns) in spans {
            if let Some(seconds) = self.inner.worker_seconds.get(activity) {
                seconds.add_ns(ns);
            }
        }
        self.inner.rows.inc_by(spent.rows);
    }

    /// A step is over.
    pub fn step(&self, step: &StepTotals) {
        self.inner.steps.inc();
        self.inner.step.observe(step.wall());
        self.inner.step_overhead.observe(step.beside_compute());
    }

    /// Chapters went to a worker.
    pub fn chapters_sent(&self, bytes: usize) {
        self.inner.chapter_bytes.inc_by(bytes as u64);
    }

    /// A step's message went to a worker.
    pub fn message_sent(&self, bytes: usize) {
        self.inner.message_bytes.inc_by(bytes as u64);
    }

    /// A document went to a worker.
    pub fn document_sent(&self, bytes: usize) {
        self.inner.document_bytes.inc_by(bytes as u64);
    }

    /// The log wrote and synced.
    pub fn log_written(&self, took: Duration) {
        self.inner.log_writes.inc();
        self.inner.log_write.observe(took);
    }

    /// A checkpoint is committed.
    pub fn checkpoint(&self, bytes: usize, took: Duration) {
        self.inner.checkpoints.inc();
        self.inner.checkpoint_bytes.inc_by(bytes as u64);
        self.inner.checkpoint.observe(took);
    }

    /// Sets what is as it is: who is there and what waits.
    pub fn observe(&self, engine: &Engine) {
        let workers = engine.workers();
        let draining = workers.iter().filter(|worker| worker.draining).count();
        self.inner.workers.of("active").set((workers.len() - draining) as i64);
        self.inner.workers.of("draining").set(draining as i64);
        self.inner.jobs.of("queued").set(engine.queue().len() as i64);
        self.inner.jobs.of("running").set(engine.running().len() as i64);
        self.inner.term.set(engine.term().0 as i64);
    }

    /// The log's last entry.
    pub fn log_index(&self, index: u64) {
        self.inner.log_index.set(index as i64);
    }

    fn submitted(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Millis>> {
        // Entries are whole whatever a panicking thread was doing.
        self.inner.submitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::StartJob { .. } => "start_job",
        Command::FailJob { .. } | Command::CancelJob { .. } => "stop_job",
        Command::OpenStage { .. } => "open_stage",
        Command::Compute { .. } => "compute",
        Command::Accept { .. } => "accept",
        Command::Refuse { .. } => "refuse",
        Command::CompleteStep { .. } => "complete_step",
        Command::Note(_) => "note",
        Command::Disconnect { .. } | Command::DrainDone { .. } => "dismiss",
        _ => "other",
    }
}

/// The engine says why in words for people; their beginnings are these.
fn refusal(reason: &str) -> &'static str {
    const WORDS: [(&str, &str); 7] = [
        ("no step", "no_step"),
        ("the stage is at step", "other_step"),
        ("the term is", "other_term"),
        ("the tree over", "no_such_block"),
        ("the same block", "repeated"),
        ("some of its shards", "covered"),
        ("the worker holds no lease", "not_leased"),
    ];
    WORDS.iter().find(|(words, _)| reason.starts_with(words)).map_or("other", |(_, name)| name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sheaf_cluster::Options;
    use sheaf_cluster::coverage::Block;
    use sheaf_cluster::id::{Stage, Step, Term, Token, WorkerId};

    use super::*;

    fn value(metrics: &Metrics, series: &str) -> f64 {
        let text = metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
    }

    #[test]
    fn what_happens_is_counted() {
        let metrics = Metrics::new();
        let job = JobId::from("a");
        metrics.event(&Event::JobQueued {
            job: job.clone(),
            namespace: "x".into(),
            priority: 0,
            deadline: None,
            submitted: Millis(1000),
        });
        metrics.job_started(&job, Millis(3000));
        metrics.job_started(&job, Millis(9000));
        metrics.job_ended(&job, "failed");
        metrics.spent(&v1::Spent { read_ns: 2_000_000_000, rows: 7, ..Default::default() });
        metrics.step(&StepTotals { count: 1, wall_ns: 3_000_000, compute_ns: 2_000_000, ..Default::default() });
        assert_eq!(value(&metrics, "sheaf_job_queue_wait_seconds_sum"), 2.0);
        assert_eq!(value(&metrics, "sheaf_job_queue_wait_seconds_count"), 1.0);
        assert_eq!(value(&metrics, "sheaf_jobs_ended_total{outcome=\"failed\"}"), 1.0);
        assert_eq!(value(&metrics, "sheaf_worker_read_seconds_total"), 2.0);
        assert_eq!(value(&metrics, "sheaf_rows_computed_total"), 7.0);
        assert_eq!(value(&metrics, "sheaf_step_overhead_seconds_sum"), 0.001);
    }

    #[test]
    fn refusals_of_the_engine_have_names() {
        let (metrics, mut engine) = (Metrics::new(), Engine::new(Options::default(), Term(1)));
        let stage = Stage { job: JobId::from("a"), number: 0 };
        let queued =
            Event::JobQueued { job: stage.job.clone(), namespace: "x".into(), priority: 0, deadline: None, submitted: Millis(0) };
        let block = Event::BlockArrived {
            worker: WorkerId(1),
            stage: stage.clone(),
            step: Step(0),
            token: Token::default(),
            block: Block { level: 0, index: 0 },
            digest: 0,
        };
        let opened = Event::StageOpened { stage, plan: sheaf_cluster::stage::StagePlan::one_task() };
        for event in [queued, Event::WorkerJoined { worker: WorkerId(1), threads: 1 }, opened, block] {
            metrics.event(&event);
            let commands = engine.handle(event, Millis(1));
            metrics.decided(Duration::from_micros(5), &commands);
            for command in commands {
                if let Command::Refuse { reason, .. } = command {
                    metrics.refused(&reason);
                }
            }
        }
        metrics.observe(&engine);
        assert_eq!(value(&metrics, "sheaf_blocks_refused_total{reason=\"no_step\"}"), 1.0);
        assert_eq!(value(&metrics, "sheaf_blocks_refused_total{reason=\"other\"}"), 0.0);
        assert_eq!(value(&metrics, "sheaf_engine_events_total"), 4.0);
        assert_eq!(value(&metrics, "sheaf_workers{state=\"active\"}"), 1.0);
        assert_eq!(value(&metrics, "sheaf_jobs{state=\"running\"}"), 1.0);
    }
}
