//! The result of a job as text: what the `-o json` object says, for people.
//!
//! Keys read, all optional: `job`, `name`, `state`, `error`, `model {name, version, sha256}` (or
//! `{reference, sha256}`), `metrics {segment: {metric: value}}`, `undefined {segment: {metric: reason}}`,
//! `classes` and `confusion` (see [`super::classes`]), `rows {prepared, segment: n}`, `limits [{name, min, max, value, passed}]`, `checks [{name, passed,
//! severity, violations, rows, message}]`, `phases [{name, seconds, rows}]`, `work [..]` (see
//! [`super::timing`]), `training {iterations, converged, loss: [..], validation_loss: [..]}`,
//! `outputs`, `warnings [text]`.

use serde_json::Value;

use super::tables::{self, Align};
use super::value::{count, entries, list, number, shown, text};
use super::{Look, Mark, classes, format, plot, wrap};

/// Segments in the order in which they are shown; others follow by name.
const SEGMENTS: [&str; 3] = ["train", "validation", "test"];

/// A job's result: one text with every section that the object has something for. Ends with a line break.
pub fn job_result(result: &Value, look: &Look) -> String {
    let sections = [
        headline(result, look),
        metrics(result, look),
        classes::measures(result, look),
        classes::confusion(result, look),
        limits(result, look),
        checks(result, look),
        training(result, look),
        time(result, look),
        outputs(result, look),
        warnings(result, look),
        model(result, look),
        next(result, look),
    ];
    let shown: Vec<String> = sections.into_iter().flatten().collect();
    shown.join("\n")
}

/// A section: its heading and its lines. None without lines.
fn section(look: &Look, heading: &str, body: String) -> Option<String> {
    (!body.is_empty()).then(|| format!("{}\n{body}", look.bold(heading)))
}

fn headline(result: &Value, look: &Look) -> Option<String> {
    let state = text(result, "state").unwrap_or("unknown");
    let seconds: f64 = list(result, "phases").iter().filter_map(|p| number(p, "seconds")).sum();
    let rows = rows(result);
    let mut parts = vec![look.bold(text(result, "name").unwrap_or("job")), state.to_owned()];
    if rows > 0 {
        parts.push(format!("{} rows", format::count(rows)));
    }
    if seconds > 0.0 {
        parts.push(format::seconds(seconds));
    }
    let separator = if look.plain { ", " } else { " · " };
    let mut lines = format!("{}\n", parts.join(separator));
    if let Some(job) = text(result, "job") {
        lines += &format!("  job {job}\n");
    }
    if let Some(error) = text(result, "error") {
        lines += &format!("  {} {}\n", look.mark(Mark::Bad), wrap(error, look.width - 7, 4));
    }
    Some(lines)
}

/// Rows of the job: those prepared or scored, else those of the segments.
fn rows(result: &Value) -> u64 {
    let counts = entries(result, "rows");
    let of = |name: &str| counts.iter().find(|(key, _)| *key == name).and_then(|(_, v)| v.as_u64());
    of("prepared").or_else(|| of("scored")).unwrap_or_else(|| SEGMENTS.iter().filter_map(|s| of(s)).sum())
}

/// Segments that have metrics or rows, the known ones first.
fn segments<'a>(result: &'a Value, key: &str) -> Vec<(&'a str, &'a Value)> {
    let mut found = entries(result, key);
    found.sort_by_key(|(name, _)| (SEGMENTS.iter().position(|s| s == name).unwrap_or(SEGMENTS.len()), *name));
    found
}

/// A table: a line per metric, a column per segment.
pub(super) fn metrics(result: &Value, look: &Look) -> Option<String> {
    let segments = segments(result, "metrics");
    let mut names: Vec<&str> = Vec::new();
    for (_, metrics) in &segments {
        let new = metrics.as_object().into_iter().flatten().map(|(k, _)| k.as_str());
        names.extend(new.filter(|n| !names.contains(n)).collect::<Vec<_>>());
    }
    if names.is_empty() {
        return None;
    }
    let mut columns = vec![("metric", Align::Left)];
    columns.extend(segments.iter().map(|(name, _)| (*name, Align::Right)));
    let line = |name: &str, cell: &dyn Fn(&str, &Value) -> String| {
        let cells = segments.iter().map(|(segment, metrics)| cell(segment, metrics));
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<String>>()
    };
    let mut rows: Vec<Vec<String>> =
        names.iter().map(|name| line(name, &|_, metrics| metrics.get(name).map_or_else(|| "-".to_owned(), shown))).collect();
    let counts = line("rows", &|segment, _| {
        result.get("rows").and_then(|rows| count(rows, segment)).map_or_else(|| "-".to_owned(), format::count)
    });
    if counts.iter().skip(1).any(|n| n != "-") {
        rows.push(counts);
    }
    Some(tables::table(look, &columns, &rows) + &undefined(result, look))
}

