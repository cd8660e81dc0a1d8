//! The service that people's programs call.

mod find;
mod submit;
mod summary;
mod times;

use std::pin::Pin;
use std::sync::Arc;

use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, FailKind, JobRecord, JobState, Outcome};
use sheaf_cluster::id::{JobId, WorkerId};
use sheaf_dataflow::job::JobError;
use sheaf_proto::v1::{self, job_service_server::JobService, watch_job_response::Event as Watch};
use sheaf_runtime::fault::Fault;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::context::{Context, Estimate, Spec, now, stopping};
use crate::event_loop::Input;
use crate::feed::Feed;
use crate::joblog;

use self::submit::{Gates, Ticket};
use self::summary::{Briefs, state_name};

/// [`JobService`] over the log and the event loop.
pub struct Jobs {
    context: Context,
    briefs: Briefs,
    gates: Gates,
    started_ms: u64,
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;
type Lines = Pin<Box<dyn Stream<Item = Result<v1::GetJobLogResponse, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Jobs {
    type WatchJobStream = Events;
    type GetJobLogStream = Lines;

    async fn submit_job(&self, request: Request<v1::SubmitJobRequest>) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let order =
            serde_json::from_str(&request.order).map_err(|e| Status::invalid_argument(format!("malformed order: {e}")))?;
        let deadline_ms = (request.deadline_ms > 0).then_some(request.deadline_ms);
        let ticket = Ticket::new(request.idempotency_key, request.namespace, request.priority, deadline_ms)?;
        let spec = Spec {
            order,
            now_ns: 0,
            data: String::new(),
            existing: None,
            earlier: None,
            scored: None,
            retry_of: None,
            estimate: Estimate::default(),
        };
        let accepted = submit::submit(&self.context, &self.gates, spec, ticket).await?;
        Ok(Response::new(v1::SubmitJobResponse {
            job: accepted.job,
            fresh: accepted.fresh,
            errors: accepted.errors,
            estimate: accepted.estimate,
        }))
    }

