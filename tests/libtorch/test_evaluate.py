"""`evaluate`, judged by PyTorch: a small network is trained under three seeds on data made here, scripted, fitted, sampled."""

import collections
import json
import os
import pathlib
import subprocess

import numpy
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

CLASSES, FEATURES = 4, 6


class Net(nn.Module):
    """Parameters, buffers that training moves, and a branch that only scripting keeps."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(FEATURES, 24)
        self.norm = nn.BatchNorm1d(24)
        self.second = nn.Linear(24, 24)
        self.layer_norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        if x.size(0) > 0:
            x = x + torch.tanh(self.second(self.layer_norm(x)))
        return self.head(x)


def data(samples, generator):
    """Points around the corners of a cube, one kind of corner for each class."""
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    corners = 2.0 * (torch.arange(CLASSES)[:, None] // 2 ** torch.arange(FEATURES)[None, :] % 2).float() - 1.0
    return corners[labels] + 0.4 * torch.randn(samples, FEATURES, generator=generator), labels


def train(net, seed, steps):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net.train()
    for _ in range(steps):
        inputs, labels = data(64, generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the scripted network, its checkpoints and its data; and the networks."""
    folder = tmp_path_factory.mktemp("lab")
    torch.manual_seed(0)
    scripted = torch.jit.script(Net().eval())
    scripted.save(str(folder / "scripted.pt"))
    base = train(Net(), 100, 15)
    nets = {"pt": base}
    for seed in range(3):
        net = Net()
        net.load_state_dict(base.state_dict())
        nets[f"ft_{seed}"] = train(net, seed, 150)
    for name, net in nets.items():
        torch.save(net.state_dict(), str(folder / f"{name}.ckpt"))
    inputs, labels = data(1000, torch.Generator().manual_seed(7))
    save_file({"inputs": inputs.numpy(), "labels": labels.numpy()}, str(folder / "data.safetensors"))
    return Lab(folder, nets, inputs, labels)


class Lab:
    def __init__(self, folder, nets, inputs, labels):
        self.folder, self.nets, self.inputs, self.labels = folder, nets, inputs, labels

    def run(self, *arguments):
        command = [os.environ["WANDB_PCA_BIN"], *map(str, arguments), "--json"]
        ended = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def evaluate(self, weights, *more):
        arguments = ("--module", "scripted.pt", "--data", "data.safetensors", "--weights", weights)
        return self.run("evaluate", *arguments, *more)

    def one(self, weights, *more):
        (model,) = self.evaluate(weights, *more)["models"]
        return model

    def judge(self, net):
        """Outputs, loss and accuracy as PyTorch has them."""
        with torch.no_grad():
            outputs = net.eval()(self.inputs)
            loss = nn.functional.cross_entropy(outputs.double(), self.labels)
        return outputs, loss.item(), (outputs.argmax(1) == self.labels).double().mean().item()

    def check(self, model, net):
        _, loss, accuracy = self.judge(net)
        assert model["loss"] == pytest.approx(loss, rel=1e-6)
        assert model["accuracy"] == pytest.approx(accuracy, abs=1e-12)

    def fit(self):
        if not (self.folder / "fit").exists():
            arguments = ("--pretrained", "pt.ckpt", "--finetuned", "ft_{seed}.ckpt", "--seeds", "0..2", "--out", "fit")
            self.run("fit", *arguments, "--device", "cpu", "--no-log")
        return "fit"


def net_of(state):
    net = Net()
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("batch", [1000, 256, 7])
def test_outputs_are_those_of_pytorch(lab, batch):
    for name, net in lab.nets.items():
        file = lab.folder / f"{name}-{batch}.safetensors"
        model = lab.one(f"{name}.ckpt", "--batch-size", batch, "--outputs", file)
        lab.check(model, net)
        (found,) = load_file(str(file)).values()
        expected = lab.judge(net)[0].numpy()
        assert numpy.abs(found - expected).max() <= 1e-6 * numpy.abs(expected).max()


def test_trained_weights_beat_chance_and_random_ones_do_not(lab):
    for seed in range(3):
        assert lab.one(f"ft_{seed}.ckpt")["accuracy"] > 0.95
    found = []
    for seed in range(20):
        torch.manual_seed(1000 + seed)
        torch.save(Net().state_dict(), str(lab.folder / "random.ckpt"))
        found.append(lab.one("random.ckpt")["accuracy"])
    assert abs(numpy.mean(found) - 1 / CLASSES) < 0.1, found


