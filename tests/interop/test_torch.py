"""What torch and safetensors see in our files, and what we see in theirs: to the bit.

    cargo build --example checkpoint && pytest tests/interop/test_torch.py

Needs a Python with torch; WANDB_PCA_EXAMPLES names the folder of the built examples (default target/debug/examples).
An old torch skips what it cannot know: dtypes, byte orders and folders that came later. With torch 2.13 and safetensors
nothing is skipped.
"""

import collections
import glob
import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
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
    # The copy has the strides of its shape, which a view of one element need not have.
    tensor = tensor.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
    data = bytes(tensor.view(torch.uint8).tolist()) if tensor.numel() else b""
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


OLD = torch.__version__ < "2"
# The classes of the scripts that made the fixtures.
for name in ("Net", "Block", "Scripted", "TemplateNet", "MetaData"):
    setattr(sys.modules["__main__"], name, type(name, (torch.nn.Module,), {"__module__": "__main__"}))


class Lenient(pickle.Unpickler):
    """Classes of frameworks that are not installed are stood in for: the tensors are what is compared."""

    def find_class(self, module, name):
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


def flat(value, prefix=""):
    """Nested dicts as one, names joined by dots: so does torch.distributed.checkpoint."""
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    return {name: item for key, inner in value.items() for name, item in flat(inner, f"{prefix}{key}.").items()}


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


@pytest.mark.parametrize("path,expected", list(fixtures(*FORMATS)))
def test_torch_reads_every_fixture_as_we_do(path, expected):
    if not all(known(row) for row in expected["tensors"]):
        pytest.skip("dtypes that this torch lacks")
    if "big_endian" in path and OLD:
        pytest.skip("this torch ignores the byte order that the archive states")
    # torch wants a prefix without a slash; these are the records of the other file under another one.
    to_torch = path.replace("renamed_prefix", "state_dict")
    try:
        loaded = load_any(to_torch, expected["format"])
    except (AttributeError, TypeError, ValueError) as error:
        if OLD and "torch-1" not in path:
            pytest.skip(f"made by a newer torch: {error}"[:100])
        raise
    key = expected.get("key")
    # Without a key, we read the part that holds the tensors; torch's user knows which.
    parts = [loaded, *as_state_dict(loaded).values()] if key is None else [below(loaded, key)]
    names = [row[0] for row in expected["tensors"]]
    if expected["format"] == "torch distributed":
        parts = [flat(part) for part in parts]
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


@pytest.mark.parametrize("path,expected", list(fixtures(*FORMATS)))
def test_every_fixture_reads_as_torch_recorded(path, expected):
    ours = dump(path, *flags(expected))
    rows, theirs = ours["tensors"], expected["tensors"]
    if expected.get("any_order"):
        rows, theirs = sorted(rows), sorted(theirs)
    assert rows == theirs
    assert ours["format"] == expected["format"]


@pytest.mark.parametrize("path,expected", list(fixtures(*FORMATS)))
def test_torch_loads_what_we_write(path, expected, tmp_path):
    if not all(known(row) for row in expected["tensors"]):
        pytest.skip("dtypes that this torch lacks")
    out = str(tmp_path / "written.pt")
    subprocess.check_call([CHECKPOINT, "to-torch", path, out, *flags(expected)])
    theirs = torch.load(out, weights_only=True)
    assert type(theirs).__name__ == "OrderedDict"
    same(dump(path, *flags(expected))["tensors"], theirs)
    assert all(tensor.is_contiguous() for tensor in theirs.values())


class Random:
    """State dicts as odd as torch can save them, the same for the same seed."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def tensor(self, known):
        """A new tensor, or a view of one that is there already."""
        base = self.source.choice(known) if known and self.source.random() < 0.4 else self.fresh()
        for _ in range(self.source.randrange(3)):
            base = self.view(base)
        known.append(base)
        return torch.nn.Parameter(base) if base.is_floating_point() and self.source.random() < 0.2 else base

    def fresh(self):
        shape = [self.source.choice([0, 1, 1, 2, 3, 5]) for _ in range(self.source.randrange(5))]
        savable = [name for name in DTYPES.values() if hasattr(torch, name) and not (OLD and name == "complex32")]
        dtype = getattr(torch, self.source.choice(savable))
        size = torch.empty(0, dtype=dtype).element_size()
        count = 1
        for extent in shape:
            count *= extent
        if dtype == torch.bool:
            return torch.tensor([self.source.random() < 0.5 for _ in range(count)], dtype=dtype).reshape(shape)
        raw = torch.tensor([self.source.randrange(256) for _ in range(count * size)], dtype=torch.uint8)
        return raw.view(dtype).reshape(shape)

    def view(self, tensor):
        """Transposed, cut, strided or expanded."""
        if tensor.dim() == 0:
            return tensor.expand(self.source.randrange(1, 4))
        axis = self.source.randrange(tensor.dim())
        extent = tensor.shape[axis]
        kind = self.source.randrange(4)
        if kind == 0:
            return tensor.transpose(0, axis)
        if kind == 1 and extent > 0:
            start = self.source.randrange(extent)
            return tensor.narrow(axis, start, self.source.randrange(1, extent - start + 1))
        if kind == 2 and extent > 1:
            index = [slice(None)] * tensor.dim()
            index[axis] = slice(self.source.randrange(2), None, 2)
            return tensor[tuple(index)]
        return tensor.unsqueeze(axis).expand(*tensor.shape[:axis], 3, *tensor.shape[axis:])

    def save(self, path):
        known = []
        endings = ["weight", "bias", "größe"]
        names = [f"layer.{at}.{self.source.choice(endings)}" for at in range(self.source.randrange(1, 9))]
        state = {name: self.tensor(known) for name in names}
        nest = self.source.choice([lambda value: value, lambda value: {"epoch": 1, "state_dict": value}])
        how = self.source.choice([{}, {}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}])
        saved = collections.OrderedDict(state) if self.source.random() < 0.5 else state
        torch.save(nest(saved), path, **how)
        return state


@pytest.mark.parametrize("seed", range(40))
def test_random_state_dicts_read_as_torch_saved_them(seed, tmp_path):
    path = str(tmp_path / "random.pt")
    state = Random(seed).save(path)
    same(dump(path, "--keep-names")["tensors"], state)


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
