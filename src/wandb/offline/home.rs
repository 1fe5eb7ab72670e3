//! The run on the server: made or changed from what the log says of it, and where the log's first row goes there.
//! Network I/O through the client.

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{Bucket, HistoryPage, UpsertBucket, UpsertBucketInput};
use super::assembly::Assembly;
use super::past::Past;
use super::record::RunRecord;

/// Where a run lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    /// Empty while no server said which.
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run: String,
}

impl Home {
    /// `entity/project/run`.
    pub(crate) fn path(&self) -> String {
        let parts = [&self.entity, &self.project, &self.run];
        parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// A run as the server answered it.
#[derive(Debug)]
pub(crate) struct Upserted {
    pub(crate) home: Home,
    pub(crate) display_name: Option<String>,
    /// Rows that it has.
    pub(crate) rows: u64,
    /// It was not there before.
    pub(crate) is_new: bool,
}

/// Other names than those in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) entity: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) run: Option<String>,
}

impl Client {
    /// Makes the run, or changes what the log says of it. What it does not say stays as it is.
    pub(crate) async fn upsert(&self, assembly: &Assembly, renamed: &Renamed) -> Result<Upserted, WandbError> {
        let Some(input) = input(assembly, renamed) else {
            let reason = "it does not say which run it is of".to_owned();
            return Err(WandbError::Malformed { what: "the log".to_owned(), reason });
        };
        let what = format!("run {}/{}", input.model_name, input.name);
        let data = execute(self.transport(), &self.budget(), &what, &UpsertBucket { input }).await?;
        let (bucket, inserted) =
            data.upsert_bucket.map(|payload| (payload.bucket, payload.inserted)).unwrap_or_default();
        let malformed = |reason: &str| WandbError::Malformed { what: what.clone(), reason: reason.to_owned() };
        let Bucket { name, display_name, project, history_line_count } =
            bucket.ok_or_else(|| malformed("it is empty"))?;
        let project = project.ok_or_else(|| malformed("it names no project"))?;
        let home = Home { entity: project.entity.name, project: project.name, run: name };
        Ok(Upserted { home, display_name, rows: history_line_count.unwrap_or(0), is_new: inserted == Some(true) })
    }

    /// Numbers on the server of the first lines of history, events and console of a log of which we know nothing yet; of its
    /// first row, as it is to be there, and of what the run had where that was asked.
    ///
    /// Where the log was sent before by somebody else, its rows go over themselves. Else all goes behind what is there:
    /// the official client does so with rows, and with all lines of a log that says that it goes on with a run.
    pub(crate) async fn first_lines(
        &self,
        upserted: &Upserted,
        first: Option<&str>,
        past: Option<&Past>,
    ) -> Result<[u64; 3], WandbError> {
        let row = match upserted.is_new {
            true => Some(0),
            false => self.row_there(&upserted.home, upserted.rows, first).await?,
        };
        // A log that made the run made all its lines.
        if row == Some(0) {
            return Ok([0; 3]);
        }
        let past = match past {
            Some(past) => Some(past.clone()),
            None => self.past(&upserted.home).await?,
        };
        let [_, events, console] = past.map(|past| past.lines).unwrap_or_default();
        Ok([row.unwrap_or(upserted.rows), events, console])
    }

    /// The number of a log's first row on the server where it is there already among `rows` rows.
    async fn row_there(&self, home: &Home, rows: u64, first: Option<&str>) -> Result<Option<u64>, WandbError> {
        let Some(row) = first.filter(|_| rows > 0).and_then(Row::parse) else { return Ok(None) };
        let there = self.rows_between(home, row.step..row.step.saturating_add(1)).await?;
        if !there.iter().any(|text| Row::parse(text).is_some_and(|there| there == row)) {
            return Ok(None);
        }
        // Steps grow from row to row, so the rows before it are those of lower steps.
        Ok(Some(self.rows_between(home, 0..row.step).await?.len() as u64))
    }

    async fn rows_between(&self, home: &Home, steps: std::ops::Range<u64>) -> Result<Vec<String>, WandbError> {
        /// Rows of one page: as many as a page has steps, so that none is left out.
        const PAGE: u64 = 10_000;
        let what = format!("the rows of run {}", home.path());
        let mut rows = Vec::new();
        let mut from = steps.start;
        while from < steps.end {
            let until = steps.end.min(from.saturating_add(PAGE));
            let page = HistoryPage {
                entity: &home.entity,
                project: &home.project,
                run: &home.run,
                min_step: from,
                max_step: until,
                samples: PAGE,
            };
            let data = execute(self.transport(), &self.budget(), &what, &page).await?;
            let run = data.project.and_then(|project| project.run);
            rows.extend(run.ok_or_else(|| WandbError::NotFound { what: what.clone() })?.history);
            from = until;
        }
        Ok(rows)
    }
}

/// What tells one row from all others.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    step: u64,
    timestamp: f64,
}

impl Row {
    fn parse(text: &str) -> Option<Self> {
        // A server may answer bare NaN, which is not JSON; neither value is one.
        let row: serde_json::Value =
            serde_json::from_str(&text.replace("NaN", "null").replace("Infinity", "null")).ok()?;
        let step = row.get("_step")?;
        let step = step.as_u64().or_else(|| step.as_f64().filter(|step| *step >= 0.0).map(|step| step as u64))?;
        Some(Self { step, timestamp: row.get("_timestamp")?.as_f64()? })
    }
}

/// Where a run goes: as the log names it, or as it is renamed.
pub(crate) fn names(record: &RunRecord, renamed: &Renamed) -> Home {
    let project = renamed.project.clone().unwrap_or_else(|| record.project.clone());
    Home {
        entity: renamed.entity.clone().unwrap_or_else(|| record.entity.clone()),
        project: if project.is_empty() { "uncategorized".to_owned() } else { project },
        run: renamed.run.clone().unwrap_or_else(|| record.run_id.clone()),
    }
}

fn input(assembly: &Assembly, renamed: &Renamed) -> Option<UpsertBucketInput> {
    let run = assembly.run()?;
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let home = names(run, renamed);
    Some(UpsertBucketInput {
        name: home.run,
        model_name: home.project,
        entity_name: filled(&home.entity),
        group_name: filled(&run.run_group),
        display_name: filled(&run.display_name),
        notes: filled(&run.notes),
        commit: run.git.as_ref().and_then(|git| filled(&git.commit)),
        config: Some(assembly.config().text()),
        host: filled(&run.host),
        job_program: assembly.program().map(str::to_owned),
        job_repo: run.git.as_ref().and_then(|git| filled(&git.remote_url)),
        job_type: filled(&run.job_type),
        sweep: filled(&run.sweep_id),
        tags: (!run.tags.is_empty()).then(|| run.tags.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_by_step_and_time() {
        let row = |text| Row::parse(text);
        assert_eq!(
            row(r#"{"_step":3,"a":NaN,"_timestamp":1.7956e9}"#),
            row(r#"{"_timestamp":1795600000,"_step":3.0}"#)
        );
        assert_ne!(row(r#"{"_step":3,"_timestamp":1}"#), row(r#"{"_step":3,"_timestamp":2}"#));
        assert_eq!(row(r#"{"_step":3}"#), None);
    }

    #[test]
    fn a_home_without_an_entity_has_a_path_too() {
        let home = |entity: &str| Home { entity: entity.to_owned(), project: "p".to_owned(), run: "r".to_owned() };
        assert_eq!((home("").path().as_str(), home("e").path().as_str()), ("p/r", "e/p/r"));
    }
}