def test_names_that_a_wrapper_prefixed_are_found(lab):
    state = lab.nets["ft_1"].state_dict()
    wrapped = {
        "lightning.ckpt": {"state_dict": {f"net.{name}": value for name, value in state.items()}, "epoch": 3},
        "parallel.ckpt": collections.OrderedDict((f"module.{name}", value) for name, value in state.items()),
        "compiled.ckpt": {f"_orig_mod.{name}": value for name, value in state.items()},
    }
    for file, content in wrapped.items():
        torch.save(content, str(lab.folder / file))
        lab.check(lab.one(file), lab.nets["ft_1"])


def test_half_precision_weights_are_widened(lab):
    half = {name: value.half() if value.is_floating_point() else value for name, value in lab.nets["ft_0"].state_dict().items()}
    torch.save(half, str(lab.folder / "half.ckpt"))
    lab.check(lab.one("half.ckpt"), net_of({name: value.float() for name, value in half.items()}))


def test_a_sweep_is_what_pytorch_makes_of_the_same_weights(lab):
    fit = lab.fit()
    found = lab.evaluate(fit, "--scales", "0,0.5,1", "--samples", "2", "--random-seed", "5")
    models = {model["model"]: model for model in found["models"]}
    lab.check(models["pretrained"], lab.nets["pt"])
    states = [lab.nets[f"ft_{seed}"].state_dict() for seed in range(3)]
    for seed in range(3):
        lab.check(models[f"seed {seed}"], lab.nets[f"ft_{seed}"])
    # Counters are the pretrained model's; everything that is a floating-point number is averaged, buffers too.
    base = lab.nets["pt"].state_dict()
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).float() if value.is_floating_point() else value
        for name, value in base.items()
    }
    lab.check(models["mean"], net_of(mean))
    written = lab.run("sample", fit, "--count", "2", "--random-seed", "5")
    for number, sample in enumerate(written["models"]):
        at_one = torch.load(lab.folder / sample["files"][0])
        lab.check(models[f"sample {number} at 1"], net_of(at_one))
        halfway = {
            name: ((value.double() + at_one[name].double()) / 2).float() if value.is_floating_point() else value
            for name, value in mean.items()
        }
        model, (_, loss, _) = models[f"sample {number} at 0.5"], lab.judge(net_of(halfway))
        # Both ends were rounded to float32 before they were averaged here.
        assert model["loss"] == pytest.approx(loss, rel=1e-4)
        assert model["distance_to_mean"] == pytest.approx(models[f"sample {number} at 1"]["distance_to_mean"] / 2)
    losses = [numpy.mean([model["loss"] for model in found["models"] if model["scale"] == scale]) for scale in (0, 0.5, 1)]
    assert losses[0] < losses[1] < losses[2], "the farther from the mean, the worse"


def test_a_sweep_is_logged_with_a_table_and_charts(lab, api, server, project):
    found = lab.evaluate(lab.fit(), "--scales", "0,1,2", "--samples", "3", "--log", "--project", project)
    run = api.run(found["run"]["path"])
    assert (run.job_type, run.state) == ("evaluate", "finished")
    assert run.config["data_samples"] == 1000 and run.config["backend"] == "libtorch 2.13.0 on cpu"
    seeds = [model["accuracy"] for model in found["models"] if model["kind"] == "seed"]
    assert run.summary["evaluate/accuracy/seeds"] == pytest.approx(numpy.mean(seeds))
    assert run.summary["evaluate/models_run"] == len(found["models"]) == 4 + 1 + 6
    (row,) = [row for row in run.scan_history() if "evaluate/models" in row]

    def table(key):
        path = row[key]["path"]
        run.file(path).download(str(lab.folder / "tables"), replace=True)
        return json.loads((lab.folder / "tables" / path).read_text())

    models = table("evaluate/models")
    at = {column: place for place, column in enumerate(models["columns"])}
    logged = [(line[at["model"]], line[at["accuracy"]], line[at["loss"]]) for line in models["data"]]
    assert logged == [(model["model"], model["accuracy"], model["loss"]) for model in found["models"]]
    panels = json.dumps(run.rawconfig["_wandb"])
    for chart in ("evaluate/accuracy_by_scale", "evaluate/loss_by_scale"):
        assert chart in panels
    lines = table("evaluate/accuracy_by_scale_table")
    assert lines["columns"] == ["scale", "sample", "accuracy", "loss"]
    # Three lines of three scales, each from the mean on.
    assert len(lines["data"]) == 9
    assert {line[1] for line in lines["data"] if line[0] == 0} == {"sample 0", "sample 1", "sample 2"}
