//! The invented patient: what is true of somebody on 2021-01-01, and the risk that follows from it. Nobody sees
//! this; the tables measure it.

use sheaf_learn::math;

use super::super::draw::{Draws, Keys, normal, pick, whole};

/// 2021-01-01 as days since 1970: what happened before it may be known, what happens after it is asked for.
pub const AS_OF: i32 = 18_628;
/// 2026-01-01: five years later.
pub const HORIZON: i32 = 20_454;

/// Regions with their share of patients and what living there adds to the body mass index.
pub const REGIONS: [(&str, f64, f64); 6] = [
    ("coast", 0.14, -0.5),
    ("east", 0.13, 0.7),
    ("hills", 0.09, -0.3),
    ("north", 0.17, 0.4),
    ("south", 0.21, 0.0),
    ("west", 0.26, 0.1),
];

/// Habits of smoking with their share.
pub const SMOKING: [(&str, f64); 3] = [("never", 0.55), ("former", 0.27), ("current", 0.18)];
/// Index of `current`.
const CURRENT: usize = 2;

/// Slots of a patient's draws; each gives two uniforms.
mod slot {
    pub const AGE: usize = 0;
    pub const HOME: usize = 1;
    pub const BODY: usize = 2;
    pub const FAMILY: usize = 3;
    pub const METABOLISM: usize = 4;
    pub const LIPIDS: usize = 5;
    pub const PRESSURE: usize = 6;
    pub const STEROID: usize = 7;
    pub const OUTCOME: usize = 8;
    pub const DIAGNOSIS: usize = 9;
    pub const ALL: usize = 10;
}

/// One patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Patient {
    /// 0, 1, 2 …: the counter of all further draws.
    pub index: u64,
    /// Days since 1970.
    pub birth: i32,
    pub male: bool,
    /// Index of [`REGIONS`].
    pub region: usize,
    /// Index of [`SMOKING`].
    pub smoking: usize,
    pub height_cm: f64,
    /// Diabetes of a parent, brother or sister.
    pub family: bool,
    /// What the register says about it; nothing for eight in a hundred.
    pub family_known: Option<bool>,
    /// Years on 2021-01-01.
    pub age: f64,
    /// kg/m².
    pub bmi: f64,
    /// Glycated haemoglobin, % (NGSP).
    pub hba1c: f64,
    /// How much it rises in a year.
    pub hba1c_trend: f64,
    /// Fasting glucose, mg/dl.
    pub glucose: f64,
    /// HDL cholesterol, mg/dl.
    pub hdl: f64,
    /// mg/dl.
    pub triglycerides: f64,
    /// mmHg.
    pub systolic: f64,
    /// mmHg.
    pub diastolic: f64,
    /// Takes a corticosteroid on 2021-01-01.
    pub steroid: bool,
    /// The logit of the diagnosis as far as the state above explains it.
    pub logit: f64,
    /// Day of the diagnosis, if it comes: before [`HORIZON`] for those whom the risk caught, in the year after it
    /// for a few others.
    pub diagnosed: Option<i32>,
}

impl Patient {
    /// The patient's number in the tables: 1, 2, 3 …
    pub fn id(&self) -> i64 {
        self.index as i64 + 1
    }

    /// The label: diabetes diagnosed within the five years.
    #[cfg(test)]
    pub fn diabetes(&self) -> bool {
        self.diagnosed.is_some_and(|day| day < HORIZON)
    }
}

/// Makes patients.
pub struct Patients(Keys<{ slot::ALL }>);

impl Patients {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Keys::new(seed, "generate diabetes-risk patient"))
    }

    /// The patient of an index.
    pub fn at(&self, index: u64) -> Patient {
        let draws = self.0.at(index);
        let mut made = person(index, &draws);
        measure(&mut made, &draws);
        made.logit = logit(&made);
        made.diagnosed = diagnosis(made.logit, &draws);
        made
    }
}

