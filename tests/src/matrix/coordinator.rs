//! Rows about the coordinator: killed in every phase, without room for its log, killed around a checkpoint.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Case, Figures, Work, losses, same};
use crate::chaos::SmallDisk;
use crate::cluster::{Cluster, Job, Line, PATIENCE, Setup};

/// What processes say while their coordinator is away.
const AWAY: &[&str] =
    &["not in the cluster", "crashing", " lost", "disconnected", "computed alone", "gave", "shard failed", "is tried again"];

/// The longest from the start of a coordinator until a job goes on.
const RESUMED: Duration = Duration::from_secs(10);

/// Phases that the coordinator crashes in, in order; training it is killed in.
const BEFORE_TRAINING: [&str; 4] = ["within prepare", "within check", "within profile", "within fit features"];

/// Row 3: the coordinator ends in every phase of one job and is started again: it crashes when the first block of the
/// phase has come and is not merged yet, and is killed twice between two steps of training.
pub fn killed_in_every_phase(case: &Case) -> Figures {
    let work = case.pick(Work::longer(), Work { rows: 40_000, iterations: 120, ..Work::default() });
    let undisturbed = work.undisturbed(case);
    let setup = Setup::workers(2).slow().coordinator(&["--checkpoint-every", case.pick("500ms", "5s")]);
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(AWAY);
    work.write(cluster.folder());
    let mut storm = Storm { longest: Duration::ZERO, figures: Figures::new() };
    let job = storm.before_anything_runs(&mut cluster, BEFORE_TRAINING[0]);
    for (at, point) in BEFORE_TRAINING.iter().enumerate() {
        storm.at_point(&mut cluster, &job, point, BEFORE_TRAINING.get(at + 1).copied());
    }
    let steps = losses(&undisturbed).len() as u64;
    storm.within_training(&mut cluster, &job, (steps / 10).max(3), None);
    storm.within_training(&mut cluster, &job, steps * 6 / 10, Some("within evaluate"));
    for (point, next) in [("within evaluate", Some("after-publish")), ("after-publish", Some("before-end")), ("before-end", None)]
    {
        storm.at_point(&mut cluster, &job, point, next);
    }
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    let published = std::fs::read_dir(cluster.folder().join("store/models/faults")).unwrap();
    let versions = published.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("0000")).count();
    assert_eq!(versions, 1, "the model was published {versions} times");
    let restarts = shown["restarts"].as_u64().unwrap_or(0);
    assert!(restarts >= 10, "the job knows of {restarts} restarts");
    storm.figures.push(format!("longest time from a start until the job went on: {:.2} s", storm.longest.as_secs_f64()));
    storm.figures.push(format!("{restarts} restarts, the undisturbed model, all {steps} losses, one version published"));
    cluster.finish();
    storm.figures
}

/// Ends of the coordinator, one after the other.
struct Storm {
    longest: Duration,
    figures: Figures,
}

impl Storm {
    /// The coordinator aborts when the job is in its log and nobody was told. The client asks again.
    fn before_anything_runs(&mut self, cluster: &mut Cluster, next: &str) -> Job {
        cluster.kill_coordinator();
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", "after-submit-logged")]);
        let mut submit = cluster.command(&["submit", "job.yaml", "-o", "json", "--quiet"]);
        let client = submit.stdout(Stdio::piped()).spawn().unwrap();
        cluster.coordinator().wait(PATIENCE);
        // The job goes on by itself; the client may find the coordinator only after the second crash.
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", "after-journal")]);
        cluster.coordinator().wait(PATIENCE);
        assert!(cluster.log().contains("after-journal"), "it ended by itself:\n{}", cluster.logs());
        self.figures.push("crashed when the plan was journalled".to_owned());
        // Nobody computes, and so nothing crashes, before the client has its answer.
        (1..=2).for_each(|worker| cluster.stop_worker(worker));
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", next)]);
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "the submit did not survive: {output:?}\n{}", cluster.logs());
        let accepted: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(accepted["fresh"], false, "the job was in the log before the first crash: {accepted}");
        let job = cluster.follow(accepted["job"].as_str().unwrap());
        self.figures.push("submit: crashed when the job was logged; the client's later try found it".to_owned());
        (1..=2).for_each(|worker| cluster.resume_worker(worker));
        job
    }

    /// Waits until the coordinator has crashed at the point that it was started with, and starts it again.
    fn at_point(&mut self, cluster: &mut Cluster, job: &Job, point: &str, next: Option<&str>) {
        cluster.coordinator().wait(PATIENCE);
        assert!(cluster.log().contains(point), "it ended by itself, not at {point}:\n{}", cluster.logs());
        self.figures.push(format!("crashed {point}"));
        // What is after the last phase is in it for the log.
        self.restart(cluster, job, point.strip_prefix("within ").unwrap_or("publish"), next);
    }

    fn within_training(&mut self, cluster: &mut Cluster, job: &Job, step: u64, next: Option<&str>) {
        cluster.wait_step(job, step);
        cluster.kill_coordinator();
        let at = job.step();
        assert!(!job.left("train"), "training was over before the kill");
        self.figures.push(format!("killed between steps {at} and {} of training", at + 1));
        self.restart(cluster, job, "train", next);
    }

    /// Starts the coordinator and waits until the job goes on in the phase that it was in.
    fn restart(&mut self, cluster: &mut Cluster, job: &Job, phase: &str, next: Option<&str>) {
        let (began, since) = (Instant::now(), now_ms());
        let environment: Vec<_> = next.map(|point| ("SHEAF_CRASH_AT", point)).into_iter().collect();
        cluster.start_coordinator_with(&environment);
        // A crash that it was started for may come before anybody has heard of the phase.
        let goes_on = |line: &Line| line.time_ms >= since && line.phase == phase;
        cluster.until("the job to go on", |cluster| {
            let crashed = next.is_some() && cluster.coordinator().exited().is_some();
            (crashed || job.lines().iter().any(goes_on)).then_some(())
        });
        let took = began.elapsed();
        assert!(took < RESUMED, "the job went on {took:?} after the start of the coordinator\n{}", cluster.logs());
        self.longest = self.longest.max(took);
    }
}

