//! Exact texts of results at several widths.

use serde_json::json;

use super::*;

fn result() -> Value {
    json!({
        "job": "01JZX8Q4N3T7D2", "name": "card-fraud", "state": "succeeded",
        "model": {"name": "card-fraud", "version": 3, "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        "metrics": {
            "train": {"auc": 0.95612, "pr_auc": 0.40123, "log_loss": 0.01171},
            "test": {"auc": 0.94987, "pr_auc": null, "log_loss": 0.01203}
        },
        "undefined": {"test": {"pr_auc": "no positive rows"}},
        "rows": {"prepared": 1_000_000, "train": 800_123, "test": 199_877},
        "limits": [{"name": "test.auc", "min": 0.85, "max": null, "value": 0.94987, "passed": true}],
        "checks": [
            {"name": "not_null amount", "passed": true, "severity": "fail", "violations": 0, "rows": 1_000_000, "message": ""},
            {"name": "range distance_km", "passed": false, "severity": "warn", "violations": 12, "rows": 1_000_000,
             "message": "12 of 1,000,000 rows lie outside 0 to 20000; the first is 20001.5 in part-00003.parquet"}
        ],
        "training": {"iterations": 34, "converged": true, "loss": [0.7012, 0.2, 0.05, 0.013, 0.0117]},
        "phases": [{"name": "prepare", "seconds": 0.5, "rows": 1_000_000}, {"name": "train", "seconds": 1.5}],
        "work": [{"phase": "train", "read_s": 0.2, "compute_s": 2.4, "merge_s": 0.012, "wait_s": 0.1,
            "wall_s": 1.4, "shards": {"1": 8, "2": 8}, "waited_for": {"2": 0.06},
            "workers": {
                "1": {"read_s": 0.1, "compute_s": 1.15, "merge_s": 0.006, "wait_s": 0.08, "rows": 17_000_000},
                "2": {"read_s": 0.1, "compute_s": 1.25, "merge_s": 0.006, "wait_s": 0.02, "rows": 17_000_000}
            },
            "steps": {"count": 34, "wall_s": 1.38, "broadcast_s": 0.001, "compute_s": 1.3, "update_s": 0.01, "overhead_s": 0.069}}],
        "outputs": [],
        "warnings": ["feature `customer_age` has a very small coefficient and could be left out of the job"]
    })
}

/// Compares with a file beside this one, so that the text can be read as it will be seen.
fn check(text: &str, expected: &str, width: usize) {
    assert_eq!(text, expected, "\n{text}");
    for line in text.lines().filter(|line| !line.starts_with("  sheaf ")) {
        assert!(line.chars().count() <= width, "wider than {width}: {line}");
    }
}

#[test]
fn results_at_three_widths() {
    check(&job_result(&result(), &Look::terminal(60)), include_str!("texts/terminal_60.txt"), 60);
    check(&job_result(&result(), &Look::terminal(80)), include_str!("texts/terminal_80.txt"), 80);
    check(&job_result(&result(), &Look::plain(120)), include_str!("texts/plain_120.txt"), 120);
}

#[test]
fn a_broken_limit_says_that_nothing_was_published() {
    let mut result = result();
    result["state"] = json!("failed");
    result["error"] = json!("limit test.auc: it is 0.949870, it must be at least 0.99");
    result["model"] = json!({"name": null, "version": null, "sha256": "9f86d081884c7d65"});
    result["limits"] = json!([
        {"name": "test.auc", "min": 0.99, "max": 1.0, "value": 0.94987, "passed": false},
        {"name": "test.pr_auc", "min": 0.1, "max": null, "value": null, "passed": false}
    ]);
    for key in ["checks", "phases", "work", "warnings", "training", "metrics", "undefined"] {
        result[key] = json!(null);
    }
    check(&job_result(&result, &Look::plain(80)), include_str!("texts/broken_limit.txt"), 80);
}

#[test]
fn a_prediction_shows_what_it_wrote() {
    let result = json!({
        "job": "01JZX8Q4N3T7D2", "name": "card-fraud", "state": "succeeded", "rows": {"scored": 5_000},
        "model": {"reference": "card-fraud@3", "sha256": "9f86d081884c7d65"}, "outputs": ["/data/scored"], "phases": [],
        "warnings": []
    });
    check(&job_result(&result, &Look::plain(80)), include_str!("texts/prediction.txt"), 80);
}

#[test]
fn an_empty_or_odd_object_is_no_failure() {
    assert_eq!(job_result(&json!({}), &Look::plain(80)), "job, unknown\n");
    let odd = json!({"state": 7, "metrics": [1], "limits": {"a": 1}, "model": null, "phases": [{"name": 1}], "work": [{}]});
    assert!(job_result(&odd, &Look::plain(80)).starts_with("job, unknown\n"));
}