/// Who somebody is: age, home, body, family.
fn person(index: u64, draws: &Draws<'_>) -> Patient {
    let (age, sex) = draws.pair(slot::AGE);
    let (region, smoking) = draws.pair(slot::HOME);
    let (mass, height) = draws.pair(slot::BODY);
    let (family, unknown) = draws.pair(slot::FAMILY);
    let (_, steroid) = draws.pair(slot::STEROID);
    let age = (54.0 + 14.0 * normal(age)).clamp(30.0, 85.0);
    let male = sex < 0.48;
    let region = pick(REGIONS.iter().map(|r| r.1), 1.0, region);
    let family = family < 0.22;
    let mass = math::exp(3.288 + 0.16 * normal(mass) + 0.002 * (age.min(70.0) - 54.0));
    Patient {
        index,
        birth: AS_OF - (age * 365.25) as i32,
        male,
        region,
        smoking: pick(SMOKING.iter().map(|s| s.1), 1.0, smoking),
        height_cm: whole(if male { 177.0 } else { 164.0 } + 6.5 * normal(height)).clamp(140.0, 210.0),
        family,
        family_known: (unknown >= 0.08).then_some(family),
        age,
        bmi: (mass + REGIONS[region].2).clamp(16.0, 58.0),
        steroid: steroid < 0.06,
        ..nobody()
    }
}

/// What a laboratory would find if it made no error.
fn measure(patient: &mut Patient, draws: &Draws<'_>) {
    let (metabolism, trend) = draws.pair(slot::METABOLISM);
    let (hdl, triglycerides) = draws.pair(slot::LIPIDS);
    let (systolic, diastolic) = draws.pair(slot::PRESSURE);
    let (glucose, _) = draws.pair(slot::STEROID);
    let (metabolism, years, mass) = (normal(metabolism), patient.age - 54.0, patient.bmi - 27.0);
    patient.hba1c = (5.45 + 0.006 * years + 0.022 * mass + 0.27 * metabolism).clamp(4.2, 6.6);
    patient.hba1c_trend = 0.04 + 0.03 * normal(trend);
    patient.glucose = (94.0 + 20.0 * (patient.hba1c - 5.45) + 7.0 * normal(glucose)).clamp(60.0, 140.0);
    let sex = if patient.male { 9.0 } else { 0.0 };
    patient.hdl = (56.0 - sex - 0.5 * mass - 4.0 * metabolism + 9.0 * normal(hdl)).clamp(20.0, 110.0);
    patient.triglycerides = math::exp(4.75 + 0.02 * mass + 0.15 * metabolism + 0.35 * normal(triglycerides)).clamp(30.0, 800.0);
    patient.systolic = (124.0 + 0.45 * years + 0.7 * mass + 9.0 * normal(systolic)).clamp(85.0, 215.0);
    patient.diastolic = (0.5 * patient.systolic + 17.0 + 4.0 * normal(diastolic)).clamp(45.0, 125.0);
}

/// The stated risk: what the state adds to the logit of a diagnosis within five years.
fn logit(p: &Patient) -> f64 {
    let yes = |condition: bool, weight: f64| if condition { weight } else { 0.0 };
    -3.15 + 0.035 * (p.age - 54.0) + 0.075 * (p.bmi - 27.0) + 2.3 * (p.hba1c - 5.45) + 0.03 * (p.glucose - 94.0)
        - 0.015 * (p.hdl - 52.0)
        + 0.012 * (p.systolic - 125.0)
        + yes(p.family, 0.6)
        + yes(p.smoking == CURRENT, 0.35)
        + yes(p.steroid, 0.7)
        + yes(p.male, 0.15)
}

/// Standard deviation of what adds to the logit and stands in no table.
const UNEXPLAINED: f64 = 0.4;

fn diagnosis(logit: f64, draws: &Draws<'_>) -> Option<i32> {
    let (noise, outcome) = draws.pair(slot::OUTCOME);
    let (day, later) = draws.pair(slot::DIAGNOSIS);
    let days = |from: i32, days: i32| from + (day * f64::from(days)) as i32;
    if outcome < math::sigmoid(logit + UNEXPLAINED * normal(noise)) {
        return Some(days(AS_OF, HORIZON - AS_OF));
    }
    (later < 0.02).then(|| days(HORIZON, 365))
}

fn nobody() -> Patient {
    Patient {
        index: 0,
        birth: 0,
        male: false,
        region: 0,
        smoking: 0,
        height_cm: 0.0,
        family: false,
        family_known: None,
        age: 0.0,
        bmi: 0.0,
        hba1c: 0.0,
        hba1c_trend: 0.0,
        glucose: 0.0,
        hdl: 0.0,
        triglycerides: 0.0,
        systolic: 0.0,
        diastolic: 0.0,
        steroid: false,
        logit: 0.0,
        diagnosed: None,
    }
}
