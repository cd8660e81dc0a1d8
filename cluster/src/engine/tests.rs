//! Events in, commands compared: each test is a script of `(event, commands as lines)`.

#![expect(clippy::unwrap_used, clippy::single_range_in_vec_init, reason = "tests; lists of ranges are meant")]

mod trouble;

use super::*;

/// A command as a short line: `compute 1 a/0#2 1.3 [0..4]`.
fn line(command: &Command) -> String {
    match command {
        Command::StartJob { job } => format!("start {job}"),
        Command::FailJob { job, kind, message, .. } => format!("fail {job} {kind:?}: {message}"),
        Command::CancelJob { job } => format!("cancel {job}"),
        Command::OpenStage { worker, stage, token, prepare } if prepare.is_empty() => format!("open {worker} {stage} {token}"),
        Command::OpenStage { worker, stage, token, prepare } => format!("open {worker} {stage} {token} {prepare:?}"),
        Command::Note(note) => format!("note {}", note.text),
        Command::Compute { worker, stage, step, token, ranges } => {
            format!("compute {worker} {stage}#{step} {token} {ranges:?}")
        }
        Command::CloseStage { worker, stage } => format!("close {worker} {stage}"),
        Command::Accept { stage, step, block } => format!("accept {stage}#{step} {}.{}", block.level, block.index),
        Command::Refuse { worker, block, reason, .. } => {
            format!("refuse {worker} {}.{}: {reason}", block.level, block.index)
        }
        Command::CompleteStep { stage, step } => format!("complete {stage}#{step}"),
        Command::Disconnect { worker, .. } => format!("disconnect {worker}"),
        Command::DrainDone { worker } => format!("gone {worker}"),
    }
}

struct Script(Engine);

impl Script {
    fn with(options: Options) -> Self {
        Self(Engine::new(Options { max_running_jobs: 1, ..options }, Term(1)))
    }

    /// Handles an event at a time and compares the commands.
    #[track_caller]
    fn at(&mut self, now: u64, event: Event, expected: &[&str]) {
        let commands = self.0.handle(event, Millis(now));
        let commands: Vec<_> = commands.iter().filter(|c| !matches!(c, Command::Note(_))).map(line).collect();
        assert_eq!(commands, expected);
    }

    #[track_caller]
    fn check(&mut self, event: Event, expected: &[&str]) {
        self.at(0, event, expected);
    }

    /// Workers 1 … n with one thread, job `a` running, stage `a/0` of 8 shards open.
    fn running(workers: u64) -> Self {
        Self::running_with(workers, Options::default())
    }

    fn running_with(workers: u64, options: Options) -> Self {
        let mut script = Self::with(options);
        for worker in 1..=workers {
            script.check(join(worker), &[]);
        }
        script.check(queue("a"), &["start a"]);
        let opened: Vec<_> = (1..=workers).map(|worker| format!("open {worker} a/0 1.1")).collect();
        script.check(open(0, plan(8)), &opened.iter().map(String::as_str).collect::<Vec<_>>());
        script
    }
}

fn join(worker: u64) -> Event {
    Event::WorkerJoined { worker: WorkerId(worker), threads: 1 }
}

fn lost(worker: u64) -> Event {
    Event::WorkerLost { worker: WorkerId(worker), reason: "stream broke".to_owned() }
}

fn drain(worker: u64) -> Event {
    Event::DrainRequested { worker: WorkerId(worker) }
}

fn queue(job: &str) -> Event {
    let namespace = "default".to_owned();
    Event::JobQueued { job: job.into(), namespace, priority: 0, deadline: Some(Millis(50_000)), submitted: Millis(0) }
}

fn stage(number: u32) -> Stage {
    Stage { job: "a".into(), number }
}

fn plan(shards: u32) -> StagePlan {
    StagePlan { sticky: Some(7), ..StagePlan::tasks(shards) }
}

fn open(number: u32, plan: StagePlan) -> Event {
    Event::StageOpened { stage: stage(number), plan }
}

