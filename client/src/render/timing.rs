//! Where the time of a job went: by phase, by worker, by step, and the one line that says it. Reads the
//! `work` of a result, or of a job under way.
//!
//! Keys read of each entry, all optional: `phase`, `wall_s`, `read_s`, `compute_s`, `merge_s`, `wait_s` (over
//! all workers), `workers {number: {read_s, compute_s, merge_s, wait_s, rows, shards}}`, `waited_for {number:
//! seconds}`, `bytes_read`, `steps {count, wall_s, broadcast_s, compute_s, update_s, overhead_s}`, `shards`.

use serde_json::Value;

use super::tables::{self, Align};
use super::value::{count, entries, number, shown, text};
use super::{Look, format, wrap};

/// What workers do with their time: name, key, and how it is drawn on a terminal and in plain text.
const PARTS: [(&str, &str, char, char); 4] = [
    ("read", "read_s", '▒', 'r'),
    ("compute", "compute_s", '█', 'c'),
    ("merge", "merge_s", '▓', 'm'),
    ("wait", "wait_s", '░', '.'),
];

/// Workers that are shown one by one: those that were busy longest.
const SHOWN_WORKERS: usize = 8;

/// Below this width there is no room for bars beside the numbers.
const BARS_FROM: usize = 78;

/// All that is known: a table by phase, the conclusion, the workers and steps of the longest phase. Empty if
/// no workers took part.
pub fn timing(work: &[Value], look: &Look) -> String {
    let Some(longest) = longest(work) else { return by_phase(work, look) };
    let mut out = by_phase(work, look);
    if let Some(line) = conclusion(work) {
        out += &format!("\n  {}\n", wrap(&line, look.width - 2, 2));
    }
    if let Some(line) = steps(longest) {
        out += &format!("  {}\n", wrap(&line, look.width - 2, 2));
    }
    let workers = by_worker(longest, look);
    if !workers.is_empty() {
        out += &format!("\n{workers}");
    }
    out
}

/// What the longest phase spent most of its workers' time on: `72 % of the workers' time in train was waiting
/// for worker 3, the slowest`.
pub fn conclusion(work: &[Value]) -> Option<String> {
    let entry = longest(work)?;
    let part = |key: &str| number(entry, key).unwrap_or(0.0);
    let (wait, all) = (part("wait_s"), PARTS.iter().map(|(_, key, ..)| part(key)).sum::<f64>());
    let mut waited: Vec<(&str, f64)> =
        entries(entry, "waited_for").iter().map(|(w, s)| (*w, s.as_f64().unwrap_or(0.0))).collect();
    waited.sort_by(|a, b| b.1.total_cmp(&a.1));
    let behind = waited.iter().map(|(_, s)| s).sum::<f64>().min(wait);
    let slowest = waited.first().map_or_else(String::new, |(worker, _)| match waited.len() {
        1 => format!("waiting for worker {worker}, the slowest"),
        _ => format!("waiting for the slowest worker, most often {worker}"),
    });
    let bytes =
        count(entry, "bytes_read").filter(|bytes| *bytes > 0).map(|b| format!(" {}", format::bytes(b))).unwrap_or_default();
    let candidates = [
        (part("compute_s"), "computing".to_owned()),
        (part("read_s"), format!("reading and encoding{bytes}")),
        (part("merge_s"), "merging partials".to_owned()),
        (behind, slowest),
        (wait - behind, "waiting for the coordinator and for messages".to_owned()),
    ];
    let (seconds, what) = candidates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|_| all > 0.0)?;
    let phase = text(entry, "phase").unwrap_or("the job");
    Some(format!("{} of the workers' time in {phase} was {what}", format::percent(seconds / all)))
}

/// The phase that took longest, of those that workers took part in.
fn longest(work: &[Value]) -> Option<&Value> {
    let busy = |entry: &&Value| PARTS.iter().any(|(_, key, ..)| number(entry, key).is_some_and(|s| s > 0.0));
    let wall = |entry: &&Value| number(entry, "wall_s").or(number(entry, "compute_s")).unwrap_or(0.0);
    work.iter().filter(busy).max_by(|a, b| wall(a).total_cmp(&wall(b)))
}

