//! Which credential is used, of all that are lying about: environment > netrc > `api_key` of a settings file. No I/O.
//!
//! The order is the official SDK's (`wandb/sdk/lib/wbauth/authenticate.py`, 0.31). No message repeats a key.

use std::fmt;
use std::path::PathBuf;

use url::Url;
use wandb_pca::redact::ApiKey;
use wandb_pca::wandb::Credential;

use super::super::env;
use super::super::exit::CredentialError;
use super::super::netrc::{self, Found};
use super::{Sources, base_url};

/// Where a credential came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    /// The key in this environment variable, or the identity token in the file that it names.
    Environment(&'static str),
    /// This netrc file.
    Netrc(PathBuf),
    /// A settings file.
    SettingsFile,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => f.write_str(name),
            Self::Netrc(path) => write!(f, "{}", path.display()),
            Self::SettingsFile => f.write_str("the settings file"),
        }
    }
}

/// A credential and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// What is sent.
    pub(crate) credential: Credential,
    /// Where it was found.
    pub(crate) source: CredentialSource,
}

/// Chooses for this server; notes what was passed over go to `warnings`.
///
/// # Errors
/// [`CredentialError`]: two that exclude each other, or one that has not the form of a key.
pub(super) fn choose(
    sources: &Sources,
    (base, file_key): (&Url, Option<&str>),
    warnings: &mut Vec<String>,
) -> Result<Option<Chosen>, CredentialError> {
    if let Some(chosen) = from_environment(sources)? {
        return Ok(Some(chosen));
    }
    if let Some(chosen) = from_netrc(sources, base, warnings)? {
        return Ok(Some(chosen));
    }
    let of_file = |text| key(text, "`api_key` of the settings file", CredentialSource::SettingsFile);
    file_key.map(of_file).transpose()
}

fn from_environment(sources: &Sources) -> Result<Option<Chosen>, CredentialError> {
    let environment = &sources.environment;
    match (environment.get(env::API_KEY), environment.path(env::IDENTITY_TOKEN_FILE)) {
        (Some(_), Some(_)) => Err(CredentialError(format!(
            "{} and {} are both set; unset the one that is not meant",
            env::API_KEY,
            env::IDENTITY_TOKEN_FILE
        ))),
        (Some(text), None) => key(text, env::API_KEY, CredentialSource::Environment(env::API_KEY)).map(Some),
        (None, Some(token_file)) => {
            let credential = Credential::IdentityToken { token_file, cache_file: sources.credentials_file.clone() };
            Ok(Some(Chosen { credential, source: CredentialSource::Environment(env::IDENTITY_TOKEN_FILE) }))
        }
        (None, None) => Ok(None),
    }
}

fn from_netrc(sources: &Sources, base: &Url, warnings: &mut Vec<String>) -> Result<Option<Chosen>, CredentialError> {
    let Some((path, text)) = &sources.netrc else { return Ok(None) };
    let machine = base_url::machine(base);
    let own = netrc::password(text, &machine);
    // SDK 0.31 renamed the hosted service; a key saved for its former name still opens it.
    let found = match (own, base_url::former_machine(base)) {
        (Ok(Found::Nothing), Some(former)) => netrc::password(text, former),
        (own, _) => own,
    };
    match found {
        Ok(Found::Password(password)) => {
            let from = format!("the password for {machine} in {}", path.display());
            key(&password, &from, CredentialSource::Netrc(path.clone())).map(Some)
        }
        Ok(Found::Nothing) => Ok(None),
        Ok(Found::NoPassword) => {
            warnings.push(format!("{} has an entry for {machine} without a password", path.display()));
            Ok(None)
        }
        Err(error) => {
            warnings.push(format!("{} is not used: {error}", path.display()));
            Ok(None)
        }
    }
}

