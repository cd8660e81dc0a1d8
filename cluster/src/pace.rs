//! How fast workers turn out to be. A pace is a share of what a worker's threads promise; placement
//! multiplies by it. It is learnt from the times of whole steps, relative to the other workers, and with
//! hysteresis: only a worker that is clearly late, twice in a row, is given less, and only one that is
//! clearly early is given more again. Times, not speeds, raise a pace: a worker with a small share spends
//! most of a step on what every step costs, so that its speed says little.

use std::collections::BTreeMap;

use crate::id::{Millis, WorkerId};

/// The pace of a worker that does what its threads promise.
pub(crate) const FULL: u32 = 1024;

/// The lowest pace. Few datasets have so many units that this is one.
const LEAST: u32 = FULL / 64;

/// A worker that takes more than 4/3 of the others' time is late.
const LATE: u32 = FULL * 3 / 4;

/// One that is late by this much is given less at once.
const MUCH_TOO_LATE: u32 = FULL / 3;

/// A worker that takes less than 2/3 of the others' time is early.
const EARLY: u32 = FULL * 3 / 2;

/// The first chance of a worker that was slow comes after so many steps …
const FIRST_CHANCE: u64 = 64;

/// … but no sooner than this part of the time that chances come after in the long run.
const SOONEST: u64 = 8;

/// Enough to come from the soonest first chance to that time.
const MOST_DOUBLINGS: u8 = 3;

/// Judgements of the same kind in a row before anything moves.
const IN_A_ROW: u8 = 2;

/// The pace of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    share: u32,
    late: u8,
    early: u8,
    /// When it was last measured or changed.
    judged: Millis,
    /// How often it was given more without having been measured, since it last had a full share.
    chances: u8,
}

/// What a window of steps says of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as fast as its pace.
    Steady,
    /// It does only so much (of [`FULL`]) of what its pace promises.
    Late(u32),
    /// It was done that much sooner than the others (above [`FULL`]).
    Early(u32),
    /// Others had to do its work: it does at most so much of what its pace promises.
    Overtaken(u32),
}

impl Pace {
    pub fn new(now: Millis) -> Self {
        Self { share: FULL, late: 0, early: 0, judged: now, chances: 0 }
    }

    /// The pace, of [`FULL`].
    pub fn share(&self) -> u32 {
        self.share
    }

    /// Takes in a judgement. True if the pace changed.
    pub fn judge(&mut self, judgement: Judgement, now: Millis) -> bool {
        self.judged = now;
        let (late, early) = match judgement {
            Judgement::Steady => (0, 0),
            Judgement::Late(_) | Judgement::Overtaken(_) => (self.late + 1, 0),
            Judgement::Early(_) => (0, self.early + 1),
        };
        (self.late, self.early) = (late.min(IN_A_ROW), early.min(IN_A_ROW));
        match judgement {
            Judgement::Overtaken(part) => self.set(self.scaled(part)),
            Judgement::Late(part) if late >= IN_A_ROW || part < MUCH_TOO_LATE => self.set(self.scaled(part)),
            Judgement::Early(part) if early >= IN_A_ROW => self.set(self.scaled(part.min(2 * FULL))),
            _ => false,
        }
    }

    /// Gives a slow worker that has not been measured for a while a chance: it may be well again. The first
    /// chance comes after `first`, each later one after twice the time, at most `after`: most machines are slow
    /// for a moment, and a worker without a shard is not measured. One that stays slow soon costs a try each
    /// `after` only.
    pub fn recover(&mut self, first: Millis, after: Millis, now: Millis) -> bool {
        let wait = (first.0 << self.chances.min(MOST_DOUBLINGS)).min(after.0);
        let due = self.share < FULL && now.since(self.judged).0 >= wait;
        if due {
            self.judged = now;
            self.chances = self.chances.saturating_add(1);
        }
        due && self.set(self.share.saturating_mul(2).max(FULL / 8))
    }

    fn scaled(&self, part: u32) -> u32 {
        (u64::from(self.share) * u64::from(part) / u64::from(FULL)) as u32
    }

    fn set(&mut self, share: u32) -> bool {
        let share = share.clamp(LEAST, FULL);
        (self.late, self.early) = (0, 0);
        if share == FULL {
            self.chances = 0;
        }
        std::mem::replace(&mut self.share, share) != share
    }
}

