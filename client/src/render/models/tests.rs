//! Exact texts of lists and cards.

use serde_json::json;

use super::*;

fn manifest() -> Value {
    json!({
        "name": "card-fraud", "version": 3, "aliases": ["candidate", "production"], "algorithm": "logistic_regression",
        "parameters": {"l2": 0.0001, "class_weight": "balanced"}, "created": "2026-10-01T08:00:00Z", "job_id": "01JZX8Q4N3T7D2",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "metrics": {"train": {"auc": 0.95612}, "test": {"auc": 0.94987}}, "rows": {"train": 800_123, "test": 199_877},
        "intercept": -6.125, "coefficients": {"night": 1.25, "device_score": -7.5, "category=grocery": -0.000_052, "log_amount": 1.25},
        "data_fingerprint": "b5bb9d8014a0f9b1d61e21e796d78dcc", "numeric_version": 1, "code_version": "0.1.0",
        "artifact": "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730",
        "job": {"seed": 7, "tables": [{"name": "transactions", "path": "/data/transactions/"}],
                "split": {"by": "random", "test": 0.2, "validation": 0.1}, "features": [{"id": "sql"}, {"id": "one_hot"}]}
    })
}

fn check(text: &str, expected: &str, width: usize) {
    assert_eq!(text, expected, "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= width));
}

#[test]
fn cards_at_two_widths() {
    check(&model_card(&manifest(), &Look::terminal(80)), include_str!("texts/card_80.txt"), 80);
    let mut manifest = manifest();
    manifest["standard_errors"] = json!({"night": 0.01, "device_score": 0.2});
    check(&model_card(&manifest, &Look::plain(60)), include_str!("texts/card_60.txt"), 60);
}

#[test]
fn parameters_read_as_they_are_written() {
    let parameters = json!({"early_stopping": {"rounds": 30}, "interactions": [["a", "b c"], ["d"]], "monotone": {"age": 1},
        "class_weight": {"0": 1, "1": 2.5}, "objective": "binary", "constant": "true"});
    let card = model_card(&json!({"name": "m", "version": 1, "parameters": parameters}), &Look::plain(200));
    let expected = "class_weight: {\"0\": 1, \"1\": 2.5}, constant: \"true\", early_stopping: {rounds: 30}, \
                    interactions: [[a, \"b c\"], [d]], monotone: {age: 1}, objective: binary";
    assert!(card.lines().any(|line| line.trim_start().starts_with("params ") && line.ends_with(expected)), "{card}");
}

#[test]
fn only_the_largest_coefficients_are_shown() {
    let many: serde_json::Map<String, Value> = (0..1_030).map(|i| (format!("merchant={i}"), json!(f64::from(i)))).collect();
    let card = model_card(&json!({"name": "m", "version": 1, "coefficients": many}), &Look::plain(80));
    assert!(card.contains("merchant=1029") && !card.contains("merchant=1004\n"), "{card}");
    assert!(card.ends_with("  and 1,005 smaller ones: -o json shows all\n"), "{card}");
}

#[test]
fn lists() {
    let older = json!({"name": "card-fraud", "version": 2, "aliases": [], "algorithm": "logistic_regression",
        "created": "2026-09-01T08:00:00Z", "sha256": "00ff00ff00ff00ff"});
    let models = [older, manifest()];
    check(&models_table(&models, &Look::terminal(120)), include_str!("texts/list_120.txt"), 120);
    check(&models_table(&models, &Look::plain(60)), include_str!("texts/list_60.txt"), 60);
    assert_eq!(models_table(&[], &Look::plain(80)), "no models: `sheaf run` of a job file with a `publish` section makes one\n");
}
