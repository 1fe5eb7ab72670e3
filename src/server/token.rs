//! Access tokens: an identity token (a JWT of another service) that the owner of this server trusts is exchanged for a
//! bearer token of limited life. `POST /oidc/token`, as the official client asks it (`core/internal/api/credentials.go`).
//!
//! Which identity token is trusted stands in a file that is read at each exchange, so that it can be renewed. Access
//! tokens are signed by this server and not kept: who holds one that is not over is let in.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::digest::hex;

use super::auth::{Gate, random, same};
use super::clock::{Millis, now};
use super::fault::Fault;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What is signed for an access token, in the place of a method.
const PURPOSE: &str = "BEARER";

/// Whose identity token is taken, and how long what they get holds.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) trusted: Option<PathBuf>,
    pub(super) lifetime: Duration,
}

/// The claims that we look at.
#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970 at which the token is over.
    exp: Option<f64>,
}

impl Exchange {
    /// Answers the form of an exchange with an access token and the seconds that it holds.
    pub(super) fn answer(&self, gate: &Gate, form: &Bytes) -> Result<(String, u64), Fault> {
        let mut grant = None;
        let mut assertion = None;
        for (name, value) in url::form_urlencoded::parse(form) {
            match &*name {
                "grant_type" => grant = Some(value),
                "assertion" => assertion = Some(value),
                _ => {}
            }
        }
        if grant.as_deref() != Some(GRANT) {
            return Err(Fault::invalid(format!("the grant_type is not {GRANT}")));
        }
        let assertion = assertion.filter(|text| !text.is_empty()).ok_or(Fault::BadIdentity("there is none"))?;
        let path = self.trusted.as_ref().ok_or(Fault::BadIdentity("this server trusts none"))?;
        let trusted = fs::read_to_string(path).map_err(Fault::io("read the trusted identity token", path))?;
        if !same(assertion.as_bytes(), trusted.trim().as_bytes()) {
            return Err(Fault::BadIdentity("it is not the one that this server trusts"));
        }
        if expiry(&assertion)?.is_some_and(|expiry| expiry <= now()) {
            return Err(Fault::BadIdentity("its time is over"));
        }
        let lifetime = Millis::try_from(self.lifetime.as_millis()).unwrap_or(Millis::MAX);
        let expires = now().saturating_add(lifetime);
        let nonce = hex(&random::<16>().map_err(|_| Fault::Lost)?);
        let signature = hex(&gate.signature(PURPOSE, &nonce, expires));
        Ok((format!("{nonce}.{expires}.{signature}"), self.lifetime.as_secs()))
    }
}

/// Whether [`Exchange::answer`] gave out this token and its time is not over.
pub(super) fn is_valid(gate: &Gate, token: &str) -> bool {
    let mut parts = token.splitn(3, '.');
    let (Some(nonce), Some(expires), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(expires) = expires.parse::<Millis>() else { return false };
    let expected = hex(&gate.signature(PURPOSE, nonce, expires));
    same(signature.as_bytes(), expected.as_bytes()) && now() < expires
}

/// When a JWT is over, where it says so.
fn expiry(token: &str) -> Result<Option<Millis>, Fault> {
    let no_token = || Fault::BadIdentity("it is not a JSON web token");
    let parts: Vec<&str> = token.split('.').collect();
    let [_, claims, _] = parts.as_slice() else { return Err(no_token()) };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| no_token())?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| no_token())?;
    Ok(claims.exp.map(|seconds| (seconds * 1000.0) as Millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn form(token: &str) -> Bytes {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", GRANT).append_pair("assertion", token).finish().into()
    }

    #[test]
    fn the_trusted_token_and_no_other_is_exchanged() {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::open(folder.path(), None, 1000).unwrap();
        let path = folder.path().join("identity");
        let exchange = Exchange { trusted: Some(path.clone()), lifetime: Duration::from_secs(60) };
        fs::write(&path, format!("{}\n", jwt("{}"))).unwrap();
        let (token, seconds) = exchange.answer(&gate, &form(&jwt("{}"))).unwrap();
        assert_eq!(seconds, 60);
        assert!(is_valid(&gate, &token));
        assert_ne!(token, exchange.answer(&gate, &form(&jwt("{}"))).unwrap().0);
        for other in ["", "a.b.c", &jwt("{\"a\":1}")] {
            assert!(matches!(exchange.answer(&gate, &form(other)), Err(Fault::BadIdentity(_))), "{other}");
        }
        assert!(matches!(exchange.answer(&gate, &Bytes::from_static(b"grant_type=password")), Err(Fault::Invalid(_))));
        for over in ["{\"exp\":1}", "no json"] {
            fs::write(&path, jwt(over)).unwrap();
            assert!(matches!(exchange.answer(&gate, &form(&jwt(over))), Err(Fault::BadIdentity(_))), "{over}");
        }
    }

    #[test]
    fn an_access_token_cannot_be_made_longer_or_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::open(folder.path(), None, 1000).unwrap();
        let path = folder.path().join("identity");
        fs::write(&path, jwt("{}")).unwrap();
        let with = |lifetime| Exchange { trusted: Some(path.clone()), lifetime };
        let (token, _) = with(Duration::from_secs(60)).answer(&gate, &form(&jwt("{}"))).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let later = format!("{}.{}.{}", parts[0], parts[1].parse::<Millis>().unwrap() + 1, parts[2]);
        for made_up in ["", "a.b.c", "..", &later, &format!("{token}0")] {
            assert!(!is_valid(&gate, made_up), "{made_up}");
        }
        let (over, _) = with(Duration::ZERO).answer(&gate, &form(&jwt("{}"))).unwrap();
        assert!(!is_valid(&gate, &over));
    }
}
