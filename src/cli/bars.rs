//! Progress events as bars, plain lines or JSON lines on standard error.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use wandb_pca::progress::{Event, Progress, Stage, TaskId, Watch};

use super::args::ProgressMode;
use super::totals::Totals;

/// The watcher for a mode, and the bars that other lines on standard error must go around.
pub(crate) fn progress(mode: ProgressMode, quiet: bool) -> (Progress, MultiProgress) {
    let bars = MultiProgress::new();
    let terminal = std::io::stderr().is_terminal();
    let progress = match mode {
        _ if quiet => Progress::silent(),
        ProgressMode::None => Progress::silent(),
        ProgressMode::Auto if terminal => Progress::new(Arc::new(Bars { bars: bars.clone(), state: Mutex::default() })),
        ProgressMode::Auto => Progress::new(Arc::new(Notes)),
        ProgressMode::Plain => Progress::new(Arc::new(Lines::default())),
        ProgressMode::Json => Progress::new(Arc::new(JsonLines::default())),
    };
    (progress, bars)
}

/// Writes a line to standard error; a closed one is nobody's loss.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "resolve",
        Stage::Download => "download",
        Stage::Upload => "upload",
        Stage::Verify => "verify",
        Stage::Compute => "compute",
        Stage::Write => "write",
        _ => "work",
    }
}

/// Nobody watches a bar here, but a retry still deserves a word.
struct Notes;

impl Watch for Notes {
    fn on_event(&self, event: Event<'_>) {
        if let Event::Note { message } = event {
            line(message);
        }
    }
}

/// Bars of single files at once; the others show in the total only.
const MOST_BARS: usize = 8;

/// One bar for what was announced, and some for the files under way.
struct Bars {
    bars: MultiProgress,
    state: Mutex<BarState>,
}

#[derive(Default)]
struct BarState {
    tasks: HashMap<TaskId, ProgressBar>,
    totals: Totals,
    sums: HashMap<Stage, ProgressBar>,
}

impl Watch for Bars {
    fn on_event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = state.totals.on_event(event, Instant::now());
        match event {
            Event::Plan { stage, tasks, .. } if tasks > 1 => {
                state.sums.entry(stage).or_insert_with(|| self.bar(stage, "", Some(0)));
            }
            Event::Begin { task, stage, label, total } if state.tasks.len() < MOST_BARS => {
                let bar = self.bar(stage, label, total);
                state.tasks.insert(task, bar);
            }
            Event::Advance { task, amount } => {
                if let Some(bar) = state.tasks.get(&task) {
                    bar.inc(amount);
                }
            }
            Event::End { task } => {
                if let Some(bar) = state.tasks.remove(&task) {
                    self.clear(&bar);
                }
            }
            // A terminal that is gone cannot be told so.
            Event::Note { message } => drop(self.bars.println(message)),
            _ => {}
        }
        if let Some(stage) = moved {
            self.sum(&mut state, stage);
        }
    }
}

