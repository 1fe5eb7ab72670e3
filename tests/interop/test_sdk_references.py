"""References that the official SDK logs, fetched by us and by the SDK: the same bytes, the same refusals, one store."""

import gzip
import hashlib
import http.server
import os
import pathlib
import subprocess
import threading

import pytest
import wandb
from conftest import ours, read, refused


class Shelf(http.server.BaseHTTPRequestHandler):
    """Serves `shelf[path]` under an ETag; below /squeeze/ compressed for who accepts that, under another ETag; below
    /bare/ without one."""

    protocol_version = "HTTP/1.1"
    shelf = {}
    asked = []

    def do_GET(self):
        self.asked.append((self.path, dict(self.headers)))
        body = self.shelf.get(self.path)
        if body is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha1(body).hexdigest()}"'
        self.send_response(200)
        if self.path.startswith("/squeeze/") and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, tag = gzip.compress(body, mtime=0), f"W/{tag}"
            self.send_header("Content-Encoding", "gzip")
        if not self.path.startswith("/bare/"):
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    Shelf.shelf, Shelf.asked = {}, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.fixture
def name(server, project):
    return lambda collection: f"{server.entity}/{project}/{collection}"


def log(project, artifact):
    with wandb.init(project=project) as run:
        return run.log_artifact(artifact).wait()


def proofs(got):
    return {file["path"]: file["proof"] for file in got["artifacts"][0]["files"]}


def test_every_kind_is_fetched_with_the_right_bytes(name, project, web, tmp_path):
    content = {"/x/one.bin": os.urandom(300_000), "/squeeze/two.txt": b"two " * 5000, "/bare/three.bin": b"three"}
    Shelf.shelf = dict(content)
    local = tmp_path / "a folder #1"
    local.mkdir()
    (local / "a.bin").write_bytes(b"local bytes")
    (local / "link.bin").symlink_to(local / "a.bin")
    target = wandb.Artifact("target", "dataset")
    odd = "sub/b ü.bin"
    (tmp_path / "b").write_bytes(b"of another artifact")
    target.add_file(str(tmp_path / "b"), odd)
    target.add_reference(f"{web}/x/one.bin", name="outside.bin")
    target = log(project, target)

    artifact = wandb.Artifact("model", "dataset")
    for path in content:
        artifact.add_reference(web + path, name=path[1:])
    artifact.add_reference(local.as_uri(), name="local")
    artifact.add_reference(target.get_entry(odd), "linked.bin")
    artifact.add_reference(target.get_entry("outside.bin"), "far.bin")
    artifact.add_file(str(tmp_path / "b"), "plain.bin")
    logged = log(project, artifact)
    expected = {path[1:]: body for path, body in content.items()} | {
        "local/a.bin": b"local bytes", "local/link.bin": b"local bytes", "linked.bin": b"of another artifact",
        "far.bin": content["/x/one.bin"], "plain.bin": b"of another artifact"}
    assert read(logged.download(str(tmp_path / "sdk"))) == expected

    cache = {"WANDB_CACHE_DIR": str(tmp_path / "cache")}
    Shelf.asked.clear()
    got = ours("artifact", "get", name("model:v0"), "--root", tmp_path / "got", **cache)
    assert read(tmp_path / "got") == expected
    assert proofs(got) == {"x/one.bin": "etag", "squeeze/two.txt": "etag", "bare/three.bin": "none", "far.bin": "etag",
                           "local/a.bin": "digest", "local/link.bin": "digest", "linked.bin": "digest",
                           "plain.bin": "digest"}
    assert got["artifacts"][0]["verified"] is False
    assert all("Authorization" not in headers for _, headers in Shelf.asked)
    # Offline, the store has all but what only a chain of artifacts leads to.
    error = refused("artifact", "get", name("model:v0"), "--offline", "--root", tmp_path / "off", code=3, **cache)
    assert "far.bin" in error and "one.bin" not in error


