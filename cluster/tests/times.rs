//! What the engine is worth in time: stragglers, stopped workers, joiners, poison shards and chaos, in a
//! cluster whose every millisecond is simulated. `-- --nocapture` shows the figures.

mod clockwork;

use clockwork::{Clockwork, Work};
use proptest::prelude::*;
use sheaf_cluster::{Options, What, WorkerId};

fn quiet(workers: u64) -> Clockwork {
    Clockwork::new(workers, Options::default(), 1)
}

/// Time of a job on four workers, with something done to the cluster before each millisecond.
fn time(work: &Work, mut disturb: impl FnMut(&mut Clockwork)) -> (u64, Clockwork) {
    let mut world = quiet(4);
    world.submit("a", work.clone());
    while world.ended("a").is_none() && world.now < 600_000 {
        disturb(&mut world);
        world.tick();
    }
    let took = world.run(600_000);
    assert_eq!(world.failed("a"), None);
    (took, world)
}

fn slow(world: &mut Clockwork, speed: u64) {
    if let Some(process) = world.processes.get_mut(&WorkerId(4)) {
        process.speed = speed;
    }
}

/// Row 17 of the fault matrix.
#[test]
fn a_worker_at_a_tenth_of_its_speed_costs_less_than_half_as_much_again() {
    for (steps, compute, read) in [(100, 5, 40), (200, 1, 10), (60, 20, 200), (150, 5, 200)] {
        let work = Work { shards: 240, unit: 2, steps, compute, read, ..Work::default() };
        let (undisturbed, _) = time(&work, |_| ());
        let (disturbed, world) = time(&work, |world| slow(world, 100));
        let ratio = disturbed as f64 / undisturbed as f64;
        println!("steps {steps} x {compute} ms: {undisturbed} ms, with a worker at 10 %: {disturbed} ms, {ratio:.2} x");
        assert!(ratio <= 1.5, "{ratio}");
        let pace = world.engine.workers()[3].pace;
        assert!(pace <= 2 * 102, "its pace is {pace} of 1024");
    }
}

#[test]
fn a_worker_that_is_well_again_gets_its_share_back() {
    let work = Work { steps: 400, ..Work::default() };
    let mut least = 1_024;
    let (_, world) = time(&work, |world| {
        slow(world, if world.now < 8_000 { 100 } else { 1_000 });
        least = least.min(world.engine.workers()[3].pace);
    });
    println!("pace fell to {least} and is {} of 1024", world.engine.workers()[3].pace);
    assert!(least < 256);
    assert!(world.engine.workers()[3].pace > 900);
}

/// A machine that was busy for a moment while steps were short: its worker is not left out for long.
#[test]
fn a_worker_that_was_held_up_is_soon_given_work_again() {
    let work = Work { shards: 160, unit: 40, steps: 2_000, compute: 1, read: 10, ..Work::default() };
    let held = 1_000..2_500;
    let (mut least, mut back) = (1_024, None);
    let (_, world) = time(&work, |world| {
        let stopped = held.contains(&world.now);
        world.processes.iter_mut().filter(|(id, _)| **id == WorkerId(4)).for_each(|(_, p)| p.stopped = stopped);
        let pace = world.engine.workers()[3].pace;
        least = least.min(pace);
        if world.now > held.end && pace == 1_024 && back.is_none() {
            back = Some(world.now - held.end);
        }
    });
    let back = back.expect("it has a full share again");
    println!("pace fell to {least}, a full share again after {back} ms; {} steps", world.times("a").len());
    assert!(least <= 256 && back < 9_000, "pace {least}, back after {back} ms");
}

/// What costs time with speculation off: everybody waits for the slow one, whose share stays what it was.
#[test]
fn without_speculation_every_worker_contributes_its_full_share() {
    let mut world = Clockwork::new(4, Options { speculate: false, ..Options::default() }, 1);
    slow(&mut world, 20);
    world.submit("a", Work { shards: 160, unit: 4, steps: 30, compute: 1, ..Work::default() });
    world.run(600_000);
    assert_eq!((world.count(What::Doubled), world.count(What::Paced), world.count(What::Moved)), (0, 0, 0), "{:?}", world.notes);
    let shares: Vec<u64> = world.processes.values().map(|process| process.computed).collect();
    assert_eq!(shares, [40 * 30; 4]);
    assert_eq!(world.failed("a"), None);
}

/// Row 5: the lease would end after ten seconds, and nobody waits for that.
#[test]
fn a_stopped_worker_delays_a_step_by_less_than_its_lease() {
    let work = Work { steps: 100, ..Work::default() };
    let (_, world) = time(&work, |world| {
        let stopped = (3_000..33_000).contains(&world.now);
        world.processes.iter_mut().filter(|(id, _)| **id == WorkerId(2)).for_each(|(_, p)| p.stopped = stopped);
    });
    let steps: Vec<u64> = world.times("a").windows(2).map(|pair| pair[1] - pair[0]).collect();
    let longest = steps.iter().max().copied().unwrap_or(0);
    println!("longest step {longest} ms");
    assert!(longest < 1_500, "{longest}");
}

