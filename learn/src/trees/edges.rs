//! Edges of bins from the sorted values of a sample: between all values where they are few, else bins of about equal
//! weight with heavy values alone (the greedy rule of LightGBM's `GreedyFindBin`, with its `min_data_in_bin`).

use super::bins::value_of;

/// Rows of the sample that a bin has where leaves have as many: thresholds between single rows are chosen by chance.
pub const ROWS: usize = 3;

/// Thresholds of at most `most` bins over ascending keys of a sample, missing values left out. A bin, but for the last
/// one, has `least_rows` rows.
///
/// # Panics
/// If `most` or `least_rows` is 0.
pub fn edges(sorted: &[u32], most: usize, least_rows: usize) -> Vec<f32> {
    assert!(most > 0 && least_rows > 0, "at least a bin, and a row");
    let runs = runs(sorted);
    if runs.len() <= most {
        return few(&runs, least_rows);
    }
    greedy(&runs, sorted.len(), most.min(sorted.len() / least_rows).max(1))
}

/// Distinct keys with their counts.
fn runs(sorted: &[u32]) -> Vec<(u32, usize)> {
    let mut out: Vec<(u32, usize)> = Vec::new();
    for &key in sorted {
        match out.last_mut() {
            Some((last, count)) if *last == key => *count += 1,
            _ => out.push((key, 1)),
        }
    }
    out
}

/// All values are told apart, but for those of too few rows.
fn few(runs: &[(u32, usize)], least_rows: usize) -> Vec<f32> {
    let mut rows = 0;
    let mut ends = |pair: &&[(u32, usize)]| {
        rows += pair[0].1;
        let is_full = rows >= least_rows;
        rows = if is_full { 0 } else { rows };
        is_full
    };
    let full = runs.windows(2).filter(|pair| ends(pair));
    full.map(|pair| between(value_of(pair[0].0), value_of(pair[1].0))).collect()
}

fn greedy(runs: &[(u32, usize)], total: usize, most: usize) -> Vec<f32> {
    let even = total as f64 / most as f64;
    let heavy = |i: usize| runs[i].1 as f64 >= even;
    let mut bins_left = most;
    let mut rows_left = total;
    for (i, run) in runs.iter().enumerate() {
        if heavy(i) {
            bins_left -= 1;
            rows_left -= run.1;
        }
    }
    let mean_of = |rows: usize, bins: usize| if bins == 0 { f64::INFINITY } else { rows as f64 / bins as f64 };
    let mut mean = mean_of(rows_left, bins_left);
    let mut out = Vec::with_capacity(most - 1);
    let mut rows = 0;
    for i in 0..runs.len() - 1 {
        if out.len() + 1 == most {
            break;
        }
        if !heavy(i) {
            rows_left -= runs[i].1;
        }
        rows += runs[i].1;
        let full = rows as f64 >= mean;
        let before_heavy = heavy(i + 1) && rows as f64 >= (mean * 0.5).max(1.0);
        if heavy(i) || full || before_heavy {
            out.push(between(value_of(runs[i].0), value_of(runs[i + 1].0)));
            rows = 0;
            if !heavy(i) {
                bins_left = bins_left.saturating_sub(1);
                mean = mean_of(rows_left, bins_left);
            }
        }
    }
    out
}

/// A threshold `t` with `low <= t < high`, about in the middle.
fn between(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) * 0.5) as f32;
    if low <= middle && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::bins::key_of;

    fn keys(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
        let mut out: Vec<u32> = values.into_iter().map(key_of).collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn few_values_are_all_told_apart() {
        assert_eq!(edges(&keys([3.0, 1.0, 1.0, 2.0]), 255, 1), [1.5, 2.5]);
        assert!(edges(&keys([7.0; 9]), 255, 1).is_empty() && edges(&[], 255, 1).is_empty());
        let near = [1.0f32, 1.0f32.next_up()];
        assert_eq!(edges(&keys(near), 255, 1), [1.0]);
        assert_eq!(edges(&keys([f32::MIN, f32::MAX]), 255, 1), [0.0]);
    }

    #[test]
    fn bins_have_so_many_rows() {
        let few = keys([1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(edges(&few, 255, 3), [2.5, 3.5, 6.5]);
        assert!(edges(&few, 255, 11).is_empty());
        // More values than bins, and than bins of three rows.
        let many = keys((0..30).map(|i| i as f32));
        assert_eq!(edges(&many, 20, 3), (0..9).map(|i| (3 * i + 3) as f32 - 0.5).collect::<Vec<_>>());
        assert_eq!(edges(&many, 20, 1).len(), 19);
        assert!(edges(&keys([1.0, 2.0]), 1, 3).is_empty());
    }

    #[test]
    fn many_values_share_bins_evenly_and_heavy_ones_end_theirs() {
        let sorted = keys((0..10_000).map(|i| if i % 4 == 0 { 17.0 } else { i as f32 }));
        let edges = edges(&sorted, 100, ROWS);
        assert!(edges.len() >= 95 && edges.len() < 100, "{}", edges.len());
        assert!(edges.windows(2).all(|w| w[0] < w[1]));
        let bin = |x: f32| edges.iter().filter(|&&e| x > e).count();
        assert!(bin(17.0) < bin(18.0));
        let mut counts = vec![0; edges.len() + 1];
        for &key in &sorted {
            counts[bin(value_of(key))] += 1;
        }
        assert!(counts.iter().filter(|&&c| c > 150).count() == 1 && counts[bin(17.0)] < 2_500 + 38, "{counts:?}");
    }
}
