//! Making room: which files of the store go, as a pure function of what is there, and their removal.
//!
//! Only files that bear an object's name, or lie in our own folder and are of a kind we make, are ever removed; an object
//! goes under its lock, so that nothing is taken from a process that is filling it. Whoever has an object open keeps it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::error::StoreError;
use super::inventory::{Inventory, LeftoverKind, StoredObject};
use super::name::ObjectName;
use super::object::{Store, delete};

/// Temporary files live for seconds; one of this age is garbage.
const GARBAGE_AGE: Duration = Duration::from_secs(24 * 3600);

/// What may stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneRules {
    /// Objects and partial ones take at most this many bytes: those go first that were not used for longest.
    pub max_size: Option<u64>,
    /// What was not used for this long goes.
    pub older_than: Option<Duration>,
    /// All partial objects go.
    pub partials: bool,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrunePlan {
    /// Every file to remove.
    pub removals: Vec<Removal>,
    /// Objects that a rule would remove, but that are pinned.
    pub pinned: u64,
    /// Bytes of objects and partial ones that stay.
    pub bytes_left: u64,
}

/// One file to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal {
    /// What it is.
    pub what: Removed,
    /// Why it goes.
    pub why: Reason,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Not removed when it was used after this.
    unless_used_after: SystemTime,
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removed {
    /// A whole object.
    Object(ObjectName),
    /// Something else.
    Leftover(LeftoverKind),
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It was not used for long enough.
    Unused,
    /// Room is needed.
    Space,
    /// It is partial, and partial objects are not wanted.
    Partial,
    /// It is of no use to anybody.
    Garbage,
}

impl Reason {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Space => "space",
            Self::Partial => "partial",
            Self::Garbage => "garbage",
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Files that are gone.
    pub removed: Vec<Removal>,
    /// Files that stayed, because somebody is filling or has just used them.
    pub in_use: Vec<Removal>,
}

/// Decides what goes.
pub fn plan(
    inventory: &Inventory,
    rules: &PruneRules,
    pinned: impl Fn(&ObjectName) -> bool,
    now: SystemTime,
) -> PrunePlan {
    let older = |time: SystemTime, than: Duration| now.duration_since(time).is_ok_and(|age| age >= than);
    let unused = |time: SystemTime| rules.older_than.is_some_and(|limit| older(time, limit));
    let mut plan = PrunePlan::default();
    let mut staying: Vec<(SystemTime, Removal)> = Vec::new();
    for left in &inventory.leftovers {
        let removal = |why| Removal {
            what: Removed::Leftover(left.kind),
            why,
            path: left.path.clone(),
            size: left.size,
            unless_used_after: left.modified,
        };
        match left.kind {
            LeftoverKind::Partial(_) if rules.partials => plan.removals.push(removal(Reason::Partial)),
            LeftoverKind::Partial(_) if unused(left.modified) => plan.removals.push(removal(Reason::Unused)),
            LeftoverKind::Partial(_) => staying.push((left.modified, removal(Reason::Space))),
            _ if older(left.modified, GARBAGE_AGE) => plan.removals.push(removal(Reason::Garbage)),
            _ => {}
        }
    }
    let mut pinned_bytes = 0;
    for object in &inventory.objects {
        let removal = |why| removal_of(object, why);
        match (pinned(&object.name), unused(object.last_used)) {
            (true, unused) => {
                pinned_bytes += object.size;
                plan.pinned += u64::from(unused);
            }
            (false, true) => plan.removals.push(removal(Reason::Unused)),
            (false, false) => staying.push((object.last_used, removal(Reason::Space))),
        }
    }
    plan.bytes_left = pinned_bytes + staying.iter().map(|(_, removal)| removal.size).sum::<u64>();
    // Longest unused first; the path only makes the order the same every time.
    staying.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.path.cmp(&right.path)));
    for (_, removal) in staying {
        if rules.max_size.is_none_or(|most| plan.bytes_left <= most) {
            break;
        }
        plan.bytes_left -= removal.size;
        plan.removals.push(removal);
    }
    plan
}

fn removal_of(object: &StoredObject, why: Reason) -> Removal {
    Removal {
        what: Removed::Object(object.name),
        why,
        path: object.path.clone(),
        size: object.size,
        unless_used_after: object.last_used,
    }
}

