//! Jobs of a cluster for people: a listing, a card, log lines.

use serde_json::Value;
use sheaf_proto::v1;

use super::{Align, Look, Mark, facts, format, job_result, table, timing};

/// Characters of a job's progress in a listing; `sheaf jobs show` has all.
const LISTED: usize = 60;

/// A listing, newest first; what did not fit into its limit is counted.
pub fn job_table(jobs: &[v1::JobSummary], matched: u32, now_ms: u64, look: &Look) -> String {
    if jobs.is_empty() {
        return "no jobs; `sheaf submit job.yaml` submits one".to_owned();
    }
    let heads = [
        ("job", Align::Whole),
        ("name", Align::Left),
        ("namespace", Align::Left),
        ("state", Align::Whole),
        ("progress", Align::Left),
        ("age", Align::Right),
    ];
    let row = |job: &v1::JobSummary| {
        vec![
            job.job.clone(),
            job.name.clone(),
            job.namespace.clone(),
            job.state.clone(),
            short(&going(job)),
            format::seconds(now_ms.saturating_sub(job.submitted_ms) as f64 / 1e3),
        ]
    };
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let mut out = table(look, &heads, &rows);
    let hidden = matched.saturating_sub(jobs.len() as u32);
    if hidden > 0 {
        out.push_str(&format!("{hidden} older jobs are not shown; --limit 0 shows all\n"));
    }
    out
}

