//! The embedded server over raw HTTP, with JSON written here: no client of this crate is involved.

#![cfg(feature = "server")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests, with helpers outside of test functions")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use wandb_pca::digest::{Algorithm, Digest};
use wandb_pca::server::{Server, ServerError, ServerOptions};

struct Site {
    server: Server,
    http: Client,
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(ServerOptions) -> ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(change(ServerOptions::new(folder.path()))).await.unwrap();
        Self { server, http: Client::new(), folder }
    }

    fn keyed(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.server.base_url());
        self.http.request(method, url).basic_auth("api", Some(self.server.api_key().expose()))
    }

    async fn graphql(&self, query: &str, variables: Value) -> (StatusCode, Value) {
        let body = json!({ "query": query, "variables": variables, "operationName": "" });
        let response = self.keyed(Method::POST, "/graphql").json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let (status, answer) = self.graphql(query, variables).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].clone()
    }

    async fn refused(&self, query: &str, variables: Value) -> (StatusCode, String) {
        let (status, answer) = self.graphql(query, variables).await;
        let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let messages: Vec<&str> = errors.iter().map(|error| error["message"].as_str().unwrap()).collect();
        (status, messages.join("; "))
    }

    async fn put(&self, url: &str, headers: &Value, bytes: &[u8]) -> Response {
        let mut request = self.http.put(url).body(bytes.to_vec());
        for header in headers.as_array().unwrap() {
            let (name, value) = header.as_str().unwrap().split_once(':').unwrap();
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    async fn run(&self, name: &str) -> Value {
        let query = "mutation U($name: String, $config: JSONString) { upsertBucket(input: {name: $name, modelName: \"p\", \
                     config: $config}) { bucket { id name displayName historyLineCount project { name entity { name } } } \
                     inserted } }";
        self.data(query, json!({ "name": name, "config": "{\"_wandb\":{\"value\":{\"t\":{}}}}" })).await["upsertBucket"]
            .clone()
    }

    async fn create(&self, change: Value) -> (StatusCode, Value) {
        let mut input = json!({ "entityName": "local", "projectName": "p", "artifactTypeName": "model",
            "artifactCollectionName": "a", "runName": "r", "digest": manifest_digest(&[]),
            "digestAlgorithm": "MANIFEST_MD5", "enableDigestDeduplication": true,
            "aliases": [{ "artifactCollectionName": "a", "alias": "best" }] });
        for (key, value) in change.as_object().unwrap() {
            input[key] = value.clone();
        }
        let query = "mutation C($input: CreateArtifactInput!) { createArtifact(input: $input) { artifact { id state \
                     artifactSequence { latestArtifact { id } } } } }";
        let (status, answer) = self.graphql(query, json!({ "input": input })).await;
        (status, answer)
    }

    /// Uploads files as one version and commits it; gives its id.
    async fn log(&self, files: &[(&str, &[u8])]) -> String {
        let (_, answer) = self.create(json!({ "digest": manifest_digest(files) })).await;
        let id = answer["data"]["createArtifact"]["artifact"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned();
        for (name, bytes) in files {
            let node = self.file_url(&id, name, bytes).await;
            if let Some(url) = node["uploadUrl"].as_str() {
                assert_eq!(self.put(url, &node["uploadHeaders"], bytes).await.status(), StatusCode::OK);
            }
        }
        let (status, answer) = self.announce_and_commit(&id, &manifest(files)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        id
    }

    async fn file_url(&self, id: &str, name: &str, bytes: &[u8]) -> Value {
        let query = "mutation F($input: CreateArtifactFilesInput!) { createArtifactFiles(input: $input) { files { edges { \
                     node { storagePath uploadUrl uploadHeaders artifact { id } } } } } }";
        let spec = json!({ "artifactID": id, "name": name, "md5": md5(bytes).to_base64() });
        let input = json!({ "input": { "artifactFiles": [spec], "storageLayout": "V2" } });
        self.data(query, input).await["createArtifactFiles"]["files"]["edges"][0]["node"].clone()
    }

    async fn announce_and_commit(&self, id: &str, manifest: &[u8]) -> (StatusCode, Value) {
        let query = "mutation M($id: ID!, $digest: String!, $upload: Boolean!) { createArtifactManifest(input: {artifactID: \
                     $id, name: \"wandb_manifest.json\", digest: $digest, entityName: \"local\", projectName: \"p\", runName: \
                     \"r\", type: FULL}) { artifactManifest { id file { uploadUrl @include(if: $upload) uploadHeaders \
                     @include(if: $upload) } } } }";
        let first = self.data(query, json!({ "id": id, "digest": "", "upload": false })).await;
        assert!(first["createArtifactManifest"]["artifactManifest"]["file"].get("uploadUrl").is_none());
        let digest = md5(manifest).to_base64();
        let second = self.data(query, json!({ "id": id, "digest": digest, "upload": true })).await;
        let file = &second["createArtifactManifest"]["artifactManifest"]["file"];
        let put = self.put(file["uploadUrl"].as_str().unwrap(), &file["uploadHeaders"], manifest).await;
        assert_eq!(put.status(), StatusCode::OK);
        let query = "mutation C($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id digest } } }";
        self.graphql(query, json!({ "id": id })).await
    }

    async fn direct_url(&self, alias: &str, name: &str) -> String {
        let query = "query F($alias: String!, $names: [String!]) { project(name: \"p\", entityName: \"local\") { \
                     artifactCollection(name: \"a\") { __typename artifactMembership(aliasName: $alias) { files(names: $names) \
                     { edges { node { name directUrl } } } } } } }";
        // A single value for a list is a list of one.
        let data = self.data(query, json!({ "alias": alias, "names": name })).await;
        let collection = &data["project"]["artifactCollection"];
        assert_eq!(collection["__typename"], "ArtifactSequence");
        collection["artifactMembership"]["files"]["edges"][0]["node"]["directUrl"].as_str().unwrap().to_owned()
    }
}

fn md5(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Md5, bytes)
}

fn manifest_digest(files: &[(&str, &[u8])]) -> String {
    let mut files = files.to_vec();
    files.sort();
    let lines: String = files.iter().map(|(name, bytes)| format!("{name}:{}\n", md5(bytes).to_base64())).collect();
    md5(format!("wandb-artifact-manifest-v1\n{lines}").as_bytes()).to_hex()
}

fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
    let contents: serde_json::Map<_, _> = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), json!({ "digest": md5(bytes).to_base64(), "size": bytes.len() })))
        .collect();
    let manifest = json!({ "version": 1, "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": { "storageLayout": "V2" }, "contents": contents });
    manifest.to_string().into_bytes()
}

