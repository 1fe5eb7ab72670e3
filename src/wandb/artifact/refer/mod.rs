//! Entries that point elsewhere, made as the official SDK makes them (`wandb/sdk/artifacts/storage_handlers`): what the
//! target is now goes into the digest, so that a later download can tell whether it still is. File and network I/O.

mod address;
#[cfg(feature = "cloud")]
mod bucket;
#[cfg(feature = "cloud")]
mod google;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Map;
use url::Url;

use crate::digest::{Algorithm, Digest, hex, unhex};
use crate::progress::{Progress, Stage};
use crate::redact::SafeUrl;

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Encoding, Errand, Trust, Want};
use super::draft::{ArtifactDraft, Checksum, Reference, Source};
use super::folder::files_below;
use super::manifest::{Entry, check_path};
use super::name::ArtifactName;
use super::reference::ReferenceError;
use super::source::{Hashing, file_error, hash};
use address::Start;

const ARTIFACT: &str = "wandb-artifact://";
/// References to references that are followed; more is a circle.
const HOPS: usize = 16;

/// Refuses what is no address, and addresses that would write a password into the manifest.
pub(super) fn check_uri(uri: &str) -> Result<(), WandbError> {
    let refuse = |reason: String| Err(WandbError::Option { option: "reference", reason });
    if uri.starts_with(ARTIFACT) {
        return Ok(());
    }
    match Url::parse(uri) {
        Ok(url) if url.password().is_some() => {
            refuse(format!("{} holds a password, and everybody can read it in the manifest", SafeUrl::from(url)))
        }
        Ok(_) => Ok(()),
        Err(_) => refuse(format!("`{uri}` is no address; for a local file write file:///path/to/it")),
    }
}

/// What a reference is about.
struct Subject<'a> {
    artifact: &'a str,
    reference: &'a Reference,
    /// Most entries that may come of it.
    most: usize,
}

impl Subject<'_> {
    fn refuse(&self, reason: impl Into<String>) -> WandbError {
        self.error(ReferenceError::Unusable { reason: reason.into() })
    }

    fn error(&self, source: ReferenceError) -> WandbError {
        let (artifact, path) = (self.artifact.to_owned(), self.reference.path.clone());
        WandbError::Reference { artifact, path, uri: self.shown(), source }
    }

    fn shown(&self) -> String {
        let uri = &self.reference.uri;
        Url::parse(uri).map_or_else(|_| uri.clone(), |url| SafeUrl::from(url).to_string())
    }

    /// For messages about requests.
    fn what(&self) -> String {
        format!("the target {} of a reference", self.shown())
    }

    fn url(&self) -> Result<Url, WandbError> {
        Url::parse(&self.reference.uri).map_err(|error| self.refuse(error.to_string()))
    }

    /// The entry's path: the given one, or the last part of the address.
    fn path(&self, fallback: &str) -> Result<String, WandbError> {
        let path = if self.reference.path.is_empty() { fallback } else { &self.reference.path };
        self.checked(path.to_owned())
    }

    fn checked(&self, path: String) -> Result<String, WandbError> {
        match check_path(&path) {
            Ok(()) => Ok(path),
            Err(reason) => Err(WandbError::Unfit { path: path.into(), reason }),
        }
    }

    /// Refuses more objects or files than allowed.
    fn count(&self, found: usize) -> Result<(), WandbError> {
        if found <= self.most {
            return Ok(());
        }
        Err(self.refuse(format!("it stands for more than {} objects, which is as many as are allowed", self.most)))
    }
}

fn entry(digest: String, uri: String, size: u64) -> Entry {
    Entry { digest, reference: Some(uri), size, birth_artifact_id: None, extra: Map::new() }
}

impl Client {
    /// The entries of a reference: one, or those of all objects or files below it.
    pub(super) async fn reference_entries(
        &self,
        budget: &Budget,
        draft: &ArtifactDraft,
        reference: &Reference,
    ) -> Result<Vec<(String, Entry)>, WandbError> {
        let subject = Subject { artifact: &draft.name, reference, most: draft.most_objects };
        if let Some(rest) = reference.uri.strip_prefix(ARTIFACT) {
            return self.artifact_reference(&subject, rest).await.map(|entry| vec![entry]);
        }
        let url = subject.url()?;
        match (url.scheme(), Start::parse(&reference.uri, &url)) {
            #[cfg(feature = "cloud")]
            (_, Some(start)) if reference.checksum == Checksum::Compute => {
                let survey = bucket::Survey { client: self, budget, subject: &subject, start: &start };
                // Boxed: it is large, and most references need none of it.
                Box::pin(survey.entries()).await
            }
            ("http" | "https", None) if reference.checksum == Checksum::Compute => {
                Ok(vec![(subject.path(last_part(&url))?, self.http_reference(budget, &subject, url).await?)])
            }
            _ => {
                let (name, reference, most) = (draft.name.clone(), reference.clone(), draft.most_objects);
                let progress = self.transport().progress.clone();
                let look = move || entries_alone(&name, (&reference, most), &progress);
                super::download::blocking(&draft.name, look).await?
            }
        }
    }

