"""Fixtures of the interoperability suite: the embedded server, and the official SDK kept to a folder of its own."""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")


def server_command():
    """`WANDB_PCA_SERVER_CMD`, a whole command, or `WANDB_PCA_BIN`, the binary whose `serve` is used."""
    if command := os.environ.get("WANDB_PCA_SERVER_CMD"):
        return shlex.split(command)
    if binary := os.environ.get("WANDB_PCA_BIN"):
        return [binary, "serve"]
    pytest.exit("neither WANDB_PCA_BIN nor WANDB_PCA_SERVER_CMD says which server to test", 2)


def command(*arguments, code=0, binary=None, cwd=None, **environment):
    """Runs our command, which must end with this code."""
    words = [binary or os.environ["WANDB_PCA_BIN"], "--json", *map(str, arguments)]
    done = subprocess.run(words, cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def ours(*arguments, **options):
    """What our command prints, as JSON."""
    return json.loads(command(*arguments, **options).stdout)


def refused(*arguments, code, **options):
    """Why our command refuses."""
    return command(*arguments, code=code, **options).stderr


def read(root):
    """Every file below a folder, by its path."""
    root = pathlib.Path(root)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Server:
    """One server process on one data folder."""

    def __init__(self, data):
        self.data = pathlib.Path(data)
        self.process = None

    def start(self):
        command = [*server_command(), "--data", str(self.data), "--address", "127.0.0.1:0", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"{command} ended before it said where it listens"
        info = json.loads(line)
        self.base_url, self.api_key, self.entity = info["base_url"], info["api_key"], info["entity"]
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server")).start()
    yield running
    running.stop()


@pytest.fixture(scope="session", autouse=True)
def isolated(server, tmp_path_factory):
    """The environment of the SDK: this server, and folders that nobody else uses."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("sdk")
    for name in [name for name in os.environ if name.startswith("WANDB_") and not name.startswith("WANDB_PCA_")]:
        patch.delenv(name)
    for name in FOLDERS:
        folder = home / name.lower()
        folder.mkdir()
        patch.setenv(name, str(folder))
    patch.setenv("NETRC", str(home / "netrc"))
    patch.setenv("WANDB_BASE_URL", server.base_url)
    patch.setenv("WANDB_API_KEY", server.api_key)
    patch.setenv("WANDB_ERROR_REPORTING", "false")
    patch.setenv("WANDB_SILENT", "true")
    yield home
    import wandb

    wandb.teardown()
    patch.undo()


@pytest.fixture
def project(request):
    """A project of its own for each test."""
    return request.node.name.replace("[", "-").replace("]", "").replace("_", "-")


@pytest.fixture
def api():
    import wandb

    return wandb.Api()
