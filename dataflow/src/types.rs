//! Column types: which ones a table may have, which ones prepared rows have, and their names in documents.
//! A source type that nothing here can read is *opaque*: it may stand in a file as long as no query touches it.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Zone name of every timestamp.
pub const UTC: &str = "UTC";

/// A named column and the name of its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSpec {
    /// Column name.
    pub name: String,
    /// Type name as [`name`] writes it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Timestamps of prepared rows: nanoseconds since 1970 in UTC.
pub fn timestamp_utc() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

/// Type under which SQL sees a column of a file; `None` for types that are not supported.
pub fn source_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Dictionary(_, value) => return source_type(value),
        T::Float16 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Timestamp(unit, Some(_)) => T::Timestamp(*unit, Some(UTC.into())),
        T::Decimal32(p, s) | T::Decimal64(p, s) => T::Decimal128(*p, *s),
        t if simple(t) => t.clone(),
        _ => return None,
    })
}

/// Type of a prepared column for the type that an expression gave; `None` where it is not supported.
pub fn prepared_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    match source_type(data_type)? {
        T::Timestamp(_, _) => Some(timestamp_utc()),
        other => Some(other),
    }
}

fn simple(data_type: &DataType) -> bool {
    use DataType as T;
    data_type.is_integer()
        || matches!(data_type, T::Boolean | T::Float32 | T::Float64 | T::Date32 | T::Timestamp(_, _) | T::Decimal128(_, _))
}

/// True for columns that count in the size of a shard: everything that is stored as a number.
pub fn is_numeric(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Utf8)
}

/// Name of a type in documents and messages. Opaque types have names that [`parse`] does not know.
pub fn name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Boolean => "bool".into(),
        T::Date32 => "date".into(),
        T::Timestamp(TimeUnit::Nanosecond, Some(_)) => "timestamp".into(),
        T::Timestamp(unit, zone) => {
            format!("timestamp_{}{}", unit_name(*unit), if zone.is_some() { "_utc" } else { "" })
        }
        T::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        other => other.to_string().to_ascii_lowercase(),
    }
}

/// Type of a name that [`name`] wrote, and the usual spellings of job files.
pub fn parse(name: &str) -> Option<DataType> {
    use DataType as T;
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "bool" | "boolean" => T::Boolean,
        "int8" => T::Int8,
        "int16" => T::Int16,
        "int32" => T::Int32,
        "int64" | "int" | "integer" => T::Int64,
        "uint8" => T::UInt8,
        "uint16" => T::UInt16,
        "uint32" => T::UInt32,
        "uint64" => T::UInt64,
        "float32" => T::Float32,
        "float64" | "float" | "double" => T::Float64,
        "utf8" | "text" | "string" => T::Utf8,
        "date" | "date32" => T::Date32,
        "timestamp" => timestamp_utc(),
        other => return parse_decimal(other).or_else(|| parse_timestamp(other)),
    })
}

/// Names that a job file may use for a declared column, for messages.
pub const DECLARABLE: &str =
    "bool, int8 … int64, uint8 … uint64, float32, float64, utf8, date, timestamp, decimal(precision,scale)";

fn parse_decimal(name: &str) -> Option<DataType> {
    let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
    let fits = (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale);
    fits.then_some(DataType::Decimal128(precision, scale))
}

fn parse_timestamp(name: &str) -> Option<DataType> {
    let rest = name.strip_prefix("timestamp_")?;
    let (unit, zone) = match rest.strip_suffix("_utc") {
        Some(unit) => (unit, Some(UTC.into())),
        None => (rest, None),
    };
    let unit = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
        .into_iter()
        .find(|u| unit_name(*u) == unit)?;
    Some(DataType::Timestamp(unit, zone))
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// Arrow schema of columns; every column is nullable, an opaque one has the type null.
pub fn schema(columns: &[ColumnSpec]) -> SchemaRef {
    let field = |c: &ColumnSpec| Field::new(&c.name, parse(&c.kind).unwrap_or(DataType::Null), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_round_trip() {
        let zones = [None, Some(UTC.into())];
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let timestamps = units.into_iter().flat_map(|u| zones.clone().map(|z| DataType::Timestamp(u, z)));
        let others = [DataType::Boolean, DataType::Int8, DataType::UInt64, DataType::Float32, DataType::Float64];
        let more = [DataType::Utf8, DataType::Date32, DataType::Decimal128(20, 4)];
        for data_type in timestamps.chain(others).chain(more) {
            assert_eq!(parse(&name(&data_type)).unwrap(), data_type);
        }
    }

    #[test]
    fn unsupported_types_have_no_source_type_and_no_parse() {
        for data_type in [DataType::Binary, DataType::Time64(TimeUnit::Nanosecond), DataType::Decimal256(50, 2)] {
            assert_eq!(source_type(&data_type), None);
            assert_eq!(parse(&name(&data_type)), None);
        }
        assert_eq!(parse("decimal(39,2)"), None);
    }

    #[test]
    fn text_and_zones_become_one_type() {
        assert_eq!(source_type(&DataType::LargeUtf8), Some(DataType::Utf8));
        let berlin = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
        assert_eq!(prepared_type(&berlin), Some(timestamp_utc()));
    }
}