impl Bars {
    fn bar(&self, stage: Stage, label: &str, total: Option<u64>) -> ProgressBar {
        // The total is the first of its stage, and stays above its files.
        let bar = self.bars.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        bar.set_style(style(stage, total.is_some()));
        bar.set_prefix(verb(stage));
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn clear(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.bars.remove(bar);
    }

    fn sum(&self, state: &mut BarState, stage: Stage) {
        let (Some(bar), Some(total)) = (state.sums.get(&stage), state.totals.get(stage)) else { return };
        bar.set_length(total.total);
        bar.set_position(total.done);
        bar.set_message(format!("{}/{} files", total.finished, total.tasks));
        if total.is_over()
            && let Some(bar) = state.sums.remove(&stage)
        {
            self.clear(&bar);
        }
    }
}

fn style(stage: Stage, bounded: bool) -> ProgressStyle {
    let template = match (stage, bounded) {
        (Stage::Resolve, _) | (_, false) => "{prefix:>8} {spinner} {msg}",
        _ => {
            "{prefix:>8} [{bar:24}] {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>11} {eta:>4} {msg}"
        }
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// How long to be silent about a total that moves.
const LINES_APART: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Lines(Mutex<LineState>);

#[derive(Default)]
struct LineState {
    tasks: HashMap<TaskId, String>,
    totals: Totals,
    pace: Pace,
}

impl Watch for Lines {
    fn on_event(&self, event: Event<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let moved = state.totals.on_event(event, now);
        match event {
            Event::Begin { task, stage, label, total } => {
                let size = total.map(|total| format!(" ({total} bytes)")).unwrap_or_default();
                line(&format!("{} {label}{size}", verb(stage)));
                state.tasks.insert(task, format!("{} {label}", verb(stage)));
            }
            Event::End { task } => {
                if let Some(what) = state.tasks.remove(&task) {
                    line(&format!("{what}: done"));
                }
            }
            Event::Note { message } => line(message),
            _ => {}
        }
        let LineState { totals, pace, .. } = &mut *state;
        if let Some((stage, total)) = moved.and_then(|stage| Some((stage, totals.get(stage)?)))
            && (total.is_over() || pace.is_due(LINES_APART, now))
        {
            line(&format!("{}: {}", verb(stage), total.text()));
        }
    }
}

/// How long to be silent about a task that moves, and about a total.
const JSON_APART: Duration = Duration::from_millis(100);

#[derive(Default)]
struct JsonLines(Mutex<JsonState>);

#[derive(Default)]
struct JsonState {
    totals: Totals,
    /// What a task did since its last line.
    unsaid: HashMap<TaskId, (u64, Pace)>,
    pace: Pace,
}

impl Watch for JsonLines {
    fn on_event(&self, event: Event<'_>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let moved = state.totals.on_event(event, now);
        let number = |task: TaskId| format!("{task:?}").chars().filter(char::is_ascii_digit).collect::<String>();
        let say = |value: serde_json::Value| line(&value.to_string());
        let advanced = |task: TaskId, amount: u64| {
            if amount > 0 {
                say(json!({"event": "advance", "task": number(task), "amount": amount}));
            }
        };
        match event {
            Event::Plan { stage, tasks, total } => {
                say(json!({"event": "plan", "stage": verb(stage), "tasks": tasks, "total": total}));
            }
            Event::Begin { task, stage, label, total } => {
                state.unsaid.insert(task, (0, Pace::default()));
                say(
                    json!({"event": "begin", "task": number(task), "stage": verb(stage), "label": label, "total": total}),
                );
            }
            Event::Advance { task, amount } => {
                if let Some((unsaid, pace)) = state.unsaid.get_mut(&task) {
                    *unsaid += amount;
                    if pace.is_due(JSON_APART, now) {
                        advanced(task, std::mem::take(unsaid));
                    }
                }
            }
            Event::End { task } => {
                if let Some((unsaid, _)) = state.unsaid.remove(&task) {
                    advanced(task, unsaid);
                }
                say(json!({"event": "end", "task": number(task)}));
            }
            Event::Note { message } => say(json!({"event": "note", "message": message})),
            _ => {}
        }
        let JsonState { totals, pace, .. } = &mut *state;
        if let Some((stage, total)) = moved.and_then(|stage| Some((stage, totals.get(stage)?)))
            && (total.is_over() || pace.is_due(JSON_APART, now))
        {
            say(json!({
                "event": "total", "stage": verb(stage), "tasks": total.tasks, "finished": total.finished,
                "total": total.total, "done": total.done, "rate": total.rate, "seconds_left": total.seconds_left(),
            }));
        }
    }
}

/// When something was last said.
#[derive(Default)]
struct Pace(Option<Instant>);

impl Pace {
    fn is_due(&mut self, apart: Duration, now: Instant) -> bool {
        let due = self.0.is_none_or(|last| now.saturating_duration_since(last) >= apart);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
