//! One memory budget per worker. Every large consumer holds grants from it: what is kept (encoded shards) asks
//! and spills what is refused; what is under way (row groups being read, partials on their way out) has a share
//! that nothing may be kept in, waits for it, and never waits for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Part of the limit that nothing may be kept in: a quarter.
const WORK_SHARE: u64 = 4;
/// Most of it: more is not needed to read.
const WORK_MOST: u64 = 256 << 20;

/// Part of a process's memory that its program takes: a fifth.
const PROGRAM_SHARE: u64 = 5;
/// Most of it: code, threads, buffers and what the allocator holds back do not grow with the data.
const PROGRAM_MOST: u64 = 96 << 20;

/// The budget; cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: Mutex<Used>,
    freed: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Used {
    kept: u64,
    spare: u64,
    working: u64,
}

impl Used {
    fn total(self) -> u64 {
        self.kept.saturating_add(self.spare).saturating_add(self.working)
    }

    fn of(&mut self, purpose: Purpose) -> &mut u64 {
        match purpose {
            Purpose::Keep => &mut self.kept,
            Purpose::Spare => &mut self.spare,
            Purpose::Work => &mut self.working,
        }
    }
}

/// What memory is granted for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// Kept until it is given up for want of memory.
    Keep,
    /// Kept beside it, in the share of what is under way: it can be made again.
    Spare,
    /// Under way.
    Work,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Grant {
    bytes: u64,
    purpose: Purpose,
    inner: Arc<Inner>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { inner: Arc::new(Inner { limit, used: Mutex::default(), freed: Notify::new() }) }
    }

    /// The budget of a process that may take `memory` bytes in all: what is left beside the program itself.
    pub fn of_process(memory: u64) -> Self {
        Self::new(memory - (memory / PROGRAM_SHARE).min(PROGRAM_MOST))
    }

    /// Grants `bytes` to be kept, or nothing if they do not fit beside what is kept, what is under way and the share
    /// of the latter.
    pub fn keep(&self, bytes: u64) -> Option<Grant> {
        let mut used = self.inner.used();
        let work = used.working.saturating_add(used.spare).max(self.work_share());
        let total = used.kept.checked_add(bytes)?.checked_add(work)?;
        (total <= self.inner.limit).then(|| self.inner.grant(&mut used, bytes, Purpose::Keep))
    }

    /// Grants `bytes` for what helps and can be made again, or nothing if they do not fit or would take more than three
    /// quarters of the share of what is under way.
    pub fn spare(&self, bytes: u64) -> Option<Grant> {
        let mut used = self.inner.used();
        let fits = used.total().saturating_add(bytes) <= self.inner.limit;
        let few = used.spare.saturating_add(bytes) <= self.work_share() / 4 * 3;
        (bytes == 0 || fits && few).then(|| self.inner.grant(&mut used, bytes, Purpose::Spare))
    }

    /// Grants `bytes` for work, when they fit. Whoever asks while no other work holds a grant gets it at once, however
    /// large: there is always one that goes on.
    pub async fn work(&self, bytes: u64) -> Grant {
        loop {
            // Listens before it looks, so that nothing given back in between is missed.
            let freed = self.inner.freed.notified();
            if let Some(grant) = self.try_work(bytes) {
                return grant;
            }
            freed.await;
        }
    }

    /// [`MemoryBudget::work`] without waiting: nothing where it would have to.
    pub fn try_work(&self, bytes: u64) -> Option<Grant> {
        let mut used = self.inner.used();
        let fits = used.total().saturating_add(bytes) <= self.inner.limit;
        (fits || used.working == 0).then(|| self.inner.grant(&mut used, bytes, Purpose::Work))
    }

    /// Counts `bytes` that are there already and will go soon: others wait for them.
    pub fn take(&self, bytes: u64) -> Grant {
        self.inner.grant(&mut self.inner.used(), bytes, Purpose::Work)
    }

    /// Bytes granted now.
    pub fn used(&self) -> u64 {
        self.inner.used().total()
    }

    /// Bytes that nothing may be kept in.
    fn work_share(&self) -> u64 {
        (self.inner.limit / WORK_SHARE).min(WORK_MOST)
    }

    /// Bytes that are kept now.
    pub fn kept(&self) -> u64 {
        self.inner.used().kept
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.inner.limit
    }
}

impl Inner {
    fn used(&self) -> MutexGuard<'_, Used> {
        // Two counters that are changed in one statement each: a panic elsewhere does not spoil them.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(self: &Arc<Self>, used: &mut Used, bytes: u64, purpose: Purpose) -> Grant {
        let part = used.of(purpose);
        *part = part.saturating_add(bytes);
        Grant { bytes, purpose, inner: Arc::clone(self) }
    }
}

impl Grant {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        {
            let mut used = self.inner.used();
            let part = used.of(self.purpose);
            *part = part.saturating_sub(self.bytes);
        }
        self.inner.freed.notify_waiters();
    }
}

/// Reads `512MiB`, `2GB`, `1.5 GiB` or plain bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| format!("`{text}` is not a size such as 512MiB or 2GiB"))?;
    let unit: f64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024.0 * 1024.0,
        "mb" => 1e6,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "gb" => 1e9,
        other => return Err(format!("`{other}` is not a unit of size; use KiB, MiB or GiB")),
    };
    Ok((number * unit) as u64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_ends_before_the_share_of_work() {
        let budget = MemoryBudget::new(100);
        let first = budget.keep(60).unwrap();
        assert!(budget.keep(16).is_none());
        let second = budget.keep(15).unwrap();
        assert_eq!((budget.used(), budget.kept()), (75, 75));
        drop(first);
        assert_eq!(budget.used(), 15);
        // Work that holds more than its share leaves less to keep.
        let work = budget.take(80);
        assert!(budget.keep(6).is_none() && budget.keep(5).is_some());
        drop((work, second));
        assert_eq!(budget.used(), 0);
        assert!(budget.keep(u64::MAX).is_none());
    }

    #[tokio::test]
    async fn work_waits_for_room_and_one_always_goes_on() {
        let budget = MemoryBudget::new(100);
        let _kept = budget.keep(75).unwrap();
        // More than there is, and nobody to wait for.
        let large = budget.work(1000).await;
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.work(20).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(budget.try_work(20).is_none());
        drop(large);
        let small = waiting.await.unwrap();
        assert_eq!(budget.used(), 95);
        assert!(budget.try_work(6).is_none() && budget.try_work(5).is_some());
        drop(small);
        assert_eq!(budget.used(), 75);
    }

    #[tokio::test]
    async fn what_can_be_made_again_takes_a_part_of_the_share_of_work_and_stops_nobody() {
        let budget = MemoryBudget::new(100);
        let _kept = budget.keep(75).unwrap();
        let spare = budget.spare(18).unwrap();
        assert!(budget.spare(1).is_none() && budget.spare(0).is_some());
        assert_eq!((budget.used(), budget.kept()), (93, 75));
        // More than there is: it does not wait for what may stay for good.
        let work = budget.work(30).await;
        assert!(budget.try_work(1).is_none());
        drop((work, spare));
        assert_eq!(budget.used(), 75);
    }

    #[test]
    fn a_process_needs_memory_for_itself() {
        assert_eq!(MemoryBudget::of_process(100).limit(), 80);
        assert_eq!(MemoryBudget::of_process(1 << 30).limit(), (1024 - 96) << 20);
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert!(parse_size("many").is_err());
        assert!(parse_size("5 parsecs").is_err());
    }
}
