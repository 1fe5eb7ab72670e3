//! The ledger of a study: append-only records, one JSON object a line, replayed to what is finished and what is still to
//! do. A pure state machine: writing lines durably, locking and the clock are the caller's.
//!
//! A crash can tear the last line; it is ignored, and [`Ledger::replay`] says how many bytes are whole, so that the next
//! record does not follow half of another. A broken line anywhere else is an error: that is not a crash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something to do once: a cell, a comparison, or a shard of either.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Task {
    /// Unique in the study.
    pub id: String,
    /// Hash of everything the result depends on.
    pub inputs: String,
}

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// Somebody began it.
    Claimed {
        /// The task.
        task: String,
        /// Its inputs.
        inputs: String,
        /// Who, such as host and process.
        worker: String,
        /// When, RFC 3339.
        at: String,
    },
    /// It is finished and its result is on disk.
    Done {
        /// The task.
        task: String,
        /// Its inputs.
        inputs: String,
        /// Digest of the result.
        result: String,
        /// How long it took.
        seconds: f64,
        /// When, RFC 3339.
        at: String,
    },
    /// It went wrong.
    Failed {
        /// The task.
        task: String,
        /// Its inputs.
        inputs: String,
        /// What went wrong.
        error: String,
        /// When, RFC 3339.
        at: String,
    },
    /// It was given back unfinished, on purpose.
    Released {
        /// The task.
        task: String,
        /// Its inputs.
        inputs: String,
        /// When, RFC 3339.
        at: String,
    },
    /// Its result was logged to W&B.
    Logged {
        /// The task.
        task: String,
        /// Its inputs.
        inputs: String,
        /// The run that holds it.
        run: String,
        /// When, RFC 3339.
        at: String,
    },
}

impl Record {
    fn task(&self) -> (&str, &str) {
        match self {
            Self::Claimed { task, inputs, .. }
            | Self::Done { task, inputs, .. }
            | Self::Failed { task, inputs, .. }
            | Self::Released { task, inputs, .. }
            | Self::Logged { task, inputs, .. } => (task, inputs),
        }
    }

    /// The record as a line, with its end.
    pub fn line(&self) -> String {
        // A record holds strings and one number: JSON has a form for each, so this cannot fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// A ledger that no crash explains.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A line before the last is not a record.
    #[error("line {line} of the ledger is not a record")]
    Broken {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// How a task stands, whatever its inputs are now.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskState {
    /// The inputs that the rest is about.
    pub inputs: String,
    /// Times it was begun and not given back, since [`Ledger::begin_round`].
    pub attempts: u32,
    /// What happened last.
    pub phase: Phase,
    /// The run that holds its result.
    pub logged: Option<String>,
    /// How long it took, once it is done.
    pub seconds: Option<f64>,
}

/// What happened to a task last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the records of the same names")]
pub enum Phase {
    Claimed { worker: String },
    Released,
    Done { result: String },
    Failed { error: String },
}

/// Why a task is to be done, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Never begun.
    Missing,
    /// Something happened to it with other inputs.
    Changed,
    /// Begun and neither finished nor given back: its worker is at it or was killed.
    Interrupted {
        /// Who began it.
        worker: String,
    },
    /// It went wrong.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// Finished.
    Done {
        /// Digest of the result.
        result: String,
        /// The run that holds it, if it was logged.
        logged: Option<String>,
    },
}

/// When to stop trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Times a task may be begun in one round, at least 1.
    pub attempts: u32,
    /// After how many tasks without attempts left to give up altogether.
    pub max_failures: Option<u32>,
}

/// What is left of a set of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Todo {
    /// Positions of tasks to do, in their order, and why. Empty once there are too many failures.
    pub next: Vec<(usize, Standing)>,
    /// How many are done.
    pub done: usize,
    /// Positions of tasks that went wrong and have no attempt left.
    pub given_up: Vec<usize>,
    /// Whether there are so many of those that the rest is not tried.
    pub too_many_failures: bool,
}

/// All records, replayed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    tasks: BTreeMap<String, TaskState>,
}

