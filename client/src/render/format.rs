//! Numbers as people read them. Exact text, no locale.

/// A count with thousands separated: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes with one decimal: `13.5 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1_024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration in seconds: `340 µs`, `12 ms`, `4.2 s`, `3 min 05 s`, `2 h 10 min`.
pub fn seconds(s: f64) -> String {
    match s {
        s if !s.is_finite() || s < 0.0 => "-".to_owned(),
        0.0 => "0 s".to_owned(),
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3_599.5 => format!("{} min {:02} s", s.round() as u64 / 60, s.round() as u64 % 60),
        s => format!("{} h {:02} min", (s / 60.0).round() as u64 / 60, (s / 60.0).round() as u64 % 60),
    }
}

/// A share of one as a percentage with two digits that count: `0.32 %`, `3.0 %`, `47 %`.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    match p.abs() {
        a if a == 0.0 || a >= 9.95 => format!("{p:.0} %"),
        a if a >= 0.995 => format!("{p:.1} %"),
        a if a >= 0.01 => format!("{p:.2} %"),
        _ => format!("{p:.4} %"),
    }
}

/// A measured value: four decimals where they say something, six significant digits for the large,
/// powers of ten for the very large and the very small.
pub fn number(x: f64) -> String {
    match x.abs() {
        a if !a.is_finite() => x.to_string(),
        0.0 => "0".to_owned(),
        a if !(0.000_1..1e7).contains(&a) => format!("{x:.3e}"),
        a if a < 0.1 => format!("{x:.5}"),
        a if a < 100.0 => format!("{x:.4}"),
        a if a < 10_000.0 => format!("{x:.2}"),
        _ => format!("{x:.1}"),
    }
}

/// Rows (or anything else) per second: `476,190 rows/s`, `0.8 shards/s`; nothing when no time has passed.
pub fn rate(n: u64, s: f64, unit: &str) -> String {
    match n as f64 / s {
        r if !r.is_finite() => String::new(),
        r if r < 9.95 => format!("{r:.1} {unit}/s"),
        r => format!("{} {unit}/s", count(r.round() as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let texts: Vec<String> = [0, 999, 1_000, 1_234_567, u64::MAX].map(count).into();
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]);
    }

    #[test]
    fn sizes() {
        let texts: Vec<String> = [0, 1_023, 1_024, 14_155_776, 1_048_575, u64::MAX].map(bytes).into();
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "13.5 MiB", "1.0 MiB", "16.0 EiB"]);
    }

    #[test]
    fn durations() {
        let texts: Vec<String> =
            [0.0, 0.00034, 0.0124, 0.9999, 4.23, 59.96, 185.2, 3_599.6, 7_830.0, f64::NAN].map(seconds).into();
        assert_eq!(
            texts,
            ["0 s", "340 µs", "12 ms", "1.0 s", "4.2 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 11 min", "-"]
        );
    }

    #[test]
    fn shares_and_values() {
        let texts: Vec<String> = [0.0, 0.0032, 0.03, 0.474, 1.0, 0.000_001].map(percent).into();
        assert_eq!(texts, ["0 %", "0.32 %", "3.0 %", "47 %", "100 %", "0.0001 %"]);
        let texts: Vec<String> = [0.0, 0.956_12, -10.0, 0.0123, 1_234.567, 54_321.05, 1e-9, 2.5e9].map(number).into();
        assert_eq!(texts, ["0", "0.9561", "-10.0000", "0.01230", "1234.57", "54321.1", "1.000e-9", "2.500e9"]);
        assert_eq!(rate(1_000_000, 2.1, "rows"), "476,190 rows/s");
        assert_eq!(rate(4, 5.0, "shards"), "0.8 shards/s");
        assert_eq!(rate(1, 0.0, "rows"), "");
    }
}
