"""The official SDK's sweeps against the embedded server: grid and random, agents, states. And sweeps over a study, with our
program under the official `wandb sweep` and `wandb agent`, and with our `sweep create` and `sweep agent` read by the SDK."""

import json
import os
import pathlib
import subprocess
import sys

import numpy
import pytest
import safetensors.numpy
import wandb
from conftest import ours

MODELS, DATASETS, SEEDS = ["tiny", "small"], ["CIFAR100", "DTD"], 3
CELLS = sorted(f"{model}@{dataset}" for model in MODELS for dataset in DATASETS)


def swept(project, config, **options):
    """Runs a sweep to its end in this process; gives its id and the parameters of its runs."""
    sweep_id = wandb.sweep(config, project=project)
    seen = []

    def train():
        with wandb.init() as run:
            seen.append(dict(run.config))
            run.log({"loss": float(run.config["x"])})

    wandb.agent(sweep_id, function=train, project=project, **options)
    return sweep_id, seen


def test_a_grid_is_run_to_its_end(project, server):
    config = {"method": "grid", "name": "named", "metric": {"name": "loss", "goal": "minimize"},
              "parameters": {"x": {"values": [3, 1]}, "y": {"value": "fixed"}}}
    sweep_id, seen = swept(project, config)
    assert seen == [{"x": 3, "y": "fixed"}, {"x": 1, "y": "fixed"}]
    sweep = wandb.Api().sweep(f"{server.entity}/{project}/{sweep_id}")
    assert sweep.state == "FINISHED" and sweep.expected_run_count == 2 and sweep.name == "named"
    assert sorted(run.config["x"] for run in sweep.runs) == [1, 3]
    assert sweep.best_run().config["x"] == 1
    assert [found.id for found in wandb.Api().project(project, server.entity).sweeps()] == [sweep_id]


def test_random_respects_count_and_cap(project, server):
    config = {"method": "random", "parameters": {"x": {"min": 1, "max": 9}, "lr": {"distribution": "log_uniform_values",
              "min": 1e-5, "max": 1e-1}}, "run_cap": 3}
    sweep_id, seen = swept(project, config, count=2)
    assert len(seen) == 2 and all(1 <= point["x"] <= 9 and 1e-5 <= point["lr"] <= 1e-1 for point in seen)
    sweep = wandb.Api().sweep(f"{server.entity}/{project}/{sweep_id}")
    assert sweep.state == "RUNNING" and len(sweep.runs) == 2


def test_bayes_is_refused_by_name(project):
    with pytest.raises(Exception, match="bayes"):
        wandb.sweep({"method": "bayes", "metric": {"name": "loss"}, "parameters": {"x": {"min": 0, "max": 1}}},
                    project=project)


@pytest.fixture
def study(project, server, tmp_path):
    """A study of artifacts that the SDK uploaded, in a folder of its own."""
    random = numpy.random.default_rng(7)
    with wandb.init(project=project, settings=wandb.Settings(silent=True)) as run:
        names = [f"{model}_pt" for model in MODELS]
        names += [f"{model}_{dataset}_{seed}" for model in MODELS for dataset in DATASETS for seed in range(SEEDS)]
        for name in names:
            path = tmp_path / f"{name}.safetensors"
            safetensors.numpy.save_file({"a.weight": random.normal(size=(8, 4)), "b.bias": random.normal(size=9)}, path)
            artifact = wandb.Artifact(name, "model")
            artifact.add_file(str(path))
            run.log_artifact(artifact)
    file = tmp_path / "study.yaml"
    file.write_text(f"name: grid\nentity: {server.entity}\nproject: {project}\nmodels: [{', '.join(MODELS)}]\n"
                    f"datasets: [{', '.join(DATASETS)}]\nseeds: 0..{SEEDS - 1}\n")
    return file


def official(*arguments, cwd):
    """The official command line."""
    program = pathlib.Path(sys.executable).parent / "wandb"
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SILENT"}
    done = subprocess.run([program, *arguments], cwd=cwd, env={**env, "WANDB_DIR": str(cwd)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def computed(folder):
    """How often each cell was computed to its end, by the study's ledger."""
    records = [json.loads(line) for file in (folder / "ledger").iterdir() for line in file.read_text().splitlines()]
    return sorted(record["task"] for record in records if record["event"] == "done")


def check(server, project, sweep_id):
    """The sweep as the SDK reads it: over, one finished run a cell, with config, results and lineage."""
    sweep = wandb.Api().sweep(f"{server.entity}/{project}/{sweep_id}")
    assert sweep.state == "FINISHED" and sweep.expected_run_count == len(CELLS)
    assert sweep.config["method"] == "grid" and sweep.config["parameters"]["model"]["values"] == MODELS
    assert sorted(f"{run.config['model']}@{run.config['dataset']}" for run in sweep.runs) == CELLS
    for run in sweep.runs:
        assert run.state == "finished" and run.sweep_name == sweep_id and run.group == "grid" and run.job_type == "pca"
        assert run.config["seeds"] == list(range(SEEDS)) and run.summary["pca/seeds"] == SEEDS
        assert sum(artifact.type == "model" for artifact in run.used_artifacts()) == SEEDS + 1
        assert any(artifact.type == "pca" for artifact in run.logged_artifacts())


def test_the_official_agent_drives_our_program(project, server, study):
    config = ours("sweep", "config", "study.yaml", "--out", "swept", cwd=study.parent)["configuration"]
    (study.parent / "sweep.yaml").write_text(config)
    said = official("sweep", "--entity", server.entity, "--project", project, "sweep.yaml", cwd=study.parent)
    sweep_id = said.split("Creating sweep with ID: ")[1].split()[0]
    official("agent", f"{server.entity}/{project}/{sweep_id}", cwd=study.parent)
    assert computed(study.parent / "swept") == CELLS
    check(server, project, sweep_id)


def test_the_sdk_reads_our_sweep(project, server, study):
    made = ours("sweep", "create", "study.yaml", cwd=study.parent)
    sweep = wandb.Api().sweep(made["sweep"])
    assert sweep.state == "PENDING" and sweep.name == "grid" and made["url"].endswith(f"/sweeps/{sweep.id}")
    did = ours("sweep", "agent", made["sweep"], "study.yaml", "--heartbeat", "0.2", cwd=study.parent)
    assert sorted(cell["cell"] for cell in did["cells"]) == CELLS == computed(study.parent / "study-grid")
    check(server, project, made["id"])
    agent, = sweep.agents()
    assert len(list(agent.runs())) == len(CELLS)
    # A cell that our agent left is the official agent's like any other.
    second = ours("sweep", "create", "study.yaml", cwd=study.parent)
    ours("sweep", "agent", second["id"], "study.yaml", "--count", "3", "--heartbeat", "0.2", cwd=study.parent)
    official("agent", second["sweep"], cwd=study.parent)
    check(server, project, second["id"])
    assert computed(study.parent / "study-grid") == CELLS, "finished cells are logged again, not computed again"
