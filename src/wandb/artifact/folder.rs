//! The files of a folder, for drafts and references. Reads folders, not files.
//!
//! Links are followed, to files and to folders, as the official SDK does; a link that leads nowhere or back to a folder it
//! stands in is an error, and so is anything that is neither a file nor a folder, or whose name is not UTF-8.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::WandbError;
use super::draft::ArtifactDraft;
use super::filter::Filter;
use super::source::file_error;

impl ArtifactDraft {
    /// Adds the wanted files below a folder under their paths from there. `prefix` goes before them, unless it is empty.
    ///
    /// # Errors
    /// [`WandbError::Unfit`] when there is nothing to add or something cannot be added, [`WandbError::File`] for a folder
    /// that cannot be listed, or as [`ArtifactDraft::with_file`].
    pub fn with_folder(self, prefix: &str, root: &Path, filter: &Filter) -> Result<Self, WandbError> {
        let all = files_below(root)?;
        let nothing = if all.is_empty() { "it holds no files" } else { "none of its files is wanted" };
        let mut wanted = all.into_iter().filter(|(path, _)| filter.wants(path)).peekable();
        if wanted.peek().is_none() {
            return Err(WandbError::Unfit { path: root.to_owned(), reason: nothing });
        }
        wanted.try_fold(self, |draft, (path, file)| {
            let path = if prefix.is_empty() { path } else { format!("{prefix}/{path}") };
            draft.with_file(path, file)
        })
    }
}

/// A folder to look into.
struct Open {
    folder: PathBuf,
    /// Its path from the root, with `/`, empty for the root itself.
    below: String,
    /// Where it and the folders it stands in really are.
    line: Vec<PathBuf>,
}

/// Every file below `root` with its path from there, in the order of the paths.
pub(super) fn files_below(root: &Path) -> Result<Vec<(String, PathBuf)>, WandbError> {
    let real = fs::canonicalize(root).map_err(|source| file_error("read", root, source))?;
    let mut files = Vec::new();
    let mut open = vec![Open { folder: root.to_owned(), below: String::new(), line: vec![real] }];
    while let Some(Open { folder, below, line }) = open.pop() {
        let list_error = |source| file_error("list", &folder, source);
        for entry in fs::read_dir(&folder).map_err(list_error)? {
            let path = entry.map_err(list_error)?.path();
            let unfit = |reason| WandbError::Unfit { path: path.clone(), reason };
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unfit("its name is not UTF-8"))?;
            let below = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let kind = fs::metadata(&path).map_err(|source| file_error("read", &path, source))?;
            if kind.is_file() {
                files.push((below, path));
            } else if kind.is_dir() {
                let real = fs::canonicalize(&path).map_err(|source| file_error("read", &path, source))?;
                if line.contains(&real) {
                    return Err(unfit("it leads back to a folder that it stands in"));
                }
                let line = line.iter().cloned().chain([real]).collect();
                open.push(Open { folder: path, below, line });
            } else {
                return Err(unfit("it is neither a file nor a folder"));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Result<Vec<String>, WandbError> {
        Ok(files_below(root)?.into_iter().map(|(path, _)| path).collect())
    }

    #[test]
    fn files_are_found_by_their_paths_and_chosen_by_globs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["b.txt", "a/c.txt", "a/d/e.bin", ".hidden"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), path).unwrap();
        }
        fs::create_dir(root.join("empty")).unwrap();
        assert_eq!(paths(root).unwrap(), [".hidden", "a/c.txt", "a/d/e.bin", "b.txt"]);
        let draft = || ArtifactDraft::new("x", "dataset").unwrap();
        let filter = Filter::new(&["**/*.txt".to_owned()], &["a/**".to_owned()]).unwrap();
        let chosen = draft().with_folder("p", root, &filter).unwrap();
        assert_eq!(chosen.files.keys().collect::<Vec<_>>(), ["p/b.txt"]);
        let none = Filter::new(&["*.ckpt".to_owned()], &[]).unwrap();
        for (root, filter, reason) in
            [(root, &none, "none of its files is wanted"), (&root.join("empty"), &Filter::all(), "it holds no files")]
        {
            let error = draft().with_folder("", root, filter).unwrap_err();
            assert!(matches!(error, WandbError::Unfit { reason: found, .. } if found == reason), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles_or_nowhere() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "f").unwrap();
        symlink(&other, root.join("there")).unwrap();
        symlink(other.join("f"), root.join("g")).unwrap();
        assert_eq!(paths(&root).unwrap(), ["g", "there/f"]);
        symlink(&root, root.join("sub/circle")).unwrap();
        assert!(matches!(paths(&root), Err(WandbError::Unfit { .. })));
        fs::remove_file(root.join("sub/circle")).unwrap();
        symlink(root.join("gone"), root.join("dangling")).unwrap();
        assert!(matches!(paths(&root), Err(WandbError::File { .. })));
        fs::remove_file(root.join("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        assert!(matches!(paths(&root), Err(WandbError::Unfit { .. })));
    }
}
