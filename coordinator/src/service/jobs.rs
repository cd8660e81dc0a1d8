//! The service that people's programs call.

use std::pin::Pin;

use serde_json::Value;
use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, FailKind, JobRecord, JobState, Outcome, Reply};
use sheaf_cluster::id::{JobId, Millis};
use sheaf_dataflow::job::JobError;
use sheaf_proto::v1::{self, job_service_server::JobService, watch_job_response::Event as Watch};
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::order::Order;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::context::{Context, Spec, now};
use crate::event_loop::Input;
use crate::validate::validate;

/// [`JobService`] over the log and the event loop.
pub struct Jobs {
    /// Shared things.
    pub context: Context,
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Jobs {
    type WatchJobStream = Events;

    async fn submit_job(&self, request: Request<v1::SubmitJobRequest>) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        let order: Order =
            serde_json::from_str(&request.order).map_err(|e| Status::invalid_argument(format!("malformed order: {e}")))?;
        match submit(&self.context, order, request).await {
            Ok((job, fresh)) => Ok(Response::new(v1::SubmitJobResponse { job: job.0, fresh, errors: Vec::new() })),
            Err(fault) if fault.kind == Kind::Internal => Err(Status::internal(fault.message)),
            Err(fault) => {
                let mut errors: Vec<v1::JobError> = fault.errors.iter().map(wire_error).collect();
                if errors.is_empty() {
                    errors.push(v1::JobError { path: String::new(), message: fault.message, hint: String::new() });
                }
                Ok(Response::new(v1::SubmitJobResponse { job: String::new(), fresh: false, errors }))
            }
        }
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Events>, Status> {
        let job = JobId(request.into_inner().job);
        let record = self.find(&job).await?;
        let feed = self.context.feeds.of(&job);
        if record.has_ended() && feed.since(0).is_empty() {
            // It ended under an earlier leader, whose feed is gone; the log still knows how.
            feed.send(Watch::Ended(self.ended(&job, &record).await?));
        }
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut changes = feed.changes();
            let mut next = 0;
            loop {
                for event in feed.since(next) {
                    next += 1;
                    let last = matches!(event.event, Some(Watch::Ended(_)));
                    if events.send(Ok(event)).await.is_err() || last {
                        return;
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        let job = JobId(request.into_inner().job);
        let record = self.find(&job).await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(self.summary(&job, &record).await?) }))
    }

    async fn list_jobs(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let records = self.context.log.read(|jobs| jobs.0.jobs.clone()).await.map_err(unavailable)?;
        let mut jobs = Vec::with_capacity(records.len());
        for (job, record) in &records {
            jobs.push(self.summary(job, record).await?);
        }
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::CancelJobResponse>, Status> {
        let job = JobId(request.into_inner().job);
        let record = self.find(&job).await?;
        if !record.has_ended() {
            // Refused only if the job has ended meanwhile: then there is nothing to cancel.
            self.context.log.propose(Entry::CancelRequested { job: job.clone(), now: now() }).await.map_err(unavailable)?;
            self.context.events.send(Input::Event(Event::CancelRequested { job }));
        }
        Ok(Response::new(v1::CancelJobResponse {}))
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<v1::GetClusterResponse>, Status> {
        let (reply, workers) = oneshot::channel();
        self.context.events.send(Input::Workers(reply));
        let workers = workers.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        Ok(Response::new(v1::GetClusterResponse { workers, term: self.context.log.term() }))
    }
}

impl Jobs {
    async fn ended(&self, job: &JobId, record: &JobRecord) -> Result<v1::JobEnded, Status> {
        let summary = self.summary(job, record).await?;
        let (kind, message) = match &record.state {
            JobState::Ended(Outcome::Failed { kind, message, .. }) => (wire_kind(*kind), message.clone()),
            _ => (v1::FailKind::Unspecified, String::new()),
        };
        Ok(v1::JobEnded { state: summary.state, kind: kind.into(), message, error: None, result: summary.result })
    }

    async fn find(&self, job: &JobId) -> Result<JobRecord, Status> {
        let wanted = job.clone();
        let record = self.context.log.read(move |jobs| jobs.0.jobs.get(&wanted).cloned()).await.map_err(unavailable)?;
        record.ok_or_else(|| Status::not_found(format!("job {job} not found")))
    }

    async fn summary(&self, job: &JobId, record: &JobRecord) -> Result<v1::JobSummary, Status> {
        let spec: Spec = self.context.documents.get(&record.spec).await.map_err(internal)?;
        let (state, result) = match &record.state {
            JobState::Queued => ("queued", None),
            JobState::Running => ("running", None),
            JobState::Ended(Outcome::Succeeded { result }) => ("succeeded", Some(result)),
            JobState::Ended(Outcome::Failed { result, .. }) => ("failed", result.as_ref()),
            JobState::Ended(Outcome::Cancelled) => ("cancelled", None),
        };
        let result = match result {
            Some(hash) => self.context.documents.get::<Value>(hash).await.map_err(internal)?.to_string(),
            None => String::new(),
        };
        let (reply, waiting) = oneshot::channel();
        self.context.events.send(Input::WhyWaiting(job.clone(), reply));
        let waiting = waiting.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?.unwrap_or_default();
        let open = record.phases.values().rev().find(|p| p.finished.is_none());
        let phase = open.map_or_else(String::new, |p| p.name.clone());
        Ok(v1::JobSummary {
            job: job.0.clone(),
            name: spec.order.job().name.clone(),
            state: state.into(),
            phase,
            waiting,
            result,
        })
    }
}

/// Checks an order, writes it into the log and queues it.
async fn submit(context: &Context, order: Order, request: v1::SubmitJobRequest) -> Result<(JobId, bool), Fault> {
    let accepted = now();
    let now_ns = accepted.0 as i64 * 1_000_000;
    let order = order.with_now(now_ns);
    let data = validate(context, &order, now_ns).await?;
    let spec = context.documents.put(&Spec { order, now_ns, data }).await?;
    let job = JobId(ulid::Ulid::new().to_string());
    let deadline = (request.deadline_ms > 0).then(|| accepted.plus(Millis(request.deadline_ms)));
    let key = (!request.idempotency_key.is_empty()).then_some(request.idempotency_key);
    let (namespace, priority) = (request.namespace, request.priority);
    let entry = Entry::JobSubmitted { job, key, spec, priority, namespace: namespace.clone(), deadline, now: accepted };
    let context = context.clone();
    // A task of its own: a client that goes away now must not leave a job that is logged and not queued.
    let accepting = tokio::spawn(async move {
        let Reply::Submitted { job, fresh } = context.propose(entry).await? else {
            return Err(Fault::internal("the log answered a submit with something else"));
        };
        if fresh {
            let queued = Event::JobQueued { job: job.clone(), namespace, priority, deadline, submitted: accepted };
            context.events.send(Input::Event(queued));
        }
        Ok((job, fresh))
    });
    accepting.await.map_err(|e| Fault::internal(format!("accepting the job broke off: {e}")))?
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
