//! The answers that the TPC-H specification gives for scale factor 1: a judge that is neither ours nor the query
//! engine's. Its numbers have two digits behind the point, and its part keys of query 11 are cut off.

use tpchgen::q_and_a::answers_sf1::answer;

use super::answer::{Answer, Cell};

/// What a number with a point may be off. The specification allows 100 for a sum (clause 2.1.3.5); decimals are exact, so
/// that only rounding is left.
const OFF: f64 = 0.05;

/// Compares an answer to query `number`, row by row in order, with the specification's.
///
/// # Errors
/// The first row that is another one, for people.
pub fn compare(number: usize, got: &Answer) -> Result<(), String> {
    let text = i32::try_from(number).ok().and_then(answer).ok_or_else(|| format!("TPC-H has no query {number}"))?;
    let expected: Vec<Vec<&str>> = text.trim().lines().skip(1).map(fields).collect();
    let rows: Vec<Vec<String>> = got.rows.iter().map(|row| row.iter().map(written).collect()).collect();
    if rows.len() != expected.len() {
        return Err(format!("expected {} rows, got {}", expected.len(), rows.len()));
    }
    let cut = |a: &str, b: &str| number == 11 && b.starts_with(a);
    let other =
        |(a, b): &(&Vec<&str>, &Vec<String>)| a.len() != b.len() || !a.iter().zip(b.iter()).all(|(a, b)| same(a, b) || cut(a, b));
    match expected.iter().zip(&rows).find(other) {
        Some((expected, got)) => Err(format!("expected {}\n  got      {}", expected.join(" | "), got.join(" | "))),
        None => Ok(()),
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

fn written(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Float(value) => value.to_string(),
        Cell::Text(text) => text.trim().to_owned(),
    }
}

fn same(expected: &str, got: &str) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= OFF;
    let numbers = || Some(near(expected.parse().ok()?, got.parse().ok()?));
    expected == got || (expected.contains('.') && numbers().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_agree_to_rounding_and_everything_else_exactly() {
        let revenue = |value: &str| Answer { columns: Vec::new(), rows: vec![vec![Cell::Text(value.to_owned())]] };
        compare(6, &revenue("123141078.2283")).unwrap();
        assert!(compare(6, &revenue("123141078.3")).is_err());
        assert!(compare(23, &revenue("1")).unwrap_err().contains("no query 23"));
        let address = |name: &str| Answer { columns: Vec::new(), rows: vec![vec![Cell::Text(name.to_owned())]; 4] };
        assert!(compare(7, &address("FRANCE")).unwrap_err().contains("expected FRANCE | GERMANY"));
    }
}