#[test]
fn noise_moves_nothing() {
    let mut world = Clockwork::new(4, Options::default(), 77);
    world.processes.values_mut().for_each(|process| process.jitter = 200);
    world.submit("a", Work { steps: 200, ..Work::default() });
    world.run(600_000);
    assert_eq!((world.count(What::Moved), world.count(What::Paced)), (0, 0), "{:?}", world.notes);
}

#[test]
fn a_joiner_contributes_within_two_steps_of_ready() {
    let mut joined = None;
    let work = Work { steps: 60, ..Work::default() };
    let mut contributed = None;
    let (_, world) = time(&work, |world| {
        if world.now == 2_000 {
            joined = Some(world.join());
        }
        let process = joined.and_then(|worker| world.processes.get(&worker));
        if process.is_some_and(|process| process.computed > 0) && contributed.is_none() {
            contributed = Some(world.times("a").len());
        }
    });
    let (at, _) = world.notes.iter().find(|(_, note)| note.text.contains("is ready")).expect("it got ready");
    let ready = world.times("a").iter().filter(|time| **time <= *at).count();
    let contributed = contributed.expect("it contributed");
    println!("ready in step {ready}, contributed in step {contributed}");
    assert!(contributed - ready <= 2);
    let process = &world.processes[&joined.expect("it joined")];
    assert_eq!(process.units_read, 8, "it reads its fifth of 40 units, once");
    let others: u32 = world.processes.values().map(|process| process.units_read).sum();
    assert_eq!(others, 48, "nobody else reads anything again");
}

#[test]
fn a_poison_shard_fails_its_job_after_three_losses_and_no_other() {
    for poison in [0, 7, 100, 159] {
        let mut world = quiet(4);
        world.submit("a", Work { steps: 20, poison: Some(poison), ..Work::default() });
        world.submit("bb", Work { steps: 80, ..Work::default() });
        world.submit("ccc", Work { steps: 5, stages: 3, ..Work::default() });
        world.run(600_000);
        assert_eq!(world.losses, 3);
        let message = world.failed("a").expect("it is poisoned");
        assert!(message.starts_with(&format!("shard {poison} of stage a/0 ended 3 workers")), "{message}");
        assert_eq!((world.failed("bb"), world.failed("ccc")), (None, None));
    }
}

#[test]
fn two_poison_shards_fail_their_two_jobs() {
    let mut world = quiet(4);
    world.submit("a", Work { steps: 20, poison: Some(5), ..Work::default() });
    world.submit("bb", Work { steps: 20, poison: Some(130), ..Work::default() });
    world.submit("ccc", Work { steps: 20, ..Work::default() });
    world.run(600_000);
    println!("{} losses", world.losses);
    assert!(world.losses <= 14);
    assert!(world.failed("a").is_some_and(|message| message.starts_with("shard 5 of")));
    assert!(world.failed("bb").is_some_and(|message| message.starts_with("shard 130 of")));
    assert_eq!(world.failed("ccc"), None);
}

/// A worker of four is killed every two seconds and comes back after one, for ten minutes: row 1.
fn chaos(work: Work, seed: u64, minutes: u64) -> Clockwork {
    let mut world = Clockwork::new(4, Options { max_running_jobs: 2, ..Options::default() }, seed);
    world.submit("a", work.clone());
    world.submit("bb", work);
    while world.now < minutes * 60_000 && ["a", "bb"].iter().any(|job| world.ended(job).is_none()) {
        if world.now > 0 && world.now.is_multiple_of(2_000) {
            world.kill_one();
        }
        world.tick();
    }
    assert_eq!((world.failed("a"), world.failed("bb")), (None, None), "seed {seed}");
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Short shards: many steps between two kills.
    #[test]
    fn random_kills_never_fail_a_job(seed in any::<u64>()) {
        let work = Work { steps: 1_000_000, ..Work::default() };
        let calm = {
            let mut world = quiet(4);
            world.submit("a", work.clone());
            (0..60_000).for_each(|_| world.tick());
            world.times("a").len()
        };
        let world = chaos(work, seed, 3);
        let done = (world.times("a").len() + world.times("bb").len()) / 3;
        println!("{calm} steps a minute undisturbed, {done} with a kill every two seconds");
        assert!(done * 2 >= calm, "throughput fell from {calm} to {done} steps a minute");
    }

    /// Shards that take longer than the time between two kills are hit again and again by chance.
    #[test]
    fn random_kills_never_condemn_a_long_shard(seed in any::<u64>()) {
        chaos(Work { shards: 12, unit: 1, steps: 1_000_000, compute: 3_000, ..Work::default() }, seed, 10);
    }
}
