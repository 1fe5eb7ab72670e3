"""The official SDK's sweeps against the embedded server: grid and random, agents, states."""

import pytest
import wandb


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
