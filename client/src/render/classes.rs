//! How the classes of a model fare, as text: a table of their measures, and what is taken for what. Both speak of one
//! segment, the last that was measured; `-o json` has all.
//!
//! Keys read, all optional: `classes {segment: [{class, precision, recall, f1, support}]}`,
//! `confusion {segment: {classes: [..], counts: [[..]]}}`.

use serde_json::Value;

use super::tables::{self, Align};
use super::value::{list, number, shown, text};
use super::{Look, format};

/// Segments from the one that tells most.
const SEGMENTS: [&str; 3] = ["test", "validation", "train"];
/// Most classes in the table of measures.
const CLASSES: usize = 30;
/// Mistakes that are listed where the matrix is too wide.
const MISTAKES: usize = 10;
/// Widths at which names of predicted classes are tried.
const HEADINGS: [usize; 4] = [14, 10, 6, 3];

/// The segment to show, and what is known of it.
fn best<'a>(result: &'a Value, key: &str) -> Option<(&'static str, &'a Value)> {
    let found = result.get(key)?;
    SEGMENTS.into_iter().find_map(|segment| Some((segment, found.get(segment)?)))
}

/// Precision, recall and F1 of every class; of many the worst.
pub(super) fn measures(result: &Value, look: &Look) -> Option<String> {
    let (segment, classes) = best(result, "classes")?;
    let mut classes: Vec<&Value> = classes.as_array()?.iter().collect();
    let all = classes.len();
    if all > CLASSES {
        // Those without rows have no F1 and say nothing.
        let f1 = |class: &Value| number(class, "f1").unwrap_or(f64::INFINITY);
        classes.sort_by(|a, b| f1(a).total_cmp(&f1(b)));
        classes.truncate(CLASSES);
    }
    let row = |class: &&Value| {
        let mut cells = vec![class.get("class").map_or_else(|| "?".to_owned(), shown)];
        cells.extend(["precision", "recall", "f1"].map(|key| number(class, key).map_or_else(|| "-".to_owned(), format::number)));
        cells.push(number(class, "support").map_or_else(|| "-".to_owned(), amount));
        cells
    };
    let rows: Vec<Vec<String>> = classes.iter().map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let heading = format!("{segment} rows by class");
    let columns = [
        ("class", Align::Left),
        ("precision", Align::Right),
        ("recall", Align::Right),
        ("f1", Align::Right),
        ("support", Align::Right),
    ];
    let mut out = format!("{}\n{}", look.bold(&heading), tables::table(look, &columns, &rows));
    if all > CLASSES {
        out += &format!("  the {CLASSES} worst of {} classes: -o json shows all\n", format::count(all as u64));
    }
    Some(out)
}

/// What is taken for what: the matrix where it fits, else the commonest mistakes.
pub(super) fn confusion(result: &Value, look: &Look) -> Option<String> {
    let (segment, confusion) = best(result, "confusion")?;
    let names: Vec<&str> = list(confusion, "classes").iter().filter_map(Value::as_str).collect();
    let line = |line: &Value| Some(line.as_array()?.iter().map(|n| n.as_f64().unwrap_or(0.0)).collect::<Vec<f64>>());
    let counts: Vec<Vec<f64>> = list(confusion, "counts").iter().filter_map(line).collect();
    if names.is_empty() || counts.len() != names.len() || counts.iter().any(|line| line.len() != names.len()) {
        return None;
    }
    let matrix = HEADINGS.into_iter().find_map(|heading| matrix(&names, &counts, heading, look));
    let (what, body) = match matrix {
        Some(matrix) => ("lines: true class, columns: predicted", matrix),
        None => ("the commonest mistakes", mistakes(&names, &counts, look)?),
    };
    Some(format!("{}\n  {what}\n{body}", look.bold(&format!("confusion of {segment} rows"))))
}

/// The matrix with names of so many letters; `None` if it is too wide.
fn matrix(names: &[&str], counts: &[Vec<f64>], heading: usize, look: &Look) -> Option<String> {
    let none = if look.plain { "." } else { "·" };
    let cell = |count: &f64| if *count == 0.0 { none.to_owned() } else { amount(*count) };
    let short: Vec<String> = names.iter().map(|name| cut(name, heading, look)).collect();
    let mut columns = vec![("", Align::Whole)];
    columns.extend(short.iter().map(|name| (name.as_str(), Align::Right)));
    let row = |(name, line): (&&str, &Vec<f64>)| {
        std::iter::once(cut(name, heading.max(10), look)).chain(line.iter().map(cell)).collect::<Vec<String>>()
    };
    let rows: Vec<Vec<String>> = names.iter().zip(counts).map(row).collect();
    let letters = |text: &str| text.chars().count();
    let width = |(j, (name, _)): (usize, &(&str, Align))| {
        let widest = rows.iter().map(|row| letters(&row[j])).max().unwrap_or(0);
        // A blank before and one behind.
        widest.max(letters(name)) + 2
    };
    // A blank between two columns.
    let all = columns.iter().enumerate().map(width).sum::<usize>() + columns.len() - 1;
    (all <= look.width).then(|| tables::table(look, &columns, &rows))
}

