//! Going on with a run that is there, or not. Network I/O through the client, file I/O.

use super::super::Client;
use super::super::error::WandbError;
use super::super::offline::{Home, Past};
use super::options::RunOptions;

/// What is to happen when a run of the given id is there, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Resume {
    /// Nobody asks: rows are put behind those that are there, and the rest is replaced.
    #[default]
    Unasked,
    /// A run that is there is an error.
    Never,
    /// Go on with a run that is there, else make it.
    Allow,
    /// A run that is not there is an error.
    Must,
}

impl Client {
    /// What the run had that these options start; nothing for a new one.
    pub(super) async fn past_of(&self, options: &RunOptions, id: &str) -> Result<Option<Past>, WandbError> {
        if options.resume == Resume::Unasked {
            return Ok(None);
        }
        let entity = options.entity.clone().unwrap_or_default();
        let home = Home { entity, project: options.project.clone(), run: id.to_owned() };
        if options.resume != Resume::Never {
            self.send_left_over(&options.root, &home).await?;
        }
        match (self.past(&home).await?, options.resume) {
            (None, Resume::Must) => Err(WandbError::NotFound { what: format!("run {}", home.path()) }),
            (None, _) => Ok(None),
            (Some(_), Resume::Never) => Err(WandbError::RunExists { run: home.path() }),
            (past, _) => Ok(past),
        }
    }
}
