//! What the patients and their tables must look like, whatever the seed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::history::{CODES, DAYS, DRUGS, FIRST_DAY, TESTS};
use super::patient::{AS_OF, HORIZON, Patient};
use super::*;

fn within(what: &str, value: f64, range: Range<f64>) {
    assert!(range.contains(&value), "{what} is {value}, not in {range:?}");
}

fn share<T>(rows: &[T], condition: impl Fn(&T) -> bool) -> f64 {
    rows.iter().filter(|r| condition(r)).count() as f64 / rows.len() as f64
}

fn patients(seed: u64, n: u64) -> (Histories, Vec<Patient>) {
    let histories = Histories::new(seed);
    let patients = (0..n).map(|index| histories.patient(index)).collect();
    (histories, patients)
}

/// Probability that a positive scores above a negative; ties count half (there are none here).
fn auc(scores: &[(f64, bool)]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = sorted.iter().filter(|s| s.1).count() as f64;
    let ranks: f64 = sorted.iter().enumerate().filter(|(_, s)| s.1).map(|(rank, _)| rank as f64 + 1.0).sum();
    (ranks - positives * (positives + 1.0) / 2.0) / (positives * (scores.len() as f64 - positives))
}

/// No model can do better than the risk itself: this is what `examples/diabetes-risk/README.md` states.
#[test]
fn the_true_risk_has_the_stated_auc() {
    for seed in [0, 1, 7] {
        let (_, patients) = patients(seed, 40_000);
        within("diabetes", share(&patients, Patient::diabetes), 0.095..0.12);
        let scores: Vec<(f64, bool)> = patients.iter().map(|p| (p.logit, p.diabetes())).collect();
        within("the attainable auc", auc(&scores), 0.805..0.830);
    }
}

#[test]
fn patients_are_in_their_ranges() {
    let (_, patients) = patients(3, 20_000);
    assert!(patients.iter().all(|p| (AS_OF - 86 * 366..AS_OF - 29 * 365).contains(&p.birth)));
    assert!(patients.iter().all(|p| (16.0..=58.0).contains(&p.bmi) && (140.0..=210.0).contains(&p.height_cm)));
    assert!(patients.iter().all(|p| (4.2..=6.6).contains(&p.hba1c) && (20.0..=110.0).contains(&p.hdl)));
    assert!(patients.iter().all(|p| p.diagnosed.is_none_or(|day| (AS_OF..HORIZON + 365).contains(&day))));
    within("unknown family", share(&patients, |p| p.family_known.is_none()), 0.07..0.09);
    within("men", share(&patients, |p| p.male), 0.46..0.50);
    within("diagnosed too late", share(&patients, |p| p.diagnosed.is_some() && !p.diabetes()), 0.012..0.024);
}

#[test]
fn histories_are_in_their_ranges_and_miss_what_is_stated() {
    let (histories, patients) = patients(3, 5_000);
    let moments = i64::from(FIRST_DAY) * 86_400_000_000..i64::from(FIRST_DAY + DAYS) * 86_400_000_000;
    let visits: Vec<_> = patients.iter().flat_map(|p| histories.visits(p)).collect();
    within("visits of a patient", visits.len() as f64 / 5_000.0, 6.5..7.5);
    assert!(visits.iter().all(|v| moments.contains(&v.at_us)));
    assert!(visits.iter().all(|v| v.systolic.is_none_or(|s| (50..=260).contains(&s))));
    assert!(visits.iter().all(|v| v.weight_kg.is_none_or(|w| (25.0..=260.0).contains(&w))));
    within("no pressure", share(&visits, |v| v.systolic.is_none()), 0.025..0.035);
    within("no weight", share(&visits, |v| v.weight_kg.is_none()), 0.052..0.068);

    let labs: Vec<_> = patients.iter().flat_map(|p| histories.lab_results(p)).collect();
    assert!(labs.iter().all(|l| moments.contains(&l.at_us) && l.value.is_none_or(|v| (3.8..=1_500.0).contains(&v))));
    within("lost samples", share(&labs, |l| l.value.is_none()), 0.017..0.023);
    let cutoff = i64::from(AS_OF) * 86_400_000_000;
    for (test, missing) in [(0, 0.05..0.11), (1, 0.04..0.09), (2, 0.10..0.17), (3, 0.10..0.17)] {
        let known: BTreeSet<i64> =
            labs.iter().filter(|l| l.test == test && l.at_us < cutoff && l.value.is_some()).map(|l| l.patient).collect();
        within(TESTS[test].0, 1.0 - known.len() as f64 / 5_000.0, missing);
    }
}

#[test]
fn medications_agree_with_the_risk() {
    let (histories, patients) = patients(4, 5_000);
    for patient in &patients {
        let drugs = histories.medications(patient);
        let active = |m: &history::Medication| m.started < AS_OF && m.stopped.is_none_or(|day| day >= AS_OF);
        assert_eq!(drugs.iter().any(|m| m.drug == 0 && active(m)), patient.steroid);
        assert!(drugs.iter().all(|m| m.started < AS_OF && m.stopped.is_none_or(|day| day > m.started)));
        assert!(drugs.iter().all(|m| m.drug < DRUGS.len()));
        let found = histories.diagnoses(patient);
        assert_eq!(found.iter().find(|d| d.code == 0).map(|d| d.day), patient.diagnosed);
        assert!(found.iter().all(|d| d.code < CODES.len() && (FIRST_DAY..HORIZON + 365).contains(&d.day)));
    }
}

/// The first column of each table is unique; `patient_id` is one of the patients.
#[test]
fn keys_are_unique_and_foreign_keys_hold() {
    for table in tables(2_000, 5) {
        let batch = table.batch(0..2_000).unwrap();
        let column = |name: &str| {
            let array = batch.column_by_name(name).unwrap();
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(array).values().to_vec()
        };
        let keys = column(batch.schema().field(0).name());
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), batch.num_rows(), "{}", table.name());
        assert!(column("patient_id").iter().all(|id| (1..=2_000).contains(id)), "{}", table.name());
    }
}
