//! What people see of a job: from its record, its feed and the few words of its order that listings need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sheaf_cluster::durable::{JobRecord, JobState, Outcome};
use sheaf_cluster::id::{JobId, Millis};
use sheaf_proto::v1;
use tonic::Status;

pub use super::find::name as state_name;
use super::{internal, waiting, wire_kind};
use crate::context::{Context, Spec};

/// Orders whose few words are kept in memory.
const KEEP: usize = 20_000;

/// The few words of an order.
#[derive(Debug, Clone)]
struct Brief {
    name: String,
    retry_of: String,
    estimate: v1::JobEstimate,
}

/// The few words of orders, so that a listing does not read them again.
#[derive(Debug, Default)]
pub struct Briefs(Mutex<BTreeMap<String, Arc<Brief>>>);

impl Briefs {
    async fn of(&self, context: &Context, spec: &str) -> Result<Arc<Brief>, Status> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(spec).cloned();
        if let Some(brief) = known {
            return Ok(brief);
        }
        let read: Spec = context.documents.get(spec).await.map_err(internal)?;
        let brief = Arc::new(Brief {
            name: read.order.job().name.clone(),
            retry_of: read.retry_of.unwrap_or_default(),
            estimate: (&read.estimate).into(),
        });
        let mut briefs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if briefs.len() >= KEEP {
            briefs.clear();
        }
        briefs.insert(spec.to_owned(), Arc::clone(&brief));
        Ok(brief)
    }

    /// All of a job but its result.
    pub async fn summary(&self, context: &Context, job: &JobId, record: &JobRecord) -> Result<v1::JobSummary, Status> {
        let brief = self.of(context, &record.spec).await?;
        let (error, error_kind) = match &record.state {
            JobState::Ended(Outcome::Failed { kind, message, .. }) => (message.clone(), wire_kind(*kind)),
            _ => (String::new(), v1::FailKind::Unspecified),
        };
        let open = !record.has_ended();
        let phase = record.phases.values().rev().find(|p| open && p.finished.is_none());
        let time = |time: Option<Millis>| time.map_or(0, |t| t.0);
        Ok(v1::JobSummary {
            job: job.0.clone(),
            name: brief.name.clone(),
            state: state_name(&record.state).to_owned(),
            phase: phase.map_or_else(String::new, |p| p.name.clone()),
            waiting: if open { waiting(context, job).await? } else { String::new() },
            namespace: record.namespace.clone(),
            priority: record.priority,
            submitted_ms: record.submitted.0,
            started_ms: time(record.started),
            restarts: record.restarts,
            ended_ms: time(record.ended),
            deadline_ms: time(record.deadline),
            progress: if open { context.feeds.of(job).progress() } else { None },
            error,
            error_kind: error_kind.into(),
            cancel_requested: record.cancel_requested,
            retry_of: brief.retry_of.clone(),
            phases: phases(record),
            estimate: Some(brief.estimate),
            ..Default::default()
        })
    }
}

/// Phases in order; one that was open when the job ended, ended with it.
fn phases(record: &JobRecord) -> Vec<v1::PhaseSummary> {
    let summary = |phase: &sheaf_cluster::durable::PhaseRecord| {
        let ended = phase.finished.as_ref().map(|f| f.at).or(record.ended);
        let (started_ms, ended_ms) = (phase.entered.0, ended.map_or(0, |at| at.0));
        v1::PhaseSummary { phase: phase.name.clone(), started_ms, ended_ms }
    };
    record.phases.values().map(summary).collect()
}

/// The result object of a job as JSON; empty if there is none.
pub async fn result(context: &Context, record: &JobRecord) -> Result<String, Status> {
    let hash = match &record.state {
        JobState::Ended(Outcome::Succeeded { result }) => Some(result),
        JobState::Ended(Outcome::Failed { result, .. }) => result.as_ref(),
        _ => None,
    };
    match hash {
        Some(hash) => Ok(context.documents.get::<Value>(hash).await.map_err(internal)?.to_string()),
        None => Ok(String::new()),
    }
}
