"""A study as a job array on a real one-node SLURM: two array tasks at once, one killed and submitted again, the compute
side offline, and the same bits as on one machine."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import numpy
import pytest
import safetensors.numpy

HERE = pathlib.Path(__file__).parent
TASKS = ["vit@CIFAR100", "vit@DTD", "vit+joint"]
NUMBERS = ["gram.safetensors", "layers.parquet", "components.parquet"]

needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ["slurmctld", "slurmd", "sbatch", "munged"])),
    reason="needs root and Debian's slurmctld, slurmd, slurm-client and munge")


@pytest.fixture
def cluster():
    # Not under a private temporary folder: munge's own user must reach its socket.
    folder = pathlib.Path(f"/tmp/wandb-pca-slurm-{os.getpid()}")
    subprocess.run([HERE / "cluster", "start", folder], check=True)
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([HERE / "cluster", "stop", folder], check=True)
    time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)


def experiment(folder):
    """Checkpoints of one model, two datasets and three seeds; yields names and files."""
    random = numpy.random.default_rng(0)
    shapes = {"conv": (64, 48), "block.0": (256, 64), "block.1": (256, 64), "norm": (64,), "scale": ()}
    names = ["vit_pt", *(f"vit_{dataset}_{seed}" for dataset in ["CIFAR100", "DTD"] for seed in range(3))]
    for name in names:
        path = folder / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        tensors = {key: random.normal(size=shape).astype("float32") for key, shape in shapes.items()}
        safetensors.numpy.save_file(tensors, path)
        yield name, path


@needs_slurm
def test_an_array_with_a_killed_task(tmp_path, cluster, server):
    env = {**os.environ, **cluster, "WANDB_BASE_URL": server.base_url, "WANDB_API_KEY": server.api_key,
           "WANDB_CACHE_DIR": str(tmp_path / "cache")}

    def tool(*arguments):
        done = subprocess.run([env["WANDB_PCA_BIN"], *map(str, arguments)], env=env, cwd=tmp_path,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name, path in experiment(tmp_path / "checkpoints"):
        tool("artifact", "put", path, "--name", f"{server.entity}/vectors/{name}", "--type", "checkpoint")
    study = tmp_path / "study.yaml"
    study.write_text(f"name: array\nentity: {server.entity}\nproject: vectors\nmodels: [vit]\n"
                     "datasets: [CIFAR100, DTD]\nseeds: 0..2\nshards: 2\nretries: 2\n"
                     "slurm:\n  partition: main\n  time: 5\n  cpus: 1\n  setup: [sleep 3]\n")
    tool("study", "run", study, "--out", "local", "--no-log")

    follow = subprocess.Popen(
        [env["WANDB_PCA_BIN"], "--json", "study", "run", study, "--out", "array", "--engine", "slurm", "--poll", "0.5"],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    at_once, killed = 0, None
    deadline = time.monotonic() + 120
    while follow.poll() is None and time.monotonic() < deadline:
        queue = subprocess.run(["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i"], env=env,
                               capture_output=True, text=True).stdout.split()
        at_once = max(at_once, len(queue))
        if killed is None and len(queue) >= 2:
            killed = queue[0]
            subprocess.run(["scancel", "--signal=KILL", "--full", killed], env=env, check=True)
        time.sleep(0.2)
    out, err = follow.communicate(timeout=60)
    assert follow.returncode == 0, err
    answer = json.loads(out)
    assert at_once >= 2 and killed is not None
    # The killed task ran in two jobs, and it alone.
    logs = sorted(path.name for path in (tmp_path / "array" / "slurm").glob("*.log"))
    index = killed.split("_")[1]
    assert len(logs) == 7 and len([log for log in logs if log.endswith(f"_{index}.log")]) == 2, logs
    assert answer["computed"] == 3 and answer["failed"] == []
    # Pushed afterwards by the submitting side: a run for each cell, and the summary.
    assert len(answer["runs"]) == 3
    for task in TASKS:
        for name in NUMBERS:
            assert (tmp_path / "array" / task / name).read_bytes() == (tmp_path / "local" / task / name).read_bytes()
