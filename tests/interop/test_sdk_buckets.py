"""References to buckets: the official SDK (boto3, google-cloud-storage) and we make the same manifests of the same
objects, and each fetches what the other referred to. The clouds are two small servers in this file."""

import base64
import functools
import hashlib
import http.server
import json
import os
import threading
import urllib.parse
from xml.sax.saxutils import escape

import conftest
import pytest
import wandb
from conftest import read

BINARY = os.environ.get("WANDB_PCA_CLOUD_BIN")
pytestmark = pytest.mark.skipif(not BINARY, reason="WANDB_PCA_CLOUD_BIN names no command with the feature `cloud`")

ours, refused = (functools.partial(run, binary=BINARY) for run in (conftest.ours, conftest.refused))

PAGE = 2
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class Cloud(http.server.BaseHTTPRequestHandler):
    """One bucket, `b`. An object is a list of (version, bytes), the newest last."""

    protocol_version = "HTTP/1.1"
    objects = {}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.route(urllib.parse.unquote(path), query)

    def find(self, key, version=None):
        return next(((v, body) for v, body in reversed(self.objects.get(key, [])) if version in (None, v)), None)

    def page(self, prefix, after):
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        return [(key, *self.objects[key][-1]) for key in keys[:PAGE]], len(keys) > PAGE

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_ranged(self, body, **headers):
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if first:
            headers["Content_Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        self.send(206 if first else 200, body[first:], **headers)

    def log_message(self, *_):
        pass


class S3(Cloud):
    def route(self, path, query):
        key = path.removeprefix("/b").removeprefix("/")
        if key:
            found = self.find(key, query.get("versionId"))
            if not found:
                return self.send(404)
            version, body = found
            return self.send_ranged(body, ETag=f'"{hashlib.md5(body).hexdigest()}"', Last_Modified=DATE,
                                    Content_Type="binary/octet-stream", x_amz_version_id=version)
        # The SDK lists in the first version of that API, we in the second.
        after = query.get("marker") or query.get("continuation-token") or ""
        found, more = self.page(query.get("prefix", ""), after)
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(body).hexdigest()}&quot;</ETag><Size>{len(body)}</Size></Contents>"
            for key, _, body in found)
        next_token = f"<NextContinuationToken>{escape(found[-1][0])}</NextContinuationToken>" if more else ""
        self.send(200, f"<?xml version='1.0'?><ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{items}"
                       f"{next_token}</ListBucketResult>".encode(), Content_Type="application/xml")


class Google(Cloud):
    @staticmethod
    def described(key, version, body):
        return {"kind": "storage#object", "name": key, "bucket": "b", "generation": version, "size": str(len(body)),
                "etag": base64.b64encode(f"of {version}".encode()).decode(),
                "md5Hash": base64.b64encode(hashlib.md5(body).digest()).decode()}

    def route(self, path, query):
        api = path.removeprefix("/download")
        if api.startswith("/storage/v1/b/b/o/"):
            key = api.removeprefix("/storage/v1/b/b/o/")
            found = self.find(key, query.get("generation"))
            if not found:
                return self.send(404, b"{}", Content_Type="application/json")
            if query.get("alt") == "media":
                return self.send_ranged(found[1])
            return self.send(200, json.dumps(self.described(key, *found)).encode(), Content_Type="application/json")
        if api == "/storage/v1/b/b/o":
            found, more = self.page(query.get("prefix", ""), query.get("pageToken", ""))
            page = {"kind": "storage#objects", "items": [self.described(*item) for item in found]}
            if more:
                page["nextPageToken"] = found[-1][0]
            return self.send(200, json.dumps(page).encode(), Content_Type="application/json")
        # The XML API, through which we fetch; its ETags are others.
        found = self.find(path.removeprefix("/b/"), query.get("generation"))
        if not found:
            return self.send(404)
        self.send_ranged(found[1], ETag=f'"{hashlib.md5(found[1]).hexdigest()}"', Last_Modified=DATE,
                         x_goog_generation=found[0])


