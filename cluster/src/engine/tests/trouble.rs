//! The engine in trouble: workers that are late, shards that end their workers, shards that come back.

use super::*;

#[test]
fn a_late_worker_gets_help_and_the_first_copy_counts() {
    let mut script = Script::running(3);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..3]", "compute 2 a/0#0 1.2 [3..5]", "compute 3 a/0#0 1.2 [5..8]"]);
    script.at(100, block(1, 0, 2, 1, 0), &["accept a/0#0 1.0"]);
    script.at(100, block(1, 0, 2, 0, 2), &["accept a/0#0 0.2"]);
    script.at(120, block(2, 0, 2, 0, 3), &["accept a/0#0 0.3"]);
    script.at(120, block(2, 0, 2, 0, 4), &["accept a/0#0 0.4"]);
    script.at(240, block(3, 0, 2, 0, 5), &["accept a/0#0 0.5"]);
    script.at(250, Event::Tick, &[]);
    script.at(251, Event::Tick, &["compute 1 a/0#0 1.3 [6..7]", "compute 2 a/0#0 1.3 [7..8]"]);
    script.at(300, Event::Tick, &[]);
    script.at(300, block(1, 0, 3, 0, 6), &["accept a/0#0 0.6"]);
    script.at(301, block(3, 0, 2, 1, 3), &["refuse 3 1.3: some of its shards are in already"]);
    script.at(302, block(2, 0, 3, 0, 7), &["accept a/0#0 0.7", "complete a/0#0"]);
    // The late one keeps a quarter of its share at first.
    script.at(
        303,
        ready(0, 1),
        &["compute 1 a/0#1 1.4 [0..3, 6..7]", "compute 2 a/0#1 1.4 [3..5, 7..8]", "compute 3 a/0#1 1.4 [5..6]"],
    );
}

#[test]
fn without_speculation_nobody_is_helped_and_nobody_gets_less() {
    let mut script = Script::running_with(3, Options { speculate: false, ..Options::default() });
    let orders = |step: u64| {
        [(1, "[0..3]"), (2, "[3..5]"), (3, "[5..8]")].map(|(worker, shards)| format!("compute {worker} a/0#{step} 1.2 {shards}"))
    };
    let mut now = 0;
    for step in 0..4 {
        script.at(now, ready(0, step), &orders(step).each_ref().map(String::as_str));
        for (worker, level, index) in [(1, 1, 0), (1, 0, 2), (2, 0, 3), (2, 0, 4)] {
            script.at(now + 10, block(worker, step, 2, level, index), &[&format!("accept a/0#{step} {level}.{index}")]);
        }
        // Nine seconds behind the others, in every step.
        for late in (1..=90).map(|tenth| tenth * 100) {
            script.at(now + late, Event::Tick, &[]);
        }
        script.at(now + 9_000, block(3, step, 2, 0, 5), &[&format!("accept a/0#{step} 0.5")]);
        script.at(now + 9_000, block(3, step, 2, 1, 3), &[&format!("accept a/0#{step} 1.3"), &format!("complete a/0#{step}")]);
        now += 9_001;
    }
    assert!(script.0.workers().iter().all(|worker| worker.pace == 1_024));
    // One that is lost is no late one.
    script.at(now, ready(0, 4), &orders(4).each_ref().map(String::as_str));
    script.at(now, lost(3), &["compute 1 a/0#4 1.3 [5..6]", "compute 2 a/0#4 1.3 [6..8]"]);
}

#[test]
fn a_poison_shard_is_found_in_three_losses_and_named() {
    let mut script = Script::running(4);
    let two = |n: u64| format!("compute {n} a/0#0 1.2 [{}..{}]", 2 * (n - 1), 2 * n);
    let orders: Vec<String> = (1..=4).map(two).collect();
    script.check(ready(0, 0), &orders.iter().map(String::as_str).collect::<Vec<_>>());
    // Shards 2 and 3 go to others, in company; shard 3 ends the next one too.
    script.check(lost(2), &["compute 1 a/0#0 1.3 [2..3]", "compute 4 a/0#0 1.3 [3..4]"]);
    script.check(block(1, 0, 2, 1, 0), &["accept a/0#0 1.0"]);
    script.check(lost(4), &["compute 1 a/0#0 1.4 [6..7]", "compute 3 a/0#0 1.4 [7..8]"]);
    let waiting = script.0.waiting(&"a".into()).unwrap().to_string();
    assert!(waiting.starts_with("waits for a free worker: 1 shard of stage a/0 may have ended"), "{waiting}");
    // Alone, when somebody has nothing else in hand.
    script.check(block(1, 0, 4, 0, 6), &["accept a/0#0 0.6"]);
    script.check(block(1, 0, 3, 0, 2), &["accept a/0#0 0.2", "compute 1 a/0#0 1.5 [3..4]"]);
    let message = "fail a Data: shard 3 of stage a/0 ended 3 workers, the last with nothing else in hand: \
                   worker 2: stream broke; worker 4: stream broke; worker 1: stream broke";
    script.check(lost(1), &["close 3 a/0", message]);
}