/// What workers did in each phase, in seconds over all workers, and how many shards each one took.
fn by_phase(work: &[Value], look: &Look) -> String {
    let few = |entry: &Value| (1..=4).contains(&entries(entry, "shards").len());
    let shards = work.iter().any(few);
    let mut columns = vec![("workers in", Align::Left)];
    columns.extend(PARTS.map(|(name, ..)| (name, Align::Right)));
    columns.extend(shards.then_some(("shards by worker", Align::Right)));
    let row = |entry: &Value| {
        let parts = PARTS.iter().map(|(_, key, ..)| number(entry, key).map_or_else(|| "-".to_owned(), format::seconds));
        let mut cells: Vec<String> = std::iter::once(text(entry, "phase").unwrap_or("?").to_owned()).chain(parts).collect();
        let taken: Vec<String> = entries(entry, "shards").iter().map(|(_, n)| shown(n)).collect();
        cells.extend(shards.then(|| match taken.len() {
            0 => "-".to_owned(),
            1..=4 => taken.join(" + "),
            many => format!("{many} workers"),
        }));
        cells
    };
    if work.is_empty() { String::new() } else { tables::table(look, &columns, &work.iter().map(row).collect::<Vec<_>>()) }
}

/// `34 steps of 12 ms each: 9.1 ms the busiest worker, 1.2 ms update, 0.3 ms broadcast, 1.4 ms overhead`.
fn steps(entry: &Value) -> Option<String> {
    let steps = entry.get("steps")?;
    let many = count(steps, "count").filter(|n| *n > 1)?;
    let each = |key: &str| number(steps, key).map_or_else(|| "-".to_owned(), |s| format::seconds(s / many as f64));
    Some(format!(
        "{} steps of {} each: {} the busiest worker, {} update, {} broadcast, {} overhead",
        format::count(many),
        each("wall_s"),
        each("compute_s"),
        each("update_s"),
        each("broadcast_s"),
        each("overhead_s")
    ))
}

/// Each worker of a phase, those that were busy longest first, with a bar of what it did.
fn by_worker(entry: &Value, look: &Look) -> String {
    let mut workers: Vec<(&str, [f64; 4], &Value)> = entries(entry, "workers")
        .into_iter()
        .map(|(name, worker)| (name, PARTS.map(|(_, key, ..)| number(worker, key).unwrap_or(0.0)), worker))
        .collect();
    let busy = |parts: &[f64; 4]| parts[0] + parts[1] + parts[2];
    workers.sort_by(|a, b| busy(&b.1).total_cmp(&busy(&a.1)));
    let (all, longest) = (workers.len(), workers.iter().map(|(_, parts, _)| parts.iter().sum::<f64>()).fold(0.0, f64::max));
    if all == 0 || longest <= 0.0 {
        return String::new();
    }
    let bars = (look.width >= BARS_FROM).then(|| (look.width - 66).min(40));
    let mut columns = vec![(text(entry, "phase").unwrap_or("worker"), Align::Left)];
    columns.extend(PARTS.map(|(name, ..)| (name, Align::Right)));
    columns.extend([("rows/s", Align::Right)]);
    columns.extend(bars.map(|_| ("", Align::Whole)));
    let row = |(name, parts, worker): &(&str, [f64; 4], &Value)| {
        let mut cells = vec![format!("worker {name}")];
        cells.extend(parts.map(format::seconds));
        let rate = count(worker, "rows").filter(|_| busy(parts) > 0.0).map(|rows| (rows as f64 / busy(parts)).round() as u64);
        cells.push(rate.map_or_else(|| "-".to_owned(), format::count));
        cells.extend(bars.map(|width| bar(parts, longest, width, look)));
        cells
    };
    let rows: Vec<Vec<String>> = workers.iter().take(SHOWN_WORKERS).map(row).collect();
    let mut out = tables::table(look, &columns, &rows);
    if bars.is_some() {
        let names: Vec<String> =
            PARTS.iter().map(|(name, _, sign, plain)| format!("{} {name}", pick(look, *sign, *plain))).collect();
        out += &format!("  {}\n", names.join("  "));
    }
    if all > SHOWN_WORKERS {
        out += &format!("  {}\n", rest(entry, all));
    }
    out
}

/// What there is to say of workers that are not shown one by one.
fn rest(entry: &Value, all: usize) -> String {
    let skew = entry.get("skew").cloned().unwrap_or_default();
    let busy = |key: &str| number(&skew, key).map_or_else(|| "-".to_owned(), format::seconds);
    let (min, median, max) = (busy("min_s"), busy("median_s"), busy("max_s"));
    format!("and {} more; busy {min} at the least, {median} in the middle, {max} at the most", all - SHOWN_WORKERS)
}

fn pick(look: &Look, sign: char, plain: char) -> char {
    if look.plain { plain } else { sign }
}

