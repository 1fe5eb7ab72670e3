//! Who may ask: the API key of this server and the signatures of its URLs.
//!
//! The key and the signing secret are made from the randomness of the operating system on the first start and kept, for
//! their owner only, in the data folder. Secrets are compared in constant time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

use crate::digest::hex;
use crate::redact::ApiKey;

use super::clock::{Millis, now};
use super::fault::Fault;
use super::token;

/// Bytes of SHA-256's input block, which HMAC pads its key to (RFC 2104).
const BLOCK: usize = 64;

/// Checks API keys and makes and checks signed URLs.
#[derive(Debug)]
pub(super) struct Gate {
    key: ApiKey,
    secret: [u8; 32],
    lifetime: Millis,
}

impl Gate {
    /// Loads key and secret from `data`, making them when missing. A given `key` wins over the kept one and is not kept.
    pub(super) fn open(data: &Path, key: Option<ApiKey>, lifetime: Millis) -> io::Result<Self> {
        let key = match key {
            Some(key) => key,
            None => {
                let text = keep(&data.join("api-key"), || Ok(hex(&random::<20>()?)))?;
                ApiKey::parse(&text).map_err(io::Error::other)?
            }
        };
        let secret = keep(&data.join("url-secret"), || Ok(hex(&random::<32>()?)))?;
        Ok(Self { key, secret: Sha256::digest(secret.as_bytes()).into(), lifetime })
    }

    pub(super) fn key(&self) -> &ApiKey {
        &self.key
    }

    /// Whether this `Authorization` header carries the key, `Basic base64("<anything>:<key>")`, as the SDK sends it with
    /// the user `api`, or an access token of this server, `Bearer <token>`.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, credentials)) = authorization.and_then(|header| header.split_once(' ')) else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return token::is_valid(self, credentials.trim());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(decoded) = STANDARD.decode(credentials.trim()) else { return false };
        let password = decoded.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
        same(password, self.key.expose().as_bytes())
    }

    /// Appends the permission to `method` this `path` for the configured time.
    pub(super) fn sign(&self, method: &str, path: &str) -> String {
        let expires = now().saturating_add(self.lifetime);
        format!("{path}?expires={expires}&signature={}", hex(&self.signature(method, path, expires)))
    }

    /// Checks what [`Gate::sign`] appended. Who may GET may also HEAD.
    pub(super) fn check(&self, method: &str, path: &str, expires: Millis, signature: &str) -> Result<(), Fault> {
        let method = if method == "HEAD" { "GET" } else { method };
        let expected = hex(&self.signature(method, path, expires));
        if same(signature.as_bytes(), expected.as_bytes()) && now() < expires {
            Ok(())
        } else {
            Err(Fault::BadSignature)
        }
    }

    pub(super) fn signature(&self, method: &str, path: &str, expires: Millis) -> [u8; 32] {
        hmac_sha256(&self.secret, format!("{method}\n{path}\n{expires}").as_bytes())
    }
}

/// `N` bytes from the operating system.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The secret in `path`, made on the first call and readable by its owner only.
fn keep(path: &Path, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match File::open(path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            return Ok(text.trim().to_owned());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make()?;
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    Ok(text)
}

/// Equality whose time depends on the lengths only.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    // Hashing first makes the lengths equal and hides where the first difference is.
    let (left, right) = (Sha256::digest(left), Sha256::digest(right));
    left.iter().zip(right.iter()).fold(0, |difference, (l, r)| difference | (l ^ r)) == 0
}

/// HMAC with SHA-256 (RFC 2104) for keys of at most one block.
fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(lifetime: Millis) -> (tempfile::TempDir, Gate) {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::open(folder.path(), None, lifetime).unwrap();
        (folder, gate)
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        // Test case 1 (20-byte key 0x0b) with the key padded by zeros, which HMAC does itself.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex(&hmac_sha256(&key, b"Hi There")), expected);
    }

    #[test]
    fn the_key_is_kept_private_and_admits_only_itself() {
        let (folder, gate) = gate(1000);
        let again = Gate::open(folder.path(), None, 1000).unwrap();
        assert_eq!(gate.key(), again.key());
        let basic = |key: &str| format!("Basic {}", STANDARD.encode(format!("api:{key}")));
        assert!(gate.admits(Some(&basic(gate.key().expose()))));
        assert!(!gate.admits(Some(&basic("0123456789012345678901234567890123456789"))));
        assert!(!gate.admits(Some(&basic(""))));
        assert!(!gate.admits(Some(&format!("Bearer {}", gate.key().expose()))));
        assert!(!gate.admits(None));
        #[cfg(unix)]
        for name in ["api-key", "url-secret"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_signature_holds_for_one_method_path_and_time() {
        let (_folder, gate) = gate(60_000);
        let url = gate.sign("GET", "/storage/blob/ab");
        let (_, query) = url.split_once("?expires=").unwrap();
        let (expires, signature) = query.split_once("&signature=").unwrap();
        let expires: Millis = expires.parse().unwrap();
        assert!(gate.check("GET", "/storage/blob/ab", expires, signature).is_ok());
        assert!(gate.check("HEAD", "/storage/blob/ab", expires, signature).is_ok());
        assert!(gate.check("PUT", "/storage/blob/ab", expires, signature).is_err());
        assert!(gate.check("GET", "/storage/blob/ac", expires, signature).is_err());
        assert!(gate.check("GET", "/storage/blob/ab", expires + 1, signature).is_err());
        let (_folder, gate) = self::gate(-1);
        let url = gate.sign("GET", "/x");
        let expires: Millis = url.split(['=', '&']).nth(1).unwrap().parse().unwrap();
        assert!(gate.check("GET", "/x", expires, url.rsplit('=').next().unwrap()).is_err(), "expired");
    }
}