/// When a worker that was slow gets its first chance, where a step takes so long: a try costs a step or two at
/// least, so that it is soon only where steps are short.
pub(crate) fn first_chance(step: Option<Millis>, after: Millis) -> Millis {
    let steps = step.map_or(after.0, |step| step.0.saturating_mul(FIRST_CHANCE));
    Millis(steps.clamp(after.0 / SOONEST, after.0))
}

/// What a worker did in the steps of a window.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    shards: u64,
    millis: u64,
    steps: u32,
}

/// Times of some steps in a row, until they are long enough to be judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    samples: BTreeMap<WorkerId, Sample>,
    steps: u32,
    millis: u64,
    /// Most stages that workers computed for at the same time.
    rivals: u32,
}

impl Window {
    /// A worker did so many shards of a step in that time.
    pub fn add(&mut self, worker: WorkerId, shards: u32, took: Millis) {
        let sample = self.samples.entry(worker).or_default();
        sample.shards += u64::from(shards);
        sample.millis += took.0;
        sample.steps += 1;
    }

    /// A step is over. True if the window is long enough to be judged.
    pub fn step(&mut self, took: Millis, rivals: u32, enough: Millis) -> bool {
        self.steps += 1;
        self.rivals = self.rivals.max(rivals);
        self.millis += took.0;
        self.millis >= enough.0
    }

    /// Judges those that took part in every step of the window, and begins a new one. `weight` is what a
    /// worker was given shards by, and its pace.
    pub fn judge(&mut self, weight: impl Fn(WorkerId) -> Option<(u64, u32)>) -> Vec<(WorkerId, Judgement)> {
        let window = std::mem::take(self);
        let whole = window.samples.into_iter().filter(|(_, sample)| sample.steps == window.steps && sample.shards > 0);
        // Speed per weight, as a whole number: shards · 2^40 / (ms · weight).
        let rated = |(worker, sample): (WorkerId, Sample)| {
            let (weight, pace) = weight(worker)?;
            let millis = sample.millis.max(1);
            let speed = (u128::from(sample.shards) << 40) / (u128::from(millis) * u128::from(weight.max(1)));
            Some((worker, millis, speed.max(1), pace))
        };
        let rated: Vec<_> = whole.filter_map(rated).collect();
        if rated.len() < 2 {
            return Vec::new();
        }
        let (mut times, mut speeds): (Vec<_>, Vec<_>) = rated.iter().map(|(_, millis, speed, _)| (*millis, *speed)).unzip();
        times.sort_unstable();
        speeds.sort_unstable();
        // Of an even number the faster one of the two in the middle: with two workers, the better one.
        let (time, speed) = (times[(times.len() - 1) / 2], speeds[speeds.len() / 2]);
        let judged = rated.into_iter().map(|(worker, own_time, own_speed, pace)| {
            let by_time = part(u128::from(time), u128::from(own_time));
            let by_speed = part(own_speed, speed);
            (worker, judgement(by_time, by_speed, pace, window.rivals.max(1)))
        });
        judged.collect()
    }
}

/// Late only if time and speed say so: a worker that happens to have the larger share is late, not slow.
/// One that computes for several stages may be at the others first.
fn judgement(by_time: u32, by_speed: u32, pace: u32, rivals: u32) -> Judgement {
    let best = by_time.max(by_speed).saturating_mul(rivals);
    if best < LATE {
        Judgement::Late(best)
    } else if pace < FULL && by_time > EARLY.saturating_mul(rivals) {
        Judgement::Early(by_time)
    } else {
        Judgement::Steady
    }
}

