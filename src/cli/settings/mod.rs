//! What the user means: one pure fold of flags > environment > settings files > netrc > defaults.
//!
//! Names and rules are the official SDK's (`wandb/env.py`, `wandb/sdk/lib/urls.py`, `wandb/sdk/wandb_setup.py`), so that
//! a machine set up for it is set up for us. No I/O here: [`super::sources`] reads the files.

pub(crate) mod base_url;
pub(crate) mod credential;
pub(crate) mod file;
pub(crate) mod network;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::bail;
use url::Url;

use super::env::{self, Environment};
use super::exit::CredentialError;
use base_url::DEFAULT_BASE_URL;
use credential::Chosen;
use network::{Network, Timeouts};

/// Everything that decides, as it was read.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--base-url`.
    pub(crate) base_url: Option<String>,
    /// `--entity`.
    pub(crate) entity: Option<String>,
    /// `--project`.
    pub(crate) project: Option<String>,
    /// `--mode`, or what `--offline` stands for.
    pub(crate) mode: Option<String>,
    /// `--timeout` and its kind.
    pub(crate) timeouts: Timeouts,
    /// The environment.
    pub(crate) environment: Environment,
    /// `[default]` of the global settings file.
    pub(crate) global: HashMap<String, String>,
    /// `[default]` of the local settings file, which wins over the global one.
    pub(crate) local: HashMap<String, String>,
    /// Text of the netrc file and where it is.
    pub(crate) netrc: Option<(PathBuf, String)>,
    /// Where access tokens are kept.
    pub(crate) credentials_file: PathBuf,
    /// What could not be read and is done without.
    pub(crate) warnings: Vec<String>,
}

/// Whether results go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read from and log to the server.
    Online,
    /// Read from the store only, log to a folder.
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
    /// The credential and where it came from, or why it cannot be used: `login` mends that.
    pub(crate) credential: Result<Option<Chosen>, CredentialError>,
    /// Default entity.
    pub(crate) entity: Option<String>,
    /// Default project.
    pub(crate) project: Option<String>,
    /// Online or not.
    pub(crate) mode: Mode,
    /// How the server is reached.
    pub(crate) network: Network,
    /// What was left out of account, for people.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Folds the sources.
    ///
    /// # Errors
    /// A value that cannot be used, naming where it came from and never repeating a key.
    pub(crate) fn resolve(sources: &Sources) -> anyhow::Result<Self> {
        let environment = &sources.environment;
        let mut warnings = sources.warnings.clone();
        let file = usable_files(sources, &mut warnings);
        let pick = |flag: &Option<String>, variable: &str, key: &str| {
            let from_file = || file.get(key).filter(|value| !value.is_empty());
            flag.clone().or_else(|| environment.get(variable).map(str::to_owned)).or_else(|| from_file().cloned())
        };
        let base_text = pick(&sources.base_url, env::BASE_URL, "base_url");
        let base_url = base_url::normalise(base_text.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let app_url = match pick(&None, env::APP_URL, "app_url") {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => base_url::app_url(&base_url),
        };
        let file_key = file_key(&file, &base_url);
        Ok(Self {
            credential: credential::choose(sources, (&base_url, file_key), &mut warnings),
            app_url,
            entity: pick(&sources.entity, env::ENTITY, "entity"),
            project: pick(&sources.project, env::PROJECT, "project"),
            mode: mode(pick(&sources.mode, env::MODE, "mode").as_deref())?,
            network: network::resolve(sources, &file)?,
            base_url,
            warnings,
        })
    }
}

/// Global and local values together. One that cannot be used makes both files count for nothing, as since SDK 0.24.1.
fn usable_files(sources: &Sources, warnings: &mut Vec<String>) -> HashMap<String, String> {
    let mut values = sources.global.clone();
    values.extend(sources.local.clone());
    let problem = values.iter().find_map(|(key, value)| {
        let fine = match key.as_str() {
            "base_url" => base_url::normalise(value).is_ok(),
            "mode" => mode(Some(value)).is_ok(),
            "project" => value.chars().count() <= 128 && !value.contains(['/', '\\', '#', '?', '%', ':', '\r', '\n']),
            "api_key" => value.trim() == value,
            _ => true,
        };
        (!fine).then_some(key)
    });
    let Some(key) = problem else { return values };
    warnings.push(format!("no settings file is used: the value of `{key}` in one cannot be used"));
    HashMap::new()
}

