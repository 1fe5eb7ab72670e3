//! Sending a large file in parts, several at a time, and joining them. Network and file I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::progress::Task;
use crate::wandb::artifact::send::Slot;
use crate::wandb::artifact::source::{Hashed, Piece};
use crate::wandb::error::WandbError;
use crate::wandb::graphql::execute;
use crate::wandb::operations::{
    CompleteMultipart, CompleteMultipartInput, CreatedFile, MultipartUrls, PartInput, PartUrl,
};

use super::Upload;

/// The parts of one file that the server has, for as long as the server goes on with the same upload.
#[derive(Default)]
pub(super) struct Parts {
    upload: String,
    /// `ETag` by number.
    stored: BTreeMap<u64, String>,
}

impl Upload<'_> {
    /// Sends the parts that are missing, then joins them. What was sent stays in `parts` when this fails.
    pub(super) async fn send_parts(
        &self,
        (answer, urls): (&CreatedFile, &MultipartUrls),
        (file, task, what): (&Hashed, &Arc<Task>, &str),
        parts: &mut Parts,
    ) -> Result<(), WandbError> {
        let malformed = |reason: &str| WandbError::Malformed { what: what.to_owned(), reason: reason.to_owned() };
        if urls.upload_url_parts.len() != file.pieces.len() {
            return Err(malformed("another number of parts than asked for"));
        }
        if parts.upload != urls.upload_id {
            *parts = Parts { upload: urls.upload_id.clone(), stored: BTreeMap::new() };
        }
        let mut addresses: Vec<&PartUrl> = urls.upload_url_parts.iter().collect();
        addresses.sort_by_key(|part| part.part_number);
        let stored = Mutex::new(std::mem::take(&mut parts.stored));
        let mut work: Vec<BoxFuture<'_, Result<(), WandbError>>> = Vec::new();
        for (piece, address) in file.pieces.iter().zip(addresses) {
            if locked(&stored).contains_key(&piece.number) {
                continue;
            }
            let send = self.send_part((answer, address), (file, piece), (task, what));
            let stored = &stored;
            work.push(Box::pin(async move {
                let etag = send.await?;
                locked(stored).insert(piece.number, etag);
                Ok(())
            }));
        }
        let sent = stream::iter(work).buffer_unordered(self.client.concurrency()).try_collect::<()>().await;
        parts.stored = stored.into_inner().unwrap_or_else(PoisonError::into_inner);
        sent?;
        self.join((answer, urls), parts, what).await
    }

    async fn send_part(
        &self,
        (answer, address): (&CreatedFile, &PartUrl),
        (file, piece): (&Hashed, &Piece),
        (task, what): (&Arc<Task>, &str),
    ) -> Result<String, WandbError> {
        let closed = |_| WandbError::Interrupted { what: what.to_owned() };
        let _permit = self.client.transport().transfers.acquire().await.map_err(closed)?;
        let items = answer.upload_headers.as_deref().unwrap_or_default();
        let kind = items.iter().find(|item| item.to_ascii_lowercase().starts_with("content-type:"));
        let mut headers = vec![format!("Content-MD5:{}", piece.md5.to_base64())];
        headers.extend(kind.cloned());
        let slot = Slot { url: &address.upload_url, headers: &headers, what };
        let answer = self.client.send_slice(self.budget, slot, (file, piece.range.clone()), task).await?;
        let etag = answer.get("etag").and_then(|value| value.to_str().ok());
        let nothing =
            || WandbError::Malformed { what: what.to_owned(), reason: format!("part {} has no ETag", piece.number) };
        Ok(etag.ok_or_else(nothing)?.to_owned())
    }

    async fn join(
        &self,
        (answer, urls): (&CreatedFile, &MultipartUrls),
        parts: &Parts,
        what: &str,
    ) -> Result<(), WandbError> {
        let malformed = |reason: &str| WandbError::Malformed { what: what.to_owned(), reason: reason.to_owned() };
        let birth = answer.artifact.as_ref().ok_or_else(|| malformed("a file without an artifact"))?;
        let storage_path = answer.storage_path.as_deref().ok_or_else(|| malformed("a file without a storage path"))?;
        // The official client reports the `ETag` as it came, quotes included.
        let part = |(number, etag): (&u64, &String)| PartInput { part_number: *number, hex_md5: etag.clone() };
        let input = CompleteMultipartInput {
            complete_multipart_action: "Complete",
            completed_parts: parts.stored.iter().map(part).collect(),
            artifact_id: &birth.id,
            storage_path,
            upload_id: &urls.upload_id,
        };
        execute(self.client.transport(), self.budget, what, &CompleteMultipart { input }).await.map(|_| ())
    }
}

fn locked(stored: &Mutex<BTreeMap<u64, String>>) -> std::sync::MutexGuard<'_, BTreeMap<u64, String>> {
    stored.lock().unwrap_or_else(PoisonError::into_inner)
}
