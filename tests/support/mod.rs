//! A W&B server of a few hundred lines over plain TCP that misbehaves on command, and remembers what it was asked.
//!
//! It knows the artifacts it is given and answers just the operations that a download needs. Each request for an object or
//! for GraphQL takes the next fault from a queue; when the queue is empty it behaves.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wandb_pca::digest::{Algorithm, Digest};
use wandb_pca::redact::ApiKey;
use wandb_pca::store::Store;
use wandb_pca::wandb::{Artifact, ArtifactName, Client, ClientOptions, Manifest, Wanted};

pub const ENTITY: &str = "team";
pub const PROJECT: &str = "vectors";

/// What goes wrong with one request.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Fine,
    /// The connection breaks after this many bytes of the body.
    ResetAt(usize),
    /// Nothing comes after this many bytes of the body.
    StallAt(usize),
    /// The body ends properly after this many bytes, and says so in its length.
    ShortTo(usize),
    /// This many bytes too many.
    LongBy(usize),
    /// The byte at this place is another one.
    FlipAt(usize),
    /// A status with headers and no useful body.
    Status(u16, &'static str),
    /// A redirect to this address.
    Redirect(String),
    /// The object is another version from here on.
    NewVersion,
    /// The same, and the server does not honour `If-Range`.
    MixedVersion,
    /// Ranges are ignored.
    NoRange,
    /// The body is compressed although nobody asked.
    Gzip,
    /// The part asked for, compressed.
    GzipPart,
    /// The part asked for, cut after this many bytes, and its length says so.
    ShortPart(usize),
    /// The part asked for and this many bytes more.
    LongPart(usize),
    /// `Content-Range` names another part than asked for.
    OtherPart,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub operation: Option<String>,
}

