//! What every verb works with: a client, a store, and who watches.

use std::path::PathBuf;

use url::Url;

use crate::progress::Progress;
use crate::store::{Store, StoreError};
use crate::wandb::{ArtifactName, Client, QualifiedName, Run, RunOptions, WandbError, is_registry};

use super::device::Device;
use super::error::AppError;
use super::recorded::Recorded;

/// Project of what has none, in the official SDK.
const NO_PROJECT: &str = "uncategorized";

/// The surroundings of a verb. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {
    /// The server; `None` when we are offline.
    pub client: Option<Client>,
    /// Where artifacts are kept.
    pub store: Store,
    /// Who watches.
    pub progress: Progress,
    /// What makes the products of task vectors.
    pub device: Device,
    /// Entity of names that have none; the key's owner where this is `None`.
    pub entity: Option<String>,
    /// Project of names that have none.
    pub project: Option<String>,
    /// Root of the user interface, for links.
    pub app_url: String,
    /// Where `wandb/` is, the folder for runs.
    pub runs: PathBuf,
    /// Where the folders of artifacts go when nobody says: `<collection>:<version>` in here.
    pub artifact_dir: PathBuf,
}

impl Session {
    /// The client, or an error that says what cannot be done without one.
    pub(super) fn online(&self, what: impl ToString) -> Result<&Client, AppError> {
        self.client.as_ref().ok_or_else(|| AppError::Offline { what: what.to_string() })
    }

    /// Where a person looks at a run: entity, project, id.
    pub fn run_url(&self, [entity, project, run]: [&str; 3]) -> String {
        format!("{}/{entity}/{project}/runs/{run}", self.app_url)
    }

    /// Starts a run: with the server, or in a folder alone when we are offline.
    pub(super) async fn start_run(&self, options: RunOptions) -> Result<Run, WandbError> {
        let options = options.with_root(&self.runs);
        match &self.client {
            Some(client) => client.start_run(options).await,
            None => Run::start_offline(options, self.progress.clone()),
        }
    }

    /// The name with its entity and project filled in: from the defaults, or from the key's owner.
    pub(super) async fn qualify(&self, name: &ArtifactName) -> Result<QualifiedName, AppError> {
        if let Some(project) = name.project().or(self.project.as_deref()).filter(|project| is_registry(project)) {
            return self.qualify_in_registry(name, project).await;
        }
        let entity = self.entity_or_own(name.entity()).await?;
        name.with_defaults(entity.as_deref(), self.project.as_deref()).map_err(AppError::wandb("complete the name"))
    }

    /// The collection that a version of `source` is linked into: what is missing comes from there, and the organisation
    /// of a registry is the one that this entity belongs to (`Artifact.link` of the official SDK).
    pub(super) async fn qualify_link(&self, target: &ArtifactName, source: &str) -> Result<QualifiedName, AppError> {
        let project = target.project().or(self.project.as_deref()).unwrap_or(NO_PROJECT);
        let owner = match &self.client {
            Some(client) if is_registry(project) => {
                let complete = AppError::wandb(format!("find the organisation of {target}"));
                client.registry_entity(source, target.entity()).await.map_err(complete)?
            }
            _ => target.entity().unwrap_or(source).to_owned(),
        };
        let target = target.with_entity(Some(owner));
        target.with_defaults(None, Some(project)).map_err(AppError::wandb("complete the name"))
    }

    /// A name in a registry, whose first part is an organisation.
    async fn qualify_in_registry(&self, name: &ArtifactName, project: &str) -> Result<QualifiedName, AppError> {
        let complete = AppError::wandb(format!("find the organisation of {name}"));
        let entity = self.entity_or_own(None).await?;
        let owner = match (&self.client, &entity) {
            (Some(client), Some(entity)) => {
                Some(client.registry_entity(entity, name.entity()).await.map_err(complete)?)
            }
            _ => name.entity().map(str::to_owned),
        };
        let name = name.with_entity(owner);
        name.with_defaults(entity.as_deref(), Some(project)).map_err(AppError::wandb("complete the name"))
    }

    /// The entity that is meant: the given one, the default one, or that of the key's owner.
    pub(super) async fn entity_or_own(&self, given: Option<&str>) -> Result<Option<String>, AppError> {
        if let Some(entity) = given.or(self.entity.as_deref()) {
            return Ok(Some(entity.to_owned()));
        }
        let recorded = self.recorded();
        let Some(client) = &self.client else {
            let owner = recorded.owner()?;
            if let Some(entity) = &owner {
                self.progress.note(&format!("offline: taking entity {entity}, whose key was used last"));
            }
            return Ok(owner);
        };
        let entity = client.default_entity().await.map_err(AppError::wandb("ask whose key this is"))?;
        if let Some(entity) = &entity {
            self.noted(recorded.record_owner(entity));
        }
        Ok(entity)
    }

    /// Records only help later runs: one that cannot be written is told, and spoils nothing.
    pub(super) fn noted(&self, recorded: Result<(), StoreError>) {
        if let Err(error) = recorded {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            self.progress.note(&format!("{error}{cause}; this will not be known offline"));
        }
    }

    /// What this server told before.
    pub(super) fn recorded(&self) -> Recorded {
        Recorded::new(&self.store, &self.host())
    }

    /// The server's name in records, online and offline: host and port of its user interface.
    fn host(&self) -> String {
        let url = Url::parse(&self.app_url).ok();
        let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
        match host {
            Some((host, Some(port))) => format!("{host}:{port}"),
            Some((host, None)) => host.to_owned(),
            None => self.app_url.clone(),
        }
    }
}
