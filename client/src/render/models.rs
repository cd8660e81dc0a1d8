//! Models of the registry as text: the list and the card of one.

use serde_json::Value;

use super::tables::{self, Align};
use super::value::{count, entries, list, number, shown, text};
use super::{Look, classes, format, plot, report};

/// Coefficients, or importances, shown on a card.
const COEFFICIENTS: usize = 25;

/// The list of `sheaf models list`: `name`, `version`, `aliases`, `algorithm`, `created`, `sha256` of each
/// manifest. Ends with a line break.
pub fn models_table(models: &[Value], look: &Look) -> String {
    if models.is_empty() {
        return "no models: `sheaf run` of a job file with a `publish` section makes one\n".to_owned();
    }
    // A narrow terminal shows less, rather than words cut into pieces.
    let (wide, narrow) = (look.width >= 110, look.width < 80);
    let mut columns = vec![("model", Align::Left), ("version", Align::Right), ("aliases", Align::Left)];
    columns.extend((!narrow).then_some(("algorithm", Align::Left)));
    columns.push(("created", Align::Whole));
    columns.extend(wide.then_some(("sha256", Align::Whole)));
    let cell = |model: &Value, key: &str| model.get(key).map_or_else(|| "-".to_owned(), shown);
    let start = |text: String, length: usize| text.chars().take(length).collect::<String>();
    let row = |model: &Value| {
        let aliases: Vec<String> = list(model, "aliases").iter().map(shown).collect();
        let mut cells = vec![cell(model, "name"), cell(model, "version"), aliases.join(", ")];
        cells.extend((!narrow).then(|| cell(model, "algorithm")));
        cells.push(start(cell(model, "created"), if wide { 20 } else { 10 }));
        cells.extend(wide.then(|| start(cell(model, "sha256"), 12)));
        cells
    };
    tables::table(look, &columns, &models.iter().map(row).collect::<Vec<_>>())
}

/// The card of `sheaf models show`: `name`, `version`, `aliases`, `algorithm`, `parameters`, `created`,
/// `sha256`, `metrics` and `rows` by segment, `classes` and `confusion` (see [`super::classes`]), `intercept`, `coefficients {feature: value}`,
/// `standard_errors`, `importances {feature: {gain, cover, splits}}`, and how it came to be (`job_id`, `job`, `data_fingerprint`, `numeric_version`,
/// `code_version`, `artifact`) of a manifest. Ends with a line break.
pub fn model_card(manifest: &Value, look: &Look) -> String {
    let name = manifest.get("name").map_or_else(|| "model".to_owned(), shown);
    let version = manifest.get("version").map(|v| format!("@{}", shown(v))).unwrap_or_default();
    let title = format!("{}\n{}", look.bold(&format!("{name}{version}")), facts(manifest, look));
    let metrics = report::metrics(manifest, look);
    let (measures, confusion) = (classes::measures(manifest, look), classes::confusion(manifest, look));
    let sections = [
        Some(title),
        metrics,
        measures,
        confusion,
        coefficients(manifest, look),
        importances(manifest, look),
        lineage(manifest, look),
    ];
    sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn facts(manifest: &Value, look: &Look) -> String {
    let mut facts = named(manifest, &["algorithm", "created"]);
    if let Some(sha256) = text(manifest, "sha256") {
        facts.push(("sha256".to_owned(), report::fitting_hash(sha256, look.width.saturating_sub(14))));
    }
    let params = manifest.get("parameters").filter(|p| p.is_object()).map(exact).filter(|p| !p.is_empty());
    facts.push(("params".to_owned(), params.unwrap_or_else(|| "all defaults".to_owned())));
    facts.extend(classes::names(manifest).map(|names| ("classes".to_owned(), names)));
    let aliases: Vec<String> = list(manifest, "aliases").iter().map(shown).collect();
    if !aliases.is_empty() {
        facts.push(("aliases".to_owned(), aliases.join(", ")));
    }
    for (name, export) in entries(manifest, "exports") {
        let size = count(export, "bytes").map(format::bytes).unwrap_or_default();
        facts.push((name.to_owned(), format!("{} ({size})", text(export, "file").unwrap_or_default())));
    }
    tables::facts(&facts, look)
}

/// The values of these keys, where they are.
fn named(value: &Value, keys: &[&str]) -> Vec<(String, String)> {
    let there = |key: &&str| value.get(*key).filter(|v| !v.is_null()).map(|v| ((*key).replace('_', " "), exact(v)));
    keys.iter().filter_map(there).collect()
}

/// A value as it was given, not rounded; entries of an object one after the other, as a job file has them.
fn exact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => entries_of(map),
        other => flow(other),
    }
}

fn entries_of(map: &serde_json::Map<String, Value>) -> String {
    map.iter().map(|(key, value)| format!("{}: {}", word(key), flow(value))).collect::<Vec<_>>().join(", ")
}

/// A value as one writes it in a job file, on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => format!("{{{}}}", entries_of(map)),
        other => other.to_string(),
    }
}

