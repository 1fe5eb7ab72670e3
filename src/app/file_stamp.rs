//! What the file system knows of a local file, by which it is known again without reading it: its size, its inode, when its
//! content was last changed and when anything of it was. The last of these nobody can set, so a file that was changed or
//! put in its place is another one, whatever its size and date say. Reads metadata.
//!
//! Where there is no such time (not on Unix), size and date of the content have to do.

use std::fs::Metadata;
use std::time::{Duration, SystemTime};

/// The time of a file system is this coarse: two changes within it may look like one.
const TICK: Duration = Duration::from_millis(100);
/// The same where times are whole seconds.
const COARSE_TICK: Duration = Duration::from_secs(3);

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) text: String,
    /// How long it may still be changed without that showing in `text`; nothing once that is over.
    pub(super) unsettled: Option<Duration>,
}

impl FileStamp {
    pub(super) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let (text, changed, coarse) = known(metadata);
        let tick = if coarse { COARSE_TICK } else { TICK };
        let age = now.duration_since(changed).unwrap_or_default();
        let unsettled = tick.checked_sub(age).filter(|left| !left.is_zero());
        Self { text, unsettled }
    }

    /// The text, unless the file might still be changed without that showing.
    pub(super) fn settled(self) -> Option<String> {
        self.unsettled.is_none().then_some(self.text)
    }
}

/// Size, inode and times as text, the time of the last change, and whether times are whole seconds here.
#[cfg(unix)]
fn known(metadata: &Metadata) -> (String, SystemTime, bool) {
    use std::os::unix::fs::MetadataExt as _;
    let nanoseconds = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let modified = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    // Not the device: the same share has another number on another machine.
    let text = format!("{}-{}-{modified}-{changed}", metadata.len(), metadata.ino());
    let since = u64::try_from(changed / 1_000_000).map(Duration::from_millis).unwrap_or_default();
    (text, SystemTime::UNIX_EPOCH + since, metadata.ctime_nsec() == 0)
}

#[cfg(not(unix))]
fn known(metadata: &Metadata) -> (String, SystemTime, bool) {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (format!("{}-{}", metadata.len(), since.as_nanos()), modified, since.subsec_nanos() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn stamp(path: &std::path::Path, later: Duration) -> FileStamp {
        FileStamp::of(&fs::metadata(path).unwrap(), SystemTime::now() + later)
    }

    #[test]
    fn a_young_file_is_not_settled_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"1").unwrap();
        let young = stamp(&path, Duration::ZERO);
        assert!(young.unsettled.is_some_and(|left| left <= COARSE_TICK) && young.settled().is_none());
        let old = stamp(&path, Duration::from_secs(10));
        assert_eq!(old.unsettled, None);
        assert_eq!(old.settled(), Some(stamp(&path, Duration::ZERO).text));
    }

    #[cfg(unix)]
    #[test]
    fn no_change_hides_behind_an_old_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"1").unwrap();
        let date = fs::metadata(&path).unwrap().modified().unwrap();
        let before = stamp(&path, Duration::ZERO).text;
        std::thread::sleep(Duration::from_millis(50));
        fs::write(&path, b"2").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), date);
        assert_ne!(stamp(&path, Duration::ZERO).text, before);
    }
}
