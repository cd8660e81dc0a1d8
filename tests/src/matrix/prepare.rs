//! Rows about preparing rows by SQL: workers and coordinators that are lost in it, a query that is cancelled,
//! and a join of more than fits into memory.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{Case, Figures, hash_of};
use crate::chaos::{Cage, Dice};
use crate::cluster::usage::{anonymous_memory, cpu_time};
use crate::cluster::{Cluster, Job, LOOK, Launch, PATIENCE, Setup};
use crate::process::Sheaf;
use crate::shop::{Payloads, Shop};

/// What logs say when a worker or the coordinator is gone.
const LOSSES: &[&str] =
    &[" lost", "computed alone", "gave", "disconnected", "not in the cluster", "shard failed", "is tried again", "query"];

/// Shop whose preparation takes some time, and more of it in the long form.
fn shop(case: &Case) -> Shop {
    case.pick(Shop { customers: 60, orders: 4000, events: 9000 }, Shop { customers: 100, orders: 100_000, events: 120_000 })
}

/// The model of the shop's job where nothing happens.
fn undisturbed(case: &Case, shop: Shop) -> String {
    let sheaf = Sheaf::new(&case.program.display().to_string());
    shop.write(&sheaf.folder().join("data"));
    sheaf.write("job.yaml", &shop.job("shop"));
    let result = sheaf.run(&["run", "job.yaml", "--workers", "1", "--threads", "2", "-o", "json", "--quiet"]).succeeded().json();
    assert_eq!(result["rows"]["prepared"], shop.events, "{result:#}");
    hash_of(&result)
}

/// A cluster whose workers have a spill folder each, and the shop's job in it.
fn cluster(case: &Case, workers: usize, setup: Setup, shop: Shop) -> Cluster {
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(LOSSES);
    shop.write(&cluster.folder().join("data"));
    cluster.write("job.yaml", &shop.job("shop"));
    for number in 1..=workers {
        let spill = spill_of(&cluster, number);
        std::fs::create_dir_all(&spill).unwrap();
        cluster.start_worker_with(number, Launch { spill: Some(spill), ..Launch::default() });
    }
    for number in 1..=workers {
        cluster.wait_joined(number);
    }
    cluster
}

fn spill_of(cluster: &Cluster, worker: usize) -> std::path::PathBuf {
    cluster.folder().join(format!("spill-{worker}"))
}

/// The job must have the undisturbed run's model, and every row exactly once: the job itself checks that keys are
/// unique and how many rows there are.
#[track_caller]
fn same(cluster: &Cluster, shown: &Value, shop: Shop, expected: &str) {
    assert_eq!(cluster.model_of(shown), expected, "the model is another one\n{}", cluster.logs());
    assert_eq!(shown["result"]["rows"]["prepared"], shop.events, "{shown:#}");
}

/// Files of exchanged rows below a folder, with their sizes.
fn exchanged(folder: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    // What is swept meanwhile is not there any more.
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(exchanged(&path));
        } else if path.extension().is_some_and(|extension| extension == "arrow")
            && path.components().any(|part| part.as_os_str() == "exchange")
        {
            found.extend(path.metadata().map(|file| (path.clone(), file.len())).into_iter().filter(|(_, size)| *size > 0));
        }
    }
    found
}

/// When a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// It works on the query and has written nothing for others.
    Before,
    /// It has written rows that others are to read.
    After,
}

/// Jobs in which a moment is waited for: on a busy machine it may pass unseen.
const TRIES: usize = 5;

/// A worker is killed before, and in another job after, it has written what others are to read.
pub fn killed_around_exchange(case: &Case) -> Figures {
    let shop = shop(case);
    let expected = undisturbed(case, shop);
    let mut cluster = cluster(case, 3, Setup::workers(0), shop);
    let kill = |moment| killed_at(&mut cluster, moment, shop, &expected);
    let figures = [Moment::Before, Moment::After].into_iter().map(kill).collect();
    cluster.finish();
    figures
}

