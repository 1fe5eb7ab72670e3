"""Charts, media, tables, resumption, console, stop requests and alerts of our runs, as the official SDK reads them."""

import base64
import json
import os
import pathlib
import sqlite3
import subprocess
import time
import urllib.request

import pytest
import wandb

EXAMPLE = pathlib.Path(os.environ.get("WANDB_PCA_EXAMPLES", "target/debug/examples")) / "log_run"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="needs the examples")


def log(*arguments):
    """Runs the example; the path of its run."""
    done = subprocess.run([EXAMPLE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0]


def internal(run):
    own = run.rawconfig["_wandb"]
    return own.get("value", own)


@pytest.fixture(scope="module")
def media(server):
    return log("media", "media")


@pytest.fixture
def run(api, media):
    return api.run(media)


def table(api, run, key):
    """The table that the run's summary has under a key, through its artifact."""
    value = run.summary[key]
    assert value["_type"] == "table-file" and value["artifact_path"].startswith("wandb-client-artifact://")
    (artifact,) = [a for a in run.logged_artifacts() if f"{key}.table.json" in a.manifest.entries]
    assert artifact.type == "run_table"
    read = artifact.get(key)
    assert isinstance(read, wandb.Table)
    return read


def test_charts_are_panels_over_their_tables(api, run):
    with wandb.init(project="charts") as official:
        rows = wandb.Table(columns=["x", "y", "name"], data=[[x, x / 2, f"line {x % 2}"] for x in range(4)])
        official.log({"charts/line": wandb.plot.line(rows, "x", "y", stroke="name", title="charts/line")})
        official.log({"charts/bar": wandb.plot.bar(rows, "name", "y", title="charts/bar")})
        official.log({"charts/scatter": wandb.plot.scatter(rows, "x", "y", title="charts/scatter")})
    theirs = internal(api.run(official.path))["visualize"]
    mine = internal(run)["visualize"]
    assert set(mine) == {*theirs, "charts/series"}
    for key in theirs:
        assert mine[key] == theirs[key], key
    series = mine["charts/series"]["panel_config"]
    assert series["panelDefId"] == "wandb/lineseries/v0"
    assert series["fieldSettings"] == {"step": "x", "lineKey": "name", "lineVal": "y"}
    for key in mine:
        assert table(api, run, f"{key}_table").data[3] == [3, 1.5, "line 1"]
        assert key not in run.summary


def test_images_and_pages_are_files(run, tmp_path):
    value = run.summary["images/one"]
    assert (value["_type"], value["format"], value["width"], value["height"], value["caption"]) == ("image-file", "png", 1, 1, "a pixel")
    (row,) = [row["images/one"] for row in run.scan_history() if row.get("images/one")]
    assert row["path"].startswith("media/images/images/one_4_") and row["path"].endswith(f"{row['sha256'][:20]}.png")
    with run.file(row["path"]).download(root=str(tmp_path)) as file:
        assert len(pathlib.Path(file.name).read_bytes()) == row["size"]
    several = run.summary["images/list"]
    assert (several["_type"], several["count"], several["captions"]) == ("images/separated", 2, ["first", None])
    names = {file.name for file in run.files()}
    assert set(several["filenames"]) <= names
    page = run.summary["page"]
    assert page["_type"] == "html-file" and page["path"].startswith("media/html/page_")
    with run.file(page["path"]).download(root=str(tmp_path)) as file:
        assert file.read() == "<b>bold</b>"


def test_histograms_are_numpys(run):
    assert run.summary["spread"] == {"_type": "histogram", "values": [1, 0, 2, 1], "bins": [0, 0.5, 1, 1.5, 2]}


def test_tables_are_typed(api, run):
    read = table(api, run, "typed")
    assert read.data == [
        ["a", 0.5, True, {"list": [1, 2], "name": "n"}, 1],
        [None, None, None, None, "two"],
        ["ü", 2, False, [["deep"], None], [3]],
    ]
    types = read._column_types.params["type_map"]
    official = wandb.Table(columns=["text", "number", "truth"], data=[["a", 0.5, True]])._column_types.params["type_map"]
    for column in official:
        assert types[column].to_json() == official[column].to_json()
    assert types["nested"].assign({"list": [5], "name": "m"}).name != "invalid"
    assert types["mixed"].assign("anything").name != "invalid"
    # What is read can be logged again by the official client.
    with wandb.init(project="again") as again:
        again.log({"typed": read})


def test_long_tables_come_in_parts(api, run, tmp_path):
    first, second = table(api, run, "long"), table(api, run, "long-part2")
    assert (len(first.data), second.data) == (200_000, [[200_000]])
    with run.file(run.summary["long"]["path"]).download(root=str(tmp_path)) as file:
        assert len(json.load(file)["data"]) == 10_000


def test_the_run_says_what_made_it(run, tmp_path):
    own = internal(run)
    (environment,) = own["e"].values()
    with run.file("wandb-metadata.json").download(root=str(tmp_path)) as file:
        metadata = json.load(file)
    assert metadata == environment
    assert metadata["cpu_count_logical"] >= 1 and metadata["program"].startswith("wandb-pca/") and metadata["os"]
    assert metadata["startedAt"].endswith("Z") and "args" not in metadata
    assert own["t"]["12"].startswith("wandb-pca/") and own["m"] == []
    assert run.metadata == metadata


def test_the_console_is_kept(run, tmp_path):
    with run.file("output.log").download(root=str(tmp_path)) as file:
        assert file.read() == "said\ncomplained\n"


def test_alerts_arrive(server, media):
    with sqlite3.connect(f"file:{server.data}/server.db?mode=ro", uri=True) as db:
        alerts = list(db.execute("SELECT title, text, severity FROM alert JOIN run ON run.id = run_id WHERE run.name = ?", [media.split("/")[-1]]))
    assert alerts == [("title", "text", "WARN")]


def test_a_run_of_the_sdk_goes_on(api, project):
    with wandb.init(project=project, config={"first": 1}) as begun:
        for x in range(5):
            begun.log({"x": x, "y": x})
        begun.log({"chart": wandb.plot.line(wandb.Table(columns=["a", "b"], data=[[1, 2]]), "a", "b")})
    before = api.run(begun.path)
    log("resume", project, begun.id)
    after = wandb.Api().run(begun.path)
    assert [row["_step"] for row in after.scan_history()] == list(range(9))
    assert [row["x"] for row in after.scan_history(keys=["x"])] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert dict(after.config) == {"first": 1, "second": True}
    assert after.summary["y"] == 4 and after.summary["x"] == 2
    assert internal(after)["visualize"] == internal(before)["visualize"]
    assert after.state == "finished"
    # And back again.
    with wandb.init(project=project, id=begun.id, resume="must") as third:
        assert third.resumed and third.starting_step == 9


def test_a_run_that_must_be_there(server, project):
    with wandb.init(project=project) as some:
        some.log({"x": 1})
    done = subprocess.run([EXAMPLE, "resume", project, "absent00"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "NotFound" in done.stderr


def test_a_stop_request_is_heard(api, project):
    process = subprocess.Popen([EXAMPLE, "until-stop", project], stdout=subprocess.PIPE, text=True)
    path = process.stdout.readline().strip()
    time.sleep(2)
    run = api.run(path)
    assert run.state == "running"
    stop(run)
    assert process.wait(timeout=60) == 0
    assert wandb.Api().run(path).state == "killed"


def stop(run):
    """The mutation that the stop button sends."""
    key = base64.b64encode(f"api:{os.environ['WANDB_API_KEY']}".encode()).decode()
    body = {"query": "mutation StopRun($id: ID!) { stopRun(input: {id: $id}) { success } }", "variables": {"id": run.storage_id}}
    request = urllib.request.Request(
        f"{os.environ['WANDB_BASE_URL']}/graphql", json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {key}"},
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["data"]["stopRun"]["success"]


def test_own_chart_definitions_are_kept_once(api, server):
    """The mutation that our fits use is the SDK's."""
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "mark": "bar", "data": {"name": "wandb"}}
    made = dict(entity=server.entity, name="own", display_name="Own", spec_type="vega2", access="private", spec=spec)
    assert api.create_custom_chart(**made) == f"{server.entity}/own"
    with pytest.raises(Exception, match="exists"):
        api.create_custom_chart(**made)
