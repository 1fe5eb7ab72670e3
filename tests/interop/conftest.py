"""A server of ours for the official SDK: started once, on a free port, with folders of its own."""

import dataclasses
import json
import os
import subprocess

import pytest


@dataclasses.dataclass
class Server:
    base_url: str
    api_key: str
    entity: str
    env: dict


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    command = [os.environ["WANDB_PCA_BIN"], "serve", "--data", folder / "data", "--address", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ready = json.loads(process.stdout.readline())
    env = {
        "WANDB_BASE_URL": ready["base_url"],
        "WANDB_API_KEY": ready["api_key"],
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "NETRC": str(folder / "netrc"),
    }
    env |= {f"WANDB_{name}": str(folder / name.lower()) for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR")}
    for path in ("dir", "cache_dir", "data_dir", "config_dir", "artifact_dir"):
        (folder / path).mkdir()
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    yield Server(ready["base_url"], ready["api_key"], ready["entity"], env)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    process.terminate()
    process.wait(timeout=15)
