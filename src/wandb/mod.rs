//! Client of the W&B protocol: artifacts down and up, runs, lineage. Async; all network I/O of the library is here.
//!
//! [`Client`] is a cheap handle. Behind it, `transport` alone owns HTTP and decides who gets the key; `retry` decides
//! what is tried again, and `trouble` says what went wrong; `graphql` runs the documents of `operations`; [`artifact`] and
//! [`run`] are the two nouns.
//! Nothing here reads the environment: the binary resolves settings and passes values.

pub mod artifact;
mod cloud;
mod connect;
mod credential;
mod error;
mod graphql;
mod limit;
mod offline;
mod operations;
mod options;
mod retry;
pub mod run;
mod sweep;
mod traced;
mod transport;
mod trouble;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use artifact::download::{DownloadOptions, DownloadedArtifact, DownloadedFile, Origin, Wanted};
pub use artifact::draft::{ArtifactDraft, Checksum, MOST_OBJECTS, Source, Ttl};
pub use artifact::export::{LinkMode, Placed, export};
pub use artifact::filter::Filter;
pub use artifact::link::LinkTarget;
pub use artifact::locator::{ArtifactId, ArtifactLocator};
pub use artifact::manifest::{Entry, Manifest};
pub use artifact::name::{ArtifactName, QualifiedName};
pub use artifact::prepare::PreparedArtifact;
pub use artifact::present::present;
pub use artifact::ranges::{Fetched, RemoteFile, RemoteParts};
pub use artifact::reference::{Proof, ReferenceError};
pub use artifact::registry::is_registry;
pub use artifact::suggest::Suggestions;
pub use artifact::upload::LoggedArtifact;
pub use artifact::{Artifact, ArtifactEdit, Brief, Collection, Lineage, LineageRun, Maker, Newest, Place};
pub use cloud::CloudSettings;
pub use error::WandbError;
pub use offline::{SyncOptions, Synced, is_synced, remove_synced, runs_in, runs_to_sync};
pub use options::{CertificateCheck, ClientOptions, Credential, Proxy};
pub use run::{
    AlertLevel, Chart, ChartDefinition, ConsoleStream, Histogram, Image, Resume, Run, RunOptions, runs_parted,
};
pub use sweep::{AgentCommand, CreatedSweep, Sweep, SweepAgent, SweepName, SweepNameError, SweepPath, SweepRun};

use crate::digest::Algorithm;

use artifact::registry::Organizations;
use artifact::source::Hashing;
use graphql::execute;
use retry::{Budget, Pace, system_seed};
use tokio::sync::{Mutex, OnceCell};
use transport::Transport;

/// A handle on one W&B server; clones share connections, limits and the watcher.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    /// Of the API, and of transfers.
    paces: (Pace, Pace),
    total: Option<Duration>,
    concurrency: usize,
    multipart_threshold: u64,
    ranged_threshold: u64,
    largest_part: u64,
    part_size: u64,
    /// Seeds the jitter of one operation after another.
    seed: AtomicU64,
    default_entity: OnceCell<Option<String>>,
    /// Chart definitions that the server is known to have.
    charts: Mutex<BTreeSet<String>>,
    #[cfg(feature = "cloud")]
    cloud: CloudSettings,
    /// By entity.
    organizations: Mutex<HashMap<String, Organizations>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.0.transport.host()).finish_non_exhaustive()
    }
}

/// Who the key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Viewer {
    /// Default entity: where things go when none is named.
    pub entity: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Teams, which are entities too.
    pub teams: Vec<String>,
}

impl Client {
    /// A client of the server in the options. Nothing is sent yet.
    ///
    /// # Errors
    /// [`WandbError::Option`] naming the option that cannot work.
    pub fn new(options: ClientOptions) -> Result<Self, WandbError> {
        Ok(Self(Arc::new(Inner {
            transport: Transport::new(&options)?,
            paces: (options.pace, options.transfer_pace),
            total: options.total_timeout,
            concurrency: options.concurrency.max(1),
            multipart_threshold: options.multipart_threshold,
            ranged_threshold: options.ranged_threshold,
            largest_part: options.largest_part,
            part_size: options.part_size.max(1),
            seed: AtomicU64::new(system_seed()),
            default_entity: OnceCell::new(),
            charts: Mutex::default(),
            #[cfg(feature = "cloud")]
            cloud: options.cloud,
            organizations: Mutex::default(),
        })))
    }

    /// Who the key belongs to.
    ///
    /// # Errors
    /// [`WandbError::Unauthenticated`] when the server does not know the key, or what the request met.
    pub async fn viewer(&self) -> Result<Viewer, WandbError> {
        let what = "the question who we are";
        let data = execute(self.transport(), &self.budget(), what, &operations::Viewer {}).await?;
        let Some(viewer) = data.viewer else {
            let message = "it belongs to nobody".to_owned();
            return Err(WandbError::Unauthenticated { what: what.to_owned(), host: self.transport().host(), message });
        };
        let teams = viewer.teams.map(|teams| teams.into_page().0).unwrap_or_default();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Viewer {
            entity: filled(viewer.entity),
            username: filled(viewer.username),
            email: filled(viewer.email),
            teams: teams.into_iter().map(|team| team.name).collect(),
        })
    }

    /// The default entity of the key's owner; asked for at most once.
    ///
    /// # Errors
    /// As [`Client::viewer`].
    pub async fn default_entity(&self) -> Result<Option<String>, WandbError> {
        let ask = async || Ok::<_, WandbError>(self.viewer().await?.entity);
        self.0.default_entity.get_or_try_init(ask).await.cloned()
    }

    fn organizations(&self) -> &Mutex<HashMap<String, Organizations>> {
        &self.0.organizations
    }

    fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// The retries and time of one operation.
    fn budget(&self) -> Budget {
        Budget::new(self.0.paces, self.0.total, self.0.seed.fetch_add(1, Ordering::Relaxed))
    }

    #[cfg(feature = "cloud")]
    fn cloud(&self) -> &CloudSettings {
        &self.0.cloud
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    fn ranged_threshold(&self) -> u64 {
        self.0.ranged_threshold
    }

    fn largest_part(&self) -> u64 {
        self.0.largest_part
    }

    fn hashing(&self, algorithm: Algorithm) -> Hashing {
        Hashing { threshold: self.0.multipart_threshold, part: self.0.part_size, algorithm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::ApiKey;

    #[test]
    fn a_client_does_not_show_its_key() {
        let key = "abcdefgh".repeat(5);
        let options = ClientOptions::new("https://api.wandb.ai").with_api_key(ApiKey::parse(&key).ok());
        assert!(!format!("{options:?}").contains("abcd"));
        assert_eq!(format!("{:?}", Client::new(options).unwrap()), "Client { host: \"api.wandb.ai\", .. }");
    }
}
