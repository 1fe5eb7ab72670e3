//! Reads the files that settings are folded from. Missing files are empty; unreadable ones are an error that names them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

use super::args::Global;
use super::env::{self, Environment};
use super::settings::{Sources, parse_settings_file};

/// Collects what the user gave, from everywhere.
///
/// # Errors
/// A file that exists but cannot be read.
pub(crate) fn collect(flags: &Global, environment: &Environment) -> anyhow::Result<Sources> {
    let netrc_path = netrc_path(environment)?;
    let netrc = read_if_there(&netrc_path)?.map(|text| (netrc_path, text));
    Ok(Sources {
        base_url: flags.base_url.clone(),
        entity: flags.entity.clone(),
        project: flags.project.clone(),
        offline: flags.offline,
        global: settings_file(&config_dir(environment)?.join("settings"))?,
        local: settings_file(&local_settings())?,
        netrc,
        environment: environment.clone(),
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
    let home = environment.path(env::HOME).map_or_else(|| etcetera::home_dir().context("no home folder"), Ok)?;
    let (usual, windows) = (home.join(".netrc"), home.join("_netrc"));
    Ok(if !usual.exists() && windows.exists() { windows } else { usual })
}

fn config_dir(environment: &Environment) -> anyhow::Result<PathBuf> {
    match environment.path(env::CONFIG_DIR) {
        Some(path) => Ok(path),
        None => Ok(base_dirs()?.config_dir().join("wandb")),
    }
}

fn base_dirs() -> anyhow::Result<impl etcetera::BaseStrategy> {
    etcetera::choose_base_strategy().context("no home folder to keep files under; set HOME, or name the folders")
}

fn local_settings() -> PathBuf {
    let hidden = Path::new(".wandb");
    if hidden.is_dir() { hidden.join("settings") } else { Path::new("wandb").join("settings") }
}

fn settings_file(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    Ok(read_if_there(path)?.map(|text| parse_settings_file(&text)).unwrap_or_default())
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
