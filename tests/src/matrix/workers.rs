//! Rows about workers: killed at random, all dead, stopped, asked to leave, slow, new, and any number of them.

use std::time::{Duration, Instant};

use super::{Case, Figures, Work, contributed, hash_of, same, seconds_per_step};
use crate::chaos::{Dice, Throttle};
use crate::cluster::{Cluster, Job, LOOK, PATIENCE, Setup};
use crate::evidence::{self, lost_busy};

/// What logs say when a worker is gone; every row of this file announces what it does.
const LOSSES: &[&str] = &[" lost", "computed alone", "gave", "disconnected", "not in the cluster", "shard failed"];

/// Row 1: kill -9 a random worker again and again, each started again after a while.
pub fn killed(case: &Case) -> Figures {
    let work = case.pick(Work::longer(), Work { rows: 200_000, shard_rows: 1024, iterations: 600, ..Work::default() });
    let (every, back) = case.pick((700, 350), (2000, 1000));
    let (every, back) = (Duration::from_millis(every), Duration::from_millis(back));
    let undisturbed = work.undisturbed(case);
    let mut setup = Setup::workers(4).restarting(back);
    setup.paranoid = case.long.is_none();
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(LOSSES);
    work.write(cluster.folder());
    let mut figures = Figures::new();
    let calm = case.long.map(|_| calm_seconds(&mut cluster, &undisturbed));
    let mut chaos = Chaos { dice: Dice::new(1), every, last: Instant::now(), victims: Vec::new() };
    let began = Instant::now();
    let (mut jobs, mut hits, mut seconds) = (0, 0, 0.0);
    while jobs == 0 || case.long.is_some_and(|long| began.elapsed() < long) {
        let started = Instant::now();
        let job = cluster.submit("job.yaml", &[]);
        chaos.reign(&mut cluster, &job);
        let shown = cluster.show(&job);
        same(&cluster, &shown, &undisturbed);
        seconds += started.elapsed().as_secs_f64();
        jobs += 1;
        hits += busy_losses(&cluster, &job);
    }
    assert!(hits >= case.pick(2, 10), "only {hits} of {} kills hit a worker that owed shards", chaos.victims.len());
    figures.push(format!("{jobs} jobs, all with the undisturbed model and losses; none lost"));
    figures.push(format!("{} workers killed, {hits} of them owed shards of a step of training", chaos.victims.len()));
    if let Some(calm) = calm {
        let (calm_after, stormy) = (calm_seconds(&mut cluster, &undisturbed), seconds / f64::from(jobs));
        let throughput = (calm + calm_after) / 2.0 / stormy;
        figures.push(format!("a job takes {stormy:.1} s under kills, {calm:.1} s before and {calm_after:.1} s after"));
        figures.push(format!("throughput under kills: {:.0} % of the undisturbed", throughput * 100.0));
        assert!(throughput >= 0.5, "throughput under kills is {throughput:.2} of the undisturbed: {figures:#?}");
    }
    cluster.finish();
    figures
}

/// Mean seconds of three jobs to which nothing happens.
fn calm_seconds(cluster: &mut Cluster, undisturbed: &serde_json::Value) -> f64 {
    let began = Instant::now();
    for _ in 0..3 {
        let job = cluster.submit("job.yaml", &[]);
        let shown = cluster.wait_end_for(&job, 3 * PATIENCE);
        same(cluster, &shown, undisturbed);
    }
    began.elapsed().as_secs_f64() / 3.0
}

/// Losses of workers that owed shards of a step, behind which training went on.
fn busy_losses(cluster: &Cluster, job: &Job) -> usize {
    let last = job.step();
    let within = |i: &&evidence::Incident| i.what == "lost" && i.hit_training() && i.step.is_some_and(|step| step <= last);
    cluster.incidents(job).iter().filter(within).count()
}

struct Chaos {
    dice: Dice,
    every: Duration,
    last: Instant,
    victims: Vec<u32>,
}

