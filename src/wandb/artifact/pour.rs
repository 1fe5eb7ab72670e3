//! From the body of an answer into the partial file: network on the async threads, writing on a blocking one, joined by
//! a short channel. Hashing goes on beside both. Network and file I/O.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use crate::store::{Partial, StoreError};

use super::super::error::WandbError;
use super::super::trouble::Trouble;
use super::receive::{Receiver, State};

/// Chunks between network and disk: enough to keep both busy, little enough to stay small.
const QUEUE: usize = 3;

impl Receiver<'_> {
    /// Moves the body of an answer into the partial file.
    pub(super) async fn pour(
        &self,
        state: State,
        mut chunks: BoxStream<'_, Result<Bytes, Trouble>>,
        gzip: bool,
    ) -> Result<(State, Result<(), Trouble>), WandbError> {
        let State { partial, task, version, whole_only, wrong_length, unranged } = state;
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let limit = self.job.size;
        let writer = tokio::task::spawn_blocking(move || write(partial, receiver, (gzip, limit)));
        let outcome = loop {
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    let len = chunk.len() as u64;
                    if sender.send(chunk).await.is_err() {
                        break Ok(());
                    }
                    task.advance(len);
                }
                None => break Ok(()),
                Some(Err(trouble)) => break Err(trouble),
            }
        };
        drop(chunks);
        drop(sender);
        let interrupted = |_| WandbError::Interrupted { what: self.job.label.clone() };
        let (partial, written) = writer.await.map_err(interrupted)?;
        let outcome = match written {
            Ok(()) => outcome,
            Err(Unwritten::Store(source)) => return Err(self.store_error(source)),
            Err(Unwritten::Encoding) => {
                Err(Trouble::Status { status: 503, retry_after: None, message: "a broken gzip body".to_owned() })
            }
        };
        let state = State { partial, task, version, whole_only, wrong_length, unranged };
        if outcome.is_ok() && state.partial.len() < self.job.size && !wrong_length {
            let message = format!("the body ended after {} of {} bytes", state.partial.len(), self.job.size);
            return Ok((state, Err(Trouble::Status { status: 503, retry_after: None, message })));
        }
        Ok((state, outcome))
    }
}

/// Why bytes did not get into the partial file.
enum Unwritten {
    Store(StoreError),
    Encoding,
}

/// Takes chunks until there are no more, or more than were promised.
fn write(
    mut partial: Box<Partial>,
    mut chunks: mpsc::Receiver<Bytes>,
    (gzip, limit): (bool, u64),
) -> (Box<Partial>, Result<(), Unwritten>) {
    let mut decoder = gzip.then(|| MultiGzDecoder::new(Vec::new()));
    while let Some(chunk) = chunks.blocking_recv() {
        let result = match &mut decoder {
            None => partial.append(chunk).map_err(Unwritten::Store),
            Some(decoder) => decode(decoder, &chunk, &mut partial),
        };
        if let Err(error) = result {
            return (partial, Err(error));
        }
        if partial.len() > limit {
            return (partial, Ok(()));
        }
    }
    if let Some(mut decoder) = decoder {
        // An end that does not come shows as bytes that are missing.
        if decoder.try_finish().is_ok() {
            let rest = std::mem::take(decoder.get_mut());
            let result = partial.append(rest.into()).map_err(Unwritten::Store);
            return (partial, result);
        }
    }
    (partial, Ok(()))
}

fn decode(decoder: &mut MultiGzDecoder<Vec<u8>>, chunk: &[u8], partial: &mut Partial) -> Result<(), Unwritten> {
    // Small pieces bound how much a hostile body can inflate into memory.
    for piece in chunk.chunks(4 << 10) {
        decoder.write_all(piece).map_err(|_| Unwritten::Encoding)?;
        let plain = std::mem::take(decoder.get_mut());
        partial.append(plain.into()).map_err(Unwritten::Store)?;
    }
    Ok(())
}
