//! How much room a folder's file system has. File-system queries only.

use std::path::Path;

/// The file system that a folder is on or will be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Which file system: equal for folders that share their room.
    pub device: u64,
    /// Bytes that this user may still write.
    pub free: u64,
}

/// The room for `folder`, which need not exist yet; `None` where the system does not tell.
pub fn space(folder: &Path) -> Option<Space> {
    let absolute = std::path::absolute(folder).ok()?;
    absolute.ancestors().find_map(of_existing)
}

#[cfg(unix)]
fn of_existing(folder: &Path) -> Option<Space> {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(folder).ok()?.dev();
    let stats = rustix::fs::statvfs(folder).ok()?;
    Some(Space { device, free: stats.f_bavail.saturating_mul(stats.f_frsize) })
}

#[cfg(not(unix))]
fn of_existing(_: &Path) -> Option<Space> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn folders_that_are_not_there_yet_have_the_room_of_those_above() {
        let folder = tempfile::tempdir().unwrap();
        let here = space(folder.path()).unwrap();
        let below = space(&folder.path().join("not/there")).unwrap();
        assert!(here.free > 0 && here.device == below.device);
    }
}
