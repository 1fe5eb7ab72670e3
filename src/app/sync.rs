//! Sending runs that were logged offline, or that did not get everything through.

use std::path::PathBuf;

use crate::wandb::{SyncOptions, Synced, WandbError, is_synced, remove_synced, runs_in, runs_to_sync};

use super::error::AppError;
use super::session::Session;

/// What to send and how. Start from [`SyncRequest::default`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SyncRequest {
    /// Folders of runs, logs, or folders with runs in them; all unsent runs of the session where there are none.
    pub folders: Vec<PathBuf>,
    /// How each is sent.
    pub options: SyncOptions,
}

/// A run's folder and how it stands.
#[derive(Debug)]
#[non_exhaustive]
pub struct SyncFolder {
    /// The folder.
    pub folder: PathBuf,
    /// How it stands.
    pub state: SyncState,
    /// The folder is gone: everything in it is on the server.
    pub removed: bool,
}

/// How a run's folder stands.
#[derive(Debug)]
pub enum SyncState {
    /// To be sent.
    Waiting,
    /// Everything was sent before.
    Before,
    /// Sent.
    Sent(Synced),
    /// Not sent, or not all of it.
    Failed(WandbError),
}

impl SyncFolder {
    /// Whether the log was damaged.
    pub fn is_damaged(&self) -> bool {
        matches!(&self.state, SyncState::Sent(synced) if !synced.damages.is_empty())
    }
}

/// The folders that the request means, oldest first where they were not named.
///
/// # Errors
/// [`AppError::Wandb`] for a folder without a log.
pub fn runs_to_send(session: &Session, request: &SyncRequest) -> Result<Vec<SyncFolder>, AppError> {
    let mut folders = Vec::new();
    if request.folders.is_empty() {
        folders = runs_to_sync(&session.runs).map_err(AppError::wandb("look for runs"))?;
    }
    for folder in &request.folders {
        folders.extend(runs_in(folder).map_err(AppError::wandb(format!("look for runs in {}", folder.display())))?);
    }
    let state = |folder: &PathBuf| match is_synced(folder) {
        Ok(true) if !request.options.again => SyncState::Before,
        Ok(_) => SyncState::Waiting,
        Err(error) => SyncState::Failed(error),
    };
    let item = |folder: PathBuf| SyncFolder { state: state(&folder), folder, removed: false };
    Ok(folders.into_iter().map(item).collect())
}

/// Sends one after another; what is wrong with one does not keep the others.
///
/// # Errors
/// [`AppError::Offline`] without a client. What went wrong with one folder is its state.
pub async fn sync(session: &Session, request: &SyncRequest, found: &mut [SyncFolder]) -> Result<(), AppError> {
    let waiting = |item: &&mut SyncFolder| matches!(item.state, SyncState::Waiting);
    for item in found.iter_mut().filter(waiting) {
        let client = session.online("runs that were logged")?;
        item.state = match client.sync(&item.folder, &request.options).await {
            Ok(synced) => SyncState::Sent(synced),
            Err(error) => SyncState::Failed(error),
        };
    }
    Ok(())
}

/// Removes the folders that are marked as synced.
///
/// # Errors
/// [`AppError::Wandb`] for a folder that cannot be removed.
pub fn clean(found: &mut [SyncFolder]) -> Result<(), AppError> {
    for item in found {
        let done = matches!(item.state, SyncState::Before | SyncState::Sent(_)) && !item.is_damaged();
        if done {
            let removing = AppError::wandb(format!("remove {}", item.folder.display()));
            remove_synced(&item.folder).map_err(removing)?;
            item.removed = true;
        }
    }
    Ok(())
}

/// An error with its causes, on one line.
pub fn explain_wandb(error: &WandbError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
