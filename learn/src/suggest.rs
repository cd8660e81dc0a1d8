//! "Did you mean": the nearest of the known names. One measure for parameters, columns and keys of job files.

/// The known name closest to `name`, if it is close enough to be meant: at most a third of its characters
/// are wrong, or one.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let wanted = characters(name);
    let limit = (wanted.len() / 3).max(1);
    let alike = known.into_iter().map(|k| (k, characters(k))).filter(|(_, other)| other.len().abs_diff(wanted.len()) <= limit);
    let scored = alike.map(|(k, other)| (distance(&wanted, &other), k));
    scored.filter(|(edits, _)| *edits <= limit).min_by_key(|(edits, _)| *edits).map(|(_, k)| k)
}

/// Without regard to case.
fn characters(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Edits (insert, delete, replace, swap neighbours) from one name to the other: optimal string alignment.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, known: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(name, known.iter().copied()), expected, "{name}");
    }

    #[test]
    fn a_swap_is_one_edit() {
        let edits = |a: &str, b: &str| distance(&characters(a), &characters(b));
        assert_eq!((edits("tain", "train"), edits("trian", "train"), edits("", "abc"), edits("ab", "ab")), (1, 1, 3, 0));
    }

    #[test]
    fn near_names_are_meant_and_far_ones_are_not() {
        check("colums", &["checks", "columns"], Some("columns"));
        check("banana", &["checks", "columns"], None);
        check("Max_Iteration", &["max_iterations", "tolerance"], Some("max_iterations"));
        check("yy", &["y", "x"], Some("y"));
        check("köln", &["KÖLM", "bern"], Some("KÖLM"));
        check("x", &[], None);
    }

    #[test]
    fn of_equally_near_names_the_first_is_meant() {
        check("cat", &["bat", "hat"], Some("bat"));
    }
}
