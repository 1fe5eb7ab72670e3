//! Every environment variable that the command reads, one documented constant each, and a snapshot of them.
//!
//! Nothing else in the crate reads the environment: the snapshot is taken once in `main` and passed on.

use std::collections::HashMap;
use std::path::PathBuf;

use wandb_pca::wandb::CloudSettings;

/// Root of the W&B API, as in the official SDK.
pub(crate) const BASE_URL: &str = "WANDB_BASE_URL";
/// Root of the W&B user interface, when it cannot be derived from the API root.
pub(crate) const APP_URL: &str = "WANDB_APP_URL";
/// The API key.
pub(crate) const API_KEY: &str = "WANDB_API_KEY";
/// File with an identity token (a JWT), instead of an API key.
pub(crate) const IDENTITY_TOKEN_FILE: &str = "WANDB_IDENTITY_TOKEN_FILE";
/// File in which access tokens got for an identity token are kept.
pub(crate) const CREDENTIALS_FILE: &str = "WANDB_CREDENTIALS_FILE";
/// Parent of the folders that artifacts are put into, where none is named.
pub(crate) const ARTIFACT_DIR: &str = "WANDB_ARTIFACT_DIR";
/// Default entity of artifact names and runs.
pub(crate) const ENTITY: &str = "WANDB_ENTITY";
/// Default project of artifact names and runs.
pub(crate) const PROJECT: &str = "WANDB_PROJECT";
/// `online`, `offline` or `disabled`.
pub(crate) const MODE: &str = "WANDB_MODE";
/// Where `wandb/` is, the folder for runs.
pub(crate) const DIR: &str = "WANDB_DIR";
/// Root of the cache; the store is its `artifacts` folder, which the official SDK shares.
pub(crate) const CACHE_DIR: &str = "WANDB_CACHE_DIR";
/// Folder of the global settings file.
pub(crate) const CONFIG_DIR: &str = "WANDB_CONFIG_DIR";
/// Path of the netrc file.
pub(crate) const NETRC: &str = "NETRC";
/// JSON object of extra headers for every request.
pub(crate) const EXTRA_HTTP_HEADERS: &str = "WANDB_X_EXTRA_HTTP_HEADERS";
/// Older name of the same.
pub(crate) const EXTRA_HTTP_HEADERS_ALIAS: &str = "WANDB__EXTRA_HTTP_HEADERS";
/// Proxy for `http` addresses of W&B; else `HTTP_PROXY`, less what `NO_PROXY` names.
pub(crate) const WANDB_HTTP_PROXY: &str = "WANDB_HTTP_PROXY";
/// Proxy for `https` addresses of W&B; else `HTTPS_PROXY`, less what `NO_PROXY` names.
pub(crate) const WANDB_HTTPS_PROXY: &str = "WANDB_HTTPS_PROXY";
/// Older name of both: a JSON object by scheme.
pub(crate) const PROXIES: &str = "WANDB__PROXIES";
/// File of root certificates, as for OpenSSL and Go.
pub(crate) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// File of root certificates, as for Python's requests.
pub(crate) const REQUESTS_CA_BUNDLE: &str = "REQUESTS_CA_BUNDLE";
/// Set to yes: no certificate is checked.
pub(crate) const INSECURE_DISABLE_SSL: &str = "WANDB_INSECURE_DISABLE_SSL";
/// User name sent along with requests.
pub(crate) const USERNAME: &str = "WANDB_USERNAME";
/// Mail address sent along with requests.
pub(crate) const USER_EMAIL: &str = "WANDB_USER_EMAIL";
/// How long one request to the API may take, in seconds.
pub(crate) const HTTP_TIMEOUT: &str = "WANDB_HTTP_TIMEOUT";
/// How long one transfer of a file may take, in seconds.
pub(crate) const FILE_PUSHER_TIMEOUT: &str = "WANDB_FILE_PUSHER_TIMEOUT";