/// Why a metric has no value, a line each.
fn undefined(result: &Value, look: &Look) -> String {
    let lines = segments(result, "undefined").into_iter().flat_map(|(segment, metrics)| {
        let reasons = metrics.as_object().into_iter().flatten();
        reasons.map(move |(metric, why)| format!("{segment}.{metric} is not defined: {}", shown(why)))
    });
    lines.map(|line| format!("  {}\n", wrap(&line, look.width - 2, 4))).collect()
}

fn limits(result: &Value, look: &Look) -> Option<String> {
    let line = |limit: &Value| {
        let passed = limit.get("passed").and_then(Value::as_bool).unwrap_or(false);
        let name = text(limit, "name").unwrap_or("?");
        let bound = |key: &str, sign: &str| number(limit, key).map(|n| format!("{sign} {n}"));
        let (least, most) = if look.plain { (">=", "<=") } else { ("≥", "≤") };
        let bounds: Vec<String> = [bound("min", least), bound("max", most)].into_iter().flatten().collect();
        let value = number(limit, "value").map_or_else(|| "undefined".to_owned(), format::number);
        let mark = look.mark(if passed { Mark::Good } else { Mark::Bad });
        format!("  {mark} {name} is {value}, limit {}\n", bounds.join(" and "))
    };
    section(look, "limits", list(result, "limits").iter().map(line).collect())
}

fn checks(result: &Value, look: &Look) -> Option<String> {
    let line = |check: &Value| {
        let passed = check.get("passed").and_then(Value::as_bool).unwrap_or(false);
        let mark = match (passed, text(check, "severity")) {
            (true, _) => Mark::Good,
            (false, Some("warn")) => Mark::Warn,
            (false, _) => Mark::Bad,
        };
        let mut words = text(check, "name").unwrap_or("check").to_owned();
        if let Some(message) = text(check, "message").filter(|m| !m.is_empty() && !passed) {
            words += &format!(": {message}");
        } else if let (Some(violations), Some(rows)) = (count(check, "violations"), count(check, "rows")) {
            let rows = format!("{} rows", format::count(rows));
            words +=
                &if violations == 0 { format!("  ({rows})") } else { format!("  ({} of {rows})", format::count(violations)) };
        }
        format!("  {} {}\n", look.mark(mark), wrap(&words, look.width - 7, 4))
    };
    section(look, "checks", list(result, "checks").iter().map(line).collect())
}

fn training(result: &Value, look: &Look) -> Option<String> {
    let training = result.get("training")?;
    let losses: Vec<f64> = list(training, "loss").iter().map(|l| l.as_f64().unwrap_or(f64::NAN)).collect();
    let mut facts = Vec::new();
    if let Some(iterations) = count(training, "iterations") {
        facts.push(format!("{} iterations", format::count(iterations)));
    }
    if let Some(converged) = training.get("converged").and_then(Value::as_bool) {
        facts.push(if converged { "converged" } else { "did not converge" }.to_owned());
    }
    if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
        let arrow = if look.plain { "to" } else { "→" };
        facts.push(format!("loss {} {arrow} {}", format::number(*first), format::number(*last)));
    }
    let validation = list(training, "validation_loss").iter().filter_map(Value::as_f64).min_by(f64::total_cmp);
    facts.extend(validation.map(|best| format!("best validation loss {}", format::number(best))));
    let mut body = if facts.is_empty() { String::new() } else { format!("  {}\n", facts.join(", ")) };
    if losses.len() > 1 {
        body += &format!("  {}\n", plot::curve(&losses, (look.width - 4).min(60), look));
    }
    section(look, "training", body)
}

