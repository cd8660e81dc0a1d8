//! Rows about what people ask: one submit many times over, many jobs at once.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use sheaf_proto::v1;
use tokio::sync::Barrier;

use super::{Case, Figures, Work, same};
use crate::cluster::{Cluster, Job, Setup};

/// Programs that submit at the same time.
const AT_ONCE: usize = 8;

/// Calls that share a connection.
const CALLS: usize = 10;

/// Row 18: the same submit a thousand times, one after the other and all at once: one job each time.
pub fn repeated_submit(case: &Case) -> Figures {
    let work = Work::default();
    let undisturbed = work.undisturbed(case);
    let mut cluster = Cluster::start(&case.program, Setup::workers(1));
    work.write(cluster.folder());
    let times = case.pick(24, 1000);
    let began = Instant::now();
    let (mut running, mut started): (Vec<Child>, usize) = (Vec::new(), 0);
    let (mut ids, mut fresh) = (BTreeSet::new(), 0);
    while started < times || !running.is_empty() {
        while running.len() < AT_ONCE && started < times {
            let mut command = cluster.command(&["submit", "job.yaml", "--key", "one", "--quiet", "-o", "json"]);
            running.push(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            started += 1;
        }
        let output = running.remove(0).wait_with_output().unwrap();
        assert!(output.status.success(), "a submit failed: {}", String::from_utf8_lossy(&output.stderr));
        let accepted: Value = serde_json::from_slice(&output.stdout).unwrap();
        ids.insert(accepted["job"].as_str().unwrap().to_owned());
        fresh += usize::from(accepted["fresh"] == true);
    }
    let took = began.elapsed().as_secs_f64();
    assert_eq!((ids.len(), fresh), (1, 1), "one key, one job: {ids:?}");
    assert_eq!(cluster.list().len(), 1);
    let (calls, began) = (case.pick(100, 1000), Instant::now());
    let answers = submit_at_once(&cluster, "two", calls);
    let at_once = began.elapsed().as_secs_f64();
    let second: BTreeSet<&str> = answers.iter().map(|(id, _)| id.as_str()).collect();
    let fresh = answers.iter().filter(|(_, fresh)| *fresh).count();
    assert_eq!((answers.len(), second.len(), fresh), (calls, 1, 1), "one key, one job: {second:?}");
    assert_eq!(cluster.list().len(), 2);
    for id in ids.iter().map(String::as_str).chain(second) {
        let job = cluster.follow(id);
        let shown = cluster.wait_end(&job);
        same(&cluster, &shown, &undisturbed);
    }
    cluster.finish();
    let connections = calls.div_ceil(CALLS);
    vec![
        format!("{times} submits under one key, {AT_ONCE} programs at once, in {took:.1} s: one job"),
        format!("{calls} submits under another, all at the same time over {connections} connections, in {at_once:.2} s: one job"),
    ]
}

/// Calls `SubmitJob` so many times under one key: every call is made before any is waited for. Gives the job
/// that each was told, and whether it was new.
fn submit_at_once(cluster: &Cluster, key: &str, calls: usize) -> Vec<(String, bool)> {
    let (place, order) = (cluster.place(), cluster.order("job.yaml"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..calls.div_ceil(CALLS) {
            clients.push(sheaf_client::connect::connect(&place).await.unwrap());
        }
        let gate = Arc::new(Barrier::new(calls));
        let call = |at: usize| {
            let (mut client, gate) = (clients[at / CALLS].clone(), Arc::clone(&gate));
            let request = v1::SubmitJobRequest { idempotency_key: key.into(), order: order.clone(), ..Default::default() };
            tokio::spawn(async move {
                gate.wait().await;
                let accepted = client.submit_job(request).await.unwrap().into_inner();
                (accepted.job, accepted.fresh)
            })
        };
        let calls: Vec<_> = (0..calls).map(call).collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        answers
    })
}

/// Six jobs in two namespaces on two workers, two at a time: fair shares, reasons, models.
pub fn many_jobs(case: &Case) -> Figures {
    let work = case.pick(Work::default(), Work { rows: 20_000, iterations: 2000, ..Work::default() });
    let undisturbed = work.undisturbed(case);
    // No worker yet: the first two jobs hold the slots until all are there and were listed.
    let setup = Setup::workers(0).coordinator(&["--running-jobs", "2"]);
    let mut cluster = Cluster::start(&case.program, setup);
    work.write(cluster.folder());
    // Four of the first namespace before two of the second: by age alone the second would wait for all four.
    let namespaces = ["red", "red", "red", "red", "blue", "blue"];
    let jobs: Vec<(&str, Job)> =
        namespaces.iter().map(|name| (*name, cluster.submit("job.yaml", &["--namespace", name, "--quiet"]))).collect();
    let listed = cluster.list();
    let queued: Vec<&Value> = listed.iter().filter(|job| job["state"] == "queued").collect();
    assert_eq!(queued.len(), 4, "two of six jobs hold the slots: {listed:#?}");
    let reasons: BTreeSet<String> = queued.iter().map(|job| job["waiting"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(reasons.iter().all(|why| !why.is_empty()), "a queued job does not say why it waits: {queued:#?}");
    (1..=2).for_each(|number| cluster.start_worker(number));
    let mut starts = Vec::new();
    for (namespace, job) in &jobs {
        let shown = cluster.wait_end(job);
        same(&cluster, &shown, &undisturbed);
        starts.push((shown["started_ms"].as_u64().unwrap_or(u64::MAX), *namespace));
    }
    starts.sort_unstable();
    let order: Vec<&str> = starts.iter().map(|(_, namespace)| *namespace).collect();
    assert!(order[..4].contains(&"blue"), "the second namespace got no share among the first four: {order:?}");
    cluster.finish();
    vec![
        format!("started in this order: {}", order.join(", ")),
        format!("reasons: {}", reasons.into_iter().collect::<Vec<_>>().join("; ")),
    ]
}