/// A worker is killed at a moment of a job, which has the undisturbed model all the same.
fn killed_at(cluster: &mut Cluster, moment: Moment, shop: Shop, expected: &str) -> String {
    for _ in 0..TRIES {
        let job = cluster.submit("job.yaml", &[]);
        let found = victim(cluster, &job, moment);
        if let Some((worker, _)) = found {
            cluster.kill_worker(worker);
        }
        let in_time = found.filter(|_| !job.left("prepare"));
        if let Some((worker, _)) = found {
            cluster.start_worker(worker);
        }
        let shown = cluster.wait_end(&job);
        same(cluster, &shown, shop, expected);
        if let Some((worker, _)) = found {
            cluster.wait_joined(worker);
        }
        if let Some((worker, files)) = in_time {
            let what = if moment == Moment::Before { "before it had written any" } else { "behind its files" };
            return format!("worker {worker} killed {what} ({files} exchanged files): the undisturbed model");
        }
    }
    panic!("in {TRIES} jobs rows were prepared before a worker was killed ({moment:?})\n{}", cluster.logs())
}

/// Waits for the moment, and gives a worker to kill and how many files it has written; `None` if rows are prepared.
fn victim(cluster: &mut Cluster, job: &Job, moment: Moment) -> Option<(usize, usize)> {
    cluster.wait_phase(job, "prepare");
    let idle: Vec<Duration> = (1..=3).map(|worker| cpu_time(cluster.worker(worker).pid())).collect();
    cluster.until("a worker to kill", |cluster| {
        let found = (1..=3).find_map(|worker| {
            let files = exchanged(&spill_of(cluster, worker)).len();
            let busy = cpu_time(cluster.worker(worker).pid()) > idle[worker - 1] + Duration::from_millis(20);
            match moment {
                Moment::Before => (busy && files == 0).then_some((worker, 0)),
                Moment::After => (files > 0).then_some((worker, files)),
            }
        });
        (found.is_some() || job.left("prepare")).then_some(found)
    })
}

/// The coordinator is killed while rows are prepared, twice: as soon as the phase begins, and when rows have been
/// exchanged.
pub fn coordinator_killed_in_prepare(case: &Case) -> Figures {
    let shop = shop(case);
    let expected = undisturbed(case, shop);
    let mut cluster = cluster(case, 2, Setup::workers(0), shop);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_phase(&job, "prepare");
    cluster.kill_coordinator();
    cluster.start_coordinator();
    cluster.until("exchanged rows", |cluster| {
        assert!(!job.left("prepare"), "the rows were prepared before the second kill\n{}", cluster.logs());
        (1..=2).any(|worker| !exchanged(&spill_of(cluster, worker)).is_empty()).then_some(())
    });
    cluster.kill_coordinator();
    assert!(!job.left("prepare"), "the rows were prepared before the second kill");
    cluster.start_coordinator();
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, shop, &expected);
    assert_eq!(shown["restarts"], 2, "{shown:#}");
    cluster.finish();
    vec!["the coordinator was killed twice while rows were prepared: the undisturbed model".to_owned()]
}

