//! How the server is reached: proxies, certificates, headers, patience. A pure fold of flags, environment and settings
//! files; no I/O.
//!
//! Names and rules are the official SDK's (`wandb/sdk/wandb_settings.py`, `core/internal/api`): its own proxy settings
//! hold for every host, the standard ones spare what `NO_PROXY` names and this machine, as in Go.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use wandb_pca::wandb::{CertificateCheck, Proxy};

use super::super::env::{self, Environment};
use super::Sources;

/// How the server is reached.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// For `http` and for `https` addresses.
    pub(crate) proxies: [Option<Proxy>; 2],
    /// Files of root certificates, each with the variable that names it.
    pub(crate) certificate_files: Vec<(&'static str, PathBuf)>,
    /// Whether certificates are checked.
    pub(crate) certificate_check: CertificateCheck,
    /// Extra headers.
    pub(crate) extra_headers: Vec<(String, String)>,
    /// Who says it is them, in headers: user name and mail address.
    pub(crate) user: [Option<String>; 2],
    /// Patience with the API.
    pub(crate) api: Patience,
    /// Patience with transfers of files.
    pub(crate) objects: Patience,
    /// `--timeout`, `--connect-timeout` and `--idle-timeout`.
    pub(crate) timeouts: Timeouts,
    /// Bytes from which on a file is sent in parts, and of such a part, where somebody says.
    pub(crate) parts: [Option<u64>; 2],
}

/// Limits that were typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Of one operation as a whole.
    pub(crate) total: Option<Duration>,
    /// Of a connection.
    pub(crate) connect: Option<Duration>,
    /// Of the wait for the next byte.
    pub(crate) idle: Option<Duration>,
}

/// How often and how soon a request is tried again. The official SDK waits for minutes before it gives up on a server
/// that is not there; a person at a terminal would rather know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Tries after the first.
    pub(crate) retries: u32,
    /// The first wait.
    pub(crate) shortest: Duration,
    /// The longest wait.
    pub(crate) longest: Duration,
    /// How long one try may take.
    pub(crate) attempt: Option<Duration>,
}

/// Folds what concerns the network.
///
/// # Errors
/// A value that cannot be used, named by its variable and not repeated where it may hold a password.
pub(super) fn resolve(sources: &Sources, file: &HashMap<String, String>) -> anyhow::Result<Network> {
    let environment = &sources.environment;
    let path = |name| environment.path(name).map(|path| (name, path));
    let check = match environment.get(env::INSECURE_DISABLE_SSL).is_some_and(is_true) {
        true => CertificateCheck::Off,
        false => CertificateCheck::On,
    };
    Ok(Network {
        proxies: proxies(environment, file)?,
        certificate_files: [path(env::SSL_CERT_FILE), path(env::REQUESTS_CA_BUNDLE)].into_iter().flatten().collect(),
        certificate_check: check,
        extra_headers: extra_headers(environment)?,
        user: [env::USERNAME, env::USER_EMAIL].map(|name| environment.get(name).map(str::to_owned)),
        api: patience(environment, &env::GRAPHQL, env::HTTP_TIMEOUT)?,
        objects: patience(environment, &env::FILE_TRANSFER, env::FILE_PUSHER_TIMEOUT)?,
        timeouts: sources.timeouts,
        parts: [bytes(environment, env::MULTIPART_THRESHOLD)?, bytes(environment, env::PART_SIZE)?],
    })
}

