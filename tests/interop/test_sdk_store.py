"""One store for both: what the official SDK downloaded is used by us without a request for bytes, and the other way round;
what was altered on the way is used by neither."""

import os
import pathlib

import pytest
import wandb
from conftest import ours


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own for each test: nothing is there but what the test put there."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "artifacts"


def log(project, tmp_path, content, *, name="model"):
    """An artifact of one file, which the SDK does not put into its cache while it uploads it."""
    path = tmp_path / "trained.ckpt"
    path.write_bytes(content)
    with wandb.init(project=project) as run:
        artifact = wandb.Artifact(name, "checkpoint")
        artifact.add_file(str(path), skip_cache=True)
        run.log_artifact(artifact).wait()


def forget(server, content):
    """The server loses these bytes: whoever asks for them gets none."""
    lost = 0
    for folder, _, names in os.walk(server.data):
        for path in (pathlib.Path(folder) / name for name in names):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                path.unlink()
                lost += 1
    assert lost == 1, "the server keeps the file once"


def objects(cache):
    return [path for path in (cache / "obj").rglob("*") if path.is_file()]


def test_what_the_sdk_downloaded_is_used_by_us(project, server, api, cache, tmp_path):
    content = os.urandom(200_000)
    log(project, tmp_path, content)
    name = f"{server.entity}/{project}/model:latest"
    api.artifact(name).download(str(tmp_path / "sdk"), skip_cache=False)
    assert [path.read_bytes() for path in objects(cache)] == [content]
    unverified = ours("cache", "ls", "--unverified")["objects"]
    assert len(unverified) == 1 and not unverified[0]["verified"]
    forget(server, content)
    [file] = ours("artifact", "get", name, "--root", tmp_path / "ours")["artifacts"][0]["files"]
    assert not file["downloaded"] and (tmp_path / "ours" / "trained.ckpt").read_bytes() == content
    [known] = ours("cache", "ls")["objects"]
    assert known["verified"] and known["names"] == [f"{server.entity}/{project}/model:v0/trained.ckpt"]


def test_what_we_downloaded_is_used_by_the_sdk(project, server, api, cache, tmp_path):
    content = os.urandom(200_000)
    log(project, tmp_path, content)
    name = f"{server.entity}/{project}/model:latest"
    [file] = ours("artifact", "get", name, "--store-only")["artifacts"][0]["files"]
    assert file["downloaded"] and pathlib.Path(file["place"]) in objects(cache)
    forget(server, content)
    found = api.artifact(name)
    out = found.download(str(tmp_path / "sdk"))
    assert (pathlib.Path(out) / "trained.ckpt").read_bytes() == content
    found.verify(out)


def test_what_was_altered_in_the_sdks_cache_is_caught(project, server, api, cache, tmp_path):
    content = os.urandom(200_000)
    log(project, tmp_path, content)
    name = f"{server.entity}/{project}/model:latest"
    api.artifact(name).download(str(tmp_path / "sdk"), skip_cache=False)
    [path] = objects(cache)
    altered = bytearray(content)
    altered[1000] ^= 1
    path.write_bytes(altered)
    [corrupt] = ours("cache", "verify", code=5)["corrupt"]
    assert pathlib.Path(corrupt["path"]) == path
    [file] = ours("artifact", "get", name, "--root", tmp_path / "ours")["artifacts"][0]["files"]
    assert file["downloaded"] and (tmp_path / "ours" / "trained.ckpt").read_bytes() == content
    assert path.read_bytes() == content
    assert ours("cache", "verify")["ok"] == {"files": 1, "bytes": len(content)}
