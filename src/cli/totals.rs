//! What is done of what was announced, how fast, and how long it will still take. Pure: time is passed in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wandb_pca::progress::{Event, Stage, TaskId};

use super::render::bytes_text;

/// How often the rate is looked at.
const SAMPLE: Duration = Duration::from_millis(250);
/// How much the latest sample weighs.
const WEIGHT: f64 = 0.3;

/// The totals of all stages whose work was announced.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    stages: HashMap<Stage, Total>,
    tasks: HashMap<TaskId, Running>,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    total: Option<u64>,
    done: u64,
}

/// One stage.
#[derive(Debug)]
pub(crate) struct Total {
    pub(crate) tasks: usize,
    pub(crate) finished: usize,
    /// In bytes, as is `done`.
    pub(crate) total: u64,
    pub(crate) done: u64,
    /// Bytes a second, smoothed.
    pub(crate) rate: f64,
    sampled: (Instant, u64),
}

impl Totals {
    /// Takes an event in; says which announced stage it moved.
    pub(crate) fn on_event(&mut self, event: Event<'_>, now: Instant) -> Option<Stage> {
        match event {
            Event::Plan { stage, tasks, total } => {
                let fresh = Total { tasks: 0, finished: 0, total: 0, done: 0, rate: 0.0, sampled: (now, 0) };
                let sum = self.stages.entry(stage).or_insert(fresh);
                sum.tasks += tasks;
                sum.total = sum.total.saturating_add(total);
                Some(stage)
            }
            Event::Begin { task, stage, total, .. } => {
                self.tasks.insert(task, Running { stage, total, done: 0 });
                None
            }
            Event::Advance { task, amount } => {
                let running = self.tasks.get_mut(&task)?;
                running.done += amount;
                let sum = self.stages.get_mut(&running.stage)?;
                sum.done += amount;
                sum.sample(now);
                Some(running.stage)
            }
            Event::End { task } => {
                let running = self.tasks.remove(&task)?;
                let sum = self.stages.get_mut(&running.stage)?;
                if running.total.is_none_or(|total| running.done >= total) {
                    sum.finished += 1;
                } else {
                    // It failed or begins anew: what it did counts for nothing.
                    sum.done = sum.done.saturating_sub(running.done);
                    sum.sampled.1 = sum.sampled.1.min(sum.done);
                }
                Some(running.stage)
            }
            _ => None,
        }
    }

    pub(crate) fn get(&self, stage: Stage) -> Option<&Total> {
        self.stages.get(&stage)
    }
}

impl Total {
    fn sample(&mut self, now: Instant) {
        let (then, done) = self.sampled;
        let elapsed = now.saturating_duration_since(then);
        if elapsed < SAMPLE {
            return;
        }
        let latest = self.done.saturating_sub(done) as f64 / elapsed.as_secs_f64();
        self.rate = if self.rate > 0.0 { self.rate + WEIGHT * (latest - self.rate) } else { latest };
        self.sampled = (now, self.done);
    }

    /// Seconds left, once there is a rate.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        (self.rate > 0.0).then(|| self.total.saturating_sub(self.done) as f64 / self.rate)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.finished >= self.tasks
    }

    /// `3/11 files, 1.2 GB of 4.7 GB, 512.0 MB/s, 7 s left`
    pub(crate) fn text(&self) -> String {
        let (done, total) = (bytes_text(self.done), bytes_text(self.total));
        let mut text = format!("{}/{} files, {done} of {total}", self.finished, self.tasks);
        if let Some(left) = self.seconds_left().filter(|_| !self.is_over()) {
            text += &format!(", {}/s, {left:.0} s left", bytes_text(self.rate as u64));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use wandb_pca::progress::{Progress, Watch};

    use super::*;

    /// Feeds events to totals on a clock that moves by a second with each.
    struct Feed(Mutex<(Totals, Instant)>);

    impl Watch for Feed {
        fn on_event(&self, event: Event<'_>) {
            let (totals, now) = &mut *self.0.lock().unwrap();
            *now += Duration::from_secs(1);
            totals.on_event(event, *now);
        }
    }

    #[test]
    fn totals_add_up_with_rate_and_time_left_and_failed_attempts_count_for_nothing() {
        let feed = Arc::new(Feed(Mutex::new((Totals::default(), Instant::now()))));
        let watcher: Arc<dyn Watch> = Arc::<Feed>::clone(&feed);
        let progress = Progress::new(watcher);
        let seen = |of: &dyn Fn(&Total)| of(feed.0.lock().unwrap().0.get(Stage::Download).unwrap());
        progress.plan(Stage::Download, 2, 3000);
        progress.begin(Stage::Verify, "not announced", Some(9)).advance(9);
        let broken = progress.begin(Stage::Download, "a", Some(1000));
        broken.advance(400);
        drop(broken);
        seen(&|total| assert_eq!((total.done, total.finished), (0, 0)));
        let whole = progress.begin(Stage::Download, "a", Some(1000));
        whole.advance(1000);
        drop(whole);
        seen(&|total| {
            assert_eq!((total.done, total.finished, total.is_over()), (1000, 1, false));
            assert!(total.rate > 0.0 && total.seconds_left().unwrap() > 0.0);
            assert!(total.text().starts_with("1/2 files, ") && total.text().ends_with(" s left"), "{}", total.text());
        });
        progress.begin(Stage::Download, "b", Some(2000)).advance(2000);
        seen(&|total| assert!(total.is_over() && total.done == total.total && !total.text().contains("left")));
    }
}
