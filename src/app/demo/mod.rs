//! The demo: experiments made by arithmetic instead of training, on an embedded server of their own, and what a user would do
//! with them. [`demo`] is the main job end to end, [`demo_study`] a whole grid. Starts the server and opens the demo's store.

mod model;
mod study;
mod upload;
mod whole_job;

use std::path::Path;

use crate::progress::Progress;
use crate::server::{Server, ServerOptions};
use crate::store::Store;
use crate::wandb::{Client, ClientOptions};

pub use study::{DemoStudy, demo_study};
pub use whole_job::{DEMO_PROJECT, DemoFit, DemoOutcome, demo};

use super::device::Device;
use super::error::AppError;
use super::session::Session;

/// Entity of the demo's server.
const ENTITY: &str = "demo";

/// Starts the embedded server of the demo in its data folder.
///
/// # Errors
/// [`AppError::Server`].
pub async fn start_server(folder: &Path) -> Result<Server, AppError> {
    Ok(Server::start(ServerOptions::new(folder.join("server")).with_entity(ENTITY)).await?)
}

/// A session with that server and a store of the demo's own.
///
/// # Errors
/// [`AppError::Wandb`] when no client can be made.
pub fn session(server: &Server, folder: &Path, progress: &Progress) -> Result<Session, AppError> {
    let options = ClientOptions::new(server.base_url())
        .with_api_key(Some(server.api_key().clone()))
        .with_progress(progress.clone());
    Ok(Session {
        client: Some(Client::new(options).map_err(AppError::wandb("reach the embedded server"))?),
        store: Store::new(folder.join("cache").join("artifacts"), progress.clone()),
        progress: progress.clone(),
        device: Device::default(),
        entity: None,
        project: None,
        app_url: server.base_url().to_owned(),
        runs: folder.to_owned(),
        artifact_dir: "artifacts".into(),
    })
}