/// A random worker is killed again and again while rows are prepared: every 10 s in the long form.
pub fn killed_while_preparing(case: &Case) -> Figures {
    let shop = shop(case);
    let expected = undisturbed(case, shop);
    let (every, least) = case.pick((Duration::from_millis(500), 2), (Duration::from_secs(10), 5));
    let setup = Setup::workers(0).restarting(Duration::from_millis(200));
    let mut cluster = cluster(case, 3, setup, shop);
    let job = cluster.submit("job.yaml", &[]);
    let (mut dice, mut kills, began) = (Dice::new(4), 0, Instant::now());
    let mut last = Instant::now();
    while job.end().is_none() {
        assert!(began.elapsed() < 5 * PATIENCE, "the job does not end under kills\n{}", cluster.logs());
        cluster.tend();
        if last.elapsed() >= every && job.entered("prepare") && !job.left("prepare") {
            let worker = 1 + dice.roll(3);
            if cluster.worker(worker).exited().is_none() {
                cluster.kill_worker(worker);
                (kills, last) = (kills + 1, Instant::now());
            }
        }
        std::thread::sleep(LOOK);
    }
    let shown = cluster.show(&job);
    same(&cluster, &shown, shop, &expected);
    assert!(kills >= least, "only {kills} workers were killed while rows were prepared: make it longer");
    let seconds =
        shown["result"]["phases"].as_array().and_then(|all| all.iter().find(|p| p["name"] == "prepare")?["seconds"].as_f64());
    cluster.finish();
    vec![format!(
        "{kills} workers killed in {:.1} s of preparing: {} rows, each once, the undisturbed model",
        seconds.unwrap_or(f64::NAN),
        shop.events
    )]
}

/// The longest from a cancellation until the job has ended and the workers do nothing any more.
const STOPPED: Duration = Duration::from_secs(2);
/// What the workers compute before a query is cancelled.
const COMPUTED: Duration = Duration::from_secs(4);
/// Memory that may stay with a worker when a query is gone.
const KEPT: u64 = 64 << 20;
/// A query that counts for hours, and holds more and more meanwhile.
const ENDLESS: &str = "SELECT count(*) AS groups FROM \
    (SELECT a.event_id * 1000000 + b.event_id AS pair, count(*) AS n FROM events AS a CROSS JOIN events AS b GROUP BY 1) AS pairs";

/// A query that would count for hours is cancelled: as a job by `jobs cancel`, and under `sheaf sql` by Ctrl-C.
pub fn cancelled(case: &Case) -> Figures {
    let mut cluster = cluster(case, 2, Setup::workers(0), Shop { customers: 100, orders: 10, events: 200_000 });
    cluster.announce(&["cancel"]);
    let job = format!("version: 1\nname: endless\ntables: {{events: data/events/}}\nprepare: {ENDLESS}\n");
    cluster.write("endless.yaml", &job);
    let pids: Vec<u32> = (1..=2).map(|worker| cluster.worker(worker).pid()).collect();
    let before: Vec<u64> = pids.iter().map(|pid| anonymous_memory(*pid)).collect();
    let mut figures = Figures::new();

    let job = cluster.submit("endless.yaml", &[]);
    let held = grown(&mut cluster, &pids, &before);
    let asked = Instant::now();
    cluster.run(&["jobs", "cancel", &job.id]).succeeded();
    let quiet = until_quiet(&mut cluster, &pids, asked);
    let left = until_returned(&mut cluster, &pids, &before);
    assert_eq!(cluster.wait_end(&job)["state"], "cancelled");
    figures.push(format!("a job: workers quiet {quiet:.2} s after `jobs cancel`; {held} MiB held before, {left} MiB after"));

    let tables = format!("events={}", cluster.folder().join("data/events").display());
    let mut client = cluster.command(&["sql", ENDLESS, "--table", &tables, "-o", "csv"]);
    let client = client.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut client = Ended(client);
    let held = grown(&mut cluster, &pids, &before);
    let asked = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&client.0), Signal::INT).unwrap();
    let quiet = until_quiet(&mut cluster, &pids, asked);
    let left = until_returned(&mut cluster, &pids, &before);
    assert_eq!(client.0.wait().unwrap().code(), Some(130));
    figures.push(format!("`sheaf sql`: workers quiet {quiet:.2} s after Ctrl-C; {held} MiB held before, {left} MiB after"));
    cluster.finish();
    figures
}

/// A process that is ended whatever happens.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// Memory that the workers hold above what they held at first.
fn above(pids: &[u32], before: &[u64]) -> u64 {
    pids.iter().zip(before).map(|(pid, before)| anonymous_memory(*pid).saturating_sub(*before)).sum()
}

