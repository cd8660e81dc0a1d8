//! The distributed query engine: Apache DataFusion Ballista, embedded. The coordinator is its scheduler, workers are its
//! executors; calls between them go over our own channels, so its own protocol is open to nobody. No other room names it.
//!
//! | file | what it does |
//! |---|---|
//! | `config.rs` | sessions and settings that scheduler, executors and planners share |
//! | `joins.rs` | which joins hash and which sort |
//! | `codec.rs` | our nodes on the wire |
//! | `scheduler.rs`, `gate.rs` | the coordinator's side: members, queries, tasks of lost workers |
//! | `executor.rs`, `stage.rs`, `polite.rs` | a worker's side: polling, memory, cancelling |
//! | `neighbours.rs`, `relay.rs`, `depot.rs` | rows of other workers: of this machine, over the network, and their copies for when a worker is gone |
//! | `serving.rs` | this worker's rows for others |
//! | `bucket.rs`, `shards.rs`, `runs.rs`, `notes.rs` | the shard writer |
//! | `unary.rs` | what our nodes have in common |
//! | `prepare.rs` | a job's query to canonical shards |
//! | `select.rs` | a question to rows |
//!
//! A worker that leaves in order gets no more tasks, finishes those that it has, and stays until no question needs its rows.
//! A lost worker costs the tasks that it was running. What it wrote for later stages of a job's query was copied to the
//! store before the task counted as done, so no stage is ever rolled back: release 55.0.0 gives rows twice after that.
//! Questions are not copied: one that loses rows starts over.

mod bucket;
mod codec;
mod config;
mod depot;
mod executor;
mod gate;
mod joins;
mod neighbours;
mod notes;
mod polite;
mod prepare;
mod relay;
mod runs;
mod scheduler;
mod select;
mod serving;
mod shards;
mod stage;
mod unary;

use std::sync::Arc;

use tokio::runtime::Handle;
use tonic::service::Routes;

pub use executor::{ExecutorOptions, QueryExecutor, QueryMemory};
pub use gate::Member;
pub use prepare::Preparing;
pub use relay::{Peer, Peers, peer};
pub use scheduler::{Scheduler, Signal};

use crate::error::DataError;
use crate::job::JobError;
use crate::query::JOB_PATH;
use crate::scratch::Scratch;
use crate::sql;
use crate::stores::Stores;
use relay::Relays;

/// The coordinator's part of the engine; cheap to clone.
#[derive(Clone)]
pub struct Queries {
    scheduler: Scheduler,
    stores: Stores,
    relays: Relays,
    _copies: Arc<Scratch>,
}

impl Queries {
    /// Starts without workers.
    pub async fn start(stores: Stores, peers: Arc<dyn Peers>) -> Result<Self, DataError> {
        let spill = |source| DataError::Spill { action: "create a folder", source };
        let copies = Scratch::new(None, "sheaf-copies-").map_err(spill)?;
        let depot = depot::Depot::new(stores.clone(), copies.path().to_owned());
        let relays = Relays::new(peers, depot, Handle::current()).map_err(spill)?;
        Ok(Self { scheduler: Scheduler::start(&stores).await?, stores, relays, _copies: Arc::new(copies) })
    }

    /// What the coordinator serves to workers.
    pub fn routes(&self) -> Routes {
        self.scheduler.routes()
    }

    /// Who the workers are, and what they are told.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }
}

/// An error that the engine hands on as text, sorted again by what can be done about it.
fn failure(text: &str) -> DataError {
    /// As it is said, and as it is written down where an error is shared by several streams.
    const EXHAUSTED: [&str; 2] = ["Resources exhausted", "ResourcesExhausted("];
    const CHANGED: &str = "input changed: ";
    let text = text.trim();
    if let Some((_, file)) = text.split_once(CHANGED) {
        let file = file.lines().next().unwrap_or(file).trim_end_matches(['"', ')', '}']);
        return DataError::InputChanged { file: file.to_owned() };
    }
    let text = plain(text);
    if let Some(what) = text.strip_prefix("This feature is not implemented: ") {
        return JobError::at(JOB_PATH, sql::in_our_words(what)).into();
    }
    match EXHAUSTED.iter().any(|exhausted| text.contains(exhausted)) {
        true => DataError::Memory { what: "query".to_owned(), message: text.to_owned() },
        false => DataError::input("query", text),
    }
}

/// The text without what each layer put before it.
fn plain(text: &str) -> String {
    let layers = ["Job failed due to stage ", "DataFusion error: ", "Execution error: ", "Arrow error: ", "External error: "];
    let mut rest = text;
    loop {
        let cut = layers.iter().find_map(|layer| rest.strip_prefix(layer).map(|rest| (*layer, rest)));
        rest = match cut {
            Some(("Job failed due to stage ", after)) => after.split_once("failed: ").map_or(after, |(_, reason)| reason),
            Some((_, after)) => after,
            None => return rest.trim().trim_end_matches('.').to_owned(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_tasks_are_read_again() {
        let text = "Job failed due to stage 2 failed: DataFusion error: Arrow error: Divide by zero error\n";
        assert_eq!(failure(text).to_string(), "query: Divide by zero error");
        let changed = failure("Job failed due to stage 1 failed: External error: input changed: /a/b.parquet\n");
        assert!(matches!(changed, DataError::InputChanged { file } if file == "/a/b.parquet"));
        let said = failure("Job failed due to stage 3 failed: Resources exhausted: Failed to allocate 2.0 MB");
        assert!(matches!(said, DataError::Memory { .. }), "{said}");
        let shared =
            "Task failed due to runtime execution error: DataFusionError(Shared(ResourcesExhausted(\"Failed to allocate\")))";
        assert!(matches!(failure(shared), DataError::Memory { .. }));
        let unplanned =
            "This feature is not implemented: Physical plan does not support logical expression ScalarSubquery(<subquery>)";
        let unplanned = failure(unplanned);
        let expected = "sql: a subquery that refers to the outer query in this way is not supported yet";
        assert!(unplanned.is_job() && unplanned.to_string().starts_with(expected), "{unplanned}");
    }
}