fn proxies(environment: &Environment, file: &HashMap<String, String>) -> anyhow::Result<[Option<Proxy>; 2]> {
    let legacy: BTreeMap<String, String> = match environment.get(env::PROXIES) {
        None => BTreeMap::new(),
        Some(text) => serde_json::from_str(text)
            .ok()
            .with_context(|| format!("{} is not a JSON object of texts", env::PROXIES))?,
    };
    let either = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name));
    let except = either(["NO_PROXY", "no_proxy"]);
    let one = |scheme: &str, own: &'static str, standard: [&str; 2]| -> anyhow::Result<Option<Proxy>> {
        let key = format!("{scheme}_proxy");
        let of_file = || file.get(&key).filter(|value| !value.is_empty());
        let of_legacy = || legacy.get(scheme);
        let ours =
            environment.get(own).or_else(|| of_file().map(String::as_str)).or_else(|| of_legacy().map(String::as_str));
        let (text, except) = match (ours, either(standard)) {
            (Some(text), _) => (text, None),
            (None, Some(text)) => (text, Some(spared(except))),
            (None, None) => return Ok(None),
        };
        let proxy = Proxy::new(text, except).with_context(|| format!("the proxy for {scheme} (see {own})"))?;
        Ok(Some(proxy))
    };
    Ok([
        one("http", env::WANDB_HTTP_PROXY, ["HTTP_PROXY", "http_proxy"])?,
        one("https", env::WANDB_HTTPS_PROXY, ["HTTPS_PROXY", "https_proxy"])?,
    ])
}

/// What the standard variables spare: `NO_PROXY`, and always this machine.
fn spared(except: Option<&str>) -> String {
    let this_machine = "localhost,127.0.0.0/8,::1";
    except.map_or_else(|| this_machine.to_owned(), |except| format!("{except},{this_machine}"))
}

fn extra_headers(environment: &Environment) -> anyhow::Result<Vec<(String, String)>> {
    let named = [env::EXTRA_HTTP_HEADERS, env::EXTRA_HTTP_HEADERS_ALIAS];
    let Some((name, text)) = named.iter().find_map(|name| Some((name, environment.get(name)?))) else {
        return Ok(Vec::new());
    };
    let headers: BTreeMap<String, String> =
        serde_json::from_str(text).ok().with_context(|| format!("{name} is not a JSON object of texts"))?;
    Ok(headers.into_iter().collect())
}

fn patience(environment: &Environment, names: &env::PatienceNames, attempt: &'static str) -> anyhow::Result<Patience> {
    // As for the official SDK, zero is the same as nothing for waits and limits.
    let number = |name: &'static str| match environment.get(name) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && (0.0..1e6).contains(&number) => Ok(Some(number)),
            _ => bail!("`{text}` in {name} is not a number that can be used"),
        },
    };
    let seconds = |name| Ok::<_, anyhow::Error>(number(name)?.filter(|s| *s > 0.0).map(Duration::from_secs_f64));
    let shortest = seconds(names.shortest)?.unwrap_or(Duration::from_millis(500));
    Ok(Patience {
        retries: number(names.retries)?.unwrap_or(6.0) as u32,
        shortest,
        longest: seconds(names.longest)?.unwrap_or(Duration::from_secs(15)).max(shortest),
        attempt: seconds(names.attempt)?.or(seconds(attempt)?),
    })
}

fn bytes(environment: &Environment, name: &str) -> anyhow::Result<Option<u64>> {
    let number = |text: &str| match text.trim().parse() {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => bail!("`{text}` in {name} is no number of bytes"),
    };
    environment.get(name).map(number).transpose()
}

