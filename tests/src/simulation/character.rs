//! What kind of run a seed gives: calm or stormy, on a quick or a slow network, with few or many
//! workers, and which faults prevail.

use super::agenda::{MS, SECOND};
use super::rng::Rng;

/// Faults with their names in summaries, written once.
macro_rules! faults {
    ($($fault:ident = $name:literal,)+) => {
        /// A fault that chaos may choose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Fault {
            $($fault,)+
        }

        use Fault::{$($fault,)+};

        /// All of them. Their order is part of what a seed means.
        const ALL: &[Fault] = &[$($fault,)+];

        impl Fault {
            /// Its name in summaries.
            pub fn name(self) -> &'static str {
                match self {
                    $($fault => $name,)+
                }
            }
        }
    };
}

faults! {
    KillWorker = "worker killed",
    KillAllWorkers = "all workers killed",
    PowerOff = "worker's machine off",
    StopWorker = "worker stopped",
    SlowWorker = "worker slow",
    AddWorker = "worker added",
    DrainWorker = "worker drained",
    DrainByAdmin = "worker drained by admin",
    CutBoth = "path cut both ways",
    CutUp = "path cut upwards",
    CutDown = "path cut downwards",
    ResetConnection = "connection reset",
    SpillFull = "spill folder full",
    KillCoordinator = "coordinator killed",
    StopCoordinator = "coordinator stopped",
    JumpForward = "clock jumps forward",
    JumpBack = "clock jumps back",
    SlowDisk = "log's disk slow",
    FullDisk = "log's disk full",
    DamageCheckpoint = "checkpoint damaged",
}

/// A run's character.
#[derive(Debug, Clone)]
pub(super) struct Character {
    pub name: &'static str,
    /// Faults with their weights.
    pub faults: Vec<(Fault, u64)>,
    /// Mean time between faults, µs.
    pub every: u64,
    /// How long chaos rules, µs.
    pub storm: u64,
    pub workers: usize,
    pub clients: usize,
    pub running_jobs: usize,
    pub worker_timeout: u64,
    /// Time to compute a shard, µs of one thread.
    pub shard_cost: u64,
    pub delay: u64,
    pub laggards: u64,
    pub duplicates: u64,
    /// Largest message that travels on the control stream.
    pub inline_message: usize,
    /// Largest state that stands in the log.
    pub inline_state: usize,
    /// Of a thousand jobs, how many have a poison shard, and a deadline.
    pub poison: u64,
    pub deadlines: u64,
    /// Of a thousand moments between two writes, at how many the coordinator dies.
    pub crash_points: u64,
    /// Of a thousand workers that die, how many come back only when the storm is over.
    pub stay_away: u64,
}

/// Characters: name, what prevails, seconds between faults.
const CHARACTERS: &[(&str, &[Fault], u64)] = &[
    ("calm", &[], 60),
    ("kills", &[KillWorker, KillWorker, KillAllWorkers, PowerOff], 2),
    ("stops", &[StopWorker, SlowWorker, StopCoordinator], 3),
    ("partitions", &[CutBoth, CutUp, CutDown, ResetConnection], 2),
    ("leaders", &[KillCoordinator, KillCoordinator, StopCoordinator, DamageCheckpoint], 4),
    ("disks", &[SlowDisk, FullDisk, SpillFull, KillCoordinator], 4),
    ("churn", &[AddWorker, AddWorker, DrainWorker, DrainByAdmin, KillWorker], 2),
    ("clocks", &[JumpForward, JumpBack, StopCoordinator, StopWorker], 3),
    ("storm", ALL, 1),
    ("weather", ALL, 5),
];

impl Character {
    pub fn draw(rng: &mut Rng) -> Self {
        let (name, prevailing, every) = CHARACTERS[rng.below(CHARACTERS.len() as u64) as usize];
        let mut faults: Vec<(Fault, u64)> = prevailing.iter().map(|fault| (*fault, rng.between(1, 10))).collect();
        if !faults.is_empty() {
            faults.extend(ALL.iter().filter(|_| rng.chance(200)).map(|fault| (*fault, 1)).collect::<Vec<_>>());
        }
        let calm = faults.is_empty();
        Self {
            name,
            faults,
            every: every * SECOND / 2 + rng.below(every * SECOND),
            storm: rng.between(15, 45) * SECOND,
            workers: rng.between(1, 5) as usize,
            clients: rng.between(2, 5) as usize,
            running_jobs: rng.between(1, 3) as usize,
            worker_timeout: rng.between(3, 10) * SECOND,
            shard_cost: rng.between(2, 25) * MS,
            delay: rng.pick(&[MS, 5 * MS, 50 * MS]).unwrap_or(MS),
            laggards: if calm { 0 } else { rng.below(30) },
            duplicates: rng.below(40),
            inline_message: rng.pick(&[64 << 10, 0]).unwrap_or(0),
            inline_state: rng.pick(&[64 << 10, 0]).unwrap_or(0),
            poison: if rng.chance(300) { 300 } else { 0 },
            deadlines: rng.pick(&[0, 200]).unwrap_or(0),
            crash_points: if calm || rng.chance(600) { 0 } else { rng.below(20) },
            stay_away: rng.pick(&[0, 200, 500]).unwrap_or(0),
        }
    }

    /// The next fault.
    pub fn fault(&self, rng: &mut Rng) -> Option<Fault> {
        let total: u64 = self.faults.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total);
        let hit = |(fault, weight): &(Fault, u64)| {
            if at < *weight {
                return Some(*fault);
            }
            at -= weight;
            None
        };
        self.faults.iter().find_map(hit)
    }
}
