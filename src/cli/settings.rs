//! What the user means: one pure fold of flags > environment > settings files > netrc > defaults.
//!
//! Names and rules are the official SDK's (`wandb/env.py`, `wandb/sdk/lib/urls.py`, `wandb/sdk/wandb_setup.py`), so that
//! a machine set up for it is set up for us. No I/O here: [`super::sources`] reads the files.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use url::Url;
use wandb_pca::redact::ApiKey;

use super::env::{self, Environment};
use super::netrc;

/// Where the hosted service answers, since SDK 0.31.
pub(crate) const DEFAULT_BASE_URL: &str = "https://api.forge.coreweave.com";

/// Everything that decides, as it was read.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--base-url`.
    pub(crate) base_url: Option<String>,
    /// `--entity`.
    pub(crate) entity: Option<String>,
    /// `--project`.
    pub(crate) project: Option<String>,
    /// `--offline`.
    pub(crate) offline: bool,
    /// The environment.
    pub(crate) environment: Environment,
    /// `[default]` of the global settings file.
    pub(crate) global: HashMap<String, String>,
    /// `[default]` of the local settings file, which wins over the global one.
    pub(crate) local: HashMap<String, String>,
    /// Text of the netrc file and where it is.
    pub(crate) netrc: Option<(PathBuf, String)>,
}

/// Where the API key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The environment variable.
    Environment,
    /// This netrc file.
    Netrc(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str(env::API_KEY),
            Self::Netrc(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether results go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read from and log to the server.
    Online,
    /// Read from the store only, log nothing to the server.
    Offline,
    /// Log nothing.
    Disabled,
}

/// The outcome.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Root of the API, without a trailing slash.
    pub(crate) base_url: Url,
    /// Root of the user interface, without a trailing slash.
    pub(crate) app_url: String,
    /// The key and where it came from.
    pub(crate) api_key: Option<(ApiKey, KeySource)>,
    /// Default entity.
    pub(crate) entity: Option<String>,
    /// Default project.
    pub(crate) project: Option<String>,
    /// Online or not.
    pub(crate) mode: Mode,
    /// Extra headers.
    pub(crate) extra_headers: Vec<(String, String)>,
    /// How patient to be.
    pub(crate) retries: Retries,
}

/// How often and how soon a request is tried again. The official SDK waits for minutes before it gives up on a server
/// that is not there; a person at a terminal would rather know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retries {
    /// Tries after the first.
    pub(crate) most: u32,
    /// The first wait.
    pub(crate) shortest: Duration,
    /// The longest wait.
    pub(crate) longest: Duration,
}