fn time(result: &Value, look: &Look) -> Option<String> {
    let phases: Vec<(&str, f64, Option<u64>)> =
        list(result, "phases").iter().filter_map(|p| Some((text(p, "name")?, number(p, "seconds")?, count(p, "rows")))).collect();
    let total: f64 = phases.iter().map(|p| p.1).sum();
    let name_width = phases.iter().map(|p| p.0.chars().count()).max().unwrap_or(0);
    let rate = |seconds: f64, rows: Option<u64>| rows.map(|rows| format::rate(rows, seconds, "rows")).unwrap_or_default();
    let rate_width = phases.iter().map(|p| rate(p.1, p.2).chars().count() + 2).max().unwrap_or(0);
    let bar_width = look.width.saturating_sub(name_width + rate_width + 24).clamp(4, 40);
    let line = |(name, seconds, rows): &(&str, f64, Option<u64>)| {
        let share = if total > 0.0 { seconds / total } else { 0.0 };
        let (bar, rate) = (plot::bar(share, bar_width, look), rate(*seconds, *rows));
        let (seconds, share) = (format::seconds(*seconds), format::percent(share));
        let text = format!("  {name:<name_width$}  {seconds:>10}  {share:>6}  {bar:<bar_width$}  {rate}");
        format!("{}\n", text.trim_end())
    };
    let mut body: String = phases.iter().map(line).collect();
    let work = super::timing::timing(list(result, "work"), look);
    if !work.is_empty() {
        body += &format!("\n{work}");
    }
    section(look, "where the time went", body)
}

fn outputs(result: &Value, look: &Look) -> Option<String> {
    let facts: Vec<(String, String)> = match result.get("outputs") {
        Some(Value::Object(map)) => map.iter().map(|(k, v)| (k.clone(), shown(v))).collect(),
        Some(Value::Array(items)) => items.iter().map(|v| ("wrote".to_owned(), shown(v))).collect(),
        _ => Vec::new(),
    };
    section(look, "outputs", tables::facts(&facts, look))
}

fn warnings(result: &Value, look: &Look) -> Option<String> {
    let line = |warning: &Value| format!("  {} {}\n", look.mark(Mark::Warn), wrap(&shown(warning), look.width - 7, 4));
    section(look, "warnings", list(result, "warnings").iter().map(line).collect())
}

/// `name@version` of the published model.
fn reference(result: &Value) -> Option<String> {
    let model = result.get("model")?;
    Some(format!("{}@{}", text(model, "name")?, model.get("version").filter(|v| !v.is_null()).map(shown)?))
}

fn model(result: &Value, look: &Look) -> Option<String> {
    let model = result.get("model").filter(|model| model.is_object())?;
    let mut facts = Vec::new();
    match (reference(result), text(model, "reference")) {
        (Some(published), _) => facts.push(("published".to_owned(), published)),
        (None, Some(used)) => facts.push(("used".to_owned(), used.to_owned())),
        (None, None) => {
            let job = text(result, "job").unwrap_or("?");
            facts.push(("kept".to_owned(), format!("under its job {job}, not in the registry")));
        }
    }
    if let Some(sha256) = text(model, "sha256") {
        facts.push(("sha256".to_owned(), fitting_hash(sha256, look.width.saturating_sub(13))));
    }
    section(look, "model", tables::facts(&facts, look))
}

/// The hash, or its first half if that is all there is room for.
pub(super) fn fitting_hash(hash: &str, width: usize) -> String {
    if hash.len() <= width { hash.to_owned() } else { format!("{}...", hash.chars().take(32).collect::<String>()) }
}

fn next(result: &Value, look: &Look) -> Option<String> {
    let failed = text(result, "state") == Some("failed");
    let broken = list(result, "limits").iter().any(|l| l.get("passed").and_then(Value::as_bool) == Some(false));
    let lines: Vec<String> = match reference(result) {
        Some(model) => vec![format!("sheaf models show {model}"), format!("sheaf predict {model} --table NAME=PATH --to FOLDER")],
        None if broken => vec!["nothing was published, a limit is broken: change the job file and run it again".to_owned()],
        None if failed => vec!["nothing was published: correct what the message names and run it again".to_owned()],
        None => Vec::new(),
    };
    let line = |l: &String| format!("  {}\n", wrap(l, look.width - 2, 2));
    section(look, "next", lines.iter().map(line).collect())
}

#[cfg(test)]
mod tests;
