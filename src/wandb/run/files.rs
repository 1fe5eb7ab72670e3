//! Files of a run: small ones that belong to it alone, such as media and tables. Network and file I/O.

use bytes::Bytes;

use super::super::artifact::manifest::check_path;
use super::super::artifact::send::Slot;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::CreateRunFiles;
use super::Run;
use super::stream::{Command, Home};

impl Run {
    /// Uploads bytes as a file of the run; the same path again replaces it.
    ///
    /// # Errors
    /// [`WandbError::EntryPath`] for an unsafe path, or what the upload met.
    pub async fn upload_file(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), WandbError> {
        let unsafe_path = |reason| WandbError::EntryPath { artifact: self.path(), path: path.to_owned(), reason };
        check_path(path).map_err(unsafe_path)?;
        let Home { entity, project, run } = self.home.as_ref();
        let what = format!("file {path} of run {}", self.path());
        let budget = self.client.budget();
        let variables = CreateRunFiles { entity, project, run, files: vec![path] };
        let data = execute(self.client.transport(), &budget, &what, &variables).await?;
        let malformed = || WandbError::Malformed { what: what.clone(), reason: "it names no address".to_owned() };
        let payload = data.create_run_files.ok_or_else(malformed)?;
        let file = payload.files.into_iter().find(|file| file.name == path);
        let url = file.and_then(|file| file.upload_url).ok_or_else(malformed)?;
        let slot = Slot { url: &url, headers: &payload.upload_headers, what: &what };
        self.client.send_bytes(&budget, slot, bytes.into()).await?;
        self.send(Command::Uploaded(path.to_owned())).await
    }
}
