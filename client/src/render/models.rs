//! Models of the registry as text: the list and the card of one.

use serde_json::Value;

use super::tables::{self, Align};
use super::value::{count, entries, list, number, shown, text};
use super::{Look, format, plot, report};

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
/// `sha256`, `metrics` and `rows` by segment, `intercept`, `coefficients {feature: value}`,
/// `standard_errors`, `importances {feature: {gain, cover, splits}}`, and how it came to be (`job_id`, `job`, `data_fingerprint`, `numeric_version`,
/// `code_version`, `artifact`) of a manifest. Ends with a line break.
pub fn model_card(manifest: &Value, look: &Look) -> String {
    let name = manifest.get("name").map_or_else(|| "model".to_owned(), shown);
    let version = manifest.get("version").map(|v| format!("@{}", shown(v))).unwrap_or_default();
    let title = format!("{}\n{}", look.bold(&format!("{name}{version}")), facts(manifest, look));
    let metrics = report::metrics(manifest, look);
    let sections = [Some(title), metrics, coefficients(manifest, look), importances(manifest, look), lineage(manifest, look)];
    sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn facts(manifest: &Value, look: &Look) -> String {
    let mut facts = named(manifest, &["algorithm", "created"]);
    if let Some(sha256) = text(manifest, "sha256") {
        facts.push(("sha256".to_owned(), report::fitting_hash(sha256, look.width.saturating_sub(14))));
    }
    let params = manifest.get("parameters").filter(|p| p.is_object()).map(exact).filter(|p| !p.is_empty());
    facts.push(("params".to_owned(), params.unwrap_or_else(|| "all defaults".to_owned())));
    let aliases: Vec<String> = list(manifest, "aliases").iter().map(shown).collect();
    if !aliases.is_empty() {
        facts.push(("aliases".to_owned(), aliases.join(", ")));
    }
    tables::facts(&facts, look)
}

/// The values of these keys, where they are.
fn named(value: &Value, keys: &[&str]) -> Vec<(String, String)> {
    let there = |key: &&str| value.get(*key).filter(|v| !v.is_null()).map(|v| ((*key).replace('_', " "), exact(v)));
    keys.iter().filter_map(there).collect()
}

/// A value as it was given, not rounded; entries of an object one after the other.
fn exact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => map.iter().map(|(k, v)| format!("{k} = {}", exact(v))).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
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

/// How the model came to be.
fn lineage(manifest: &Value, look: &Look) -> Option<String> {
    let mut facts = named(manifest, &["job_id", "data_fingerprint", "code_version", "numeric_version", "artifact"]);
    for (_, value) in facts.iter_mut().filter(|(name, _)| name == "artifact" || name == "data fingerprint") {
        *value = report::fitting_hash(value, look.width.saturating_sub(24));
    }
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
