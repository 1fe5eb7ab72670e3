"""Versions and runs made by the official SDK are listed, described, traced, verified, edited and removed by us; and the
SDK sees what we did, as we see what it did."""

import os
import pathlib
from datetime import timedelta

import pytest
import wandb
from conftest import ours, refused


def log(run, name, files, *, kind="model", aliases=(), **options):
    artifact = wandb.Artifact(name, kind, **options)
    for path, content in files.items():
        with artifact.new_file(path, mode="wb") as file:
            file.write(content)
    return run.log_artifact(artifact, aliases=list(aliases)).wait()


def names(found):
    return [item["name"] for item in found["artifacts"]]


def test_listed_and_described(project, server, api):
    path = f"{server.entity}/{project}"
    with wandb.init(project=project, name="maker") as run:
        first = log(run, "vit", {"a": b"1", "b/c": b"22"}, metadata={"seed": 1}, description="a model")
        second = log(run, "vit", {"a": b"333"}, aliases=["best"], metadata={"seed": 2})
        log(run, "words", {"w": b"w"}, kind="dataset")
        run.link_artifact(first, f"{path}/shelf", aliases=["chosen"])
    second = api.artifact(f"{path}/vit:v1")
    second.tags.append("good")
    second.ttl = timedelta(days=3)
    second.save()

    listed = ours("artifact", "ls", path)
    by_name = {item["name"]: item for item in listed["artifacts"]}
    kinds = {kind.name for kind in api.artifact_types(path)}
    theirs = {found.name for kind in kinds for found in api.artifact_collections(path, kind)}
    assert set(by_name) == theirs
    assert (by_name["vit"]["version"], by_name["vit"]["versions"], by_name["vit"]["size"]) == ("v1", 2, 3)
    assert set(by_name["vit"]["aliases"]) == {"best", "latest"} and by_name["shelf"]["links"] is True
    assert set(by_name["shelf"]["aliases"]) == {"chosen", "latest"}
    assert names(ours("artifact", "ls", path, "--type", "dataset")) == ["words"]

    versions = ours("artifact", "ls", f"{path}/vit")["artifacts"]
    for found, version in zip(versions, api.artifacts("model", f"{path}/vit")):
        assert found["name"] == version.qualified_name and found["digest"] == version.digest
        assert set(found["aliases"]) == set(version.aliases) - {version.version}
        assert (found["tags"], found["metadata"], found["size"]) == (version.tags, version.metadata, version.size)
    assert names(ours("artifact", "ls", f"{path}/vit", "--tag", "good")) == [f"{path}/vit:v1"]
    assert names(ours("artifact", "ls", f"{path}/vit", "--metadata", "seed=1")) == [f"{path}/vit:v0"]

    info = ours("artifact", "info", f"{path}/vit:best")
    assert (info["ttl_seconds"], info["tags"], info["made_by"]["name"]) == (3 * 86400, ["good"], "maker")
    info = ours("artifact", "info", f"{path}/shelf:chosen")
    assert (info["source"], info["id"], info["description"]) == (f"{path}/vit:v0", first.id, "a model")
    assert [entry["path"] for entry in info["entries"]] == ["a", "b/c"]
    assert {entry["path"]: entry["digest"] for entry in info["entries"]} == {
        path: entry.digest for path, entry in api.artifact(f"{path}/vit:v0").manifest.entries.items()}


def test_traced(project, server, api):
    path = f"{server.entity}/{project}"
    with wandb.init(project=project, name="prepare") as run:
        log(run, "data", {"d": b"d"}, kind="dataset")
    with wandb.init(project=project, name="train") as run:
        run.use_artifact("data:latest")
        log(run, "vit", {"a": b"1"})
        train = run.id
    users = []
    for name in ("evaluate", "deploy"):
        with wandb.init(project=project, name=name) as run:
            run.use_artifact("vit:v0")
            log(run, f"{name}-out", {"o": name.encode()}, kind="result")
            users.append(run.id)
    graph = ours("artifact", "lineage", f"{path}/vit:latest")
    nodes = {node["id"]: node for node in graph["nodes"]}
    related = lambda relation: {(nodes[edge["from"]]["name"], nodes[edge["to"]]["name"])
                                for edge in graph["edges"] if edge["relation"] == relation}
    vit = api.artifact(f"{path}/vit:v0")
    assert vit.logged_by().id == train and {run.id for run in vit.used_by()} == set(users)
    runs = {run.id: run for run in api.runs(path)}
    used = {(artifact.qualified_name, f"{path}/{run}") for run in (train, *users) for artifact in runs[run].used_artifacts()}
    made = {(f"{path}/{run}", artifact.qualified_name) for run in (train, *users) for artifact in runs[run].logged_artifacts()
            if artifact.type in ("model", "result")}
    assert related("used") == used and related("made") == made
    deep = ours("artifact", "lineage", f"{path}/vit:latest", "--depth", "5")
    assert {node.get("display_name") for node in deep["nodes"] if node["kind"] == "run"} == {
        "prepare", "train", "evaluate", "deploy"}


