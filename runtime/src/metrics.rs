//! Metrics as Prometheus reads them: names `sheaf_*`, base units, and labels only from closed lists, so
//! that the number of series is bounded. `docs/metrics.md` lists every one.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

/// Kernel ticks per second in `/proc/self/stat`: 100 on every Linux that Sheaf is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// A number that only rises.
pub type Count = Counter<u64>;

/// A number that rises and falls.
pub type Level = Gauge<i64>;

/// Seconds that add up.
#[derive(Debug, Clone, Default)]
pub struct Seconds(Counter<f64, AtomicU64>);

impl Seconds {
    /// Adds a span.
    pub fn add(&self, span: Duration) {
        self.0.inc_by(span.as_secs_f64());
    }

    /// Adds nanoseconds.
    pub fn add_ns(&self, ns: u64) {
        self.0.inc_by(ns as f64 / 1e9);
    }
}

/// Spans of time in buckets from 10 µs to about 84 s.
#[derive(Debug, Clone)]
pub struct Spans(Histogram);

impl Default for Spans {
    fn default() -> Self {
        let buckets = (0..12).map(|power| 1e-5 * 4f64.powi(power) * 2.0);
        Self(Histogram::new(buckets))
    }
}

impl Spans {
    /// Takes in a span.
    pub fn observe(&self, span: Duration) {
        self.0.observe(span.as_secs_f64());
    }
}

/// A label's name and its value.
type Label = [(&'static str, &'static str); 1];

/// One metric for each value of one label. The values are a closed list, and all are there from the start.
#[derive(Debug)]
pub struct By<M> {
    family: Family<Label, M>,
    label: &'static str,
    values: &'static [&'static str],
}

impl<M> Clone for By<M> {
    fn clone(&self) -> Self {
        Self { family: self.family.clone(), label: self.label, values: self.values }
    }
}

impl<M: Default + Clone> By<M> {
    /// Of the value; one that is not in the list counts as the last of it.
    pub fn of(&self, value: &str) -> M {
        let known = self.values.iter().find(|known| **known == value).or(self.values.last()).copied().unwrap_or_default();
        self.family.get_or_create(&[(self.label, known)]).clone()
    }
}

/// The metrics of one process.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
}

impl Exposition {
    /// Those that every program has: what it is, since when it runs, and what it takes of the machine.
    pub fn new(program: &'static str) -> Self {
        let mut registry = Registry::with_prefix("sheaf");
        let labels = vec![
            ("program", program.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("numeric_version", crate::NUMERIC_VERSION.to_string()),
        ];
        registry.register("build", "What runs here", Info::new(labels));
        registry.register_collector(Box::new(Process { began: Instant::now() }));
        Self { registry }
    }

    /// A number that only rises. Its name is shown with `_total` behind it.
    pub fn count(&mut self, name: &str, help: &str) -> Count {
        self.add(name, help, Count::default())
    }

    /// A number that rises and falls.
    pub fn level(&mut self, name: &str, help: &str) -> Level {
        self.add(name, help, Level::default())
    }

    /// Seconds that add up. Its name is shown with `_total` behind it.
    pub fn seconds(&mut self, name: &str, help: &str) -> Seconds {
        let seconds = Seconds::default();
        self.registry.register(name, help, seconds.0.clone());
        seconds
    }

    /// Spans of time in buckets.
    pub fn spans(&mut self, name: &str, help: &str) -> Spans {
        let spans = Spans::default();
        self.registry.register(name, help, spans.0.clone());
        spans
    }

    /// Numbers that only rise, one for each value of a label.
    pub fn counts(&mut self, name: &str, help: &str, label: &'static str, values: &'static [&'static str]) -> By<Count> {
        self.by(name, help, label, values)
    }

    /// Numbers that rise and fall, one for each value of a label.
    pub fn levels(&mut self, name: &str, help: &str, label: &'static str, values: &'static [&'static str]) -> By<Level> {
        self.by(name, help, label, values)
    }

    fn by<M>(&mut self, name: &str, help: &str, label: &'static str, values: &'static [&'static str]) -> By<M>
    where
        M: Default + Clone + Metric + prometheus_client::metrics::TypedMetric,
    {
        let family = self.add(name, help, Family::<Label, M>::default());
        for value in values {
            drop(family.get_or_create(&[(label, *value)]));
        }
        By { family, label, values }
    }

    fn add<M: Clone + Metric>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        metric
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).map_err(|e| format!("write metrics: {e}"))?;
        Ok(text)
    }
}

/// What the operating system says of this process; nothing where there is no `/proc`.
#[derive(Debug)]
struct Process {
    began: Instant,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let uptime = ConstGauge::new(self.began.elapsed().as_secs_f64());
        let help = "Time since the process set its metrics up.";
        uptime.encode(encoder.encode_descriptor("uptime_seconds", help, None, uptime.metric_type())?)?;
        let Some(usage) = Usage::of_this_process() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let help = "User and system time of all threads.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        let levels = [
            ("process_resident_memory_bytes", "Memory that stands in RAM.", usage.resident_bytes),
            ("process_threads", "Threads.", usage.threads),
            ("process_open_files", "Open file descriptors.", usage.open_files),
        ];
        for (name, help, value) in levels {
            let level = ConstGauge::new(value);
            level.encode(encoder.encode_descriptor(name, help, None, level.metric_type())?)?;
        }
        Ok(())
    }
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Memory that stands in RAM.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_files: u64,
}

impl Usage {
    /// Of this process; `None` where there is no `/proc`.
    pub fn of_this_process() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let (cpu_seconds, threads) = read_stat(&stat)?;
        Some(Self { cpu_seconds, resident_bytes: read_resident(&status)?, threads, open_files })
    }
}

/// Processor seconds and threads. The name in parentheses may hold anything, so fields count from behind it.
fn read_stat(stat: &str) -> Option<(f64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(((ticks(11)? + ticks(12)?) as f64 / TICKS_PER_SECOND, ticks(17)?))
}

fn read_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn everything_is_shown_from_the_start() {
        let mut exposition = Exposition::new("test");
        let blocks = exposition.counts("blocks_refused", "Refused blocks", "reason", &["stale", "other"]);
        let steps = exposition.spans("step_seconds", "Time of a step");
        let read = exposition.seconds("read_seconds", "Time spent reading");
        blocks.of("stale").inc();
        blocks.of("never heard of").inc_by(2);
        steps.observe(Duration::from_millis(3));
        read.add_ns(1_500_000_000);
        let text = exposition.text().unwrap();
        for line in [
            "sheaf_blocks_refused_total{reason=\"stale\"} 1",
            "sheaf_blocks_refused_total{reason=\"other\"} 2",
            "sheaf_step_seconds_count 1",
            "sheaf_read_seconds_total 1.5",
            "# TYPE sheaf_process_resident_memory_bytes gauge",
            "# HELP sheaf_blocks_refused Refused blocks.",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_process_is_read_from_proc() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 2 3";
        assert_eq!(read_stat(stat), Some((3.0, 9)));
        assert_eq!(read_resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(read_stat("nonsense"), None);
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.threads >= 1 && usage.open_files >= 3);
    }
}