impl Ledger {
    /// Applies the records in `bytes` and returns how many bytes are whole records: what comes after is the torn end of
    /// a crashed write, to be cut off before anything is appended.
    ///
    /// # Errors
    /// [`LedgerError::Broken`] when a line before the last is not a record; what came before it is applied.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<usize, LedgerError> {
        let mut whole = 0;
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let last = whole + line.len() == bytes.len();
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if line.ends_with(b"\n") => self.apply(&record),
                // Without its end the line was not written to its end, even if what is there parses.
                Ok(_) => break,
                Err(_) if last => break,
                Err(source) => return Err(LedgerError::Broken { line: number + 1, source }),
            }
            whole += line.len();
        }
        Ok(whole)
    }

    /// Applies one record, as when it has just been written.
    pub fn apply(&mut self, record: &Record) {
        let (task, inputs) = record.task();
        let fresh = || TaskState {
            inputs: inputs.to_owned(),
            attempts: 0,
            phase: Phase::Released,
            logged: None,
            seconds: None,
        };
        let state = self.tasks.entry(task.to_owned()).or_insert_with(fresh);
        if state.inputs != inputs {
            *state = fresh();
        }
        match record {
            Record::Claimed { worker, .. } => {
                state.attempts = state.attempts.saturating_add(1);
                state.phase = Phase::Claimed { worker: worker.clone() };
            }
            Record::Released { .. } => {
                state.attempts = state.attempts.saturating_sub(1);
                state.phase = Phase::Released;
            }
            Record::Failed { error, .. } => state.phase = Phase::Failed { error: error.clone() },
            Record::Done { result, seconds, .. } => {
                // Another result makes what was logged out of date.
                if !matches!(&state.phase, Phase::Done { result: before } if before == result) {
                    state.logged = None;
                }
                state.phase = Phase::Done { result: result.clone() };
                state.seconds = Some(*seconds);
            }
            Record::Logged { run, .. } => state.logged = Some(run.clone()),
        }
    }

    /// Forgets how often tasks were begun, so that a rerun tries again what failed before.
    pub fn begin_round(&mut self) {
        for state in self.tasks.values_mut() {
            state.attempts = 0;
        }
    }

    /// Takes over what another ledger of the same round knows of one task; its attempts come on top of those known here.
    pub fn absorb(&mut self, id: &str, mut state: TaskState) {
        let known = self.tasks.get(id).filter(|known| known.inputs == state.inputs);
        state.attempts = state.attempts.saturating_add(known.map_or(0, |known| known.attempts));
        self.tasks.insert(id.to_owned(), state);
    }

    /// Everything known of a task.
    pub fn state(&self, id: &str) -> Option<&TaskState> {
        self.tasks.get(id)
    }

    /// How a task stands with its inputs of now.
    pub fn standing(&self, task: &Task) -> Standing {
        match self.tasks.get(&task.id) {
            None => Standing::Missing,
            Some(state) if state.inputs != task.inputs => Standing::Changed,
            Some(state) => match &state.phase {
                Phase::Released => Standing::Missing,
                Phase::Claimed { worker } => Standing::Interrupted { worker: worker.clone() },
                Phase::Failed { error } => Standing::Failed { error: error.clone() },
                Phase::Done { result } => Standing::Done { result: result.clone(), logged: state.logged.clone() },
            },
        }
    }

    /// What is left of `tasks` within `limits`.
    pub fn todo(&self, tasks: &[Task], limits: Limits) -> Todo {
        let mut todo = Todo::default();
        for (at, task) in tasks.iter().enumerate() {
            let attempts = self.tasks.get(&task.id).filter(|state| state.inputs == task.inputs);
            let spent = attempts.is_some_and(|state| state.attempts >= limits.attempts);
            match self.standing(task) {
                Standing::Done { .. } => todo.done += 1,
                Standing::Failed { .. } | Standing::Interrupted { .. } if spent => todo.given_up.push(at),
                standing => todo.next.push((at, standing)),
            }
        }
        if limits.max_failures.is_some_and(|most| todo.given_up.len() >= most as usize) {
            todo.too_many_failures = true;
            todo.next.clear();
        }
        todo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(id: &str, inputs: &str) -> Task {
        Task { id: id.to_owned(), inputs: inputs.to_owned() }
    }

    fn claimed(task: &Task) -> Record {
        Record::Claimed {
            task: task.id.clone(),
            inputs: task.inputs.clone(),
            worker: "here:1".to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn done(task: &Task, result: &str) -> Record {
        Record::Done {
            task: task.id.clone(),
            inputs: task.inputs.clone(),
            result: result.to_owned(),
            seconds: 1.5,
            at: String::new(),
        }
    }

    fn failed(task: &Task) -> Record {
        Record::Failed {
            task: task.id.clone(),
            inputs: task.inputs.clone(),
            error: "no\nspace".to_owned(),
            at: String::new(),
        }
    }

    fn released(task: &Task) -> Record {
        Record::Released { task: task.id.clone(), inputs: task.inputs.clone(), at: String::new() }
    }

    fn logged(task: &Task, run: &str) -> Record {
        Record::Logged { task: task.id.clone(), inputs: task.inputs.clone(), run: run.to_owned(), at: String::new() }
    }

    const LIMITS: Limits = Limits { attempts: 2, max_failures: Some(1) };

    #[test]
    fn a_task_through_its_life() {
        let mut ledger = Ledger::default();
        let a = task("a", "1");
        let tasks = [a.clone()];
        assert_eq!(ledger.todo(&tasks, LIMITS).next, [(0, Standing::Missing)]);
        ledger.apply(&claimed(&a));
        assert!(matches!(ledger.standing(&a), Standing::Interrupted { .. }));
        ledger.apply(&released(&a));
        ledger.apply(&claimed(&a));
        ledger.apply(&failed(&a));
        assert!(matches!(ledger.todo(&tasks, LIMITS).next[..], [(0, Standing::Failed { .. })]));
        ledger.apply(&claimed(&a));
        ledger.apply(&failed(&a));
        let todo = ledger.todo(&tasks, LIMITS);
        assert!(todo.too_many_failures && todo.next.is_empty() && todo.given_up == [0]);
        ledger.begin_round();
        assert_eq!(ledger.todo(&tasks, LIMITS).next.len(), 1);
        ledger.apply(&done(&a, "r"));
        ledger.apply(&logged(&a, "run1"));
        assert_eq!(ledger.todo(&tasks, LIMITS).done, 1);
        assert_eq!(ledger.standing(&a), Standing::Done { result: "r".to_owned(), logged: Some("run1".to_owned()) });
        let changed = task("a", "2");
        assert_eq!(ledger.todo(std::slice::from_ref(&changed), LIMITS).next, [(0, Standing::Changed)]);
        ledger.apply(&done(&changed, "r2"));
        assert_eq!(ledger.standing(&changed), Standing::Done { result: "r2".to_owned(), logged: None });
    }

    #[test]
    fn a_broken_line_in_the_middle_is_no_crash() {
        let a = task("a", "1");
        let bytes = format!("{}garbage\n{}", claimed(&a).line(), done(&a, "r").line());
        assert!(matches!(Ledger::default().replay(bytes.as_bytes()), Err(LedgerError::Broken { line: 2, .. })));
        let unknown = "{\"event\":\"exploded\",\"task\":\"a\",\"inputs\":\"1\"}\n";
        let bytes = format!("{unknown}{}", claimed(&a).line());
        assert!(Ledger::default().replay(bytes.as_bytes()).is_err());
        // A block of zeros is what some file systems leave of a write cut short.
        let bytes = format!("{}\0\0\0\0", claimed(&a).line());
        assert_eq!(Ledger::default().replay(bytes.as_bytes()).unwrap(), claimed(&a).line().len());
    }

    fn any_record() -> impl Strategy<Value = Record> {
        ("[ab]", "[12]", 0..5usize).prop_map(|(id, inputs, kind)| {
            let task = task(&id, &inputs);
            match kind {
                0 => claimed(&task),
                1 => done(&task, "r"),
                2 => failed(&task),
                3 => released(&task),
                _ => logged(&task, "run"),
            }
        })
    }

    proptest! {
        /// Cut anywhere, a ledger replays to exactly its whole records, and can be continued from there.
        #[test]
        fn any_cut_is_survived(records in proptest::collection::vec(any_record(), 0..12), cut in 0.0..1.0f64) {
            let lines: Vec<String> = records.iter().map(Record::line).collect();
            let bytes = lines.concat().into_bytes();
            let cut = (bytes.len() as f64 * cut) as usize;
            let mut torn = Ledger::default();
            let whole = torn.replay(&bytes[..cut]).unwrap();
            let mut expected = Ledger::default();
            let (mut sum, mut count) = (0, 0);
            for (record, line) in records.iter().zip(&lines) {
                if sum + line.len() > cut {
                    break;
                }
                sum += line.len();
                count += 1;
                expected.apply(record);
            }
            prop_assert_eq!(whole, sum);
            prop_assert_eq!(&torn, &expected);
            for record in &records[count..] {
                torn.apply(record);
            }
            let mut all = Ledger::default();
            prop_assert_eq!(all.replay(&bytes).unwrap(), bytes.len());
            prop_assert_eq!(torn, all);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Ledger::default().replay(&bytes);
        }

        /// Whatever happened, every task is exactly one of: to do, done, given up.
        #[test]
        fn every_task_is_accounted_for(records in proptest::collection::vec(any_record(), 0..30)) {
            let mut ledger = Ledger::default();
            records.iter().for_each(|record| ledger.apply(record));
            let tasks = [task("a", "1"), task("b", "2"), task("c", "1")];
            let todo = ledger.todo(&tasks, Limits { attempts: 2, max_failures: None });
            prop_assert_eq!(todo.next.len() + todo.done + todo.given_up.len(), 3);
        }
    }
}
