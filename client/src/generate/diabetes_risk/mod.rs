//! `diabetes-risk`: patients who were free of diabetes on 2021-01-01, with four years of visits and lab results,
//! their medications and diagnoses. Whether type 2 diabetes (code `E11`) is diagnosed within five years follows a
//! logistic risk of the patient's true state ([`patient`]); the tables hold noisy measurements of it, some missing.
//!
//! Every value is a function of (seed, patient): a table asks for a patient's state and adds its own draws.

mod history;
mod patient;
mod tables;

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::history::Histories;
use super::{Layout, Table};

/// The tables.
pub const TABLES: &[&str] = &["patients", "visits", "lab_results", "medications", "diagnoses"];

/// The dataset of `rows` patients under `seed`.
pub fn tables(rows: u64, seed: u64) -> Vec<Box<dyn Table>> {
    let kinds = [Kind::Patients, Kind::Visits, Kind::LabResults, Kind::Medications, Kind::Diagnoses];
    kinds.into_iter().map(|kind| Box::new(Part { kind, rows, histories: Histories::new(seed) }) as Box<dyn Table>).collect()
}

/// Which table.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Patients,
    Visits,
    LabResults,
    Medications,
    Diagnoses,
}

/// One of the tables; a unit is a patient.
struct Part {
    kind: Kind,
    rows: u64,
    histories: Histories,
}

impl Table for Part {
    fn name(&self) -> &'static str {
        TABLES[self.kind as usize]
    }

    fn schema(&self) -> SchemaRef {
        match self.kind {
            Kind::Patients => tables::patients_schema(),
            Kind::Visits => tables::visits_schema(),
            Kind::LabResults => tables::lab_results_schema(),
            Kind::Medications => tables::medications_schema(),
            Kind::Diagnoses => tables::diagnoses_schema(),
        }
    }

    fn units(&self) -> u64 {
        self.rows
    }

    fn noun(&self) -> &'static str {
        "patients"
    }

    fn rows_per_unit(&self) -> u64 {
        match self.kind {
            Kind::Patients | Kind::Medications | Kind::Diagnoses => 1,
            Kind::Visits => 8,
            Kind::LabResults => 14,
        }
    }

    fn layout(&self) -> Layout {
        match self.kind {
            Kind::Patients => Layout::Csv,
            _ => Layout::Parquet,
        }
    }

    fn batch(&self, units: Range<u64>) -> anyhow::Result<RecordBatch> {
        let patients = units.map(|index| self.histories.patient(index));
        match self.kind {
            Kind::Patients => tables::patients(&patients.collect::<Vec<_>>()),
            Kind::Visits => tables::visits(&patients.flat_map(|p| self.histories.visits(&p)).collect::<Vec<_>>()),
            Kind::LabResults => tables::lab_results(&patients.flat_map(|p| self.histories.lab_results(&p)).collect::<Vec<_>>()),
            Kind::Medications => tables::medications(&patients.flat_map(|p| self.histories.medications(&p)).collect::<Vec<_>>()),
            Kind::Diagnoses => tables::diagnoses(&patients.flat_map(|p| self.histories.diagnoses(&p)).collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests;
