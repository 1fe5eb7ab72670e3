//! SLURM as text: the script of a job array, and what `sbatch`, `squeue`, `sacct` and `scontrol` answer. Runs nothing.
//!
//! Output forms are those of SLURM 22.05 with the options named at each parser; the option lists are part of this
//! module's contract. What is finished is the ledger's to say: a job that SLURM calls completed proves nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::spec::Slurm;

/// Options that make `sbatch` answer what [`parse_submitted`] reads.
pub const SBATCH: [&str; 1] = ["--parsable"];
/// Options that make `squeue` answer what [`parse_squeue`] reads; the job follows.
pub const SQUEUE: [&str; 5] = ["--noheader", "--array", "--states=all", "--format=%i|%T", "--jobs"];
/// Options that make `sacct` answer what [`parse_sacct`] reads; the job follows.
pub const SACCT: [&str; 6] =
    ["--noheader", "--parsable2", "--array", "--allocations", "--format=JobID,State", "--jobs"];
/// Options that make `scontrol` answer what [`parse_scontrol`] reads; the job follows.
pub const SCONTROL: [&str; 3] = ["--oneliner", "show", "job"];

/// A job array to be submitted.
#[derive(Debug, Clone, Copy)]
pub struct ArrayJob<'a> {
    /// Name of the job.
    pub name: &'a str,
    /// Program and arguments; `i/N` is appended for array task i − 1.
    pub command: &'a [String],
    /// Array tasks to run, from 0.
    pub tasks: &'a [u32],
    /// Number N of array tasks of the whole study.
    pub total: u32,
    /// Folder of the tasks' output, which exists.
    pub logs: &'a str,
    /// Variables to set.
    pub environment: &'a [(&'a str, &'a str)],
}

/// The script for `sbatch`.
pub fn script(slurm: &Slurm, job: ArrayJob<'_>) -> String {
    let mut text = String::from("#!/bin/bash\n");
    let mut option = |name: &str, value: &str| {
        let _ = writeln!(text, "#SBATCH --{name}={value}");
    };
    option("job-name", job.name);
    let most = slurm.at_once.map_or(String::new(), |most| format!("%{most}"));
    option("array", &format!("{}{most}", array(job.tasks)));
    // `%A_%a` is job and task; a percent sign of the folder is doubled to stay one.
    option("output", &format!("\"{}/%A_%a.log\"", job.logs.replace('%', "%%").replace('"', "\\\"")));
    let given = [("partition", &slurm.partition), ("account", &slurm.account)];
    let given = given.into_iter().chain([("time", &slurm.time), ("mem", &slurm.memory)]);
    for (name, value) in given {
        if let Some(value) = value {
            option(name, &quoted_option(value));
        }
    }
    if let Some(cpus) = slurm.cpus {
        option("cpus-per-task", &cpus.to_string());
    }
    for line in &slurm.options {
        let _ = writeln!(text, "#SBATCH {line}");
    }
    text.push_str(
        "\n# Compute nodes need no network: checkpoints come from the store, results go to the study's folder.\n",
    );
    for (name, value) in job.environment {
        let _ = writeln!(text, "export {name}={}", shell(value));
    }
    for line in &slurm.setup {
        let _ = writeln!(text, "{line}");
    }
    let command: Vec<String> = job.command.iter().map(|word| shell(word)).collect();
    // exec: the signals of scancel and of the time limit reach the work itself.
    let _ = writeln!(text, "exec {} \"$((SLURM_ARRAY_TASK_ID + 1))/{}\"", command.join(" "), job.total);
    text
}

/// Array tasks as `--array` wants them: `0-3,7`.
pub fn array(tasks: &[u32]) -> String {
    let mut sorted = tasks.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for task in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(task) => *last = task,
            _ => runs.push((task, task)),
        }
    }
    let run = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

fn quoted_option(value: &str) -> String {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:,/=+@".contains(c));
    if plain { value.to_owned() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// One word of a POSIX shell.
pub fn shell(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:,/=+@%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Where an array task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the queue.
    Waiting,
    /// Running, starting or ending.
    Running,
    /// Over.
    Over(Outcome),
}

/// How an array task ended, by SLURM's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "SLURM's own words")]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
    Timeout,
    OutOfMemory,
    NodeFail,
    Preempted,
}

impl State {
    /// Reads SLURM's word, long form, with what `sacct` appends (`CANCELLED by 1000`, `RUNNING+`).
    fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().next()?.trim_end_matches('+');
        Some(match word {
            "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => Self::Waiting,
            "CONFIGURING" | "RUNNING" | "COMPLETING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "STOPPED"
            | "SUSPENDED" | "EXPEDITING" | "POWER_UP_NODE" | "UPDATE_DB" => Self::Running,
            "COMPLETED" => Self::Over(Outcome::Completed),
            "FAILED" | "BOOT_FAIL" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Self::Over(Outcome::Failed),
            "CANCELLED" | "REVOKED" => Self::Over(Outcome::Cancelled),
            "TIMEOUT" | "DEADLINE" => Self::Over(Outcome::Timeout),
            "OUT_OF_MEMORY" => Self::Over(Outcome::OutOfMemory),
            "NODE_FAIL" => Self::Over(Outcome::NodeFail),
            "PREEMPTED" => Self::Over(Outcome::Preempted),
            _ => return None,
        })
    }
}

