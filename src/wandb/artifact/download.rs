//! Downloads: one plan over all files of all artifacts, the store asked first, every byte hashed before it gets a name.
//!
//! An object that is missing is received by one task under its lock in the store: network on the async threads, file
//! writes and hashing on a blocking one, joined by a short channel. What arrived stays in the store's partial file, so
//! that the next attempt, in this process or a later one, goes on there. That is safe because the whole is hashed before
//! it is used; `If-Range` and `Content-Range` are checked as well, so that a mixture is seen early.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join};
use futures_util::stream::FuturesUnordered;

use crate::digest::Digest;
use crate::progress::Stage;
use crate::store::{Object, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::Budget;
use super::Artifact;
use super::filter::Filter;
use super::manifest::{Entry, Manifest};
use super::part_size::PartSize;
use super::receive::{Receiver, Shared};
use super::reference::{Fetched, Missing, Proof, References};
use super::room;
use super::urls::UrlBook;

/// Threads that look into the store: as many as there are lanes to hash in.
const LOOKERS: usize = 16;

/// An artifact of which files are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The version.
    pub artifact: Artifact,
    /// Its manifest.
    pub manifest: Manifest,
    /// Which of its entries.
    pub filter: Filter,
}

impl Wanted {
    /// All files of an artifact.
    pub fn all(artifact: Artifact, manifest: Manifest) -> Self {
        Self { artifact, manifest, filter: Filter::all() }
    }
}

/// How to download.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DownloadOptions {
    /// Leave out references that cannot be fetched, instead of failing.
    pub allow_missing_references: bool,
    /// Folders into which the artifacts will be copied afterwards, one for each that is wanted, in order: there must be
    /// room for them too. Empty when nothing is copied.
    pub copies: Vec<PathBuf>,
}

impl DownloadOptions {
    /// Leave out references that cannot be fetched, instead of failing.
    #[must_use]
    pub fn with_missing_references_allowed(mut self, allowed: bool) -> Self {
        self.allow_missing_references = allowed;
        self
    }

    /// Counts on copies of the artifacts in these folders, one for each that is wanted.
    #[must_use]
    pub fn with_copies(mut self, folders: Vec<PathBuf>) -> Self {
        self.copies = folders;
        self
    }
}

/// Where the bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They were in the store already.
    Store,
    /// They were downloaded now.
    Network,
}

/// The wanted files of one artifact, all in the store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DownloadedArtifact {
    /// The version.
    pub artifact: Artifact,
    /// Its wanted files, by path.
    pub files: Vec<DownloadedFile>,
    /// References left out because they could not be fetched, with the reason.
    pub missing: Vec<(String, String)>,
}

/// One file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DownloadedFile {
    /// Path in the artifact.
    pub path: String,
    /// The bytes.
    pub object: Object,
    /// Where they came from.
    pub origin: Origin,
    /// What they were checked against.
    pub proof: Proof,
}

impl DownloadedFile {
    /// What its object is called in the store: its digest, or what stands for the address and version of a reference.
    pub fn name_in_store(&self) -> String {
        self.proof.key().map_or_else(|| self.object.digest.to_string(), |key| key.to_string())
    }
}

/// One object to have, once, however many entries want it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Index of the first artifact that wants it.
    artifact: usize,
    pub(super) path: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Artifact and path, for messages.
    pub(super) label: String,
}

impl Client {
    /// Brings the wanted files into the store and returns them, in the order of `wanted` and by path.
    ///
    /// Nothing is asked of the server for objects that the store has.
    ///
    /// # Errors
    /// The first thing that could not be had; what was received until then stays in the store.
    pub async fn download(
        &self,
        store: &Store,
        wanted: &[Wanted],
        options: &DownloadOptions,
    ) -> Result<Vec<DownloadedArtifact>, WandbError> {
        let budget = self.budget();
        let work = self.download_within(&budget, store, (wanted, options));
        self.transport().within(&budget, "the download", work).await?
    }

    async fn download_within(
        &self,
        budget: &Budget,
        store: &Store,
        (wanted, options): (&[Wanted], &DownloadOptions),
    ) -> Result<Vec<DownloadedArtifact>, WandbError> {
        let allowed = options.allow_missing_references;
        let missing_references = if allowed { Missing::LeaveOut } else { Missing::Refuse };
        let references = References::resolve(self, wanted, missing_references).await?;
        let all: Vec<&Wanted> = wanted.iter().chain(&references.targets).collect();
        let (mut have, missing) = self.split(store, plan(&all)?).await?;
        let referred = references.bytes_to_come(store).await?;
        room::check_room(store, (&missing, referred), (wanted, &options.copies))?;
        let books: Vec<UrlBook<'_>> = all
            .iter()
            .enumerate()
            .map(|(index, wanted)| {
                let queue = missing.iter().filter(|job| job.artifact == index).map(|job| job.path.clone()).collect();
                UrlBook::new(self, &wanted.artifact, queue)
            })
            .collect();
        let files = self.fetch_files(budget, store, (&missing, &books));
        let (files, referred) = try_join(files, references.fetch(self, budget, store)).await?;
        have.extend(files);
        Ok(assemble(wanted, &have, (&references, &referred)))
    }

