//! The coordinator's part of the query engine: it plans queries into stages, hands tasks to workers that poll, and
//! knows which workers there are. It hears of a lost worker from the coordinator, never by a timeout of its own.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::serde::protobuf::{FailedTask, JobStatus, ResultLost, TaskStatus, failed_task, job_status, task_status};
use ballista_core::serde::scheduler::{
    ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification, PartitionLocation,
};
use ballista_scheduler::SessionBuilder;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::event::SubmitPlan;
use ballista_scheduler::scheduler_server::{JobIdGenerator, SchedulerServer};
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use datafusion::prelude::SessionContext;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::sync::{RwLock, broadcast, mpsc, watch};
use tonic::service::Routes;

use super::codec::Codec;
use super::config::{self, MAX_MESSAGE_BYTES};
use super::gate::{Gate, Member, Members, Seat};
use crate::error::DataError;
use crate::query::QueryProgress;
use crate::stores::Stores;

/// The engine's scheduler as we use it.
pub(super) type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Signals that a worker may lag behind: it polls by itself, too.
const SIGNALS: usize = 1024;
/// Tries of one task whose failure may pass.
const TRIES: usize = 8;
/// Tries to cancel one query, a tenth of a second apart.
const CANCELS: usize = 600;
/// Time between two looks at whether a worker that leaves is still needed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longer than any cluster lives: losses are told, not guessed.
const NEVER_SECONDS: u64 = 10 * 365 * 86_400;

/// What workers are told at once rather than when they ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// There may be tasks.
    Work,
    /// Tasks of this query are to stop.
    Cancel(String),
    /// This query has ended: its rows can go.
    Ended(String),
}

/// The scheduler; cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pub(super) server: Server,
    members: Members,
    signals: broadcast::Sender<Signal>,
    /// Counts changes of the members.
    changes: watch::Sender<u64>,
    /// Names of workers as they are lost.
    losses: broadcast::Sender<String>,
    /// Stages of queries whose rows have no copies, by the query's name.
    questions: Arc<Mutex<BTreeMap<String, Graph>>>,
}

/// The stages of a query.
type Graph = Arc<RwLock<ExecutionGraphBox>>;

impl Scheduler {
    /// Starts with no members.
    pub async fn start(stores: &Stores) -> Result<Self, DataError> {
        let (signals, _) = broadcast::channel(SIGNALS);
        let told = signals.clone();
        let session_stores = stores.clone();
        let sessions: SessionBuilder = Arc::new(move |config| Ok(config::state(&session_stores, config, 0)));
        let settings = SchedulerConfig {
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            executor_timeout_seconds: NEVER_SECONDS,
            no_executors_grace_period_seconds: NEVER_SECONDS,
            expire_dead_executor_interval_seconds: 3600,
            finished_job_data_clean_up_interval_seconds: 0,
            finished_job_state_clean_up_interval_seconds: 60,
            task_distribution: TaskDistributionPolicy::RoundRobin,
            grpc_server_max_decoding_message_size: MAX_MESSAGE_BYTES as u32,
            grpc_server_max_encoding_message_size: MAX_MESSAGE_BYTES as u32,
            task_max_failures: TRIES,
            override_physical_codec: Some(Arc::new(Codec::default())),
            override_config_producer: Some(Arc::new(config::base)),
            override_session_builder: Some(Arc::clone(&sessions)),
            job_id_generator: Some(Arc::new(Names::new())),
            // Nobody listens while there is no worker.
            on_work_available: Some(Arc::new(move |_| drop(told.send(Signal::Work)))),
            ..SchedulerConfig::default()
        };
        let settings = Arc::new(settings);
        let cluster = BallistaCluster::new_memory(settings.scheduler_id.clone(), sessions, Arc::new(config::base));
        let server: Server = create_scheduler(cluster, settings).await.map_err(|e| DataError::internal("query engine", e))?;
        Ok(Self {
            server,
            members: Arc::new(RwLock::new(BTreeMap::new())),
            signals,
            changes: watch::Sender::new(0),
            losses: broadcast::channel(SIGNALS).0,
            questions: Arc::default(),
        })
    }

    /// What the coordinator serves to workers.
    pub fn routes(&self) -> Routes {
        let gate = Gate { server: self.server.clone(), members: Arc::clone(&self.members) };
        let service = SchedulerGrpcServer::new(gate)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(service)
    }