/// An answer that is not in the expected form.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{program} answered `{line}`, which is not of the expected form")]
pub struct SlurmAnswerError {
    program: &'static str,
    line: String,
}

/// States of array tasks by their number.
pub type States = BTreeMap<u32, State>;

/// The job that `sbatch --parsable` started: `123` or `123;cluster`.
///
/// # Errors
/// [`SlurmAnswerError`] when the answer is anything else.
pub fn parse_submitted(answer: &str) -> Result<u64, SlurmAnswerError> {
    let job = answer.trim().split(';').next().unwrap_or_default();
    job.parse().map_err(|_| SlurmAnswerError { program: "sbatch", line: answer.trim().to_owned() })
}

/// States from `squeue` with [`SQUEUE`]: lines such as `123_4|RUNNING`.
///
/// # Errors
/// [`SlurmAnswerError`] naming the line that is of another form.
pub fn parse_squeue(answer: &str) -> Result<States, SlurmAnswerError> {
    parse_table("squeue", answer)
}

/// States from `sacct` with [`SACCT`]: lines such as `123_4|COMPLETED` and `123_[5-9%2]|PENDING`. Empty without an
/// accounting database.
///
/// # Errors
/// [`SlurmAnswerError`] naming the line that is of another form.
pub fn parse_sacct(answer: &str) -> Result<States, SlurmAnswerError> {
    parse_table("sacct", answer)
}

fn parse_table(program: &'static str, answer: &str) -> Result<States, SlurmAnswerError> {
    let mut states = States::new();
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parsed = line.split_once('|').and_then(|(job, state)| {
            let (_, tasks) = job.trim().split_once('_')?;
            let tasks = task_list(tasks.trim_start_matches('[').trim_end_matches(']'))?;
            Some((tasks, State::parse(state)?))
        });
        let Some((tasks, state)) = parsed else {
            return Err(SlurmAnswerError { program, line: line.to_owned() });
        };
        states.extend(tasks.into_iter().map(|task| (task, state)));
    }
    Ok(states)
}

/// States from `scontrol` with [`SCONTROL`]: one line of `Key=value` words a task, of which `ArrayTaskId` and `JobState`
/// are read.
///
/// # Errors
/// [`SlurmAnswerError`] naming the line that is of another form.
pub fn parse_scontrol(answer: &str) -> Result<States, SlurmAnswerError> {
    let mut states = States::new();
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let parsed = value("ArrayTaskId").and_then(task_list).zip(value("JobState").and_then(State::parse));
        let Some((tasks, state)) = parsed else {
            return Err(SlurmAnswerError { program: "scontrol", line: line.to_owned() });
        };
        states.extend(tasks.into_iter().map(|task| (task, state)));
    }
    Ok(states)
}

/// `4`, `0-3,7` or `0-9%2`; at most a million tasks, SLURM's own bound being lower.
fn task_list(text: &str) -> Option<Vec<u32>> {
    let list = text.split('%').next()?;
    let mut tasks = Vec::new();
    for run in list.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last < first || tasks.len() as u64 + u64::from(last - first) >= 1_000_000 {
            return None;
        }
        tasks.extend(first..=last);
    }
    Some(tasks)
}

/// What to do about the array tasks that were submitted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowUp {
    /// Still in SLURM's hands.
    pub waiting: Vec<u32>,
    /// Over without a result, with attempts left.
    pub resubmit: Vec<u32>,
    /// Over without a result and without attempts left.
    pub given_up: Vec<u32>,
}

/// An array task as the study sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its number.
    pub task: u32,
    /// Whether the ledger has its result.
    pub done: bool,
    /// Times it was submitted.
    pub submissions: u32,
}

