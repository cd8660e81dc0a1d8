//! For tests: progress as lines that can be read again.

use std::io::{Result, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::Progress;

/// What was written so far; clones share it.
#[derive(Clone, Default)]
pub struct Caught(Arc<Mutex<Vec<u8>>>);

impl Caught {
    /// All of it as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Caught {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Progress as lines, and where they are kept.
pub fn caught() -> (Progress, Caught) {
    let caught = Caught::default();
    (Progress::lines(Box::new(caught.clone())), caught)
}