/// The official SDK's reading of a switch; any other text is no.
fn is_true(text: &str) -> bool {
    ["y", "yes", "t", "true", "on", "1"].contains(&text.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(pairs: &[(&str, &str)], file: &[(&str, &str)]) -> anyhow::Result<Network> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sources = Sources { environment: Environment::from_pairs(pairs.iter().copied()), ..Sources::default() };
        resolve(&sources, &file.iter().map(own).collect())
    }

    #[test]
    fn proxies_come_from_our_own_names_before_the_standard_ones() {
        let proxy = |url: &str, except: Option<&str>| Proxy::new(url, except.map(str::to_owned)).ok();
        let spared = "internal,localhost,127.0.0.0/8,::1";
        let standard = [("HTTP_PROXY", "http://std:1"), ("https_proxy", "std:2"), ("NO_PROXY", "internal")];
        let legacy = (env::PROXIES, r#"{"http":"http://old:1","https":"http://old:2"}"#);
        for (pairs, file, expected) in [
            (vec![], vec![], [None, None]),
            (standard.to_vec(), vec![], [proxy("http://std:1", Some(spared)), proxy("http://std:2", Some(spared))]),
            (
                [vec![legacy], standard.to_vec()].concat(),
                vec![],
                [proxy("http://old:1", None), proxy("http://old:2", None)],
            ),
            (
                [vec![legacy], standard.to_vec()].concat(),
                vec![("http_proxy", "http://file:1")],
                [proxy("http://file:1", None), proxy("http://old:2", None)],
            ),
            (
                [vec![(env::WANDB_HTTP_PROXY, "http://own:1"), legacy], standard.to_vec()].concat(),
                vec![("http_proxy", "http://file:1")],
                [proxy("http://own:1", None), proxy("http://old:2", None)],
            ),
        ] {
            assert_eq!(network(&pairs, &file).unwrap().proxies, expected, "{pairs:?}");
        }
        let error = format!("{:?}", network(&[(env::WANDB_HTTP_PROXY, "ftp://user:secret@h")], &[]).unwrap_err());
        assert!(error.contains(env::WANDB_HTTP_PROXY) && !error.contains("secret"), "{error}");
    }

    #[test]
    fn patience_is_two_sets_of_numbers() {
        let found = network(
            &[
                ("WANDB_X_GRAPHQL_RETRY_MAX", "3"),
                ("WANDB_X_FILE_TRANSFER_RETRY_MAX", "0"),
                ("WANDB_X_FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS", "20"),
                (env::HTTP_TIMEOUT, "19"),
                (env::FILE_PUSHER_TIMEOUT, "0"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!((found.api.retries, found.api.attempt), (3, Some(Duration::from_secs(19))));
        assert_eq!((found.objects.retries, found.objects.attempt), (0, None));
        assert_eq!(found.objects.longest, Duration::from_secs(20));
        for nonsense in ["-1", "soon", "inf"] {
            assert!(network(&[(env::HTTP_TIMEOUT, nonsense)], &[]).is_err());
        }
    }

    #[test]
    fn parts_have_a_number_of_bytes() {
        let parts = |pairs: &[(&str, &str)]| network(pairs, &[]).map(|network| network.parts);
        assert_eq!(parts(&[]).unwrap(), [None, None]);
        let given = [(env::MULTIPART_THRESHOLD, "6000000"), (env::PART_SIZE, "5000000")];
        assert_eq!(parts(&given).unwrap(), [Some(6_000_000), Some(5_000_000)]);
        for bad in ["0", "-1", "5MB", "1.5"] {
            assert!(parts(&[(env::PART_SIZE, bad)]).unwrap_err().to_string().contains(env::PART_SIZE), "{bad}");
        }
    }

    #[test]
    fn headers_certificates_and_the_switch() {
        let pairs = [
            (env::EXTRA_HTTP_HEADERS, r#"{"B":"2","A":"1"}"#),
            (env::INSECURE_DISABLE_SSL, "Yes"),
            (env::SSL_CERT_FILE, "/a.pem"),
            (env::USER_EMAIL, "ada@example.org"),
        ];
        let found = network(&pairs, &[]).unwrap();
        assert_eq!(found.extra_headers, [("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!(found.certificate_check, CertificateCheck::Off);
        assert_eq!(found.certificate_files, [(env::SSL_CERT_FILE, PathBuf::from("/a.pem"))]);
        assert_eq!(found.user, [None, Some("ada@example.org".to_owned())]);
        assert_eq!(network(&[(env::INSECURE_DISABLE_SSL, "2")], &[]).unwrap().certificate_check, CertificateCheck::On);
        let error = network(&[(env::EXTRA_HTTP_HEADERS_ALIAS, r#"{"Authorization":["secret"]}"#)], &[]).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
    }
}