fn ready(number: u32, step: u64) -> Event {
    Event::StepReady { stage: stage(number), step: Step(step) }
}

fn token(generation: u64) -> Token {
    Token { term: Term(1), generation: crate::id::Generation(generation) }
}

fn prepared(worker: u64, generation: u64) -> Event {
    Event::Prepared { worker: WorkerId(worker), stage: stage(0), token: token(generation) }
}

/// A block of stage 0 with the digest that everybody computes.
fn block(worker: u64, step: u64, generation: u64, level: u32, index: u32) -> Event {
    let block = Block { level, index };
    let (worker, step, token) = (WorkerId(worker), Step(step), token(generation));
    Event::BlockArrived { worker, stage: stage(0), step, token, block, digest: 5 }
}

fn failed(worker: u64, generation: u64, shard: u32, retry: bool) -> Event {
    let (worker, message) = (WorkerId(worker), "disk full".to_owned());
    Event::ShardFailed { worker, stage: stage(0), token: token(generation), shard, retry, message }
}

#[test]
fn a_stage_runs_step_by_step_under_stable_leases() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(ready(0, 1), &[]);
    script.check(block(2, 0, 2, 2, 1), &["accept a/0#0 2.1"]);
    script.check(block(1, 0, 2, 2, 0), &["accept a/0#0 2.0", "complete a/0#0"]);
    script.check(ready(0, 0), &[]);
    script.check(ready(0, 1), &["compute 1 a/0#1 1.2 [0..4]", "compute 2 a/0#1 1.2 [4..8]"]);
    script.check(block(1, 0, 2, 2, 0), &["refuse 1 2.0: the stage is at step 1"]);
    script.check(Event::StageClosed { stage: stage(0) }, &["close 1 a/0", "close 2 a/0"]);
    script.check(block(1, 1, 2, 2, 0), &[]);
    script.check(Event::JobEnded { job: "a".into() }, &[]);
}

#[test]
fn a_loss_orders_only_what_is_not_in() {
    let mut script = Script::running(3);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..3]", "compute 2 a/0#0 1.2 [3..5]", "compute 3 a/0#0 1.2 [5..8]"]);
    script.check(block(1, 0, 2, 1, 0), &["accept a/0#0 1.0"]);
    script.check(block(3, 0, 2, 0, 5), &["accept a/0#0 0.5"]);
    script.check(lost(3), &["compute 1 a/0#0 1.3 [6..7]", "compute 2 a/0#0 1.3 [7..8]"]);
    // The dead says nothing, and its generation is over for the living too.
    script.check(block(3, 0, 2, 1, 3), &[]);
    script.check(block(1, 0, 2, 0, 6), &["refuse 1 0.6: the worker holds no lease on all of its shards under this token"]);
    script.check(block(1, 0, 3, 0, 6), &["accept a/0#0 0.6"]);
    script.check(block(1, 0, 2, 0, 2), &["accept a/0#0 0.2"]);
    script.check(block(2, 0, 2, 0, 3), &["accept a/0#0 0.3"]);
    script.check(block(2, 0, 2, 0, 4), &["accept a/0#0 0.4"]);
    script.check(block(2, 0, 3, 0, 7), &["accept a/0#0 0.7", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 1 a/0#1 1.4 [0..3, 6..7]", "compute 2 a/0#1 1.4 [3..6, 7..8]"]);
}

#[test]
fn copies_are_compared() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(block(1, 0, 2, 2, 0), &["accept a/0#0 2.0"]);
    script.check(block(1, 0, 2, 2, 0), &["refuse 1 2.0: the same block came before"]);
    script.check(block(1, 0, 2, 1, 0), &["refuse 1 1.0: some of its shards are in already"]);
    script.check(block(1, 0, 2, 9, 0), &["refuse 1 9.0: the tree over 8 shards has no such block"]);
    let Event::BlockArrived { worker, stage, step, token, block, .. } = block(1, 0, 2, 2, 0) else { unreachable!() };
    let differs = Event::BlockArrived { worker, stage, step, token, block, digest: 6 };
    let message =
        "fail a Internal: nondeterministic partial: shards 0..4 of stage a/0 step 0 gave two results, the last on worker 1";
    script.check(differs.clone(), &["close 1 a/0", message]);
    script.check(differs, &[]);
}