/// Bytes from which on a file is sent in parts, for tests of servers: else 2 GiB, as the official SDK has it.
pub(crate) const MULTIPART_THRESHOLD: &str = "WANDB_PCA_MULTIPART_THRESHOLD";
/// Bytes of such a part, for tests of servers: else 100 MiB. Object stores refuse less than 5 MiB.
pub(crate) const PART_SIZE: &str = "WANDB_PCA_PART_SIZE";

/// The variables that say how patient to be with one kind of traffic.
pub(crate) struct PatienceNames {
    /// How often a request is tried again.
    pub(crate) retries: &'static str,
    /// The shortest wait between two tries, in seconds.
    pub(crate) shortest: &'static str,
    /// The longest wait between two tries, in seconds.
    pub(crate) longest: &'static str,
    /// How long one try may take, in seconds.
    pub(crate) attempt: &'static str,
}

/// Patience with the API.
pub(crate) const GRAPHQL: PatienceNames = PatienceNames {
    retries: "WANDB_X_GRAPHQL_RETRY_MAX",
    shortest: "WANDB_X_GRAPHQL_RETRY_WAIT_MIN_SECONDS",
    longest: "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS",
    attempt: "WANDB_X_GRAPHQL_TIMEOUT_SECONDS",
};
/// Patience with transfers of files.
pub(crate) const FILE_TRANSFER: PatienceNames = PatienceNames {
    retries: "WANDB_X_FILE_TRANSFER_RETRY_MAX",
    shortest: "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS",
    longest: "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS",
    attempt: "WANDB_X_FILE_TRANSFER_TIMEOUT_SECONDS",
};
/// Group of the runs we make.
pub(crate) const RUN_GROUP: &str = "WANDB_RUN_GROUP";
/// Display name of the run we make.
pub(crate) const NAME: &str = "WANDB_NAME";
/// Notes of the run we make.
pub(crate) const NOTES: &str = "WANDB_NOTES";
/// Comma-separated tags of the run we make.
pub(crate) const TAGS: &str = "WANDB_TAGS";
/// Set to anything: no colour on the terminal.
pub(crate) const NO_COLOR: &str = "NO_COLOR";
/// Log filter, such as `wandb_pca=debug`.
pub(crate) const LOG: &str = "WANDB_PCA_LOG";
/// The sweep that an agent started us for.
pub(crate) const SWEEP_ID: &str = "WANDB_SWEEP_ID";
/// The id of the run that an agent wants us to make.
pub(crate) const RUN_ID: &str = "WANDB_RUN_ID";
/// The file with the parameters that an agent assigned.
pub(crate) const SWEEP_PARAM_PATH: &str = "WANDB_SWEEP_PARAM_PATH";
/// The name of this machine, for the ledger of a study.
pub(crate) const HOSTNAME: &str = "HOSTNAME";
/// The user's home.
pub(crate) const HOME: &str = "HOME";

/// The variables that were set, empty ones left out, as the official SDK treats them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(HashMap<String, String>);

impl Environment {
    /// What this process was started with.
    pub(crate) fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// A made-up environment.
    pub(crate) fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).filter(|(_, v)| !v.is_empty()).collect())
    }

    /// What object stores may know of it: `AWS_…`, `AZURE_…`, `GOOGLE_…`, as their own tools do.
    pub(crate) fn cloud(&self) -> CloudSettings {
        CloudSettings::new(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value as a path, with a leading `~/` replaced by the home folder.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|text| self.expand_home(text))
    }

    fn expand_home(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.get(HOME)) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => PathBuf::from(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_counts_as_unset_and_tilde_is_home() {
        let env = Environment::from_pairs([(ENTITY, ""), (HOME, "/home/u"), (NETRC, "~/keys")]);
        assert_eq!(env.get(ENTITY), None);
        assert_eq!(env.path(NETRC), Some(PathBuf::from("/home/u/keys")));
    }
}