/// `a / b` in parts of [`FULL`].
pub(crate) fn part(a: u128, b: u128) -> u32 {
    u32::try_from(a * u128::from(FULL) / b.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(5_000);

    /// Four workers of one thread, the last with this pace and time, shards by pace.
    fn judge(pace: u32, shards: u32, millis: u64) -> Judgement {
        let mut window = Window::default();
        for worker in 1..=3 {
            window.add(WorkerId(worker), 10, Millis(1_000));
        }
        window.add(WorkerId(4), shards, Millis(millis));
        assert!(window.step(Millis(1_000), 1, Millis(500)));
        let weight = |worker| if worker == WorkerId(4) { (u64::from(pace), pace) } else { (u64::from(FULL), FULL) };
        window.judge(|worker| Some(weight(worker)))[3].1
    }

    #[test]
    fn only_clear_cases_are_judged() {
        assert_eq!(judge(FULL, 10, 1_000), Judgement::Steady);
        assert_eq!(judge(FULL, 10, 1_300), Judgement::Steady);
        assert_eq!(judge(FULL, 10, 2_000), Judgement::Late(512));
        assert_eq!(judge(FULL, 20, 2_000), Judgement::Steady, "a larger share takes longer");
        assert_eq!(judge(FULL, 10, 100), Judgement::Steady, "nobody is given more than its threads promise");
        assert_eq!(judge(102, 1, 1_000), Judgement::Steady);
        assert_eq!(judge(102, 1, 100), Judgement::Early(10 * FULL));
        assert_eq!(judge(102, 1, 990), Judgement::Steady, "what every step costs says nothing");
    }

    #[test]
    fn noise_moves_nothing_and_a_slow_worker_gets_less() {
        let mut pace = Pace::new(NOW);
        for judgement in [Judgement::Late(700), Judgement::Steady, Judgement::Late(700), Judgement::Early(2_000)] {
            assert!(!pace.judge(judgement, NOW));
        }
        assert!(!pace.judge(Judgement::Late(512), NOW));
        assert!(pace.judge(Judgement::Late(512), NOW));
        assert_eq!(pace.share(), 512);
        assert!(pace.judge(Judgement::Late(103), NOW));
        assert_eq!(pace.share(), 51);
        assert!(pace.judge(Judgement::Overtaken(100), NOW) && !pace.judge(Judgement::Overtaken(100), NOW));
        assert_eq!(pace.share(), LEAST);
    }

    #[test]
    fn a_worker_that_is_well_again_gets_its_share_back() {
        let mut pace = Pace::new(NOW);
        pace.judge(Judgement::Overtaken(100), NOW);
        let after = Millis(10_000);
        assert!(!pace.recover(after, after, Millis(14_999)));
        assert!(pace.recover(after, after, Millis(15_000)));
        assert_eq!(pace.share(), 200);
        for share in [400, 800, FULL] {
            assert!(!pace.judge(Judgement::Early(5_000), NOW));
            assert!(pace.judge(Judgement::Early(5_000), NOW));
            assert_eq!(pace.share(), share);
        }
        assert!(!pace.recover(after, after, Millis(99_000)));
    }

    #[test]
    fn a_worker_that_stays_slow_gets_chances_ever_more_seldom() {
        let mut pace = Pace::new(NOW);
        let (after, mut now, mut waits) = (Millis(10_000), NOW, Vec::new());
        let first = first_chance(Some(Millis(5)), after);
        for _ in 0..6 {
            pace.judge(Judgement::Overtaken(100), now);
            let since = now;
            while !pace.recover(first, after, now) {
                now = now.plus(Millis(10));
            }
            waits.push(now.since(since).0);
        }
        assert_eq!(waits, [1_250, 2_500, 5_000, 10_000, 10_000, 10_000]);
        // Once it has a full share again it counts as well.
        while pace.share() < FULL {
            pace.judge(Judgement::Early(5_000), now);
        }
        pace.judge(Judgement::Overtaken(100), now);
        assert!(!pace.recover(first, after, now.plus(Millis(1_249))));
        assert!(pace.recover(first, after, now.plus(Millis(1_250))));
        let long = [None, Some(Millis(157)), Some(Millis(100)), Some(Millis(0))];
        assert_eq!(long.map(|step| first_chance(step, after).0), [10_000, 10_000, 6_400, 1_250]);
    }

    #[test]
    fn a_window_needs_two_and_whole_steps() {
        let mut window = Window::default();
        window.add(WorkerId(1), 10, Millis(100));
        window.add(WorkerId(2), 10, Millis(100));
        assert!(!window.step(Millis(100), 1, Millis(200)));
        window.add(WorkerId(1), 10, Millis(100));
        assert!(window.step(Millis(100), 1, Millis(200)));
        assert_eq!(window.judge(|_| Some((1, FULL))), vec![]);
        assert!(!window.step(Millis(100), 1, Millis(200)));
    }
}
