//! What the transactions must look like, whatever the seed.

use super::*;

fn rows(seed: u64, n: u64) -> Vec<Row> {
    let data = CardFraud::new(n, seed);
    (0..n)
        .map(|row| {
            let attacks = data.attacks.of_block(row / BLOCK);
            let attack = attacks.iter().flatten().find_map(|a| Some((*a, a.payment(row % BLOCK)?)));
            data.row(row, attack)
        })
        .collect()
}

fn share(rows: &[Row], condition: impl Fn(&Row) -> bool) -> f64 {
    rows.iter().filter(|r| condition(r)).count() as f64 / rows.len() as f64
}

fn within(what: &str, value: f64, range: std::ops::Range<f64>) {
    assert!(range.contains(&value), "{what} is {value}, not in {range:?}");
}

#[test]
fn shares_are_as_promised() {
    for seed in [0, 1, 7] {
        let rows = rows(seed, 60_000);
        within("fraud", share(&rows, |r| r.fraud), 0.002..0.005);
        within("null age", share(&rows, |r| r.customer_age.is_none()), 0.02..0.04);
        within("null distance", share(&rows, |r| r.distance_km.is_none()), 0.045..0.055);
        within("null device", share(&rows, |r| r.device_score.is_none()), 0.06..0.10);
        within("null minutes", share(&rows, |r| r.minutes_since_last.is_none()), 0.0005..0.005);
        within("foreign", share(&rows, |r| r.foreign), 0.03..0.08);
    }
}

#[test]
fn values_are_in_their_ranges() {
    let rows = rows(5, 30_000);
    assert!(rows.is_sorted_by_key(|r| r.at_us));
    assert!(rows.iter().all(|r| r.amount >= 0.01 && r.amount <= 250_000.0));
    assert!(rows.iter().all(|r| r.distance_km.is_none_or(|d| (0.0..=20_000.0).contains(&d))));
    assert!(rows.iter().all(|r| r.device_score.is_none_or(|s| (0.0..=1.0).contains(&s))));
    assert!(rows.iter().all(|r| r.customer_age.is_none_or(|a| (18..=95).contains(&a))));
    assert!(rows.iter().all(|r| r.transactions_24h >= 1));
    let mut amounts: Vec<f64> = rows.iter().map(|r| r.amount).collect();
    amounts.sort_by(f64::total_cmp);
    let quantile = |q: f64| amounts[(q * (amounts.len() - 1) as f64) as usize];
    within("the 99.9th percentile over the median", quantile(0.999) / quantile(0.5), 25.0..150.0);
}

#[test]
fn merchants_are_skewed_and_their_ids_distinct() {
    let rows = rows(5, 30_000);
    let mut counts = std::collections::BTreeMap::new();
    rows.iter().for_each(|r| *counts.entry(r.merchant).or_insert(0_u32) += 1);
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let top: u32 = counts.iter().take(counts.len() / 20).sum();
    within("the share of the top twentieth", f64::from(top) / 30_000.0, 0.4..0.8);
    let ids: std::collections::BTreeSet<i64> =
        (0..CATEGORIES.len()).flat_map(|c| (0..MERCHANTS).map(move |r| merchant_id(c, r))).collect();
    assert_eq!(ids.len() as u64, MERCHANTS * CATEGORIES.len() as u64);
}

#[test]
fn fraud_has_signal() {
    let rows = rows(2, 60_000);
    let (fraud, honest): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|r| r.fraud);
    let more = |what: &str, times: f64, condition: fn(&Row) -> bool| {
        let (a, b) = (share(&fraud, condition), share(&honest, condition));
        assert!(a > times * b, "{what}: {a} of frauds, {b} of honest rows");
    };
    more("night", 2.0, |r| rhythm::hour_of_day(r.at_us) < 6);
    more("online", 2.0, |r| r.channel == ONLINE);
    more("foreign", 3.0, |r| r.foreign);
    more("doubtful device", 4.0, |r| r.device_score.is_some_and(|s| s < 0.6));
    more("velocity", 2.0, |r| r.transactions_24h > 4);
    more("large amount", 2.0, |r| r.amount > 200.0);
}