@pytest.mark.parametrize("algorithm", ["MD5", "XXH128"])
def test_verified(project, server, api, tmp_path, algorithm):
    path = f"{server.entity}/{project}/vit:v0"
    files = {"a.bin": os.urandom(100_000), "b/c.bin": os.urandom(5), "empty": b""}
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"referenced")
    with wandb.init(project=project) as run:
        artifact = wandb.Artifact("vit", "model", digest_algorithm=algorithm)
        artifact.add_reference(outside.as_uri())
        for name, content in files.items():
            with artifact.new_file(name, mode="wb") as file:
                file.write(content)
        run.log_artifact(artifact).wait()
    root = pathlib.Path(api.artifact(path).download(str(tmp_path / "out")))
    found = ours("artifact", "verify", path, "--root", root)
    assert found["verified"] and found["counts"]["ok"] == 4
    # The SDK's cache is our store.
    assert ours("artifact", "verify", path, "--store")["counts"]["ok"] == 3
    content = bytearray(files["a.bin"])
    content[777] ^= 1
    (root / "a.bin").write_bytes(content)
    (root / "empty").unlink()
    (root / "more").write_bytes(b"more")
    found = ours("artifact", "verify", path, "--root", root, code=5)
    states = {file["path"]: file["state"] for file in found["files"]}
    assert states == {"a.bin": "corrupt", "b/c.bin": "ok", "empty": "missing", "more": "extra", "outside.bin": "ok"}
    with pytest.raises(ValueError):
        api.artifact(path).verify(str(root))


def test_edited_and_removed(project, server, api):
    path = f"{server.entity}/{project}"
    with wandb.init(project=project) as run:
        versions = [log(run, "vit", {"a": str(index).encode()}) for index in range(4)]
        run.link_artifact(versions[0], f"{path}/shelf")
    ours("artifact", "alias", f"{path}/vit:v1", "--add", "best", "--add", "old")
    ours("artifact", "alias", f"{path}/vit:v1", "--remove", "old")
    ours("artifact", "tag", f"{path}/vit:v1", "--add", "good", "--add", "bad")
    ours("artifact", "tag", f"{path}/vit:v1", "--remove", "bad")
    ours("artifact", "edit", f"{path}/vit:v1", "--ttl", "2d", "-d", "described", "--metadata", '{"x": [1]}')
    seen = api.artifact(f"{path}/vit:best")
    assert (seen.version, seen.tags, seen.description) == ("v1", ["good"], "described")
    assert (seen.metadata, seen.ttl, set(seen.aliases)) == ({"x": [1]}, timedelta(days=2), {"best"})
    ours("artifact", "edit", f"{path}/vit:v1", "--ttl", "never")
    assert api.artifact(f"{path}/vit:best").ttl is None
    link = ours("artifact", "link", f"{path}/vit:v2", f"{path}/shelf:chosen")["link"]
    assert api.artifact(f"{path}/shelf:chosen").source_name == "vit:v2" and api.artifact(link).is_link

    exists = lambda name: api.artifact_exists(f"{path}/{name}")
    ours("artifact", "rm", "--collection", f"{path}/vit", "--keep-last", "2", "--dry-run", "--delete-aliases")
    assert all(exists(f"vit:v{index}") for index in range(4))
    done = ours("artifact", "rm", "--collection", f"{path}/vit", "--keep-last", "2", "--keep-aliases", "--yes")
    assert [version["artifact"] for version in done["versions"] if version["removed"]] == [f"{path}/vit:v0"]
    fresh = wandb.Api()
    left = {version.version for version in fresh.artifacts("model", f"{path}/vit")}
    assert left == {"v1", "v2", "v3"} and not exists("vit:v0") and not exists("shelf:v0")
    ours("artifact", "unlink", link)
    assert exists("vit:v2") and not exists("shelf:chosen")
    # What the SDK removes is gone for us, and by its id it is known as deleted.
    fresh.artifact(f"{path}/vit:best").delete(delete_aliases=True)
    assert "not found" in refused("artifact", "info", f"{path}/vit:v1", code=3)