impl Chaos {
    /// Kills workers at random until the job has ended.
    fn reign(&mut self, cluster: &mut Cluster, job: &Job) {
        let began = Instant::now();
        while job.end().is_none() {
            assert!(began.elapsed() < 5 * PATIENCE, "the job does not end under kills\n{}", cluster.logs());
            cluster.tend();
            if self.last.elapsed() >= self.every && job.entered("train") {
                let victim = 1 + self.dice.roll(4);
                if cluster.worker(victim).exited().is_none() {
                    self.victims.push(cluster.kill_worker(victim));
                    self.last = Instant::now();
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Row 4: all workers die and none returns: the job waits visibly and fails by its deadline.
pub fn none_left(case: &Case) -> Figures {
    let work = Work { iterations: 2000, ..Work::default() };
    let mut cluster = Cluster::start(&case.program, Setup::workers(2).slow());
    cluster.announce(LOSSES);
    cluster.announce(&["deadline passed"]);
    work.write(cluster.folder());
    let (job, began, deadline) = in_training(&mut cluster, case.pick(8, 60));
    let pids = [cluster.kill_worker(1), cluster.kill_worker(2)];
    let waits = cluster.until("the job to say that it waits", |cluster| {
        let listed = cluster.list().into_iter().find(|listed| listed["job"] == job.id.as_str())?;
        listed["waiting"].as_str().filter(|why| !why.is_empty()).map(str::to_owned)
    });
    assert!(waits.contains("worker"), "why it waits does not name workers: {waits}");
    let shown = cluster.wait_end(&job);
    let took = began.elapsed().as_secs_f64();
    assert_eq!(shown["state"], "failed", "{shown:#}");
    let error = shown["error"].to_string();
    assert!(error.contains("deadline"), "the error does not name the deadline: {error}");
    assert!(took >= deadline as f64, "it ended {took:.1} s after the submit, before its deadline of {deadline} s");
    assert!(took < deadline as f64 + 10.0, "it ended {took:.1} s after the submit, its deadline was {deadline} s");
    let hit = pids.iter().filter_map(|pid| lost_busy(&cluster.log(), &job.id, *pid)).count();
    assert!(hit > 0, "no worker owed shards when it was killed:\n{}", cluster.logs());
    cluster.finish();
    vec![format!("`jobs list` said: {waits}"), format!("failed {took:.1} s after the submit, deadline {deadline} s: {error}")]
}

/// A job with a deadline, when it was submitted and how many seconds it has, in training before half of them are
/// over: on a busy machine only the second or third deadline is long enough.
fn in_training(cluster: &mut Cluster, shortest: u64) -> (Job, Instant, u64) {
    let mut deadline = shortest;
    loop {
        let (began, half) = (Instant::now(), Duration::from_millis(deadline * 500));
        let job = cluster.submit("job.yaml", &["--deadline", &format!("{deadline}s")]);
        cluster.until("training", |_| (job.step() >= 3 || began.elapsed() >= half).then_some(()));
        if job.step() >= 3 && began.elapsed() < half {
            return (job, began, deadline);
        }
        assert!(deadline < 120, "training does not begin within {half:?}\n{}", cluster.logs());
        cluster.run(&["jobs", "cancel", &job.id]).succeeded();
        deadline *= 2;
    }
}

/// Row 5: SIGSTOP a worker, then CONT: others take over, its late result is refused, the model is the same.
pub fn stopped(case: &Case) -> Figures {
    let work = case.pick(Work::longer(), Work { iterations: 800, ..Work::default() });
    let undisturbed = work.undisturbed(case);
    let mut cluster = Cluster::start(&case.program, Setup::workers(3).slow());
    cluster.announce(LOSSES);
    cluster.announce(&["silent"]);
    work.write(cluster.folder());
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 3);
    let number = cluster.wait_joined(2);
    let (stopped, at) = (Instant::now(), job.step());
    cluster.stop_worker(2);
    // At most one more step can be done with what the worker had sent before it was stopped.
    cluster.until("training to go on without the stopped worker", |_| (job.step() >= at + 3).then_some(()));
    let gap = stopped.elapsed();
    assert!(gap < Duration::from_secs(15), "training stood still for {gap:?}");
    let about = |i: &evidence::Incident| {
        let rescue = ["doubled", "lost"].contains(&i.what.as_str()) && i.hit_training();
        rescue && i.worker == Some(number) && i.step.is_some_and(|step| step >= at)
    };
    let rescued = cluster.incidents(&job).into_iter().find(about);
    let rescued = rescued.unwrap_or_else(|| panic!("nobody took over from the stopped worker:\n{}", cluster.logs()));
    while stopped.elapsed() < case.pick(Duration::from_secs(2), Duration::from_secs(30)) && job.end().is_none() {
        std::thread::sleep(LOOK);
    }
    assert!(job.end().is_none(), "the job ended before the worker was continued: make it longer");
    let (away, resumed) = (stopped.elapsed(), job.step());
    let (pid, known) = (cluster.worker(2).pid(), refusals(&cluster.log(), number).len());
    cluster.resume_worker(2);
    // A worker that hears of newer steps before it has computed breaks off what is over, and has nothing late to send.
    let nothing = || job.end().is_some().then(|| "the worker broke off the step that was over".to_owned());
    let late = cluster
        .until("the late result to be refused", |cluster| late_result(&cluster.log(), number, pid, known).or_else(nothing));
    let shown = cluster.wait_end_for(&job, 5 * PATIENCE);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    vec![
        format!("three steps on {:.2} s after the stop ({})", gap.as_secs_f64(), rescued.text),
        format!("continued {:.1} s after the stop, at step {resumed} of {}", away.as_secs_f64(), job.step()),
        late,
    ]
}

/// Why blocks of a worker were refused, in order.
fn refusals(log: &str, number: u64) -> Vec<String> {
    let refused = |entry: &evidence::Entry| entry.message() == "block refused" && entry.number("worker") == Some(number);
    evidence::entries(log).iter().filter(|entry| refused(entry)).map(|entry| entry.text("reason")).collect()
}

/// How the coordinator answered what a worker sent after it was continued.
fn late_result(log: &str, number: u64, pid: u32, known: usize) -> Option<String> {
    if let Some(reason) = refusals(log, number).get(known) {
        return Some(format!("the late block was refused: {reason}"));
    }
    let numbers = evidence::numbers_of(log, pid);
    (numbers.len() > 1).then(|| format!("the lease had ended; the worker joined again as {numbers:?}"))
}

/// Row 10: SIGTERM a worker: no try of a shard fails, it exits 0.
pub fn asked_to_leave(case: &Case) -> Figures {
    let work = Work::default();
    let undisturbed = work.undisturbed(case);
    let mut cluster = Cluster::start(&case.program, Setup::workers(3).slow());
    work.write(cluster.folder());
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 4);
    let number = cluster.wait_joined(2);
    let began = Instant::now();
    let status = cluster.terminate_worker(2);
    let (took, step) = (began.elapsed(), job.step());
    assert_eq!(status.code(), Some(0), "it ended with {status}:\n{}", cluster.logs());
    assert!(job.end().is_none(), "the job ended before the worker left: the fault hit nothing");
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    let incidents = cluster.incidents(&job);
    let failures: Vec<_> = incidents.iter().filter(|i| ["lost", "retried", "suspected"].contains(&i.what.as_str())).collect();
    assert!(failures.is_empty(), "a drain counts as no failure: {failures:?}");
    assert!(contributed(&shown["result"]).get(&number).is_some_and(|shards| *shards > 0), "it had no part in training");
    assert!(job.step() > step, "training went on after it had left");
    cluster.finish();
    vec![format!("exit 0 after {:.2} s at step {step}, no failed try", took.as_secs_f64())]
}

/// Row 17: a straggler at a tenth of its speed.
pub fn straggler(case: &Case) -> Figures {
    let work = case.pick(Work::longer(), Work { rows: 400_000, shard_rows: 1024, iterations: 600, ..Work::default() });
    let undisturbed = work.undisturbed(case);
    let mut setup = Setup::workers(4);
    setup.paranoid = case.long.is_none();
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(LOSSES);
    work.write(cluster.folder());
    let calm = case.long.map(|_| calm_seconds(&mut cluster, &undisturbed));
    let began = Instant::now();
    let job = cluster.submit("job.yaml", &[]);
    if case.long.is_none() {
        cluster.wait_step(&job, 2);
    }
    let number = cluster.wait_joined(4);
    let slow = Throttle::new(cluster.worker(4).pid(), Duration::from_millis(10), Duration::from_millis(90));
    let shown = cluster.wait_end_for(&job, 5 * PATIENCE);
    let took = began.elapsed().as_secs_f64();
    drop(slow);
    same(&cluster, &shown, &undisturbed);
    let shards = contributed(&shown["result"]);
    let (own, all) = (shards.get(&number).copied().unwrap_or(0), shards.values().sum::<u64>());
    let share = own as f64 / all as f64;
    let doubled = evidence::of_kind(&cluster.log(), &job.id, "doubled").len();
    let paced = evidence::of_kind(&cluster.log(), &job.id, "paced").len();
    assert!(doubled + paced > 0, "nobody noticed the straggler:\n{}", cluster.logs());
    assert!(share < 0.2, "the straggler still had {share:.2} of all shards, a quarter would be its full share");
    let mut figures =
        vec![format!("the straggler did {:.0} % of all shards; {doubled} second leases, {paced} changes of pace", share * 100.0)];
    if let Some(calm) = calm {
        let ratio = took / calm;
        figures.push(format!("{took:.1} s with the straggler, {calm:.1} s without: {ratio:.2} times"));
        assert!(ratio <= 1.5, "{figures:#?}");
    }
    cluster.finish();
    figures
}

/// Growth: a worker that joins in training contributes within two steps of ready.
pub fn joiner(case: &Case) -> Figures {
    let work = Work::longer();
    let undisturbed = work.undisturbed(case);
    let mut cluster = Cluster::start(&case.program, Setup::workers(2).slow());
    work.write(cluster.folder());
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 5);
    cluster.start_worker(3);
    let number = cluster.wait_joined(3);
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    let (is_ready, takes) = (format!("worker {number} is ready"), format!("worker {number} takes"));
    let own: Vec<_> = cluster.incidents(&job).into_iter().filter(|i| i.phase == "train").collect();
    let ready = own.iter().find(|i| i.what == "joining" && i.text.starts_with(&is_ready));
    let took = own.iter().find(|i| i.what == "moved" && i.text.contains(&takes));
    let (Some(ready), Some(took)) = (ready, took) else {
        panic!("no line says that worker {number} was ready or took shards over: {own:#?}\n{}", cluster.logs())
    };
    let (Some(from), Some(to)) = (ready.step, took.step) else { panic!("no steps: {own:#?}") };
    assert!(to <= from + 2, "ready in step {from}, shards of its own only in step {to}");
    let shards = contributed(&shown["result"]).get(&number).copied().unwrap_or(0);
    assert!(shards > 0, "the joiner contributed nothing");
    cluster.finish();
    vec![format!("ready in step {from}, shards of its own in step {to}, {shards} shards until the end")]
}

/// Any number of workers by hand gives the model of `sheaf run`.
pub fn any_number(case: &Case) -> Figures {
    let work = Work::default();
    let undisturbed = work.undisturbed(case);
    let mut cluster = Cluster::start(&case.program, Setup::workers(1).equal());
    work.write(cluster.folder());
    let mut figures = Figures::new();
    for count in [1, 2, 3, 5] {
        while cluster.workers() < count {
            let next = cluster.workers() + 1;
            cluster.start_worker(next);
            cluster.wait_joined(next);
        }
        let job = cluster.submit("job.yaml", &[]);
        let shown = cluster.wait_end(&job);
        same(&cluster, &shown, &undisturbed);
        let shards = contributed(&shown["result"]);
        assert!(shards.len() == count && shards.values().all(|shards| *shards > 0), "not everybody contributed: {shards:?}");
        figures.push(format!("{count} workers: {}, {:.1} ms a step", hash_of(&shown["result"]), seconds_per_step(&job) * 1e3));
    }
    cluster.finish();
    figures
}
