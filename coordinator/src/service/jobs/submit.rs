//! Accepting an order: checked as a whole, written into the log once per key, queued.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sheaf_cluster::Event;
use sheaf_cluster::durable::{Entry, Reply};
use sheaf_cluster::id::{JobId, Millis};
use sheaf_proto::v1;
use sheaf_runtime::fault::{Fault, Kind};
use tokio::sync::{Mutex, MutexGuard};
use tonic::Status;

use super::{internal, unavailable, wire_error, workers};
use crate::context::{Context, Spec, now};
use crate::crash;
use crate::event_loop::Input;
use crate::validate::{Checked, Known, validate};

/// Orders that are checked at the same time. Those with the same key pass the same gate, one by one.
const GATES: usize = 16;

/// Longest key and namespace, in bytes.
const LONGEST_KEY: usize = 256;
const LONGEST_NAMESPACE: usize = 63;

/// Where orders with equal keys wait for each other.
#[derive(Debug, Default)]
pub struct Gates([Mutex<()>; GATES]);

impl Gates {
    async fn pass(&self, key: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.0[hasher.finish() as usize % GATES].lock().await
    }
}

/// How an order is to be run.
#[derive(Debug, Clone)]
pub struct Ticket {
    key: String,
    namespace: String,
    priority: i32,
    deadline_ms: Option<u64>,
}

impl Ticket {
    /// Checks key and namespace. Keys belong to their namespace; an order without one gets its own.
    pub fn new(key: String, namespace: String, priority: i32, deadline_ms: Option<u64>) -> Result<Self, Status> {
        let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if namespace.len() > LONGEST_NAMESPACE || !namespace.chars().all(plain) {
            return Err(Status::invalid_argument(format!(
                "`{namespace}` is no namespace: at most {LONGEST_NAMESPACE} of a-z, 0-9, `-`, `_` and `.`"
            )));
        }
        if key.len() > LONGEST_KEY {
            return Err(Status::invalid_argument(format!("the key has {} bytes; at most {LONGEST_KEY} are allowed", key.len())));
        }
        let key = if key.is_empty() { ulid::Ulid::new().to_string() } else { format!("{namespace}/{key}") };
        Ok(Self { key, namespace, priority, deadline_ms })
    }
}

/// What comes of a submit.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Id of the job; empty if the order has errors.
    pub job: String,
    /// Whether it is a new one.
    pub fresh: bool,
    /// What is wrong with the order.
    pub errors: Vec<v1::JobError>,
    /// What it will take.
    pub estimate: Option<v1::JobEstimate>,
}

/// Accepts an order, or says what is wrong with it. A pinned time in the spec is kept.
pub async fn submit(context: &Context, gates: &Gates, spec: Spec, ticket: Ticket) -> Result<Accepted, Status> {
    let _gate = gates.pass(&ticket.key).await;
    context.accepting()?;
    if let Some(earlier) = earlier(context, &spec, &ticket.key).await? {
        return Ok(earlier);
    }
    let accepted = now();
    let spec = match checked(context, spec, accepted).await {
        Ok(spec) => spec,
        Err(fault) if fault.kind == Kind::Internal => return Err(internal(fault)),
        Err(fault) => return Ok(Accepted { errors: wire_errors(fault), ..Accepted::default() }),
    };
    let hash = context.documents.put(&spec).await.map_err(internal)?;
    let (job, fresh) = enqueue(context, hash, ticket, accepted).await.map_err(internal)?;
    Ok(Accepted { job: job.0, fresh, errors: Vec::new(), estimate: Some((&spec.estimate).into()) })
}

/// The job that the key already stands for; another order under the same key is refused.
async fn earlier(context: &Context, spec: &Spec, key: &str) -> Result<Option<Accepted>, Status> {
    let wanted = key.to_owned();
    let known = context.log.read(move |jobs| {
        let job = jobs.0.keys.get(&wanted)?;
        Some((job.clone(), jobs.0.jobs.get(job)?.spec.clone()))
    });
    let Some((job, hash)) = known.await.map_err(unavailable)? else { return Ok(None) };
    let old: Spec = context.documents.get(&hash).await.map_err(internal)?;
    if spec.order.clone().with_now(old.now_ns) != old.order || spec.retry_of != old.retry_of {
        let key = key.split_once('/').map_or(key, |(_, key)| key);
        return Err(Status::already_exists(format!(
            "the key `{key}` belongs to job {job}, which is another order; give a new key"
        )));
    }
    Ok(Some(Accepted { job: job.0, fresh: false, errors: Vec::new(), estimate: Some((&old.estimate).into()) }))
}

/// Pins the order's time and checks all of it against the data.
async fn checked(context: &Context, spec: Spec, accepted: Millis) -> Result<Spec, Fault> {
    let now_ns = if spec.now_ns == 0 { accepted.0 as i64 * 1_000_000 } else { spec.now_ns };
    let order = spec.order.with_now(now_ns);
    let known = Known { existing: spec.existing, earlier: spec.earlier };
    let Checked { data, mut estimate, existing, earlier, scored } = validate(context, &order, known, now_ns).await?;
    let workers = workers(context).await.map_err(|status| Fault::internal(status.message()))?;
    estimate.workers = workers.len() as u32;
    estimate.memory_bytes = workers.iter().map(|worker| worker.memory_bytes).sum();
    Ok(Spec { order, now_ns, data, existing, earlier, scored, estimate, retry_of: spec.retry_of })
}

/// Writes the job into the log and queues it.
async fn enqueue(context: &Context, spec: String, ticket: Ticket, accepted: Millis) -> Result<(JobId, bool), Fault> {
    let Ticket { key, namespace, priority, deadline_ms } = ticket;
    let job = JobId(ulid::Ulid::new().to_string());
    let deadline = deadline_ms.map(|ms| accepted.plus(Millis(ms)));
    let key = Some(key);
    let entry = Entry::JobSubmitted { job, key, spec, priority, namespace: namespace.clone(), deadline, now: accepted };
    let context = context.clone();
    // A task of its own: a client that goes away now must not leave a job that is logged and not queued.
    let accepting = tokio::spawn(async move {
        let Reply::Submitted { job, fresh } = context.propose(entry).await? else {
            return Err(Fault::internal("the log answered a submit with something else"));
        };
        crash::point("after-submit-logged");
        if fresh {
            let queued = Event::JobQueued { job: job.clone(), namespace, priority, deadline, submitted: accepted };
            context.events.send(Input::Event(queued));
        }
        Ok((job, fresh))
    });
    accepting.await.map_err(|e| Fault::internal(format!("accepting the job broke off: {e}")))?
}

fn wire_errors(fault: Fault) -> Vec<v1::JobError> {
    match fault.errors.is_empty() {
        true => vec![v1::JobError { path: String::new(), message: fault.message, hint: String::new() }],
        false => fault.errors.iter().map(wire_error).collect(),
    }
}
