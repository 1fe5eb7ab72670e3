//! Uploads files, folders and references as a new version.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::digest::Algorithm;
use crate::progress::Stage;
use crate::wandb::{
    Artifact, ArtifactDraft, ArtifactName, Checksum, Client, Filter, LinkTarget, LoggedArtifact, MOST_OBJECTS,
    PreparedArtifact, QualifiedName, RunOptions, Ttl,
};

/// What to upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PutOptions {
    /// Files and folders; a file goes under its name, a folder's files under their paths from there.
    pub paths: Vec<PathBuf>,
    /// Which files of the folders.
    pub filter: Filter,
    /// Entries that point elsewhere: address, and path of the entry or nothing for the last part of the address.
    pub references: Vec<(String, String)>,
    /// Whether the targets of references are looked at.
    pub checksum: Checksum,
    /// Most objects or files that one reference may stand for.
    pub most_objects: usize,
    /// The collection; its alias is not used.
    pub name: ArtifactName,
    /// Type of the artifact.
    pub artifact_type: String,
    /// Aliases besides `latest`.
    pub aliases: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Description; that of the base where there is none.
    pub description: Option<String>,
    /// Metadata; that of the base where there is none.
    pub metadata: Map<String, Value>,
    /// How long the version is kept.
    pub ttl: Ttl,
    /// How files are hashed.
    pub algorithm: Algorithm,
    /// What the version stands on.
    pub base: Base,
    /// Collections that the version is linked into.
    pub links: Vec<ArtifactName>,
    /// What to do when the latest version has the same content.
    pub unchanged: Unchanged,
}

/// What a new version stands on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Base {
    /// Nothing: what is given is all.
    #[default]
    Nothing,
    /// The version of the collection with this alias: its entries stay, but for those at `without` and those given anew.
    Version {
        /// Alias or version, such as `latest` or `v3`.
        alias: String,
        /// Paths of entries to leave out.
        without: Vec<String>,
    },
    /// Only what is given is announced, and the server lays it over the version with this alias, or over the latest.
    Increment {
        /// Alias or version.
        alias: Option<String>,
    },
}

/// What to do when the latest version has the same content already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unchanged {
    /// Log it all the same: the server answers the older version and gives it the aliases.
    #[default]
    Log,
    /// Nothing: no run, no request but the look at the latest version.
    Leave,
}

impl PutOptions {
    /// Nothing yet, for a collection.
    pub fn new(name: ArtifactName, artifact_type: impl Into<String>) -> Self {
        Self {
            paths: Vec::new(),
            filter: Filter::all(),
            references: Vec::new(),
            checksum: Checksum::Compute,
            most_objects: MOST_OBJECTS,
            name,
            artifact_type: artifact_type.into(),
            aliases: Vec::new(),
            tags: Vec::new(),
            description: None,
            metadata: Map::new(),
            ttl: Ttl::Inherited,
            algorithm: Algorithm::Md5,
            base: Base::Nothing,
            links: Vec::new(),
            unchanged: Unchanged::Log,
        }
    }
}

/// What would be uploaded: everything is hashed, nothing is sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PutPlan {
    /// What the version will hold.
    pub prepared: PreparedArtifact,
    /// The latest version of the collection, where there is one.
    pub latest: Option<Artifact>,
    /// Whether that has the same content.
    pub unchanged: bool,
}

/// What was uploaded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Put {
    /// The version, and what was sent for it.
    pub logged: LoggedArtifact,
    /// `entity/project/id` of the run that logged it, where one was needed.
    pub run: Option<String>,
    /// Names of the version in the collections that it was linked into.
    pub links: Vec<QualifiedName>,
}

/// Hashes everything and compares it with the latest version. Nothing is sent.
///
/// # Errors
/// [`AppError`] naming the file, the reference or the collection.
pub async fn plan_put(session: &Session, options: &PutOptions) -> Result<PutPlan, AppError> {
    let client = session.online(&options.name)?;
    let name = session.qualify(&options.name).await?;
    let _task = session.progress.begin(Stage::Resolve, &format!("{}/{}", name.project, name.collection), None);
    let latest = find(client, &name, "latest").await?;
    let base = match &options.base {
        Base::Nothing | Base::Increment { alias: None } => None,
        Base::Version { alias, .. } | Base::Increment { alias: Some(alias) } => {
            let of = QualifiedName::new(&name.entity, &name.project, &name.collection, alias);
            Some(client.artifact(&of).await.map_err(AppError::wandb(format!("start from {of}")))?)
        }
    };
    let draft = draft(client, (options, &name), base.as_ref()).await?;
    let preparing = AppError::wandb(format!("prepare {}/{}/{}", name.entity, name.project, name.collection));
    let prepared = client.prepare(draft, &name.entity, &name.project).await.map_err(preparing)?;
    let unchanged = match (&latest, &options.base) {
        (None, _) => false,
        (Some(latest), Base::Increment { .. }) => adds_nothing(client, latest, base.as_ref(), &prepared).await?,
        (Some(latest), _) => latest.digest == prepared.digest(),
    };
    Ok(PutPlan { prepared, latest, unchanged })
}

