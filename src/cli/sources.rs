//! Reads the files that settings are folded from. Missing files are empty; what cannot be read is done without, and a
//! warning says so, as with the official SDK.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

use super::args::{Global, ModeArg};
use super::env::{self, Environment};
use super::settings::network::Timeouts;
use super::settings::{Sources, file};

/// Collects what the user gave, from everywhere.
///
/// # Errors
/// No home folder to look in.
pub(crate) fn collect(flags: &Global, environment: &Environment) -> anyhow::Result<Sources> {
    let netrc_path = netrc_path(environment)?;
    let mut warnings = Vec::new();
    let netrc = read_if_there(&netrc_path, &mut warnings).map(|text| (netrc_path, text));
    Ok(Sources {
        base_url: flags.base_url.clone(),
        entity: flags.entity.clone(),
        project: flags.project.clone(),
        mode: flags.mode.map(ModeArg::name).or(flags.offline.then_some("offline")).map(str::to_owned),
        timeouts: Timeouts { total: flags.timeout, connect: flags.connect_timeout, idle: flags.idle_timeout },
        global: settings_file(&config_dir(environment)?.join("settings"), &mut warnings),
        local: settings_file(&local_settings(), &mut warnings),
        netrc,
        credentials_file: credentials_file(environment)?,
        environment: environment.clone(),
        warnings,
    })
}

/// The store: the `artifacts` folder of the official SDK's cache.
///
/// # Errors
/// No home folder to derive it from.
pub(crate) fn store_dir(environment: &Environment) -> anyhow::Result<PathBuf> {
    let cache = match environment.path(env::CACHE_DIR) {
        Some(path) => path,
        None => base_dirs()?.cache_dir().join("wandb"),
    };
    Ok(cache.join("artifacts"))
}

/// Where `wandb/` is, the folder for runs: `$WANDB_DIR`, else the working folder.
pub(crate) fn runs_dir(environment: &Environment) -> PathBuf {
    environment.path(env::DIR).unwrap_or_else(|| PathBuf::from("."))
}

/// Where we keep our own data: the embedded server's and the demo's.
///
/// # Errors
/// No home folder to derive it from.
pub(crate) fn data_dir() -> anyhow::Result<PathBuf> {
    Ok(base_dirs()?.data_dir().join("wandb-pca"))
}

/// The netrc file that is read and written: `$NETRC`, `~/.netrc`, or `~/_netrc` where only that exists.
///
/// # Errors
/// No home folder to derive it from.
pub(crate) fn netrc_path(environment: &Environment) -> anyhow::Result<PathBuf> {
    if let Some(path) = environment.path(env::NETRC) {
        return Ok(path);
    }
    let home = home(environment)?;
    let (usual, windows) = (home.join(".netrc"), home.join("_netrc"));
    Ok(if !usual.exists() && windows.exists() { windows } else { usual })
}

/// Where access tokens are kept; the official SDK does not move it with `WANDB_CONFIG_DIR`.
fn credentials_file(environment: &Environment) -> anyhow::Result<PathBuf> {
    match environment.path(env::CREDENTIALS_FILE) {
        Some(path) => Ok(path),
        None => Ok(home(environment)?.join(".config/wandb/credentials.json")),
    }
}

fn config_dir(environment: &Environment) -> anyhow::Result<PathBuf> {
    match environment.path(env::CONFIG_DIR) {
        Some(path) => Ok(path),
        None => Ok(home(environment)?.join(".config/wandb")),
    }
}

fn home(environment: &Environment) -> anyhow::Result<PathBuf> {
    environment.path(env::HOME).map_or_else(|| etcetera::home_dir().context("no home folder; set HOME"), Ok)
}

fn base_dirs() -> anyhow::Result<impl etcetera::BaseStrategy> {
    etcetera::choose_base_strategy().context("no home folder to keep files under; set HOME, or name the folders")
}

fn local_settings() -> PathBuf {
    let hidden = Path::new(".wandb");
    if hidden.is_dir() { hidden.join("settings") } else { Path::new("wandb").join("settings") }
}

fn settings_file(path: &Path, warnings: &mut Vec<String>) -> HashMap<String, String> {
    let Some(text) = read_if_there(path, warnings) else { return HashMap::new() };
    match file::parse(&text) {
        Ok(parsed) => {
            let ignored = parsed.ignored.iter().map(|key| format!("`{key}` in {} is ignored", path.display()));
            warnings.extend(ignored);
            parsed.values
        }
        Err(error) => {
            warnings.push(format!("{} is not used: {error}", path.display()));
            HashMap::new()
        }
    }
}

fn read_if_there(path: &Path, warnings: &mut Vec<String>) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(error) => {
            warnings.push(format!("{} is not used: {error}", path.display()));
            None
        }
    }
}