/// The beginning of a text, for a listing.
fn short(text: &str) -> String {
    match text.char_indices().nth(LISTED) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Where a job stands, in a few words: its open phase, why it waits, or what went wrong.
fn going(job: &v1::JobSummary) -> String {
    if !job.error.is_empty() {
        return job.error.lines().next().unwrap_or_default().to_owned();
    }
    let mut parts = Vec::new();
    if !job.phase.is_empty() {
        parts.push(match job.progress.as_ref().and_then(progress) {
            Some(progress) => format!("{}: {progress}", job.phase),
            None => job.phase.clone(),
        });
    }
    if job.cancel_requested && matches!(job.state.as_str(), "queued" | "running") {
        parts.push("being cancelled".to_owned());
    }
    if !job.waiting.is_empty() {
        parts.push(job.waiting.clone());
    }
    parts.join("; ")
}

fn progress(p: &v1::JobProgress) -> Option<String> {
    match (p.step, p.loss) {
        (Some(step), Some(loss)) => Some(format!("step {step}, loss {}", format::number(loss))),
        _ if p.total > 0 => Some(format!("{} of {}", format::count(p.done), format::count(p.total))),
        _ => None,
    }
}

/// All that is known of a job; what went wrong stands on top.
pub fn job_card(job: &v1::JobSummary, result: Option<&Value>, now_ms: u64, look: &Look) -> String {
    let mut out = String::new();
    if !job.error.is_empty() {
        out.push_str(&format!("{} {}\n\n", look.mark(Mark::Bad), job.error));
    }
    out.push_str(&format!("{}\n", look.bold(&format!("Job {}", job.job))));
    out.push_str(&facts(&known(job, now_ms), look));
    if !job.phases.is_empty() {
        out.push_str(&format!("\n{}\n{}", look.bold("Phases"), phases(job, now_ms, look)));
    }
    match result {
        Some(result) => {
            out.push('\n');
            out.push_str(&job_result(result, look));
        }
        None => out.push_str(&so_far(job, look)),
    }
    out
}

/// Where the time of a job that has no result yet went; what cannot be read is not shown.
fn so_far(job: &v1::JobSummary, look: &Look) -> String {
    let work: Vec<Value> = serde_json::from_str(&job.work).unwrap_or_default();
    let text = timing(&work, look);
    if text.is_empty() { text } else { format!("\n{}\n{text}", look.bold("Where the time went")) }
}

fn known(job: &v1::JobSummary, now_ms: u64) -> Vec<(String, String)> {
    let mut known = vec![
        ("name".to_owned(), job.name.clone()),
        ("state".to_owned(), job.state.clone()),
        ("namespace".to_owned(), format!("{}, priority {}", job.namespace, job.priority)),
        ("submitted".to_owned(), when(job.submitted_ms, now_ms)),
    ];
    let mut add = |name: &str, value: String| known.push((name.to_owned(), value));
    if job.started_ms > 0 {
        let waited = job.started_ms.saturating_sub(job.submitted_ms) as f64 / 1e3;
        add("started", format!("{}, after {} in the queue", when(job.started_ms, now_ms), format::seconds(waited)));
    }
    if job.ended_ms > 0 {
        let from = if job.started_ms > 0 { job.started_ms } else { job.submitted_ms };
        let took = job.ended_ms.saturating_sub(from) as f64 / 1e3;
        add("ended", format!("{}, after {}", when(job.ended_ms, now_ms), format::seconds(took)));
    } else if job.deadline_ms > 0 {
        let left = job.deadline_ms.saturating_sub(now_ms) as f64 / 1e3;
        add("deadline", format!("in {}", format::seconds(left)));
    }
    let going = if job.ended_ms == 0 { going(job) } else { String::new() };
    if !going.is_empty() {
        add("now", going);
    }
    if let Some(rate) = job.progress.as_ref().map(|p| p.rows_per_second).filter(|rate| *rate >= 1.0) {
        add("speed", format!("{} rows/s", format::count(rate as u64)));
    }
    if job.restarts > 0 {
        add("restarts", format!("taken up again {} times by a restarted coordinator", job.restarts));
    }
    if !job.retry_of.is_empty() {
        add("tries again", job.retry_of.clone());
    }
    if let Some(estimate) = &job.estimate {
        add("expected", estimate_text(estimate));
    }
    known
}

/// A time and how long ago it was.
fn when(ms: u64, now_ms: u64) -> String {
    let ago = format::seconds(now_ms.saturating_sub(ms) as f64 / 1e3);
    format!("{} ({ago} ago)", clock(ms))
}

/// A time in UTC.
fn clock(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

fn phases(job: &v1::JobSummary, now_ms: u64, look: &Look) -> String {
    let row = |phase: &v1::PhaseSummary| {
        let end = if phase.ended_ms > 0 { phase.ended_ms } else { now_ms };
        let seconds = end.saturating_sub(phase.started_ms) as f64 / 1e3;
        let state = if phase.ended_ms > 0 { "" } else { "open" };
        vec![phase.phase.clone(), format::seconds(seconds), state.to_owned()]
    };
    let rows: Vec<Vec<String>> = job.phases.iter().map(row).collect();
    table(look, &[("phase", Align::Left), ("time", Align::Right), ("", Align::Left)], &rows)
}

/// A log line: `2026-10-01T12:00:00.000Z warn train step 12 worker 3: its control stream broke`.
pub fn log_line(line: &v1::LogLine) -> String {
    let mut out = format!("{} {:<5}", clock(line.time_ms), line.level);
    if !line.phase.is_empty() {
        out.push_str(&format!(" {}", line.phase));
    }
    if let Some(step) = line.step {
        out.push_str(&format!(" step {step}"));
    }
    if let Some(worker) = line.worker {
        out.push_str(&format!(" worker {worker}"));
    }
    let colon = if out.ends_with(&line.level) || out.ends_with(' ') { "" } else { ":" };
    out.push_str(&format!("{colon} {}", line.text));
    out
}

/// An estimate in words.
pub fn estimate_text(e: &v1::JobEstimate) -> String {
    let amount = |n: u64, unit: &str| format!("{} {unit}{}", format::count(n), if n == 1 { "" } else { "s" });
    let work =
        format!("{} before filters in {}, {}", amount(e.rows, "row"), amount(e.units, "row group"), amount(e.shards, "shard"));
    let memory = match (e.encoded_bytes, e.workers, e.spills) {
        (0, _, _) => String::new(),
        (bytes, 0, _) => format!("; about {} encoded", format::bytes(bytes)),
        (bytes, _, false) => {
            format!("; about {} encoded, which fits into the workers' {}", format::bytes(bytes), format::bytes(e.memory_bytes))
        }
        (bytes, _, true) => format!(
            "; about {} encoded, of which the workers hold {} in memory; the rest goes to their disks",
            format::bytes(bytes),
            format::bytes(e.memory_bytes)
        ),
    };
    let waits = if e.workers == 0 { "; there are no workers yet, so it waits for some" } else { "" };
    format!("{work}{memory}{waits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> v1::JobSummary {
        v1::JobSummary {
            job: "01KM3F8Q2R000000000000000A".into(),
            name: "card-fraud".into(),
            namespace: "team-a".into(),
            state: "running".into(),
            phase: "train".into(),
            progress: Some(v1::JobProgress { step: Some(12), loss: Some(0.25), rows_per_second: 1e6, ..Default::default() }),
            submitted_ms: 1_000,
            started_ms: 3_000,
            phases: vec![v1::PhaseSummary { phase: "train".into(), started_ms: 4_000, ended_ms: 0 }],
            ..Default::default()
        }
    }

    #[test]
    fn a_listing_says_where_jobs_stand() {
        let text = job_table(&[job()], 3, 61_000, &Look::plain(120));
        assert!(text.contains("train: step 12, loss 0.2500") && text.contains("1 min 00 s"), "{text}");
        assert!(text.ends_with("2 older jobs are not shown; --limit 0 shows all\n"), "{text}");
        let failed = v1::JobSummary { state: "failed".into(), error: "shard 7 failed\nmore".into(), ..job() };
        assert!(job_table(&[failed], 1, 61_000, &Look::plain(120)).contains("shard 7 failed"));
        assert!(job_table(&[job()], 1, 61_000, &Look::plain(60)).lines().all(|l| l.chars().count() <= 60));
    }

    #[test]
    fn long_texts_are_cut_in_listings_only() {
        let job = v1::JobSummary { error: "é".repeat(100), ..job() };
        let listed = job_table(std::slice::from_ref(&job), 1, 61_000, &Look::plain(160));
        assert!(listed.contains(&format!("{}…", "é".repeat(60))) && !listed.contains(&"é".repeat(61)), "{listed}");
        assert!(job_card(&job, None, 61_000, &Look::plain(160)).contains(&"é".repeat(100)));
    }

    #[test]
    fn a_card_puts_the_error_on_top() {
        let failed = v1::JobSummary { state: "failed".into(), error: "shard 7 failed".into(), ended_ms: 9_000, ..job() };
        let text = job_card(&failed, None, 61_000, &Look::plain(80));
        assert!(text.starts_with("FAIL shard 7 failed\n"), "{text}");
        assert!(text.contains("after 2.0 s in the queue") && text.contains("after 6.0 s"), "{text}");
    }

    #[test]
    fn log_lines_read_as_sentences() {
        let line = v1::LogLine {
            time_ms: 0,
            level: "warn".into(),
            phase: "train".into(),
            step: Some(12),
            worker: Some(3),
            text: "lost".into(),
        };
        assert_eq!(log_line(&line), "1970-01-01T00:00:00.000Z warn  train step 12 worker 3: lost");
        let bare = v1::LogLine { level: "error".into(), text: "job failed".into(), ..Default::default() };
        assert_eq!(log_line(&bare), "1970-01-01T00:00:00.000Z error job failed");
    }

    #[test]
    fn estimates_say_what_matters() {
        let estimate = v1::JobEstimate { rows: 2_000_000, units: 20, shards: 31, encoded_bytes: 3 << 30, ..Default::default() };
        let none = estimate_text(&estimate);
        assert!(none.contains("2,000,000 rows") && none.ends_with("so it waits for some"), "{none}");
        let fits = estimate_text(&v1::JobEstimate { workers: 2, memory_bytes: 4 << 30, ..estimate });
        assert!(fits.ends_with("about 3.0 GiB encoded, which fits into the workers' 4.0 GiB"), "{fits}");
        let spills = estimate_text(&v1::JobEstimate { workers: 2, memory_bytes: 1 << 30, spills: true, ..estimate });
        assert!(spills.ends_with("hold 1.0 GiB in memory; the rest goes to their disks"), "{spills}");
    }
}
