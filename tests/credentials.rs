//! How a client proves who it is and how it reaches its server: identity tokens, proxies, certificates, rates, and the
//! command's `login` and `whoami`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub, reason = "a test may end loudly")]

#[path = "support/scripted.rs"]
mod scripted;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use scripted::{Scripted, Tunnel, answer};
use serde_json::Value;
use wandb_pca::redact::ApiKey;
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::wandb::{CertificateCheck, Client, ClientOptions, Credential, Proxy, WandbError};

/// A JWT without claims, which only a server that was told of it trusts.
const IDENTITY: &str = "eyJhbGciOiJub25lIn0.e30.c2lnbmF0dXJl";

fn key() -> ApiKey {
    ApiKey::parse(&"k1".repeat(30)).unwrap()
}

fn options(base: &str) -> ClientOptions {
    ClientOptions::new(base).with_retries(3, Duration::from_millis(1), Duration::from_millis(5))
}

/// A client that exchanges the token in `folder`, and keeps what it gets there.
fn with_identity(base: &str, folder: &Path) -> Client {
    let [token_file, cache_file] = ["identity", "credentials.json"].map(|name| folder.join(name));
    Client::new(options(base).with_credential(Some(Credential::IdentityToken { token_file, cache_file }))).unwrap()
}

async fn trusting(folder: &Path, lifetime: Duration) -> Server {
    fs::write(folder.join("identity"), format!("{IDENTITY}\n")).unwrap();
    let options = ServerOptions::new(folder.join("data"));
    Server::start(options.with_identity_token_file(Some(folder.join("identity")), lifetime)).await.unwrap()
}

fn to_path<'a>(seen: &'a [String], path: &str) -> Vec<&'a String> {
    seen.iter().filter(|request| request.starts_with(&format!("POST {path} "))).collect()
}

