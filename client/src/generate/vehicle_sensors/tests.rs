//! What the fleet and its tables must look like, whatever the seed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::fleet::BELT;
use super::series::{FIRST_DAY, Series};
use super::*;

fn within(what: &str, value: f64, range: Range<f64>) {
    assert!(range.contains(&value), "{what} is {value}, not in {range:?}");
}

fn all(fleet: &Fleet) -> Vec<Series> {
    (0..fleet.vehicles()).map(|v| fleet.series(v)).collect()
}

/// (what the belt truly has left, kilometres until the workshop replaces it) of every reading whose belt is replaced.
fn labelled(series: &Series) -> Vec<(f64, f64)> {
    let next = |at: i64| series.events.iter().find(|e| e.work == BELT && e.at_us > at);
    series.readings.iter().filter_map(|r| Some((r.left_km, next(r.at_us)?.odometer_km - r.odometer_km))).collect()
}

/// Of the best predictor, the belt's true state: what `examples/vehicle-sensors/README.md` states. The workshop is
/// early or late in a way that no sensor shows.
#[test]
fn the_true_state_has_the_stated_r2() {
    for seed in [0, 1, 7] {
        let rows: Vec<(f64, f64)> = all(&Fleet::new(500_000, seed)).iter().flat_map(labelled).collect();
        let n = rows.len() as f64;
        within("the share of labelled readings", n / 500_000.0, 0.6..0.9);
        let mean = rows.iter().map(|r| r.1).sum::<f64>() / n;
        let spread: f64 = rows.iter().map(|r| (r.1 - mean) * (r.1 - mean)).sum();
        let error: f64 = rows.iter().map(|r| (r.1 - r.0) * (r.1 - r.0)).sum();
        within("the attainable r2", 1.0 - error / spread, 0.88..0.94);
        within("the attainable rmse", (error / n).sqrt(), 1_350.0..1_650.0);
    }
}

#[test]
fn readings_are_in_their_ranges_and_miss_what_is_stated() {
    let fleet = Fleet::new(60_001, 3);
    assert_eq!(fleet.vehicles(), 24);
    let series = all(&fleet);
    let readings: Vec<_> = series.iter().flat_map(|s| s.readings.clone()).collect();
    assert_eq!(readings.len(), 60_001);
    assert!(readings.iter().zip(1..).all(|(r, id)| r.id == id));
    for series in &series {
        assert!(series.readings.is_sorted_by(|a, b| a.at_us < b.at_us && a.odometer_km < b.odometer_km));
        assert!(series.events.is_sorted_by(|a, b| a.at_us < b.at_us && a.odometer_km <= b.odometer_km));
        assert!(series.events[0].work == BELT && series.events[0].at_us < series.readings[0].at_us);
    }
    assert!(readings.iter().all(|r| (3.0..=118.0).contains(&r.speed_kmh) && (700..=4_500).contains(&r.rpm)));
    assert!(readings.iter().all(|r| (-20.0..=40.0).contains(&r.ambient_c)));
    assert!(readings.iter().all(|r| r.coolant_c.is_none_or(|c| (60.0..=115.0).contains(&c))));
    assert!(readings.iter().all(|r| r.vibration.is_none_or(|v| (0.1..=9.0).contains(&v))));
    assert!(readings.iter().all(|r| r.voltage.is_none_or(|v| (12.0..=15.0).contains(&v))));
    let weekday = |at_us: i64| (at_us.div_euclid(86_400_000_000) - FIRST_DAY).rem_euclid(7);
    assert!(readings.iter().all(|r| weekday(r.at_us) < 5), "vans rest at weekends");
    let share = |condition: &dyn Fn(&series::Reading) -> bool| {
        readings.iter().filter(|r| condition(r)).count() as f64 / readings.len() as f64
    };
    within("no coolant", share(&|r| r.coolant_c.is_none()), 0.017..0.023);
    within("no vibration", share(&|r| r.vibration.is_none()), 0.008..0.012);
    within("no voltage", share(&|r| r.voltage.is_none()), 0.004..0.006);
    within("faults", share(&|r| r.fault.is_some()), 0.01..0.08);
}

#[test]
fn sizes_are_exact() {
    for rows in [1, 2, 9, 10, 11, 999, 25_000, 25_001, 70_000] {
        let fleet = Fleet::new(rows, 2);
        let sizes: Vec<u64> = all(&fleet).iter().map(|s| s.readings.len() as u64).collect();
        assert_eq!(sizes.iter().sum::<u64>(), rows);
        assert!(sizes.iter().all(|n| (1..=fleet.readings_per_vehicle()).contains(n)), "{sizes:?}");
    }
}

/// The first column of each table is unique; `vehicle_id` is one of the vehicles.
#[test]
fn keys_are_unique_and_foreign_keys_hold() {
    for table in tables(30_000, 5) {
        let batch = table.batch(0..table.units()).unwrap();
        let column = |name: &str| {
            let array = batch.column_by_name(name).unwrap();
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(array).values().to_vec()
        };
        let keys = column(batch.schema().field(0).name());
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), batch.num_rows(), "{}", table.name());
        assert!(column("vehicle_id").iter().all(|id| (1..=12).contains(id)), "{}", table.name());
    }
}