/// Decides from the ledger and SLURM's answer. A task that SLURM no longer knows is over: finished jobs leave its memory.
pub fn follow_up(tasks: &[Submitted], states: &States, attempts: u32) -> FollowUp {
    let mut next = FollowUp::default();
    for submitted in tasks.iter().filter(|submitted| !submitted.done) {
        let list = match states.get(&submitted.task) {
            Some(State::Waiting | State::Running) => &mut next.waiting,
            Some(State::Over(_)) | None if submitted.submissions < attempts => &mut next.resubmit,
            Some(State::Over(_)) | None => &mut next.given_up,
        };
        list.push(submitted.task);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_script_of_an_array() {
        let slurm = Slurm {
            partition: Some("boost_usr_prod".to_owned()),
            time: Some("02:00:00".to_owned()),
            memory: Some("16G".to_owned()),
            cpus: Some(4),
            at_once: Some(50),
            options: vec!["--qos=normal".to_owned()],
            setup: vec!["module load gcc".to_owned()],
            account: None,
        };
        let command = ["/opt/my tools/wandb-pca", "study", "shard", "it's.yaml"].map(str::to_owned);
        let job = ArrayJob {
            name: "vit",
            command: &command,
            tasks: &[0, 1, 2, 7],
            total: 8,
            logs: "out/100%/logs",
            environment: &[("WANDB_MODE", "offline"), ("WANDB_CACHE_DIR", "/a b")],
        };
        assert_eq!(
            script(&slurm, job),
            "#!/bin/bash\n\
             #SBATCH --job-name=vit\n\
             #SBATCH --array=0-2,7%50\n\
             #SBATCH --output=\"out/100%%/logs/%A_%a.log\"\n\
             #SBATCH --partition=boost_usr_prod\n\
             #SBATCH --time=02:00:00\n\
             #SBATCH --mem=16G\n\
             #SBATCH --cpus-per-task=4\n\
             #SBATCH --qos=normal\n\
             \n\
             # Compute nodes need no network: checkpoints come from the store, results go to the study's folder.\n\
             export WANDB_MODE=offline\n\
             export WANDB_CACHE_DIR='/a b'\n\
             module load gcc\n\
             exec '/opt/my tools/wandb-pca' study shard 'it'\\''s.yaml' \"$((SLURM_ARRAY_TASK_ID + 1))/8\"\n"
        );
    }

    #[test]
    fn answers_of_the_programs() {
        assert_eq!(parse_submitted("123\n"), Ok(123));
        assert_eq!(parse_submitted("123;leonardo\n"), Ok(123));
        assert!(parse_submitted("Submitted batch job 123").is_err());
        let states = parse_squeue("7_0|RUNNING\n7_1|PENDING\n\n7_2|COMPLETED\n").unwrap();
        assert_eq!(states[&1], State::Waiting);
        let states =
            parse_sacct("7_0|COMPLETED\n7_1|CANCELLED by 0\n7_[2-3,9%2]|PENDING\n7_4|OUT_OF_MEMORY\n").unwrap();
        assert_eq!(states[&1], State::Over(Outcome::Cancelled));
        assert_eq!((states[&3], states[&9]), (State::Waiting, State::Waiting));
        assert!(parse_sacct("").unwrap().is_empty());
        let answer = "JobId=9 ArrayJobId=7 ArrayTaskId=2 JobName=v JobState=FAILED Reason=NonZeroExitCode ExitCode=1:0\n\
                      JobId=7 ArrayJobId=7 ArrayTaskId=3-4%2 JobName=v JobState=PENDING Reason=JobArrayTaskLimit\n";
        let states = parse_scontrol(answer).unwrap();
        assert_eq!((states[&2], states[&4]), (State::Over(Outcome::Failed), State::Waiting));
        for broken in ["7_0", "7|RUNNING", "7_x|RUNNING", "7_1|DANCING", "7_0-4000000000|PENDING", "7_5-1|PENDING"] {
            assert!(parse_squeue(broken).is_err(), "{broken}");
        }
        assert!(parse_scontrol("slurm_load_jobs error: Invalid job id specified").is_err());
    }

    #[test]
    fn only_what_is_over_without_a_result_is_submitted_again() {
        let states = parse_squeue("7_0|RUNNING\n7_1|FAILED\n7_2|COMPLETED\n7_4|PENDING\n7_5|FAILED\n").unwrap();
        let task = |task, done, submissions| Submitted { task, done, submissions };
        let tasks = [
            task(0, false, 1),
            task(1, false, 1),
            task(2, false, 1),
            task(3, false, 1),
            task(4, false, 2),
            task(5, false, 2),
            task(6, true, 1),
        ];
        let next = follow_up(&tasks, &states, 2);
        assert_eq!(next, FollowUp { waiting: vec![0, 4], resubmit: vec![1, 2, 3], given_up: vec![5] });
    }

    proptest! {
        #[test]
        fn an_array_reads_back(tasks in proptest::collection::btree_set(0u32..200, 1..40)) {
            let tasks: Vec<u32> = tasks.into_iter().collect();
            prop_assert_eq!(task_list(&array(&tasks)), Some(tasks));
        }

        #[test]
        fn no_answer_panics(answer in "[0-9_|\\[\\]%,=A-Z \n-]{0,60}") {
            let _ = (parse_squeue(&answer), parse_scontrol(&answer), parse_submitted(&answer));
        }
    }
}
