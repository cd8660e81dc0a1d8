//! The columns of `card-fraud` and how rows become a record batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{CATEGORIES, CHANNELS, COUNTRIES, Row};

/// Fifteen columns; the four that may be null say so.
pub fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable: bool| Field::new(name, data_type, nullable);
    Arc::new(Schema::new(vec![
        field("transaction_id", DataType::Int64, false),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        field("card_id", DataType::Int64, false),
        field("customer_age", DataType::Int32, true),
        field("merchant_id", DataType::Int64, false),
        field("category", DataType::Utf8, false),
        field("channel", DataType::Utf8, false),
        field("country", DataType::Utf8, false),
        field("amount", DataType::Float64, false),
        field("distance_km", DataType::Float64, true),
        field("minutes_since_last", DataType::Float64, true),
        field("transactions_24h", DataType::Int32, false),
        field("is_foreign", DataType::Boolean, false),
        field("device_score", DataType::Float64, true),
        field("is_fraud", DataType::Boolean, false),
    ]))
}

/// Rows as a batch of [`schema`].
pub fn batch(rows: &[Row]) -> anyhow::Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.at_us)).with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| 400_000 + r.card as i64))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.customer_age))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.merchant))),
        text(rows, |r| CATEGORIES[r.category].name),
        text(rows, |r| CHANNELS[r.channel]),
        text(rows, |r| COUNTRIES[r.country].0),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.amount))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.distance_km))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.minutes_since_last))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.transactions_24h))),
        truths(rows, |r| r.foreign),
        Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.device_score))),
        truths(rows, |r| r.fraud),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn text(rows: &[Row], value: impl Fn(&Row) -> &'static str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn truths(rows: &[Row], value: impl Fn(&Row) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|r| Some(value(r))).collect::<BooleanArray>())
}