def test_a_store_is_shared_both_ways(name, project, web, tmp_path, monkeypatch):
    Shelf.shelf = {"/x/one.bin": os.urandom(1000), "/x/two.bin": os.urandom(1000)}
    artifact = wandb.Artifact("model", "dataset")
    for path in Shelf.shelf:
        artifact.add_reference(web + path)
    logged = log(project, artifact)
    here = read(logged.download(str(tmp_path / "sdk")))
    Shelf.asked.clear()
    got = ours("artifact", "get", name("model:v0"), "--root", tmp_path / "got")
    assert read(tmp_path / "got") == here and Shelf.asked == []
    assert {file["downloaded"] for file in got["artifacts"][0]["files"]} == {False}

    ours("artifact", "get", name("model:v0"), "--root", tmp_path / "2", WANDB_CACHE_DIR=str(tmp_path / "cache"))
    asked = len(Shelf.asked)
    code = f"import wandb; wandb.Api().artifact({name('model:v0')!r}).download({str(tmp_path / '3')!r})"
    environment = os.environ | {"WANDB_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([os.sys.executable, "-c", code], env=environment, check=True)
    assert read(tmp_path / "3") == here and len(Shelf.asked) == asked


def test_what_references_brought_is_looked_after(name, project, web, tmp_path):
    Shelf.shelf = {"/x/one.bin": os.urandom(1000), "/x/two.bin": os.urandom(2000)}
    artifact = wandb.Artifact("model", "dataset")
    for path in Shelf.shelf:
        artifact.add_reference(web + path)
    log(project, artifact)
    cache = {"WANDB_CACHE_DIR": str(tmp_path / "cache")}
    ours("artifact", "get", name("model:v0"), "--root", tmp_path / "got", **cache)
    listed = ours("cache", "ls", **cache)["objects"]
    assert {(object["names"][0].rsplit("/", 1)[1], object["size"]) for object in listed} == {("one.bin", 1000),
                                                                                          ("two.bin", 2000)}
    assert all(object["state"] == "as it came" and object["digest"].startswith("etag:") for object in listed)
    assert all(object["verified"] is False for object in listed)
    info = ours("cache", "info", **cache)
    assert info["references"] == {"files": 2, "bytes": 3000} == info["unverified"] == info["objects"]
    assert ours("cache", "verify", **cache)["ok"]["files"] == 2
    [one, two] = sorted(listed, key=lambda object: object["size"])
    pathlib.Path(one["path"]).write_bytes(b"changed")
    assert "the store has 1 corrupt object" in refused("cache", "verify", "--remove", code=5, **cache)
    assert [object["path"] for object in ours("cache", "ls", **cache)["objects"]] == [two["path"]]
    # What the SDK put there has nothing to be held to, until we used it.
    code = f"import wandb; wandb.Api().artifact({name('model:v0')!r}).download({str(tmp_path / '2')!r})"
    subprocess.run([os.sys.executable, "-c", code], env=os.environ | cache, check=True)
    assert ours("cache", "verify", **cache)["unproven"] == {"files": 1, "bytes": 1000}
    assert ours("cache", "prune", "--max-size", "1500", **cache)["left"] <= 1500
    assert len(ours("cache", "ls", **cache)["objects"]) <= 1
    ours("cache", "prune", "--max-size", "0", **cache)
    assert ours("cache", "info", **cache)["objects"] == {"files": 0, "bytes": 0}


@pytest.mark.parametrize("kind", ["http", "file"])
def test_targets_that_changed_are_refused_by_both(kind, name, project, web, api, tmp_path):
    local = tmp_path / "x.bin"
    local.write_bytes(b"before")
    Shelf.shelf["/x.bin"] = b"before"
    artifact = wandb.Artifact("model", "dataset")
    artifact.add_reference(f"{web}/x.bin" if kind == "http" else local.as_uri(), name="x.bin")
    log(project, artifact)
    local.write_bytes(b"after!")
    Shelf.shelf["/x.bin"] = b"after!"
    with pytest.raises(Exception, match="[Dd]igest mismatch"):
        api.artifact(name("model:v0")).download(str(tmp_path / "sdk"))
    for options in ([], ["--allow-missing-references"]):
        error = refused("artifact", "get", name("model:v0"), "--root", tmp_path / "got", *options, code=5)
        assert "it changed" in error
    assert not (tmp_path / "got" / "x.bin").exists()


def test_targets_that_are_gone_may_be_left_out(name, project, web, tmp_path):
    Shelf.shelf["/x.bin"] = b"x"
    (tmp_path / "a").write_bytes(b"a")
    artifact = wandb.Artifact("model", "dataset")
    artifact.add_reference(f"{web}/x.bin")
    artifact.add_file(str(tmp_path / "a"))
    log(project, artifact)
    Shelf.shelf.clear()
    refused("artifact", "get", name("model:v0"), "--root", tmp_path / "got", code=3)
    got = ours("artifact", "get", name("model:v0"), "--root", tmp_path / "got", "--allow-missing-references")
    assert read(tmp_path / "got") == {"a": b"a"}
    [missing] = got["artifacts"][0]["missing"]
    assert missing["path"] == "x.bin" and "404" in missing["reason"]


def test_without_a_checksum_bytes_are_marked(name, project, web, tmp_path):
    Shelf.shelf["/x.bin"] = b"x"
    local = tmp_path / "y.bin"
    local.write_bytes(b"y")
    artifact = wandb.Artifact("model", "dataset")
    artifact.add_reference(f"{web}/x.bin", checksum=False)
    artifact.add_reference(local.as_uri(), checksum=False)
    log(project, artifact)
    got = ours("artifact", "get", name("model:v0"), "--root", tmp_path / "got")
    assert read(tmp_path / "got") == {"x.bin": b"x", "y.bin": b"y"}
    assert proofs(got) == {"x.bin": "none", "y.bin": "none"} and got["artifacts"][0]["verified"] is False


def test_a_checkpoint_may_be_a_reference(name, project, server, web, tmp_path):
    torch = pytest.importorskip("safetensors.numpy")
    import numpy

    random = numpy.random.default_rng(1)
    for file in ("pt", "m_0", "m_1"):
        torch.save_file({"w": random.normal(size=(4, 5))}, tmp_path / f"{file}.safetensors")
        Shelf.shelf[f"/{file}.safetensors"] = (tmp_path / f"{file}.safetensors").read_bytes()
        artifact = wandb.Artifact(file, "checkpoint")
        artifact.add_reference(f"{web}/{file}.safetensors" if file != "pt" else (tmp_path / "pt.safetensors").as_uri())
        log(project, artifact)
    shown = ours("inspect", name("m_0:v0"))
    assert shown["verified"] == "no" and [row["tensor"] for row in shown["tensors"]] == ["w"]
    assert ours("inspect", name("pt:v0"))["verified"] == "whole"
    fit = ours("fit", "--pretrained", name("pt:v0"), "--finetuned", name("m_{seed}:v0"), "--seeds", "0..1", "--no-log",
               "--out", tmp_path / "fit")
    pretrained, *finetuned = fit["inputs"]
    assert pretrained["verified"] == "whole" and pretrained["digest"].startswith("md5:")
    assert [record["verified"] for record in finetuned] == ["no", "no"]
    assert all(record["digest"].startswith("etag:") and record["sha256"] for record in finetuned)
    # The fit's inputs are found again in the store, without the server of the references.
    Shelf.asked.clear()
    ours("sample", tmp_path / "fit", "--out", tmp_path / "samples")
    assert Shelf.asked == []