#[tokio::test]
async fn only_the_key_opens_the_server() {
    let site = Site::new().await;
    let url = format!("{}/graphql", site.server.base_url());
    let body = json!({ "query": "{ viewer { id entity } }" });
    assert_eq!(site.http.post(&url).json(&body).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let wrong = site.http.post(&url).json(&body).basic_auth("api", Some("0".repeat(40))).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let text: Value = wrong.json().await.unwrap();
    assert!(text["errors"][0]["message"].as_str().unwrap().starts_with("invalid API key"));
    let bearer = site.http.post(&url).json(&body).bearer_auth(site.server.api_key().expose());
    assert_eq!(bearer.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    for path in ["/files/local/p/r/file_stream", "/files/local/p/r/config.yaml", "/artifactsV2/a/b", "/artifacts/e/b"] {
        let get = site.http.get(format!("{}{path}", site.server.base_url())).send().await.unwrap();
        assert!(
            matches!(get.status(), StatusCode::UNAUTHORIZED | StatusCode::METHOD_NOT_ALLOWED),
            "{path}: {}",
            get.status()
        );
    }
    let health = site.http.get(format!("{}/healthz", site.server.base_url())).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let otel = site.http.post(format!("{}/sdk/otel/v1/metrics", site.server.base_url())).send().await.unwrap();
    assert_eq!(otel.status(), StatusCode::OK);
    let nowhere = site.http.get(format!("{}/nowhere", site.server.base_url())).send().await.unwrap();
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert!(nowhere.json::<Value>().await.unwrap()["error"].is_string());
    assert_eq!(site.data("{ viewer { entity } }", Value::Null).await["viewer"]["entity"], "local");
}

#[tokio::test]
async fn graphql_is_executed_for_real() {
    let site = Site::new().await;
    let query = "#graphql\nquery Q($no: Boolean = false) { me: viewer { ...F } viewer { id @include(if: $no) } \
                 t: __type(name: \"ArtifactPortfolio\") { kind fields { name } } } fragment F on User { who: entity }";
    let data = site.data(query, json!({ "undeclared": 1 })).await;
    assert_eq!(data["me"]["who"], "local");
    assert_eq!(data["viewer"], json!({}));
    assert_eq!(data["t"]["kind"], "OBJECT");
    let (status, message) = site.refused("{ viewer { wings } }", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(message.contains("Cannot query field \"wings\" on type \"User\""), "{message}");
    assert_eq!(site.data("{ project(name: \"none\") { id } }", Value::Null).await["project"], Value::Null);
    let (status, _) = site.refused("{ viewer { id }", Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_artifact_goes_in_and_comes_out_in_ranges() {
    let site = Site::new().await;
    site.run("r").await;
    let weights: Vec<u8> = (0..1_500_000u32).map(|i| (i * 7) as u8).collect();
    let id = site.log(&[("dir/w.bin", &weights), ("empty", b"")]).await;
    let url = site.direct_url("best", "dir/w.bin").await;
    assert!(url.starts_with(site.server.base_url()));
    let whole = site.http.get(&url).send().await.unwrap();
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", md5(&weights).to_hex()));
    assert_eq!(whole.bytes().await.unwrap(), weights);
    let get = |range: &'static str, condition: Option<String>| {
        let request = site.http.get(&url).header("Range", range);
        match condition {
            Some(etag) => request.header("If-Range", etag),
            None => request,
        }
        .send()
    };
    let part = get("bytes=1000000-1000009", Some(etag)).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 1000000-1000009/1500000");
    assert_eq!(part.bytes().await.unwrap(), weights[1_000_000..1_000_010]);
    let tail = get("bytes=1499999-", None).await.unwrap().bytes().await.unwrap();
    assert_eq!(tail, weights[1_499_999..]);
    assert_eq!(get("bytes=1500000-", None).await.unwrap().status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let other = get("bytes=0-1", Some("\"other\"".to_owned())).await.unwrap();
    assert_eq!((other.status(), other.content_length()), (StatusCode::OK, Some(1_500_000)));
    let head = site.http.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "1500000");
    // The older route, with the key.
    let hex = md5(&weights).to_hex();
    for path in [format!("/artifactsV2/default/local/p/a/{id}/{id}/{hex}/w.bin"), format!("/artifacts/local/{hex}")] {
        let old = site.keyed(Method::GET, &path).send().await.unwrap();
        assert_eq!(old.bytes().await.unwrap(), weights, "{path}");
    }
    // The same content again: nothing to send, and it was born in the first version.
    let (_, answer) = site.create(json!({ "digest": manifest_digest(&[("x", &weights)]) })).await;
    let artifact = &answer["data"]["createArtifact"]["artifact"];
    assert_eq!(artifact["artifactSequence"]["latestArtifact"]["id"], id);
    let node = site.file_url(artifact["id"].as_str().unwrap(), "x", &weights).await;
    assert_eq!((&node["uploadUrl"], &node["artifact"]["id"]), (&Value::Null, &json!(id)));
}

#[tokio::test]
async fn signed_urls_hold_for_one_thing_and_expire() {
    let site = Site::new().await;
    site.run("r").await;
    site.log(&[("f", b"content")]).await;
    let url = site.direct_url("v0", "f").await;
    assert_eq!(site.http.put(&url).body("x").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let (path, query) = url.split_once('?').unwrap();
    assert_eq!(site.http.get(path).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let forged = format!("{}?{query}", path.replace("/f", "/g"));
    assert_eq!(site.http.get(forged).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let short = Site::with(|options| options.with_url_lifetime(Duration::from_millis(1))).await;
    short.run("r").await;
    let (_, answer) = short.create(json!({ "digest": manifest_digest(&[("f", b"x")]) })).await;
    let id = answer["data"]["createArtifact"]["artifact"]["id"].as_str().unwrap().to_owned();
    let node = short.file_url(&id, "f", b"x").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let late = short.put(node["uploadUrl"].as_str().unwrap(), &json!([]), b"x").await;
    assert_eq!(late.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nothing_false_is_committed() {
    let site = Site::new().await;
    site.run("r").await;
    let files: &[(&str, &[u8])] = &[("f", b"right")];
    let (_, answer) = site.create(json!({ "digest": manifest_digest(files) })).await;
    let id = answer["data"]["createArtifact"]["artifact"]["id"].as_str().unwrap().to_owned();
    let node = site.file_url(&id, "f", b"right").await;
    let url = node["uploadUrl"].as_str().unwrap();
    assert_eq!(site.put(url, &json!([]), b"wrong").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(site.put(url, &node["uploadHeaders"], b"wrong").await.status(), StatusCode::BAD_REQUEST);
    let commit = "mutation C($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id } } }";
    let (status, message) = site.refused(commit, json!({ "id": id })).await;
    assert_eq!((status, message.as_str()), (StatusCode::BAD_REQUEST, "the artifact has no manifest to commit"));
    let message = |answer: &Value| answer["errors"][0]["message"].as_str().unwrap().to_owned();
    let (_, answer) = site.announce_and_commit(&id, &manifest(files)).await;
    assert!(message(&answer).contains("content of entry `f`"), "{answer}");
    assert_eq!(site.put(url, &node["uploadHeaders"], b"right").await.status(), StatusCode::OK);
    let (_, answer) = site.announce_and_commit(&id, &manifest(&[("../f", b"right")])).await;
    assert!(message(&answer).contains("../f"), "{answer}");
    let (_, answer) = site.announce_and_commit(&id, &manifest(&[("g", b"right")])).await;
    assert!(message(&answer).contains("hashes to"), "{answer}");
    let sized = String::from_utf8(manifest(files)).unwrap().replace("\"size\":5", "\"size\":6");
    let (_, answer) = site.announce_and_commit(&id, sized.as_bytes()).await;
    assert!(message(&answer).contains("announced with 6 bytes"), "{answer}");
    let (status, _) = site.announce_and_commit(&id, &manifest(files)).await;
    assert_eq!(status, StatusCode::OK);
    // Committing again changes nothing; new content is refused.
    site.data(commit, json!({ "id": id })).await;
    let query = "mutation F($id: ID!) { createArtifactFiles(input: {artifactFiles: [{artifactID: $id, name: \"n\", md5: \
                 \"XUFAKrxLKna5cZ2REBfFkg==\"}]}) { files { edges { node { uploadUrl } } } } }";
    assert_eq!(site.refused(query, json!({ "id": id })).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn artifacts_refuse_what_cannot_be() {
    let site = Site::new().await;
    site.run("r").await;
    site.log(&[("f", b"1")]).await;
    let cases = [
        (json!({ "artifactTypeName": "dataset" }), StatusCode::CONFLICT, "has type `model`"),
        (json!({ "storageRegion": "mars" }), StatusCode::BAD_REQUEST, "mars"),
        (json!({ "artifactCollectionName": "a b" }), StatusCode::BAD_REQUEST, "a b"),
        (json!({ "digest": "xyz" }), StatusCode::BAD_REQUEST, "xyz"),
        (json!({ "metadata": "[1]" }), StatusCode::BAD_REQUEST, "metadata"),
        (json!({ "projectName": "a/b" }), StatusCode::BAD_REQUEST, "a/b"),
    ];
    for (change, status, text) in cases {
        let (found, answer) = site.create(change.clone()).await;
        let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(text), "{change}: {found} {answer}");
    }
    let client = json!({ "clientID": "c1", "digest": manifest_digest(&[("f", b"9")]) });
    let id = |answer: &Value| answer["data"]["createArtifact"]["artifact"]["id"].clone();
    let first = id(&site.create(client.clone()).await.1);
    assert_eq!(first, id(&site.create(client.clone()).await.1));
    // A log written offline may name no entity; it is the user's own then.
    let mut nobody = client;
    nobody["entityName"] = json!("");
    assert_eq!(first, id(&site.create(nobody).await.1));
    let other = json!({ "clientID": "c1", "digest": manifest_digest(&[("f", b"8")]) });
    assert_eq!(site.create(other).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn parts_become_one_file() {
    let site = Site::new().await;
    site.run("r").await;
    let parts: [&[u8]; 3] = [&[1; 4096], &[2; 4096], &[3; 10]];
    let whole = parts.concat();
    let files: &[(&str, &[u8])] = &[("big", &whole)];
    let (_, answer) = site.create(json!({ "digest": manifest_digest(files) })).await;
    let id = answer["data"]["createArtifact"]["artifact"]["id"].as_str().unwrap().to_owned();
    let announced: Vec<Value> = parts
        .iter()
        .zip(1..)
        .map(|(part, number)| json!({ "partNumber": number, "hexMD5": md5(part).to_hex() }))
        .collect();
    let query = "mutation F($files: [CreateArtifactFileSpecInput!]!, $layout: ArtifactStorageLayout!) { \
                 createArtifactFiles(input: {artifactFiles: $files, storageLayout: $layout}) { files { edges { node { \
                 storagePath uploadUrl uploadMultipartUrls { uploadID uploadUrlParts { partNumber uploadUrl } } artifact { id \
                 } } } } } }";
    let spec =
        json!({ "artifactID": id, "name": "big", "md5": md5(&whole).to_base64(), "uploadPartsInput": announced });
    let data = site.data(query, json!({ "files": [spec], "layout": "V2" })).await;
    let node = &data["createArtifactFiles"]["files"]["edges"][0]["node"];
    // The official client takes a file without an address of its own for stored.
    assert!(node["uploadUrl"].as_str().unwrap().contains("/storage/upload"), "{node}");
    let urls = node["uploadMultipartUrls"]["uploadUrlParts"].as_array().unwrap();
    let mut completed = Vec::new();
    for (url, part) in urls.iter().zip(parts).rev() {
        let target = url["uploadUrl"].as_str().unwrap();
        assert_eq!(site.put(target, &json!([]), b"something else").await.status(), StatusCode::BAD_REQUEST);
        let put = site.put(target, &json!([format!("Content-Md5:{}", md5(part).to_base64())]), part).await;
        let etag = put.headers()["etag"].to_str().unwrap().to_owned();
        completed.push(json!({ "partNumber": url["partNumber"], "hexMD5": etag }));
    }
    let complete = "mutation C($parts: [UploadPartsInput!]!, $id: ID!, $path: String!, $upload: String!) { \
                    completeMultipartUploadArtifact(input: {completeMultipartAction: Complete, completedParts: $parts, \
                    artifactID: $id, storagePath: $path, uploadID: $upload}) { digest } }";
    let variables = |parts: &[Value]| json!({ "parts": parts, "id": id, "path": node["storagePath"], "upload": node["uploadMultipartUrls"]["uploadID"] });
    assert_eq!(site.refused(complete, variables(&completed[1..])).await.0, StatusCode::BAD_REQUEST);
    site.data(complete, variables(&completed)).await;
    site.data(complete, variables(&completed)).await;
    let (status, answer) = site.announce_and_commit(&id, &manifest(files)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let found = site.http.get(site.direct_url("latest", "big").await).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(found, whole);
}

#[tokio::test]
async fn a_run_streams_and_is_read_back() {
    let site = Site::new().await;
    let created = site.run("r").await;
    assert_eq!(created["inserted"], true);
    assert_eq!(created["bucket"]["project"]["entity"]["name"], "local");
    let stream = |body: Value| site.keyed(Method::POST, "/files/local/p/r/file_stream").json(&body).send();
    let rows: Vec<String> = (0..20).map(|n| format!("{{\"_step\":{n},\"x\":{n},\"bad\":NaN}}")).collect();
    let body = json!({ "files": { "wandb-history.jsonl": { "offset": 0, "content": rows },
        "wandb-summary.json": { "offset": 0, "content": ["{\"x\":19,\"bad\":NaN}"] } } });
    let answer: Value = stream(body.clone()).await.unwrap().json().await.unwrap();
    assert_eq!(answer["stopped"], false);
    stream(body).await.unwrap();
    stream(json!({ "complete": true, "exitcode": 3 })).await.unwrap();
    assert_eq!(site.run("r").await["bucket"]["historyLineCount"], 20);
    let query = "query R($specs: [JSONString!]!) { project(name: \"p\") { run(name: \"r\") { state exitcode projectId \
                 summaryMetrics historyKeys history(minStep: 5, maxStep: 8, samples: 100) sampledHistory(specs: $specs) \
                 parquetHistory(liveKeys: [\"_step\"]) { parquetUrls liveData } } } }";
    let data =
        site.data(query, json!({ "specs": "{\"keys\":[\"_step\",\"bad\"],\"minStep\":18,\"maxStep\":18}" })).await;
    let run = &data["project"]["run"];
    assert_eq!(
        (&run["state"], &run["exitcode"]),
        (&json!("running"), &json!(3.0)),
        "an upsert by name resumes the run"
    );
    assert_eq!(run["history"].as_array().unwrap().len(), 3);
    assert_eq!(run["sampledHistory"], json!([[{ "_step": 18, "bad": "NaN" }]]));
    assert_eq!(run["historyKeys"]["lastStep"], 19);
    assert_eq!(run["parquetHistory"], json!({ "parquetUrls": [], "liveData": [] }));
    assert!(run["projectId"].as_str().unwrap().parse::<i64>().is_ok());
    // Files: by the signed URL and by name.
    let query = "mutation F { createRunFiles(input: {entityName: \"local\", projectName: \"p\", runName: \"r\", files: \
                 [\"media/t 1.json\"]}) { runID uploadHeaders files { name uploadUrl } } }";
    let data = site.data(query, Value::Null).await;
    let file = &data["createRunFiles"]["files"][0];
    assert_eq!(site.put(file["uploadUrl"].as_str().unwrap(), &json!([]), b"{}").await.status(), StatusCode::OK);
    let put = site.keyed(Method::PUT, "/files/local/p/r/notes.txt").body("notes").send().await.unwrap();
    assert_eq!(put.status(), StatusCode::OK);
    let notes = site.keyed(Method::GET, "/files/local/p/r/notes.txt").send().await.unwrap();
    assert_eq!(notes.text().await.unwrap(), "notes");
    let query = "{ project(name: \"p\") { run(name: \"r\") { fileCount files(pattern: \"media/%\") { edges { node { name \
                 sizeBytes md5 url } } } } } }";
    let data = site.data(query, Value::Null).await;
    assert_eq!(data["project"]["run"]["fileCount"], 2);
    let node = &data["project"]["run"]["files"]["edges"][0]["node"];
    assert_eq!((&node["name"], &node["sizeBytes"]), (&json!("media/t 1.json"), &json!(2)));
    let direct = site.http.get(node["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(direct.text().await.unwrap(), "{}");
}

#[tokio::test]
async fn an_empty_entity_is_the_users_own() {
    let site = Site::new().await;
    site.run("r").await;
    let id = site.log(&[("x", b"x")]).await;
    let alias = json!({ "entityName": "", "projectName": "p", "artifactCollectionName": "a", "alias": "mine" });
    for (operation, kind, more) in [
        ("upsertModel", "UpsertModelInput", json!({ "name": "made" })),
        ("createRunFiles", "CreateRunFilesInput", json!({ "projectName": "p", "runName": "r", "files": ["f"] })),
        (
            "notifyScriptableRunAlert",
            "NotifyScriptableRunAlertInput",
            json!({ "projectName": "p", "runName": "r", "title": "t", "text": "x" }),
        ),
        (
            "linkArtifact",
            "LinkArtifactInput",
            json!({ "artifactID": id, "projectName": "", "artifactPortfolioName": "chosen" }),
        ),
        ("addAliases", "AddAliasesInput", json!({ "artifactID": id, "aliases": [alias] })),
        (
            "createArtifactCollectionTagAssignments",
            "CreateArtifactCollectionTagAssignmentsInput",
            json!({ "projectName": "p", "artifactCollectionName": "a", "tags": [{ "tagName": "good" }] }),
        ),
    ] {
        let mut input = json!({ "entityName": "" });
        if operation == "addAliases" {
            input = json!({});
        }
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let query = format!("mutation M($input: {kind}!) {{ {operation}(input: $input) {{ __typename }} }}");
        site.data(&query, json!({ "input": input })).await;
    }
    let query = "query Q($name: String!, $collection: String!) { project(name: $name, entityName: \"local\") { \
                 artifactCollection(name: $collection) { name } } }";
    let ask = |name: &'static str| site.data(query, json!({ "name": name, "collection": "chosen" }));
    assert_eq!(ask("made").await["project"], json!({ "artifactCollection": null }));
    assert_eq!(ask("uncategorized").await["project"]["artifactCollection"]["name"], "chosen");
    assert!(site.direct_url("mine", "x").await.contains("x"));
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_and_one_server_has_a_folder() {
    let site = Site::new().await;
    site.run("r").await;
    site.log(&[("f", b"kept")]).await;
    let key = site.server.api_key().clone();
    let second = Server::start(ServerOptions::new(site.folder.path())).await;
    assert!(matches!(second, Err(ServerError::InUse { .. })));
    site.server.shutdown().await.unwrap();
    let server = Server::start(ServerOptions::new(site.folder.path())).await.unwrap();
    assert_eq!(server.api_key(), &key);
    let site = Site { server, ..site };
    let url = site.direct_url("latest", "f").await;
    assert_eq!(site.http.get(url).send().await.unwrap().text().await.unwrap(), "kept");
    let basic = STANDARD.encode(format!("api:{}", key.expose()));
    assert_eq!(basic.len() % 4, 0);
}
