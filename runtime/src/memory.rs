//! One memory budget per worker. Every large consumer holds grants from it: what is kept (encoded shards) asks
//! and spills what is refused; what is under way (row groups being read, partials on their way out) has a share
//! that nothing may be kept in, waits for it, and never waits for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Part of the limit that nothing may be kept in: a quarter.
const WORK_SHARE: u64 = 4;
/// Most of it: more is not needed to read.
const WORK_MOST: u64 = 256 << 20;

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
    working: u64,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Grant {
    bytes: u64,
    kept: bool,
    inner: Arc<Inner>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { inner: Arc::new(Inner { limit, used: Mutex::default(), freed: Notify::new() }) }
    }

    /// Grants `bytes` to be kept, or nothing if they do not fit beside what is kept, what is under way and the share
    /// of the latter.
    pub fn keep(&self, bytes: u64) -> Option<Grant> {
        let mut used = self.inner.used();
        let work = used.working.max((self.inner.limit / WORK_SHARE).min(WORK_MOST));
        let total = used.kept.checked_add(bytes)?.checked_add(work)?;
        (total <= self.inner.limit).then(|| {
            used.kept += bytes;
            self.inner.grant(bytes, true)
        })
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

    fn try_work(&self, bytes: u64) -> Option<Grant> {
        let mut used = self.inner.used();
        let fits = used.kept.saturating_add(used.working).saturating_add(bytes) <= self.inner.limit;
        (fits || used.working == 0).then(|| {
            used.working = used.working.saturating_add(bytes);
            self.inner.grant(bytes, false)
        })
    }

    /// Counts `bytes` that are there already and will go soon: others wait for them.
    pub fn take(&self, bytes: u64) -> Grant {
        let mut used = self.inner.used();
        used.working = used.working.saturating_add(bytes);
        self.inner.grant(bytes, false)
    }

    /// Bytes granted now.
    pub fn used(&self) -> u64 {
        let used = self.inner.used();
        used.kept.saturating_add(used.working)
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

    fn grant(self: &Arc<Self>, bytes: u64, kept: bool) -> Grant {
        Grant { bytes, kept, inner: Arc::clone(self) }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        {
            let mut used = self.inner.used();
            let part = if self.kept { &mut used.kept } else { &mut used.working };
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

    #[test]
    fn sizes() {
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert!(parse_size("many").is_err());
        assert!(parse_size("5 parsecs").is_err());
    }
}
