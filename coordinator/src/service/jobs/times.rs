//! Where the time of a job went, stage by stage, as the event loop knows it: of jobs under way, and of those that
//! ended lately.

use serde_json::Value;
use sheaf_cluster::id::JobId;
use sheaf_proto::v1;
use tokio::sync::oneshot;
use tonic::Status;

use crate::account::Account;
use crate::context::Context;
use crate::driver::account::work;
use crate::event_loop::Input;

/// Fills in `times` and `work`. Of a job that ended long ago only its result knows them.
pub async fn fill(context: &Context, job: &JobId, summary: &mut v1::JobSummary) -> Result<(), Status> {
    let (reply, accounts) = oneshot::channel();
    context.events.send(Input::Accounts(job.clone(), reply));
    let accounts = accounts.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
    summary.times = accounts.iter().flat_map(|(phase, account)| splits(phase, account)).collect();
    if !accounts.is_empty() {
        summary.work = Value::from(work(&accounts)).to_string();
    }
    Ok(())
}

fn splits(phase: &str, account: &Account) -> Vec<v1::TimeSplit> {
    let split = |(worker, part): (&u64, &crate::account::WorkerAccount)| v1::TimeSplit {
        phase: phase.to_owned(),
        worker: *worker,
        read_ns: part.read_ns,
        compute_ns: part.compute_ns,
        merge_ns: part.merge_ns,
        wait_ns: part.wait_ns,
        rows: part.rows,
        bytes: part.bytes_read,
        shards: part.shards,
    };
    account.workers.iter().map(split).collect()
}
