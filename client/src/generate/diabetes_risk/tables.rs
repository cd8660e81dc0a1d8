//! The columns of the tables of `diabetes-risk` and how rows become record batches.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

use super::super::arrays::{
    self, dates, dates_or_null, floats, floats_or_null, ints_or_null, longs, moments, texts, truths_or_null,
};
use super::history::{CODES, DRUGS, Diagnosis, LabResult, Medication, TESTS, Visit};
use super::patient::{Patient, REGIONS, SMOKING};

/// Who they are.
pub fn patients_schema() -> SchemaRef {
    arrays::schema(&[
        ("patient_id", DataType::Int64, false),
        ("birth_date", DataType::Date32, false),
        ("sex", DataType::Utf8, false),
        ("region", DataType::Utf8, false),
        ("smoker", DataType::Utf8, false),
        ("height_cm", DataType::Float64, false),
        ("family_history", DataType::Boolean, true),
    ])
}

/// Rows of [`patients_schema`].
pub fn patients(rows: &[Patient]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(Patient::id)),
        dates(rows.iter().map(|r| r.birth)),
        texts(rows.iter().map(|r| if r.male { "male" } else { "female" })),
        texts(rows.iter().map(|r| REGIONS[r.region].0)),
        texts(rows.iter().map(|r| SMOKING[r.smoking].0)),
        floats(rows.iter().map(|r| r.height_cm)),
        truths_or_null(rows.iter().map(|r| r.family_known)),
    ];
    Ok(RecordBatch::try_new(patients_schema(), columns)?)
}

/// What was measured at the practice.
pub fn visits_schema() -> SchemaRef {
    arrays::schema(&[
        ("visit_id", DataType::Int64, false),
        ("patient_id", DataType::Int64, false),
        ("at", arrays::moment(), false),
        ("systolic", DataType::Int32, true),
        ("diastolic", DataType::Int32, true),
        ("weight_kg", DataType::Float64, true),
    ])
}

/// Rows of [`visits_schema`].
pub fn visits(rows: &[Visit]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.patient)),
        moments(rows.iter().map(|r| r.at_us)),
        ints_or_null(rows.iter().map(|r| r.systolic)),
        ints_or_null(rows.iter().map(|r| r.diastolic)),
        floats_or_null(rows.iter().map(|r| r.weight_kg)),
    ];
    Ok(RecordBatch::try_new(visits_schema(), columns)?)
}

/// What the laboratory found, a row for each test.
pub fn lab_results_schema() -> SchemaRef {
    arrays::schema(&[
        ("lab_id", DataType::Int64, false),
        ("patient_id", DataType::Int64, false),
        ("at", arrays::moment(), false),
        ("test", DataType::Utf8, false),
        ("value", DataType::Float64, true),
    ])
}

/// Rows of [`lab_results_schema`].
pub fn lab_results(rows: &[LabResult]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.patient)),
        moments(rows.iter().map(|r| r.at_us)),
        texts(rows.iter().map(|r| TESTS[r.test].0)),
        floats_or_null(rows.iter().map(|r| r.value)),
    ];
    Ok(RecordBatch::try_new(lab_results_schema(), columns)?)
}

/// Which drugs were taken from when to when.
pub fn medications_schema() -> SchemaRef {
    arrays::schema(&[
        ("medication_id", DataType::Int64, false),
        ("patient_id", DataType::Int64, false),
        ("drug", DataType::Utf8, false),
        ("started_on", DataType::Date32, false),
        ("stopped_on", DataType::Date32, true),
    ])
}

/// Rows of [`medications_schema`].
pub fn medications(rows: &[Medication]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.patient)),
        texts(rows.iter().map(|r| DRUGS[r.drug])),
        dates(rows.iter().map(|r| r.started)),
        dates_or_null(rows.iter().map(|r| r.stopped)),
    ];
    Ok(RecordBatch::try_new(medications_schema(), columns)?)
}

/// What was diagnosed first when.
pub fn diagnoses_schema() -> SchemaRef {
    arrays::schema(&[
        ("diagnosis_id", DataType::Int64, false),
        ("patient_id", DataType::Int64, false),
        ("code", DataType::Utf8, false),
        ("diagnosed_on", DataType::Date32, false),
    ])
}

/// Rows of [`diagnoses_schema`].
pub fn diagnoses(rows: &[Diagnosis]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.patient)),
        texts(rows.iter().map(|r| CODES[r.code])),
        dates(rows.iter().map(|r| r.day)),
    ];
    Ok(RecordBatch::try_new(diagnoses_schema(), columns)?)
}
