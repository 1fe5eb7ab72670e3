"""What the official SDK and our library send for the same small job, compared field by field. Every difference is listed
with its reason in docs/protocol.md, and what is listed there is a difference."""

import base64
import gzip
import http.client
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import urllib.parse

import pytest

EXAMPLE = pathlib.Path(os.environ.get("WANDB_PCA_EXAMPLES", "target/debug/examples")) / "log_run"
PROTOCOL = pathlib.Path(__file__).parents[2] / "docs/protocol.md"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="needs the examples")


class Recorder:
    """Passes requests on to the server and remembers them."""

    def __init__(self, base):
        self.target = urllib.parse.urlparse(base)
        self.requests = []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                recorder.requests.append((self.command, self.path, plain))
                # The server signs addresses with the host that it was asked by, so they come back here.
                headers = {key: value for key, value in self.headers.items() if key.lower() not in ("transfer-encoding", "connection")}
                headers["Content-Length"] = str(len(body))
                upstream = http.client.HTTPConnection(recorder.target.netloc, timeout=60)
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                content = answer.read()
                own = f"http://127.0.0.1:{recorder.port}".encode()
                content = content.replace(f"http://{recorder.target.netloc}".encode(), own)
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in ("content-length", "connection", "transfer-encoding", "date"):
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = forward

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def environment(self):
        return {**os.environ, "WANDB_BASE_URL": f"http://127.0.0.1:{self.port}", "WANDB_CONSOLE": "wrap"}

    def operations(self):
        """Variables of each GraphQL operation, by name, in order."""
        found = {}
        for method, path, body in self.requests:
            if path == "/graphql":
                request = json.loads(body)
                name = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", request["query"]).group(1)
                found.setdefault(name, []).append(request.get("variables") or {})
        return found

    def stream(self):
        """The bodies of the file stream, put together: lines by file, files uploaded, the end."""
        files, uploaded, end = {}, [], {}
        for method, path, body in self.requests:
            if path.endswith("/file_stream"):
                post = json.loads(body or b"{}")
                for name, chunk in (post.get("files") or {}).items():
                    lines = files.setdefault(name, {})
                    lines.update({chunk["offset"] + at: line for at, line in enumerate(chunk["content"])})
                uploaded += post.get("uploaded") or []
                end.update({key: post[key] for key in ("complete", "exitcode") if key in post})
        return {name: [lines[at] for at in sorted(lines)] for name, lines in files.items()}, set(uploaded), end

    def bodies(self):
        """The bytes of every file that was put."""
        return [body for method, _, body in self.requests if method == "PUT"]


SDK_JOB = """
    import sys, wandb
    run = wandb.init(project=sys.argv[1], id="wire0001", name="job", group="jobs", job_type="pca", tags=["small"],
                     config={"lr": 0.5, "layers": [1, 2], "nested": {"name": "x"}})
    for loss, nested in [(1.0, 0), (0.5, 1), (0.25, 2)]:
        run.log({"loss": loss, "nested": {"x": nested}, "text": "ü"})
    run.log({"table": wandb.Table(columns=["x", "y"], data=[[1, 4.75], [3, None]])})
    run.log({"image": wandb.Image(sys.argv[2], caption="a pixel")})
    artifact = wandb.Artifact("weights", "checkpoint", metadata={"seed": 1}, description="of the job")
    with artifact.new_file("weights.bin") as file:
        file.write("weights")
    run.log_artifact(artifact).wait()
    run.summary["best"] = 3
    print("done")
    run.finish()
"""


@pytest.fixture(scope="module")
def both(server, tmp_path_factory):
    """The recordings: the SDK's and ours."""
    folder = tmp_path_factory.mktemp("wire")
    pixel = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
    (folder / "pixel.png").write_bytes(pixel)
    theirs, ours = Recorder(server.base_url), Recorder(server.base_url)
    code = [sys.executable, "-c", textwrap.dedent(SDK_JOB), "wire-sdk", str(folder / "pixel.png")]
    subprocess.run(code, env=theirs.environment(), check=True, timeout=180, cwd=folder)
    subprocess.run([EXAMPLE, "job", "wire-ours"], env=ours.environment(), check=True, timeout=180, stdout=subprocess.DEVNULL)
    return theirs, ours


