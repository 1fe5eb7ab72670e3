//! References to entries of other artifacts, followed until they end: at a file, outside of artifacts, or nowhere.
//! Network I/O through the client.
//!
//! All references take their steps together, so that each artifact is asked for once and those of one step at the same
//! time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::digest::Digest;

use super::super::super::Client;
use super::super::super::error::WandbError;
use super::super::Artifact;
use super::super::download::Wanted;
use super::super::filter::Filter;
use super::super::manifest::{Entry, Manifest};
use super::target::Target;
use super::{Reference, ReferenceError};

/// Most artifacts that one reference may lead through. The SDK resolves chains when it logs them, so one is usual.
pub(super) const LIMIT: usize = 16;

/// Where a chain ends.
pub(super) enum End {
    /// At this file of one of the [`Ends::inside`] artifacts.
    File(Digest, u64),
    /// Outside of artifacts.
    Outside(Box<Reference>, Target),
    /// At nothing.
    Nowhere(ReferenceError),
}

/// The ends of all references.
pub(super) struct Ends {
    /// Each wanted reference with its end.
    pub(super) ends: Vec<(Reference, End)>,
    /// The files that some end at.
    pub(super) inside: Vec<Wanted>,
}

/// One reference and the entries it led through.
struct Walker {
    asked: Reference,
    now: Reference,
    trail: Vec<(String, String)>,
}

/// An artifact that references lead to, or why there is none.
type Found = Result<(Artifact, Manifest), String>;

/// Follows references to their ends.
///
/// # Errors
/// The first reference that makes no sense, or what the requests met.
pub(super) async fn follow(client: &Client, wanted: &[Wanted], open: Vec<Reference>) -> Result<Ends, WandbError> {
    let own = |wanted: &Wanted| (wanted.artifact.id.clone(), Ok((wanted.artifact.clone(), wanted.manifest.clone())));
    let mut known: HashMap<String, Found> = wanted.iter().map(own).collect();
    let start = |asked: Reference| {
        let id = wanted.get(asked.index).map(|wanted| wanted.artifact.id.clone()).unwrap_or_default();
        Walker { now: asked.clone(), trail: vec![(id, asked.path.clone())], asked }
    };
    let mut walkers: Vec<Walker> = open.into_iter().map(start).collect();
    let (mut ends, mut inside) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    while !walkers.is_empty() {
        let mut inner = Vec::new();
        for walker in walkers {
            match Target::parse(&walker.now.uri).map_err(|source| walker.asked.refuse(source))? {
                Target::Artifact { id, path } => inner.push((walker, id, path)),
                target => ends.push((walker.asked, End::Outside(Box::new(walker.now), target))),
            }
        }
        let unknown: BTreeSet<&String> =
            inner.iter().map(|(_, id, _)| id).filter(|id| !known.contains_key(*id)).collect();
        let found = fetch(client, unknown.into_iter().cloned().collect()).await?;
        known.extend(found);
        walkers = Vec::new();
        for (walker, id, path) in inner {
            match step(walker, known.get(&id), (id.clone(), path.clone()))? {
                Step::On(walker) => walkers.push(walker),
                Step::End(asked, end) => {
                    if matches!(end, End::File(..)) {
                        inside.entry(id).or_default().insert(path);
                    }
                    ends.push((asked, end));
                }
            }
        }
    }
    Ok(Ends { ends, inside: files(&known, inside)? })
}

async fn fetch(client: &Client, ids: Vec<String>) -> Result<Vec<(String, Found)>, WandbError> {
    let one = async |id: String| {
        let found = match client.artifact_by_id(&id).await {
            Ok(artifact) => client.manifest(&artifact).await.map(|manifest| (artifact, manifest)),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok((id, Ok(found))),
            Err(error) if error.is_not_found() => Ok((id, Err(error.to_string()))),
            Err(error) => Err(error),
        }
    };
    stream::iter(ids.into_iter().map(one)).buffer_unordered(client.concurrency()).try_collect().await
}

enum Step {
    On(Walker),
    End(Reference, End),
}

/// One step of one reference, into the entry `path` of the artifact `id`.
fn step(mut walker: Walker, found: Option<&Found>, (id, path): (String, String)) -> Result<Step, WandbError> {
    let nowhere =
        |walker: Walker, reason: String| Ok(Step::End(walker.asked, End::Nowhere(ReferenceError::Missing { reason })));
    let (artifact, manifest) = match found {
        Some(Ok(found)) => found,
        Some(Err(reason)) => return nowhere(walker, reason.clone()),
        None => return nowhere(walker, format!("artifact with id {id} not found")),
    };
    let name = artifact.name();
    let Some(entry) = manifest.entries.get(&path) else {
        return nowhere(walker, format!("{name} has no entry `{path}`"));
    };
    if walker.trail.contains(&(id.clone(), path.clone())) {
        return Err(walker.asked.refuse(ReferenceError::Circle { steps: walker.trail.len() }));
    }
    if walker.trail.len() > LIMIT {
        return Err(walker.asked.refuse(ReferenceError::TooDeep { limit: LIMIT }));
    }
    if entry.digest != walker.now.entry.digest {
        let (expected, found) = (walker.now.entry.digest, entry.digest.clone());
        return Err(walker.asked.refuse(ReferenceError::Changed { expected, found }));
    }
    let Some(uri) = &entry.reference else {
        let end = end_at(entry, &name.to_string(), &path)?;
        return Ok(Step::End(walker.asked, end));
    };
    (walker.now.uri, walker.now.entry) = (uri.clone(), entry.clone());
    walker.trail.push((id, path));
    Ok(Step::On(walker))
}

fn end_at(entry: &Entry, artifact: &str, path: &str) -> Result<End, WandbError> {
    let unverifiable =
        |reason| WandbError::Unverifiable { artifact: artifact.to_owned(), path: path.to_owned(), reason };
    Ok(End::File(entry.file_digest().map_err(unverifiable)?, entry.size))
}

/// The ends inside of artifacts as a plan of files.
fn files(
    known: &HashMap<String, Found>,
    inside: BTreeMap<String, BTreeSet<String>>,
) -> Result<Vec<Wanted>, WandbError> {
    let mut all = Vec::with_capacity(inside.len());
    for (id, paths) in inside {
        if let Some(Ok((artifact, manifest))) = known.get(&id) {
            let exactly: Vec<String> = paths.iter().map(|path| globset::escape(path)).collect();
            let filter = Filter::new(&exactly, &[])?;
            all.push(Wanted { artifact: artifact.clone(), manifest: manifest.clone(), filter });
        }
    }
    Ok(all)
}