/// A text as YAML reads it back: quoted where it would be something else.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c))
        && !matches!(text, "true" | "false" | "null" | "True" | "False" | "Null" | "TRUE" | "FALSE" | "NULL");
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

/// The intercept and the largest coefficients by absolute value; ties by name.
fn coefficients(manifest: &Value, look: &Look) -> Option<String> {
    let mut found: Vec<(&str, f64)> =
        entries(manifest, "coefficients").into_iter().filter_map(|(name, v)| Some((name, v.as_f64()?))).collect();
    if found.is_empty() {
        return None;
    }
    found.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then_with(|| a.0.cmp(b.0)));
    let largest = found[0].1.abs();
    let errors = manifest.get("standard_errors").filter(|e| e.is_object());
    let mut columns = vec![("feature", Align::Left), ("coefficient", Align::Right)];
    if errors.is_some() {
        columns.push(("std. error", Align::Right));
    }
    columns.push(("", Align::Whole));
    let row = |name: &str, value: f64, share: f64| {
        let mut cells = vec![name.to_owned(), format::number(value)];
        if let Some(errors) = errors {
            cells.push(number(errors, name).map(format::number).unwrap_or_default());
        }
        cells.push(plot::bar(share, (look.width / 5).min(16), look));
        cells
    };
    let mut rows: Vec<Vec<String>> =
        number(manifest, "intercept").map(|value| row("(intercept)", value, 0.0)).into_iter().collect();
    let share = |value: f64| if largest > 0.0 { value.abs() / largest } else { 0.0 };
    rows.extend(found.iter().take(COEFFICIENTS).map(|(name, value)| row(name, *value, share(*value))));
    let mut text = tables::table(look, &columns, &rows);
    if found.len() > COEFFICIENTS {
        let more = format::count((found.len() - COEFFICIENTS) as u64);
        text += &format!("  and {more} smaller ones: -o json shows all\n");
    }
    Some(text)
}

/// The features that gain most, each with its share of what all gain; ties by name.
fn importances(manifest: &Value, look: &Look) -> Option<String> {
    let gain = |(name, value)| Some((name, value, number(value, "gain")?));
    let mut found: Vec<(&str, &Value, f64)> = entries(manifest, "importances").into_iter().filter_map(gain).collect();
    let all: f64 = found.iter().map(|(_, _, gain)| gain).sum();
    if found.is_empty() {
        return None;
    }
    found.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(b.0)));
    let largest = found[0].2;
    let share = |gain: f64, of: f64| if of > 0.0 { gain / of } else { 0.0 };
    let row = |(name, value, gain): &(&str, &Value, f64)| {
        let splits = count(value, "splits").map(format::count).unwrap_or_default();
        let bar = plot::bar(share(*gain, largest), (look.width / 5).min(16), look);
        vec![(*name).to_owned(), format!("{:.1} %", 100.0 * share(*gain, all)), splits, bar]
    };
    let columns = [("feature", Align::Left), ("gain", Align::Right), ("splits", Align::Right), ("", Align::Whole)];
    let rows: Vec<Vec<String>> = found.iter().take(COEFFICIENTS).map(row).collect();
    let mut text = tables::table(look, &columns, &rows);
    if found.len() > COEFFICIENTS {
        let more = format::count((found.len() - COEFFICIENTS) as u64);
        text += &format!("  and {more} smaller ones: -o json shows all\n");
    }
    Some(text)
}

/// The model that training went on from.
fn continued(earlier: &Value) -> Option<(String, String)> {
    let name = match (text(earlier, "name"), count(earlier, "version")) {
        (Some(name), Some(version)) => format!("{name}@{version}"),
        _ => text(earlier, "reference")?.to_owned(),
    };
    let hash: String = text(earlier, "sha256")?.chars().take(12).collect();
    Some(("goes on from".to_owned(), format!("{name} ({hash})")))
}

/// How the model came to be.
fn lineage(manifest: &Value, look: &Look) -> Option<String> {
    let mut facts = named(manifest, &["job_id", "data_fingerprint", "code_version", "numeric_version", "artifact"]);
    for (_, value) in facts.iter_mut().filter(|(name, _)| name == "artifact" || name == "data fingerprint") {
        *value = report::fitting_hash(value, look.width.saturating_sub(24));
    }
    facts.extend(manifest.get("warm_start").and_then(continued));
    if let Some(job) = manifest.get("job") {
        facts.extend(named(job, &["seed", "split"]));
        let tables = list(job, "tables").iter();
        facts.extend(tables.filter_map(|t| Some((format!("table {}", text(t, "name")?), text(t, "path")?.to_owned()))));
        let steps = list(job, "features").iter().filter_map(|step| text(step, "id"));
        facts.push(("features".to_owned(), steps.collect::<Vec<_>>().join(", ")));
    }
    facts.retain(|(_, value)| !value.is_empty());
    (!facts.is_empty()).then(|| format!("{}\n{}", look.bold("lineage"), tables::facts(&facts, look)))
}

#[cfg(test)]
mod tests;
