//! From inputs to the parts of their files that some layers need: directory and pickle first, then the bytes of those
//! layers. Whatever cannot be read in parts, or is not worth it, is pulled whole.

use std::ops::Range;
use std::path::PathBuf;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready, try_join_all};
use globset::GlobSet;

use crate::checkpoint::{Checkpoint, CheckpointError, IndexNeed, OpenOptions, TensorInfo, index_need};
use crate::ranges::RangeSet;
use crate::report::input::Verified;
use crate::store::Holding;
use crate::wandb::{Entry, Fetched, RemoteFile, RemoteParts};

use super::blocking::run_blocking;
use super::error::{AppError, FailureKind};
use super::fit_record::InputRecord;
use super::input::{Input, Seeded};
use super::lock::{LockedArtifact, LockedFile};
use super::pinned::Pins;
use super::pull::{Choice, Pulled, choose_pinned, pull_chosen};
use super::session::Session;

/// Parts are fetched when they come to at most this share of the file: the whole is verified against W&B's digest and
/// serves every later command.
pub const MOST_SHARE: f64 = 0.6;
/// Files up to this size are fetched whole: that takes no longer than looking into them.
pub const SMALL: u64 = 1 << 20;
/// Questions that it may take to list a checkpoint: ends, comment, end record, directory, pickle.
const ROUNDS: usize = 8;
/// How often an object may change while it is read.
const RESTARTS: usize = 2;

/// How much of an artifact's file is fetched when only some of its layers are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// Parts where they are at most [`MOST_SHARE`] of a file above [`SMALL`], the whole elsewhere.
    #[default]
    Cheaper,
    /// All of it, every byte verified against W&B's digest.
    Whole,
    /// Parts, whatever their share.
    Parts,
}

/// Which layers are wanted.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Those whose name matches; none, to list them only, when absent.
    pub(super) layers: Option<GlobSet>,
    /// Nested dictionary that holds the weights.
    pub(super) key: Option<String>,
    pub(super) extent: Extent,
}

/// What is here of a file that was not fetched whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts {
    /// Which of its bytes.
    pub present: RangeSet,
    /// Bytes that came over the network now.
    pub fetched: u64,
    /// In how many requests.
    pub requests: usize,
}

/// Makes the wanted layers of every input readable. Inputs that are here as a whole, that cannot be read in parts or are
/// not worth it are had as by [`pull_pinned`](super::pull::pull_pinned).
pub(super) async fn pull_parts(
    session: &Session,
    inputs: &[(&Seeded, Option<&str>)],
    (pins, wish): (&Pins, &Wish),
) -> Result<Vec<Pulled>, AppError> {
    let choices = choose_pinned(session, inputs, pins).await?;
    let inputs: Vec<&Seeded> = inputs.iter().map(|(seeded, _)| *seeded).collect();
    pull_chosen_parts(session, (&inputs, choices), (pins, wish)).await
}

/// [`pull_parts`] of inputs of which it is known what the artifacts among them stand for.
pub(super) async fn pull_chosen_parts(
    session: &Session,
    (inputs, choices): (&[&Seeded], Vec<Result<Choice, AppError>>),
    (pins, wish): (&Pins, &Wish),
) -> Result<Vec<Pulled>, AppError> {
    let artifacts = inputs.iter().filter(|seeded| matches!(seeded.input, Input::Artifact(_)));
    let files = choices.len();
    let mut reads: Vec<BoxFuture<'_, Result<Option<Pulled>, AppError>>> = Vec::with_capacity(files);
    for (&seeded, choice) in artifacts.zip(&choices) {
        reads.push(match choice.as_ref().ok().filter(|_| wish.extent != Extent::Whole) {
            Some(choice) => {
                let reading = Reading { session, seeded, choice, wish, files };
                async move { reading.read().await }.boxed()
            }
            None => ready(Ok(None)).boxed(),
        });
    }
    let mut parts = try_join_all(reads).await?.into_iter();
    let mut pulled: Vec<Option<Pulled>> = Vec::with_capacity(inputs.len());
    let (mut rest, mut rest_choices) = (Vec::new(), Vec::new());
    let mut choices = choices.into_iter();
    for &seeded in inputs {
        let choice = match seeded.input {
            Input::Artifact(_) => choices.next(),
            Input::File(_) => None,
        };
        let part = choice.as_ref().and_then(|_| parts.next()).flatten();
        if part.is_none() {
            rest.push(seeded);
            rest_choices.extend(choice);
        }
        pulled.push(part);
    }
    let mut whole = pull_chosen(session, (&rest, rest_choices), pins).await?.into_iter();
    for part in &mut pulled {
        match part {
            Some(part) => part.locked.as_ref().map_or(Ok(()), |locked| pins.check(locked))?,
            None => *part = whole.next(),
        }
    }
    Ok(pulled.into_iter().flatten().collect())
}

/// One input that may be read in parts.
struct Reading<'a> {
    session: &'a Session,
    seeded: &'a Seeded,
    choice: &'a Choice,
    wish: &'a Wish,
    files: usize,
}

