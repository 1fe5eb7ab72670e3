//! The routes: who may ask what, and where the answer comes from.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::json;

use super::fault::Fault;
use super::graphql::{self, Executor};
use super::resolve::Services;
use super::token::Exchange;
use super::{file_stream, transfer};

/// The largest GraphQL or file-stream body. Clients keep the latter near 10 MiB.
const MAX_BODY: usize = 64 << 20;

/// The server, as its handlers see it.
#[derive(Debug)]
pub(super) struct App {
    pub(super) services: Services,
    pub(super) executor: Executor,
    pub(super) exchange: Exchange,
    pub(super) address: SocketAddr,
}

impl App {
    /// What URLs in answers start with: the way this client reached the server.
    fn base(&self, headers: &HeaderMap) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '[' | ']');
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match host.filter(|host| !host.is_empty() && host.chars().all(plain)) {
            Some(host) => format!("http://{host}"),
            None => format!("http://{}", self.address),
        }
    }
}

/// All routes.
pub(super) fn router(app: Arc<App>) -> Router {
    let with_key = Router::new()
        .route("/graphql", post(execute))
        .route("/files/{entity}/{project}/{run}/file_stream", post(stream_lines))
        .route("/files/{entity}/{project}/{run}/{*name}", get(transfer::get_run_file).put(transfer::put_named_run_file))
        .route("/artifactsV2/{*path}", get(transfer::get_artifact_file))
        .route("/artifacts/{*path}", get(transfer::get_artifact_file))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), demand_key));
    let signed = Router::new()
        .route("/storage/blob/{sha256}/{name}", get(transfer::get_blob))
        .route("/storage/upload/{md5}", put(transfer::put_upload))
        .route("/storage/run-file/{id}", put(transfer::put_run_file))
        .route("/storage/part/{upload}/{number}", put(transfer::put_part))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), demand_signature));
    Router::new()
        .merge(with_key)
        .merge(signed)
        .route("/oidc/token", post(exchange_token))
        .route("/healthz", get(|| async { "ok" }))
        // Telemetry of the SDK comes without a key and is of no use here.
        .route("/sdk/otel/{*rest}", post(|| async { StatusCode::OK }))
        .fallback(async |uri: Uri| refusal(&Fault::not_found("route", uri.path())))
        .with_state(app)
}

async fn demand_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if app.services.gate.admits(authorization) {
        return next.run(request).await;
    }
    let mut response = refusal(&Fault::Unauthorized);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wandb\""));
    response
}

async fn demand_signature(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let field = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let expires = field("expires").and_then(|text| text.parse().ok()).unwrap_or(0);
    let signature = field("signature").unwrap_or_default();
    match app.services.gate.check(request.method().as_str(), uri.path(), expires, signature) {
        Ok(()) => next.run(request).await,
        Err(fault) => refusal(&fault),
    }
}

/// `POST /graphql`.
async fn execute(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let base = app.base(&headers);
    let answer = blocking(move || {
        Ok(match serde_json::from_slice(&body) {
            Ok(request) => app.executor.execute(&app.services, &base, &request),
            Err(error) => graphql::refuse(&Fault::invalid(format!("the body is not a GraphQL request: {error}"))),
        })
    })
    .await
    .unwrap_or_else(|fault| graphql::refuse(&fault));
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
}

/// `POST /oidc/token`.
async fn exchange_token(State(app): State<Arc<App>>, form: Bytes) -> Result<Response, Refusal> {
    let answer = blocking(move || app.exchange.answer(&app.services.gate, &form)).await?;
    let (access_token, expires_in) = answer;
    let answer = json!({ "access_token": access_token, "expires_in": expires_in, "token_type": "Bearer" });
    Ok(json_response(StatusCode::OK, &answer))
}

/// `POST /files/{entity}/{project}/{run}/file_stream`.
async fn stream_lines(
    State(app): State<Arc<App>>,
    Path(path): Path<[String; 3]>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let gzip = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value.as_bytes() == b"gzip");
    let answer = blocking(move || file_stream::receive(&app.services.db, &path, &body, gzip)).await?;
    Ok(json_response(StatusCode::OK, &answer))
}

/// Runs work that blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Lost)?
}

/// A fault on its way to the client.
#[derive(Debug)]
pub(super) struct Refusal(Fault);

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refusal(&self.0)
    }
}

fn refusal(fault: &Fault) -> Response {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        tracing::error!(error = fault as &dyn std::error::Error, "a request failed");
    }
    let message = fault.public_message();
    // `errors` is what the official clients show; `error` is what their other paths look for.
    json_response(status, &json!({ "errors": [{ "message": message }], "error": message }))
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(value.to_string())).into_response()
}
