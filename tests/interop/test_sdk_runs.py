"""The official SDK against the embedded server: runs, from `wandb.init` to `Api().run`."""

import math
import os
import subprocess
import sys
import time

import numpy
import pytest
import wandb


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s")


def test_run_round_trip(project, server, api, tmp_path):
    with wandb.init(project=project, config={"lr": 0.1, "nested": {"a": [1, 2]}}, name="named", group="g",
                    job_type="pca", tags=["t1", "t2"], notes="some notes") as run:
        run.define_metric("best", summary="max")
        for step in range(30):
            run.log({"loss": 1 / (step + 1), "best": -step, "nan": math.nan, "inf": math.inf, "nest": {"x": step}})
        run.log({"table": wandb.Table(columns=["layer", "ratio"], data=[["a", 0.5], ["b", None]]),
                 "html": wandb.Html("<b>bold</b>"),
                 "histogram": wandb.Histogram([1, 2, 3])})
        run.summary["extra"] = {"deep": 7}
        run.config["late"] = "value"
        (tmp_path / "note.txt").write_text("saved")
        run.save(str(tmp_path / "note.txt"), base_path=str(tmp_path), policy="end")
        print("a line on the console")

    found = api.run(f"{server.entity}/{project}/{run.id}")
    assert (found.name, found.state, found.group, found.job_type) == ("named", "finished", "g", "pca")
    assert found.tags == ["t1", "t2"] and found.notes == "some notes"
    assert found.config == {"lr": 0.1, "nested": {"a": [1, 2]}, "late": "value"}
    assert found.summary["loss"] == 1 / 30 and found.summary["best"]["max"] == 0
    assert found.summary["extra"]["deep"] == 7 and found.summary["table"]["nrows"] == 2
    assert found.lastHistoryStep == 30

    rows = list(found.scan_history())
    assert [row["_step"] for row in rows] == list(range(31))
    assert rows[3]["loss"] == 0.25 and math.isnan(rows[3]["nan"]) and rows[3]["nest"] == {"x": 3}
    picked = list(found.scan_history(keys=["loss", "nest.x"], min_step=10, max_step=20, page_size=4))
    assert [row["nest.x"] for row in picked] == list(range(10, 20))
    assert len(found.history(samples=10, pandas=False)) == 10
    assert [row["loss"] for row in found.history(keys=["loss"], pandas=False)] == [1 / (n + 1) for n in range(30)]
    assert isinstance(found.history(stream="system", pandas=False), list)

    names = {file.name: file for file in found.files()}
    assert {"config.yaml", "wandb-summary.json", "wandb-metadata.json", "note.txt"} <= set(names)
    names["note.txt"].download(root=str(tmp_path / "files"))
    assert (tmp_path / "files" / "note.txt").read_text() == "saved"
    assert [file.name for file in found.files(["note.txt"])] == ["note.txt"]
    html = found.summary["html"]["path"]
    assert names[html].size == found.summary["html"]["size"]
    assert found.metadata["python"]
    assert any("a line on the console" in entry.content for entry in until(lambda: list(found.console_logs())))

    table = api.artifact(f"{server.entity}/{project}/run-{run.id}-table:latest").get("table")
    assert table.columns == ["layer", "ratio"] and table.data == [["a", 0.5], ["b", None]]


def test_image(project, server, api):
    pytest.importorskip("PIL")
    with wandb.init(project=project) as run:
        run.log({"image": wandb.Image(numpy.zeros((4, 6, 3), dtype="uint8"), caption="black")})
    found = api.run(f"{server.entity}/{project}/{run.id}")
    (image,) = found.files([found.summary["image"]["path"]])
    assert image.size == found.summary["image"]["size"] and found.summary["image"]["caption"] == "black"


def test_resume(project, server, api):
    with wandb.init(project=project, config={"a": 1}) as first:
        for _ in range(5):
            first.log({"x": 1})
    with wandb.init(project=project, id=first.id, resume="must", config={"b": 2}) as second:
        assert second.resumed, (second.step, second.starting_step)
        assert second.starting_step == 5
        for _ in range(3):
            second.log({"x": 2})
    found = api.run(f"{server.entity}/{project}/{first.id}")
    assert [(row["_step"], row["x"]) for row in found.scan_history()] == [(n, 1 if n < 5 else 2) for n in range(8)]
    assert found.config == {"a": 1, "b": 2} and found.state == "finished"
    with pytest.raises(wandb.errors.UsageError):
        wandb.init(project=project, id="absent00", resume="must")
    with wandb.init(project=project, id=first.id, resume="allow") as third:
        assert third.starting_step == 8


def test_rewind_and_fork(project, server, api):
    with wandb.init(project=project) as first:
        for step in range(10):
            first.log({"x": step})
    with wandb.init(project=project, resume_from=f"{first.id}?_step=4") as again:
        again.log({"x": 100})
    found = api.run(f"{server.entity}/{project}/{first.id}")
    assert [row["x"] for row in found.scan_history()] == [0, 1, 2, 3, 4, 100]