    /// Signals from now on.
    pub fn signals(&self) -> broadcast::Receiver<Signal> {
        self.signals.subscribe()
    }

    /// Takes a worker in under a name that no earlier stay had.
    pub async fn joined(&self, name: &str, member: Member) {
        self.members.write().await.insert(name.to_owned(), Seat { member, leaving: false });
        self.changes.send_modify(|n| *n += 1);
    }

    /// A worker wants to leave: it gets no more tasks. Resolves when it runs none and no question needs rows that only it
    /// has; then it may be taken out and nothing is computed again.
    pub async fn leaving(&self, name: &str) {
        // Held by polls until their tasks are handed out: none comes after this.
        match self.members.write().await.get_mut(name) {
            Some(seat) => seat.leaving = true,
            None => return,
        }
        self.changes.send_modify(|n| *n += 1);
        while self.needs(name).await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether a worker runs a task, or has rows that a question still reads. Where nobody is left to go on with a
    /// question, only rows of a finished one count.
    async fn needs(&self, name: &str) -> bool {
        for running in self.server.state.task_manager.get_running_job_cache().values() {
            let graph = running.execution_graph.read().await;
            if graph.running_tasks().iter().any(|task| task.executor_id == name) {
                return true;
            }
        }
        let others = self.members.read().await.values().any(|seat| !seat.leaving);
        let questions: Vec<Graph> = self.questions().values().cloned().collect();
        for graph in questions {
            let graph = graph.read().await;
            if has_rows(&graph, name) && (others || is_computed(&graph)) {
                return true;
            }
        }
        false
    }

    fn questions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Graph>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker out: what it says from now on is not heard, and what it was doing is given to others.
    pub async fn lost(&self, name: &str) {
        let mut members = self.members.write().await;
        if members.remove(name).is_none() {
            return;
        }
        self.give_back(name).await;
        drop(members);
        let removed = self.server.state.executor_manager.remove_executor(name, Some("it left the cluster".to_owned())).await;
        if let Err(error) = removed {
            tracing::debug!(%error, worker = name, "a worker that never polled left the query engine");
        }
        self.changes.send_modify(|n| *n += 1);
        // Who asks nothing hears nothing.
        drop(self.losses.send(name.to_owned()));
        drop(self.signals.send(Signal::Work));
    }

    /// Names of workers that are lost from now on.
    pub(super) fn losses(&self) -> broadcast::Receiver<String> {
        self.losses.subscribe()
    }

    /// The members now, without those that leave.
    pub async fn members(&self) -> Vec<Member> {
        self.members.read().await.values().filter(|seat| !seat.leaving).map(|seat| seat.member).collect()
    }

    /// Tells of changes among the members.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Marks the tasks that a worker was running as to be run again. Its finished ones keep: who needs what they wrote
    /// finds the copy, or the query starts over.
    async fn give_back(&self, name: &str) {
        for (job, running) in self.server.state.task_manager.get_running_job_cache().iter() {
            let mut graph = running.execution_graph.write().await;
            let tasks = graph.running_tasks();
            let lost: Vec<TaskStatus> =
                tasks.iter().filter(|t| t.executor_id == name).map(|t| lost_task(job, t, &graph)).collect();
            if lost.is_empty() {
                continue;
            }
            // Failures that are not counted never end a stage, so these limits are never looked at.
            if let Err(error) = graph.update_task_status(&nobody(name), lost, TRIES, TRIES) {
                tracing::error!(%error, query = %job, "tasks of a lost worker could not be given to others");
            }
        }
    }

    /// Submits the plan of a question, whose rows are only where they were written, and follows it.
    pub(super) async fn ask(&self, context: SessionContext, plan: &SubmitPlan) -> Result<Query, DataError> {
        let query = self.submit("question", context, plan).await?;
        if let Some(graph) = &query.graph {
            self.questions().insert(query.id.to_string(), Arc::clone(graph));
        }
        Ok(query)
    }

    /// Submits a plan and follows it.
    pub(super) async fn submit(&self, name: &str, context: SessionContext, plan: &SubmitPlan) -> Result<Query, DataError> {
        let failed = |e: ballista_core::error::BallistaError| DataError::internal("query engine", e);
        let (sender, statuses) = mpsc::channel(16);
        let id = self.server.submit_plan(name, Arc::new(context), plan, Some(sender)).await.map_err(failed)?;
        let mut query = Query { id, statuses, scheduler: self.clone(), graph: None, found: None, ended: false };
        query.find().await;
        Ok(query)
    }
}

/// Names of queries: what this process drew at its start, and a number. The engine's own generator keeps a thread that
/// wakes up every millisecond.
struct Names {
    process: [u64; 2],
    next: AtomicU64,
}

impl Names {
    fn new() -> Self {
        // Each has keys of its own that the system draws.
        let drawn = || RandomState::new().hash_one(std::process::id());
        Self { process: [drawn(), drawn()], next: AtomicU64::new(0) }
    }
}

#[async_trait]
impl JobIdGenerator for Names {
    async fn next_id(&self) -> String {
        let [high, low] = self.process;
        format!("{high:016x}{low:016x}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whether a worker wrote rows for a query, of any of its stages.
fn has_rows(graph: &ExecutionGraphBox, name: &str) -> bool {
    let wrote = |task: &TaskInfo| matches!(&task.task_status, task_status::Status::Successful(done) if done.executor_id == name);
    graph.stages().values().any(|stage| match stage {
        ExecutionStage::Running(stage) => stage.task_infos.iter().any(wrote),
        ExecutionStage::Successful(stage) => stage.task_infos.iter().any(wrote),
        ExecutionStage::UnResolved(_) | ExecutionStage::Resolved(_) | ExecutionStage::Failed(_) => false,
    })
}

/// Whether all stages of a query are done.
fn is_computed(graph: &ExecutionGraphBox) -> bool {
    graph.stages().values().all(|stage| matches!(stage, ExecutionStage::Successful(_)))
}

fn lost_task(
    job: &JobId,
    task: &ballista_scheduler::state::execution_graph::RunningTaskInfo,
    graph: &ExecutionGraphBox,
) -> TaskStatus {
    let attempt = match graph.stages().get(&task.stage_id) {
        Some(ExecutionStage::Running(stage)) => stage.stage_attempt_num,
        _ => 0,
    };
    TaskStatus {
        task_id: task.task_id as u32,
        job_id: job.to_string(),
        stage_id: task.stage_id as u32,
        stage_attempt_num: attempt as u32,
        launch_time: 0,
        start_exec_time: 0,
        end_exec_time: 0,
        metrics: Vec::new(),
        status: Some(task_status::Status::Failed(FailedTask {
            error: format!("worker {} was lost", task.executor_id),
            retryable: true,
            count_to_failures: false,
            failed_reason: Some(failed_task::FailedReason::ResultLost(ResultLost {})),
        })),
    }
}

fn nobody(name: &str) -> ExecutorMetadata {
    ExecutorMetadata {
        id: name.to_owned(),
        host: String::new(),
        port: 0,
        grpc_port: 0,
        specification: ExecutorSpecification::default(),
        os_info: ExecutorOperatingSystemSpecification::default(),
    }
}

/// A query under way; dropped, it is cancelled.
pub(super) struct Query {
    /// The engine's name of it.
    pub(super) id: JobId,
    statuses: mpsc::Receiver<JobStatus>,
    scheduler: Scheduler,
    graph: Option<Graph>,
    /// Where the rows of the last stage are, once they are known.
    found: Option<Result<Vec<PartitionLocation>, DataError>>,
    ended: bool,
}

impl Query {
    /// Waits for the end, and says where the rows of the last stage are; `progress` is told now and then how far it is. One
    /// that was broken off can be waited for again.
    pub(super) async fn wait(
        &mut self,
        mut progress: impl FnMut(QueryProgress) + Send,
    ) -> Result<Vec<PartitionLocation>, DataError> {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            if let Some(found) = self.found.take() {
                return found;
            }
            tokio::select! {
                status = self.statuses.recv() => match status.and_then(|s| s.status) {
                    Some(job_status::Status::Successful(done)) => {
                        self.ended = true;
                        let locations = done.partition_location.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
                        let failed = |e: ballista_core::error::BallistaError| DataError::internal("query engine", e);
                        self.found = Some(locations.map_err(failed));
                        progress(self.progress().await);
                    }
                    Some(job_status::Status::Failed(failed)) => {
                        self.ended = true;
                        return Err(super::failure(&failed.error));
                    }
                    Some(_) => {}
                    None => return Err(DataError::internal("query engine", "the scheduler forgot a query")),
                },
                _ = ticks.tick() => progress(self.progress().await),
            }
        }
    }

    /// Takes hold of the query's stages as soon as it is planned: when it has ended the scheduler lets go of them. A query
    /// that cannot be planned has none, and says so or falls silent.
    async fn find(&mut self) {
        while self.graph.is_none() && self.statuses.is_empty() && !self.statuses.is_closed() {
            let jobs = self.scheduler.server.state.task_manager.get_running_job_cache();
            self.graph = jobs.get(&self.id).map(|job| Arc::clone(&job.execution_graph));
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }

    /// Whether a worker has rows of it; where its stages are not known it may.
    pub(super) async fn has_rows_of(&self, name: &str) -> bool {
        match &self.graph {
            Some(graph) => {
                let graph = graph.read().await;
                has_rows(&graph, name)
            }
            None => true,
        }
    }

    async fn progress(&self) -> QueryProgress {
        let Some(graph) = &self.graph else { return QueryProgress::default() };
        let graph = graph.read().await;
        let mut progress = QueryProgress { stages: graph.stage_count() as u32, ..QueryProgress::default() };
        for stage in graph.stages().values() {
            let (all, done) = match stage {
                ExecutionStage::Running(stage) => (stage.partitions, stage.successful_tasks()),
                ExecutionStage::Successful(stage) => (stage.partitions, stage.partitions),
                ExecutionStage::Resolved(stage) => (stage.partitions, 0),
                ExecutionStage::UnResolved(_) | ExecutionStage::Failed(_) => (0, 0),
            };
            progress.stages_done += u32::from(matches!(stage, ExecutionStage::Successful(_)));
            progress.tasks += all as u32;
            progress.tasks_done += done as u32;
        }
        progress
    }

    /// Rows that the stages before the last one wrote for it; the query must have succeeded.
    pub(super) async fn exchanged(&self) -> Result<u64, DataError> {
        let missing = || DataError::internal("query engine", "the stages of a finished query are not known");
        let graph = self.graph.as_ref().ok_or_else(missing)?;
        let graph = graph.read().await;
        let last = graph.stages().values().find(|stage| stage.output_links().is_empty()).ok_or_else(missing)?;
        let ExecutionStage::Successful(last) = last else { return Err(missing()) };
        let mut rows = 0;
        for input in last.inputs.keys() {
            let Some(ExecutionStage::Successful(stage)) = graph.stages().get(input) else { return Err(missing()) };
            rows += stage.task_infos.iter().map(|task| task_rows(&task.task_status)).sum::<u64>();
        }
        Ok(rows)
    }
}

/// Rows that a task wrote, if it succeeded.
fn task_rows(status: &task_status::Status) -> u64 {
    match status {
        task_status::Status::Successful(task) => task.partitions.iter().map(|partition| partition.num_rows).sum(),
        task_status::Status::Running(_) | task_status::Status::Failed(_) => 0,
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let (id, scheduler, ended) = (self.id.clone(), self.scheduler.clone(), self.ended);
        scheduler.questions().remove(id.as_str());
        // Workers that are not there hear nothing, and have nothing.
        drop(scheduler.signals.send(Signal::Cancel(id.to_string())));
        tokio::spawn(async move {
            // One that is still being planned cannot be cancelled yet: it is asked again until it has ended.
            for _ in 0..if ended { 0 } else { CANCELS } {
                if let Err(error) = scheduler.server.cancel_job(id.clone()).await {
                    tracing::warn!(%error, query = %id, "a query could not be cancelled");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(scheduler.signals.send(Signal::Cancel(id.to_string())));
                let status = scheduler.server.state.task_manager.get_job_status(&id).await.ok().flatten().and_then(|s| s.status);
                if matches!(status, Some(job_status::Status::Failed(_) | job_status::Status::Successful(_))) {
                    break;
                }
            }
            drop(scheduler.signals.send(Signal::Ended(id.to_string())));
        });
    }
}
