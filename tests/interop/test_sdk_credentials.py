"""Credentials and settings: what the official SDK writes we read, what we write it reads, and identity tokens."""

import base64
import json
import netrc
import os
import stat
import subprocess
import sys

import pytest
from conftest import Server

BINARY = os.environ.get("WANDB_PCA_BIN")
pytestmark = pytest.mark.skipif(not BINARY, reason="needs the binary")


@pytest.fixture
def home(tmp_path):
    """A home without any setting."""
    return tmp_path


def clean(home, **more):
    keep = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "NETRC"}
    return {**keep, "HOME": str(home), "WANDB_ERROR_REPORTING": "false", "WANDB_DIR": str(home), **more}


def ours(home, *arguments, stdin=None, **more):
    return subprocess.run([BINARY, *arguments], env=clean(home, **more), cwd=home, input=stdin, text=True,
                          capture_output=True)


def sdk(home, code, **more):
    """Runs Python with the SDK in that home and returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code], env=clean(home, WANDB_SILENT="true", **more), cwd=home, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


VIEWER = "import wandb; print(wandb.Api().viewer.username)"


def test_a_key_that_the_sdk_stored_opens_the_server_for_us(server, home):
    (home / ".netrc").write_text("machine other.example login me password secret\n")
    sdk(home, f"import wandb; assert wandb.login(key={server.api_key!r}, host={server.base_url!r}, verify=True)")
    done = ours(home, "whoami", "--json", WANDB_BASE_URL=server.base_url)
    who = json.loads(done.stdout)
    assert who["user"] == server.entity and who["key_source"] == str(home / ".netrc")


def test_a_key_that_we_stored_opens_the_server_for_the_sdk(server, home):
    (home / ".netrc").write_text("# mine\nmachine other.example login me password secret\n\ndefault login x password y\n")
    done = ours(home, "login", "--key-stdin", "--base-url", server.base_url, stdin=server.api_key + "\n")
    assert done.returncode == 0, done.stderr
    assert sdk(home, VIEWER, WANDB_BASE_URL=server.base_url) == server.entity
    entries = netrc.netrc(home / ".netrc")
    assert entries.authenticators("other.example") == ("me", "", "secret") and entries.authenticators("any")[2] == "y"


def test_either_rewrites_the_entry_of_the_other(server, home):
    machine = server.base_url.removeprefix("http://")
    (home / ".netrc").write_text(f"machine {machine} login user password {'0' * 40}\nmachine z login a password b\n")
    ours(home, "login", "--key-stdin", "--base-url", server.base_url, stdin=server.api_key)
    sdk(home, f"import wandb; wandb.login(key={server.api_key!r}, host={server.base_url!r}, relogin=True)")
    ours(home, "login", "--key-stdin", "--base-url", server.base_url, stdin=server.api_key)
    text = (home / ".netrc").read_text()
    assert text.count(machine) == 1 and "machine z login a password b\n" in text and "0" * 40 not in text
    assert stat.S_IMODE((home / ".netrc").stat().st_mode) == 0o644 & ~os.umask(os.umask(0o022))


def test_settings_files_mean_the_same_to_both(server, home):
    settings = home / "wandb/settings"
    settings.parent.mkdir()
    for text in (
        f"[default]\nbase_url = {server.base_url}\napi_key = {server.api_key}\nentity = {server.entity}\n",
        f"[DEFAULT]\nentity = {server.base_url.rsplit(':')[-1]}\n[default]\nbase_url: http://127.0.0.1:%(entity)s\n"
        f"api_key = {server.api_key}\nroot_dir = /nowhere\n",
    ):
        settings.write_text(text)
        assert sdk(home, VIEWER) == server.entity
        done = ours(home, "whoami", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["key_source"] == "the settings file"
    # A value that cannot be used makes the whole file count for nothing, for both.
    settings.write_text(f"[default]\nbase_url = {server.base_url}\nmode = sideways\n")
    assert sdk(home, "import wandb; print(wandb.setup().settings.base_url)") == "https://api.forge.coreweave.com"
    done = ours(home, "whoami", "--connect-timeout", "1", "--timeout", "1")
    assert "mode" in done.stderr and "api.forge.coreweave.com" in done.stderr


@pytest.mark.parametrize("key", ["0" * 40, "local-" + "a" * 40, "wandb_v1_" + "x" * 200, "a.b.c", "x" * 39, "a" * 50 + "!", ""])
def test_keys_are_the_same_to_both(home, key):
    from wandb.sdk.lib.wbauth.validation import check_api_key

    done = ours(home, "whoami", "--timeout", "1", WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:1",
                WANDB_X_GRAPHQL_RETRY_MAX="0")
    accepted = done.returncode == 6
    assert accepted == (check_api_key(key) is None), done.stderr


def identity_token():
    encode = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    return f"{encode({'alg': 'RS256'})}.{encode({'sub': 'ci', 'exp': 4102444800})}.c2lnbmF0dXJl"


@pytest.fixture
def trusting(home, monkeypatch):
    """A server that trusts the identity token in a file."""
    (home / "identity").write_text(identity_token() + "\n")
    monkeypatch.setenv("WANDB_PCA_SERVER_CMD", f"{BINARY} serve --identity-token-file {home / 'identity'}")
    running = Server(home / "data").start()
    yield running
    running.stop()


def test_identity_tokens_are_exchanged_by_both_and_share_the_file(trusting, home):
    variables = {"WANDB_BASE_URL": trusting.base_url, "WANDB_IDENTITY_TOKEN_FILE": str(home / "identity")}
    cache = home / ".config/wandb/credentials.json"
    # The SDK keeps its tokens only where the folder is there.
    cache.parent.mkdir(parents=True)
    run = ("import wandb, os\nwith wandb.init(project='tokens', settings=wandb.Settings(silent=True)) as run:\n"
           "    run.log({'x': 1})\nprint(wandb.Api().viewer.username)")
    assert sdk(home, run, **variables).splitlines()[-1] == trusting.entity
    theirs = json.loads(cache.read_text())["credentials"][trusting.base_url]
    (home / "identity").rename(home / "gone")
    done = ours(home, "whoami", "--json", **variables)
    assert done.returncode == 0 and json.loads(done.stdout)["credential"] == "identity-token", done.stderr
    assert json.loads(cache.read_text())["credentials"][trusting.base_url] == theirs
    cache.unlink()
    assert ours(home, "whoami", **variables).returncode == 4
    (home / "gone").rename(home / "identity")
    assert ours(home, "whoami", **variables).returncode == 0
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    before = json.loads(cache.read_text())
    assert sdk(home, VIEWER, **variables) == trusting.entity
    assert json.loads(cache.read_text()) == before


def test_both_refuse_two_credentials(server, home):
    variables = {"WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key, "WANDB_IDENTITY_TOKEN_FILE": "x"}
    assert ours(home, "whoami", **variables).returncode == 4
    code = "import wandb\ntry:\n    wandb.Api()\nexcept wandb.errors.AuthenticationError as error:\n    print(error)"
    assert "WANDB_IDENTITY_TOKEN_FILE" in sdk(home, code, **variables)