/// Waits until the workers have computed for some seconds; gives the memory that they hold then, in MiB.
fn grown(cluster: &mut Cluster, pids: &[u32], before: &[u64]) -> u64 {
    let taken = |pids: &[u32]| -> Duration { pids.iter().map(|pid| cpu_time(*pid)).sum() };
    let from = taken(pids);
    mib(cluster.until("the workers to compute", |_| (taken(pids) - from > COMPUTED).then(|| above(pids, before))))
}

/// Waits until the workers take less than a fifth of a core for a fifth of a second; gives the time at which that began.
#[track_caller]
fn until_quiet(cluster: &mut Cluster, pids: &[u32], asked: Instant) -> f64 {
    let span = Duration::from_millis(200);
    let taken = |pids: &[u32]| -> Duration { pids.iter().map(|pid| cpu_time(*pid)).sum() };
    let (mut began, mut from) = (Instant::now(), taken(pids));
    cluster.until("the workers to be quiet", |_| {
        let (now, elapsed) = (taken(pids), began.elapsed());
        if now - from > span / 5 {
            (began, from) = (Instant::now(), now);
        }
        (elapsed >= span && now - from <= span / 5).then_some(())
    });
    let quiet = began.duration_since(asked);
    assert!(quiet < STOPPED, "the workers were quiet {quiet:?} after they were to stop");
    quiet.as_secs_f64()
}

/// Waits until the workers have given memory back; gives what is left of it in MiB.
fn until_returned(cluster: &mut Cluster, pids: &[u32], before: &[u64]) -> u64 {
    mib(cluster.until("memory to be given back", |_| {
        let left = above(pids, before);
        (left < KEPT).then_some(left)
    }))
}

/// A join of four times the workers' memory, which is all that they may take: a worker that takes more is ended by
/// its control group (long form), or seen (short form).
pub fn larger_than_memory(case: &Case) -> Figures {
    let memory: u64 = case.pick(64 << 20, 512 << 20);
    let overhead: u64 = case.pick(192 << 20, 128 << 20);
    let payloads = Payloads::of_bytes(4 * 2 * memory);
    // Before the cluster, so that it goes after the processes in it.
    let cages: Vec<Cage> = (0..2).filter_map(|_| case.long.map(|_| Cage::new(memory + overhead))).collect();
    let mut cluster = Cluster::start(&case.program, Setup::workers(0));
    cluster.announce(LOSSES);
    payloads.write(&cluster.folder().join("data"));
    cluster.write("job.yaml", &payloads.job());
    for number in 1..=2 {
        let spill = spill_of(&cluster, number);
        std::fs::create_dir_all(&spill).unwrap();
        let cage = cages.get(number - 1).map(Cage::procs);
        cluster.start_worker_with(
            number,
            Launch { spill: Some(spill), memory: Some(format!("{}MiB", mib(memory))), cage, ..Launch::default() },
        );
    }
    let pids: Vec<u32> = (1..=2).map(|number| (cluster.wait_joined(number), cluster.worker(number).pid()).1).collect();
    let began = Instant::now();
    let job = cluster.submit("job.yaml", &[]);
    let mut most = 0;
    cluster.until_within("the job's end", 5 * PATIENCE, |_| {
        most = pids.iter().map(|pid| anonymous_memory(*pid)).max().unwrap_or(0).max(most);
        job.end()
    });
    let shown = cluster.show(&job);
    assert_eq!(shown["state"], "succeeded", "{shown:#}\n{}", cluster.logs());
    assert_eq!(shown["result"]["rows"]["prepared"], payloads.rows, "{shown:#}");
    assert!(most <= memory + overhead, "a worker took {} MiB of {} MiB and {} MiB", mib(most), mib(memory), mib(overhead));
    cluster.finish();
    vec![format!(
        "{} MiB joined on two workers of {} MiB in {:.1} s; at most {} MiB in one of them",
        mib(payloads.bytes()),
        mib(memory),
        began.elapsed().as_secs_f64(),
        mib(most)
    )]
}