#[derive(Default)]
struct State {
    /// Files by artifact.
    artifacts: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Reference entries by artifact: path, and the entry as the manifest has it.
    references: BTreeMap<String, Vec<(String, Value)>>,
    /// Manifest text that differs from the true one.
    manifests: BTreeMap<String, String>,
    object_faults: VecDeque<Fault>,
    api_faults: VecDeque<Fault>,
    seen: Vec<Seen>,
    version: u32,
    /// Pause after each piece of an object.
    pace: Option<Duration>,
    signature: u32,
    no_batches: bool,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Misbehaving {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Misbehaving {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { base, state: Arc::default() };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(socket));
            }
        });
        server
    }

    pub fn add(&self, artifact: &str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        self.state.lock().unwrap().artifacts.insert(artifact.to_owned(), files);
    }

    /// Gives an artifact an entry that is a reference.
    #[allow(dead_code, reason = "not every test refers")]
    pub fn refer(&self, artifact: &str, path: &str, uri: &str, (digest, size): (&str, usize)) {
        let entry = json!({ "digest": digest, "ref": uri, "size": size, "extra": { "etag": digest } });
        self.refer_as(artifact, path, entry);
    }

    /// The same with the entry as the manifest has it.
    #[allow(dead_code, reason = "not every test refers")]
    pub fn refer_as(&self, artifact: &str, path: &str, entry: Value) {
        let mut state = self.state.lock().unwrap();
        state.artifacts.entry(artifact.to_owned()).or_default();
        state.references.entry(artifact.to_owned()).or_default().push((path.to_owned(), entry));
    }

    /// The reference to an entry of an artifact.
    #[allow(dead_code, reason = "not every test refers")]
    pub fn uri_of(artifact: &str, path: &str) -> String {
        let hex: String = artifact.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("wandb-artifact://{hex}/{path}")
    }

    /// Serves this text as the manifest, under the digest of the true one.
    pub fn forge_manifest(&self, artifact: &str, text: &str) {
        self.state.lock().unwrap().manifests.insert(artifact.to_owned(), text.to_owned());
    }

    pub fn objects_fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().object_faults.extend(faults);
    }

    /// Sends objects slowly: a pause after each 32 KiB.
    pub fn slow_down(&self, pause: Duration) {
        self.state.lock().unwrap().pace = Some(pause);
    }

    pub fn no_more_faults(&self) {
        self.state.lock().unwrap().object_faults.clear();
    }

    /// Refuses questions about several names.
    pub fn refuse_batches(&self) {
        self.state.lock().unwrap().no_batches = true;
    }

    pub fn api_fails(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().api_faults.extend(faults);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn forget_seen(&self) {
        self.state.lock().unwrap().seen.clear();
    }

    /// Requests for bytes of objects.
    pub fn object_requests(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path.starts_with("/object/")).collect()
    }

    pub fn operations(&self, name: &str) -> usize {
        self.seen().iter().filter(|seen| seen.operation.as_deref() == Some(name)).count()
    }

    async fn serve(self, mut socket: TcpStream) {
        let Some((mut seen, body)) = read_request(&mut socket).await else { return };
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        seen.operation = request["operationName"].as_str().map(str::to_owned);
        self.state.lock().unwrap().seen.push(seen.clone());
        if seen.path == "/graphql" {
            let fault = self.state.lock().unwrap().api_faults.pop_front().unwrap_or(Fault::Fine);
            let answer = self.graphql(&request).to_string().into_bytes();
            respond(&mut socket, &seen, Reply { body: answer, fault, ..Reply::default() }).await;
        } else if let Some(rest) = seen.path.strip_prefix("/manifest/") {
            let body = self.manifest(rest).into_bytes();
            respond(&mut socket, &seen, Reply { body, ..Reply::default() }).await;
        } else if let Some(rest) = seen.path.strip_prefix("/object/") {
            self.object(&mut socket, &seen, rest).await;
        } else {
            let fault = Fault::Status(404, "");
            respond(&mut socket, &seen, Reply { fault, ..Reply::default() }).await;
        }
    }

    async fn object(&self, socket: &mut TcpStream, seen: &Seen, rest: &str) {
        let (name, _) = rest.split_once('?').unwrap_or((rest, ""));
        let (artifact, path) = name.split_once('/').unwrap_or((name, ""));
        let (body, fault, version, pace) = {
            let mut state = self.state.lock().unwrap();
            let body = state.artifacts.get(artifact).and_then(|files| files.get(path)).cloned();
            let fault = state.object_faults.pop_front().unwrap_or(Fault::Fine);
            if matches!(fault, Fault::NewVersion | Fault::MixedVersion) {
                state.version += 1;
            }
            (body, fault, state.version, state.pace)
        };
        let fault = if body.is_none() { Fault::Status(404, "") } else { fault };
        let etag = match (path, &body) {
            // As S3 does for objects that were sent in one part.
            ("hashed.bin", Some(body)) => Some(format!("\"{}\"", Digest::of(Algorithm::Md5, body).to_hex())),
            _ => Some(format!("\"{path}-{version}\"")),
        };
        respond(socket, seen, Reply { body: body.unwrap_or_default(), fault, etag, pace }).await;
    }

    fn entries(&self, artifact: &str) -> BTreeMap<String, Value> {
        let state = self.state.lock().unwrap();
        let entry = |(path, bytes): (&String, &Vec<u8>)| {
            let digest = Digest::of(Algorithm::Md5, bytes).to_base64();
            (path.clone(), json!({ "digest": digest, "size": bytes.len() }))
        };
        let files = state.artifacts.get(artifact).into_iter().flatten().map(entry);
        files.chain(state.references.get(artifact).into_iter().flatten().cloned()).collect()
    }

    fn true_manifest(&self, artifact: &str) -> String {
        let contents = self.entries(artifact);
        let policy = "wandb-storage-policy-v1";
        json!({
            "version": 1, "storagePolicy": policy, "storagePolicyConfig": { "storageLayout": "V2" },
            "contents": contents,
        })
        .to_string()
    }

    fn manifest(&self, artifact: &str) -> String {
        let forged = self.state.lock().unwrap().manifests.get(artifact).cloned();
        forged.unwrap_or_else(|| self.true_manifest(artifact))
    }

    fn digest(&self, artifact: &str) -> String {
        let mut text = "wandb-artifact-manifest-v1\n".to_owned();
        for (path, entry) in self.entries(artifact) {
            text += &format!("{path}:{}\n", entry["digest"].as_str().unwrap());
        }
        Digest::of(Algorithm::Md5, text.as_bytes()).to_hex()
    }

    fn graphql(&self, request: &Value) -> Value {
        let variables = &request["variables"];
        match request["operationName"].as_str().unwrap() {
            "ArtifactMembershipByName" => {
                let name = variables["name"].as_str().unwrap().split(':').next().unwrap();
                let known = self.state.lock().unwrap().artifacts.contains_key(name);
                let membership = if known { self.membership(name) } else { Value::Null };
                json!({ "data": { "project": { "artifactCollectionMembership": membership } } })
            }
            "ArtifactByID" => {
                let id = base64::engine::general_purpose::STANDARD.decode(variables["id"].as_str().unwrap()).unwrap();
                let name = String::from_utf8(id).unwrap();
                let known = self.state.lock().unwrap().artifacts.contains_key(&name);
                let artifact = if known { self.membership(&name)["artifact"].clone() } else { Value::Null };
                json!({ "data": { "artifact": artifact } })
            }
            "ArtifactMemberships" if self.state.lock().unwrap().no_batches => {
                json!({ "data": null, "errors": [{ "message": "query is too complex" }] })
            }
            "ArtifactMemberships" => {
                // One project is all there is, so that every name is asked of the first one.
                let names = variables.as_object().unwrap().iter().filter(|(key, _)| key.starts_with('n'));
                let member = |(key, name): (&String, &Value)| {
                    let name = name.as_str().unwrap().split(':').next().unwrap();
                    let known = self.state.lock().unwrap().artifacts.contains_key(name);
                    (key.replace('n', "m"), if known { self.membership(name) } else { Value::Null })
                };
                json!({ "data": { "p0": names.map(member).collect::<serde_json::Map<_, _>>() } })
            }
            "FetchArtifactManifest" => {
                let url = format!("{}/manifest/{}", self.base, variables["id"].as_str().unwrap());
                json!({ "data": { "artifact": { "currentManifest": { "file": { "directUrl": url } } } } })
            }
            "ArtifactMembershipFiles" => {
                let artifact = variables["collection"].as_str().unwrap();
                let signature = {
                    let mut state = self.state.lock().unwrap();
                    state.signature += 1;
                    state.signature
                };
                let edge = |name: &Value| {
                    let name = name.as_str().unwrap();
                    let url = format!("{}/object/{artifact}/{name}?sig=secret{signature}", self.base);
                    json!({ "node": { "name": name, "directUrl": url } })
                };
                let edges: Vec<Value> = variables["names"].as_array().unwrap().iter().map(edge).collect();
                let membership = json!({ "artifactMembership": { "files": { "edges": edges } } });
                json!({ "data": { "project": { "artifactCollection": membership } } })
            }
            "FetchOrgInfoFromEntity" => {
                let name = variables["entity"].as_str().unwrap();
                let org = json!({ "name": "Team Inc", "orgEntity": { "name": "team-org" } });
                let org = if name == ENTITY { org } else { Value::Null };
                json!({ "data": { "entity": { "organization": org, "user": null } } })
            }
            "LinkArtifact" => json!({ "data": { "linkArtifact": { "versionIndex": 0 } } }),
            "Viewer" => json!({ "data": { "viewer": { "id": "u", "entity": ENTITY, "username": "ada",
                "email": "", "teams": { "edges": [{ "node": { "name": ENTITY } }] } } } }),
            other => json!({ "data": null, "errors": [{ "message": format!("unknown operation {other}") }] }),
        }
    }

    fn membership(&self, name: &str) -> Value {
        let project = json!({ "name": PROJECT, "entity": { "name": ENTITY } });
        let size: usize = self.state.lock().unwrap().artifacts[name].values().map(Vec::len).sum();
        json!({
            "id": "m", "versionIndex": 3,
            "aliases": [{ "id": "a", "alias": "latest" }, { "id": "b", "alias": "v3" }],
            "artifactCollection": { "__typename": "ArtifactSequence", "name": name, "project": project },
            "artifact": {
                "id": name, "artifactSequence": { "name": name, "project": project }, "versionIndex": 3,
                "artifactType": { "name": "checkpoint" }, "description": null, "metadata": "{\"seed\":1}",
                "ttlDurationSeconds": -2, "tags": [], "state": "COMMITTED", "size": size,
                "digest": self.digest(name), "fileCount": 1, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": null,
            },
        })
    }
}

