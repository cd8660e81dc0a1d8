//! The columns of `card-fraud` and how rows become a record batch.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

use super::super::arrays::{self, floats, floats_or_null, ints, ints_or_null, longs, moments, texts, truths};
use super::{CATEGORIES, CHANNELS, COUNTRIES, Row};

/// Fifteen columns; the four that may be null say so.
pub fn schema() -> SchemaRef {
    arrays::schema(&[
        ("transaction_id", DataType::Int64, false),
        ("at", arrays::moment(), false),
        ("card_id", DataType::Int64, false),
        ("customer_age", DataType::Int32, true),
        ("merchant_id", DataType::Int64, false),
        ("category", DataType::Utf8, false),
        ("channel", DataType::Utf8, false),
        ("country", DataType::Utf8, false),
        ("amount", DataType::Float64, false),
        ("distance_km", DataType::Float64, true),
        ("minutes_since_last", DataType::Float64, true),
        ("transactions_24h", DataType::Int32, false),
        ("is_foreign", DataType::Boolean, false),
        ("device_score", DataType::Float64, true),
        ("is_fraud", DataType::Boolean, false),
    ])
}

/// Rows as a batch of [`schema`].
pub fn batch(rows: &[Row]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        moments(rows.iter().map(|r| r.at_us)),
        longs(rows.iter().map(|r| 400_000 + r.card as i64)),
        ints_or_null(rows.iter().map(|r| r.customer_age)),
        longs(rows.iter().map(|r| r.merchant)),
        texts(rows.iter().map(|r| CATEGORIES[r.category].name)),
        texts(rows.iter().map(|r| CHANNELS[r.channel])),
        texts(rows.iter().map(|r| COUNTRIES[r.country].0)),
        floats(rows.iter().map(|r| r.amount)),
        floats_or_null(rows.iter().map(|r| r.distance_km)),
        floats_or_null(rows.iter().map(|r| r.minutes_since_last)),
        ints(rows.iter().map(|r| r.transactions_24h)),
        truths(rows.iter().map(|r| r.foreign)),
        floats_or_null(rows.iter().map(|r| r.device_score)),
        truths(rows.iter().map(|r| r.fraud)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
