//! Which shard ends its workers. A lost worker makes every shard that it owed a suspect; a shard is only
//! condemned when a worker is lost that owed nothing else.
//!
//! ```text
//! leased among others ─ worker lost ─▶ suspect (1) ─ lost again ─▶ suspect (2): alone from now on
//!         ▲                               │ in: cleared               │ in: cleared
//!         └───────────────────────────────┴───────────────────────────┘
//!                                          alone and lost for the third time ─▶ the job fails
//! ```
//!
//! Alone means: it is all that its worker owes to any stage of any job, and nothing else is leased to that
//! worker meanwhile. So no shard is ever condemned for what another one did, of its own job or another's.
//!
//! Chance must not condemn either. A worker that is killed at random takes along what it has in hand; for
//! the same shard to be there three times within one step it must outlast the time between two kills twice,
//! which short shards never do. For long ones what else happens tells: chance also hits workers that did
//! *not* have the shard. Each such loss of the last ten minutes raises the number of losses that condemn a
//! shard by two. With `n` workers and kills at random a shard's own losses are one in `n` of all: for two
//! workers or more the bar runs ahead of its count. A poison shard in an otherwise quiet cluster still
//! needs exactly `max_attempts`, and nothing raises the bar above ten times that.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::Millis;

/// For how long a loss speaks for other shards.
const MEMORY: Millis = Millis(600_000);

/// Losses remembered at most.
const REMEMBERED: usize = 256;

/// By how much the loss of another worker raises the bar.
const DOUBT: u32 = 2;

/// A shard is condemned at the latest after so many times the usual number of losses.
const AT_MOST: u32 = 10;

/// Losses of workers that may have been chance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses {
    last: u64,
    recent: VecDeque<(u64, Millis)>,
}

/// The workers that were lost with a shard in hand since it was last in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// How each of them ended.
    pub ends: Vec<Arc<str>>,
    /// Those among [`Losses`].
    seen: Vec<u64>,
}

impl Suspicion {
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// One more worker was lost with it. `loss`: its number among [`Losses`], if it counts there.
    pub fn add(&mut self, end: Arc<str>, loss: Option<u64>) {
        self.ends.push(end);
        self.seen.extend(loss);
    }
}

impl Losses {
    /// Remembers a loss that was not that of a worker with one suspect in hand.
    pub fn add(&mut self, now: Millis) -> u64 {
        self.forget(now);
        self.last += 1;
        self.recent.push_back((self.last, now));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        self.last
    }

    pub fn forget(&mut self, now: Millis) {
        while self.recent.front().is_some_and(|(_, at)| now.since(*at) > MEMORY) {
            self.recent.pop_front();
        }
    }

    /// Losses after which the shard is condemned, if it was alone.
    pub fn needed(&self, suspicion: &Suspicion, max_attempts: u32) -> u32 {
        let own = self.recent.iter().filter(|(number, _)| suspicion.seen.contains(number)).count();
        let others = (self.recent.len() - own) as u32;
        let usual = max_attempts.max(1);
        usual.saturating_add(others * DOUBT).min(usual.saturating_mul(AT_MOST))
    }

    /// Whether the shard is to be computed alone from now on: before the loss that may condemn it, whatever
    /// the bar is by then, so that what it does is not held against others.
    pub fn sets_apart(suspicion: &Suspicion, max_attempts: u32) -> bool {
        suspicion.count() >= max_attempts.saturating_sub(1).max(1)
    }

    /// The shard was condemned: its losses were not chance.
    pub fn explain(&mut self, suspicion: &Suspicion) {
        self.recent.retain(|(number, _)| !suspicion.seen.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lose(losses: &mut Losses, suspicion: &mut Suspicion, at: u64) {
        let number = losses.add(Millis(at));
        suspicion.add("killed".into(), Some(number));
    }

    #[test]
    fn a_quiet_cluster_needs_three() {
        let (mut losses, mut suspicion) = (Losses::default(), Suspicion::default());
        lose(&mut losses, &mut suspicion, 0);
        assert!(!Losses::sets_apart(&suspicion, 3));
        lose(&mut losses, &mut suspicion, 1);
        assert!(Losses::sets_apart(&suspicion, 3));
        suspicion.add("killed".into(), None);
        assert_eq!((suspicion.count(), losses.needed(&suspicion, 3)), (3, 3));
        losses.explain(&suspicion);
        assert_eq!(losses.needed(&Suspicion::default(), 3), 3);
    }

    #[test]
    fn other_losses_raise_the_bar_for_ten_minutes() {
        let (mut losses, mut suspicion) = (Losses::default(), Suspicion::default());
        for at in 0..4 {
            losses.add(Millis(at));
        }
        lose(&mut losses, &mut suspicion, 5);
        assert_eq!(losses.needed(&suspicion, 3), 11);
        losses.forget(Millis(600_003));
        assert_eq!(losses.needed(&suspicion, 3), 5);
        for at in 0..1_000 {
            losses.add(Millis(600_004 + at));
        }
        assert_eq!(losses.needed(&suspicion, 3), 30);
    }

    #[test]
    fn one_attempt_still_wants_it_alone() {
        let (mut losses, mut suspicion) = (Losses::default(), Suspicion::default());
        assert!(!Losses::sets_apart(&suspicion, 1));
        lose(&mut losses, &mut suspicion, 0);
        assert!(Losses::sets_apart(&suspicion, 1) && Losses::sets_apart(&suspicion, 0));
    }
}
