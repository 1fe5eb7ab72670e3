//! Files of a run: small ones that belong to it alone, such as media and tables. File I/O; they are sent with the log.

use bytes::Bytes;

use super::super::artifact::download::blocking;
use super::super::artifact::manifest::check_path;
use super::super::error::WandbError;
use super::super::offline::{Content, FilesItem, FilesRecord};
use super::Run;
use super::file_error;

impl Run {
    /// Keeps bytes as a file of the run, which goes to the server with what is logged; the same path again replaces it.
    ///
    /// # Errors
    /// [`WandbError::EntryPath`] for an unsafe path, [`WandbError::File`] when the disk refuses.
    pub async fn upload_file(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), WandbError> {
        let unsafe_path = |reason| WandbError::EntryPath { artifact: self.path(), path: path.to_owned(), reason };
        check_path(path).map_err(unsafe_path)?;
        let (file, bytes) = (self.spool.folder().files().join(path), bytes.into());
        let write = move || {
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            folder.and_then(|()| std::fs::write(&file, &bytes)).map_err(|source| file_error("write", &file, source))
        };
        blocking(path, write).await??;
        let item = FilesItem { path: path.to_owned(), ..FilesItem::default() };
        self.append(vec![Content::Files(FilesRecord { files: vec![item] })])
    }
}