def test_listing_filters_and_orders(project, server, api):
    for index in range(5):
        with wandb.init(project=project, config={"seed": index, "model": {"name": f"m{index % 2}"}},
                        tags=[f"tag{index % 2}"], group=f"g{index % 2}", name=f"run-{index}") as run:
            run.log({"loss": float(index)})
    path = f"{server.entity}/{project}"

    def seeds(**options):
        return [run.config["seed"] for run in wandb.Api().runs(path, per_page=2, **options)]

    assert seeds(order="+created_at") == [0, 1, 2, 3, 4]
    assert seeds(order="-summary_metrics.loss") == [4, 3, 2, 1, 0]
    assert seeds(order="+created_at", filters={"config.seed": {"$gte": 2}, "tags": "tag0"}) == [2, 4]
    assert seeds(order="+created_at", filters={"$or": [{"display_name": "run-1"}, {"config.seed": 3}]}) == [1, 3]
    assert seeds(order="-config.seed.value", filters={"group": "g1", "state": "finished"}) == [3, 1]
    assert seeds(order="+created_at", filters={"displayName": {"$regex": "run-[01]"}}) == [0, 1]
    assert len(wandb.Api().runs(path, filters={"state": "running"})) == 0
    assert [project_.name for project_ in api.projects(server.entity)].count(project) == 1


def test_editing_from_the_public_api(project, server, api, tmp_path, monkeypatch):
    with wandb.init(project=project, config={"a": 1}) as run:
        run.log({"x": 1})
    path = f"{server.entity}/{project}/{run.id}"
    found = api.run(path)
    found.config["b"] = 2
    found.tags.append("new")
    found.notes = "edited"
    found.name = "renamed"
    found.summary["accuracy"] = 0.5
    found.update()
    found.summary.update({"more": 1})
    (tmp_path / "up.bin").write_bytes(b"\0" * 1000)
    monkeypatch.chdir(tmp_path)
    found.upload_file("up.bin")
    again = wandb.Api().run(path)
    assert again.config == {"a": 1, "b": 2} and again.tags == ["new"] and again.name == "renamed"
    assert again.notes == "edited" and again.state == "finished"
    assert again.summary["accuracy"] == 0.5 and again.summary["more"] == 1 and again.summary["x"] == 1
    (uploaded,) = again.files(["up.bin"])
    assert uploaded.size == 1000
    uploaded.delete()
    assert not list(wandb.Api().run(path).files(["up.bin"]))
    again.delete()
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        wandb.Api().run(path)


def test_create_run_and_state(project, server, api):
    created = api.create_run(project=project, entity=server.entity)
    assert api.run(f"{server.entity}/{project}/{created.id}").state in ("running", "pending")
    assert created.update_state("failed")
    assert wandb.Api().run(f"{server.entity}/{project}/{created.id}").state == "failed"


def test_alert_and_failure(project, server, api):
    with pytest.raises(RuntimeError):
        with wandb.init(project=project) as run:
            run.alert("title", "text", level="WARN")
            raise RuntimeError("boom")
    assert until(lambda: wandb.Api().run(f"{server.entity}/{project}/{run.id}").state) == "failed"


def alone():
    """The environment without the SDK's service of this process, so that a child starts its own."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def test_stop_reaches_the_run(project, server, api):
    code = (
        # The SDK interrupts its program, and a shell's background job is started deaf to that.
        "import signal, time, wandb\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run = wandb.init(project={project!r}, id='stopme00', settings=wandb.Settings(x_file_stream_transmit_interval=1))\n"
        "for step in range(600):\n"
        "    run.log({'x': step}); time.sleep(0.1)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=alone())
    path = f"{server.entity}/{project}/stopme00"

    def started():
        try:
            run = wandb.Api().run(path)
        except wandb.errors.CommError:
            return None
        return run if run.lastHistoryStep > 5 else None

    until(started).stop()
    child.communicate(timeout=60)
    assert until(lambda: wandb.Api().run(path).state != "running" and wandb.Api().run(path).state) == "killed"


def test_a_wrong_key_is_refused(server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(wandb.errors.AuthenticationError, match="invalid API key"):
        wandb.Api(api_key="0" * 40)


def test_viewer(server, api):
    assert api.default_entity == server.entity
    assert api.viewer.username == server.entity and api.viewer.teams == [server.entity]


def test_data_survive_a_restart(tmp_path):
    from conftest import Server

    code = (
        "import os, sys, wandb\n"
        "step = sys.argv[1]\n"
        "if step == 'write':\n"
        "    with wandb.init(project='p', id='kept0000') as run:\n"
        "        run.log({'x': 3})\n"
        "        artifact = wandb.Artifact('a', 'model')\n"
        "        with artifact.new_file('f') as file: file.write('content')\n"
        "        run.log_artifact(artifact).wait()\n"
        "else:\n"
        "    run = wandb.Api().run('p/kept0000')\n"
        "    assert [row['x'] for row in run.scan_history()] == [3]\n"
        "    folder = wandb.Api().artifact('p/a:latest').download(os.environ['WANDB_DIR'] + '/out')\n"
        "    assert open(folder + '/f').read() == 'content'\n"
    )
    for step in ("write", "read"):
        server = Server(tmp_path / "data").start()
        try:
            environment = {**alone(), "WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key}
            environment["WANDB_CACHE_DIR"] = str(tmp_path / f"cache-{step}")
            subprocess.run([sys.executable, "-c", code, step], env=environment, check=True, timeout=120)
        finally:
            server.stop()