#[test]
fn a_failed_shard_is_tried_elsewhere_three_times_in_all() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(failed(1, 2, 1, true), &["compute 2 a/0#0 1.3 [1..2]"]);
    script.check(failed(1, 2, 1, true), &[]);
    script.check(block(1, 0, 2, 0, 0), &["accept a/0#0 0.0"]);
    script.check(failed(2, 3, 1, true), &["compute 1 a/0#0 1.4 [1..2]"]);
    let message = "fail a Data: shard 1 of stage a/0 failed 3 times, the last on worker 1: disk full";
    script.check(failed(1, 4, 1, true), &["close 1 a/0", "close 2 a/0", message]);
}

#[test]
fn a_hopeless_shard_fails_the_job_at_once() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(failed(2, 2, 1, false), &[]);
    let message = "fail a Data: shard 1 of stage a/0 failed on worker 1: disk full";
    script.check(failed(1, 2, 1, false), &["close 1 a/0", "close 2 a/0", message]);
}

#[test]
fn without_workers_a_stage_waits_and_says_so() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(block(1, 0, 2, 1, 0), &["accept a/0#0 1.0"]);
    script.check(lost(1), &[]);
    let waiting = script.0.waiting(&"a".into()).unwrap();
    assert_eq!(waiting.to_string(), "waits for workers: nobody is there to compute 6 shards of stage a/0");
    // Somebody who comes then is given all of it at once, prepared or not.
    script.check(join(2), &["open 2 a/0 1.3", "compute 2 a/0#0 1.4 [2..8]"]);
    assert_eq!(script.0.waiting(&"a".into()), None);
    script.check(lost(2), &[]);
    script.at(49_999, Event::Tick, &[]);
    let message = "fail a Deadline: deadline passed: the job waits for workers: nobody is there to compute 6 shards of stage a/0";
    script.at(50_000, Event::Tick, &[message]);
}

#[test]
fn people_read_the_name_of_the_phase() {
    let mut script = Script::running(1);
    let stage = Stage { number: 7, ..stage(0) };
    let plan = plan(8).of_phase("train");
    script.check(Event::StageOpened { stage: stage.clone(), plan }, &["open 1 a/7 1.2"]);
    script.check(Event::StepReady { stage: stage.clone(), step: Step(0) }, &["compute 1 a/7#0 1.3 [0..8]"]);
    let waits = |script: &Script| script.0.waiting(&"a".into()).map(|waiting| waiting.to_string());
    assert_eq!(waits(&script).as_deref(), Some("waits for workers to get ready: 1 worker prepares phase train"));
    script.check(Event::Prepared { worker: WorkerId(1), stage: stage.clone(), token: token(2) }, &[]);
    assert_eq!(waits(&script), None);
    script.check(lost(1), &[]);
    assert_eq!(waits(&script).as_deref(), Some("waits for workers: nobody is there to compute 8 shards of phase train"));
    script.check(join(2), &["open 2 a/0 1.4", "open 2 a/7 1.5", "compute 2 a/7#0 1.6 [0..8]"]);
    let (worker, token, message) = (WorkerId(2), token(6), "no such file".to_owned());
    let failed = Event::ShardFailed { worker, stage, token, shard: 3, retry: false, message };
    let message = "fail a Data: shard 3 of phase train failed on worker 2: no such file";
    script.check(failed, &["close 2 a/0", "close 2 a/7", message]);
}

