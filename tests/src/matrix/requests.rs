//! Rows about what people ask: one submit many times over, many jobs at once.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::{Case, Figures, Work, same};
use crate::cluster::{Cluster, Job, Setup};

/// Submits under way at the same time.
const AT_ONCE: usize = 8;

/// Row 18: the same submit a thousand times: one job.
pub fn repeated_submit(case: &Case) -> Figures {
    let work = Work { iterations: 30, ..Work::default() };
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
    let job = cluster.follow(ids.first().unwrap());
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    vec![format!("{times} submits under one key, {AT_ONCE} at once, in {took:.1} s: one job")]
}

/// Six jobs in two namespaces on two workers, two at a time: fair shares, reasons, models.
pub fn many_jobs(case: &Case) -> Figures {
    let work = Work { rows: 20_000, iterations: case.pick(200, 2000), ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let setup = Setup::workers(2).coordinator(&["--running-jobs", "2"]);
    let mut cluster = Cluster::start(&case.program, setup);
    work.write(cluster.folder());
    // Four of the first namespace before two of the second: by age alone the second would wait for all four.
    let namespaces = ["red", "red", "red", "red", "blue", "blue"];
    let jobs: Vec<(&str, Job)> =
        namespaces.iter().map(|name| (*name, cluster.submit("job.yaml", &["--namespace", name, "--quiet"]))).collect();
    let listed = cluster.list();
    let queued: Vec<&Value> = listed.iter().filter(|job| job["state"] == "queued").collect();
    assert!(!queued.is_empty(), "no job waits: the row shows nothing");
    let reasons: BTreeSet<String> = queued.iter().map(|job| job["waiting"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(reasons.iter().all(|why| !why.is_empty()), "a queued job does not say why it waits: {queued:#?}");
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
