//! A bounded number of log lines about strangers: whoever is refused a thousand times a second must not fill
//! the disk with it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines in each span of time.
const LINES: u32 = 20;
const SPAN: Duration = Duration::from_secs(10);

/// What may be said about one refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Log it.
    Full,
    /// Log it, and that others will follow that are not logged.
    Last,
    /// Nothing.
    None,
}

/// Counts lines.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<Option<(Instant, u32)>>);

impl Sparing {
    /// What may be said now.
    pub fn line(&self) -> Line {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Line {
        let mut window = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (began, used) = window.filter(|(began, _)| now.duration_since(*began) < SPAN).unwrap_or((now, 0));
        *window = Some((began, used.saturating_add(1)));
        match used + 1 {
            used if used < LINES => Line::Full,
            LINES => Line::Last,
            _ => Line::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gives_few_lines_and_a_later_refusal_is_seen_again() {
        let (sparing, start) = (Sparing::default(), Instant::now());
        let lines: Vec<Line> = (0..1000).map(|_| sparing.line_at(start)).collect();
        assert_eq!(lines.iter().filter(|line| **line == Line::Full).count(), LINES as usize - 1);
        assert_eq!(lines.iter().filter(|line| **line == Line::Last).count(), 1);
        assert_eq!(sparing.line_at(start + SPAN), Line::Full);
    }
}
