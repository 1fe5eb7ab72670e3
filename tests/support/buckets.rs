//! A server of a few buckets that speaks as much of S3, of Google Cloud Storage (XML and JSON) and of Azure Blob Storage
//! as references need, and remembers what it was asked. Listings come two objects a page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wandb_pca::digest::{Algorithm, Digest};

const PAGE: usize = 2;
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// An object; its ETag is the MD5 of its bytes, as S3 gives it to what is sent in one part.
#[derive(Clone, Default)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// In buckets that keep versions.
    pub version: Option<&'static str>,
    /// Further headers of answers about it.
    pub headers: &'static str,
}

impl Object {
    pub fn tag(&self) -> String {
        Digest::of(Algorithm::Md5, &self.bytes).to_hex()
    }
}

impl From<&[u8]> for Object {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ..Self::default() }
    }
}

/// A request as it came: method, path with query, and headers.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    /// By key; newest version last.
    objects: BTreeMap<String, Vec<Object>>,
    /// Statuses for the next requests.
    fail: VecDeque<u16>,
    seen: Vec<Seen>,
}

/// The server; all its buckets hold the same. It ends with the test's runtime.
#[derive(Clone)]
pub struct Buckets {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Buckets {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let buckets = Self { base, state: Arc::default() };
        let own = buckets.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(socket));
            }
        });
        buckets
    }

    /// Adds an object, or a newer version of one.
    pub fn add(&self, key: &str, object: impl Into<Object>) {
        self.state.lock().unwrap().objects.entry(key.to_owned()).or_default().push(object.into());
    }

    pub fn remove(&self, key: &str) {
        self.state.lock().unwrap().objects.remove(key);
    }

    pub fn fail(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state.lock().unwrap().fail.extend(statuses);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    async fn serve(self, mut socket: TcpStream) {
        let Some(seen) = read_head(&mut socket).await else { return };
        let fail = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(seen.clone());
            state.fail.pop_front()
        };
        let (status, headers, body) = match fail {
            Some(status) => (status, String::new(), Vec::new()),
            None => self.answer(&seen),
        };
        let mut answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len())
                .into_bytes();
        if seen.method != "HEAD" {
            answer.extend(body);
        }
        let _ = socket.write_all(&answer).await;
        let _ = socket.shutdown().await;
    }

    fn answer(&self, seen: &Seen) -> (u16, String, Vec<u8>) {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let parts: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8().unwrap().into_owned())
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["storage", "v1", "b", _, "o"] => self.google_page(&query),
            ["storage", "v1", "b", _, "o", key] => match self.find(key, query.get("generation")) {
                Some(object) => (200, String::new(), google(key, &object).to_string().into_bytes()),
                None => (404, String::new(), Vec::new()),
            },
            [_] if query.contains_key("list-type") => self.s3_page(&query),
            [_] if query.contains_key("comp") => self.azure_page(&query),
            [_, key @ ..] => {
                let version = ["versionId", "versionid", "generation"].iter().find_map(|name| query.get(*name));
                match self.find(&key.join("/"), version) {
                    Some(object) => (200, object_headers(&object), object.bytes),
                    None => (404, String::new(), Vec::new()),
                }
            }
            _ => (400, String::new(), Vec::new()),
        }
    }

    fn find(&self, key: &str, version: Option<&String>) -> Option<Object> {
        let state = self.state.lock().unwrap();
        let versions = state.objects.get(key)?;
        match version {
            Some(version) => versions.iter().find(|object| object.version == Some(version)).cloned(),
            None => versions.last().cloned(),
        }
    }

    /// The next objects below a prefix, and where to go on.
    fn page(&self, prefix: Option<&String>, token: Option<&String>) -> (Vec<(String, Object)>, Option<String>) {
        let (prefix, from) = (prefix.map_or("", String::as_str), token.map_or("", String::as_str));
        let state = self.state.lock().unwrap();
        let below = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() >= from);
        let mut found: Vec<_> =
            below.map(|(key, versions)| (key.clone(), versions.last().unwrap().clone())).take(PAGE + 1).collect();
        let next = (found.len() > PAGE).then(|| found.pop().unwrap().0);
        (found, next)
    }

    fn s3_page(&self, query: &BTreeMap<String, String>) -> (u16, String, Vec<u8>) {
        let (found, next) = self.page(query.get("prefix"), query.get("continuation-token"));
        let mut xml = "<ListBucketResult>".to_owned();
        for (key, object) in found {
            xml += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
                object.tag(),
                object.bytes.len()
            );
        }
        xml += &next.map(|key| format!("<NextContinuationToken>{key}</NextContinuationToken>")).unwrap_or_default();
        (200, String::new(), (xml + "</ListBucketResult>").into_bytes())
    }

    fn azure_page(&self, query: &BTreeMap<String, String>) -> (u16, String, Vec<u8>) {
        let (found, next) = self.page(query.get("prefix"), query.get("marker"));
        let mut xml = "<EnumerationResults><Blobs>".to_owned();
        for (key, object) in found {
            xml += &format!(
                "<Blob><Name>{key}</Name><Properties><Last-Modified>{DATE}</Last-Modified><Etag>{}</Etag>\
                 <Content-Length>{}</Content-Length><Content-Type>x/y</Content-Type></Properties></Blob>",
                object.tag(),
                object.bytes.len()
            );
        }
        let next = next.unwrap_or_default();
        xml += &format!("</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>");
        (200, String::new(), xml.into_bytes())
    }

    fn google_page(&self, query: &BTreeMap<String, String>) -> (u16, String, Vec<u8>) {
        let (found, next) = self.page(query.get("prefix"), query.get("pageToken"));
        let items: Vec<_> = found.iter().map(|(key, object)| google(key, object)).collect();
        let mut page = json!({ "kind": "storage#objects", "items": items });
        if let Some(next) = next {
            page["nextPageToken"] = next.into();
        }
        (200, String::new(), page.to_string().into_bytes())
    }
}

/// What the JSON API says of an object: its ETag there is another one than in the XML API.
fn google(key: &str, object: &Object) -> serde_json::Value {
    let size = object.bytes.len().to_string();
    json!({ "name": key, "etag": format!("json/{}=", object.tag()), "generation": object.version, "size": size })
}

fn object_headers(object: &Object) -> String {
    let mut headers = format!("ETag: \"{}\"\r\nLast-Modified: {DATE}\r\n{}", object.tag(), object.headers);
    if let Some(version) = object.version {
        for name in ["x-amz-version-id", "x-ms-version-id", "x-goog-generation"] {
            headers += &format!("{name}: {version}\r\n");
        }
    }
    headers
}

async fn read_head(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Some(Seen { method, path, headers: lines.filter_map(header).collect() })
}