#[test]
fn a_newcomer_takes_part_from_the_step_after_it_is_prepared() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(join(2), &["open 2 a/0 1.3 [4..8]"]);
    script.check(block(1, 0, 2, 3, 0), &["accept a/0#0 3.0", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 1 a/0#1 1.4 [0..8]"]);
    script.check(prepared(2, 2), &[]);
    script.check(prepared(2, 3), &[]);
    script.check(block(1, 1, 4, 3, 0), &["accept a/0#1 3.0", "complete a/0#1"]);
    script.check(ready(0, 2), &["compute 1 a/0#2 1.5 [0..4]", "compute 2 a/0#2 1.5 [4..8]"]);
}

#[test]
fn several_newcomers_prepare_a_share_each() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(join(2), &["open 2 a/0 1.3 [4..8]"]);
    // Of three shares the third comes from what both would have; worker 2 keeps what is left of its own.
    script.check(join(3), &["open 3 a/0 1.4 [3..4, 7..8]"]);
    script.check(prepared(2, 3), &[]);
    script.check(block(1, 0, 2, 3, 0), &["accept a/0#0 3.0", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 1 a/0#1 1.5 [0..4, 7..8]", "compute 2 a/0#1 1.5 [4..7]"]);
    script.check(prepared(3, 4), &[]);
    // Its owner is gone: what worker 3 has prepared goes there, in the middle of the step.
    script.check(lost(1), &["compute 2 a/0#1 1.6 [0..1]", "compute 3 a/0#1 1.6 [1..4, 7..8]"]);
}

#[test]
fn a_newcomer_that_cannot_get_ready_is_asked_again() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(join(2), &["open 2 a/0 1.3 [4..8]"]);
    script.check(failed(2, 3, 4, true), &[]);
    script.at(4_900, Event::Heartbeat { worker: WorkerId(1) }, &[]);
    script.at(5_000, Event::Tick, &["open 2 a/0 1.4 [4..8]"]);
    script.at(5_001, prepared(2, 3), &[]);
    script.at(5_001, prepared(2, 4), &[]);
    script.at(5_002, block(1, 0, 2, 3, 0), &["accept a/0#0 3.0", "complete a/0#0"]);
    script.at(5_003, ready(0, 1), &["compute 1 a/0#1 1.5 [0..4]", "compute 2 a/0#1 1.5 [4..8]"]);
}

#[test]
fn notes_tell_what_happened() {
    let mut script = Script::running(2);
    let mut notes = |event: Event| -> Vec<String> {
        let commands = script.0.handle(event, Millis(0)).into_iter();
        commands.filter_map(|c| if let Command::Note(note) = c { Some(note.text) } else { None }).collect()
    };
    assert_eq!(notes(ready(0, 12)), Vec::<String>::new());
    assert_eq!(notes(lost(2)), ["worker 2 lost between steps 12 and 13 while it owed shards 4..8: stream broke"]);
    assert_eq!(notes(join(3)), ["worker 3 joins between steps 12 and 13 and reads shards 4..8 to take them over"]);
    assert_eq!(notes(prepared(3, 4)), ["worker 3 is ready between steps 12 and 13 and takes over shards 4..8 next"]);
    notes(block(1, 12, 2, 2, 0));
    notes(block(1, 12, 3, 2, 1));
    assert_eq!(notes(ready(0, 13)), ["shards move between steps 12 and 13: worker 3 takes shards 4..8"]);
    assert_eq!(notes(drain(3)), ["worker 3 leaves: it delivers the 4 shards that it owes and gets no more"]);
}

#[test]
fn a_silent_worker_is_lost() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.at(5_000, Event::Heartbeat { worker: WorkerId(1) }, &[]);
    script.at(10_000, Event::Tick, &[]);
    script.at(10_001, Event::Tick, &["disconnect 2", "compute 1 a/0#0 1.3 [4..8]"]);
    script.at(10_002, Event::Heartbeat { worker: WorkerId(2) }, &[]);
    // It comes back under its old id with nothing in hand.
    script.at(10_003, join(2), &["open 2 a/0 1.4 [4..8]"]);
    script.at(10_004, join(1), &["compute 2 a/0#0 1.5 [0..4]", "open 1 a/0 1.6", "compute 1 a/0#0 1.7 [4..5]"]);
}

