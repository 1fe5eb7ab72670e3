//! An embedded server that speaks the W&B protocol well enough for the official SDK and for this crate's client: runs,
//! artifacts, lineage, files. One user, one process, one folder: SQLite for what is known, plain files for content.
//!
//! It shares no code with the client (`crate::wandb`), so that each is a witness for the other. It listens on the loopback
//! interface unless told otherwise, wants its API key (or an access token, see [`ServerOptions::with_identity_token_file`]) everywhere
//! but at `/healthz`, `/oidc/token` and on signed URLs, and speaks plain
//! HTTP: put a TLS proxy in front of it before opening it to a network.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use wandb_pca::server::{Server, ServerOptions};
//!
//! let server = Server::start(ServerOptions::new("wandb-data")).await?;
//! println!("WANDB_BASE_URL={} WANDB_API_KEY={}", server.base_url(), server.api_key().expose());
//! server.wait().await;
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod auth;
mod blob;
mod clock;
mod db;
mod fault;
mod file_stream;
mod filter;
mod graphql;
mod history;
mod http;
mod ids;
mod migrations;
mod resolve;
mod row_json;
mod rows;
mod sweep_plan;
mod token;
mod transfer;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::redact::ApiKey;

use auth::Gate;
use blob::Blobs;
use db::Db;
use graphql::Executor;
use http::App;
use resolve::Services;
use token::Exchange;

/// How long requests under way may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(10);

/// Where and how a [`Server`] runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where to listen; port 0 takes any free one. The default is the loopback interface.
    pub address: SocketAddr,
    /// The folder of everything the server keeps; made when missing.
    pub data: PathBuf,
    /// The entity that is used where a client names none.
    pub entity: String,
    /// The key to ask for; without one, the key kept in the data folder, made on the first start.
    pub api_key: Option<ApiKey>,
    /// How long signed URLs hold.
    pub url_lifetime: Duration,
    /// File with the identity token (a JWT) that is exchanged for access tokens; without one none is.
    pub identity_token_file: Option<PathBuf>,
    /// How long access tokens hold.
    pub access_token_lifetime: Duration,
}

impl ServerOptions {
    /// On `127.0.0.1` with any free port, entity `local`, the key of the folder, URLs that hold a day.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: data.into(),
            entity: "local".to_owned(),
            api_key: None,
            url_lifetime: Duration::from_secs(24 * 60 * 60),
            identity_token_file: None,
            access_token_lifetime: Duration::from_secs(60 * 60),
        }
    }

    /// Listens here.
    #[must_use]
    pub fn with_address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Uses this entity where a client names none.
    #[must_use]
    pub fn with_entity(mut self, entity: impl Into<String>) -> Self {
        self.entity = entity.into();
        self
    }

    /// Asks for this key, which is not written down.
    #[must_use]
    pub fn with_api_key(mut self, key: ApiKey) -> Self {
        self.api_key = Some(key);
        self
    }

    /// Exchanges the identity token (a JWT) in this file, read at each exchange, for access tokens that hold for so long.
    #[must_use]
    pub fn with_identity_token_file(mut self, path: Option<PathBuf>, lifetime: Duration) -> Self {
        (self.identity_token_file, self.access_token_lifetime) = (path, lifetime);
        self
    }

    /// Lets signed URLs hold for so long. A client may fetch thousands of URLs before it uses the first.
    #[must_use]
    pub fn with_url_lifetime(mut self, lifetime: Duration) -> Self {
        self.url_lifetime = lifetime;
        self
    }
}

/// Why a server could not start, or broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Another server has the data folder.
    #[error("another server is using the data folder {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The database in the data folder cannot be opened or brought up to date.
    #[error("cannot open the database {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The GraphQL schema that is compiled in is not valid: a defect of this crate.
    #[error("the built-in GraphQL schema is not valid: {reason}")]
    Schema {
        /// What is wrong where.
        reason: String,
    },
    /// The server's task ended on its own.
    #[error("the server stopped on its own")]
    Stopped {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropped without [`Server::shutdown`], it stops at once; what clients were told is kept is kept.
#[derive(Debug)]
pub struct Server {
    base_url: String,
    app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
    ended: watch::Receiver<bool>,
    /// Held until the server is dropped.
    _lock: File,
}

impl Server {
    /// Opens the data folder and starts to listen.
    ///
    /// # Errors
    /// [`ServerError`] when the folder, the database or the address cannot be used.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let (app, lock) = open(&options)?;
        let listen = |source| ServerError::Listen { address: options.address, source };
        let listener = TcpListener::bind(options.address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let app = Arc::new(App { address, ..app });
        let router = http::router(Arc::clone(&app));
        let (stop, stopped) = oneshot::channel::<()>();
        let (ending, ended) = watch::channel(false);
        let task = tokio::spawn(async move {
            // A dropped sender stops the server, too.
            let signal = async { drop(stopped.await) };
            let outcome = axum::serve(listener, router).with_graceful_shutdown(signal).await;
            ending.send_replace(true);
            outcome
        });
        let base_url = format!("http://{address}");
        tracing::info!(base_url, data = %options.data.display(), "listening");
        Ok(Self { base_url, app, stop: Some(stop), task, ended, _lock: lock })
    }

    /// What clients need as `WANDB_BASE_URL`, like `http://127.0.0.1:8080`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What clients need as `WANDB_API_KEY`.
    pub fn api_key(&self) -> &ApiKey {
        self.app.services.gate.key()
    }

    /// The entity that is used where a client names none.
    pub fn entity(&self) -> &str {
        &self.app.services.entity
    }

    /// Waits until the server ends on its own, which it does only when listening fails for good.
    pub async fn wait(&self) {
        let mut ended = self.ended.clone();
        // An error means that the task is gone, which is an end as well.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Stops listening, lets requests under way end, and closes the database.
    ///
    /// # Errors
    /// [`ServerError::Stopped`] when the server had ended with an error before.
    pub async fn shutdown(mut self) -> Result<(), ServerError> {
        drop(self.stop.take());
        let outcome = match tokio::time::timeout(GRACE, &mut self.task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => {
                self.task.abort();
                Ok(())
            }
        };
        if let Err(fault) = self.app.services.db.checkpoint() {
            tracing::warn!(error = &fault as &dyn std::error::Error, "the write-ahead log stays beside the database");
        }
        outcome.map_err(|source| ServerError::Stopped { source })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open(options: &ServerOptions) -> Result<(App, File), ServerError> {
    let data = |source| ServerError::Data { path: options.data.clone(), source };
    fs::create_dir_all(&options.data).map_err(data)?;
    let lock = lock(&options.data)?;
    let path = options.data.join("server.db");
    let db = Db::open(&path).map_err(|source| ServerError::Database { path, source })?;
    let lifetime = i64::try_from(options.url_lifetime.as_millis()).unwrap_or(i64::MAX);
    let services = Services {
        db,
        blobs: Blobs::open(&options.data).map_err(data)?,
        gate: Gate::open(&options.data, options.api_key.clone(), lifetime).map_err(data)?,
        entity: options.entity.clone(),
    };
    let executor = Executor::new().map_err(|reason| ServerError::Schema { reason })?;
    let exchange = Exchange { trusted: options.identity_token_file.clone(), lifetime: options.access_token_lifetime };
    Ok((App { services, executor, exchange, address: options.address }, lock))
}

/// Keeps other servers off the folder while this one runs.
fn lock(folder: &Path) -> Result<File, ServerError> {
    let data = |source| ServerError::Data { path: folder.to_owned(), source };
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(data)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ServerError::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(data(source)),
    }
}