    /// `http` and `https`: the `ETag`, or the address where there is none.
    async fn http_reference(&self, budget: &Budget, subject: &Subject<'_>, url: Url) -> Result<Entry, WandbError> {
        let uri = subject.reference.uri.clone();
        let host = url.host_str().unwrap_or_default().to_owned();
        let (url, what) = (SafeUrl::from(url), subject.what());
        let errand = Errand { traffic: Traffic::Object, what: &what };
        // Asked for in the form that the official SDK takes: servers tag compressed answers otherwise.
        let want = Want { trust: Trust::Stranger, encoding: Encoding::Gzip, ..Want::default() };
        let mut attempt = 0;
        let answer = loop {
            match self.transport().within(budget, &what, self.transport().get(&url, want)).await? {
                Ok(answer) => break answer,
                Err(trouble) => self.transport().pause_at(budget, errand, (&host, trouble, attempt)).await?,
            }
            attempt += 1;
        };
        budget.earn();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        // The length of a compressed answer is not the file's.
        let length = header("content-length").filter(|_| header("content-encoding").is_none());
        let size = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let Some(etag) = header("etag") else { return Ok(entry(uri.clone(), uri, size)) };
        let mut entry = entry(etag.trim_matches('"').to_owned(), uri, size);
        entry.extra.insert("etag".to_owned(), etag.into());
        Ok(entry)
    }

    /// `wandb-artifact`: the digest of the entry it points at, through other such references to where the bytes are.
    async fn artifact_reference(&self, subject: &Subject<'_>, rest: &str) -> Result<(String, Entry), WandbError> {
        let mut at = match artifact_target(rest).ok_or_else(|| subject.refuse("it names no file of an artifact"))? {
            Target::Id { id, path } => (self.artifact_by_id(&id).await?, path),
            Target::Name { name, path } => (self.artifact(&name.with_defaults(None, None)?).await?, path),
        };
        for _ in 0..HOPS {
            let (artifact, path) = at;
            let mut manifest = self.manifest(&artifact).await?;
            let missing = || WandbError::NotFound { what: format!("entry `{path}` of artifact {}", artifact.name()) };
            let found = manifest.entries.remove(&path).ok_or_else(missing)?;
            let next = found.reference.as_deref().and_then(|uri| uri.strip_prefix(ARTIFACT)).map(str::to_owned);
            let Some(next) = next else {
                let id =
                    STANDARD.decode(&artifact.id).map_err(|_| subject.refuse("the id of its artifact is no base64"))?;
                let uri = format!("{ARTIFACT}{}/{path}", hex(&id));
                let last = path.rsplit('/').next().unwrap_or_default();
                return Ok((subject.path(last)?, entry(found.digest, uri, 0)));
            };
            at = match artifact_target(&next) {
                Some(Target::Id { id, path }) => (self.artifact_by_id(&id).await?, path),
                _ => return Err(subject.refuse(format!("it leads to `{ARTIFACT}{next}`, which names no entry"))),
            };
        }
        Err(subject.refuse(format!("it leads through more than {HOPS} other references")))
    }
}

/// The entries of a reference to which no network is needed: one to a local file or folder, or one whose target is not to be
/// looked at. Blocking.
///
/// # Errors
/// [`WandbError::Reference`] for any other, [`WandbError::File`] for a file that cannot be read.
pub(super) fn entries_alone(
    artifact: &str,
    (reference, most): (&Reference, usize),
    progress: &Progress,
) -> Result<Vec<(String, Entry)>, WandbError> {
    let subject = Subject { artifact, reference, most };
    if reference.uri.starts_with(ARTIFACT) {
        return Err(subject.refuse("what it points at is known only to the server"));
    }
    let url = subject.url()?;
    match (url.scheme(), reference.checksum, Start::parse(&reference.uri, &url)) {
        ("file", ..) => file_entries(&subject, &url, progress),
        ("s3" | "gs", _, None) => Err(subject.refuse("it names no bucket")),
        (_, Checksum::Skip, Some(start)) => {
            let uri = start.uri(&start.place.key);
            Ok(vec![(subject.path(start.unseen_path())?, entry(uri.clone(), uri, 0))])
        }
        (_, Checksum::Skip, None) => {
            let uri = reference.uri.clone();
            Ok(vec![(subject.path(last_part(&url))?, entry(uri.clone(), uri, 0))])
        }
        #[cfg(not(feature = "cloud"))]
        (_, Checksum::Compute, Some(start)) => {
            Err(subject.error(ReferenceError::NoCloud { cloud: start.place.cloud.name() }))
        }
        (_, Checksum::Compute, _) => {
            Err(subject.refuse("its target cannot be looked at here; it can be recorded without a checksum"))
        }
    }
}

