//! The columns of `search-ranking` and how rows become a record batch.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};

use super::super::arrays::{self, floats, floats_or_null, ints, longs, texts, truths};
use super::Shown;

/// Twenty-two columns; the three that may be null say so.
pub fn schema() -> SchemaRef {
    arrays::schema(&[
        ("result_id", DataType::Int64, false),
        ("query_id", DataType::Int64, false),
        ("relevance", DataType::Int32, false),
        ("topic", DataType::Utf8, false),
        ("query_words", DataType::Int32, false),
        ("query_volume", DataType::Float64, false),
        ("title_match", DataType::Float64, false),
        ("body_match", DataType::Float64, false),
        ("anchor_match", DataType::Float64, false),
        ("exact_phrase", DataType::Boolean, false),
        ("same_topic", DataType::Boolean, false),
        ("clicks", DataType::Float64, false),
        ("click_rate", DataType::Float64, true),
        ("rating", DataType::Float64, true),
        ("reviews", DataType::Int32, false),
        ("age_days", DataType::Float64, true),
        ("price", DataType::Float64, false),
        ("inlinks", DataType::Float64, false),
        ("spam_score", DataType::Float64, false),
        ("load_ms", DataType::Float64, false),
        ("length", DataType::Float64, false),
        ("shelf", DataType::Int32, false),
    ])
}

/// Rows as a batch of [`schema`].
pub fn batch(rows: &[Shown]) -> anyhow::Result<RecordBatch> {
    let columns = vec![
        longs(rows.iter().map(|r| r.id)),
        longs(rows.iter().map(|r| r.query)),
        ints(rows.iter().map(|r| r.grade)),
        texts(rows.iter().map(|r| r.topic)),
        ints(rows.iter().map(|r| r.words)),
        floats(rows.iter().map(|r| r.volume)),
        floats(rows.iter().map(|r| r.title_match)),
        floats(rows.iter().map(|r| r.body_match)),
        floats(rows.iter().map(|r| r.anchor_match)),
        truths(rows.iter().map(|r| r.exact_phrase)),
        truths(rows.iter().map(|r| r.same_topic)),
        floats(rows.iter().map(|r| r.clicks)),
        floats_or_null(rows.iter().map(|r| r.click_rate)),
        floats_or_null(rows.iter().map(|r| r.rating)),
        ints(rows.iter().map(|r| r.reviews)),
        floats_or_null(rows.iter().map(|r| r.age_days)),
        floats(rows.iter().map(|r| r.price)),
        floats(rows.iter().map(|r| r.inlinks)),
        floats(rows.iter().map(|r| r.spam_score)),
        floats(rows.iter().map(|r| r.load_ms)),
        floats(rows.iter().map(|r| r.length)),
        ints(rows.iter().map(|r| r.shelf)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
