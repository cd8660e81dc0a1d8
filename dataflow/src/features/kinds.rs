//! The column types that features know: every Arrow type is one of them or cannot be used. Values are
//! cast to the recorded type before anything reads them, so that scoring sees what training saw.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use serde::{Deserialize, Serialize};

use crate::features::FitError;
use crate::types::timestamp_utc;

/// A column's type. Written as `int64`, `utf8`, `decimal(10,2)` … in pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Type {
    /// true or false.
    Bool,
    /// Signed integer of so many bits.
    Int(u8),
    /// Unsigned integer of so many bits.
    UInt(u8),
    /// 32-bit float.
    Float32,
    /// 64-bit float.
    Float64,
    /// Decimal with precision and scale, at most 38 digits.
    Decimal(u8, i8),
    /// Text of any Arrow layout.
    Text,
    /// Days since 1970-01-01.
    Date,
    /// Nanoseconds since 1970-01-01 UTC.
    Timestamp,
}

impl Type {
    /// The type of an Arrow column; `None` for nested and binary ones.
    pub fn of(data_type: &DataType) -> Option<Type> {
        Some(match data_type {
            DataType::Boolean => Type::Bool,
            DataType::Int8 => Type::Int(8),
            DataType::Int16 => Type::Int(16),
            DataType::Int32 => Type::Int(32),
            DataType::Int64 => Type::Int(64),
            DataType::UInt8 => Type::UInt(8),
            DataType::UInt16 => Type::UInt(16),
            DataType::UInt32 => Type::UInt(32),
            DataType::UInt64 => Type::UInt(64),
            DataType::Float16 | DataType::Float32 => Type::Float32,
            DataType::Float64 => Type::Float64,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => Type::Decimal(*p, *s),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::Text,
            DataType::Dictionary(_, values) if Type::of(values) == Some(Type::Text) => Type::Text,
            DataType::Date32 | DataType::Date64 => Type::Date,
            DataType::Timestamp(_, _) => Type::Timestamp,
            _ => return None,
        })
    }

    /// The Arrow type that values are cast to.
    pub fn arrow(self) -> DataType {
        match self {
            Type::Bool => DataType::Boolean,
            Type::Int(8) => DataType::Int8,
            Type::Int(16) => DataType::Int16,
            Type::Int(32) => DataType::Int32,
            Type::Int(_) => DataType::Int64,
            Type::UInt(8) => DataType::UInt8,
            Type::UInt(16) => DataType::UInt16,
            Type::UInt(32) => DataType::UInt32,
            Type::UInt(_) => DataType::UInt64,
            Type::Float32 => DataType::Float32,
            Type::Float64 => DataType::Float64,
            Type::Decimal(p, s) => DataType::Decimal128(p, s),
            Type::Text => DataType::Utf8,
            Type::Date => DataType::Date32,
            Type::Timestamp => timestamp_utc(),
        }
    }

    /// Name as written in pipelines and plans.
    pub fn name(self) -> String {
        match self {
            Type::Bool => "bool".into(),
            Type::Int(bits) => format!("int{bits}"),
            Type::UInt(bits) => format!("uint{bits}"),
            Type::Float32 => "float32".into(),
            Type::Float64 => "float64".into(),
            Type::Decimal(p, s) => format!("decimal({p},{s})"),
            Type::Text => "utf8".into(),
            Type::Date => "date".into(),
            Type::Timestamp => "timestamp".into(),
        }
    }

    /// The type of a name.
    pub fn parse(name: &str) -> Option<Type> {
        let fixed = [Type::Bool, Type::Float32, Type::Float64, Type::Text, Type::Date, Type::Timestamp];
        let sized = [8, 16, 32, 64].into_iter().flat_map(|b| [Type::Int(b), Type::UInt(b)]);
        if let Some(found) = fixed.into_iter().chain(sized).find(|t| t.name() == name) {
            return Some(found);
        }
        let (p, s) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        Some(Type::Decimal(p.parse().ok()?, s.parse().ok()?))
    }

    /// Integers, floats and decimals.
    pub fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Type::Float32 | Type::Float64 | Type::Decimal(..))
    }

    /// Signed and unsigned integers.
    pub fn is_integer(self) -> bool {
        matches!(self, Type::Int(_) | Type::UInt(_))
    }

    /// What may be a numeric feature as it is: numbers, and booleans as 0 and 1.
    pub fn is_numeric_feature(self) -> bool {
        self.is_number() || self == Type::Bool
    }

    /// What can stand as a category or be hashed: text, booleans, integers, dates, timestamps.
    pub fn is_category(self) -> bool {
        self.is_integer() || matches!(self, Type::Text | Type::Bool | Type::Date | Type::Timestamp)
    }

    /// Whether a column of type `other` may stand in where this type was trained on.
    pub fn accepts(self, other: Type) -> bool {
        self == other
            || (self.is_integer() && other.is_integer())
            || (matches!(self, Type::Float32 | Type::Float64) && (other.is_number()))
            || matches!((self, other), (Type::Decimal(_, scale), Type::Decimal(_, theirs)) if theirs <= scale)
            || matches!((self, other), (Type::Decimal(..), Type::Int(_)))
    }
}

impl From<Type> for String {
    fn from(value: Type) -> String {
        value.name()
    }
}

impl TryFrom<String> for Type {
    type Error = String;
    fn try_from(name: String) -> Result<Type, String> {
        Type::parse(&name).ok_or_else(|| format!("`{name}` is not a column type"))
    }
}