/// What is here of a file, and where.
#[derive(Debug, Clone)]
struct Here {
    place: PathBuf,
    parts: Parts,
}

impl Here {
    fn of(file: &RemoteFile<'_>) -> Self {
        let (fetched, requests) = file.traffic();
        Self { place: file.place().to_owned(), parts: Parts { present: file.present(), fetched, requests } }
    }
}

/// Why a file is not read in parts.
enum Whole {
    /// Because of what it is, or of what the server does.
    Must(&'static str),
    /// It is not worth it.
    Better,
}

impl Reading<'_> {
    /// The parts, or nothing when the file is to be pulled whole.
    async fn read(&self) -> Result<Option<Pulled>, AppError> {
        let Some(entry) = self.choice.wanted.manifest.entries.get(&self.choice.path) else { return Ok(None) };
        if entry.reference.is_some() {
            return self.whole(Whole::Must("it is a reference"));
        }
        let Some(client) = &self.session.client else { return self.kept(entry).await };
        if self.wish.extent == Extent::Cheaper && entry.size <= SMALL {
            return Ok(None);
        }
        let file = (&self.choice.wanted.artifact, self.choice.path.as_str(), entry);
        let parts = client.remote_parts(&self.session.store, file, self.files).await;
        let mut file = match parts.map_err(|source| self.failed(source))? {
            RemoteParts::Whole(_) => return Ok(None),
            RemoteParts::Parts(file) => file,
        };
        match self.fill(&mut file, entry.size).await? {
            Ok(verified) => Ok(Some(self.pulled(&Here::of(&file), verified))),
            Err(why) => {
                file.discard().await.map_err(|source| self.failed(source))?;
                self.whole(why)
            }
        }
    }

    /// Offline: the parts, when all that is wanted was fetched before.
    async fn kept(&self, entry: &Entry) -> Result<Option<Pulled>, AppError> {
        let Ok(digest) = entry.file_digest() else { return Ok(None) };
        let (store, size) = (self.session.store.clone(), entry.size);
        let here = run_blocking("the store", move || match store.sparse(&digest, size)? {
            Holding::Parts(sparse) if sparse.present().bytes() > 0 => {
                let parts = Parts { present: sparse.present().clone(), fetched: 0, requests: 0 };
                Ok(Some(Here { place: sparse.path().to_owned(), parts }))
            }
            Holding::Parts(sparse) => sparse.discard().map(|()| None).map_err(AppError::from),
            Holding::Whole(_) => Ok(None),
        });
        let Some(here) = here.await? else { return Ok(None) };
        if self.need(&here).await? != IndexNeed::Nothing {
            return Ok(None);
        }
        let (ranges, verified, _) = self.layers(&here).await?;
        let all = ranges.iter().all(|range| here.parts.present.contains(range));
        Ok(all.then(|| self.pulled(&here, verified)))
    }