/// A bar of `width` columns for the longest worker, its parts in the order of [`PARTS`].
fn bar(parts: &[f64; 4], longest: f64, width: usize, look: &Look) -> String {
    let (mut out, mut sum, mut drawn) = (String::new(), 0.0, 0);
    for (part, (.., sign, plain)) in parts.iter().zip(PARTS) {
        sum += part;
        // Ends are rounded and not lengths, so that the whole is as long as it should be.
        let end = ((sum / longest) * width as f64).round() as usize;
        out.extend(std::iter::repeat_n(pick(look, sign, plain), end.saturating_sub(drawn)));
        drawn = drawn.max(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn work() -> Vec<Value> {
        let worker = |read: f64, compute: f64, wait: f64| json!({"read_s": read, "compute_s": compute, "merge_s": 0.01, "wait_s": wait, "rows": 1_000_000, "shards": 8});
        vec![
            json!({"phase": "profile", "wall_s": 0.3, "read_s": 0.2, "compute_s": 0.1, "merge_s": 0.0, "wait_s": 0.0}),
            json!({
                "phase": "train", "wall_s": 4.2, "read_s": 0.2, "compute_s": 5.0, "merge_s": 0.03, "wait_s": 6.0,
                "bytes_read": 0,
                "workers": {"1": worker(0.1, 0.5, 3.4), "2": worker(0.0, 0.5, 3.4), "3": worker(0.1, 4.0, 0.1)},
                "waited_for": {"3": 5.5},
                "shards": {"1": 8, "2": 8, "3": 8},
                "steps": {"count": 34, "wall_s": 4.1, "broadcast_s": 0.01, "compute_s": 3.9, "update_s": 0.05, "overhead_s": 0.14},
                "skew": {"min_s": 0.51, "median_s": 0.61, "max_s": 4.11}
            }),
        ]
    }

    #[test]
    fn the_conclusion_names_what_took_most() {
        let line = |work: &[Value]| conclusion(work).unwrap_or_default();
        assert_eq!(line(&work()), "49 % of the workers' time in train was waiting for worker 3, the slowest");
        let mut reading = work();
        reading[1]["read_s"] = json!(20.0);
        reading[1]["bytes_read"] = json!(3 << 20);
        assert_eq!(line(&reading), "64 % of the workers' time in train was reading and encoding 3.0 MiB");
        let mut idle = work();
        idle[1]["wait_s"] = json!(60.0);
        assert_eq!(line(&idle), "84 % of the workers' time in train was waiting for the coordinator and for messages");
        let mut several = work();
        several[1]["waited_for"] = json!({"1": 1.0, "3": 4.5});
        assert_eq!(line(&several), "49 % of the workers' time in train was waiting for the slowest worker, most often 3");
        assert_eq!(conclusion(&[]), None);
        assert_eq!(conclusion(&[json!({"phase": "x", "read_s": "odd"})]), None);
    }

    #[test]
    fn it_fits_every_width() {
        for width in [40, 60, 80, 120] {
            for look in [Look::plain(width), Look::terminal(width)] {
                let text = timing(&work(), &look);
                assert!(text.lines().all(|line| line.chars().count() <= width), "wider than {width}:\n{text}");
            }
        }
        let text = timing(&work(), &Look::plain(80));
        assert_eq!(text, include_str!("timing/plain_80.txt"), "\n{text}");
        assert_eq!(timing(&[], &Look::plain(80)), "");
    }

    #[test]
    fn many_workers_are_summed_up() {
        let mut many = work();
        let workers: serde_json::Map<String, Value> =
            (0..20).map(|i| (i.to_string(), json!({"compute_s": 1.0 + f64::from(i), "rows": 10}))).collect();
        many[1]["workers"] = Value::Object(workers);
        let text = timing(&many, &Look::terminal(100));
        assert!(text.contains("worker 19") && !text.contains("worker 3 "), "{text}");
        assert!(text.contains("and 12 more; busy 510 ms at the least"), "{text}");
    }

    #[test]
    fn bars_are_as_long_as_their_sum() {
        assert_eq!(bar(&[1.0, 2.0, 0.0, 1.0], 4.0, 8, &Look::plain(80)), "rrcccc..");
        assert_eq!(bar(&[1.0, 1.0, 0.0, 0.0], 4.0, 8, &Look::terminal(80)), "▒▒██");
        assert_eq!(bar(&[0.01, 0.0, 0.0, 0.0], 4.0, 8, &Look::plain(80)), "");
    }
}
