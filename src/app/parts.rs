//! From inputs to the parts of their files that some layers need: directory and pickle first, then the bytes of those
//! layers. Whatever cannot be read in parts, or is not worth it, is pulled whole.

use std::ops::Range;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready, try_join_all};
use globset::GlobSet;

use crate::checkpoint::{Checkpoint, IndexNeed, OpenOptions, TensorInfo, index_need};
use crate::ranges::RangeSet;
use crate::report::input::Verified;
use crate::wandb::{Client, Fetched, RemoteFile, RemoteParts};

use super::blocking::run_blocking;
use super::error::AppError;
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

/// Makes the wanted layers of every input readable. As [`pull_pinned`](super::pull::pull_pinned) for inputs that are here as a whole, that
/// cannot be read in parts, or that are not worth it.
pub(super) async fn pull_parts(
    session: &Session,
    inputs: &[(&Seeded, Option<&str>)],
    (pins, wish): (&Pins, &Wish),
) -> Result<Vec<Pulled>, AppError> {
    let choices = choose_pinned(session, inputs, pins).await?;
    let artifacts = inputs.iter().filter(|(seeded, _)| matches!(seeded.input, Input::Artifact(_)));
    let files = choices.len();
    let mut reads: Vec<BoxFuture<'_, Result<Option<Pulled>, AppError>>> = Vec::with_capacity(files);
    for ((seeded, _), choice) in artifacts.zip(&choices) {
        let client = session.client.as_ref().filter(|_| wish.extent != Extent::Whole);
        reads.push(match client.zip(choice.as_ref().ok()) {
            Some((client, choice)) => {
                let reading = Reading { session, client, seeded, choice, wish, files };
                async move { reading.read().await }.boxed()
            }
            None => ready(Ok(None)).boxed(),
        });
    }
    let mut parts = try_join_all(reads).await?.into_iter();
    let mut pulled: Vec<Option<Pulled>> = Vec::with_capacity(inputs.len());
    let (mut rest, mut rest_choices) = (Vec::new(), Vec::new());
    let mut choices = choices.into_iter();
    for &(seeded, _) in inputs {
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
    client: &'a Client,
    seeded: &'a Seeded,
    choice: &'a Choice,
    wish: &'a Wish,
    files: usize,
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
        if self.wish.extent == Extent::Cheaper && entry.size <= SMALL {
            return Ok(None);
        }
        let file = (&self.choice.wanted.artifact, self.choice.path.as_str(), entry);
        let parts = self.client.remote_parts(&self.session.store, file, self.files).await;
        let mut file = match parts.map_err(|source| self.failed(source))? {
            RemoteParts::Whole(_) => return Ok(None),
            RemoteParts::Parts(file) => file,
        };
        match self.fill(&mut file, entry.size).await? {
            Ok(verified) => self.pulled(&file, verified).map(Some),
            Err(why) => {
                file.discard().await.map_err(|source| self.failed(source))?;
                self.whole(why)
            }
        }
    }

    /// Fetches the index and then the layers, anew when the object changes meanwhile.
    async fn fill(&self, file: &mut RemoteFile<'_>, size: u64) -> Result<Result<Verified, Whole>, AppError> {
        for _ in 0..=RESTARTS {
            match self.index(file).await? {
                Ok(Fetched::All) => {}
                Ok(Fetched::StartedAnew) => continue,
                Ok(Fetched::NoRanges) => return Ok(Err(Whole::Must("the server does not serve parts of it"))),
                Err(why) => return Ok(Err(why)),
            }
            let (ranges, verified, count) = self.layers(file).await?;
            let share = ranges.iter().cloned().collect::<RangeSet>().bytes() as f64 / size as f64;
            if self.wish.extent == Extent::Cheaper && share > MOST_SHARE {
                return Ok(Err(Whole::Better));
            }
            let what = format!("{count} tensors");
            match file.fetch(&ranges, &what).await.map_err(|source| self.failed(source))? {
                Fetched::All => return Ok(Ok(verified)),
                Fetched::StartedAnew => {}
                Fetched::NoRanges => return Ok(Err(Whole::Must("the server does not serve parts of it"))),
            }
        }
        Ok(Err(Whole::Must("it changes while it is read")))
    }

    /// Fetches what lists the tensors.
    async fn index(&self, file: &mut RemoteFile<'_>) -> Result<Result<Fetched, Whole>, AppError> {
        for _ in 0..ROUNDS {
            let (place, present, input) = (file.place().to_owned(), file.present(), self.seeded.input.to_string());
            let need = run_blocking("the listing", move || {
                index_need(&place, &present).map_err(AppError::checkpoint("list", input))
            });
            let ranges = match need.await? {
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

    /// The bytes of the wanted layers, what will be known of them, and how many they are.
    async fn layers(&self, file: &RemoteFile<'_>) -> Result<(Vec<Range<u64>>, Verified, usize), AppError> {
        let (place, present, input) = (file.place().to_owned(), file.present(), self.seeded.input.to_string());
        let wish = self.wish.clone();
        run_blocking("the listing", move || {
            let options = OpenOptions { key: wish.key, present: Some(present), ..OpenOptions::default() };
            let checkpoint = Checkpoint::open(&place, &options).map_err(AppError::checkpoint("list", &input))?;
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

    fn pulled(&self, file: &RemoteFile<'_>, verified: Verified) -> Result<Pulled, AppError> {
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
        let (fetched, requests) = file.traffic();
        Ok(Pulled {
            record,
            path: file.place().to_owned(),
            artifact: Some(artifact.clone()),
            downloaded: fetched > 0,
            locked: Some(locked),
            parts: Some(Parts { present: file.present(), fetched, requests }),
        })
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

/// What reading these tensors proves: their records' CRC-32 is compared, where each has one.
fn known(tensors: &[TensorInfo]) -> Verified {
    let checked = |info: &TensorInfo| info.has_checksum || info.bytes == 0;
    match tensors.iter().all(checked) && tensors.iter().any(|info| info.has_checksum) {
        true => Verified::Partly,
        false => Verified::No,
    }
}
