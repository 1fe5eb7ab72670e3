"""Runs that were logged offline: the official `wandb sync` uploads our folder, our `sync` uploads the SDK's, and either way
the server ends up with what the other client would have put there."""

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time

import numpy
import pytest
import wandb
import yaml
from conftest import Server, ours
from safetensors.numpy import save_file

EXAMPLE = pathlib.Path(os.environ.get("WANDB_PCA_EXAMPLES", "target/debug/examples")) / "log_run"


def official(folder):
    """Without --project, which the official client applies to the run and not to its artifacts."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr


def telemetry(config):
    """What the log says, without the marks of the client that sends it."""
    sent = dict(config["_wandb"].get("value", config["_wandb"])["t"])
    sent.pop("12", None)
    sent["3"] = [feature for feature in sent.get("3", []) if feature != 76]
    return {key: value for key, value in sent.items() if value}


def metrics(definitions):
    """In an order of their own; the official client's is random. Key 5 is the place of the step metric, from 1."""
    name = lambda entry: entry.get("1") or entry.get("2")
    named = [{**entry, "5": name(definitions[entry["5"] - 1])} if "5" in entry else entry for entry in definitions]
    return sorted(named, key=name)


def snapshot(api, path, folder):
    """Everything of a run that the SDK reads back."""
    run = api.run(path)
    files = {file.name for file in run.files()}
    folder.mkdir(exist_ok=True)
    texts = {}
    for name in files:
        run.file(name).download(root=str(folder), replace=True)
        texts[name] = (folder / name).read_text(errors="replace")
    for generated in ("config.yaml", "wandb-summary.json", "wandb-metadata.json"):
        if generated in texts:
            texts[generated] = yaml.safe_load(texts[generated].replace("NaN", ".nan"))
    if "config.yaml" in texts:
        texts["config.yaml"].pop("_wandb", None)
    tables = {}
    artifacts = []
    for artifact in run.logged_artifacts():
        artifacts.append((artifact.type, artifact.name.split(":")[0], artifact.digest, sorted(artifact.aliases), artifact.metadata))
        if artifact.type == "run_table":
            (name,) = [name for name in artifact.manifest.entries if name.endswith(".table.json")]
            table = artifact.get(name.removesuffix(".table.json"))
            assert isinstance(table, wandb.Table)
            tables[artifact.name.split(":")[0]] = (table.columns, table.data)
    internal = run.rawconfig["_wandb"]
    internal = internal.get("value", internal)
    return {
        "rows": list(run.scan_history()),
        "system": [sorted(key for key in row if key.startswith("system.")) for row in run.history(stream="system", pandas=False)],
        "summary": json.loads(json.dumps(dict(run.summary._json_dict))),
        "config": dict(run.config),
        "metrics": metrics(internal.get("m") or []),
        # Under an id of the client that sent it.
        "environment": list((internal.get("e") or {}).values()),
        "telemetry": telemetry({"_wandb": internal}),
        "state": run.state,
        "about": (run.name, run.group, run.job_type, run.notes, sorted(run.tags)),
        "files": texts,
        "artifacts": sorted(artifacts, key=str),
        "tables": tables,
    }


def same(one, other):
    """Compares member by member, NaN with NaN."""
    assert one.keys() == other.keys()
    for key in one:
        assert json.dumps(one[key], sort_keys=True, default=str) == json.dumps(other[key], sort_keys=True, default=str), key


SDK_RUN = """
    import sys, wandb
    run = wandb.init(id="sdk00001", name="shown", notes="some", tags=["a", "b"], group="g", job_type="j",
                     config={"lr": 0.25, "nested": {"a": [1, None]}})
    run.define_metric("loss", summary="min")
    run.define_metric("val/*", step_metric="epoch")
    for step in range(20):
        run.log({"loss": 1 / (step + 1), "nested": {"x": step}, "odd": float("nan"), "text": "ü", "truth": True})
    run.log({"table": wandb.Table(columns=["x", "y"], data=[[1, 2.5], [3, None]]), "html": wandb.Html("<b>x</b>"),
             "hist": wandb.Histogram([1, 2, 3])})
    run.summary["best"] = 3
    print("to output")
    print("to error", file=sys.stderr)
    artifact = wandb.Artifact("model", "checkpoint", metadata={"seed": 1}, description="weights")
    with artifact.new_file("weights.bin") as file:
        file.write("weights")
    artifact.add_reference("https://example.org/data.csv", name="data.csv", checksum=False)
    run.log_artifact(artifact, aliases=["best"])
    run.alert("title", "text")
    run.config["later"] = 7
    run.finish(exit_code=EXIT)
"""