/// Uploads files, folders and references as a new version, inside a run of its own: the protocol takes manifests only from
/// runs. The job type is that of the official command, `cli_put`.
///
/// # Errors
/// [`AppError`] naming the file or the collection; no version is committed then, unless it is about a link.
pub async fn put(session: &Session, options: &PutOptions) -> Result<Put, AppError> {
    let plan = plan_put(session, options).await?;
    let client = session.online(&options.name)?;
    let (logged, run) = match plan.latest {
        Some(latest) if plan.unchanged && options.unchanged == Unchanged::Leave => {
            (LoggedArtifact::existing(latest), None)
        }
        _ => upload(session, &plan.prepared, options).await.map(|(logged, run)| (logged, Some(run)))?,
    };
    let mut links = Vec::new();
    for target in &options.links {
        let target = LinkTarget::new(&session.qualify_link(target, &logged.artifact.source.entity).await?);
        let action = format!(
            "link {}, which is uploaded, into {}/{}/{}",
            logged.artifact.name(),
            target.entity,
            target.project,
            target.collection
        );
        links.push(client.link_artifact(&logged.artifact, &target).await.map_err(AppError::wandb(action))?);
    }
    Ok(Put { logged, run, links })
}

/// The version of the collection with this alias, or nothing where there is none.
async fn find(client: &Client, name: &QualifiedName, alias: &str) -> Result<Option<Artifact>, AppError> {
    let of = QualifiedName::new(&name.entity, &name.project, &name.collection, alias);
    match client.artifact(&of).await {
        Ok(artifact) => Ok(Some(artifact)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(AppError::wandb(format!("look for {of}"))(error)),
    }
}

/// Whether an increment lays over its base what the latest version holds already.
async fn adds_nothing(
    client: &Client,
    latest: &Artifact,
    base: Option<&Artifact>,
    prepared: &PreparedArtifact,
) -> Result<bool, AppError> {
    let base = base.unwrap_or(latest);
    let mut whole =
        client.manifest(base).await.map_err(AppError::wandb(format!("read the manifest of {}", base.name())))?;
    whole.entries.extend(prepared.manifest().entries.clone());
    Ok(whole.digest() == latest.digest)
}

/// Logs one draft in a run of its own; the run's path goes with it.
async fn upload(
    session: &Session,
    prepared: &PreparedArtifact,
    options: &PutOptions,
) -> Result<(LoggedArtifact, String), AppError> {
    let (entity, project) = prepared.home();
    let paths: Vec<String> = options.paths.iter().map(|path| path.display().to_string()).collect();
    let config =
        Map::from_iter([("path".to_owned(), if let [one] = paths.as_slice() { json!(one) } else { json!(paths) })]);
    let run = RunOptions::new(project)
        .with_entity(Some(entity.to_owned()))
        .with_job_type(Some("cli_put".to_owned()))
        .with_config(config);
    let run = session.start_run(run).await.map_err(AppError::wandb(format!("start a run in {entity}/{project}")))?;
    let path = run.path();
    let logged = run.log_prepared(prepared).await.map_err(AppError::wandb(format!("upload {}", prepared.collection())));
    let finished =
        run.finish(i32::from(logged.is_err())).await.map_err(AppError::wandb("finish the run of the upload"));
    let logged = logged?;
    finished?;
    Ok((logged, path))
}

async fn draft(
    client: &Client,
    (options, name): (&PutOptions, &QualifiedName),
    base: Option<&Artifact>,
) -> Result<ArtifactDraft, AppError> {
    let describing = || AppError::wandb(format!("describe {}", name.collection));
    let mut draft = match (&options.base, base) {
        (Base::Version { without, .. }, Some(base)) => {
            let reading = AppError::wandb(format!("read the manifest of {}", base.name()));
            let manifest = client.manifest(base).await.map_err(reading)?;
            let draft = ArtifactDraft::from_version(base, manifest).map_err(describing())?;
            without.iter().try_fold(draft, |draft, path| draft.without(path)).map_err(describing())?
        }
        _ => ArtifactDraft::new(name.collection.clone(), options.artifact_type.clone())
            .map_err(describing())?
            .with_digest_algorithm(options.algorithm),
    };
    if let Base::Increment { .. } = options.base {
        draft = draft.as_increment_of(base);
    }
    if let Some(description) = &options.description {
        draft = draft.with_description(description.clone());
    }
    if !options.metadata.is_empty() {
        draft = draft.with_metadata(options.metadata.clone()).map_err(describing())?;
    }
    draft = options.aliases.iter().try_fold(draft, |draft, alias| draft.with_alias(alias)).map_err(describing())?;
    draft = options.tags.iter().try_fold(draft, |draft, tag| draft.with_tag(tag)).map_err(describing())?;
    draft = draft.with_ttl(options.ttl).with_most_objects(options.most_objects);
    for path in &options.paths {
        draft = with_path(draft, path, &options.filter)?;
    }
    for (uri, path) in &options.references {
        draft = draft.with_reference(path, uri, options.checksum).map_err(describing())?;
    }
    Ok(draft)
}

/// Adds a file under its name, or a folder's files under their paths from there.
fn with_path(draft: ArtifactDraft, path: &Path, filter: &Filter) -> Result<ArtifactDraft, AppError> {
    let adding = AppError::wandb(format!("add {}", path.display()));
    if std::fs::metadata(path).map_err(AppError::file("read", path))?.is_dir() {
        return draft.with_folder("", path, filter).map_err(adding);
    }
    let whole = std::path::absolute(path).map_err(AppError::file("find", path))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    draft.with_file(name, path).map_err(adding)
}
