//! What a process takes of the machine, read from `/proc`; a process that is gone takes nothing.

use std::time::Duration;

/// Ticks of the kernel's clock in a second, as `/proc` counts them.
const TICKS: u64 = 100;

/// CPU time of a process so far, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Memory that a process holds and that stands in no file, in bytes.
pub fn anonymous_memory(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

/// A size of `/proc/PID/status`, which gives them in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let size = line.and_then(|line| line.split_whitespace().next()).and_then(|size| size.parse::<u64>().ok());
    size.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something_and_a_missing_one_nothing() {
        let (pid, before) = (std::process::id(), cpu_time(std::process::id()));
        let mut sum = 0u64;
        while cpu_time(pid) == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(anonymous_memory(pid) > 100_000);
        assert_eq!((cpu_time(u32::MAX - 1), anonymous_memory(u32::MAX - 1)), (Duration::ZERO, 0));
    }
}
