//! Sending the files of a version: addresses for many at a time, a bounded number of transfers, new addresses for those
//! that have expired. Network and file I/O.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::digest::Algorithm;
use crate::progress::{Stage, Task};
use crate::wandb::artifact::send::Slot;
use crate::wandb::artifact::source::{Hashed, Piece};
use crate::wandb::error::WandbError;
use crate::wandb::graphql::execute;
use crate::wandb::operations::{CreateFiles, CreateFilesInput, CreatedFile, FileSpec, PartInput};
use crate::wandb::retry::Traffic;

use super::parts::Parts;
use super::{Created, Upload, algorithm_name, batch};

/// Signed addresses live about an hour; older ones than this are not tried any more.
const FRESH: Duration = Duration::from_secs(40 * 60);
/// How often one file may get a new address because the old one was refused.
const REFUSALS: u32 = 3;

type Named<'f> = (&'f String, &'f Hashed);

/// A file that the server has now.
pub(super) struct Done {
    pub(super) path: String,
    pub(super) size: u64,
    /// The artifact that first brought these bytes.
    pub(super) birth: Option<String>,
    /// Whether we sent the bytes; else the server had them.
    pub(super) sent: bool,
}

/// The server's answer about one file, and when it was asked for.
struct Address {
    answer: CreatedFile,
    asked: Instant,
}

/// The files that nobody has asked addresses for.
struct Queue<'f> {
    files: Mutex<std::vec::IntoIter<Named<'f>>>,
    done: AtomicUsize,
    started: Instant,
}

impl<'f> Queue<'f> {
    fn take(&self) -> Vec<Named<'f>> {
        let size = batch::size(self.done.load(Ordering::Relaxed), self.started.elapsed());
        self.files.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(size).collect()
    }
}

