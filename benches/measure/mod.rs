//! Measuring processes: wall time from start to exit, and the most private memory they had at once.

#![allow(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;

/// Runs `work` while watching this process's anonymous memory; prints one JSON object.
pub(crate) fn worker(work: impl FnOnce() -> Result<Value, Failure>) -> Result<(), Failure> {
    let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = {
        let (peak, done) = (Arc::clone(&peak), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let started = Instant::now();
    let result = work()?;
    let wall = started.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    watch.join().map_err(|_| "the memory watcher failed")?;
    peak.fetch_max(anonymous_memory(), Ordering::Relaxed);
    println!("{}", json!({ "inner_s": wall, "peak_bytes": peak.load(Ordering::Relaxed), "result": result }));
    Ok(())
}

/// `RssAnon`: private memory, without the mapped pages of the checkpoints. 0 where the system does not tell.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What one command took, and what it printed last.
pub(crate) struct Measured {
    /// Seconds of each run inside the process, as it told.
    pub(crate) inner: Vec<f64>,
    /// Seconds of each run.
    pub(crate) wall: Vec<f64>,
    /// Most private memory of any run, in bytes.
    pub(crate) peak: u64,
    /// The JSON object that it printed.
    pub(crate) output: Value,
}

impl Measured {
    /// Median seconds from start to exit.
    pub(crate) fn median(&self) -> f64 {
        median(&self.wall)
    }

    /// Median seconds inside the process.
    pub(crate) fn inner(&self) -> f64 {
        median(&self.inner)
    }

    /// One line: time from start to exit, time inside, private memory.
    pub(crate) fn print(&self, what: &str) {
        let (wall, inner, megabytes) = (self.median(), self.inner(), self.peak as f64 / 1e6);
        println!("{what:<36} {wall:>9.4} s, {inner:>9.4} s inside, {megabytes:>8.1} MB private");
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Runs a command `repeat` times, each as a process from start to exit.
pub(crate) fn measure(repeat: usize, command: impl Fn() -> Command) -> Result<Measured, Failure> {
    let mut measured = Measured { inner: Vec::new(), wall: Vec::new(), peak: 0, output: Value::Null };
    for _ in 0..repeat {
        let started = Instant::now();
        let output = command().output()?;
        measured.wall.push(started.elapsed().as_secs_f64());
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        measured.output = serde_json::from_slice(&output.stdout)?;
        measured.inner.push(measured.output["inner_s"].as_f64().unwrap_or(f64::NAN));
        measured.peak = measured.peak.max(measured.output["peak_bytes"].as_u64().unwrap_or(0));
    }
    Ok(measured)
}
