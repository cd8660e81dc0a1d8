//! Small pictures in text: bars and a curve.

use super::Look;

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const PLAIN_LEVELS: [char; 8] = ['_', '.', '-', '~', '=', '+', '*', '#'];

/// A bar of `share` (0 to 1) of `width` columns; a share above 0 is never invisible.
pub fn bar(share: f64, width: usize, look: &Look) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    if look.plain {
        let full = (share * width as f64).round() as usize;
        return "#".repeat(full.max(usize::from(share > 0.0)));
    }
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let eighths = eighths.max(usize::from(share > 0.0));
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A curve of one line, at most `width` columns: values between their smallest and largest, evenly
/// chosen from the first to the last. Values that are not finite are blanks.
pub fn curve(values: &[f64], width: usize, look: &Look) -> String {
    let columns = values.len().min(width);
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let levels = if look.plain { PLAIN_LEVELS } else { LEVELS };
    let level = |value: f64| match value {
        v if !v.is_finite() => ' ',
        v if high > low => levels[(((v - low) / (high - low)) * 7.0).round() as usize],
        _ => levels[0],
    };
    let chosen = |column: usize| column * (values.len() - 1) / (columns - 1).max(1);
    (0..columns).map(|column| level(values[chosen(column)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let (terminal, plain) = (Look::terminal(80), Look::plain(80));
        assert_eq!(bar(0.5, 10, &terminal), "█████");
        assert_eq!(bar(0.4375, 4, &terminal), "█▊");
        assert_eq!(bar(1e-6, 10, &terminal), "▏");
        assert_eq!(bar(0.0, 10, &terminal), "");
        assert_eq!(bar(7.0, 3, &terminal), "███");
        assert_eq!(bar(0.26, 10, &plain), "###");
        assert_eq!(bar(1e-6, 10, &plain), "#");
        assert_eq!(bar(f64::NAN, 10, &plain), "");
    }

    #[test]
    fn curves() {
        let terminal = Look::terminal(80);
        assert_eq!(curve(&[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 80, &terminal), "█▇▆▅▄▃▂▁");
        assert_eq!(curve(&[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4, &terminal), "█▆▄▁");
        assert_eq!(curve(&[1.0, f64::NAN, 0.0], 80, &Look::plain(80)), "# _");
        assert_eq!(curve(&[0.5, 0.5], 80, &terminal), "▁▁");
        assert_eq!(curve(&[], 80, &terminal), "");
    }
}
