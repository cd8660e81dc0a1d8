//! The one canonical text of a value: categories, hashed strings and class names all use it.
//! Integers are decimal, booleans `true` and `false`, dates `YYYY-MM-DD`, timestamps
//! `YYYY-MM-DDTHH:MM:SS` with the digits of the fraction that are needed, floats the shortest text
//! that reads back to the same value (whole numbers without a point).

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::datatypes::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{NaiveDate, NaiveDateTime};

use crate::features::date_parts::{civil, split_ns};
use crate::features::kinds::{Type, numbers};
use crate::types::UTC;

/// Calls `each(row, text)` for every row; `None` is a missing value (null or NaN).
pub(crate) fn each_text<'a>(array: &'a ArrayRef, ty: Type, mut each: impl FnMut(usize, Option<Cow<'a, str>>)) {
    macro_rules! integers {
        ($t:ty) => {
            for (i, v) in array.as_primitive::<$t>().iter().enumerate() {
                each(i, v.map(|v| Cow::Owned(v.to_string())));
            }
        };
    }
    match ty {
        Type::Text => {
            for (i, v) in array.as_string::<i32>().iter().enumerate() {
                each(i, v.map(Cow::Borrowed));
            }
        }
        Type::Bool => {
            for (i, v) in array.as_boolean().iter().enumerate() {
                each(i, v.map(|b| Cow::Borrowed(if b { "true" } else { "false" })));
            }
        }
        Type::Int(8) => integers!(Int8Type),
        Type::Int(16) => integers!(Int16Type),
        Type::Int(32) => integers!(Int32Type),
        Type::Int(_) => integers!(Int64Type),
        Type::UInt(8) => integers!(UInt8Type),
        Type::UInt(16) => integers!(UInt16Type),
        Type::UInt(32) => integers!(UInt32Type),
        Type::UInt(_) => integers!(UInt64Type),
        Type::Float32 => {
            for (i, v) in array.as_primitive::<Float32Type>().iter().enumerate() {
                each(i, v.filter(|v| !v.is_nan()).map(|v| Cow::Owned(float(f64::from(v)))));
            }
        }
        Type::Float64 => {
            for (i, v) in array.as_primitive::<Float64Type>().iter().enumerate() {
                each(i, v.filter(|v| !v.is_nan()).map(|v| Cow::Owned(float(v))));
            }
        }
        Type::Decimal(..) => {
            for (i, v) in numbers(array, ty).into_iter().enumerate() {
                each(i, (!v.is_nan()).then(|| Cow::Owned(float(v))));
            }
        }
        Type::Date => {
            for (i, v) in array.as_primitive::<Date32Type>().iter().enumerate() {
                each(i, v.map(|days| Cow::Owned(date(i64::from(days)))));
            }
        }
        Type::Timestamp => {
            for (i, v) in array.as_primitive::<TimestampNanosecondType>().iter().enumerate() {
                each(i, v.map(|ns| Cow::Owned(timestamp(ns))));
            }
        }
    }
}

/// Text of a float: `1`, `0.1`, `-2.5`; −0 is `0`.
pub(crate) fn float(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value}") }
}

/// `YYYY-MM-DD`.
fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DDTHH:MM:SS` and the fraction without its trailing zeros.
fn timestamp(ns: i64) -> String {
    let (days, of_day) = split_ns(ns);
    let seconds = of_day / 1_000_000_000;
    let mut out = date(days);
    write!(out, "T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).expect("a String takes all text");
    let fraction = of_day % 1_000_000_000;
    if fraction != 0 {
        let digits = format!("{fraction:09}");
        write!(out, ".{}", digits.trim_end_matches('0')).expect("a String takes all text");
    }
    out
}

/// The value of a canonical text, as an array of one; `None` if the type has no such value. Decimals
/// have none: they become floats before anything replaces them.
pub(crate) fn one_value(text: &str, ty: Type) -> Option<ArrayRef> {
    macro_rules! number {
        ($t:ty, $n:ty) => {
            Arc::new(PrimitiveArray::<$t>::from_value(text.parse::<$n>().ok()?, 1))
        };
    }
    Some(match ty {
        Type::Text => Arc::new(StringArray::from_iter_values([text])),
        Type::Bool => Arc::new(BooleanArray::from(vec![text.parse::<bool>().ok()?])),
        Type::Int(8) => number!(Int8Type, i8),
        Type::Int(16) => number!(Int16Type, i16),
        Type::Int(32) => number!(Int32Type, i32),
        Type::Int(_) => number!(Int64Type, i64),
        Type::UInt(8) => number!(UInt8Type, u8),
        Type::UInt(16) => number!(UInt16Type, u16),
        Type::UInt(32) => number!(UInt32Type, u32),
        Type::UInt(_) => number!(UInt64Type, u64),
        Type::Float32 => {
            let value = text.parse::<f64>().ok()?;
            // Only what a 32-bit float holds exactly.
            let narrow = Some(value as f32).filter(|v| f64::from(*v) == value)?;
            Arc::new(PrimitiveArray::<Float32Type>::from_value(narrow, 1))
        }
        Type::Float64 => number!(Float64Type, f64),
        Type::Decimal(..) => return None,
        Type::Date => {
            let days = text.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days();
            Arc::new(PrimitiveArray::<Date32Type>::from_value(i32::try_from(days).ok()?, 1))
        }
        Type::Timestamp => {
            let time = text.parse::<NaiveDateTime>().ok()?;
            {
                let stamp = PrimitiveArray::<TimestampNanosecondType>::from_value(time.and_utc().timestamp_nanos_opt()?, 1);
                Arc::new(stamp.with_timezone(UTC))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow::array::{Date32Array, Float64Array, Int64Array, TimestampNanosecondArray};

    fn texts(array: &ArrayRef, ty: Type) -> Vec<Option<String>> {
        let mut out = Vec::with_capacity(array.len());
        each_text(array, ty, |_, text| out.push(text.map(Cow::into_owned)));
        out
    }

    fn check(array: ArrayRef, expected: &[Option<&str>]) {
        let ty = Type::of(array.data_type()).unwrap();
        let expected: Vec<Option<String>> = expected.iter().map(|v| v.map(String::from)).collect();
        assert_eq!(texts(&array, ty), expected);
    }

    #[test]
    fn values_have_one_text() {
        check(Arc::new(Int64Array::from(vec![Some(-7), None])), &[Some("-7"), None]);
        check(Arc::new(BooleanArray::from(vec![Some(true), Some(false)])), &[Some("true"), Some("false")]);
        let floats = vec![1.0, -0.0, 0.1, f64::NAN, 1e21];
        check(Arc::new(Float64Array::from(floats)), &[Some("1"), Some("0"), Some("0.1"), None, Some("1000000000000000000000")]);
        check(Arc::new(Date32Array::from(vec![0, -1, 19_789])), &[Some("1970-01-01"), Some("1969-12-31"), Some("2024-03-07")]);
        let stamps = vec![0, -1, 1_500_000_000];
        let expected = [Some("1970-01-01T00:00:00"), Some("1969-12-31T23:59:59.999999999"), Some("1970-01-01T00:00:01.5")];
        check(Arc::new(TimestampNanosecondArray::from(stamps)), &expected);
    }
}
