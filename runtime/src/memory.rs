//! One memory budget per worker. Every large consumer holds grants from it; what it refuses is
//! spilled by the one who asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budget; cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Grant {
    bytes: u64,
    inner: Arc<Inner>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { inner: Arc::new(Inner { limit, used: AtomicU64::new(0) }) }
    }

    /// Grants `bytes`, or nothing if they do not fit.
    pub fn grant(&self, bytes: u64) -> Option<Grant> {
        let fits = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.inner.limit);
        self.inner.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Grant { bytes, inner: Arc::clone(&self.inner) })
    }

    /// Bytes granted now.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Acquire)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.inner.limit
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes, Ordering::AcqRel);
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
    fn grants_end_at_the_limit_and_come_back() {
        let budget = MemoryBudget::new(100);
        let first = budget.grant(60).unwrap();
        assert!(budget.grant(41).is_none());
        let second = budget.grant(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 40);
        drop(second);
        assert_eq!(budget.used(), 0);
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