impl Store {
    /// Removes what the plan says, but for what is in use.
    ///
    /// # Errors
    /// The first file that cannot be removed; the others before it are gone.
    pub fn prune(&self, plan: &PrunePlan) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for removal in &plan.removals {
            let free = match removal.what {
                Removed::Leftover(LeftoverKind::Temporary) => delete(&removal.path).map(|()| true)?,
                Removed::Leftover(
                    LeftoverKind::Partial(name) | LeftoverKind::Orphan(name) | LeftoverKind::Lock(name),
                )
                | Removed::Object(name) => self.remove_locked(name, removal)?,
            };
            if free { &mut pruned.removed } else { &mut pruned.in_use }.push(removal.clone());
        }
        Ok(pruned)
    }

    /// Deletes an object whose bytes are wrong.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be deleted.
    pub fn discard(&self, object: &StoredObject) -> Result<(), StoreError> {
        delete(&object.path)?;
        delete(&self.verified_path(object.name))
    }

    /// Whether it was removed: not while somebody holds its lock, and not when it was used since it was looked at.
    fn remove_locked(&self, name: ObjectName, removal: &Removal) -> Result<bool, StoreError> {
        let Some(lock) = self.try_lock(name)? else { return Ok(false) };
        let used = match fs::metadata(&removal.path) {
            Ok(metadata) => match removal.what {
                Removed::Object(_) => self.stored(name, &removal.path, &metadata).last_used,
                Removed::Leftover(_) => metadata.modified().map_err(StoreError::io("read", &removal.path))?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(StoreError::io("read", &removal.path)(error)),
        };
        if used > removal.unless_used_after {
            return Ok(false);
        }
        delete(&removal.path)?;
        if matches!(removal.what, Removed::Object(_)) {
            delete(&self.verified_path(name))?;
        }
        // Under the lock: whoever waits for it sees that the file is another one, and makes a new one.
        delete(&self.lock_path(name))?;
        drop(lock);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Digest};
    use crate::store::inventory::{Leftover, State};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1000 * DAY
    }

    fn digest(name: &str) -> ObjectName {
        Digest::of(Algorithm::Md5, name.as_bytes()).into()
    }

    /// Objects of 10 bytes each, unused for so many days.
    fn inventory(objects: &[(&str, u32)], leftovers: &[(LeftoverKind, u32)]) -> Inventory {
        let object = |(name, days): &(&str, u32)| StoredObject {
            name: digest(name),
            path: PathBuf::from(name),
            size: 10,
            last_used: now() - *days * DAY,
            state: State::Verified,
        };
        let leftover = |(kind, days): &(LeftoverKind, u32)| Leftover {
            kind: *kind,
            path: PathBuf::from(format!("left-{days}")),
            size: 3,
            modified: now() - *days * DAY,
        };
        Inventory {
            objects: objects.iter().map(object).collect(),
            leftovers: leftovers.iter().map(leftover).collect(),
            ..Inventory::default()
        }
    }

    fn paths(plan: &PrunePlan) -> Vec<(String, &'static str)> {
        plan.removals.iter().map(|removal| (removal.path.display().to_string(), removal.why.name())).collect()
    }

    #[test]
    fn the_longest_unused_go_first_and_the_pinned_never() {
        let there = inventory(&[("a", 40), ("b", 3), ("c", 50), ("d", 1)], &[]);
        let rules = |max_size: Option<u64>, days: Option<u32>| PruneRules {
            max_size,
            older_than: days.map(|days| days * DAY),
            partials: false,
        };
        type Case<'a> = (PruneRules, &'a str, &'a [(&'a str, &'a str)], u64, u64);
        let cases: [Case<'_>; 9] = [
            (rules(None, None), "", &[], 40, 0),
            (rules(Some(40), None), "", &[], 40, 0),
            (rules(Some(39), None), "", &[("c", "space")], 30, 0),
            (rules(Some(20), None), "", &[("c", "space"), ("a", "space")], 20, 0),
            (rules(Some(20), None), "c", &[("a", "space"), ("b", "space")], 20, 0),
            (rules(Some(0), None), "abcd", &[], 40, 0),
            (rules(None, Some(30)), "", &[("a", "unused"), ("c", "unused")], 20, 0),
            (rules(None, Some(30)), "c", &[("a", "unused")], 30, 1),
            (rules(Some(10), Some(45)), "", &[("c", "unused"), ("a", "space"), ("b", "space")], 10, 0),
        ];
        for (rules, pinned, expected, left, kept) in cases {
            let is_pinned = |found: &ObjectName| pinned.chars().any(|name| digest(&name.to_string()) == *found);
            let plan = plan(&there, &rules, is_pinned, now());
            let expected: Vec<_> = expected.iter().map(|(path, why)| ((*path).to_owned(), *why)).collect();
            assert_eq!((paths(&plan), plan.bytes_left, plan.pinned), (expected, left, kept), "{rules:?} {pinned}");
        }
    }

    #[test]
    fn partial_objects_go_when_told_and_garbage_when_it_is_old() {
        let (partial, orphan) = (LeftoverKind::Partial(digest("p")), LeftoverKind::Orphan(digest("o")));
        let there = inventory(
            &[("a", 5)],
            &[(partial, 10), (LeftoverKind::Temporary, 0), (LeftoverKind::Temporary, 2), (orphan, 3)],
        );
        let free = |_: &ObjectName| false;
        let garbage = [("left-2".to_owned(), "garbage"), ("left-3".to_owned(), "garbage")];
        let kept = plan(&there, &PruneRules::default(), free, now());
        assert_eq!((paths(&kept).as_slice(), kept.bytes_left), (garbage.as_slice(), 13));
        let rules = PruneRules { partials: true, ..PruneRules::default() };
        assert_eq!(paths(&plan(&there, &rules, free, now()))[0], ("left-10".to_owned(), "partial"));
        let rules = PruneRules { older_than: Some(7 * DAY), ..PruneRules::default() };
        assert_eq!(paths(&plan(&there, &rules, free, now()))[0], ("left-10".to_owned(), "unused"));
        let rules = PruneRules { max_size: Some(10), ..PruneRules::default() };
        assert_eq!(paths(&plan(&there, &rules, free, now())).last(), Some(&("left-10".to_owned(), "space")));
    }
}
