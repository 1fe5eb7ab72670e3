//! Progress events as bars, plain lines or JSON lines on standard error.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use wandb_pca::progress::{Event, Progress, Stage, TaskId, Watch};

use super::args::ProgressMode;

/// The watcher for a mode, and the bars that other lines on standard error must go around.
pub(crate) fn progress(mode: ProgressMode, quiet: bool) -> (Progress, MultiProgress) {
    let bars = MultiProgress::new();
    let terminal = std::io::stderr().is_terminal();
    let progress = match mode {
        _ if quiet => Progress::silent(),
        ProgressMode::None => Progress::silent(),
        ProgressMode::Auto if terminal => Progress::new(Arc::new(Bars { bars: bars.clone(), tasks: Mutex::default() })),
        ProgressMode::Auto => Progress::new(Arc::new(Notes)),
        ProgressMode::Plain => Progress::new(Arc::new(Lines::default())),
        ProgressMode::Json => Progress::new(Arc::new(JsonLines)),
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

struct Bars {
    bars: MultiProgress,
    tasks: Mutex<HashMap<TaskId, ProgressBar>>,
}

impl Watch for Bars {
    fn on_event(&self, event: Event<'_>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { task, stage, label, total } => {
                let bar = self.bars.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
                bar.set_style(style(stage, total.is_some()));
                bar.set_prefix(verb(stage));
                bar.set_message(label.to_owned());
                bar.enable_steady_tick(std::time::Duration::from_millis(200));
                tasks.insert(task, bar);
            }
            Event::Advance { task, amount } => {
                if let Some(bar) = tasks.get(&task) {
                    bar.inc(amount);
                }
            }
            Event::End { task } => {
                if let Some(bar) = tasks.remove(&task) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
            }
            // A terminal that is gone cannot be told so.
            Event::Note { message } => drop(self.bars.println(message)),
            _ => {}
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

#[derive(Default)]
struct Lines(Mutex<HashMap<TaskId, String>>);

impl Watch for Lines {
    fn on_event(&self, event: Event<'_>) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { task, stage, label, total } => {
                let size = total.map(|total| format!(" ({total} bytes)")).unwrap_or_default();
                line(&format!("{} {label}{size}", verb(stage)));
                tasks.insert(task, format!("{} {label}", verb(stage)));
            }
            Event::End { task } => {
                if let Some(what) = tasks.remove(&task) {
                    line(&format!("{what}: done"));
                }
            }
            Event::Note { message } => line(message),
            _ => {}
        }
    }
}

struct JsonLines;

impl Watch for JsonLines {
    fn on_event(&self, event: Event<'_>) {
        let number = |task: TaskId| format!("{task:?}").chars().filter(char::is_ascii_digit).collect::<String>();
        let value = match event {
            Event::Begin { task, stage, label, total } => {
                serde_json::json!({"event": "begin", "task": number(task), "stage": verb(stage), "label": label, "total": total})
            }
            Event::Advance { task, amount } => {
                serde_json::json!({"event": "advance", "task": number(task), "amount": amount})
            }
            Event::End { task } => serde_json::json!({"event": "end", "task": number(task)}),
            Event::Note { message } => serde_json::json!({"event": "note", "message": message}),
            _ => return,
        };
        line(&value.to_string());
    }
}