impl Settings {
    /// Folds the sources.
    ///
    /// # Errors
    /// A value that cannot be used, naming where it came from and never repeating a key.
    pub(crate) fn resolve(sources: &Sources) -> anyhow::Result<Self> {
        let environment = &sources.environment;
        let pick = |flag: &Option<String>, variable: &str, key: &str| {
            let from_file = || sources.local.get(key).or_else(|| sources.global.get(key)).filter(|v| !v.is_empty());
            flag.clone().or_else(|| environment.get(variable).map(str::to_owned)).or_else(|| from_file().cloned())
        };
        let base_text = pick(&sources.base_url, env::BASE_URL, "base_url");
        let base_url = base_url(base_text.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let app_url = match environment.get(env::APP_URL) {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => app_url(&base_url),
        };
        Ok(Self {
            api_key: api_key(sources, &base_url)?,
            app_url,
            entity: pick(&sources.entity, env::ENTITY, "entity"),
            project: pick(&sources.project, env::PROJECT, "project"),
            mode: mode(sources.offline, pick(&None, env::MODE, "mode").as_deref())?,
            extra_headers: extra_headers(environment)?,
            retries: retries(environment)?,
            base_url,
        })
    }
}

/// The name under which a host is found in netrc: with its port unless that is the scheme's own.
pub(crate) fn machine(base_url: &Url) -> String {
    let host = base_url.host_str().unwrap_or_default();
    base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn base_url(text: &str) -> anyhow::Result<Url> {
    let url =
        Url::parse(text.trim().trim_end_matches('/')).with_context(|| format!("`{text}` is not a server address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        bail!("`{text}` is not a server address: it must start with http:// or https://");
    }
    let host = url.host_str().unwrap_or_default();
    if host.ends_with("wandb.ai") && (!host.contains("api.") || url.scheme() != "https") {
        bail!("`{text}` is not the API of the hosted service: use {DEFAULT_BASE_URL}");
    }
    if host == "forge.coreweave.com" {
        return Ok(Url::parse(DEFAULT_BASE_URL)?);
    }
    Ok(url)
}

/// Where a person looks at what is at `base_url` (`wandb.util.api_to_app_url`).
fn app_url(base_url: &Url) -> String {
    let text = base_url.as_str().trim_end_matches('/');
    if base_url.host_str() == Some("api.forge.coreweave.com") {
        return "https://forge.coreweave.com/wandb".to_owned();
    }
    if text.contains("://api.wandb.") {
        return text.replacen("://api.wandb.", "://wandb.", 1);
    }
    text.replacen("://api.", "://app.", 1)
}

fn api_key(sources: &Sources, base_url: &Url) -> anyhow::Result<Option<(ApiKey, KeySource)>> {
    if let Some(text) = sources.environment.get(env::API_KEY) {
        let key = ApiKey::parse(text).with_context(|| format!("the value of {} cannot be used", env::API_KEY))?;
        return Ok(Some((key, KeySource::Environment)));
    }
    let Some((path, text)) = &sources.netrc else { return Ok(None) };
    let machine = machine(base_url);
    // SDK 0.31 renamed the hosted service; a key saved for its former name still opens it.
    let former = (machine == "api.forge.coreweave.com").then_some("api.wandb.ai");
    let found = netrc::password(text, &machine).or_else(|| netrc::password(text, former?));
    let Some(password) = found else { return Ok(None) };
    let key = ApiKey::parse(&password)
        .with_context(|| format!("the password for {machine} in {} cannot be used", path.display()))?;
    Ok(Some((key, KeySource::Netrc(path.clone()))))
}

fn mode(offline_flag: bool, text: Option<&str>) -> anyhow::Result<Mode> {
    if offline_flag {
        return Ok(Mode::Offline);
    }
    match text {
        None | Some("online" | "run" | "shared") => Ok(Mode::Online),
        Some("offline" | "dryrun") => Ok(Mode::Offline),
        Some("disabled") => Ok(Mode::Disabled),
        Some(other) => bail!("`{other}` is not a mode: use online, offline or disabled"),
    }
}

fn retries(environment: &Environment) -> anyhow::Result<Retries> {
    let number = |name: &str, default: f64| match environment.get(name) {
        None => Ok(default),
        Some(text) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() && (0.0..1e6).contains(&number) => Ok(number),
            _ => bail!("`{text}` in {name} is not a number that can be used"),
        },
    };
    Ok(Retries {
        most: number(env::RETRY_MAX, 6.0)? as u32,
        shortest: Duration::from_secs_f64(number(env::RETRY_WAIT_MIN, 0.5)?),
        longest: Duration::from_secs_f64(number(env::RETRY_WAIT_MAX, 15.0)?),
    })
}

fn extra_headers(environment: &Environment) -> anyhow::Result<Vec<(String, String)>> {
    let named = [env::EXTRA_HTTP_HEADERS, env::EXTRA_HTTP_HEADERS_ALIAS];
    let Some((name, text)) = named.iter().find_map(|name| Some((name, environment.get(name)?))) else {
        return Ok(Vec::new());
    };
    let headers: HashMap<String, String> =
        serde_json::from_str(text).ok().with_context(|| format!("{name} is not a JSON object of texts"))?;
    let mut headers: Vec<_> = headers.into_iter().collect();
    headers.sort();
    Ok(headers)
}

/// The keys of section `[default]` of a settings file (INI), lower-cased.
pub(crate) fn parse_settings_file(text: &str) -> HashMap<String, String> {
    let mut in_default = false;
    let mut found = HashMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            in_default = section == "default";
        } else if in_default && let Some((key, value)) = line.split_once(['=', ':']) {
            found.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789012345678901234567890123456789";
    const OTHER: &str = "abcdefghijabcdefghijabcdefghijabcdefghij";

    fn from(pairs: &[(&str, &str)]) -> Sources {
        Sources { environment: Environment::from_pairs(pairs.iter().copied()), ..Sources::default() }
    }

    #[test]
    fn precedence_is_flags_environment_local_global_default() {
        let file = |value: &str| HashMap::from([("entity".to_owned(), value.to_owned())]);
        let mut sources = Sources::default();
        let entity = |sources: &Sources| Settings::resolve(sources).unwrap().entity;
        assert_eq!(entity(&sources), None);
        sources.global = file("global");
        assert_eq!(entity(&sources).as_deref(), Some("global"));
        sources.local = file("local");
        assert_eq!(entity(&sources).as_deref(), Some("local"));
        sources.environment = Environment::from_pairs([(env::ENTITY, "environment")]);
        assert_eq!(entity(&sources).as_deref(), Some("environment"));
        sources.entity = Some("flag".to_owned());
        assert_eq!(entity(&sources).as_deref(), Some("flag"));
    }

    #[test]
    fn base_urls_are_normalised_and_bad_ones_refused() {
        let base = |text: &str| {
            Settings::resolve(&from(&[(env::BASE_URL, text)])).map(|s| (s.base_url.to_string(), s.app_url))
        };
        assert_eq!(base("").unwrap().0, format!("{DEFAULT_BASE_URL}/"));
        assert_eq!(
            base("http://127.0.0.1:8080/").unwrap(),
            ("http://127.0.0.1:8080/".into(), "http://127.0.0.1:8080".into())
        );
        assert_eq!(base("https://api.wandb.ai").unwrap().1, "https://wandb.ai");
        assert_eq!(base("https://api.example.org").unwrap().1, "https://app.example.org");
        for bad in ["wandb.ai", "ftp://x", "http://api.wandb.ai", "https://app.wandb.ai"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_comes_from_the_environment_before_netrc() {
        let netrc = format!("machine 127.0.0.1:9 password {OTHER}\nmachine api.wandb.ai password {OTHER}");
        let mut sources = from(&[(env::BASE_URL, "http://127.0.0.1:9")]);
        sources.netrc = Some((PathBuf::from("n"), netrc));
        let key = |sources: &Sources| Settings::resolve(sources).unwrap().api_key;
        assert_eq!(key(&sources).unwrap(), (ApiKey::parse(OTHER).unwrap(), KeySource::Netrc("n".into())));
        sources.environment = Environment::from_pairs([(env::API_KEY, KEY)]);
        assert_eq!(key(&sources).unwrap(), (ApiKey::parse(KEY).unwrap(), KeySource::Environment));
        sources.environment = Environment::default();
        assert!(key(&sources).is_some(), "the renamed service finds the key saved for its former name");
    }

    #[test]
    fn a_bad_key_is_not_repeated() {
        let error = format!("{:?}", Settings::resolve(&from(&[(env::API_KEY, "tooshortsecret")])).unwrap_err());
        assert!(error.contains(env::API_KEY) && !error.contains("tooshortsecret"));
    }

    #[test]
    fn modes_and_headers() {
        let mode = |text: &str| Settings::resolve(&from(&[(env::MODE, text)])).map(|s| s.mode);
        assert_eq!(mode("dryrun").unwrap(), Mode::Offline);
        assert!(mode("sideways").is_err());
        let headers =
            Settings::resolve(&from(&[(env::EXTRA_HTTP_HEADERS, r#"{"B":"2","A":"1"}"#)])).unwrap().extra_headers;
        assert_eq!(headers, [("A".into(), "1".into()), ("B".into(), "2".into())]);
    }

    #[test]
    fn settings_files_are_read_as_ini() {
        let file = parse_settings_file("[other]\nentity = no\n[default]\n# x\nEntity = me\nbase_url: http://h:1\n");
        assert_eq!(file.get("entity").map(String::as_str), Some("me"));
        assert_eq!(file.get("base_url").map(String::as_str), Some("http://h:1"));
    }
}