#[tokio::test]
async fn an_identity_token_opens_the_server_and_its_access_token_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = trusting(folder.path(), Duration::from_secs(3600)).await;
    let cache = folder.path().join("credentials.json");
    let other =
        r#"{"credentials": {"https://other": {"expires_at": "2026-01-02 03:04:05", "access_token": "theirs"}}}"#;
    fs::write(&cache, other).unwrap();
    let client = with_identity(server.base_url(), folder.path());
    assert_eq!(client.viewer().await.unwrap().username.as_deref(), Some("local"));
    let kept: Value = serde_json::from_slice(&fs::read(&cache).unwrap()).unwrap();
    assert_eq!(kept["credentials"]["https://other"]["access_token"], "theirs");
    assert!(kept["credentials"][server.base_url()]["access_token"].as_str().unwrap().len() > 40);
    // Another process needs no exchange.
    fs::remove_file(folder.path().join("identity")).unwrap();
    with_identity(server.base_url(), folder.path()).viewer().await.unwrap();
    // Without the kept token it does, and the token file is gone.
    fs::remove_file(&cache).unwrap();
    let error = with_identity(server.base_url(), folder.path()).viewer().await.unwrap_err();
    assert!(matches!(error, WandbError::IdentityToken { .. }) && error.is_denied(), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn kept_access_tokens_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let server = trusting(folder.path(), Duration::from_secs(3600)).await;
    with_identity(server.base_url(), folder.path()).viewer().await.unwrap();
    let mode = fs::metadata(folder.path().join("credentials.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_token_near_its_end_is_exchanged_again_and_a_kept_one_is_left_alone() {
    for (seconds, exchanges) in [(299, 2), (3600, 1)] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity"), IDENTITY).unwrap();
        let body = format!(r#"{{"access_token":"access","expires_in":{seconds}}}"#);
        let viewer = || answer(200, scripted::VIEWER);
        let mut answers = vec![answer(200, &body), viewer()];
        answers.extend((exchanges == 2).then(|| answer(200, &body)));
        let server = Scripted::start(answers).await;
        let client = with_identity(&format!("http://{}", server.address), folder.path());
        client.viewer().await.unwrap();
        client.viewer().await.unwrap();
        let seen = server.seen();
        assert_eq!(to_path(&seen, "/oidc/token").len(), exchanges);
        let form = to_path(&seen, "/oidc/token")[0];
        assert!(!form.contains("authorization: "), "{form}");
        assert!(form.ends_with(&format!("jwt-bearer&assertion={IDENTITY}")), "{form}");
        for request in to_path(&seen, "/graphql") {
            assert!(request.contains("authorization: Bearer access\r\n"), "{request}");
        }
    }
}

#[tokio::test]
async fn many_at_once_share_one_exchange() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("identity"), IDENTITY).unwrap();
    let server = Scripted::start([answer(200, r#"{"access_token":"access","expires_in":3600}"#)]).await;
    let client = with_identity(&format!("http://{}", server.address), folder.path());
    let viewers = (0..8).map(|_| client.viewer());
    assert!(futures_util::future::join_all(viewers).await.iter().all(Result::is_ok));
    assert_eq!(to_path(&server.seen(), "/oidc/token").len(), 1);
}

#[tokio::test]
async fn a_refused_identity_is_final_and_passing_trouble_is_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("identity"), IDENTITY).unwrap();
    for status in [400, 401, 403, 404, 408] {
        let server = Scripted::start([answer(status, r#"{"error":"not you"}"#)]).await;
        let client = with_identity(&format!("http://{}", server.address), folder.path());
        let error = client.viewer().await.unwrap_err();
        assert_eq!(server.seen().len(), 1, "{status}: asked once, and the question itself never sent");
        if status != 408 {
            assert!(error.is_denied() && error.to_string().contains("identity"), "{error}");
        }
        assert!(!format!("{error:?}").contains(IDENTITY));
    }
    let passing = [answer(503, ""), answer(429, ""), answer(200, r#"{"access_token":"access","expires_in":3600}"#)];
    let server = Scripted::start(passing).await;
    with_identity(&format!("http://{}", server.address), folder.path()).viewer().await.unwrap();
    assert_eq!(to_path(&server.seen(), "/oidc/token").len(), 3);
}

#[tokio::test]
async fn an_http_proxy_is_used_and_its_password_stays_with_it() {
    let proxy = Scripted::start([]).await;
    let via = Proxy::new(&proxy.address, None).unwrap();
    let headers = vec![("Proxy-Authorization".to_owned(), "Basic c2VjcmV0".to_owned())];
    let base = "http://wandb.invalid";
    let with =
        |via| options(base).with_api_key(Some(key())).with_extra_headers(headers.clone()).with_proxies(via, None);
    Client::new(with(Some(via))).unwrap().viewer().await.unwrap();
    let seen = proxy.seen();
    assert!(seen[0].starts_with("POST http://wandb.invalid/graphql HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("proxy-authorization: Basic c2VjcmV0\r\n"), "{seen:?}");
    // Without a proxy nobody gets the password.
    let server = Scripted::start([]).await;
    let direct = options(&format!("http://{}", server.address)).with_extra_headers(headers);
    Client::new(direct).unwrap().viewer().await.unwrap();
    assert!(!server.seen()[0].contains("c2VjcmV0"));
}

#[tokio::test]
async fn hosts_of_no_proxy_are_reached_directly() {
    let (proxy, server) = (Scripted::start([]).await, Scripted::start([]).await);
    let via = |except: &str| Proxy::new(&proxy.address, Some(except.to_owned())).ok();
    let base = format!("http://{}", server.address);
    for (except, direct) in [("127.0.0.0/8", true), ("example.org", false)] {
        let before = server.seen().len();
        let client = Client::new(options(&base).with_proxies(via(except), None)).unwrap();
        client.viewer().await.unwrap();
        assert_eq!(server.seen().len() - before, usize::from(direct), "{except}");
    }
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_the_proxy_never_sees_the_key() {
    let server = Scripted::with_tls([]).await;
    let tunnel = Tunnel::start(server.address.clone()).await;
    let authority = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/authority.pem")).unwrap();
    let headers = vec![("Proxy-Authorization".to_owned(), "Basic c2VjcmV0".to_owned())];
    let client = options("https://wandb.test").with_api_key(Some(key())).with_extra_headers(headers);
    let client =
        client.with_proxies(None, Proxy::new(&tunnel.address, None).ok()).with_root_certificates(Some(authority));
    Client::new(client).unwrap().viewer().await.unwrap();
    let (near, far) = (tunnel.seen(), server.seen());
    assert!(near[0].starts_with("CONNECT wandb.test:443 "), "{near:?}");
    assert!(near[0].to_lowercase().contains("proxy-authorization: basic c2vjcmv0"), "{near:?}");
    assert!(!near[0].to_lowercase().contains("\r\nauthorization:"), "{near:?}");
    assert!(far[0].contains("authorization: Basic ") && !far[0].contains("c2VjcmV0"), "{far:?}");
}

#[tokio::test]
async fn a_certificate_is_checked_unless_told_otherwise() {
    let server = Scripted::with_tls([]).await;
    let base = format!("https://{}", server.address);
    let error = Client::new(options(&base)).unwrap().viewer().await.unwrap_err();
    assert!(matches!(error, WandbError::Network { .. }), "{error:?}");
    assert!(server.seen().is_empty());
    let unchecked = options(&base).with_certificate_check(CertificateCheck::Off);
    Client::new(unchecked).unwrap().viewer().await.unwrap();
    let none = options(&base).with_root_certificates(Some(b"nothing".to_vec()));
    assert!(matches!(Client::new(none), Err(WandbError::Option { option: "root_certificates", .. })));
}

#[tokio::test]
async fn a_server_that_has_nothing_left_is_given_time() {
    let limits = "RateLimit-Remaining: 0\r\nRateLimit-Reset: 1\r\n".to_owned();
    let server = Scripted::start([(200, limits, scripted::VIEWER.to_owned())]).await;
    let client = Client::new(options(&format!("http://{}", server.address))).unwrap();
    client.viewer().await.unwrap();
    let started = Instant::now();
    client.clone().viewer().await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    client.viewer().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "once the server counts anew nobody waits");
}

#[tokio::test]
async fn one_question_may_not_take_forever_though_bytes_come() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let limited = options(&base).with_attempt_timeouts(Some(Duration::from_millis(50)), None);
    let error = Client::new(limited).unwrap().viewer().await.unwrap_err();
    assert!(matches!(error, WandbError::Timeout { .. }), "{error:?}");
}

/// The command in a home of its own, with nothing of this machine's settings.
fn command(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
    let of_this_machine = |name: &str| name.starts_with("WANDB") || name.to_lowercase().ends_with("_proxy");
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_this_machine(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    for name in ["NETRC", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", home).current_dir(home).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null());
    command
}

async fn run(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command(home, arguments, environment);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn login(home: &Path, base: &str, key: &str) -> Output {
    let (input, mut command) = (home.join("typed"), command(home, &["login", "--key-stdin", "--base-url", base], &[]));
    fs::write(&input, key).unwrap();
    tokio::task::spawn_blocking(move || command.stdin(fs::File::open(input).unwrap()).output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn login_verifies_the_key_and_stores_it_without_harm_to_the_file() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let server = Server::start(ServerOptions::new(home.join("data"))).await.unwrap();
    let key = server.api_key().expose().to_owned();
    let wrong = login(home, server.base_url(), &"0".repeat(40)).await;
    assert_eq!(wrong.status.code(), Some(4), "{}", text(&wrong));
    assert!(!home.join(".netrc").exists());
    fs::create_dir(home.join("dotfiles")).unwrap();
    let others = "machine a.example login me password secret\ndefault login x password no-key\n";
    fs::write(home.join("dotfiles/netrc"), others).unwrap();
    fs::set_permissions(home.join("dotfiles/netrc"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("dotfiles/netrc", home.join(".netrc")).unwrap();
    let done = login(home, server.base_url(), &format!("{key}\n")).await;
    assert!(done.status.success(), "{}", text(&done));
    let netrc = fs::read_to_string(home.join("dotfiles/netrc")).unwrap();
    let machine = server.base_url().strip_prefix("http://").unwrap();
    let entry = format!("machine {machine}\n  login user\n  password {key}\n");
    assert_eq!(netrc, format!("{others}{entry}"));
    assert!(fs::symlink_metadata(home.join(".netrc")).unwrap().is_symlink());
    assert_eq!(fs::metadata(home.join(".netrc")).unwrap().permissions().mode() & 0o777, 0o640);
    let who = run(home, &["whoami", "-vv", "--base-url", server.base_url()], &[]).await;
    assert!(who.status.success() && text(&who).contains(".netrc"), "{}", text(&who));
    for output in [wrong, done, who] {
        assert!(!text(&output).contains(&key), "{}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_says_which_source_won() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let server = trusting(home, Duration::from_secs(3600)).await;
    let key = server.api_key().expose().to_owned();
    let base = ("WANDB_BASE_URL", server.base_url());
    let identity = home.join("identity");
    let token = ("WANDB_IDENTITY_TOKEN_FILE", identity.to_str().unwrap());
    let none = run(home, &["whoami"], &[base]).await;
    assert_eq!(none.status.code(), Some(4), "{}", text(&none));
    let both = run(home, &["whoami"], &[base, token, ("WANDB_API_KEY", &key)]).await;
    assert_eq!(both.status.code(), Some(4), "{}", text(&both));
    for (variables, kind, source) in [
        (vec![base, ("WANDB_API_KEY", key.as_str())], "api-key", "WANDB_API_KEY"),
        (vec![base, token], "identity-token", "WANDB_IDENTITY_TOKEN_FILE"),
    ] {
        let output = run(home, &["whoami", "--json", "-vv"], &variables).await;
        assert!(output.status.success() && !text(&output).contains(&key), "{}", text(&output));
        let who: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&who["credential"], &who["key_source"]), (&kind.into(), &source.into()));
    }
    assert!(home.join(".config/wandb/credentials.json").is_file());
    // A settings file may hold the key of the server it names.
    fs::create_dir_all(home.join("wandb")).unwrap();
    let settings = format!("[default]\nbase_url = {}\napi_key = {key}\n", server.base_url());
    fs::write(home.join("wandb/settings"), settings).unwrap();
    let output = run(home, &["whoami", "--json"], &[]).await;
    assert!(output.status.success(), "{}", text(&output));
    // A broken file is a warning, not the end.
    fs::write(home.join("wandb/settings"), "nonsense").unwrap();
    let output = run(home, &["whoami", "--json"], &[base, ("WANDB_API_KEY", &key)]).await;
    assert!(output.status.success() && text(&output).contains("wandb/settings is not used"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_says_how_the_server_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let server = Scripted::with_tls([]).await;
    let (base, key) = (format!("https://{}", server.address), key());
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/authority.pem");
    let with = |more| vec![("WANDB_BASE_URL", base.as_str()), ("WANDB_API_KEY", key.expose()), more];
    let quick = ("WANDB_X_GRAPHQL_RETRY_MAX", "0");
    let whoami = async |variables| run(home, &["whoami", "--connect-timeout", "5"], &with(variables)).await;
    assert_eq!(whoami(quick).await.status.code(), Some(6));
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
        let output = whoami((name, authority.to_str().unwrap())).await;
        assert!(output.status.success(), "{}", text(&output));
        let output = whoami((name, "/nonexistent.pem")).await;
        assert!(!output.status.success() && text(&output).contains(name), "{}", text(&output));
    }
    let output = whoami(("WANDB_INSECURE_DISABLE_SSL", "true")).await;
    assert!(output.status.success() && text(&output).contains("no certificate is checked"), "{}", text(&output));
    let proxy = Scripted::start([]).await;
    for name in ["WANDB_HTTP_PROXY", "HTTP_PROXY", "http_proxy"] {
        let variables =
            [("WANDB_BASE_URL", "http://wandb.invalid"), ("WANDB_API_KEY", key.expose()), (name, &proxy.address)];
        let output = run(home, &["whoami"], &variables).await;
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
    assert_eq!(proxy.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_ends_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let variables = [("WANDB_API_KEY", key().expose().to_owned())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = run(folder.path(), &["whoami", "--timeout", "0.5", "--base-url", &base], &variables).await;
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(started.elapsed() < Duration::from_secs(10));
}