@pytest.fixture
def other(tmp_path):
    """A second server, for our sync: the ids that a log gives its artifacts are good for one place on a server."""
    running = Server(tmp_path / "server").start()
    yield running
    running.stop()


def at(server):
    return {"WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key}


def api_of(server):
    return wandb.Api(overrides={"base_url": server.base_url}, api_key=server.api_key)


@pytest.mark.parametrize("exit_code", [0, 3])
def test_our_sync_of_the_sdks_folder_equals_the_official_one(project, api, server, other, tmp_path, exit_code):
    code = textwrap.dedent(SDK_RUN).replace("EXIT", str(exit_code))
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": project}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    official(copy)
    done = ours("sync", folder, **at(other))
    assert done["runs"][0]["state"] == "sent" and done["runs"][0]["detail"]["rows"] == 21
    assert (folder / "run-sdk00001.wandb.synced").exists()
    path = f"{project}/sdk00001"
    theirs = snapshot(api, f"{server.entity}/{path}", tmp_path / "a")
    mine = snapshot(api_of(other), f"{other.entity}/{path}", tmp_path / "b")
    assert mine["state"] == ("finished" if exit_code == 0 else "failed")
    same(mine, theirs)
    # Once more, over what is there: also over what the official client sent.
    ours("sync", "--include-synced", folder, **at(other))
    same(snapshot(api_of(other), f"{other.entity}/{path}", tmp_path / "c"), theirs)
    ours("sync", "--include-synced", copy)
    again = snapshot(api, f"{server.entity}/{path}", tmp_path / "d")
    assert [row["_step"] for row in again["rows"]] == [row["_step"] for row in theirs["rows"]]


def checkpoints(folder):
    random = numpy.random.default_rng(0)
    folder.mkdir()
    for name in ("pt", *range(4)):
        tensors = {f"layer{at}.weight": random.normal(size=(3, 4)).astype("float32") for at in range(3)}
        save_file(tensors, folder / f"m_{name}.safetensors")
    return folder


def test_the_official_sync_uploads_our_folder(project, api, server, other, tmp_path):
    inputs = checkpoints(tmp_path / "inputs")
    arguments = ["--pretrained", inputs / "m_pt.safetensors", "--finetuned", inputs / "m_{seed}.safetensors", "--seeds", "0..3"]
    done = ours("--mode", "offline", "--project", project, "fit", *arguments, "--out", tmp_path / "fit", "--log",
                WANDB_DIR=str(tmp_path), WANDB_TAGS="a,b", WANDB_NOTES="some", WANDB_NAME="shown")
    folder = pathlib.Path(done["run"]["folder"])
    assert folder.parent == tmp_path / "wandb" and folder.name.startswith("offline-run-")
    id = folder.name.rsplit("-", 1)[1]
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    official(copy)
    ours("sync", folder, **at(other))
    theirs = snapshot(api, f"{server.entity}/{project}/{id}", tmp_path / "a")
    mine = snapshot(api_of(other), f"{other.entity}/{project}/{id}", tmp_path / "b")
    same(mine, theirs)
    assert {kind for kind, *_ in theirs["artifacts"]} == {"run_table", "pca"}
    assert len(theirs["tables"]) == 7
    assert any(file.startswith("media/html/pca/report_0_") for file in theirs["files"])
    assert theirs["state"] == "finished" and theirs["about"][0] == "shown"
    assert theirs["summary"]["pca/layers_fitted"] == 3


def test_lineage_goes_with_our_sync(project, api, server, tmp_path):
    """Artifacts are used and logged as when the run had been online. The official sync passes over what is used."""
    inputs = checkpoints(tmp_path / "inputs")
    with wandb.init(project=project) as run:
        for name in ("pt", *range(4)):
            artifact = wandb.Artifact(f"m_{name}", "checkpoint")
            artifact.add_file(str(inputs / f"m_{name}.safetensors"))
            run.log_artifact(artifact)
    fit = ["fit", "--pretrained", f"{server.entity}/{project}/m_pt:latest", "--finetuned",
           f"{server.entity}/{project}/m_{{seed}}:latest", "--seeds", "0..3"]
    ours(*fit, "--out", tmp_path / "online", "--no-log")
    done = ours("--mode", "offline", *fit, "--out", tmp_path / "fit", WANDB_DIR=str(tmp_path))
    synced = ours("sync", done["run"]["folder"])
    run = api.run(synced["runs"][0]["detail"]["path"])
    used = sorted(artifact.name for artifact in run.used_artifacts())
    assert used == ["m_0:v0", "m_1:v0", "m_2:v0", "m_3:v0", "m_pt:v0"]
    assert run.project == project


SDK_SESSION = """
    import sys, wandb
    run = wandb.init(id="sessions", resume="allow", config={"from " + sys.argv[1]: True},
                     settings=wandb.Settings(x_stats_sampling_interval=0.2))
    for x in range(3):
        run.log({"x": x})
        print(f"said {x} in {sys.argv[1]}")
        time.sleep(0.3)
    run.finish()
"""


def lines(server, run, stream):
    """The lines of a run on the server by its own book, without what differs by nature: the times of what was printed."""
    sql = "SELECT line, content FROM run_line JOIN run ON run.id = run_id WHERE name = ? AND stream = ? ORDER BY line"
    with sqlite3.connect(server.data / "server.db") as book:
        found = book.execute(sql, (run, stream)).fetchall()
    assert [line for line, _ in found] == list(range(len(found)))
    return [content.split(" ", 1)[1] if stream == "output" else json.loads(content) for _, content in found]


def both_ways(folders, tmp_path, other):
    """Sends each folder with the official client to one server and with ours to the other."""
    for folder in folders:
        copy = tmp_path / "copy" / folder.name
        shutil.copytree(folder, copy)
        official(copy)
        assert ours("sync", folder, **at(other))["runs"][0]["state"] == "sent"


def test_sessions_of_the_sdk_stand_one_behind_the_other(project, api, server, other, tmp_path):
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": project}
    code = "import time\n" + textwrap.dedent(SDK_SESSION)
    for session in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, session], env=environment, check=True, timeout=120)
        time.sleep(1.1)
    folders = sorted(tmp_path.glob("wandb/offline-run-*"))
    both_ways(folders, tmp_path, other)
    assert len(folders) == 2
    for stream in ("history", "events", "output"):
        theirs, mine = lines(server, "sessions", stream), lines(other, "sessions", stream)
        assert mine == theirs, stream
    assert mine == [f"said {x} in {session}" for session in ("one", "two") for x in range(3)]
    assert [row["_step"] for row in lines(other, "sessions", "history")] == list(range(6))
    assert len(lines(other, "sessions", "events")) >= 4
    path = f"{project}/sessions"
    theirs = snapshot(api, f"{server.entity}/{path}", tmp_path / "a")
    mine = snapshot(api_of(other), f"{other.entity}/{path}", tmp_path / "b")
    assert set(mine["config"]) == {"from one", "from two"}
    same(mine, theirs)
    # Over what the official client sent, ours finds its rows by the step that the official one decided on.
    ours("sync", "--include-synced", *sorted((tmp_path / "copy").iterdir()))
    assert lines(server, "sessions", "history") == lines(other, "sessions", "history")


