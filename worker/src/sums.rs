//! Sums of blocks of shards, for partials that may be added in any order: a sum per thread and block, and memory for
//! each. Where memory is scarce fewer threads add up; one always does.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use sheaf_learn::tree::Block;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::memory::{Grant, MemoryBudget};

use crate::stage::ShardFault;

/// Memory for sums.
pub(crate) struct Room<'a> {
    budget: &'a MemoryBudget,
    /// Bytes of a sum, about.
    bytes: u64,
    /// Whether a thread adds up.
    entered: AtomicBool,
}

impl<'a> Room<'a> {
    /// Memory of a budget for sums of so many bytes.
    pub fn new(budget: &'a MemoryBudget, bytes: u64) -> Self {
        Self { budget, bytes, entered: AtomicBool::new(false) }
    }

    /// Memory for the first sum of a thread. One thread gets it whatever there is, others only where it fits.
    fn enter(&self) -> Option<Grant> {
        let first = !self.entered.swap(true, Ordering::Relaxed);
        if first || self.bytes == 0 { Some(self.next()) } else { self.budget.try_work(self.bytes) }
    }

    /// Memory for a sum that must be.
    fn next(&self) -> Grant {
        self.budget.take(self.bytes)
    }
}

/// A sum and its memory, given back when it is dropped.
pub(crate) struct Summed<T> {
    /// The sum.
    pub value: T,
    room: Grant,
}

/// What a thread adds up: a block by its position, and what there is of it.
struct Own<T> {
    at: usize,
    sum: Option<T>,
    room: Grant,
}

/// Blocks with what their shards sum up to.
type Sums<T> = Vec<(Block, Option<Summed<T>>)>;

/// The sum of every block, and the rows of all. Threads take shard after shard and add them up with `add`, which gives the
/// rows of the shard; they put their sums together with `merge` where a block ends.
pub(crate) fn sums<T: Send>(
    blocks: Vec<Block>,
    leaves: u32,
    room: &Room<'_>,
    add: impl Fn(u32, &mut Option<T>) -> Result<u64, ShardFault> + Sync,
    merge: impl Fn(T, T) -> Result<T, Fault> + Sync,
) -> Result<(Sums<T>, u64), ShardFault> {
    let shards_of = |(at, block): (usize, &Block)| block.range(leaves).map(move |shard| (at, shard));
    let shards: Vec<(usize, u32)> = blocks.iter().enumerate().flat_map(shards_of).collect();
    let slots: Vec<Mutex<Option<Summed<T>>>> = blocks.iter().map(|_| Mutex::default()).collect();
    let (next, rows) = (AtomicUsize::new(0), AtomicU64::new(0));
    let thread = |_: usize| -> Result<(), ShardFault> {
        let Some(grant) = room.enter() else { return Ok(()) };
        let mut own = Own { at: 0, sum: None, room: grant };
        let mut last = shards.first().map_or(0, |(_, shard)| *shard);
        while let Some((at, shard)) = shards.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            if own.at != at {
                let done = std::mem::replace(&mut own, Own { at, sum: None, room: room.next() });
                deposit(&slots, done, last, &merge)?;
            }
            rows.fetch_add(add(shard, &mut own.sum)?, Ordering::Relaxed);
            last = shard;
        }
        deposit(&slots, own, last, &merge)
    };
    (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).map(thread).collect::<Result<(), _>>()?;
    let sums = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok((blocks.into_iter().zip(sums).collect(), rows.into_inner()))
}

/// Adds a thread's sum to that of the block. What is there already is taken out and added without the lock.
fn deposit<T>(
    slots: &[Mutex<Option<Summed<T>>>],
    own: Own<T>,
    shard: u32,
    merge: impl Fn(T, T) -> Result<T, Fault>,
) -> Result<(), ShardFault> {
    let (Some(slot), Some(value)) = (slots.get(own.at), own.sum) else { return Ok(()) };
    let mut own = Summed { value, room: own.room };
    loop {
        let other = {
            let mut there = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match there.take() {
                Some(other) => other,
                None => {
                    *there = Some(own);
                    return Ok(());
                }
            }
        };
        let value = merge(other.value, own.value).map_err(|fault| ShardFault { shard, fault })?;
        own = Summed { value, room: own.room };
        drop(other.room);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use sheaf_learn::tree::cover;

    use super::*;

    const LEAVES: u32 = 100;

    /// Adds up shards 3 to 90 on eight threads, in a budget for so many sums; gives the most sums that were under way
    /// in `add` together.
    fn check(sums_that_fit: u64, bytes: u64) -> usize {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let budget = MemoryBudget::new(sums_that_fit * bytes.max(1));
        let (now, most, gate) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
        let add = |shard: u32, sum: &mut Option<u64>| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Threads queue here, so that all that are let in meet.
            drop(gate.lock().unwrap());
            std::thread::yield_now();
            *sum = Some(sum.unwrap_or(0) + u64::from(shard));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(2)
        };
        let blocks: Vec<Block> = cover(3..90, LEAVES).into_iter().collect();
        let room = Room::new(&budget, bytes);
        let (found, rows) = pool.install(|| sums(blocks.clone(), LEAVES, &room, add, |a, b| Ok(a + b))).unwrap();
        assert_eq!((rows, found.len()), (2 * 87, blocks.len()));
        for (block, sum) in &found {
            assert_eq!(sum.as_ref().unwrap().value, block.range(LEAVES).map(u64::from).sum::<u64>());
        }
        // What is left waits to be sent, and holds its memory until then.
        assert_eq!(budget.used(), blocks.len() as u64 * bytes);
        drop(found);
        assert_eq!(budget.used(), 0);
        most.into_inner()
    }

    #[test]
    fn sums_hold_their_memory_and_threads_wait_for_none() {
        assert!(check(1_000, 1 << 20) <= 8);
        assert_eq!(check(1, 1 << 20), 1, "where one sum fits, one thread adds up");
        assert!(check(3, 1 << 20) <= 3);
        assert!(check(0, 1 << 20) <= 1, "and one goes on whatever there is");
        // Small sums are not counted.
        assert!(check(0, 0) <= 8);
    }
}
