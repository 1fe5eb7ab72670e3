"""What torch and safetensors see in our files, and what we see in theirs: to the bit.

    cargo build --example checkpoint && pytest tests/interop/test_torch.py

Needs a Python with torch; WANDB_PCA_EXAMPLES names the folder of the built examples (default target/debug/examples).
"""

import hashlib
import json
import os
import subprocess

import pytest

torch = pytest.importorskip("torch")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.environ.get("WANDB_PCA_EXAMPLES", os.path.join(ROOT, "target", "debug", "examples"))
CHECKPOINT = os.path.join(EXAMPLES, "checkpoint")
FIXTURES = os.path.join(ROOT, "fixtures", "checkpoint")
VERSIONS = sorted(name for name in os.listdir(FIXTURES) if name.startswith("torch-"))
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
    for version in VERSIONS:
        with open(os.path.join(FIXTURES, version, "expected.json")) as file:
            for name, expected in json.load(file).items():
                if expected["format"] in formats:
                    yield pytest.param(os.path.join(FIXTURES, version, name), expected, id=f"{version}/{name}")


@pytest.mark.parametrize("path,expected", fixtures("torch", "torch (legacy)", "torchscript", "nn-template", "sharded",
                                                   "safetensors"))
def test_every_fixture_reads_as_torch_recorded(path, expected):
    flags = ["--key", expected["key"]] if "key" in expected else []
    if expected.get("prefixes") == "keep":
        flags.append("--keep-names")
    elif "prefixes" in expected:
        flags += ["--drop", expected["prefixes"]]
    ours = dump(path, *flags)
    rows, theirs = ours["tensors"], expected["tensors"]
    if expected.get("any_order"):
        rows, theirs = sorted(rows), sorted(theirs)
    assert rows == theirs
    assert ours["format"] == expected["format"]


@pytest.mark.parametrize("path,expected", fixtures("torch", "torch (legacy)"))
def test_torch_loads_flat_fixtures_as_we_do(path, expected):
    if "big_endian" in str(path) and torch.__version__ < "2":
        pytest.skip("this torch ignores the byte order that the archive states")
    try:
        theirs = torch.load(path, weights_only=True)
    except Exception as error:  # torch's safe loader reads less than we do
        pytest.skip(str(error).splitlines()[0][:80])
    flat = isinstance(theirs, dict) and all(isinstance(value, torch.Tensor) for value in theirs.values())
    if not flat or expected["skipped"]:
        pytest.skip("not a flat state dict")
    same(dump(path, "--keep-names")["tensors"], {str(name): tensor for name, tensor in theirs.items()})


@pytest.mark.parametrize("path,expected", fixtures("torch", "torch (legacy)", "torchscript", "nn-template"))
def test_torch_loads_what_we_write(path, expected, tmp_path):
    if "key" in expected or "prefixes" in expected or not all(known(row) for row in expected["tensors"]):
        pytest.skip("needs options, or dtypes that this torch lacks")
    out = str(tmp_path / "written.pt")
    subprocess.check_call([CHECKPOINT, "to-torch", path, out])
    theirs = torch.load(out, weights_only=True)
    assert type(theirs).__name__ == "OrderedDict"
    same(expected["tensors"], theirs)
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
