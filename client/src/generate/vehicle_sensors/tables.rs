//! The columns of the tables of `vehicle-sensors` and how rows become record batches.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

use super::super::arrays::{self, floats, floats_or_null, ints, longs, moments, texts, texts_or_null};
use super::fleet::{DEPOTS, FAULTS, MODELS, Vehicle, WORK};
use super::series::{Event, Reading};

/// What the vans reported.
pub fn readings_schema() -> SchemaRef {
    arrays::schema(&[
        ("reading_id", DataType::Int64, false),
        ("vehicle_id", DataType::Int64, false),
        ("at", arrays::moment(), false),
        ("odometer_km", DataType::Float64, false),
        ("speed_kmh", DataType::Float64, false),
        ("rpm", DataType::Int32, false),
        ("ambient_c", DataType::Float64, false),
        ("coolant_c", DataType::Float64, true),
        ("vibration", DataType::Float64, true),
        ("voltage", DataType::Float64, true),
        ("fault_code", DataType::Utf8, true),
    ])
}

/// Rows of [`readings_schema`].
pub fn readings(rows: &[Reading]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.vehicle)),
        moments(rows.iter().map(|r| r.at_us)),
        floats(rows.iter().map(|r| r.odometer_km)),
        floats(rows.iter().map(|r| r.speed_kmh)),
        ints(rows.iter().map(|r| r.rpm)),
        floats(rows.iter().map(|r| r.ambient_c)),
        floats_or_null(rows.iter().map(|r| r.coolant_c)),
        floats_or_null(rows.iter().map(|r| r.vibration)),
        floats_or_null(rows.iter().map(|r| r.voltage)),
        texts_or_null(rows.iter().map(|r| r.fault.map(|f| FAULTS[f]))),
    ];
    Ok(RecordBatch::try_new(readings_schema(), columns)?)
}

/// The vans.
pub fn vehicles_schema() -> SchemaRef {
    arrays::schema(&[
        ("vehicle_id", DataType::Int64, false),
        ("model", DataType::Utf8, false),
        ("model_year", DataType::Int32, false),
        ("depot", DataType::Utf8, false),
        ("payload_kg", DataType::Int32, false),
    ])
}

/// Rows of [`vehicles_schema`].
pub fn vehicles(rows: &[Vehicle]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        texts(rows.iter().map(|r| MODELS[r.model].name)),
        ints(rows.iter().map(|r| r.year)),
        texts(rows.iter().map(|r| DEPOTS[r.depot].0)),
        ints(rows.iter().map(|r| MODELS[r.model].payload_kg)),
    ];
    Ok(RecordBatch::try_new(vehicles_schema(), columns)?)
}

/// What the workshop did.
pub fn maintenance_schema() -> SchemaRef {
    arrays::schema(&[
        ("event_id", DataType::Int64, false),
        ("vehicle_id", DataType::Int64, false),
        ("at", arrays::moment(), false),
        ("odometer_km", DataType::Float64, false),
        ("work", DataType::Utf8, false),
        ("cost", DataType::Float64, false),
    ])
}

/// Rows of [`maintenance_schema`].
pub fn maintenance(rows: &[Event]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.vehicle)),
        moments(rows.iter().map(|r| r.at_us)),
        floats(rows.iter().map(|r| r.odometer_km)),
        texts(rows.iter().map(|r| WORK[r.work].0)),
        floats(rows.iter().map(|r| r.cost)),
    ];
    Ok(RecordBatch::try_new(maintenance_schema(), columns)?)
}