def flat(value, path=""):
    """Every leaf by its path."""
    if isinstance(value, dict) and value:
        return {name: leaf for key, member in value.items() for name, leaf in flat(member, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(value, list) and value:
        return {name: leaf for at, member in enumerate(value) for name, leaf in flat(member, f"{path}[{at}]").items()}
    return {path: value}


# By nature other for each run: names, times, random ids, hashes over those.
VARIES = {"name", "runName", "project", "projectName", "modelName", "entity", "entityName", "clientID", "sequenceClientID", "distributedID",
          "artifactID", "artifactManifestID", "baseArtifactID", "artifactIDs", "id"}


def differences(theirs, ours):
    """Paths that only one sends, and paths with other values; what is null is as if it were not there."""
    theirs = {key: value for key, value in flat(theirs).items() if value not in (None, [], {})}
    ours = {key: value for key, value in flat(ours).items() if value not in (None, [], {})}
    varies = lambda key: re.sub(r"\[\d+\]", "", key).rsplit(".", 1)[-1] in VARIES
    keys = {key for key in theirs.keys() | ours.keys() if not varies(key)}
    return {key for key in keys if theirs.get(key) != ours.get(key)}


def documented():
    """The differences that docs/protocol.md lists: the first column of its tables, in code."""
    return set(re.findall(r"^\| `([^`]+)` \|", PROTOCOL.read_text(), re.MULTILINE))


SEEN = set()


def listed(found, of):
    differences = {f"{of}: {name}" for name in found}
    SEEN.update(differences)
    assert not differences - documented(), sorted(differences - documented())


def test_operations(both):
    theirs, ours = (recorder.operations() for recorder in both)
    listed(theirs.keys() - ours.keys(), "only the SDK asks")
    listed(ours.keys() - theirs.keys(), "only we ask")


def plain(variables):
    """The input object, whether it is one variable or several."""
    inner = {**variables, **variables["input"]} if isinstance(variables.get("input"), dict) else dict(variables)
    inner.pop("input", None)
    # A variable of the SDK that is called otherwise than the field that it goes to.
    return {{"type": "manifestType"}.get(key, key): value for key, value in inner.items()}


def test_the_run(both):
    theirs, ours = (recorder.operations()["UpsertBucket"] for recorder in both)
    # The SDK names variables otherwise than the fields they go to.
    fields = {"groupName": "groupName", "program": "jobProgram", "repo": "jobRepo", "project": "modelName", "entity": "entityName"}
    first = {fields.get(key, key): value for key, value in plain(theirs[0]).items()}
    mine = plain(ours[0])
    configs = [json.loads(variables.pop("config")) for variables in (first, mine)]
    listed(differences(first, mine), "UpsertBucket")
    last = [json.loads(plain(calls[-1])["config"]) for calls in (theirs, ours)]
    for config in [*configs, *last]:
        config.pop("_wandb")
    assert configs[0] == configs[1] and last[0] == last[1]
    own = []
    for calls in (theirs, ours):
        internal = json.loads(plain(calls[-1])["config"])["_wandb"]["value"]
        (environment,) = internal.pop("e").values()
        own.append({"_wandb": {**internal, "t": sorted(internal["t"]), "e": sorted(environment)}})
    listed({key.split("[")[0] for key in differences(*own)}, "config")


def test_the_file_stream(both):
    (theirs, sent, end), (ours, our_sent, our_end) = (recorder.stream() for recorder in both)
    assert end == our_end == {"complete": True, "exitcode": 0}
    listed(theirs.keys() ^ ours.keys(), "stream")
    rows, our_rows = ([json.loads(line) for line in files["wandb-history.jsonl"]] for files in (theirs, ours))
    assert len(rows) == len(our_rows) == 5
    found = set()
    for row, our_row in zip(rows, our_rows):
        assert row["_step"] == our_row["_step"]
        found |= {re.sub(r"\[\d+\]", "", key) for key in differences(row, our_row)}
    listed(found - {"_timestamp", "_runtime", "table.artifact_path", "table._latest_artifact_path"}, "row")
    summary, our_summary = (json.loads(files["wandb-summary.json"][-1]) for files in (theirs, ours))
    found = differences(summary, our_summary)
    listed(found - {"_timestamp", "_runtime", "_wandb.runtime", "table.artifact_path", "table._latest_artifact_path"}, "summary")
    listed({name for name in sent ^ our_sent if "media/" not in name}, "file")
    assert {name for name in sent if "media/" in name} == {name for name in our_sent if "media/" in name}


def test_artifacts(both):
    theirs, ours = (recorder.operations() for recorder in both)
    for name in ("CreateArtifact", "CreateArtifactManifest", "CreateArtifactFiles"):
        assert len(theirs[name]) == len(ours[name]), name
        found = set()
        by = lambda variables: (plain(variables).get("artifactTypeName") or "", bool(plain(variables).get("includeUpload")))
        for one, other in zip(sorted(theirs[name], key=by), sorted(ours[name], key=by)):
            one, other = plain(one), plain(other)
            for side in (one, other):
                if isinstance(side.get("metadata"), str):
                    side["metadata"] = json.loads(side["metadata"])
            found |= {re.sub(r"\[\d+\]", "", key) for key in differences(one, other)}
        listed(found, name)


def test_uploaded_bytes(both):
    """Media and the run-file table are the same bytes; the table in the artifact says the same."""
    theirs, ours = (set(recorder.bodies()) for recorder in both)
    same = theirs & ours
    # The artifact's own file is not compared: whoever comes second is told that the server has its bytes.
    assert any(body.startswith(b"\x89PNG") for body in same)
    assert b'{"columns":["x","y"],"data":[[1,4.75],[3,null]]}' in same

    def tables(bodies):
        return [json.loads(body) for body in bodies if body.startswith(b'{"_type') or b'"column_types"' in body]

    assert tables(theirs) == tables(ours) and len(tables(ours)) == 1


def test_what_is_listed_is_a_difference(both):
    SEEN.clear()
    for look in (test_operations, test_the_run, test_the_file_stream, test_artifacts):
        look(both)
    assert not documented() - SEEN, sorted(documented() - SEEN)