#[test]
fn what_a_silent_worker_owed_does_not_go_to_the_next_silent_one() {
    let mut script = Script::running(4);
    let owed =
        ["compute 1 a/0#0 1.2 [0..2]", "compute 2 a/0#0 1.2 [2..4]", "compute 3 a/0#0 1.2 [4..6]", "compute 4 a/0#0 1.2 [6..8]"];
    script.check(ready(0, 0), &owed);
    script.at(5_000, Event::Heartbeat { worker: WorkerId(4) }, &[]);
    script.at(10_000, Event::Tick, &[]);
    let commands = script.0.handle(Event::Tick, Millis(10_001));
    let strangers: Vec<String> =
        commands.iter().map(line).filter(|l| l.starts_with("compute") && !l.starts_with("compute 4")).collect();
    assert_eq!(strangers, [""; 0], "worker 4 alone is there");
}

#[test]
fn later_stages_of_a_view_find_their_caches() {
    let mut script = Script::running(2);
    script.check(join(3), &["open 3 a/0 1.2"]);
    script.check(lost(2), &[]);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.3 [0..4]", "compute 3 a/0#0 1.3 [4..8]"]);
    script.check(Event::StageClosed { stage: stage(0) }, &["close 1 a/0", "close 3 a/0"]);
    script.check(join(2), &[]);
    script.check(open(1, plan(8)), &["open 1 a/1 1.4", "open 2 a/1 1.4", "open 3 a/1 1.4"]);
    script.check(ready(1, 0), &["compute 1 a/1#0 1.5 [0..3]", "compute 2 a/1#0 1.5 [3..4, 7..8]", "compute 3 a/1#0 1.5 [4..7]"]);
}

#[test]
fn a_stage_for_one_worker_has_one_at_a_time() {
    let mut script = Script::running(3);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..3]", "compute 2 a/0#0 1.2 [3..5]", "compute 3 a/0#0 1.2 [5..8]"]);
    // Worker 2 owes least.
    script.check(open(1, StagePlan::one_task()), &["open 2 a/1 1.3"]);
    script.check(ready(1, 0), &["compute 2 a/1#0 1.4 [0..1]"]);
    script.check(
        lost(2),
        &["compute 1 a/0#0 1.5 [3..4]", "compute 3 a/0#0 1.5 [4..5]", "open 1 a/1 1.6", "compute 1 a/1#0 1.7 [0..1]"],
    );
    script.check(drain(1), &["open 3 a/1 1.8"]);
}

#[test]
fn cancel_ends_a_job_once_queued_or_running() {
    let cancel = |job: &str| Event::CancelRequested { job: job.into() };
    let mut script = Script::running(1);
    script.check(queue("b"), &[]);
    script.check(queue("c"), &[]);
    script.check(cancel("b"), &["cancel b"]);
    script.check(cancel("a"), &["close 1 a/0", "cancel a"]);
    script.check(cancel("a"), &[]);
    script.check(cancel("x"), &[]);
    script.check(open(1, plan(8)), &[]);
    script.at(
        60_000,
        Event::Tick,
        &["disconnect 1", "fail c Deadline: deadline passed: the job waits for its turn: all slots are taken, by a"],
    );
    script.check(Event::JobEnded { job: "b".into() }, &[]);
    script.check(queue("d"), &[]);
    script.check(Event::JobEnded { job: "a".into() }, &["start d"]);
    script.check(Event::JobEnded { job: "a".into() }, &[]);
}

