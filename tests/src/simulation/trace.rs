//! What happened, line by line: hashed always, the last lines kept, all of them printed on demand.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write as _};

use super::rng::{FNV, fnv};

/// Lines that a failure shows.
const KEEP: usize = 60;

/// A run's history.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: Option<u64>,
    lines: u64,
    last: VecDeque<String>,
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Self {
        Self { print, ..Self::default() }
    }

    /// Adds a line, at a time in µs.
    pub fn line(&mut self, now: u64, text: Arguments<'_>) {
        let mut line = if self.last.len() >= KEEP { self.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a string does not fail.
        let _ = write!(line, "{:>6}.{:06} {text}", now / 1_000_000, now % 1_000_000);
        self.hash = Some(fnv(self.hash.unwrap_or(FNV), line.as_bytes()));
        self.lines += 1;
        if self.print {
            println!("{line}");
        }
        self.last.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash.unwrap_or(FNV)
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