    async fn retry_job(&self, request: Request<v1::RetryJobRequest>) -> Result<Response<v1::RetryJobResponse>, Status> {
        let request = request.into_inner();
        let (job, record) = find::find(&self.context, &request.job).await?;
        match &record.state {
            JobState::Ended(Outcome::Failed { .. } | Outcome::Cancelled) => {}
            other => {
                let message = format!("job {job} is {}; only a failed or cancelled job can be tried again", state_name(other));
                return Err(Status::failed_precondition(message));
            }
        }
        let old: Spec = self.context.documents.get(&record.spec).await.map_err(internal)?;
        // The pinned time stays: the same order gives the same model as the first try would have.
        let spec = Spec { retry_of: Some(job.0.clone()), ..old };
        let deadline_ms = record.deadline.map(|deadline| deadline.since(record.submitted).0);
        let ticket = Ticket::new(request.idempotency_key, record.namespace, record.priority, deadline_ms)?;
        let accepted = submit::submit(&self.context, &self.gates, spec, ticket).await?;
        Ok(Response::new(v1::RetryJobResponse {
            job: accepted.job,
            fresh: accepted.fresh,
            errors: accepted.errors,
            estimate: accepted.estimate,
            retry_of: job.0,
        }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Events>, Status> {
        let (job, record) = find::find(&self.context, &request.into_inner().job).await?;
        let feed = self.context.feeds.of(&job);
        if record.has_ended() && feed.is_empty() {
            // It ended under an earlier leader, whose feed is gone; the log still knows how.
            feed.send(Watch::Ended(self.ended(&record).await?));
        }
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(forward_events(feed, events, self.context.closing.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_job_log(&self, request: Request<v1::GetJobLogRequest>) -> Result<Response<Lines>, Status> {
        let request = request.into_inner();
        let (job, record) = find::find(&self.context, &request.job).await?;
        let feed = self.context.feeds.of(&job);
        if record.has_ended() && feed.is_empty() {
            // It ended under an earlier leader: the store has its lines, the log its end.
            let mut lines = joblog::load(&self.context, &job).await.map_err(internal)?;
            // The end is told below, whether or not it was stored in time.
            let end = format!("job {}", state_name(&record.state));
            lines.pop_if(|line| line.text.starts_with(&end));
            feed.restore(lines);
            feed.send(Watch::Ended(self.ended(&record).await?));
        }
        let (lines, stream) = mpsc::channel(64);
        let follow = request.follow.then(|| self.context.closing.clone());
        tokio::spawn(forward_lines(feed, lines, follow, request.tail as usize));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        let (job, record) = find::find(&self.context, &request.into_inner().job).await?;
        let mut summary = self.briefs.summary(&self.context, &job, &record).await?;
        summary.result = summary::result(&self.context, &record).await?;
        times::fill(&self.context, &job, &mut summary).await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(summary) }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let (records, matched) = find::matching(&self.context, request.into_inner()).await?;
        let mut jobs = Vec::with_capacity(records.len());
        for (job, record) in &records {
            jobs.push(self.briefs.summary(&self.context, job, record).await?);
        }
        Ok(Response::new(v1::ListJobsResponse { jobs, matched }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::CancelJobResponse>, Status> {
        let (job, record) = find::find(&self.context, &request.into_inner().job).await?;
        if !record.has_ended() {
            // Refused only if the job has ended meanwhile: then there is nothing to cancel.
            self.context.log.propose(Entry::CancelRequested { job: job.clone(), now: now() }).await.map_err(unavailable)?;
            self.context.events.send(Input::Event(Event::CancelRequested { job: job.clone() }));
        }
        Ok(Response::new(v1::CancelJobResponse { job: job.0, state: state_name(&record.state).to_owned() }))
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<v1::GetClusterResponse>, Status> {
        let workers = workers(&self.context).await?;
        let count = |jobs: &crate::machine::Jobs| {
            let of = |state: JobState| jobs.0.jobs.values().filter(|job| job.state == state).count() as u64;
            (of(JobState::Queued), of(JobState::Running))
        };
        let (queued_jobs, running_jobs) = self.context.log.read(count).await.map_err(unavailable)?;
        Ok(Response::new(v1::GetClusterResponse {
            workers,
            term: self.context.log.term(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            queued_jobs,
            running_jobs,
            store: self.context.base.clone(),
        }))
    }

    async fn drain_worker(&self, request: Request<v1::DrainWorkerRequest>) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let worker = request.into_inner().worker;
        if !workers(&self.context).await?.iter().any(|known| known.worker == worker) {
            return Err(Status::not_found(format!("worker {worker} not found")));
        }
        self.context.events.send(Input::Event(Event::DrainRequested { worker: WorkerId(worker) }));
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }
}

impl Jobs {
    /// The service of a leader that has just started.
    pub fn new(context: Context) -> Self {
        Self { context, briefs: Briefs::default(), gates: Gates::default(), started_ms: now().0 }
    }

    async fn ended(&self, record: &JobRecord) -> Result<v1::JobEnded, Status> {
        let (kind, message) = match &record.state {
            JobState::Ended(Outcome::Failed { kind, message, .. }) => (wire_kind(*kind), message.clone()),
            _ => (v1::FailKind::Unspecified, String::new()),
        };
        let result = summary::result(&self.context, record).await?;
        Ok(v1::JobEnded { state: state_name(&record.state).to_owned(), kind: kind.into(), message, error: None, result })
    }
}

/// Sends a job's events until it has ended, nobody listens or the coordinator stops.
async fn forward_events(feed: Arc<Feed>, events: mpsc::Sender<Result<v1::WatchJobResponse, Status>>, closing: CancellationToken) {
    let mut changes = feed.changes();
    let mut cursor = 0;
    loop {
        changes.borrow_and_update();
        let (found, next) = feed.since(cursor);
        cursor = next;
        for event in found {
            let last = matches!(event.event, Some(Watch::Ended(_)));
            if events.send(Ok(event)).await.is_err() || last {
                return;
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = events.closed() => return,
            // Whoever listens may have gone as well.
            () = closing.cancelled() => return drop(events.send(Err(stopping())).await),
        }
    }
}

/// Sends a job's log lines, and goes on until it has ended if they are followed.
async fn forward_lines(
    feed: Arc<Feed>,
    lines: mpsc::Sender<Result<v1::GetJobLogResponse, Status>>,
    follow: Option<CancellationToken>,
    tail: usize,
) {
    let mut changes = feed.changes();
    let (mut cursor, mut first) = (0, true);
    loop {
        changes.borrow_and_update();
        let (mut found, next, ended) = feed.lines_since(cursor);
        cursor = next;
        if first && tail > 0 {
            found.drain(..found.len().saturating_sub(tail));
        }
        first = false;
        for line in found {
            if lines.send(Ok(v1::GetJobLogResponse { line: Some(line) })).await.is_err() {
                return;
            }
        }
        let Some(closing) = follow.as_ref().filter(|_| !ended) else { return };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = lines.closed() => return,
            () = closing.cancelled() => return drop(lines.send(Err(stopping())).await),
        }
    }
}

/// Who is here.
async fn workers(context: &Context) -> Result<Vec<v1::WorkerSummary>, Status> {
    let (reply, workers) = oneshot::channel();
    context.events.send(Input::Workers(reply));
    workers.await.map_err(|_| Status::unavailable("the coordinator is stopping"))
}

/// Why a job waits; empty if it goes on.
async fn waiting(context: &Context, job: &JobId) -> Result<String, Status> {
    let (reply, waiting) = oneshot::channel();
    context.events.send(Input::WhyWaiting(job.clone(), reply));
    Ok(waiting.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?.unwrap_or_default())
}

/// A kind of failure for the wire.
pub fn wire_kind(kind: FailKind) -> v1::FailKind {
    match kind {
        FailKind::Job => v1::FailKind::Job,
        FailKind::Input | FailKind::Data => v1::FailKind::Data,
        FailKind::Limit => v1::FailKind::Limit,
        FailKind::Deadline => v1::FailKind::Deadline,
        FailKind::Internal => v1::FailKind::Internal,
    }
}

/// A job error for the wire.
pub fn wire_error(error: &JobError) -> v1::JobError {
    v1::JobError { path: error.path.clone(), message: error.message.clone(), hint: error.hint.clone().unwrap_or_default() }
}

fn internal(fault: Fault) -> Status {
    Status::internal(fault.message)
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}
