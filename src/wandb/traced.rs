//! One line in the log for each HTTP request: method, host and path, status, time. Never a query, since signed addresses
//! have their permission there, nor headers. No I/O of its own.

use std::time::Instant;

use reqwest::{Method, Response};
use url::Url;

use super::trouble::Trouble;

/// Sends a request and tells the log how that went.
pub(super) async fn traced(
    method: &Method,
    url: &Url,
    send: impl Future<Output = Result<Response, Trouble>>,
) -> Result<Response, Trouble> {
    let start = Instant::now();
    let sent = send.await;
    let ms = start.elapsed().as_millis();
    match &sent {
        Ok(response) => tracing::debug!("{method} {} {} {ms} ms", place(url), response.status().as_u16()),
        Err(trouble) => tracing::debug!("{method} {} {ms} ms: {}", place(url), trouble.describe()),
    }
    sent
}

/// Host and path.
fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_may_be_a_permission_is_shown() {
        let url = Url::parse("https://me:word@host:8443/a/b?sig=secret#part").unwrap();
        assert_eq!(place(&url), "host:8443/a/b");
        assert_eq!(place(&Url::parse("https://host").unwrap()), "host/");
    }
}