/// Name of any Arrow type, as messages show it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    Type::of(data_type).map_or_else(|| data_type.to_string().to_lowercase(), Type::name)
}

/// `array` as `to`, value for value: an overflow or a lost digit is an error, never a null.
pub(crate) fn cast_to(column: &str, array: &ArrayRef, to: Type) -> Result<ArrayRef, FitError> {
    let target = to.arrow();
    if *array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    let failed = |reason: String| {
        FitError::Data(format!("column `{column}` ({}) cannot be read as {}: {reason}", type_name(array.data_type()), to.name()))
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let out = cast_with_options(array, &target, &options).map_err(|e| failed(e.to_string()))?;
    if loses_digits(array, &out, to) {
        return Err(failed("values lose digits".into()));
    }
    Ok(out)
}

/// Whether a cast into a narrower float changed a value.
fn loses_digits(before: &ArrayRef, after: &ArrayRef, to: Type) -> bool {
    if to != Type::Float32 || !matches!(before.data_type(), DataType::Float64) {
        return false;
    }
    let (before, after) = (before.as_primitive::<Float64Type>(), after.as_primitive::<Float32Type>());
    before.iter().zip(after.iter()).any(|(b, a)| match (b, a) {
        (Some(b), Some(a)) => !b.is_nan() && f64::from(a) != b,
        _ => false,
    })
}

/// Values of a number, boolean, date (days) or timestamp (ns) column as f64; a null is NaN.
pub(crate) fn numbers(array: &ArrayRef, ty: Type) -> Vec<f64> {
    macro_rules! primitive {
        ($t:ty) => {
            array.as_primitive::<$t>().iter().map(|v| v.map_or(f64::NAN, |v| v as f64)).collect()
        };
    }
    match ty {
        Type::Bool => array.as_boolean().iter().map(|v| v.map_or(f64::NAN, |b| if b { 1.0 } else { 0.0 })).collect(),
        Type::Int(8) => primitive!(Int8Type),
        Type::Int(16) => primitive!(Int16Type),
        Type::Int(32) => primitive!(Int32Type),
        Type::Int(_) => primitive!(Int64Type),
        Type::UInt(8) => primitive!(UInt8Type),
        Type::UInt(16) => primitive!(UInt16Type),
        Type::UInt(32) => primitive!(UInt32Type),
        Type::UInt(_) => primitive!(UInt64Type),
        Type::Float32 => primitive!(Float32Type),
        Type::Float64 => primitive!(Float64Type),
        Type::Decimal(_, scale) => decimals(array, scale),
        Type::Date => primitive!(Date32Type),
        Type::Timestamp => primitive!(TimestampNanosecondType),
        Type::Text => vec![f64::NAN; array.len()],
    }
}

/// Decimals as f64: exact for up to 15 digits, since 10^scale is exact up to 22.
fn decimals(array: &ArrayRef, scale: i8) -> Vec<f64> {
    let power = (0..scale.unsigned_abs()).fold(1.0_f64, |p, _| p * 10.0);
    let value = |v: i128| if scale >= 0 { v as f64 / power } else { v as f64 * power };
    array.as_primitive::<Decimal128Type>().iter().map(|v| v.map_or(f64::NAN, value)).collect()
}

/// Null or NaN.
pub(crate) fn missing(array: &ArrayRef, ty: Type) -> BooleanArray {
    match ty {
        Type::Float32 => array.as_primitive::<Float32Type>().iter().map(|v| Some(v.is_none_or(f32::is_nan))).collect(),
        Type::Float64 => array.as_primitive::<Float64Type>().iter().map(|v| Some(v.is_none_or(f64::is_nan))).collect(),
        _ => (0..array.len()).map(|i| Some(array.is_null(i))).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringViewArray, TimestampMillisecondArray};

    #[test]
    fn names_round_trip() {
        let sized = [8, 16, 32, 64].into_iter().flat_map(|b| [Type::Int(b), Type::UInt(b)]);
        let all =
            [Type::Bool, Type::Float32, Type::Text, Type::Date, Type::Timestamp, Type::Decimal(10, 2), Type::Decimal(5, -1)];
        for ty in sized.chain(all) {
            assert_eq!(Type::parse(&ty.name()), Some(ty));
            assert_eq!(Type::of(&ty.arrow()), Some(ty));
        }
        assert_eq!(Type::parse("list"), None);
    }

    #[test]
    fn casts_are_strict() {
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(300)]));
        assert!(cast_to("a", &wide, Type::Int(32)).is_ok());
        let error = cast_to("a", &wide, Type::Int(8)).unwrap_err().to_string();
        assert!(error.starts_with("column `a` (int64) cannot be read as int8"), "{error}");
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
        assert!(cast_to("a", &floats, Type::Float32).is_ok());
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.1]));
        assert!(cast_to("a", &floats, Type::Float32).is_err());
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["a"]));
        assert_eq!(cast_to("a", &text, Type::Text).unwrap().data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_zone_never_moves_an_instant() {
        let zoned: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_000]).with_timezone("+05:00"));
        let out = cast_to("t", &zoned, Type::Timestamp).unwrap();
        assert_eq!(out.as_primitive::<TimestampNanosecondType>().value(0), 1_000_000_000);
    }

    #[test]
    fn decimals_are_divided_once() {
        let array: ArrayRef =
            Arc::new(arrow::array::Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(10, 2).unwrap());
        let out = numbers(&array, Type::Decimal(10, 2));
        assert_eq!(out[0], 123.45);
        assert!(out[1].is_nan());
    }
}
