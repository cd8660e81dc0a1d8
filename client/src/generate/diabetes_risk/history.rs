//! What happened to a patient and was written down: visits, lab results, medications, diagnoses. Measurements are
//! the true state with noise, taken at random times from 2018 to 2021.

use sheaf_learn::math;

use super::super::draw::{Draws, Keys, normal, poisson, tenths, whole};
use super::patient::{AS_OF, Patient, Patients};

/// 2018-01-01 as days since 1970.
pub const FIRST_DAY: i32 = 17_532;
/// Days of the four years 2018 to 2021; the last of them is after [`AS_OF`] and must not be looked at.
pub const DAYS: i32 = 1_461;
/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// Tests of the laboratory, with the share of panels that contain them.
pub const TESTS: [(&str, f64); 4] = [("hba1c", 0.75), ("glucose", 0.85), ("hdl", 0.60), ("triglycerides", 0.60)];

/// Drugs; the probability of each is in [`Histories::medications`].
pub const DRUGS: [&str; 5] = ["corticosteroid", "antihypertensive", "statin", "thyroid_hormone", "painkiller"];

/// Diagnoses: type 2 diabetes, hypertension, high cholesterol, asthma, back pain (ICD-10).
pub const CODES: [&str; 5] = ["E11", "I10", "E78", "J45", "M54"];

/// A visit at the practice.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    pub id: i64,
    pub patient: i64,
    pub at_us: i64,
    /// mmHg.
    pub systolic: Option<i32>,
    /// mmHg.
    pub diastolic: Option<i32>,
    pub weight_kg: Option<f64>,
}

/// A result of one test.
#[derive(Debug, Clone, PartialEq)]
pub struct LabResult {
    pub id: i64,
    pub patient: i64,
    pub at_us: i64,
    /// Index of [`TESTS`].
    pub test: usize,
    /// Nothing where the sample was lost.
    pub value: Option<f64>,
}

/// A drug that is or was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Medication {
    pub id: i64,
    pub patient: i64,
    /// Index of [`DRUGS`].
    pub drug: usize,
    /// Days since 1970.
    pub started: i32,
    /// Nothing where it is still taken.
    pub stopped: Option<i32>,
}

/// A diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    pub id: i64,
    pub patient: i64,
    /// Index of [`CODES`].
    pub code: usize,
    /// Days since 1970.
    pub day: i32,
}

/// Makes patients and what happened to them.
pub struct Histories {
    patients: Patients,
    patient_keys: Keys<2>,
    visit_keys: Keys<4>,
    panel_keys: Keys<5>,
    drug_keys: Keys<2>,
    code_keys: Keys<1>,
}

impl Histories {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            patients: Patients::new(seed),
            patient_keys: Keys::new(seed, "generate diabetes-risk counts"),
            visit_keys: Keys::new(seed, "generate diabetes-risk visit"),
            panel_keys: Keys::new(seed, "generate diabetes-risk panel"),
            drug_keys: Keys::new(seed, "generate diabetes-risk medication"),
            code_keys: Keys::new(seed, "generate diabetes-risk diagnosis"),
        }
    }

    /// The patient of an index.
    pub fn patient(&self, index: u64) -> Patient {
        self.patients.at(index)
    }

    /// The patient's visits in order of time: at least one, more with age.
    pub fn visits(&self, patient: &Patient) -> Vec<Visit> {
        let (count, _) = self.patient_keys.at(patient.index).pair(0);
        let count = u64::from(1 + poisson(6.0 + 0.05 * (patient.age - 54.0), count));
        let mut visits: Vec<Visit> = (0..count).map(|n| visit(patient, &self.visit_keys.at(patient.index * 1_000 + n))).collect();
        visits.sort_by_key(|v| v.at_us);
        for (n, visit) in visits.iter_mut().enumerate() {
            visit.id = patient.id() * 1_000 + n as i64 + 1;
        }
        visits
    }

    /// The patient's lab results, a few tests together at a time; a patient may have none.
    pub fn lab_results(&self, patient: &Patient) -> Vec<LabResult> {
        let (count, _) = self.patient_keys.at(patient.index).pair(1);
        let panels = u64::from(poisson(4.5, count));
        (0..panels).flat_map(|n| panel(patient, n, &self.panel_keys.at(patient.index * 1_000 + n))).collect()
    }

    /// The patient's drugs, each at most once.
    pub fn medications(&self, patient: &Patient) -> Vec<Medication> {
        let likely = [
            // Decided with the patient, since it is part of the risk: a few more have stopped in time.
            if patient.steroid { 1.0 } else { 0.04 },
            math::sigmoid(-1.8 + 0.06 * (patient.systolic - 125.0)),
            math::sigmoid(-1.9 + 0.04 * (patient.age - 54.0)),
            0.05,
            0.20,
        ];
        let taken = |drug: usize| {
            let draws = self.drug_keys.at(patient.index * 100 + drug as u64);
            let (taken, start) = draws.pair(0);
            let (stops, stop) = draws.pair(1);
            let started = AS_OF - 2 - (start * 2_000.0) as i32;
            let lasts = drug == 0 && patient.steroid;
            let ends = !lasts && (drug == 0 || stops < 0.3);
            let before = f64::from(AS_OF - 1 - started);
            (taken < likely[drug]).then(|| Medication {
                id: patient.id() * 100 + drug as i64 + 1,
                patient: patient.id(),
                drug,
                started,
                stopped: ends.then(|| started + 1 + (stop * before) as i32),
            })
        };
        (0..DRUGS.len()).filter_map(taken).collect()
    }

    /// The patient's diagnoses: diabetes if it comes, and others at any time from 2018 to 2025.
    pub fn diagnoses(&self, patient: &Patient) -> Vec<Diagnosis> {
        let likely = [0.0, math::sigmoid(-1.3 + 0.07 * (patient.systolic - 125.0)), 0.18, 0.07, 0.30];
        let made = |code: usize| {
            let (has, day) = self.code_keys.at(patient.index * 100 + code as u64).pair(0);
            let day = match code {
                0 => patient.diagnosed,
                _ => (has < likely[code]).then(|| FIRST_DAY + (day * 2_922.0) as i32),
            };
            day.map(|day| Diagnosis { id: patient.id() * 100 + code as i64 + 1, patient: patient.id(), code, day })
        };
        (0..CODES.len()).filter_map(made).collect()
    }
}