/// `file`: MD5 of the content, or of the address when nothing is to be read. A folder becomes its files.
fn file_entries(subject: &Subject<'_>, url: &Url, progress: &Progress) -> Result<Vec<(String, Entry)>, WandbError> {
    let checksum = subject.reference.checksum;
    let root = url.to_file_path().map_err(|()| subject.refuse("it is no path on this machine"))?;
    let failed = |source| file_error("read", &root, source);
    if !std::fs::metadata(&root).map_err(failed)?.is_dir() {
        let last = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (digest, size) = file_digest(&root, checksum, progress)?;
        return Ok(vec![(subject.path(&last)?, entry(digest, subject.reference.uri.clone(), size))]);
    }
    let mut entries = Vec::new();
    for (below, file) in files_below(&root)? {
        let mut uri = url.clone();
        if let Ok(mut segments) = uri.path_segments_mut() {
            segments.pop_if_empty().extend(below.split('/'));
        }
        let prefix = subject.reference.path.as_str();
        let path = if prefix.is_empty() { below } else { format!("{prefix}/{below}") };
        let (digest, size) = file_digest(&file, checksum, progress)?;
        entries.push((path, entry(digest, uri.into(), size)));
        subject.count(entries.len())?;
    }
    Ok(entries)
}

fn file_digest(path: &Path, checksum: Checksum, progress: &Progress) -> Result<(String, u64), WandbError> {
    let label = path.display().to_string();
    if checksum == Checksum::Skip {
        let size = std::fs::metadata(path).map_err(|source| file_error("read", path, source))?.len();
        let whole = std::fs::canonicalize(path).map_err(|source| file_error("read", path, source))?;
        let uri = Url::from_file_path(&whole).map_or_else(|()| label, String::from);
        return Ok((Digest::of(Algorithm::Md5, uri.as_bytes()).to_base64(), size));
    }
    let hashing = Hashing { threshold: u64::MAX, part: u64::MAX, algorithm: Algorithm::Md5 };
    let source = Source::File(path.to_owned());
    let hashed = hash(&source, hashing, |size| progress.begin(Stage::Verify, &label, Some(size)))?;
    Ok((hashed.md5.to_base64(), hashed.size))
}

/// The last part of an address.
fn last_part(url: &Url) -> &str {
    url.path().rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()
}

/// What stands behind `wandb-artifact://`.
#[derive(Debug, PartialEq)]
enum Target {
    /// The server's id, as base64.
    Id {
        id: String,
        path: String,
    },
    Name {
        name: ArtifactName,
        path: String,
    },
}

/// Reads `<hex id>/<path>` or `entity/project/name:alias/<path>`.
fn artifact_target(rest: &str) -> Option<Target> {
    let (head, path) = rest.split_once('/').filter(|(_, path)| !path.is_empty())?;
    if let Some(id) = unhex(head).filter(|id| !id.is_empty()) {
        return Some(Target::Id { id: STANDARD.encode(id), path: path.to_owned() });
    }
    let colon = rest.find(':')?;
    let (before, after) = (rest.get(..colon)?, rest.get(colon + 1..)?);
    let (alias, path) = after.split_once('/').filter(|(_, path)| !path.is_empty())?;
    let name = ArtifactName::parse(&format!("{before}:{alias}")).ok().filter(|name| name.entity().is_some())?;
    Some(Target::Name { name, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_in_artifacts_are_ids_or_names() {
        let id = |id: &str, path: &str| Some(Target::Id { id: id.to_owned(), path: path.to_owned() });
        assert_eq!(artifact_target("41727469666163743a313034/a/b"), id("QXJ0aWZhY3Q6MTA0", "a/b"));
        let name = ArtifactName::parse("e/p/a:v1").unwrap();
        assert_eq!(artifact_target("e/p/a:v1/x/y"), Some(Target::Name { name, path: "x/y".to_owned() }));
        for text in ["", "4172", "4172/", "e/p/a:v1", "e/p/a/x", "a:v1/x", "e/p/a:v1/"] {
            assert_eq!(artifact_target(text), None, "{text}");
        }
    }

    #[test]
    fn passwords_do_not_get_into_manifests() {
        let error = check_uri("https://ada:secret@example.org/x").unwrap_err();
        assert!(matches!(error, WandbError::Option { .. }) && !error.to_string().contains("secret"), "{error}");
        assert!(check_uri("x.ckpt").is_err() && check_uri("s3://bucket/key").is_ok());
    }
}