/// The cells beside the diagonal that hold most.
fn mistakes(names: &[&str], counts: &[Vec<f64>], look: &Look) -> Option<String> {
    let mut wrong: Vec<(usize, usize, f64)> = Vec::new();
    for (i, line) in counts.iter().enumerate() {
        wrong.extend(line.iter().enumerate().filter(|(j, n)| i != *j && **n > 0.0).map(|(j, n)| (i, j, *n)));
    }
    if wrong.is_empty() {
        return None;
    }
    wrong.sort_by(|a, b| b.2.total_cmp(&a.2));
    let row = |(i, j, n): &(usize, usize, f64)| vec![names[*i].to_owned(), names[*j].to_owned(), amount(*n)];
    let rows: Vec<Vec<String>> = wrong.iter().take(MISTAKES).map(row).collect();
    Some(tables::table(look, &[("true", Align::Left), ("predicted", Align::Left), ("rows", Align::Right)], &rows))
}

/// A number of rows, or their weight.
fn amount(weight: f64) -> String {
    if weight.fract() == 0.0 && weight.abs() < 1e15 { format::count(weight as u64) } else { format::number(weight) }
}

/// The first letters of a name.
fn cut(name: &str, width: usize, look: &Look) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    let end = if look.plain { "." } else { "…" };
    name.chars().take(width.saturating_sub(1)).chain(end.chars()).collect()
}

/// Whether the model predicts one of many classes; their names.
pub(super) fn names(result: &Value) -> Option<String> {
    let (_, classes) = best(result, "classes")?;
    let names: Vec<&str> = classes.as_array()?.iter().filter_map(|class| text(class, "class")).collect();
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    Some(if names.len() > 10 { format!("{shown} and {} more", names.len() - 10) } else { shown })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        let class = |name: &str, values: [Option<f64>; 3], support: f64| json!({"class": name, "precision": values[0], "recall": values[1], "f1": values[2], "support": support});
        json!({
            "classes": {"train": [], "test": [
                class("cat", [Some(0.9), Some(0.75), Some(0.81818)], 12.0),
                class("hippopotamus amphibius", [None, Some(0.0), Some(0.0)], 1_234.5),
                class("yak", [None, None, None], 0.0)
            ]},
            "confusion": {"train": {}, "test": {
                "classes": ["cat", "hippopotamus amphibius", "yak"],
                "counts": [[9, 0, 3], [1234.5, 0, 0], [0, 0, 0]]
            }}
        })
    }

    fn check(text: Option<String>, expected: &str) {
        let text = text.unwrap_or_default();
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn classes_and_what_they_are_taken_for() {
        check(measures(&result(), &Look::plain(60)), include_str!("classes/measures.txt"));
        check(confusion(&result(), &Look::plain(60)), include_str!("classes/confusion_60.txt"));
        check(confusion(&result(), &Look::terminal(40)), include_str!("classes/confusion_40.txt"));
        check(names(&result()), "cat, hippopotamus amphibius, yak");
    }

    #[test]
    fn what_does_not_fit_is_listed() {
        let counts: Vec<Vec<u32>> =
            (0..40).map(|i| (0..40).map(|j| if i == j { 50 } else { (i * 7 + j * 3) % 31 }).collect()).collect();
        let names: Vec<String> = (0..40).map(|i| format!("class {i}")).collect();
        let classes: Vec<Value> =
            (0..40).map(|i| json!({"class": names[i], "f1": 1.0 - i as f64 / 100.0, "support": 9})).collect();
        let wide = json!({"confusion": {"test": {"classes": names, "counts": counts}}, "classes": {"test": classes}});
        for look in [Look::plain(80), Look::terminal(40)] {
            let text = confusion(&wide, &look).unwrap_or_default();
            assert!(
                text.starts_with("confusion of test rows\n  the commonest mistakes\n") && text.lines().count() == 14,
                "{text}"
            );
            assert!(text.lines().skip(1).all(|line| line.chars().count() <= look.width), "{text}");
            assert!(!text.contains("50"), "what is right is no mistake: {text}");
        }
        let text = measures(&wide, &Look::plain(80)).unwrap_or_default();
        assert!(text.contains("class 39") && !text.contains("class 9 "), "{text}");
        assert!(text.ends_with("  the 30 worst of 40 classes: -o json shows all\n"), "{text}");
    }

    #[test]
    fn nothing_or_something_odd_is_not_shown() {
        for odd in [json!({}), json!({"classes": {"test": 3}, "confusion": {"test": {"classes": ["a"], "counts": [[1, 2]]}}})] {
            assert_eq!((measures(&odd, &Look::plain(80)), confusion(&odd, &Look::plain(80))), (None, None));
        }
    }
}
