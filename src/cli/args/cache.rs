//! What `wandb-pca cache …` takes, as clap reads it.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::duration;

/// `cache …`
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Say where the store is and how much is in it
    Info,
    /// List the objects of the store, the one used last first
    Ls(CacheLs),
    /// Hash every object again
    Verify(CacheVerify),
    /// Remove what is not needed; what a lock pins stays
    Prune(CachePrune),
}

/// `cache ls`
#[derive(Debug, Args)]
pub(crate) struct CacheLs {
    /// Only objects of which an artifact's name and path, or the digest, match one of these globs
    #[arg(value_name = "GLOB")]
    pub(crate) globs: Vec<String>,
    /// Only objects that a lock pins
    #[arg(long)]
    pub(crate) pinned: bool,
    /// Only objects whose bytes are not known to hash to their digest; what references brought has none
    #[arg(long)]
    pub(crate) unverified: bool,
    /// Only objects that no recorded artifact names
    #[arg(long)]
    pub(crate) unnamed: bool,
}

/// `cache verify`
#[derive(Debug, Args)]
pub(crate) struct CacheVerify {
    /// Remove objects whose bytes are wrong
    #[arg(long)]
    pub(crate) remove: bool,
}

/// `cache prune`
#[derive(Debug, Args)]
pub(crate) struct CachePrune {
    /// Keep at most this much, such as 50GB or 500MiB; what was not used for longest goes first
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Remove what was not used for this long, such as 30d, 12h or 2w
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    pub(crate) older_than: Option<Duration>,
    /// Remove downloads that were not finished
    #[arg(long)]
    pub(crate) partials: bool,
    /// Print what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A number with one of these units behind it.
fn scaled(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let refuse = || format!("write a number with a unit, such as {example}");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).ok_or_else(refuse)?;
    let value = number * *factor as f64;
    if value.is_finite() && value <= 2f64.powi(63) { Ok(value as u64) } else { Err(refuse()) }
}

/// Bytes: powers of 1000, and of 1024 with an `i`.
fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    scaled(text, &units, "50GB or 500MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("50GB"), Ok(50_000_000_000));
        assert_eq!([size("1.5 KiB"), size("7"), size("0")], [Ok(1536), Ok(7), Ok(0)]);
        for bad in ["", "GB", "5 parsecs", "-1GB", "1e9", "99999999999999TB", "1.2.3GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
