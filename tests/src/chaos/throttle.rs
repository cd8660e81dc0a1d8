//! A process at a fraction of its speed: stopped and continued in turn. Works without control groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Slows a process down until it is dropped; then the process runs on at full speed.
#[derive(Debug)]
pub struct Throttle {
    done: Arc<AtomicBool>,
    beat: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Lets `pid` run for `on` and stops it for `off`, again and again: 10 ms and 90 ms make a tenth.
    pub fn new(pid: u32, on: Duration, off: Duration) -> Self {
        let pid = Pid::from_raw(pid as i32).expect("a process id is not zero");
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let beat = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // A process that has ended needs no throttle.
                if kill_process(pid, Signal::STOP).is_err() {
                    return;
                }
                std::thread::sleep(off);
                if kill_process(pid, Signal::CONT).is_err() {
                    return;
                }
                std::thread::sleep(on);
            }
        });
        Self { done, beat: Some(beat) }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(beat) = self.beat.take() {
            // It ends with a CONT, or with the process.
            let _ = beat.join();
        }
    }
}
