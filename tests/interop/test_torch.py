"""What torch and safetensors see in our files, and what we see in theirs: to the bit.

    cargo build --example checkpoint && pytest tests/interop/test_torch.py

Needs a Python with torch; WANDB_PCA_EXAMPLES names the folder of the built examples (default target/debug/examples).
An old torch skips what it cannot know: dtypes, byte orders and folders that came later. With torch 2.13 and safetensors
nothing is skipped.
"""

import glob
import hashlib
import io
import json
import os
import pickle
import subprocess
import tempfile
import types
import zipfile

import pytest

torch = pytest.importorskip("torch")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.environ.get("WANDB_PCA_EXAMPLES", os.path.join(ROOT, "target", "debug", "examples"))
CHECKPOINT = os.path.join(EXAMPLES, "checkpoint")
FIXTURES = os.path.join(ROOT, "fixtures", "checkpoint")
VERSIONS = sorted(name for name in os.listdir(FIXTURES) if name.startswith("torch-"))
FOLDERS = [*VERSIONS, "frameworks"]
FORMATS = ("torch", "torch (legacy)", "torchscript", "nn-template", "sharded", "safetensors", "torch distributed")
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64", "C128": "complex128",
          "C32": "complex32", "U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn",
          "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
          "F8_E8M0": "float8_e8m0fnu"}

pytestmark = pytest.mark.skipif(not os.path.exists(CHECKPOINT), reason="the example is not built")


def dump(path, *flags):
    return json.loads(subprocess.check_output([CHECKPOINT, "dump", path, *flags]))


def digest(tensor):
    tensor = tensor.detach().contiguous()
    data = bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""
    return hashlib.sha256(data).hexdigest()


def known(row):
    return hasattr(torch, DTYPES[row[1]])


def same(ours, theirs):
    """Our rows against torch's tensors by name."""
    assert [row[0] for row in ours] == list(theirs)
    for name, dtype, shape, sha256 in ours:
        tensor = theirs[name]
        assert tensor.dtype == getattr(torch, DTYPES[dtype]), name
        assert list(tensor.shape) == shape, name
        assert digest(tensor) == sha256, name


def fixtures(*formats):
    for folder in FOLDERS:
        with open(os.path.join(FIXTURES, folder, "expected.json")) as file:
            for name, expected in json.load(file).items():
                if expected["format"] in formats:
                    yield pytest.param(os.path.join(FIXTURES, folder, name), expected, id=f"{folder}/{name}")


class Lenient(pickle.Unpickler):
    """Classes of frameworks that are not installed, and of the scripts that made the fixtures, are stood in for: the
    tensors are what is compared."""

    def find_class(self, module, name):
        if module == "__main__":
            return type(name, (torch.nn.Module,), {})
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (dict,), {"__setstate__": lambda self, state: None})


def load(file):
    """Our own fixtures need no safe loader, which reads less than we do."""
    lenient = types.SimpleNamespace(__name__="pickle", Unpickler=Lenient, load=lambda file, **how: Lenient(
        file, **how).load())
    return torch.load(file, map_location="cpu", pickle_module=lenient, weights_only=False)


