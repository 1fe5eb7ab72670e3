"""The official SDK against the embedded server: what it logs is what it reads back."""

import os

import numpy
import pytest
import wandb


def write_tree(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def read_tree(root):
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def log_folder(run, name, root, *, kind="model", aliases=(), **options):
    artifact = wandb.Artifact(name, kind, **options)
    artifact.add_dir(str(root))
    return run.log_artifact(artifact, aliases=list(aliases)).wait()


def test_artifact_round_trip(project, server, api, tmp_path):
    files = {f"part/{i:03}/weights {i}.bin": os.urandom(50 + i) for i in range(120)}
    files |= {"empty.txt": b"", "ünïcode #1?.txt": "ä".encode(), "big.bin": os.urandom(3_000_000)}
    root = write_tree(tmp_path / "in", files)
    with wandb.init(project=project) as run:
        logged = log_folder(run, "vit", root, aliases=["best"], metadata={"layers": 12, "nested": {"a": [1, None]}},
                            description="a checkpoint")
        assert logged.version == "v0" and sorted(logged.aliases) == ["best", "latest"]
    found = api.artifact(f"{server.entity}/{project}/vit:best", type="model")
    assert found.digest == logged.digest and found.metadata == {"layers": 12, "nested": {"a": [1, None]}}
    assert found.description == "a checkpoint" and found.file_count == len(files)
    assert found.size == sum(map(len, files.values())) and found.state == "COMMITTED"
    out = found.download(str(tmp_path / "out"))
    assert read_tree(out) == files
    found.verify(out)
    assert {file.name for file in found.files(per_page=50)} == set(files)
    for name in ("v0", "latest", logged.digest):
        assert api.artifact(f"{server.entity}/{project}/vit:{name}").id == logged.id


def test_multipart_download(project, server, api, tmp_path):
    content = os.urandom(2_000_000)
    with wandb.init(project=project) as run:
        log_folder(run, "big", write_tree(tmp_path / "in", {"x.bin": content}))
    out = api.artifact(f"{server.entity}/{project}/big:latest").download(str(tmp_path / "out"), multipart=True)
    assert read_tree(out) == {"x.bin": content}


def test_versions_deduplicate_and_aliases_move(project, server, api, tmp_path):
    with wandb.init(project=project) as run:
        first = log_folder(run, "a", write_tree(tmp_path / "1", {"x": b"1"}))
        same = log_folder(run, "a", tmp_path / "1", aliases=["again"])
        second = log_folder(run, "a", write_tree(tmp_path / "2", {"x": b"2", "y": b"1"}))
    assert (first.version, same.id, second.version) == ("v0", first.id, "v1")
    assert api.artifact(f"{server.entity}/{project}/a:again").version == "v0"
    assert api.artifact(f"{server.entity}/{project}/a:latest").version == "v1"
    # The content of `y` was born in v0.
    assert second.manifest.entries["y"].birth_artifact_id == first.id


def test_incremental(project, server, api, tmp_path):
    with wandb.init(project=project) as run:
        log_folder(run, "grow", write_tree(tmp_path / "1", {"a": b"1", "b": b"2"}))
        log_folder(run, "grow", write_tree(tmp_path / "2", {"b": b"3", "c": b"4"}), incremental=True)
    found = api.artifact(f"{server.entity}/{project}/grow:latest")
    assert found.version == "v1"
    assert read_tree(found.download(str(tmp_path / "out"))) == {"a": b"1", "b": b"3", "c": b"4"}


def test_new_draft(project, server, api, tmp_path):
    with wandb.init(project=project) as run:
        first = log_folder(run, "draft", write_tree(tmp_path / "1", {"a": b"1", "b": b"2"}))
        draft = first.new_draft()
        draft.remove("a")
        write_tree(tmp_path / "2", {"c": b"3"})
        draft.add_file(str(tmp_path / "2" / "c"))
        run.log_artifact(draft).wait()
    found = api.artifact(f"{server.entity}/{project}/draft:v1")
    assert read_tree(found.download(str(tmp_path / "out"))) == {"b": b"2", "c": b"3"}


def test_distributed(project, server, api, tmp_path):
    for worker in range(2):
        with wandb.init(project=project, group="workers") as run:
            artifact = wandb.Artifact("shared", "model")
            artifact.add_dir(str(write_tree(tmp_path / str(worker), {f"w{worker}": bytes([worker])})))
            run.upsert_artifact(artifact, distributed_id="workers")
    with wandb.init(project=project, group="workers") as run:
        artifact = wandb.Artifact("shared", "model")
        artifact.add_dir(str(write_tree(tmp_path / "last", {"last": b"x"})))
        run.finish_artifact(artifact, distributed_id="workers")
    found = api.artifact(f"{server.entity}/{project}/shared:latest")
    assert read_tree(found.download(str(tmp_path / "out"))) == {"w0": b"\0", "w1": b"\1", "last": b"x"}


def test_references(project, server, api, tmp_path):
    target = write_tree(tmp_path / "t", {"r.bin": b"referenced"}) / "r.bin"
    with wandb.init(project=project) as run:
        base = log_folder(run, "base", write_tree(tmp_path / "1", {"inner.bin": b"inner"}))
        artifact = wandb.Artifact("refs", "model")
        artifact.add_reference(target.as_uri(), name="local.bin")
        artifact.add_reference(base.get_entry("inner.bin"), name="other.bin")
        run.log_artifact(artifact).wait()
    found = api.artifact(f"{server.entity}/{project}/refs:latest")
    assert read_tree(found.download(str(tmp_path / "out"))) == {"local.bin": b"referenced", "other.bin": b"inner"}


def test_xxh128(project, server, api, tmp_path):
    artifact = wandb.Artifact("x", "model", digest_algorithm="XXH128")
    artifact.add_dir(str(write_tree(tmp_path / "1", {"1.txt": b"one"})))
    with wandb.init(project=project) as run:
        run.log_artifact(artifact).wait()
    found = api.artifact(f"{server.entity}/{project}/x:latest")
    assert found.digest == "5fcd5f2a2c5fa70b2ae1804806ec360c"
    out = found.download(str(tmp_path / "out"))
    assert read_tree(out) == {"1.txt": b"one"}
    found.verify(out)


def test_lineage(project, server, api, tmp_path):
    with wandb.init(project=project) as producer:
        log_folder(producer, "in", write_tree(tmp_path / "1", {"a": b"1"}))
    with wandb.init(project=project) as consumer:
        consumer.use_artifact("in:latest")
        log_folder(consumer, "out", write_tree(tmp_path / "2", {"b": b"2"}), kind="pca")
    source = api.artifact(f"{server.entity}/{project}/in:v0")
    result = api.artifact(f"{server.entity}/{project}/out:v0")
    assert source.logged_by().id == producer.id and [run.id for run in source.used_by()] == [consumer.id]
    assert result.logged_by().id == consumer.id and not result.used_by()
    run = api.run(f"{server.entity}/{project}/{consumer.id}")
    assert [artifact.name for artifact in run.used_artifacts()] == ["in:v0"]
    assert [artifact.name for artifact in run.logged_artifacts()] == ["out:v0"]
    later = api.run(f"{server.entity}/{project}/{producer.id}")
    later.use_artifact(result)
    assert [run.id for run in api.artifact(f"{server.entity}/{project}/out:v0").used_by()] == [producer.id]


def test_type_conflict_is_refused(project, tmp_path):
    with wandb.init(project=project) as run:
        log_folder(run, "typed", write_tree(tmp_path / "1", {"a": b"1"}))
        with pytest.raises(ValueError, match="already exists with type|has type `model`"):
            log_folder(run, "typed", write_tree(tmp_path / "2", {"a": b"2"}), kind="dataset")


def test_editing_and_listing(project, server, api, tmp_path):
    with wandb.init(project=project) as run:
        for index in range(4):
            log_folder(run, "c", write_tree(tmp_path / str(index), {"a": bytes([index])}), aliases=[f"n{index}"])
        log_folder(run, "d", tmp_path / "0", kind="dataset")
    path = f"{server.entity}/{project}"
    assert [a.version for a in api.artifacts("model", f"{path}/c", per_page=3)] == ["v3", "v2", "v1", "v0"]
    oldest_first = api.artifacts("model", f"{path}/c", order="+createdAt")
    assert {a.version for a in oldest_first} == {"v0", "v1", "v2", "v3"}
    assert {kind.name for kind in api.artifact_types(path)} >= {"model", "dataset"}
    assert [c.name for c in api.artifact_collections(path, "model")] == ["c"]
    assert api.artifact_exists(f"{path}/c:v2") and not api.artifact_exists(f"{path}/c:v9")
    assert api.artifact_collection_exists(f"{path}/d", "dataset")

    edited = api.artifact(f"{path}/c:v1")
    edited.aliases = [*(a for a in edited.aliases if a != "n1"), "edited"]
    edited.metadata = {"k": [1, 2]}
    edited.description = "new"
    edited.tags = ["one", "two"]
    edited.save()
    edited.tags = ["two"]
    edited.save()
    again = wandb.Api().artifact(f"{path}/c:edited")
    assert again.version == "v1" and again.aliases == ["edited"] and again.metadata == {"k": [1, 2]}
    assert again.description == "new" and again.tags == ["two"]
    assert not api.artifact_exists(f"{path}/c:n1")

    with pytest.raises(wandb.errors.CommError):
        api.artifact(f"{path}/c:n2").delete()
    api.artifact(f"{path}/c:latest").delete(delete_aliases=True)
    assert wandb.Api().artifact(f"{path}/c:latest").version == "v2"

    collection = api.artifact_collection("model", f"{path}/c")
    collection.description = "all of them"
    collection.tags = ["t"]
    collection.name = "renamed"
    collection.save()
    renamed = wandb.Api().artifact_collection("model", f"{path}/renamed")
    assert renamed.description == "all of them" and renamed.tags == ["t"] and set(renamed.aliases) >= {"n0", "latest"}
    api.artifact_collection("dataset", f"{path}/d").delete()
    assert not wandb.Api().artifact_collection_exists(f"{path}/d", "dataset")


def test_links(project, server, api, tmp_path):
    path = f"{server.entity}/{project}"
    with wandb.init(project=project) as run:
        source = log_folder(run, "s", write_tree(tmp_path / "1", {"a": b"1"}))
        run.link_artifact(source, f"{path}/folio", aliases=["prod"])
    linked = api.artifact(f"{path}/folio:prod")
    assert linked.id == source.id and linked.is_link and linked.version == "v0"
    assert linked.source_qualified_name == f"{path}/s:v0"
    assert [a.name for a in wandb.Api().artifact(f"{path}/s:v0").linked_artifacts] == ["folio:v0"]
    assert read_tree(linked.download(str(tmp_path / "out"))) == {"a": b"1"}
    linked.unlink()
    assert not wandb.Api().artifact_exists(f"{path}/folio:prod")
    assert wandb.Api().artifact_exists(f"{path}/s:v0")