def test_references_and_sessions_of_ours_go_either_way(project, api, server, other, tmp_path):
    (tmp_path / "data" / "below").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("a")
    (tmp_path / "data" / "below" / "b.txt").write_text("b")
    folders = []
    for _ in range(2):
        command = [EXAMPLE, "offline", project, "ours0001", tmp_path]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, timeout=60)
        folders.append(pathlib.Path(done.stdout.strip()))
    both_ways(folders, tmp_path, other)
    for stream in ("history", "output"):
        assert lines(other, "ours0001", stream) == lines(server, "ours0001", stream), stream
    assert [row["_step"] for row in lines(other, "ours0001", "history")] == list(range(4))
    path = f"{project}/ours0001"
    theirs = snapshot(api, f"{server.entity}/{path}", tmp_path / "a")
    same(snapshot(api_of(other), f"{other.entity}/{path}", tmp_path / "b"), theirs)
    entries = {}
    for there, entity in ((api, server.entity), (api_of(other), other.entity)):
        manifest = there.artifact(f"{entity}/{project}/referring:latest").manifest
        entries[entity, there] = {name: (entry.ref, entry.digest, entry.size) for name, entry in manifest.entries.items()}
    theirs, mine = entries.values()
    assert mine == theirs
    # As the SDK itself refers to them.
    artifact = wandb.Artifact("referring", "dataset")
    artifact.add_reference((tmp_path / "data").as_uri(), name="data")
    artifact.add_reference("https://example.org/far.csv", name="far.csv", checksum=False)
    assert {name: (entry.ref, entry.digest) for name, entry in artifact.manifest.entries.items()} == {
        name: (ref, digest) for name, (ref, digest, _) in mine.items() if ref
    }