def load_folder(path):
    """All shards of a folder, or of the folder of an index."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if os.path.exists(os.path.join(folder, ".metadata")):
        format_utils = pytest.importorskip("torch.distributed.checkpoint.format_utils")
        with tempfile.TemporaryDirectory() as scratch:
            joined = os.path.join(scratch, "joined.pt")
            format_utils.dcp_to_torch_save(folder, joined)
            return load(joined)
    tensors = {}
    for shard in glob.glob(os.path.join(folder, "*.bin")):
        tensors.update(load(shard))
    for shard in glob.glob(os.path.join(folder, "*.safetensors")):
        tensors.update(pytest.importorskip("safetensors.torch").load_file(shard))
    return tensors


def load_any(path, format):
    if format in ("sharded", "torch distributed"):
        return load_folder(path)
    if format == "safetensors":
        return pytest.importorskip("safetensors.torch").load_file(path)
    if format == "torchscript":
        return torch.jit.load(path).state_dict()
    if format == "nn-template":
        return load(io.BytesIO(zipfile.ZipFile(path).read("checkpoint.ckpt")))
    return load(path)


def as_state_dict(value):
    if isinstance(value, torch.nn.Module):
        return value.state_dict()
    if isinstance(value, torch.Tensor):
        return {"tensor": value}
    if isinstance(value, list):
        return {str(at): item for at, item in enumerate(value)}
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def below(value, key):
    """The value under a dotted key, of which a part may itself have dots."""
    for name, item in as_state_dict(value).items():
        if name == key:
            return item
        if key.startswith(name + "."):
            return below(item, key[len(name) + 1:])
    raise KeyError(key)


def named(state, expected):
    """Tensors by the names that we give them."""
    prefixes = ["module.", "_orig_mod."] if "prefixes" not in expected else []
    prefixes += [] if expected.get("prefixes") in (None, "keep") else [expected["prefixes"]]
    tensors = {}
    for name, tensor in state.items():
        for prefix in prefixes:
            name = name[len(prefix):] if name.startswith(prefix) else name
        tensors[name] = tensor
    return tensors


@pytest.mark.parametrize("path,expected", fixtures(*FORMATS))
def test_torch_reads_every_fixture_as_we_do(path, expected):
    if not all(known(row) for row in expected["tensors"]):
        pytest.skip("dtypes that this torch lacks")
    if "big_endian" in path and torch.__version__ < "2":
        pytest.skip("this torch ignores the byte order that the archive states")
    loaded = load_any(path, expected["format"])
    key = expected.get("key")
    # Without a key, we read the part that holds the tensors; torch's user knows which.
    parts = [loaded, *as_state_dict(loaded).values()] if key is None else [below(loaded, key)]
    names = [row[0] for row in expected["tensors"]]
    parts = [named(as_state_dict(part), expected) for part in parts]
    theirs = [part for part in parts if all(isinstance(part.get(name), torch.Tensor) for name in names)]
    assert theirs, "torch has such tensors nowhere"
    rows = dump(path, *flags(expected))["tensors"]
    assert sorted(row[0] for row in rows) == sorted(names)
    same(rows, {row[0]: theirs[0][row[0]] for row in rows})


def flags(expected):
    flags = ["--key", expected["key"]] if "key" in expected else []
    if expected.get("prefixes") == "keep":
        return [*flags, "--keep-names"]
    return [*flags, "--drop", expected["prefixes"]] if "prefixes" in expected else flags


@pytest.mark.parametrize("path,expected", fixtures(*FORMATS))
def test_every_fixture_reads_as_torch_recorded(path, expected):
    ours = dump(path, *flags(expected))
    rows, theirs = ours["tensors"], expected["tensors"]
    if expected.get("any_order"):
        rows, theirs = sorted(rows), sorted(theirs)
    assert rows == theirs
    assert ours["format"] == expected["format"]


@pytest.mark.parametrize("path,expected", fixtures(*FORMATS))
def test_torch_loads_what_we_write(path, expected, tmp_path):
    if not all(known(row) for row in expected["tensors"]):
        pytest.skip("dtypes that this torch lacks")
    out = str(tmp_path / "written.pt")
    subprocess.check_call([CHECKPOINT, "to-torch", path, out, *flags(expected)])
    theirs = torch.load(out, weights_only=True)
    assert type(theirs).__name__ == "OrderedDict"
    same(dump(path, *flags(expected))["tensors"], theirs)
    assert all(tensor.is_contiguous() for tensor in theirs.values())


def test_tied_weights_stay_tied(tmp_path):
    out = str(tmp_path / "written.pt")
    subprocess.check_call([CHECKPOINT, "to-torch", os.path.join(FIXTURES, VERSIONS[0], "state_dict.pt"), out])
    written = torch.load(out, weights_only=True)
    assert written["head.weight"].data_ptr() == written["embed.weight"].data_ptr()


def test_safetensors_loads_what_we_write(tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    for version in VERSIONS:
        path = os.path.join(FIXTURES, version, "state_dict.pt")
        out = str(tmp_path / f"{version}.safetensors")
        subprocess.check_call([CHECKPOINT, "to-safetensors", path, out])
        ours = dump(path)["tensors"]
        theirs = load_file(out)
        same(ours, {row[0]: theirs[row[0]] for row in ours})
        assert len(theirs) == len(ours)
