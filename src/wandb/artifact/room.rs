//! Whether a download will fit, asked before its first byte: what is still missing from the store, and what will be copied
//! out of it. The sum is pure; file-system queries go through the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::store::{Space, Store, StoreError, space};

use super::super::error::WandbError;
use super::download::{Job, Wanted, entries};

/// Refuses a download that cannot fit: `missing` are files, `referred` the bytes that references will bring, and `copies`
/// names the folder of each artifact that will be copied.
pub(super) fn check_room(
    store: &Store,
    (missing, referred): (&[Job], u64),
    (wanted, copies): (&[Wanted], &[PathBuf]),
) -> Result<(), WandbError> {
    let to_store = missing.iter().map(|job| job.size.saturating_sub(store.received(&job.digest)));
    let mut needs = vec![(store.root().to_owned(), to_store.fold(referred, u64::saturating_add))];
    for (wanted, folder) in wanted.iter().zip(copies) {
        let absent = entries(wanted).filter(|(path, entry)| !is_there(&folder.join(path), entry.size));
        needs.push((folder.clone(), absent.map(|(_, entry)| entry.size).fold(0, u64::saturating_add)));
    }
    let told = |folder: &Path| space(folder).map_err(|source| failed(folder, source));
    fits(&needs, told)
}

fn failed(folder: &Path, source: StoreError) -> WandbError {
    WandbError::Store { what: folder.display().to_string(), source }
}

/// A file of the right size is taken for the right one: it will be kept, or replaced by as much.
fn is_there(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

/// Adds up what each file system has to take. One that does not tell how much it can take is believed to suffice.
fn fits(
    needs: &[(PathBuf, u64)],
    space: impl Fn(&Path) -> Result<Option<Space>, WandbError>,
) -> Result<(), WandbError> {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for (folder, bytes) in needs.iter().filter(|(_, bytes)| *bytes > 0) {
        let Some(Space { device, free, .. }) = space(folder)? else { continue };
        let needed = sums.entry(device).or_default();
        *needed = needed.saturating_add(*bytes);
        if *needed > free {
            return Err(WandbError::NoSpace { folder: folder.clone(), needed: *needed, free });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_takes_the_sum_of_what_goes_there() {
        let space = |folder: &Path| match folder.to_str() {
            Some("a" | "b") => Ok(Some(Space { free: 100, total: 200, device: 1 })),
            Some("c") => Ok(Some(Space { free: 10, total: 20, device: 2 })),
            _ => Ok(None),
        };
        let check = |needs: &[(&str, u64)]| {
            let needs: Vec<_> = needs.iter().map(|(folder, bytes)| (PathBuf::from(folder), *bytes)).collect();
            fits(&needs, space)
        };
        check(&[("a", 60), ("b", 40), ("c", 10), ("unknown", u64::MAX)]).unwrap();
        let error = check(&[("a", 60), ("b", 41)]).unwrap_err();
        assert!(matches!(error, WandbError::NoSpace { needed: 101, free: 100, .. }), "{error}");
        assert!(check(&[("c", 11)]).is_err());
        assert!(check(&[("a", 1), ("b", u64::MAX)]).is_err());
        check(&[("a", 0)]).unwrap();
    }
}
