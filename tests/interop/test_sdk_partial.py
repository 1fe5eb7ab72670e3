"""Parts of a checkpoint inside an artifact that the official SDK uploaded and torch wrote: what is read remotely is what
torch reads from the whole file, and little of the file is fetched for it."""

import json
import os
import pathlib
import subprocess

import numpy
import pytest
import wandb

HERE = pathlib.Path(__file__).parent
LAYERS = 12
SHAPE = (160, 256)

MAKE = f"""
import sys, torch
generator = torch.Generator().manual_seed(3)
base = {{f"block.{{i}}.weight": torch.randn({SHAPE}, generator=generator) for i in range({LAYERS})}}
base["half"] = torch.randn(7, generator=generator).half()
base["view"] = base["block.0.weight"].t()[3:9]
torch.save(base, sys.argv[1] + "/pt.ckpt")
for seed in range(3):
    tuned = {{name: value + 0.1 * torch.randn(value.shape, generator=generator).to(value.dtype) for name, value in base.items()}}
    torch.save(tuned, sys.argv[1] + f"/ft_{{seed}}.ckpt")
"""


def tool(*arguments, cache):
    done = subprocess.run([os.environ["WANDB_PCA_BIN"], *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "WANDB_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    python = os.environ.get("TORCH_PYTHON", "/usr/bin/python3")
    made = subprocess.run([python, "-c", MAKE, str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    for name in ["pt", "ft_0", "ft_1", "ft_2"]:
        subprocess.run([python, HERE / "torch_side.py", "read", folder / f"{name}.ckpt", folder / f"{name}.npz"],
                       check=True, capture_output=True)
    return folder


def upload(files, project):
    with wandb.init(project=project) as run:
        for name in ["pt", "ft_0", "ft_1", "ft_2"]:
            artifact = wandb.Artifact(name, type="checkpoint")
            artifact.add_file(files / f"{name}.ckpt", name="trained.ckpt")
            run.log_artifact(artifact)
        return run.entity


def test_a_remote_listing_is_what_torch_reads(files, project, tmp_path):
    entity = upload(files, project)
    name = f"{entity}/{project}/pt:latest"
    tensors = dict(numpy.load(files / "pt.npz"))
    listed = tool("inspect", name, "--json", cache=tmp_path)
    assert {row["tensor"]: row["shape"] for row in listed["tensors"]} == {
        name: "×".join(map(str, value.shape)) for name, value in tensors.items()}
    assert listed["verified"] == "partly" and listed["path"] is None
    assert listed["parts"]["requests"] <= 3 and listed["parts"]["fetched_bytes"] < 64_000 < listed["size"]
    some = tool("inspect", name, "--layers", "block.5.*", "--layers", "half", "--json", cache=tmp_path)
    assert {row["tensor"] for row in some["tensors"]} == {"block.5.weight", "half"}
    for row in some["tensors"]:
        numpy.testing.assert_allclose(row["norm"], numpy.linalg.norm(tensors[row["tensor"]]), rtol=1e-12)
    assert some["parts"]["fetched_bytes"] < 4 * SHAPE[0] * SHAPE[1] + 128_000
    whole = tool("inspect", name, "--whole", "--json", cache=tmp_path)
    assert whole["verified"] == "whole" and whole["parts"] is None
    known = {row["tensor"]: row for row in whole["tensors"]}
    assert all(known[row["tensor"]] == row for row in some["tensors"])


def test_a_fit_of_parts_is_the_fit_of_whole_files_and_says_so(files, project, tmp_path, api):
    entity = upload(files, project)
    inputs = ["fit", "--pretrained", f"{entity}/{project}/pt", "--finetuned", f"{entity}/{project}/ft_{{seed}}",
              "--seeds", "0..2", "--layers", "block.[34].*", "--json"]
    parts = tool(*inputs, "--out", tmp_path / "parts", cache=tmp_path / "one")
    whole = tool(*inputs, "--whole", "--out", tmp_path / "whole", cache=tmp_path / "other")
    assert parts["layers"] == whole["layers"] and len(parts["layers"]) == 2
    assert (parts["verified"], whole["verified"]) == ("partly", "whole")
    tensors = {name: dict(numpy.load(files / f"{name}.npz")) for name in ["pt", "ft_0", "ft_1", "ft_2"]}
    for row in parts["layers"]:
        base = tensors["pt"][row["layer"]]
        vectors = numpy.stack([(tensors[f"ft_{seed}"][row["layer"]] - base).ravel() for seed in range(3)])
        numpy.testing.assert_allclose(row["total_variance"], vectors.var(axis=0, ddof=1).sum(), rtol=1e-9)
    run = api.run(parts["run"]["path"])
    assert run.config["inputs_verified"] == "partly" and run.summary["pca/inputs_verified"] == "partly"
    assert {artifact.source_name.split(":")[0] for artifact in run.used_artifacts()} == {"pt", "ft_0", "ft_1", "ft_2"}