/// The clock of this machine, which is the leader's.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is set").as_millis() as u64
}

/// Row 13: no room for the coordinator's log: it ends with 70 and a clear line, and goes on when there is room.
pub fn log_without_room(case: &Case) -> Figures {
    let work = Work { wide: true, iterations: 40, ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let place = tempfile::tempdir().unwrap();
    let disk = Arc::new(SmallDisk::new(&place.path().join("log"), 24 << 20));
    let mut setup = Setup::workers(2).slow().coordinator(&["--checkpoint-every", "50ms"]);
    setup.state_disk = Some((Arc::clone(&disk), place.path().join("log")));
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(AWAY);
    cluster.announce(&["durable log", "No space left", "StorageFull", "storage", "state machine", "openraft", "Raft", "raft"]);
    work.write(cluster.folder());
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 3);
    disk.fill();
    // What is in the log's file already may take a few more entries: submits make more.
    let status = cluster.until("the coordinator to notice that its disk is full", |cluster| {
        let mut more: Command = cluster.command(&["submit", "job.yaml", "--deadline", "1s", "--quiet", "-o", "json"]);
        let mut client = more.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while client.try_wait().unwrap().is_none() {
            if cluster.coordinator().exited().is_some() || began.elapsed() > Duration::from_secs(10) {
                // Killed if it has not ended by itself.
                let _ = client.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        cluster.coordinator().exited()
    });
    assert_eq!(status.code(), Some(70), "it ended with {status}:\n{}", cluster.logs());
    assert!(job.end().is_none(), "the job ended before the disk was full");
    let at = job.step();
    let log = cluster.log();
    let said = log.lines().rev().find(|line| line.contains("No space left") || line.contains("full"));
    let said = said.unwrap_or_else(|| panic!("no line says that the disk is full:\n{}", cluster.logs())).to_owned();
    disk.free();
    let began = Instant::now();
    cluster.start_coordinator();
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    vec![
        format!("exit 70 at step {at}: {said}"),
        format!("with room again the job ended {:.1} s after the start", began.elapsed().as_secs_f64()),
    ]
}

/// Row 15: a crash between the upload of a checkpoint and its pointer, and just after.
pub fn around_a_checkpoint(case: &Case) -> Figures {
    let work = Work { iterations: case.pick(40, 1000), wide: true, ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let setup = Setup::workers(2).slow().coordinator(&["--checkpoint-every", case.pick("100ms", "5s")]);
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(AWAY);
    work.write(cluster.folder());
    let mut figures = Figures::new();
    let mut job = None;
    for point in ["after-checkpoint-object", "before-pointer", "after-pointer"] {
        cluster.kill_coordinator();
        cluster.start_coordinator_with(&[("SHEAF_CRASH_AT", &format!("{point}#3"))]);
        let job = job.get_or_insert_with(|| cluster.submit("job.yaml", &[]));
        cluster.until(&format!("a crash at {point}"), |cluster| {
            if let Some(end) = job.end() {
                panic!("the job ended before a checkpoint was written: {end}\n{}", cluster.logs());
            }
            cluster.coordinator().exited()
        });
        assert!(cluster.log().contains(point), "it ended by itself, not at {point}:\n{}", cluster.logs());
        figures.push(format!("crashed at {point}, the third checkpoint of that coordinator, about {} steps done", job.step()));
    }
    cluster.start_coordinator();
    let job = job.expect("submitted before the first crash");
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    let left = checkpoints(&cluster, &job);
    assert!(left.is_empty(), "checkpoints are left behind after the job's end: {left:?}");
    cluster.finish();
    figures
}

/// Objects of checkpoints below the job's area.
fn checkpoints(cluster: &Cluster, job: &Job) -> Vec<String> {
    let area = cluster.folder().join("store/jobs").join(&job.id).join("checkpoints");
    let entries = std::fs::read_dir(area).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
