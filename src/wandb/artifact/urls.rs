//! Signed addresses of an artifact's files: asked for when the first file needs one, for many files at once, and again
//! when they expire. Network I/O through the client.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::redact::SafeUrl;

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::MembershipFiles;
use super::super::retry::Budget;
use super::Artifact;

/// Files asked for in one request.
const BATCH: usize = 200;
/// Signed addresses live about an hour; older ones than this are not tried any more.
const FRESH: Duration = Duration::from_secs(40 * 60);

/// The addresses of one artifact's files.
pub(super) struct UrlBook<'a> {
    client: &'a Client,
    artifact: &'a Artifact,
    /// Files that will need an address, in order.
    queue: Vec<String>,
    known: Mutex<HashMap<String, (SafeUrl, Instant)>>,
}

impl<'a> UrlBook<'a> {
    pub(super) fn new(client: &'a Client, artifact: &'a Artifact, queue: Vec<String>) -> Self {
        Self { client, artifact, queue, known: Mutex::new(HashMap::new()) }
    }

    /// The address of a file. `stale` is one that did not work.
    pub(super) async fn url(
        &self,
        budget: &Budget,
        path: &str,
        stale: Option<&SafeUrl>,
    ) -> Result<SafeUrl, WandbError> {
        let mut known = self.known.lock().await;
        if let Some((url, asked)) = known.get(path)
            && Some(url) != stale
            && asked.elapsed() < FRESH
        {
            return Ok(url.clone());
        }
        let names: Vec<String> = match stale {
            Some(_) => vec![path.to_owned()],
            None => self.batch(&known, path),
        };
        let name = self.artifact.name();
        let what = format!("the addresses of the files of {name}");
        let variables = MembershipFiles {
            entity: &name.entity,
            project: &name.project,
            collection: &name.collection,
            alias: &name.alias,
            names: &names,
            per_page: names.len(),
        };
        let data = execute(self.client.transport(), budget, &what, &variables).await?;
        let files = data.into_files().ok_or_else(|| WandbError::NotFound { what: format!("artifact {name}") })?;
        for file in files {
            let url = self.client.transport().resolve(&file.direct_url, &what)?;
            known.insert(file.name, (url, Instant::now()));
        }
        let url = known.get(path).map(|(url, _)| url.clone());
        url.ok_or_else(|| WandbError::NotFound { what: format!("file `{path}` of artifact {name}") })
    }

    /// The file and those behind it that have no address yet.
    fn batch(&self, known: &HashMap<String, (SafeUrl, Instant)>, path: &str) -> Vec<String> {
        let start = self.queue.iter().position(|queued| queued == path).unwrap_or(self.queue.len());
        let rest = self.queue.iter().skip(start + 1).filter(|queued| !known.contains_key(*queued));
        std::iter::once(path.to_owned()).chain(rest.take(BATCH - 1).cloned()).collect()
    }
}
