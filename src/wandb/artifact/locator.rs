//! Everything by which an artifact can be pointed at: a name, an id, an entry of an artifact, each also as an address that
//! begins with `wandb-artifact://`. No I/O.
//!
//! The addresses are the official SDK's: `wandb-artifact://_id/<id>` and `wandb-artifact://[scheme://host/]<name>` of its
//! launch tools, `wandb-artifact://<hex of the decoded id>/<path>` of references in manifests.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::super::error::WandbError;
use super::name::ArtifactName;
use crate::digest::{hex, unhex};

const SCHEME: &str = "wandb-artifact://";
const BY_ID: &str = "_id/";
/// What ids of artifacts decode to begins with this.
const KIND: &str = "Artifact:";

/// The id of an artifact version: standard base64, opaque otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactId(String);

impl ArtifactId {
    /// Takes an id as the server writes it.
    ///
    /// # Errors
    /// [`WandbError::Name`] when it is not base64.
    pub fn parse(text: &str) -> Result<Self, WandbError> {
        let refuse = || WandbError::Name { text: text.to_owned(), reason: "the id is not base64" };
        let decoded = STANDARD.decode(text).map_err(|_| refuse())?;
        if decoded.is_empty() { Err(refuse()) } else { Ok(Self(text.to_owned())) }
    }

    /// Takes an id as references in manifests have it.
    fn from_hex(text: &str) -> Option<Self> {
        let bytes = unhex(text).filter(|bytes| !bytes.is_empty())?;
        Some(Self(STANDARD.encode(bytes)))
    }

    /// As the server writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As references in manifests have it.
    pub fn to_hex(&self) -> String {
        hex(&STANDARD.decode(&self.0).unwrap_or_default())
    }
}

/// Something that points at an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArtifactLocator {
    /// A name.
    Name {
        /// The server, where one is given.
        host: Option<Url>,
        /// The name.
        name: ArtifactName,
    },
    /// The id of a version.
    Id(ArtifactId),
    /// A file of a version.
    Entry {
        /// The version.
        id: ArtifactId,
        /// The file.
        path: String,
    },
}

impl ArtifactLocator {
    /// Whether this is meant as an address, be it a right one or not: it begins with `wandb-artifact://`.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Parses a name or an address.
    ///
    /// # Errors
    /// [`WandbError::Name`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, WandbError> {
        let refuse = |reason| WandbError::Name { text: text.to_owned(), reason };
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Ok(Self::Name { host: None, name: ArtifactName::parse(text)? });
        };
        if let Some(id) = rest.strip_prefix(BY_ID) {
            return ArtifactId::parse(id).map(Self::Id);
        }
        if let Some((scheme, after)) = rest.split_once("://") {
            let (host, name) = after.split_once('/').ok_or_else(|| refuse("no name follows the server"))?;
            let url = Url::parse(&format!("{scheme}://{host}")).ok();
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty());
            let host = Some(url.ok_or_else(|| refuse("its server is no http or https address"))?);
            return Ok(Self::Name { host, name: ArtifactName::parse(name)? });
        }
        // A project may have a name of hexadecimal digits, but hardly one that decodes to this.
        if let Some((digits, path)) = rest.split_once('/')
            && let Some(id) = ArtifactId::from_hex(digits)
            && STANDARD.decode(&id.0).is_ok_and(|bytes| bytes.starts_with(KIND.as_bytes()))
        {
            let path = path.to_owned();
            return if path.is_empty() { Ok(Self::Id(id)) } else { Ok(Self::Entry { id, path }) };
        }
        Ok(Self::Name { host: None, name: ArtifactName::parse(rest)? })
    }
}

impl fmt::Display for ArtifactLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { host: None, name } => write!(f, "{name}"),
            Self::Name { host: Some(host), name } => {
                write!(f, "{SCHEME}{}/{name}", host.as_str().trim_end_matches('/'))
            }
            Self::Id(id) => write!(f, "{SCHEME}{BY_ID}{}", id.0),
            Self::Entry { id, path } => write!(f, "{SCHEME}{}/{path}", id.to_hex()),
        }
    }
}

impl FromStr for ArtifactLocator {
    type Err = WandbError;
    fn from_str(text: &str) -> Result<Self, WandbError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_understood_and_printed_back() {
        let id = || ArtifactId::parse("QXJ0aWZhY3Q6MTA0").unwrap();
        assert_eq!(id().to_hex(), "41727469666163743a313034");
        let name = |text: &str, host: Option<&str>| ArtifactLocator::Name {
            host: host.map(|host| Url::parse(host).unwrap()),
            name: ArtifactName::parse(text).unwrap(),
        };
        for (text, expected) in [
            ("e/p/model:v1", name("e/p/model:v1", None)),
            ("wandb-artifact://e/p/model:v1", name("e/p/model:v1", None)),
            ("wandb-artifact://https://api.wandb.ai/e/p/model:v1", name("e/p/model:v1", Some("https://api.wandb.ai"))),
            ("wandb-artifact://http://127.0.0.1:8080/p/model", name("p/model", Some("http://127.0.0.1:8080"))),
            ("wandb-artifact://_id/QXJ0aWZhY3Q6MTA0", ArtifactLocator::Id(id())),
            (
                "wandb-artifact://41727469666163743a313034/a/b.ckpt",
                ArtifactLocator::Entry { id: id(), path: "a/b.ckpt".to_owned() },
            ),
            ("wandb-artifact://abcd/model:v1", name("abcd/model:v1", None)),
        ] {
            let parsed = ArtifactLocator::parse(text).unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(ArtifactLocator::parse(&parsed.to_string()).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "wandb-artifact://",
            "wandb-artifact://_id/",
            "wandb-artifact://_id/%%",
            "wandb-artifact://https://host",
            "wandb-artifact://ftp://host/e/p/c",
            "wandb-artifact://https://me@host/e/p/c",
            "a/b/c/d",
        ] {
            assert!(matches!(ArtifactLocator::parse(text), Err(WandbError::Name { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_what_parses_the_same(text in "(wandb-artifact://)?(_id/|http://h/|41727469666163743a31/)?[a-zA-Z0-9/:.=-]{0,12}") {
            if let Ok(found) = ArtifactLocator::parse(&text) {
                prop_assert_eq!(ArtifactLocator::parse(&found.to_string()).unwrap(), found);
            }
        }
    }
}
