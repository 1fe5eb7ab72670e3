//! References: entries of an artifact whose bytes are somewhere else. Network and file I/O.
//!
//! The schemes are the official SDK's (`wandb/sdk/artifacts/storage_handlers`). References to other artifacts are followed
//! to the entry they end in, and its bytes join the plan of ordinary files. All others are fetched here: a local file is
//! hashed and becomes an ordinary object; what only a version tag stands for is kept under the SDK's name for it and
//! marked wherever it is used ([`Proof`]).
//!
//! Stricter than the SDK: the digests along a chain of artifacts must agree, and a stated size is checked. Wider: every
//! target that is gone counts as missing, not those in S3 alone, and entries made with `checksum=False` are fetched, as
//! unproven ones, where the SDK fails on them.

mod chain;
#[cfg(feature = "cloud")]
mod cloud;
mod error;
mod file;
mod http;
mod proof;
mod target;

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::digest::{Algorithm, Digest};
use crate::store::{EtagKey, EtagReservation, Object, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::Budget;
use super::download::{Origin, Wanted, blocking};
use super::manifest::Entry;
use target::Target;

pub use error::ReferenceError;
pub use proof::Proof;
pub(super) use target::{AZURE_HOSTS, Cloud, Place};

/// A reference on its way: which entry wants it, and where it points by now.
#[derive(Debug, Clone)]
struct Reference {
    /// Index of the wanted artifact.
    index: usize,
    artifact: String,
    path: String,
    /// Where it points, as the manifest has it.
    uri: String,
    /// The entry that points there: the wanted one, or the last of a chain.
    entry: Entry,
}

impl Reference {
    /// For messages.
    fn label(&self) -> String {
        format!("{}/{} ({})", self.artifact, self.path, target::printable(&self.uri))
    }

    fn refuse(&self, source: ReferenceError) -> WandbError {
        let (artifact, path, uri) = (self.artifact.clone(), self.path.clone(), target::printable(&self.uri));
        WandbError::Reference { artifact, path, uri, source }
    }

    fn key(&self) -> EtagKey {
        EtagKey::of(&self.uri, &self.entry.digest)
    }

    /// The promised size; entries without one say 0.
    fn size(&self) -> Option<u64> {
        Some(self.entry.size).filter(|size| *size > 0)
    }

    fn is_unproven(&self) -> bool {
        is_unproven(&self.uri, &self.entry)
    }
}

/// Made without a checksum, or of what has no version tag: the digest is an address, which says nothing about the bytes.
fn is_unproven(uri: &str, entry: &Entry) -> bool {
    entry.digest == uri || entry.digest.contains("://")
}

/// A reference's bytes.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) object: Object,
    pub(super) origin: Origin,
    pub(super) proof: Proof,
}

/// Where a reference ends.
enum End {
    /// At a file of an artifact.
    File(Digest, u64),
    /// At one of the jobs.
    Job(usize),
    /// Nowhere, for this reason.
    Missing(String),
}

/// The references of all wanted artifacts, followed to their ends.
pub(super) struct References {
    /// The files of artifacts that they end in.
    pub(super) targets: Vec<Wanted>,
    ends: HashMap<(usize, String), End>,
    jobs: Vec<(Reference, Target)>,
    missing: Missing,
}

/// What to do about references to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Refuse,
    LeaveOut,
}

impl References {
    /// Follows every wanted reference. Asks the server for the artifacts they lead through, and for nothing else.
    ///
    /// # Errors
    /// The first reference that cannot be followed; one to nothing only under [`Missing::Refuse`].
    pub(super) async fn resolve(client: &Client, wanted: &[Wanted], missing: Missing) -> Result<Self, WandbError> {
        let mut all = Self { targets: Vec::new(), ends: HashMap::new(), jobs: Vec::new(), missing };
        let open = open(wanted);
        if open.is_empty() {
            return Ok(all);
        }
        let followed = chain::follow(client, wanted, open).await?;
        all.targets = followed.inside;
        let mut jobs: HashMap<(String, String), usize> = HashMap::new();
        for (asked, end) in followed.ends {
            let place = (asked.index, asked.path.clone());
            let end = match end {
                chain::End::File(digest, size) => End::File(digest, size),
                chain::End::Outside(reference, target) => {
                    let next = all.jobs.len();
                    let job = *jobs.entry((reference.uri.clone(), reference.entry.digest.clone())).or_insert(next);
                    if job == next {
                        all.jobs.push((*reference, target));
                    }
                    End::Job(job)
                }
                chain::End::Nowhere(source) => End::Missing(all.excuse(asked.refuse(source))?),
            };
            all.ends.insert(place, end);
        }
        Ok(all)
    }