    /// Fetches until all that is wanted is here and agrees with its checksums: anew when the object changes meanwhile, and
    /// once more when what came is damaged.
    async fn fill(&self, file: &mut RemoteFile<'_>, size: u64) -> Result<Result<Verified, Whole>, AppError> {
        let mut again = false;
        for _ in 0..=RESTARTS {
            match self.once(file, size).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                Err(error) if error.kind() == FailureKind::Integrity => {
                    file.start_anew().await.map_err(|source| self.failed(source))?;
                    if again {
                        return Err(error);
                    }
                    again = true;
                    self.session.progress.note(&format!("{error}: damaged; fetching it once more"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Err(Whole::Must("it changes while it is read")))
    }

    /// Fetches the index, then the layers, and checks them; nothing when the object changed meanwhile.
    async fn once(&self, file: &mut RemoteFile<'_>, size: u64) -> Result<Option<Result<Verified, Whole>>, AppError> {
        let no_ranges = || Ok(Some(Err(Whole::Must("the server does not serve parts of it"))));
        match self.index(file).await? {
            Ok(Fetched::All) => {}
            Ok(Fetched::StartedAnew) => return Ok(None),
            Ok(Fetched::NoRanges) => return no_ranges(),
            Err(why) => return Ok(Some(Err(why))),
        }
        let (ranges, verified, count) = self.layers(&Here::of(file)).await?;
        let share = ranges.iter().cloned().collect::<RangeSet>().bytes() as f64 / size as f64;
        if self.wish.extent == Extent::Cheaper && share > MOST_SHARE {
            return Ok(Some(Err(Whole::Better)));
        }
        let what = format!("{count} tensors");
        match file.fetch(&ranges, &what).await.map_err(|source| self.failed(source))? {
            Fetched::All => self.check(&Here::of(file)).await.map(|()| Some(Ok(verified))),
            Fetched::StartedAnew => Ok(None),
            Fetched::NoRanges => no_ranges(),
        }
    }

    /// Fetches what lists the tensors.
    async fn index(&self, file: &mut RemoteFile<'_>) -> Result<Result<Fetched, Whole>, AppError> {
        for _ in 0..ROUNDS {
            let ranges = match self.need(&Here::of(file)).await? {
                IndexNeed::Nothing => return Ok(Ok(Fetched::All)),
                IndexNeed::Ranges(ranges) => ranges,
                IndexNeed::Whole(reason) => return Ok(Err(Whole::Must(reason))),
            };
            match file.fetch(&ranges, "list of tensors").await.map_err(|source| self.failed(source))? {
                Fetched::All => {}
                other => return Ok(Ok(other)),
            }
        }
        Ok(Err(Whole::Must("its directory is too far spread")))
    }

    /// What is still needed to list the tensors.
    async fn need(&self, here: &Here) -> Result<IndexNeed, AppError> {
        let (here, input) = (here.clone(), self.seeded.input.to_string());
        run_blocking("the listing", move || {
            index_need(&here.place, &here.parts.present).map_err(AppError::checkpoint("list", input))
        })
        .await
    }

    /// The bytes of the wanted layers, what will be known of them, and how many they are.
    async fn layers(&self, here: &Here) -> Result<(Vec<Range<u64>>, Verified, usize), AppError> {
        let (here, input) = (here.clone(), self.seeded.input.to_string());
        let wish = self.wish.clone();
        run_blocking("the listing", move || {
            let checkpoint = open(&here, wish.key).map_err(AppError::checkpoint("list", &input))?;
            let listed = checkpoint.tensors();
            let Some(globs) = &wish.layers else { return Ok((Vec::new(), known(listed), 0)) };
            let wanted: Vec<TensorInfo> = listed.iter().filter(|info| globs.is_match(&info.name)).cloned().collect();
            let ranges = checkpoint.ranges_of(wanted.iter().map(|info| info.name.as_str()));
            let ranges = ranges.map_err(AppError::checkpoint("list", &input))?;
            let verified = if wanted.is_empty() { known(listed) } else { known(&wanted) };
            Ok((ranges, verified, wanted.len()))
        })
        .await
    }

    /// Compares what was fetched of the wanted layers with its checksums, while nobody else may touch it.
    async fn check(&self, here: &Here) -> Result<(), AppError> {
        let Some(globs) = self.wish.layers.clone() else { return Ok(()) };
        let (here, key, input) = (here.clone(), self.wish.key.clone(), self.seeded.input.to_string());
        run_blocking("the check", move || {
            let checkpoint = open(&here, key).map_err(AppError::checkpoint("open", &input))?;
            let wanted = checkpoint.tensors().iter().filter(|info| globs.is_match(&info.name));
            wanted.into_iter().try_for_each(|info| {
                checkpoint.tensor(&info.name).map(drop).map_err(AppError::checkpoint("read", &input))
            })
        })
        .await
    }

    fn pulled(&self, here: &Here, verified: Verified) -> Pulled {
        let (artifact, path) = (&self.choice.wanted.artifact, &self.choice.path);
        let entry = self.choice.wanted.manifest.entries.get(path);
        let digest = entry.and_then(|entry| entry.file_digest().ok()).map(|digest| digest.to_string());
        let size = entry.map_or(0, |entry| entry.size);
        let record = InputRecord {
            input: self.seeded.input.to_string(),
            seed: self.seeded.seed,
            resolved: Some(artifact.name().to_string()),
            artifact_digest: Some(artifact.digest.clone()),
            file: path.into(),
            size,
            digest: digest.clone(),
            sha256: None,
            verified,
        };
        let locked = LockedArtifact {
            reference: self.choice.reference.clone(),
            resolved: artifact.name().to_string(),
            digest: artifact.digest.clone(),
            files: vec![LockedFile { path: path.clone(), digest: digest.unwrap_or_default(), size, sha256: None }],
        };
        Pulled {
            record,
            path: here.place.clone(),
            artifact: Some(artifact.clone()),
            downloaded: here.parts.fetched > 0,
            locked: Some(locked),
            parts: Some(here.parts.clone()),
            scratch: self.session.store.scratch(),
        }
    }

    /// Leaves the file to be pulled whole, or refuses when parts were asked for.
    fn whole(&self, why: Whole) -> Result<Option<Pulled>, AppError> {
        let Whole::Must(reason) = why else { return Ok(None) };
        let input = self.seeded.input.to_string();
        if self.wish.extent == Extent::Parts {
            return Err(AppError::NoParts { input, reason });
        }
        self.session.progress.note(&format!("{input} is fetched whole: {reason}"));
        Ok(None)
    }

    fn failed(&self, source: crate::wandb::WandbError) -> AppError {
        AppError::wandb(format!("read parts of {}", self.seeded.input))(source)
    }
}

fn open(here: &Here, key: Option<String>) -> Result<Checkpoint, CheckpointError> {
    let options = OpenOptions { key, present: Some(here.parts.present.clone()), ..OpenOptions::default() };
    Checkpoint::open(&here.place, &options)
}

/// What reading these tensors proves: their records' CRC-32 is compared, where each has one.
fn known(tensors: &[TensorInfo]) -> Verified {
    let checked = |info: &TensorInfo| info.has_checksum || info.bytes == 0;
    match tensors.iter().all(checked) && tensors.iter().any(|info| info.has_checksum) {
        true => Verified::Partly,
        false => Verified::No,
    }
}
