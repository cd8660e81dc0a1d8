//! `date_parts`: calendar parts of dates and timestamps (UTC, proleptic Gregorian) as whole numbers.
//! Each part is a new column `<column>_<part>`; the source column stops being a feature.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{Date32Type, TimestampNanosecondType};
use serde::{Deserialize, Serialize};

use crate::features::Fitted;
use crate::features::columns::Col;
use crate::features::kinds::Type;
use crate::features::plan::{PlannedKind, Planner};
use crate::job::{DatePart, JobError};

const NS_PER_DAY: i64 = 86_400_000_000_000;

/// Columns taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DateParts {
    /// Date and timestamp columns.
    pub columns: Vec<String>,
    /// Parts of each.
    pub parts: Vec<DatePart>,
}

impl DateParts {
    /// (column, part, new column) in order.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&str, DatePart, String)> {
        let of = |column: &String, part: DatePart| format!("{column}_{}", part_name(part));
        self.columns.iter().flat_map(move |c| self.parts.iter().map(move |p| (c.as_str(), *p, of(c, *p))))
    }
}

/// Validates the step: dates and timestamps, which may have a role; no time of day from a date.
pub(crate) fn plan(planner: &mut Planner, path: &str, columns: &[String], parts: &[DatePart]) -> Option<PlannedKind> {
    let takes = "date and timestamp columns";
    let is_time = |c: &Col| matches!(c.ty(), Some(Type::Date | Type::Timestamp));
    let names = planner.select(&format!("{path}.columns"), columns, is_time, is_time, takes, true);
    if parts.is_empty() {
        planner.errors.push(JobError::at(format!("{path}.parts"), "no part is named").hint("for example [month, day_of_week]"));
    }
    let step = DateParts { columns: names, parts: parts.to_vec() };
    for (column, part, output) in step.outputs() {
        if needs_time(part) && planner.frame.get(column).and_then(Col::ty) == Some(Type::Date) {
            let message = format!("`{column}` is a date and has no {}", part_name(part));
            planner.errors.push(JobError::at(format!("{path}.parts"), message).hint("remove the part, or name timestamps only"));
        }
        planner.add(path, Col::plain(&output, Type::Int(32)));
    }
    for column in &step.columns {
        planner.consume(column, path);
    }
    Some(PlannedKind::Ready(Fitted::DateParts(step)))
}

/// Name of a part as columns carry it.
pub(crate) fn part_name(part: DatePart) -> &'static str {
    match part {
        DatePart::Year => "year",
        DatePart::Month => "month",
        DatePart::Day => "day",
        DatePart::Hour => "hour",
        DatePart::Minute => "minute",
        DatePart::DayOfWeek => "day_of_week",
        DatePart::DayOfYear => "day_of_year",
        DatePart::IsWeekend => "is_weekend",
    }
}

/// Whether a part needs a time of day, which a date has not.
pub(crate) fn needs_time(part: DatePart) -> bool {
    matches!(part, DatePart::Hour | DatePart::Minute)
}

/// Days since 1970-01-01 and nanoseconds of the day, for times before 1970 too.
pub(crate) fn split_ns(ns: i64) -> (i64, i64) {
    (ns.div_euclid(NS_PER_DAY), ns.rem_euclid(NS_PER_DAY))
}

/// (year, month, day) of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Monday 0 to Sunday 6 (1970-01-01 was a Thursday).
fn day_of_week(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// 1 to 366.
fn day_of_year(days: i64) -> i64 {
    let (year, month, day) = civil(days);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[(month - 1) as usize] + day + i64::from(leap && month > 2)
}

fn part_of(part: DatePart, days: i64, of_day: i64) -> i32 {
    let value = match part {
        DatePart::Year => civil(days).0,
        DatePart::Month => civil(days).1,
        DatePart::Day => civil(days).2,
        DatePart::Hour => of_day / 3_600_000_000_000,
        DatePart::Minute => of_day / 60_000_000_000 % 60,
        DatePart::DayOfWeek => day_of_week(days),
        DatePart::DayOfYear => day_of_year(days),
        DatePart::IsWeekend => i64::from(day_of_week(days) >= 5),
    };
    // The largest is a year: at most 5,881,580 for 32-bit days.
    value as i32
}

/// The part of every row; null stays null.
pub(crate) fn extract(array: &ArrayRef, ty: Type, part: DatePart) -> ArrayRef {
    let out: Int32Array = if ty == Type::Date {
        array.as_primitive::<Date32Type>().iter().map(|v| v.map(|d| part_of(part, i64::from(d), 0))).collect()
    } else {
        let stamps = array.as_primitive::<TimestampNanosecondType>().iter();
        stamps.map(|v| v.map(split_ns).map(|(days, of_day)| part_of(part, days, of_day))).collect()
    };
    Arc::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_agree_with_chrono() {
        use chrono::{Datelike, NaiveDate};
        let epoch = NaiveDate::default();
        for days in (-800_000..800_000).step_by(37) {
            let date = epoch + chrono::Duration::days(days);
            let expected = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            assert_eq!(civil(days), expected);
            assert_eq!(day_of_year(days), i64::from(date.ordinal()));
            assert_eq!(day_of_week(days), i64::from(date.weekday().num_days_from_monday()));
        }
    }
}