    /// Bytes that [`References::fetch`] will bring into the store, as far as the references say.
    ///
    /// # Errors
    /// [`WandbError::Store`] when the store cannot be looked into.
    pub(super) async fn bytes_to_come(&self, store: &Store) -> Result<u64, WandbError> {
        let (store, jobs) = (store.clone(), self.jobs.iter().map(|(reference, _)| reference.clone()));
        let jobs: Vec<Reference> = jobs.collect();
        let add_up = move || {
            let mut sum = 0_u64;
            for job in &jobs {
                let failed = |source: StoreError| WandbError::Store { what: job.label(), source };
                // Nothing tells whether what the store has without proof is still what is there.
                let here = !job.is_unproven() && in_store(&store, &job.uri, &job.entry).map_err(failed)?.is_some();
                let size = if here { 0 } else { job.entry.size.saturating_sub(store.received_etag(&job.key())) };
                sum = sum.saturating_add(size);
            }
            Ok(sum)
        };
        blocking("looking into the store for references", add_up).await?
    }

    /// Brings everything outside of artifacts into the store.
    ///
    /// # Errors
    /// The first that could not be had.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        budget: &Budget,
        store: &Store,
    ) -> Result<Vec<Result<Fetched, String>>, WandbError> {
        // Boxed one by one: a stream of closures over borrowed jobs would not be `Send` as the compiler sees it.
        let mut work: Vec<BoxFuture<'_, Result<_, WandbError>>> = Vec::with_capacity(self.jobs.len());
        for (reference, target) in &self.jobs {
            work.push(Box::pin(async move {
                match fetch(client, budget, store, (reference, target)).await {
                    Ok(fetched) => Ok(Ok(fetched)),
                    Err(error) => self.excuse(error).map(Err),
                }
            }));
        }
        stream::iter(work).buffered(client.concurrency()).try_collect().await
    }

    /// What became of the reference at `path` of the wanted artifact `index`.
    pub(super) fn outcome(
        &self,
        (index, path): (usize, &str),
        files: impl Fn(&Digest, u64) -> Option<(Object, Origin)>,
        fetched: &[Result<Fetched, String>],
    ) -> Option<Result<Fetched, String>> {
        match self.ends.get(&(index, path.to_owned()))? {
            End::Missing(reason) => Some(Err(reason.clone())),
            End::Job(job) => fetched.get(*job).cloned(),
            End::File(digest, size) => {
                let (object, origin) = files(digest, *size)?;
                Some(Ok(Fetched { object, origin, proof: Proof::Digest }))
            }
        }
    }

    /// The reason to leave an entry out, when that is allowed.
    fn excuse(&self, error: WandbError) -> Result<String, WandbError> {
        match error {
            WandbError::Reference { source, .. } if source.is_missing() && self.missing == Missing::LeaveOut => {
                Ok(source.to_string())
            }
            error => Err(error),
        }
    }
}

/// The object that an address and a version tag name, or the right to fill it.
async fn reserve(store: &Store, reference: &Reference) -> Result<EtagReservation, WandbError> {
    let (store, key, size, unproven) = (store.clone(), reference.key(), reference.size(), reference.is_unproven());
    let reserve = move || {
        if !unproven {
            return store.reserve_etag(&key, size);
        }
        // Nothing tells whether what the store has is still what is there.
        let mut partial = store.replace_etag(&key)?;
        partial.restart()?;
        Ok(EtagReservation::Missing(partial))
    };
    let failed = |source: StoreError| WandbError::Store { what: reference.label(), source };
    blocking(&reference.label(), reserve).await?.map_err(failed)
}

