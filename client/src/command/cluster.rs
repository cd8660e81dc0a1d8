//! `sheaf cluster`: who is there, and who is to leave.

use std::time::Duration;

use serde_json::{Value, json};
use sheaf_proto::v1;
use sheaf_runtime::exit::Exit;

use super::{print, print_json, within};
use crate::cli::{DrainArgs, Format, StatusArgs};
use crate::connect::{connect, place};
use crate::embedded::Client;
use crate::failure::Failure;
use crate::render::{Align, Look, facts, format, table};

/// Time between two looks at a worker that is to leave.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shows the coordinator and its workers.
pub async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let place = place(&args.ask.connect)?;
    let mut client = connect(&place).await?;
    let cluster = client.get_cluster(v1::GetClusterRequest {}).await?.into_inner();
    match args.ask.output {
        Format::Json => print_json(&cluster_json(&place.target.address, &cluster)),
        Format::Table => print(&text(&place.target.address, &cluster, &Look::stdout())),
    }
}

/// Asks a worker to leave.
pub async fn drain(args: DrainArgs) -> Result<Exit, Failure> {
    let mut client = connect(&place(&args.ask.connect)?).await?;
    let workers = workers(&mut client).await?;
    let worker = chosen(&workers, &args.worker)?;
    client.drain_worker(v1::DrainWorkerRequest { worker }).await?;
    let state = if args.wait {
        within(args.timeout, "the worker goes on leaving", gone(&mut client, worker)).await?;
        "gone"
    } else {
        "draining"
    };
    match args.ask.output {
        Format::Json => print_json(&json!({"worker": worker, "state": state})),
        Format::Table if args.wait => print(&format!("worker {worker} is gone")),
        Format::Table => print(&format!("worker {worker} takes nothing new and leaves when it owes nothing")),
    }
}

async fn workers(client: &mut Client) -> Result<Vec<v1::WorkerSummary>, Failure> {
    Ok(client.get_cluster(v1::GetClusterRequest {}).await?.into_inner().workers)
}

async fn gone(client: &mut Client, worker: u64) -> Result<(), Failure> {
    while workers(client).await?.iter().any(|known| known.worker == worker) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The worker with this number, or the only one with this name.
fn chosen(workers: &[v1::WorkerSummary], text: &str) -> Result<u64, Failure> {
    if let Some(found) = workers.iter().find(|w| w.worker.to_string() == text) {
        return Ok(found.worker);
    }
    let named: Vec<u64> = workers.iter().filter(|w| w.name == text).map(|w| w.worker).collect();
    match named[..] {
        [one] => Ok(one),
        [] => Err(Failure::new(Exit::NotFound, format!("worker {text} not found; `sheaf cluster status` shows who is there"))),
        _ => {
            let numbers: Vec<String> = named.iter().map(u64::to_string).collect();
            let message = format!("{} workers are named {text} ({}); give a number", named.len(), numbers.join(", "));
            Err(Failure::new(Exit::NotFound, message))
        }
    }
}

fn text(address: &str, cluster: &v1::GetClusterResponse, look: &Look) -> String {
    let threads: u32 = cluster.workers.iter().map(|w| w.threads).sum();
    let memory: u64 = cluster.workers.iter().map(|w| w.memory_bytes).sum();
    let mut out = facts(
        &[
            ("coordinator".into(), format!("{address}, version {}, term {}", cluster.version, cluster.term)),
            ("store".into(), cluster.store.clone()),
            ("jobs".into(), format!("{} running, {} queued", cluster.running_jobs, cluster.queued_jobs)),
            (
                "workers".into(),
                format!("{} with {threads} threads and {} of memory", cluster.workers.len(), format::bytes(memory)),
            ),
        ],
        look,
    );
    if cluster.workers.is_empty() {
        out.push_str(&format!("\nno workers: start some with `sheaf worker --join {address}`\n"));
        return out;
    }
    let heads = [
        ("worker", Align::Right),
        ("name", Align::Left),
        ("state", Align::Left),
        ("threads", Align::Right),
        ("memory", Align::Right),
        ("cached", Align::Right),
        ("spilled", Align::Right),
        ("owes", Align::Right),
        ("kernels", Align::Left),
        ("address", Align::Left),
    ];
    let row = |w: &v1::WorkerSummary| {
        vec![
            w.worker.to_string(),
            w.name.clone(),
            w.state.clone(),
            w.threads.to_string(),
            format::bytes(w.memory_bytes),
            format::bytes(w.cache_bytes),
            format::bytes(w.spilled_bytes),
            w.owed_shards.to_string(),
            w.level.clone(),
            w.address.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = cluster.workers.iter().map(row).collect();
    out.push('\n');
    out.push_str(&table(look, &heads, &rows));
    out
}

/// The cluster for programs.
pub fn cluster_json(address: &str, cluster: &v1::GetClusterResponse) -> Value {
    json!({
        "address": address,
        "version": cluster.version,
        "term": cluster.term,
        "started_ms": cluster.started_ms,
        "store": cluster.store,
        "jobs": {"running": cluster.running_jobs, "queued": cluster.queued_jobs},
        "workers": cluster.workers.iter().map(worker_json).collect::<Vec<_>>(),
    })
}

/// A worker for programs.
pub fn worker_json(w: &v1::WorkerSummary) -> Value {
    json!({
        "worker": w.worker,
        "name": w.name,
        "state": w.state,
        "address": w.address,
        "pid": w.pid,
        "threads": w.threads,
        "memory_bytes": w.memory_bytes,
        "cache_bytes": w.cache_bytes,
        "spilled_bytes": w.spilled_bytes,
        "level": w.level,
        "owed_shards": w.owed_shards,
        "blocks": w.blocks,
        "steps": w.steps,
        "joined_ms": w.joined_ms,
        "seen_ms": w.seen_ms,
        "rows": w.rows,
        "rows_per_second": w.rows_per_second,
        "read_ns": w.read_ns,
        "compute_ns": w.compute_ns,
        "merge_ns": w.merge_ns,
        "wait_ns": w.wait_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_by_number_or_a_name_of_their_own() {
        let worker = |worker: u64, name: &str| v1::WorkerSummary { worker, name: name.into(), ..Default::default() };
        let workers = [worker(1, "a"), worker(2, "b"), worker(3, "b"), worker(4, "1")];
        assert_eq!(chosen(&workers, "1").ok(), Some(1));
        assert_eq!(chosen(&workers, "a").ok(), Some(1));
        for unclear in ["b", "c", "9"] {
            assert_eq!(chosen(&workers, unclear).map_err(|f| f.exit), Err(Exit::NotFound), "{unclear}");
        }
    }
}