#[test]
fn a_leaving_worker_delivers_what_it_owes_and_gets_no_more() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(drain(1), &[]);
    script.check(block(1, 0, 2, 1, 0), &["accept a/0#0 1.0"]);
    script.check(block(1, 0, 2, 1, 1), &["accept a/0#0 1.1", "gone 1"]);
    script.check(lost(1), &[]);
    script.check(block(2, 0, 2, 2, 1), &["accept a/0#0 2.1", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 2 a/0#1 1.3 [0..8]"]);
    script.check(drain(2), &[]);
    script.check(Event::StageClosed { stage: stage(0) }, &["close 2 a/0", "gone 2"]);
}

#[test]
fn a_leaving_worker_that_owes_elsewhere_gets_nothing_here() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(open(1, StagePlan::tasks(2)), &["open 1 a/1 1.3", "open 2 a/1 1.3"]);
    script.check(ready(1, 0), &["compute 1 a/1#0 1.4 [0..1]", "compute 2 a/1#0 1.4 [1..2]"]);
    script.check(drain(1), &[]);
    script.check(block(1, 0, 2, 2, 0), &["accept a/0#0 2.0"]);
    script.check(block(2, 0, 2, 2, 1), &["accept a/0#0 2.1", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 2 a/0#1 1.5 [0..8]"]);
    script.check(Event::StageClosed { stage: stage(1) }, &["close 1 a/1", "close 2 a/1", "gone 1"]);
}

#[test]
fn the_last_one_leaving_makes_the_stage_wait() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(drain(1), &[]);
    script.check(failed(1, 2, 0, true), &[]);
    let waiting = script.0.waiting(&"a".into()).unwrap().to_string();
    assert_eq!(waiting, "waits for workers: nobody is there to compute 1 shard of stage a/0, 1 worker is leaving");
    script.check(join(2), &["open 2 a/0 1.3", "compute 2 a/0#0 1.4 [0..1]"]);
}

#[test]
fn a_plan_that_cannot_be_spread_fails_the_job() {
    let mut script = Script::running(1);
    let bad = StagePlan::shards(8, vec![4, 4], None);
    let message = "fail a Internal: stage a/1: lease boundaries do not rise: 4 after 4";
    script.check(open(1, bad), &["close 1 a/0", message]);
}

#[test]
fn an_empty_stage_is_complete_at_once() {
    let mut script = Script::running(1);
    script.check(open(1, plan(0)), &["open 1 a/1 1.2"]);
    script.check(ready(1, 0), &["complete a/1#0"]);
    script.check(ready(1, 1), &["complete a/1#1"]);
}

#[test]
fn blocks_of_another_term_are_refused() {
    let mut script = Script::running(1);
    script.check(block(1, 0, 1, 3, 0), &["refuse 1 3.0: no step has begun"]);
    script.check(ready(0, 4), &["compute 1 a/0#4 1.2 [0..8]"]);
    let Event::BlockArrived { worker, stage, step, block, digest, .. } = block(1, 4, 2, 3, 0) else { unreachable!() };
    let token = Token { term: Term(2), ..token(2) };
    let other = Event::BlockArrived { worker, stage, step, token, block, digest };
    script.check(other, &["refuse 1 3.0: the term is 1"]);
}

#[test]
fn status_shows_who_owes_what() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    script.check(block(2, 0, 2, 1, 2), &["accept a/0#0 1.2"]);
    let progress = script.0.progress(&stage(0)).unwrap();
    assert_eq!((progress.covered, progress.shards, progress.busy, progress.workers), (2, 8, 2, 2));
    let owed: Vec<_> = script.0.workers().iter().map(|worker| worker.owed).collect();
    assert_eq!(owed, [4, 2]);
    let leases = script.0.leases(&stage(0));
    assert_eq!(leases[1].ranges, vec![6..8]);
    assert_eq!((script.0.running(), script.0.queue()), (vec!["a".into()], vec![]));
}

#[test]
fn a_worker_that_tangles_its_blocks_is_asked_again() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(block(1, 0, 2, 0, 1), &["accept a/0#0 0.1"]);
    script.check(block(1, 0, 2, 3, 0), &["refuse 1 3.0: some of its shards are in already", "compute 1 a/0#0 1.3 [0..1, 2..8]"]);
    script.check(block(1, 0, 2, 1, 1), &["refuse 1 1.1: the worker holds no lease on all of its shards under this token"]);
    script.check(block(1, 0, 3, 1, 1), &["accept a/0#0 1.1"]);
}
