//! The server's address: which ones are refused, which names mean the same service, where its user interface is. No I/O.
//!
//! Rules and hosts are the official SDK's (`wandb/sdk/lib/urls.py`, `wandb/sdk/lib/wbauth/host_url.py`,
//! `wandb.util.api_to_app_url`, 0.31).

use anyhow::{Context as _, bail};
use url::Url;

/// Where the hosted service answers, since SDK 0.31.
pub(crate) const DEFAULT_BASE_URL: &str = "https://api.forge.coreweave.com";

/// The hosts of the hosted service: the one with the user interface, and the older name of its API.
const FORGE_HOSTS: [(&str, &str); 2] =
    [("forge.coreweave.com", "api.wandb.ai"), ("qa.forge.coreweave.com", "api.qa.wandb.ai")];
/// Where the API is on the host of the user interface.
const FORGE_API_PATH: &str = "/api/wandb";

/// Checks and normalises an address that the user gave.
pub(crate) fn normalise(text: &str) -> anyhow::Result<Url> {
    // The text may hold user information, so no message repeats more than the host.
    let url = Url::parse(text.trim().trim_end_matches('/')).context("the server address is not a URL")?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).map(str::to_owned) else {
        bail!("the server address must start with http:// or https://");
    };
    if !url.username().is_empty() || url.password().is_some() {
        bail!("the server address holds a user or password; give the API key with `wandb-pca login`");
    }
    if FORGE_HOSTS.iter().any(|(forge, _)| *forge == host) {
        let is_api = url.path().trim_end_matches('/') == FORGE_API_PATH;
        if url.scheme() != "https" || url.port().is_some() || !is_api {
            bail!("`{url}` is not the API of the hosted service: use https://api.{host}");
        }
        return Ok(Url::parse(&format!("https://api.{host}"))?);
    }
    let hosted = host == "wandb.ai" || host.ends_with(".wandb.ai");
    if hosted && !host.contains("api.") {
        bail!("`{url}` is not the API of the hosted service: use {DEFAULT_BASE_URL}");
    }
    if hosted && url.scheme() != "https" {
        bail!("`{url}` would send the key in the clear: use https");
    }
    Ok(url)
}

/// The name under which a host is found in netrc: with its port unless that is the scheme's own.
pub(crate) fn machine(base_url: &Url) -> String {
    let host = base_url.host_str().unwrap_or_default();
    base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The older name of the host, under which its key may be stored.
pub(crate) fn former_machine(base_url: &Url) -> Option<&'static str> {
    forge(base_url).map(|(_, api)| api)
}

/// Whether two addresses are the same server.
pub(crate) fn same(a: &Url, b: &Url) -> bool {
    a.as_str().trim_end_matches('/') == b.as_str().trim_end_matches('/')
}

/// Where a person looks at what is at `base_url`, without a trailing slash.
pub(crate) fn app_url(base_url: &Url) -> String {
    if let Some((forge, _)) = forge(base_url) {
        return format!("https://{forge}/wandb");
    }
    let text = base_url.as_str().trim_end_matches('/');
    if text.contains("://api.wandb.") && !text.contains("://api.wandb.test") {
        return text.replacen("://api.", "://", 1);
    }
    text.replacen("://api.", "://app.", 1)
}

fn forge(base_url: &Url) -> Option<(&'static str, &'static str)> {
    let host = base_url.host_str()?;
    let here = |(forge, api): &(&str, &str)| host == *forge || host == *api || host.strip_prefix("api.") == Some(forge);
    FORGE_HOSTS.into_iter().find(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_their_interface_is_known() {
        let forge = ("https://api.forge.coreweave.com/", "https://forge.coreweave.com/wandb");
        for (text, (base, app)) in [
            ("https://api.forge.coreweave.com", forge),
            ("https://forge.coreweave.com/api/wandb/", forge),
            ("https://api.wandb.ai/", ("https://api.wandb.ai/", forge.1)),
            (
                "https://qa.forge.coreweave.com/api/wandb",
                ("https://api.qa.forge.coreweave.com/", "https://qa.forge.coreweave.com/wandb"),
            ),
            ("https://api.qa.wandb.ai", ("https://api.qa.wandb.ai/", "https://qa.forge.coreweave.com/wandb")),
            ("https://api.wandb.company.com", ("https://api.wandb.company.com/", "https://wandb.company.com")),
            ("http://api.wandb.test", ("http://api.wandb.test/", "http://app.wandb.test")),
            ("http://api.company.com/x/", ("http://api.company.com/x", "http://app.company.com/x")),
            (" http://127.0.0.1:8080// ", ("http://127.0.0.1:8080/", "http://127.0.0.1:8080")),
            ("http://wandb.ai.example.com", ("http://wandb.ai.example.com/", "http://wandb.ai.example.com")),
        ] {
            let url = normalise(text).unwrap();
            assert_eq!((url.as_str(), app_url(&url).as_str()), (base, app), "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_the_api_are_refused() {
        for text in [
            "",
            "host",
            "ftp://host",
            "https://wandb.ai",
            "https://app.wandb.ai",
            "http://api.wandb.ai",
            "https://forge.coreweave.com",
            "https://forge.coreweave.com/wandb",
            "http://forge.coreweave.com/api/wandb",
            "https://forge.coreweave.com:444/api/wandb",
            "https://user:secret@host",
        ] {
            let error = normalise(text).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn machines_are_hosts_with_unusual_ports() {
        let of = |text: &str| machine(&normalise(text).unwrap());
        assert_eq!(of("http://h:8080/x"), "h:8080");
        assert_eq!(of("https://h:443"), "h");
        assert_eq!(of("http://[::1]:80"), "[::1]");
        let former = |text: &str| former_machine(&normalise(text).unwrap());
        assert_eq!(former(DEFAULT_BASE_URL), Some("api.wandb.ai"));
        assert_eq!(former("https://api.qa.forge.coreweave.com"), Some("api.qa.wandb.ai"));
        assert_eq!(former("http://127.0.0.1:8080"), None);
    }
}