/// What the store alone has of a reference. One through an artifact that leads outside is not found by its own address.
pub(super) fn in_store(store: &Store, uri: &str, entry: &Entry) -> Result<Option<Fetched>, StoreError> {
    let sized = Some(entry.size).filter(|size| *size > 0);
    let of = |object: Object, proof| Fetched { object, origin: Origin::Store, proof };
    if let Ok(Target::File(_) | Target::Artifact { .. }) = Target::parse(uri) {
        for algorithm in [Algorithm::Md5, Algorithm::Xxh128] {
            let Ok(digest) = Digest::from_base64(algorithm, &entry.digest) else { continue };
            let found = store.find_unsized(&digest)?;
            if let Some(object) = found.filter(|object| sized.is_none_or(|size| size == object.size)) {
                return Ok(Some(of(object, Proof::Digest)));
            }
        }
    }
    if let Some(digest) = md5_in_hex(&entry.digest)
        && let Some(object) = store.find_unsized(&digest)?
    {
        return Ok(Some(of(object, Proof::Digest)));
    }
    let key = EtagKey::of(uri, &entry.digest);
    let local = matches!(Target::parse(uri), Ok(Target::File(_)));
    let proof = if local || is_unproven(uri, entry) { Proof::Unproven(key) } else { Proof::Etag(key) };
    Ok(store.find_etag(&key, sized)?.map(|object| of(object, proof)))
}

/// A version tag that may be an MD5.
fn md5_in_hex(tag: &str) -> Option<Digest> {
    Digest::parse(&format!("{}:{tag}", Algorithm::Md5.folder())).ok()
}

/// The references among the wanted entries.
fn open(wanted: &[Wanted]) -> Vec<Reference> {
    let of = |(index, wanted): (usize, &Wanted)| {
        let artifact = wanted.artifact.name().to_string();
        let entries = wanted.manifest.entries.iter().filter(|(path, _)| wanted.filter.wants(path));
        let open = entries.filter_map(|(path, entry)| {
            let (uri, entry) = (entry.reference.clone()?, entry.clone());
            Some(Reference { index, artifact: artifact.clone(), path: path.clone(), uri, entry })
        });
        open.collect::<Vec<_>>()
    };
    wanted.iter().enumerate().flat_map(of).collect()
}

async fn fetch(
    client: &Client,
    budget: &Budget,
    store: &Store,
    (reference, target): (&Reference, &Target),
) -> Result<Fetched, WandbError> {
    let closed = |_| WandbError::Interrupted { what: reference.label() };
    let _permit = client.transport().transfers.acquire().await.map_err(closed)?;
    let fetched = match target {
        Target::Http(url) => http::Getter { client, budget, store, reference, url }.fetch().await,
        Target::File(path) => file::fetch(store, reference, path).await,
        #[cfg(feature = "cloud")]
        Target::Cloud(place) => cloud::Getter { client, budget, store, reference, place }.fetch().await,
        #[cfg(not(feature = "cloud"))]
        Target::Cloud(place) => Err(reference.refuse(ReferenceError::NoCloud { cloud: place.cloud.name() })),
        // Followed before anything is fetched.
        Target::Artifact { .. } => Err(reference.refuse(ReferenceError::TooDeep { limit: chain::LIMIT })),
    }?;
    if fetched.object.digest.to_hex() != reference.entry.digest {
        return Ok(fetched);
    }
    // The version tag is the MD5 of the bytes, as S3 gives it to what was sent in one part: that is a proof.
    let failed = |source: StoreError| WandbError::Store { what: reference.label(), source };
    let (store, object) = (store.clone(), fetched.object);
    let object = blocking(&reference.label(), move || store.name_by_digest(&object)).await?.map_err(failed)?;
    Ok(Fetched { object, origin: fetched.origin, proof: Proof::Digest })
}