impl Upload<'_> {
    /// Sends every file that the server lacks.
    pub(super) async fn send_all(
        &self,
        created: &Created,
        files: &BTreeMap<String, Hashed>,
    ) -> Result<Vec<Done>, WandbError> {
        let all: Vec<Named<'_>> = files.iter().collect();
        let queue = Queue { files: Mutex::new(all.into_iter()), done: AtomicUsize::new(0), started: Instant::now() };
        let workers = (0..batch::BATCHES).map(|_| self.work(created, &queue));
        Ok(try_join_all(workers).await?.into_iter().flatten().collect())
    }

    /// Takes one batch after another: asks, then sends.
    async fn work(&self, created: &Created, queue: &Queue<'_>) -> Result<Vec<Done>, WandbError> {
        let mut all = Vec::new();
        loop {
            let batch = queue.take();
            if batch.is_empty() {
                return Ok(all);
            }
            let answers = self.ask(created, &batch).await?;
            let mut work: Vec<BoxFuture<'_, _>> = Vec::with_capacity(batch.len());
            for (&named, address) in batch.iter().zip(answers) {
                let send = self.send(created, named, address);
                work.push(Box::pin(
                    async move { send.await.inspect(|_| _ = queue.done.fetch_add(1, Ordering::Relaxed)) },
                ));
            }
            let sent: Vec<Done> = stream::iter(work).buffer_unordered(self.client.concurrency()).try_collect().await?;
            all.extend(sent);
        }
    }

    /// Asks where to send files; the answers come in the order asked.
    async fn ask<'f>(&self, created: &'f Created, batch: &[Named<'f>]) -> Result<Vec<Address>, WandbError> {
        let algorithm = self.prepared.manifest.algorithm;
        let other = algorithm != Algorithm::Md5;
        let part = |piece: &Piece| PartInput { part_number: piece.number, hex_md5: piece.md5.to_hex() };
        let spec = |&(path, file): &Named<'f>| FileSpec {
            artifact_id: &created.artifact,
            artifact_manifest_id: &created.manifest,
            name: path.as_str(),
            md5: file.md5.to_base64(),
            digest: other.then(|| file.digest(algorithm).to_base64()),
            upload_parts_input: (!file.pieces.is_empty()).then(|| file.pieces.iter().map(part).collect()),
        };
        let artifact_files: Vec<FileSpec<'_>> = batch.iter().map(spec).collect();
        let digest_algorithm = other.then(|| algorithm_name(algorithm));
        let variables =
            CreateFiles { input: CreateFilesInput { artifact_files, storage_layout: "V2", digest_algorithm } };
        let what = format!("the addresses for the files of {}", self.what);
        let asked = Instant::now();
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let malformed = |reason: String| WandbError::Malformed { what: what.clone(), reason };
        let payload = data.create_artifact_files.ok_or_else(|| malformed("it is empty".to_owned()))?;
        let answers: Vec<CreatedFile> = payload.files.edges.into_iter().filter_map(|edge| edge.node).collect();
        if answers.len() != batch.len() {
            return Err(malformed(format!("{} answers for {} files", answers.len(), batch.len())));
        }
        Ok(answers.into_iter().map(|answer| Address { answer, asked }).collect())
    }

    async fn ask_again(&self, created: &Created, named: Named<'_>) -> Result<Address, WandbError> {
        let what = || format!("the address for {}/{}", self.what, named.0);
        let nothing = || WandbError::Malformed { what: what(), reason: "it is empty".to_owned() };
        self.ask(created, &[named]).await?.into_iter().next().ok_or_else(nothing)
    }

    /// Sends one file; asks for a new address when the one at hand has expired.
    async fn send(&self, created: &Created, named: Named<'_>, mut address: Address) -> Result<Done, WandbError> {
        let (path, file) = named;
        let mut parts = Parts::default();
        let mut task = None;
        for refusals in 0.. {
            let birth = address.answer.artifact.as_ref().map(|artifact| artifact.id.clone());
            let done = |sent| Done { path: path.clone(), size: file.size, birth, sent };
            if address.answer.upload_url.is_none() && address.answer.upload_multipart_urls.is_none() {
                // Stored already, under whichever artifact brought it.
                return Ok(done(task.is_some()));
            }
            let what = format!("{}/{path}", self.what);
            let begin = || Arc::new(self.client.transport().progress.begin(Stage::Upload, &what, Some(file.size)));
            let task = task.get_or_insert_with(begin);
            let error = match self.send_once(&address, (file, task, &what), &mut parts).await {
                Ok(()) => return Ok(done(true)),
                Err(error) => error,
            };
            // The server may have refused the bytes because they are not the ones that were hashed.
            file.check_unchanged()?;
            let waited = if refusals < REFUSALS && is_refusal(&error) {
                self.budget.spend(Traffic::Object, refusals, None)
            } else {
                None
            };
            let Some(wait) = waited else { return Err(error) };
            self.client.transport().progress.note(&format!("{error}; asking for a new address"));
            tokio::time::sleep(wait).await;
            address = self.ask_again(created, named).await?;
        }
        Err(WandbError::Interrupted { what: format!("{}/{path}", self.what) })
    }

    async fn send_once(
        &self,
        address: &Address,
        (file, task, what): (&Hashed, &Arc<Task>, &str),
        parts: &mut Parts,
    ) -> Result<(), WandbError> {
        let answer = &address.answer;
        match (&answer.upload_multipart_urls, &answer.upload_url) {
            (Some(urls), _) if !file.pieces.is_empty() => {
                self.send_parts((answer, urls), (file, task, what), parts).await
            }
            (_, Some(url)) => {
                let closed = |_| WandbError::Interrupted { what: what.to_owned() };
                let _permit = self.client.transport().transfers.acquire().await.map_err(closed)?;
                if address.asked.elapsed() > FRESH {
                    return Err(stale(what));
                }
                let headers = answer.upload_headers.as_deref().unwrap_or_default();
                let slot = Slot { url, headers, what };
                self.client.send_slice(self.budget, slot, (file, 0..file.size), task).await.map(|_| ())
            }
            (_, None) => {
                let reason = "parts for a file that has none".to_owned();
                Err(WandbError::Malformed { what: what.to_owned(), reason })
            }
        }
    }
}

/// An address that was waited with for too long counts as one that the server refused.
fn stale(what: &str) -> WandbError {
    WandbError::Rejected { what: what.to_owned(), message: "its address is too old".to_owned() }
}

/// Whether a new address may help: signed ones are refused with 400, 401 or 403 when they have expired, and parts with
/// 404 when their upload has.
fn is_refusal(error: &WandbError) -> bool {
    error.is_denied() || matches!(error, WandbError::Rejected { .. } | WandbError::NotFound { .. })
}
