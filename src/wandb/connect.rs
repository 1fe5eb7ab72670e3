//! The HTTP library made to measure: proxies, certificates, timeouts of the connection. Opens no connection itself.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use super::error::WandbError;
use super::options::{CertificateCheck, ClientOptions, Proxy};
use super::trouble::root_cause;

/// Headers for everyone, and the one that is for the proxies only.
pub(super) struct ExtraHeaders {
    pub(super) everywhere: HeaderMap,
    pub(super) proxy: Option<HeaderValue>,
}

/// Checks the extra headers of the options.
pub(super) fn extra_headers(options: &ClientOptions) -> Result<ExtraHeaders, WandbError> {
    let refuse = |reason| WandbError::Option { option: "extra_headers", reason };
    let mut everywhere = HeaderMap::new();
    for (name, value) in &options.extra_headers {
        let parsed = HeaderName::try_from(name).map_err(|_| refuse(format!("name `{name}`")))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| refuse(format!("value of `{name}`")))?;
        value.set_sensitive(true);
        everywhere.append(parsed, value);
    }
    let proxy = everywhere.remove(PROXY_AUTHORIZATION);
    Ok(ExtraHeaders { everywhere, proxy })
}

/// Headers that tell the API who asks (`core/internal/stream/stream_init.go`).
pub(super) fn user_headers(options: &ClientOptions) -> Result<HeaderMap, WandbError> {
    let mut headers = HeaderMap::new();
    for (name, value) in ["x-wandb-username", "x-wandb-user-email"].into_iter().zip(&options.user) {
        let Some(value) = value else { continue };
        let refused = |_| WandbError::Option { option: "user", reason: format!("it does not fit the header {name}") };
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).map_err(refused)?);
    }
    Ok(headers)
}

/// Builds the client. Redirects are followed by hand; nothing of the environment counts.
pub(super) fn build(options: &ClientOptions, for_proxy: Option<&HeaderValue>) -> Result<reqwest::Client, WandbError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(options.connect_timeout)
        .user_agent(&options.user_agent)
        .referer(false)
        .no_proxy();
    type Of = fn(reqwest::Url) -> reqwest::Result<reqwest::Proxy>;
    let schemes: [(&Option<Proxy>, &'static str, Of); 2] = [
        (&options.http_proxy, "http_proxy", reqwest::Proxy::http),
        (&options.https_proxy, "https_proxy", reqwest::Proxy::https),
    ];
    for (proxy, option, of) in schemes {
        let Some(proxy) = proxy else { continue };
        let mut built = of(proxy.url.clone()).map_err(refuse(option))?;
        built = built.no_proxy(proxy.except.as_deref().and_then(reqwest::NoProxy::from_string));
        if let Some(value) = for_proxy {
            built = built.custom_http_auth(value.clone());
        }
        builder = builder.proxy(built);
    }
    if let Some(pem) = &options.root_certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(refuse("root_certificates"))?;
        if certificates.is_empty() {
            let reason = "there is no certificate in them".to_owned();
            return Err(WandbError::Option { option: "root_certificates", reason });
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if options.certificate_check == CertificateCheck::Off {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(refuse("user_agent, proxies or root_certificates"))
}

fn refuse(option: &'static str) -> impl Fn(reqwest::Error) -> WandbError {
    move |error| WandbError::Option { option, reason: root_cause(&error.without_url()) }
}