    /// Receives all of them, as many at once as there may be connections.
    async fn fetch_files(
        &self,
        budget: &Budget,
        store: &Store,
        (missing, books): (&[Job], &[UrlBook<'_>]),
    ) -> Result<Vec<((Digest, u64), (Object, Origin))>, WandbError> {
        let shared = Shared {
            remaining: AtomicUsize::new(missing.len()),
            part_size: PartSize::new(self.concurrency(), self.largest_part()),
        };
        let bytes = missing.iter().map(|job| job.size).fold(0, u64::saturating_add);
        self.transport().progress.plan(Stage::Download, missing.len(), bytes);
        let (mut jobs, mut files) = (missing.iter(), Vec::with_capacity(missing.len()));
        let mut running: FuturesUnordered<BoxFuture<'_, Result<_, WandbError>>> = FuturesUnordered::new();
        loop {
            // One by one: the futures of a hundred thousand files at once would fill the memory.
            while running.len() < self.concurrency()
                && let Some(job) = jobs.next()
            {
                let Some(book) = books.get(job.artifact) else { continue };
                let receiver = Receiver { client: self, budget, store, book, job, shared: &shared };
                running.push(Box::pin(async move { receiver.fetch().await.map(|got| ((job.digest, job.size), got)) }));
            }
            let Some(fetched) = running.next().await else { break };
            shared.remaining.fetch_sub(1, Ordering::Relaxed);
            files.push(fetched?);
        }
        Ok(files)
    }

    /// What the store has, and the jobs that remain.
    async fn split(&self, store: &Store, jobs: Vec<Job>) -> Result<(Have, Vec<Job>), WandbError> {
        let store = store.clone();
        blocking("looking into the store", move || {
            let (mut have, mut missing) = (HashMap::new(), Vec::new());
            for (job, found) in jobs.iter().zip(find_all(&store, &jobs)) {
                match found? {
                    Some(object) => {
                        have.insert((job.digest, job.size), (object, Origin::Store));
                    }
                    None => missing.push(job.clone()),
                }
            }
            Ok((have, missing))
        })
        .await?
    }
}

/// Looks for each object, several at once: those that somebody else put there are hashed side by side.
fn find_all(store: &Store, jobs: &[Job]) -> Vec<Result<Option<Object>, WandbError>> {
    let find = |job: &Job| {
        let failed = |source: StoreError| WandbError::Store { what: job.label.clone(), source };
        store.find(&job.digest, job.size).map_err(failed)
    };
    let turns = jobs.len().clamp(1, LOOKERS);
    let every = |turn: usize| jobs.iter().skip(turn).step_by(turns).map(find).collect::<Vec<_>>();
    let found: Option<Vec<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..turns).map(|turn| scope.spawn(move || every(turn))).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    });
    // A thread that died found nothing: its objects are looked for here.
    let Some(found) = found else { return jobs.iter().map(find).collect() };
    let mut found: Vec<_> = found.into_iter().map(Vec::into_iter).collect();
    (0..jobs.len()).filter_map(|index| found.get_mut(index % turns)?.next()).collect()
}

type Have = HashMap<(Digest, u64), (Object, Origin)>;

/// Every wanted object once, largest first, so that the longest transfer does not start last. References are no objects.
fn plan(wanted: &[&Wanted]) -> Result<Vec<Job>, WandbError> {
    let mut jobs: BTreeMap<(Digest, u64), Job> = BTreeMap::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let artifact = wanted.artifact.name().to_string();
        for (path, entry) in entries(wanted).filter(|(_, entry)| entry.reference.is_none()) {
            let unverifiable =
                |reason| WandbError::Unverifiable { artifact: artifact.clone(), path: path.clone(), reason };
            let digest = entry.file_digest().map_err(unverifiable)?;
            let job = || Job {
                artifact: index,
                path: path.clone(),
                digest,
                size: entry.size,
                label: format!("{artifact}/{path}"),
            };
            jobs.entry((digest, entry.size)).or_insert_with(job);
        }
    }
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    jobs.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| (a.artifact, &a.path).cmp(&(b.artifact, &b.path))));
    Ok(jobs)
}

pub(super) fn entries(wanted: &Wanted) -> impl Iterator<Item = (&String, &Entry)> {
    wanted.manifest.entries.iter().filter(|(path, _)| wanted.filter.wants(path))
}

fn assemble(
    wanted: &[Wanted],
    have: &Have,
    (references, referred): (&References, &[Result<Fetched, String>]),
) -> Vec<DownloadedArtifact> {
    let file = |digest: &Digest, size: u64| have.get(&(*digest, size)).cloned();
    let whole = |(index, wanted): (usize, &Wanted)| {
        let (mut files, mut missing) = (Vec::new(), Vec::new());
        for (path, entry) in entries(wanted) {
            let got = match &entry.reference {
                Some(_) => references.outcome((index, path), file, referred),
                None => entry
                    .file_digest()
                    .ok()
                    .and_then(|digest| file(&digest, entry.size))
                    .map(|(object, origin)| Ok(Fetched { object, origin, proof: Proof::Digest })),
            };
            match got {
                Some(Ok(Fetched { object, origin, proof })) => {
                    files.push(DownloadedFile { path: path.clone(), object, origin, proof });
                }
                Some(Err(reason)) => missing.push((path.clone(), reason)),
                None => {}
            }
        }
        DownloadedArtifact { artifact: wanted.artifact.clone(), files, missing }
    };
    wanted.iter().enumerate().map(whole).collect()
}

/// Runs file work off the async threads.
pub(in super::super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WandbError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| WandbError::Interrupted { what: what.to_owned() })
}