#[derive(Default)]
struct Reply {
    body: Vec<u8>,
    fault: Fault,
    etag: Option<String>,
    /// A pause after each piece.
    pace: Option<Duration>,
}

async fn read_request(socket: &mut TcpStream) -> Option<(Seen, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let path = first.nth(1)?.to_owned();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&buffer[..read]);
    }
    Some((Seen { path, headers, operation: None }, body))
}

/// The range asked for, as first byte and byte behind the last.
fn range(seen: &Seen, etag: Option<&str>, len: usize) -> Option<(usize, usize)> {
    if etag.is_some() && seen.headers.get("if-range").is_some_and(|version| Some(version.as_str()) != etag) {
        return None;
    }
    let (from, until) = seen.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
    let until = if until.is_empty() { len } else { until.parse::<usize>().ok()? + 1 };
    Some((from.parse().ok()?, until.min(len)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn respond(socket: &mut TcpStream, seen: &Seen, reply: Reply) {
    let Reply { mut body, fault, etag, pace } = reply;
    let whole = body.len();
    let mut headers = etag.as_deref().map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
    let mut status = 200;
    match &fault {
        Fault::Status(other, more) => {
            (status, body) = (*other, b"{\"error\":\"as told\"}".to_vec());
            headers += more;
        }
        Fault::Redirect(to) => {
            (status, body) = (302, Vec::new());
            headers += &format!("Location: {to}\r\n");
        }
        Fault::ShortTo(len) => body.truncate(*len),
        Fault::LongBy(more) => body.extend(vec![0; *more]),
        Fault::FlipAt(at) => body[*at % whole] ^= 1,
        Fault::Gzip => {
            body = gzip(&body);
            headers += "Content-Encoding: gzip\r\n";
        }
        _ => {}
    }
    let ranged = matches!(
        fault,
        Fault::Fine
            | Fault::ResetAt(_)
            | Fault::StallAt(_)
            | Fault::OtherPart
            | Fault::NewVersion
            | Fault::MixedVersion
            | Fault::FlipAt(_)
            | Fault::GzipPart
            | Fault::ShortPart(_)
            | Fault::LongPart(_)
    );
    let honoured = etag.as_deref().filter(|_| !matches!(fault, Fault::MixedVersion));
    if let Some((from, until)) = range(seen, honoured, whole).filter(|_| ranged) {
        let (shown, last) = if matches!(fault, Fault::OtherPart) { (from + 1, until) } else { (from, until - 1) };
        headers += &format!("Content-Range: bytes {shown}-{last}/{whole}\r\n");
        (status, body) = (206, body[from..until].to_vec());
        match &fault {
            Fault::ShortPart(len) => body.truncate(*len),
            Fault::LongPart(more) => body.extend(vec![0; *more]),
            Fault::GzipPart => {
                body = gzip(&body);
                headers += "Content-Encoding: gzip\r\n";
            }
            _ => {}
        }
    }
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    let cut = match fault {
        Fault::ResetAt(cut) | Fault::StallAt(cut) => cut.min(body.len()),
        _ => body.len(),
    };
    let sent = async {
        socket.write_all(head.as_bytes()).await?;
        for piece in body[..cut].chunks(pace.map_or(usize::MAX, |_| 32 << 10)) {
            socket.write_all(piece).await?;
            if let Some(pause) = pace {
                tokio::time::sleep(pause).await;
            }
        }
        socket.flush().await
    };
    if sent.await.is_err() {
        return;
    }
    match fault {
        // What was sent arrives first; then the connection ends before its promised length.
        Fault::ResetAt(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        Fault::StallAt(_) => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    let _ = socket.shutdown().await;
}

pub fn options(base: &str) -> ClientOptions {
    ClientOptions::new(base)
        .with_api_key(Some(ApiKey::parse(&"k".repeat(40)).unwrap()))
        // Long enough that a busy machine is not taken for a silent server.
        .with_timeouts(Duration::from_secs(10), Duration::from_secs(10))
        .with_retries(6, Duration::from_millis(5), Duration::from_millis(40))
}

/// The same for tests in which the server falls silent, once or twice: each time costs this second.
#[allow(dead_code, reason = "not every test meets silence")]
pub fn hasty(base: &str) -> ClientOptions {
    options(base).with_timeouts(Duration::from_secs(10), Duration::from_secs(1))
}

pub fn client(base: &str) -> Client {
    Client::new(options(base)).unwrap()
}

pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("artifacts"), wandb_pca::progress::Progress::silent());
    (folder, store)
}

/// Bytes without a short period.
pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9u32;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x >> 8) as u8
    };
    (0..len).map(step).collect()
}

pub async fn resolve(client: &Client, name: &str) -> (Artifact, Manifest) {
    let name = ArtifactName::parse(name).unwrap().with_defaults(Some(ENTITY), Some(PROJECT)).unwrap();
    let artifact = client.artifact(&name).await.unwrap();
    let manifest = client.manifest(&artifact).await.unwrap();
    (artifact, manifest)
}

pub async fn wanted(client: &Client, name: &str) -> Wanted {
    let (artifact, manifest) = resolve(client, name).await;
    Wanted::all(artifact, manifest)
}
