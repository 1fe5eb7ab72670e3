//! The store as a thing to look after: what is in it and for whom, whether it is right, what may go.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use rayon::prelude::*;

use crate::store::{
    EtagKey, Inventory, ObjectName, PrunePlan, PruneRules, Pruned, Space, State, Store, StoredObject, Usage, Verdict,
    plan_pruning,
};

use super::blocking::run_blocking;
use super::error::AppError;
use super::recorded::{Recorded, resolutions};
use super::roots;
use super::session::Session;

/// The store in numbers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CacheInfo {
    /// Where it is.
    pub root: PathBuf,
    /// Whole objects.
    pub objects: Usage,
    /// Of these, the ones that no digest names: bytes of references.
    pub references: Usage,
    /// Of these, the ones that we never hashed to a digest, or that changed since.
    pub unverified: Usage,
    /// Of these, the ones that a lock names.
    pub pinned: Usage,
    /// What is there of objects that are not whole.
    pub partials: Usage,
    /// Every folder of the store, by its path from there.
    pub folders: BTreeMap<PathBuf, Usage>,
    /// Locks that pin objects.
    pub locks: Vec<PathBuf>,
    /// Why locks that are there cannot be read. What they pin is not known, so that nothing is pruned.
    pub unreadable_locks: Vec<String>,
    /// Room on the disk, where the system tells.
    pub space: Option<Space>,
}

/// One object and what it is to whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CachedObject {
    /// The object.
    pub object: StoredObject,
    /// `entity/project/collection:v3/path` of every recorded artifact that has it.
    pub names: Vec<String>,
    /// Locks that pin it.
    pub locks: Vec<PathBuf>,
}

/// What hashing every object found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verification {
    /// Objects whose bytes are right; of what no digest names, those that came.
    pub ok: Usage,
    /// Of these, the ones that were not known to be right before.
    pub newly_verified: Usage,
    /// Objects whose bytes are not what their names say.
    pub corrupt: Vec<CachedObject>,
    /// Whether these were removed.
    pub removed: bool,
    /// Objects that no digest names and that somebody else put there: nothing says what they should be.
    pub unproven: Usage,
}

/// What to do with objects whose bytes are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    /// Leave them; they are not used, since every use of an object that is not known to be right hashes it.
    Leave,
    /// Delete them, so that they are downloaded again.
    Remove,
}

/// Whether to prune or to say what would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// Decide only.
    DryRun,
    /// Remove.
    Remove,
}

/// The store in numbers.
///
/// # Errors
/// [`AppError::Store`].
pub async fn cache_info(session: &Session) -> Result<CacheInfo, AppError> {
    let store = session.store.clone();
    run_blocking("the store", move || {
        let inventory = store.inventory()?;
        let pinned = roots::pinned(&store)?;
        let usage = |wanted: &dyn Fn(&StoredObject) -> bool| sum(inventory.objects.iter().filter(|o| wanted(o)));
        let locks: HashSet<PathBuf> = pinned.objects.values().flatten().cloned().collect();
        let mut locks: Vec<PathBuf> = locks.into_iter().collect();
        locks.sort();
        Ok(CacheInfo {
            root: store.root().to_owned(),
            objects: usage(&|_| true),
            references: usage(&|object| matches!(object.name, ObjectName::Etag(_))),
            unverified: usage(&|object| object.state != State::Verified),
            pinned: usage(&|object| pinned.objects.contains_key(&object.name)),
            partials: inventory.partials(),
            locks,
            unreadable_locks: pinned.unreadable.iter().map(ToString::to_string).collect(),
            space: store.space()?,
            folders: inventory.folders,
        })
    })
    .await
}

/// Every object with its names, the one used last first.
///
/// # Errors
/// As [`cache_info`].
pub async fn cache_list(session: &Session) -> Result<Vec<CachedObject>, AppError> {
    let store = session.store.clone();
    run_blocking("the store", move || {
        let Inventory { objects, .. } = store.inventory()?;
        let mut objects = named(&store, objects)?;
        objects.sort_by(|a, b| b.object.last_used.cmp(&a.object.last_used).then_with(|| a.names.cmp(&b.names)));
        Ok(objects)
    })
    .await
}

