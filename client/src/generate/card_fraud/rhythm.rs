//! When transactions happen: a fixed half year with the rhythm of days and weeks. Row order is time order.

/// 2026-01-01T00:00:00Z in microseconds since 1970; a Thursday.
const START_US: i64 = 1_767_225_600_000_000;
/// Days from 2026-01-01 to 2026-06-30.
const DAYS: usize = 181;
const HOUR_US: f64 = 3_600_000_000.0;

/// How busy each hour of the day (UTC) is.
const HOURS: [f64; 24] = [
    0.35, 0.25, 0.20, 0.18, 0.20, 0.35, 0.70, 1.10, 1.40, 1.50, 1.60, 1.80, 2.10, 1.90, 1.60, 1.60, 1.80, 2.10, 2.20, 1.90, 1.50,
    1.10, 0.80, 0.55,
];
/// How busy each day of the week is, Monday first.
const WEEKDAYS: [f64; 7] = [0.92, 0.94, 0.97, 1.02, 1.15, 1.12, 0.88];

/// The cumulative share of transactions at the end of each hour of the half year.
pub struct Rhythm {
    cumulative: Vec<f64>,
}

impl Rhythm {
    /// The one rhythm there is.
    pub fn new() -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (0..DAYS * 24)
            .map(|hour| {
                sum += HOURS[hour % 24] * WEEKDAYS[(hour / 24 + 3) % 7];
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|c| *c /= sum);
        Self { cumulative }
    }

    /// The moment, in microseconds since 1970 UTC, before which a share `p` in [0, 1) of the
    /// transactions lies; rises with `p`.
    pub fn at(&self, p: f64) -> i64 {
        let hour = self.cumulative.partition_point(|c| *c <= p).min(self.cumulative.len() - 1);
        let before = if hour == 0 { 0.0 } else { self.cumulative[hour - 1] };
        let within = (p - before) / (self.cumulative[hour] - before);
        START_US + ((hour as f64 + within.clamp(0.0, 1.0)) * HOUR_US) as i64
    }
}

/// Hour of the day, 0 to 23, of a moment in microseconds since 1970 UTC.
pub fn hour_of_day(at_us: i64) -> u32 {
    (at_us.rem_euclid(86_400_000_000) / 3_600_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_half_year_in_order() {
        let rhythm = Rhythm::new();
        let moments: Vec<i64> = (0..10_000).map(|i| rhythm.at(f64::from(i) / 10_000.0)).collect();
        assert!(moments.is_sorted());
        assert_eq!(moments[0], START_US);
        let end = START_US + 181 * 86_400_000_000;
        assert!(rhythm.at(1.0 - 1e-12) <= end && moments[9_999] > end - 86_400_000_000);
    }

    #[test]
    fn nights_are_quiet_and_the_calendar_is_right() {
        let rhythm = Rhythm::new();
        let moments: Vec<i64> = (0..100_000).map(|i| rhythm.at(f64::from(i) / 100_000.0)).collect();
        let night = moments.iter().filter(|at| hour_of_day(**at) < 6).count();
        assert!((4_000..7_000).contains(&night), "{night} of 100000 at night");
        // 1970-01-01 was a Thursday: Friday is day 1 modulo 7.
        let count = |day: i64| moments.iter().filter(|at| at.div_euclid(86_400_000_000).rem_euclid(7) == day).count();
        assert!(count(1) > count(3), "Fridays are busier than Sundays");
    }
}