@pytest.fixture
def cloud(request, monkeypatch):
    """The scheme, and the server of the bucket behind it; environment of both clients set."""
    scheme, handler = request.param
    handler.objects = {}
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{running.server_port}"
    for name, value in {
        "AWS_S3_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "who", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_BASE_URL": endpoint, "GOOGLE_SKIP_SIGNATURE": "true",
        "GOOGLE_CLOUD_PROJECT": "p",
    }.items():
        monkeypatch.setenv(name, value)
    yield scheme, handler
    running.shutdown()
    running.server_close()


both = pytest.mark.parametrize("cloud", [("s3", S3), ("gs", Google)], indirect=True, ids=["s3", "gs"])


@pytest.fixture
def name(server, project):
    return lambda collection: f"{server.entity}/{project}/{collection}"


def entries(artifact):
    return artifact.manifest.to_manifest_json()["contents"]


@both
def test_manifests_are_the_same_and_read_by_both(cloud, name, project, api, tmp_path):
    scheme, bucket = cloud
    keys = ["one.bin", "data/a.bin", "data/deep/b.bin", "data/deep/er/c ü.bin", "old.bin"]
    bucket.objects = {key: [("7", os.urandom(300_000))] for key in keys}
    bucket.objects["data/deep/"] = [("3", b"")]
    bucket.objects["old.bin"].insert(0, ("6", b"an older version"))
    references = {"": f"{scheme}://b/data", "named": f"{scheme}://b/data/", "x/y.bin": f"{scheme}://b/one.bin",
                  "old.bin": f"{scheme}://b/old.bin"}

    theirs = wandb.Artifact("theirs", "dataset")
    for path, uri in references.items():
        theirs.add_reference(uri, name=path or None)
    theirs.add_reference(f"{scheme}://b/one.bin")
    with wandb.init(project=project) as run:
        theirs = run.log_artifact(theirs).wait()
    arguments = [part for path, uri in references.items()
                 for part in ("--reference", f"{path}={uri}" if path else uri)]
    put = ours("artifact", "put", "-n", name("ours"), *arguments, "--reference", f"{scheme}://b/one.bin")
    mine = api.artifact(name("ours:v0"))
    assert entries(mine) == entries(theirs) and put["digest"] == theirs.digest
    assert len(entries(mine)) == 9

    content = {path: bucket.objects[entry.ref.removeprefix(f"{scheme}://b/")][-1][1]
               for path, entry in mine.manifest.entries.items()}
    assert read(mine.download(str(tmp_path / "sdk"))) == content
    ours("artifact", "get", name("theirs:v0"), "--root", tmp_path / "got")
    assert read(tmp_path / "got") == content

    # A newer object does not pass for the one that was referred to, and that one is still found by its version.
    bucket.objects["one.bin"].append(("8", b"newer"))
    only = ["artifact", "get", name("ours:v0"), "--include", "one.bin", "--root"]
    ours(*only, tmp_path / "again", WANDB_CACHE_DIR=str(tmp_path / "fresh"))
    assert (tmp_path / "again" / "one.bin").read_bytes() == content["one.bin"]
    del bucket.objects["one.bin"][0]
    error = refused(*only, tmp_path / "gone", code=3, WANDB_CACHE_DIR=str(tmp_path / "empty"))
    assert "no such object" in error


@both
def test_without_checksums_they_are_the_same(cloud, name, project, api):
    scheme, _ = cloud
    uris = [f"{scheme}://b/k/l.bin", f"{scheme}://b/deep/", f"{scheme}://b/v" + ("?versionId=1" if scheme == "s3" else "#1")]
    theirs = wandb.Artifact("theirs", "dataset")
    for uri in uris[:1] + uris[2:]:
        theirs.add_reference(uri, checksum=False)
    theirs.add_reference(uris[1], name="n", checksum=False)
    with wandb.init(project=project) as run:
        theirs = run.log_artifact(theirs).wait()
    put = ours("artifact", "put", "-n", name("ours"), "--no-checksum", "--reference", uris[0],
               "--reference", f"n={uris[1]}", "--reference", uris[2])
    assert entries(api.artifact(name("ours:v0"))) == entries(theirs) and put["digest"] == theirs.digest


@both
def test_what_is_not_there_is_an_error(cloud, name):
    scheme, _ = cloud
    error = refused("artifact", "put", "-n", name("none"), "--reference", f"{scheme}://b/none", code=3)
    assert "no object of that name or below it" in error