/// A moment of the four years, in office hours; `(day, clock)` are uniforms.
fn moment((day, clock): (f64, f64)) -> i64 {
    let day = FIRST_DAY + (day * f64::from(DAYS)) as i32;
    i64::from(day) * 1_440 * MINUTE + (480 + (clock * 600.0) as i64) * MINUTE
}

fn visit(patient: &Patient, draws: &Draws<'_>) -> Visit {
    let at_us = moment(draws.pair(0));
    let (systolic, diastolic) = draws.pair(1);
    let (weight, no_weight) = draws.pair(2);
    let (no_pressure, _) = draws.pair(3);
    let measured = no_pressure >= 0.03;
    let metres = patient.height_cm / 100.0;
    let pressure = |mean: f64, spread: f64, p: f64| measured.then(|| whole(mean + spread * normal(p)) as i32);
    Visit {
        id: 0,
        patient: patient.id(),
        at_us,
        systolic: pressure(patient.systolic, 8.0, systolic),
        diastolic: pressure(patient.diastolic, 6.0, diastolic),
        weight_kg: (no_weight >= 0.06).then(|| tenths(patient.bmi * metres * metres + 0.9 * normal(weight))),
    }
}

fn panel(patient: &Patient, panel: u64, draws: &Draws<'_>) -> Vec<LabResult> {
    let at_us = moment(draws.pair(0));
    let years = (at_us as f64 / 86_400e6 - f64::from(AS_OF)) / 365.25;
    let result = |test: usize| {
        let (noise, lost) = draws.pair(1 + test);
        // What decides whether the test is made comes from the same uniform as whether the sample is lost.
        let share = TESTS[test].1;
        (lost < share).then(|| LabResult {
            id: patient.id() * 10_000 + panel as i64 * 10 + test as i64 + 1,
            patient: patient.id(),
            at_us,
            test,
            value: (lost >= 0.02 * share).then(|| value(patient, test, years, normal(noise))),
        })
    };
    (0..TESTS.len()).filter_map(result).collect()
}

/// A measurement `years` after 2021-01-01 with standard normal noise `z`.
fn value(patient: &Patient, test: usize, years: f64, z: f64) -> f64 {
    match test {
        0 => tenths((patient.hba1c + patient.hba1c_trend * years + 0.12 * z).clamp(3.8, 7.5)),
        1 => whole((patient.glucose + 7.0 * z).clamp(45.0, 170.0)),
        2 => whole((patient.hdl + 3.5 * z).clamp(15.0, 120.0)),
        _ => whole((patient.triglycerides * math::exp(0.2 * z)).clamp(25.0, 1_500.0)),
    }
}