#[test]
fn a_joiner_that_reads_for_another_stage_condemns_nobody() {
    let mut engine = Engine::new(Options::default(), Term(1));
    let mut tell = |event: Event| engine.handle(event, Millis(0));
    let (own, other) = (stage(0), Stage { job: "b".into(), number: 0 });
    (1..=3).for_each(|worker| drop(tell(join(worker))));
    for (stage, job, shards) in [(&own, "a", 3), (&other, "b", 6)] {
        tell(queue(job));
        tell(Event::StageOpened { stage: stage.clone(), plan: plan(shards) });
        tell(Event::StepReady { stage: stage.clone(), step: Step(0) });
    }
    // After two losses with shard 1 of `a` in hand it is to be computed alone.
    let has_shard_1 = |commands: &[Command]| {
        commands.iter().find_map(|command| match command {
            Command::Compute { worker, stage, ranges, .. } if *stage == own && ranges.iter().any(|r| r.contains(&1)) => {
                Some(*worker)
            }
            _ => None,
        })
    };
    let heir = has_shard_1(&tell(lost(2))).unwrap();
    // A joiner is ready for `a`, owes nothing, and reads what it would take over of `b`.
    let opened = tell(join(4)).into_iter().filter_map(|command| match command {
        Command::OpenStage { stage, token, prepare, .. } => Some((stage, (token, prepare))),
        _ => None,
    });
    let opened: BTreeMap<Stage, (Token, Vec<Range<u32>>)> = opened.collect();
    assert!(!opened[&other].1.is_empty(), "{opened:?}");
    tell(Event::Prepared { worker: WorkerId(4), stage: own.clone(), token: opened[&own].0 });
    let orders = tell(lost(heir.0));
    let token = orders.iter().find_map(|command| match command {
        Command::Compute { worker: WorkerId(4), stage, token, .. } if *stage == own => Some(*token),
        _ => None,
    });
    // It has done the other shard: the suspect does not go to it yet, and its end is held against nobody.
    let block = Block { level: 0, index: 2 };
    let (stage, step, token) = (own.clone(), Step(0), token.unwrap());
    let done = Event::BlockArrived { worker: WorkerId(4), stage, step, token, block, digest: 5 };
    assert_eq!(has_shard_1(&tell(done)), None);
    let commands = tell(lost(4));
    assert!(!commands.iter().any(|command| matches!(command, Command::FailJob { .. })), "{commands:?}");
}

#[test]
fn an_innocent_suspect_is_cleared_by_its_block() {
    let mut script = Script::running(1);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..8]"]);
    script.check(lost(1), &[]);
    script.check(join(2), &["open 2 a/0 1.3", "compute 2 a/0#0 1.4 [0..8]"]);
    script.check(block(2, 0, 4, 2, 0), &["accept a/0#0 2.0"]);
    script.check(block(2, 0, 4, 1, 2), &["accept a/0#0 1.2"]);
    script.check(lost(2), &[]);
    script.check(join(3), &["open 3 a/0 1.5", "compute 3 a/0#0 1.6 [6..7]"]);
    script.check(block(3, 0, 6, 0, 6), &["accept a/0#0 0.6", "compute 3 a/0#0 1.7 [7..8]"]);
    script.check(block(3, 0, 7, 0, 7), &["accept a/0#0 0.7", "complete a/0#0"]);
    script.check(ready(0, 1), &["compute 3 a/0#1 1.8 [0..8]"]);
}

#[test]
fn a_worker_with_a_suspect_gets_nothing_of_other_jobs() {
    let mut script = Script(Engine::new(Options::default(), Term(1)));
    script.check(join(1), &[]);
    script.check(queue("a"), &["start a"]);
    script.check(queue("b"), &["start b"]);
    let other = Stage { job: "b".into(), number: 0 };
    script.check(open(0, plan(1)), &["open 1 a/0 1.1"]);
    script.check(Event::StageOpened { stage: other.clone(), plan: plan(2) }, &["open 1 b/0 1.2"]);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.3 [0..1]"]);
    script.check(lost(1), &[]);
    script.check(join(2), &["open 2 a/0 1.4", "compute 2 a/0#0 1.5 [0..1]", "open 2 b/0 1.6"]);
    script.check(lost(2), &[]);
    script.check(join(3), &["open 3 a/0 1.7", "open 3 b/0 1.8", "compute 3 a/0#0 1.9 [0..1]"]);
    script.check(Event::StepReady { stage: other.clone(), step: Step(0) }, &[]);
    script.check(block(3, 0, 9, 0, 0), &["accept a/0#0 0.0", "complete a/0#0", "compute 3 b/0#0 1.11 [0..2]"]);
}

#[test]
fn shards_that_come_back_are_tried_elsewhere_without_blame() {
    let mut script = Script::running(2);
    script.check(ready(0, 0), &["compute 1 a/0#0 1.2 [0..4]", "compute 2 a/0#0 1.2 [4..8]"]);
    let returned = |worker: u64, generation: u64, ranges: &[Range<u32>]| Event::ShardsReturned {
        worker: WorkerId(worker),
        stage: stage(0),
        token: token(generation),
        ranges: ranges.to_vec(),
    };
    script.check(returned(1, 2, &[0..2, 3..4]), &["compute 2 a/0#0 1.3 [0..2, 3..4]"]);
    script.check(returned(1, 2, &[0..2, 3..4, 7..99]), &[]);
    script.check(failed(1, 2, 2, true), &["compute 2 a/0#0 1.4 [2..3]"]);
    script.check(returned(2, 3, &[0..1]), &["compute 1 a/0#0 1.5 [0..1]"]);
    script.check(block(2, 0, 3, 0, 1), &["accept a/0#0 0.1"]);
}