/// Hashes every object.
///
/// # Errors
/// As [`cache_info`]. Wrong bytes are no error here: they are what was asked for.
pub async fn cache_verify(session: &Session, corrupt: Corrupt) -> Result<Verification, AppError> {
    let store = session.store.clone();
    run_blocking("the store", move || {
        let Inventory { objects, .. } = store.inventory()?;
        let judge = |object: StoredObject| Ok::<_, AppError>((store.verify(&object)?, object));
        let judged: Vec<_> = objects.into_par_iter().map(judge).collect::<Result<_, _>>()?;
        let of =
            |wanted: Verdict| judged.iter().filter(move |(verdict, _)| *verdict == wanted).map(|(_, object)| object);
        let wrong: Vec<StoredObject> = of(Verdict::Corrupt).cloned().collect();
        if corrupt == Corrupt::Remove {
            wrong.iter().try_for_each(|object| store.discard(object))?;
        }
        Ok(Verification {
            ok: sum(of(Verdict::Ok)),
            newly_verified: sum(of(Verdict::Ok).filter(|object| object.state == State::Unknown)),
            corrupt: named(&store, wrong)?,
            removed: corrupt == Corrupt::Remove,
            unproven: sum(of(Verdict::Unproven)),
        })
    })
    .await
}

/// Decides what goes by the rules, and removes it. What a lock names stays.
///
/// # Errors
/// [`AppError::Lock`] for a lock that cannot be read, since what it pins is not known then; [`AppError::Store`].
pub async fn cache_prune(
    session: &Session,
    rules: PruneRules,
    mode: PruneMode,
) -> Result<(PrunePlan, Option<Pruned>), AppError> {
    let store = session.store.clone();
    run_blocking("the store", move || {
        let mut pinned = roots::pinned(&store)?;
        if let Some(unreadable) = pinned.unreadable.pop() {
            return Err(unreadable.into());
        }
        let inventory = store.inventory()?;
        let is_pinned = |name: &ObjectName| pinned.objects.contains_key(name);
        let plan = plan_pruning(&inventory, &rules, is_pinned, SystemTime::now());
        if mode == PruneMode::DryRun {
            return Ok((plan, None));
        }
        let pruned = store.prune(&plan)?;
        pinned.stale.iter().try_for_each(|lock| roots::unregister(&store, lock))?;
        Ok((plan, Some(pruned)))
    })
    .await
}

fn sum<'a>(objects: impl Iterator<Item = &'a StoredObject>) -> Usage {
    objects.fold(Usage::default(), |sum, object| Usage { files: sum.files + 1, bytes: sum.bytes + object.size })
}

/// Objects with the artifacts and locks that name them.
fn named(store: &Store, objects: Vec<StoredObject>) -> Result<Vec<CachedObject>, AppError> {
    let mut names: HashMap<ObjectName, Vec<String>> = HashMap::new();
    let mut seen = HashSet::new();
    for resolution in resolutions(store)? {
        let artifact = resolution.artifact;
        if !seen.insert((resolution.host.clone(), artifact.id.clone())) {
            continue;
        }
        let Some(manifest) = Recorded::new(store, &resolution.host).manifest(&artifact)? else { continue };
        for (path, entry) in &manifest.entries {
            let name = match &entry.reference {
                Some(uri) => Some(EtagKey::of(uri, &entry.digest).into()),
                None => entry.file_digest().ok().map(ObjectName::from),
            };
            if let Some(name) = name {
                names.entry(name).or_default().push(format!("{}/{path}", artifact.name()));
            }
        }
    }
    let mut pinned = roots::pinned(store)?;
    let named = objects.into_iter().map(|object| {
        let mut names = names.get(&object.name).cloned().unwrap_or_default();
        names.sort();
        CachedObject { names, locks: pinned.objects.remove(&object.name).unwrap_or_default(), object }
    });
    Ok(named.collect())
}