/// The key of the settings files, which is meant for the server that they name.
fn file_key<'a>(file: &'a HashMap<String, String>, base: &Url) -> Option<&'a str> {
    let named = file.get("base_url").filter(|url| !url.is_empty()).map_or(DEFAULT_BASE_URL, String::as_str);
    let for_it = base_url::normalise(named).is_ok_and(|named| base_url::same(&named, base));
    file.get("api_key").map(String::as_str).filter(|key| !key.is_empty() && for_it)
}

fn mode(text: Option<&str>) -> anyhow::Result<Mode> {
    match text {
        None | Some("online" | "run" | "shared") => Ok(Mode::Online),
        Some("offline" | "dryrun") => Ok(Mode::Offline),
        Some("disabled") => Ok(Mode::Disabled),
        Some(other) => bail!("`{other}` is not a mode: use online, offline or disabled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wandb_pca::wandb::Credential;

    fn from(pairs: &[(&str, &str)]) -> Sources {
        Sources { environment: Environment::from_pairs(pairs.iter().copied()), ..Sources::default() }
    }

    fn file(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn precedence_is_flags_environment_local_global_default() {
        type Pick = fn(&Settings) -> Option<String>;
        type Flag = fn(&mut Sources, &str);
        let table: [(&str, &str, Flag, Pick, Option<&str>); 3] = [
            ("entity", env::ENTITY, |s, v| s.entity = Some(v.into()), |s| s.entity.clone(), None),
            ("project", env::PROJECT, |s, v| s.project = Some(v.into()), |s| s.project.clone(), None),
            (
                "base_url",
                env::BASE_URL,
                |s, v| s.base_url = Some(v.into()),
                |s| Some(s.base_url.to_string()),
                Some("https://api.forge.coreweave.com/"),
            ),
        ];
        for (key, variable, flag, pick, default) in table {
            let value = |from: &str| if key == "base_url" { format!("http://{from}/") } else { from.to_owned() };
            let found = |sources: &Sources| pick(&Settings::resolve(sources).unwrap());
            let mut sources = Sources::default();
            assert_eq!(found(&sources).as_deref(), default);
            sources.global = file(&[(key, &value("global"))]);
            assert_eq!(found(&sources), Some(value("global")));
            sources.local = file(&[(key, &value("local"))]);
            assert_eq!(found(&sources), Some(value("local")));
            sources.environment = Environment::from_pairs([(variable, value("environment"))]);
            assert_eq!(found(&sources), Some(value("environment")));
            flag(&mut sources, &value("flag"));
            assert_eq!(found(&sources), Some(value("flag")));
        }
    }

    #[test]
    fn one_value_that_cannot_be_used_makes_both_files_count_for_nothing() {
        for (key, value) in [("base_url", "wandb.ai"), ("mode", "sideways"), ("project", "a/b"), ("api_key", " x")] {
            let mut sources = Sources { global: file(&[("entity", "e")]), ..Sources::default() };
            sources.local = file(&[(key, value)]);
            let settings = Settings::resolve(&sources).unwrap();
            assert_eq!((settings.entity, settings.warnings.len()), (None, 1), "{key}");
            assert!(settings.warnings[0].contains(key) && !settings.warnings[0].contains(value));
        }
    }

    #[test]
    fn the_key_of_a_settings_file_is_for_the_server_it_names() {
        let key = "0123456789".repeat(4);
        let credential = |base: Option<&str>, named: &[(&str, &str)]| {
            let mut sources = Sources { global: file(named), ..Sources::default() };
            sources.global.insert("api_key".to_owned(), key.clone());
            sources.base_url = base.map(str::to_owned);
            Settings::resolve(&sources).unwrap().credential.unwrap().map(|chosen| chosen.credential)
        };
        let here = ("base_url", "http://h:1/");
        assert!(matches!(credential(None, &[here]), Some(Credential::ApiKey(_))));
        assert!(credential(Some("http://h:1"), &[here]).is_some());
        assert!(credential(Some("http://other"), &[here]).is_none());
        assert!(credential(None, &[]).is_some(), "the hosted service");
        assert!(credential(Some("http://other"), &[]).is_none());
    }

    #[test]
    fn modes() {
        let mode = |text: &str| Settings::resolve(&from(&[(env::MODE, text)])).map(|s| s.mode);
        assert_eq!(mode("dryrun").unwrap(), Mode::Offline);
        assert_eq!(mode("shared").unwrap(), Mode::Online);
        let flag = Sources { mode: Some("offline".to_owned()), ..from(&[(env::MODE, "online")]) };
        assert_eq!(Settings::resolve(&flag).unwrap().mode, Mode::Offline);
        assert!(mode("sideways").is_err());
    }
}