fn key(text: &str, from: &str, source: CredentialSource) -> Result<Chosen, CredentialError> {
    match ApiKey::parse(text) {
        Ok(key) => Ok(Chosen { credential: Credential::ApiKey(key), source }),
        Err(error) => Err(CredentialError(format!("{from} cannot be used: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::env::Environment;

    const KEY: &str = "0123456789012345678901234567890123456789";
    const OTHER: &str = "abcdefghijabcdefghijabcdefghijabcdefghij";

    fn sources(environment: &[(&str, &str)], netrc: Option<&str>) -> Sources {
        Sources {
            environment: Environment::from_pairs(environment.iter().copied()),
            netrc: netrc.map(|text| (PathBuf::from("n"), text.to_owned())),
            credentials_file: PathBuf::from("c"),
            ..Sources::default()
        }
    }

    #[test]
    fn the_order_is_environment_netrc_settings_file() {
        let api =
            |text: &str, source| Some(Chosen { credential: Credential::ApiKey(ApiKey::parse(text).unwrap()), source });
        let token = |file: &str| {
            let credential = Credential::IdentityToken { token_file: file.into(), cache_file: "c".into() };
            Some(Chosen { credential, source: CredentialSource::Environment(env::IDENTITY_TOKEN_FILE) })
        };
        let entry = format!("machine h:9 password {OTHER}");
        let default = format!("default password {OTHER}");
        let former = format!("machine api.wandb.ai password {OTHER}");
        let long = format!("wandb_v1_{}", "x".repeat(200));
        let (here, hosted) = ("http://h:9", base_url::DEFAULT_BASE_URL);
        let netrc = CredentialSource::Netrc("n".into());
        let variable = CredentialSource::Environment(env::API_KEY);
        for (base, environment, netrc_text, file, expected) in [
            (here, vec![], None, None, None),
            (here, vec![], None, Some(KEY), api(KEY, CredentialSource::SettingsFile)),
            (here, vec![], Some(&entry), Some(KEY), api(OTHER, netrc.clone())),
            (here, vec![], Some(&default), None, api(OTHER, netrc.clone())),
            (here, vec![], Some(&former), None, None),
            (hosted, vec![], Some(&former), None, api(OTHER, netrc.clone())),
            (here, vec![(env::API_KEY, KEY)], Some(&entry), Some(OTHER), api(KEY, variable.clone())),
            (here, vec![(env::API_KEY, long.as_str())], None, None, api(&long, variable)),
            (here, vec![(env::IDENTITY_TOKEN_FILE, "t")], Some(&entry), Some(KEY), token("t")),
        ] {
            let sources = sources(&environment, netrc_text.map(String::as_str));
            let base = Url::parse(base).unwrap();
            let mut warnings = Vec::new();
            assert_eq!(choose(&sources, (&base, file), &mut warnings), Ok(expected), "{environment:?} {netrc_text:?}");
            assert!(warnings.is_empty());
        }
    }

    #[test]
    fn what_excludes_each_other_and_what_is_no_key_is_refused_without_repeating_it() {
        let base = Url::parse("http://h:9").unwrap();
        for (environment, netrc, names) in [
            (vec![(env::API_KEY, KEY), (env::IDENTITY_TOKEN_FILE, "t")], None, env::IDENTITY_TOKEN_FILE),
            (vec![(env::API_KEY, "tooshortsecret")], None, env::API_KEY),
            (vec![], Some("machine h:9 password tooshortsecret"), "h:9"),
        ] {
            let error = choose(&sources(&environment, netrc), (&base, None), &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(names) && !error.contains("tooshortsecret") && !error.contains(KEY), "{error}");
        }
    }

    #[test]
    fn a_netrc_file_that_is_none_or_has_no_key_is_a_warning() {
        let base = Url::parse("http://h:9").unwrap();
        for text in ["nonsense", "machine h:9 login user"] {
            let mut warnings = Vec::new();
            assert_eq!(choose(&sources(&[], Some(text)), (&base, None), &mut warnings), Ok(None));
            assert_eq!(warnings.len(), 1, "{text}");
        }
    }
}
