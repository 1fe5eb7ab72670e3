//! Progress as events: how long work tells whoever watches what it is doing. The library never prints.
//!
//! A [`Event::Plan`] says what is to come. For each task a watcher receives one [`Event::Begin`], any number of [`Event::Advance`] and one [`Event::End`], in
//! that order; tasks interleave, and events of different tasks may come from different threads. `on_event` is called on
//! the hot path: it must not block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies one task within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

/// What a task does, for whoever draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Looking names up.
    Resolve,
    /// Receiving bytes, counted in bytes.
    Download,
    /// Sending bytes, counted in bytes.
    Upload,
    /// Hashing bytes that are already here, counted in bytes.
    Verify,
    /// Computing, counted in bytes read.
    Compute,
    /// Writing files, counted in bytes.
    Write,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So much is about to be done: what the tasks of this stage that follow add up to.
    Plan {
        /// What the tasks do.
        stage: Stage,
        /// How many there will be.
        tasks: usize,
        /// What they come to together, in the stage's unit.
        total: u64,
    },
    /// A task begins.
    Begin {
        /// The task.
        task: TaskId,
        /// What it does.
        stage: Stage,
        /// What it does it to, such as an artifact and a file.
        label: &'a str,
        /// How much there is to do, where known.
        total: Option<u64>,
    },
    /// A task got further.
    Advance {
        /// The task.
        task: TaskId,
        /// By how much.
        amount: u64,
    },
    /// A task ended, well or badly.
    End {
        /// The task.
        task: TaskId,
    },
    /// A sentence for the user, such as a retry with its reason.
    Note {
        /// The sentence.
        message: &'a str,
    },
}

/// Receives events.
pub trait Watch: Send + Sync {
    /// Called for each event; must not block.
    fn on_event(&self, event: Event<'_>);
}

/// A cheap handle on a watcher, silent by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Watch>>);

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}

impl Progress {
    /// Nobody watches.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Reports to `watcher`.
    pub fn new(watcher: Arc<dyn Watch>) -> Self {
        Self(Some(watcher))
    }

    /// Begins a task; it ends when the returned [`Task`] is dropped.
    pub fn begin(&self, stage: Stage, label: &str, total: Option<u64>) -> Task {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = TaskId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.send(Event::Begin { task: id, stage, label, total });
        Task { progress: self.clone(), id }
    }

    /// Announces what the tasks of a stage that follow come to together.
    pub fn plan(&self, stage: Stage, tasks: usize, total: u64) {
        self.send(Event::Plan { stage, tasks, total });
    }

    /// Tells the watcher a sentence.
    pub fn note(&self, message: &str) {
        self.send(Event::Note { message });
    }

    fn send(&self, event: Event<'_>) {
        if let Some(watcher) = &self.0 {
            watcher.on_event(event);
        }
    }
}

/// A task under way.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    id: TaskId,
}

impl Task {
    /// The task got `amount` further.
    pub fn advance(&self, amount: u64) {
        self.progress.send(Event::Advance { task: self.id, amount });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.progress.send(Event::End { task: self.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl Watch for Log {
        fn on_event(&self, event: Event<'_>) {
            let line = match event {
                Event::Plan { tasks, total, .. } => format!("plan {tasks} {total}"),
                Event::Begin { label, total, .. } => format!("begin {label} {total:?}"),
                Event::Advance { amount, .. } => format!("advance {amount}"),
                Event::End { .. } => "end".to_owned(),
                Event::Note { message } => message.to_owned(),
            };
            self.0.lock().unwrap().push(line);
        }
    }

    #[test]
    fn a_task_begins_advances_and_ends_in_order() {
        let log = Arc::new(Log::default());
        let watcher: Arc<dyn Watch> = Arc::<Log>::clone(&log);
        let progress = Progress::new(watcher);
        progress.plan(Stage::Download, 1, 3);
        {
            let task = progress.begin(Stage::Download, "a.ckpt", Some(3));
            task.advance(3);
            progress.note("retrying");
        }
        assert_eq!(*log.0.lock().unwrap(), ["plan 1 3", "begin a.ckpt Some(3)", "advance 3", "retrying", "end"]);
    }
}
