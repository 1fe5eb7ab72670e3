"""The main job judged from outside: torch writes the checkpoints, the official SDK uploads them and reads the results
back, scikit-learn says what the explained variances are, torch and safetensors load the sampled model."""

import json
import os
import pathlib
import subprocess

import numpy
import pytest
import safetensors.numpy
import sklearn.decomposition

SEEDS = 5
HERE = pathlib.Path(__file__).parent


def torch_side(*arguments):
    answer = subprocess.run(
        [os.environ.get("TORCH_PYTHON", "/usr/bin/python3"), HERE / "torch_side.py", *map(str, arguments)],
        check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def tool(*arguments, env=None, code=0):
    done = subprocess.run([os.environ["WANDB_PCA_BIN"], *map(str, arguments)], env={**os.environ, **(env or {})},
                          capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in arguments and done.stdout else done


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folder of checkpoints made by torch, and their tensors as float64 read by torch."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch_side("make", folder / "files", SEEDS)
    tensors = {}
    for name in ["pt", *(f"ft_{seed}" for seed in range(SEEDS))]:
        torch_side("read", folder / "files" / name / "trained.ckpt", folder / f"{name}.npz")
        tensors[name] = dict(numpy.load(folder / f"{name}.npz"))
    return folder / "files", tensors


def task_vectors(tensors, layer):
    return numpy.stack([(tensors[f"ft_{seed}"][layer] - tensors["pt"][layer]).ravel() for seed in range(SEEDS)])


def check_against_sklearn(fit, tensors):
    assert {row["layer"] for row in fit["layers"]} == set(tensors["pt"]) - {"model.num_batches_tracked"}
    for row in fit["layers"]:
        vectors = task_vectors(tensors, row["layer"])
        if numpy.ptp(vectors, axis=0).max() == 0:
            assert row["degenerate"] and row["explained_variance_ratio"] is None and row["total_variance"] == 0
            continue
        pca = sklearn.decomposition.PCA(svd_solver="full").fit(vectors)
        relevant = pca.explained_variance_ > 1e-12 * pca.explained_variance_.sum()
        ours = numpy.array(row["explained_variance"])
        assert ours.shape == pca.explained_variance_.shape, row["layer"]
        numpy.testing.assert_allclose(ours[relevant], pca.explained_variance_[relevant], rtol=1e-9)
        numpy.testing.assert_allclose(row["total_variance"], pca.explained_variance_.sum(), rtol=1e-9)
        numpy.testing.assert_allclose(
            numpy.array(row["explained_variance_ratio"])[relevant], pca.explained_variance_ratio_[relevant], rtol=1e-9)
        assert row["parameters"] == vectors.shape[1]


def test_local_files_agree_with_scikit_learn(checkpoints, tmp_path):
    files, tensors = checkpoints
    fit = tool("fit", "--pretrained", files / "pt/trained.ckpt", "--finetuned", f"{files}/ft_{{seed}}/trained.ckpt",
               "--seeds", f"0..{SEEDS - 1}", "--out", tmp_path / "fit", "--json")
    check_against_sklearn(fit, tensors)
    assert fit["run"] is None
    assert [skipped["tensor"] for skipped in fit["skipped"]] == ["model.num_batches_tracked"]


def test_a_sampled_model_loads_everywhere_and_is_the_combination_it_says(checkpoints, tmp_path):
    files, tensors = checkpoints
    tool("fit", "--pretrained", files / "pt/trained.ckpt", "--finetuned", f"{files}/ft_{{seed}}/trained.ckpt",
         "--seeds", f"0..{SEEDS - 1}", "--out", tmp_path / "fit")
    sample = tool("sample", tmp_path / "fit", "--count", "2", "--random-seed", "7", "--format", "torch,safetensors", "--json")
    again = tool("sample", tmp_path / "fit", "--count", "2", "--random-seed", "7", "--format", "torch",
                 "--out", tmp_path / "again", "--json")
    assert len(sample["models"]) == 2
    for model, repeated in zip(sample["models"], again["models"]):
        files_of = {pathlib.Path(path).suffix: path for path in model["files"]}
        dtypes = torch_side("read", files_of[".ckpt"], tmp_path / "sample.npz")
        assert dtypes["model.half.weight"] == "torch.float16"
        assert dtypes["model.num_batches_tracked"] == "torch.int64"
        by_torch = dict(numpy.load(tmp_path / "sample.npz"))
        by_safetensors = safetensors.numpy.load_file(files_of[".safetensors"])
        assert set(by_torch) == set(by_safetensors) == set(tensors["pt"])
        assert pathlib.Path(files_of[".ckpt"]).read_bytes() == pathlib.Path(repeated["files"][0]).read_bytes()
        for layer, values in by_torch.items():
            numpy.testing.assert_array_equal(values, by_safetensors[layer].astype(numpy.float64))
            if layer == "model.num_batches_tracked":
                assert values == 7
                continue
            weights = numpy.array(model["weights"][layer])
            assert abs(weights.sum() - 1) < 1e-9
            expected = sum(w * tensors[f"ft_{seed}"][layer] for seed, w in enumerate(weights))
            tolerance = 1e-3 if "half" in layer else 1e-6
            numpy.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)


def components(x):
    """Orthonormal rows and variances of the centred rows, those with variance."""
    _, sigma, v = numpy.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    kept = sigma > 1e-9 * max(sigma.max(), 1e-300)
    return v[kept], sigma[kept] ** 2 / (len(x) - 1)


def scatter(x):
    return float(((x - x.mean(axis=0)) ** 2).sum())


def test_compare_agrees_with_numpy(checkpoints, tmp_path):
    files, tensors = checkpoints
    halves = {"A": [0, 1, 2], "B": [3, 4]}
    for name, seeds in halves.items():
        tool("fit", "--pretrained", files / "pt/trained.ckpt", "--finetuned", f"{files}/ft_{{seed}}/trained.ckpt",
             "--seeds", ",".join(map(str, seeds)), "--dataset", name, "--out", tmp_path / name)
    compared = tool("compare", tmp_path / "A", tmp_path / "B", "--group", "layer", "--out", tmp_path / "joint", "--json")
    whole = tool("compare", tmp_path / "A", tmp_path / "B", "--out", tmp_path / "joint", "--json")
    names = [row["group"] for row in compared["joint"]]
    vectors = {layer: task_vectors(tensors, layer) for layer in names}
    vectors["model"] = numpy.hstack([vectors[layer] for layer in names])
    pairs = compared["pairs"] + whole["pairs"]
    joints = compared["joint"] + whole["joint"]
    assert len(pairs) == len(joints) == len(names) + 1
    for pair, joint in zip(pairs, joints):
        x = vectors[pair["group"]]
        a, b = x[halves["A"]], x[halves["B"]]
        (va, la), (vb, lb) = components(a), components(b)
        if len(va) == 0 or len(vb) == 0:
            assert pair["overlap"] is None and pair["angles_degrees"] == []
        else:
            m = va @ vb.T
            cosines = numpy.clip(numpy.linalg.svd(m, compute_uv=False), 0, 1)
            assert pair["components_first"] == len(va) and pair["components_second"] == len(vb)
            numpy.testing.assert_allclose(numpy.cos(numpy.radians(pair["angles_degrees"])), cosines, atol=1e-9)
            numpy.testing.assert_allclose(pair["overlap"], (m ** 2).sum() / min(m.shape), atol=1e-9)
            inside = (la * (m ** 2).sum(axis=1)).sum() / la.sum(), (lb * (m ** 2).sum(axis=0)).sum() / lb.sum()
            numpy.testing.assert_allclose(pair["residual_first_in_second"], 1 - inside[0], atol=1e-9)
            numpy.testing.assert_allclose(pair["residual_second_in_first"], 1 - inside[1], atol=1e-9)
        within = scatter(a) + scatter(b)
        numpy.testing.assert_allclose(joint["within"], within, rtol=1e-9, atol=1e-15)
        numpy.testing.assert_allclose(joint["between"], scatter(x) - within, rtol=1e-7, atol=1e-12 * scatter(x) + 1e-15)
        if joint["dataset_share"] is not None:
            _, variance = components(x)
            numpy.testing.assert_allclose(joint["first_ratio"], variance[0] / variance.sum(), rtol=1e-9)
    x = vectors["model"]
    norms = numpy.linalg.norm(x, axis=1)
    order = halves["A"] + halves["B"]
    numpy.testing.assert_allclose(whole["similarity"]["cosine"], (x @ x.T / numpy.outer(norms, norms))[numpy.ix_(order, order)], atol=1e-12)


def test_components_and_interference_agree_with_numpy(checkpoints, tmp_path):
    files, tensors = checkpoints
    fit = tool("fit", "--pretrained", files / "pt/trained.ckpt", "--finetuned", f"{files}/ft_{{seed}}/trained.ckpt",
               "--seeds", f"0..{SEEDS - 1}", "--components", SEEDS, "--interference", "--out", tmp_path / "fit", "--json")
    written = safetensors.numpy.load_file(fit["components"]["file"])
    for row in fit["layers"]:
        x = task_vectors(tensors, row["layer"])
        both = (x > 0).any(axis=0) & (x < 0).any(axis=0)
        assert row["sign_conflict"] == both.mean()
        size = numpy.sort(numpy.abs(x), axis=1)[:, ::-1]
        top = lambda share: int(numpy.ceil(share * x.shape[1]))
        kept = numpy.where(numpy.abs(x) >= size[:, top(0.2) - 1, None], x, 0)
        assert row["sign_conflict_trimmed"] == ((kept > 0).any(axis=0) & (kept < 0).any(axis=0)).mean()
        moving = (x != 0).any(axis=1)
        for share, key in [(0.01, "mass_top_1"), (0.1, "mass_top_10")]:
            mass = [(sizes[: top(share)] ** 2).sum() / (sizes**2).sum() for sizes in size[moving]]
            assert row[key] == (pytest.approx(numpy.mean(mass), rel=1e-9) if mass else None)
        numpy.testing.assert_allclose(written[f"{row['layer']}/mean"].ravel(), x.mean(axis=0), rtol=1e-5, atol=1e-9)
        if row["degenerate"]:
            continue
        v, variance = components(x)
        ours = written[f"{row['layer']}/components"]
        assert ours.shape[1:] == tensors["pt"][row["layer"]].shape
        ours = ours.reshape(len(ours), -1).astype(numpy.float64)
        clear = variance > 1e-6 * variance.sum()
        # The sign is a convention, the direction is not.
        numpy.testing.assert_allclose(numpy.abs((ours[: len(v)] * v[: len(ours)]).sum(axis=1))[clear], 1, atol=1e-5)


@pytest.fixture(scope="module")
def uploaded(server, checkpoints):
    """The checkpoints as artifacts, logged by the official SDK."""
    import wandb

    files, _ = checkpoints
    with wandb.init(entity=server.entity, project="vision", job_type="train") as run:
        for name in ["pt", *(f"CIFAR100_{seed}" for seed in range(SEEDS))]:
            folder = name.replace("CIFAR100", "ft")
            artifact = wandb.Artifact(f"ViT_{name}", type="checkpoint", metadata={"model_name": "ViT", "model_class": "X"})
            artifact.add_file(str(files / folder / "trained.ckpt"))
            run.log_artifact(artifact).wait()
    return server


def test_from_the_sdk_to_the_sdk(uploaded, checkpoints, tmp_path):
    import wandb

    server = uploaded
    _, tensors = checkpoints
    env = {"WANDB_CACHE_DIR": str(tmp_path / "cache")}
    project = f"{server.entity}/vision"
    fit = tool("fit", "--pretrained", f"{project}/ViT_pt:latest", "--finetuned", f"{project}/ViT_CIFAR100_{{seed}}:latest",
               "--seeds", f"0..{SEEDS - 1}", "--out", tmp_path / "fit", "--json", env=env)
    check_against_sklearn(fit, tensors)
    assert (fit["model"], fit["dataset"]) == ("ViT", "CIFAR100")

    api = wandb.Api()
    run = api.run(fit["run"]["path"])
    assert run.state == "finished" and run.job_type == "pca"
    assert run.config["dataset"] == "CIFAR100" and run.config["seeds"] == list(range(SEEDS))
    assert run.summary["pca/total_variance"] == pytest.approx(fit["totals"]["total_variance"], rel=1e-12)

    used = {artifact.name for artifact in run.used_artifacts()}
    assert used == {"ViT_pt:v0", *(f"ViT_CIFAR100_{seed}:v0" for seed in range(SEEDS))}
    assert [used_by.id for used_by in api.artifact(f"{project}/ViT_CIFAR100_0:v0").used_by()] == [run.id]
    logged = {artifact.type: artifact for artifact in run.logged_artifacts()}
    assert logged["pca"].logged_by().id == run.id
    folder = pathlib.Path(logged["pca"].download(root=str(tmp_path / "pca")))
    assert {path.name for path in folder.iterdir()} >= {"fit.json", "layers.parquet", "components.parquet", "gram.safetensors"}

    assert logged["pca"].metadata["seeds"] == list(range(SEEDS)) and logged["pca"].metadata["pca/layers_fitted"] > 0

    panels = run.rawconfig["_wandb"]["value"]["visualize"] if "value" in run.rawconfig["_wandb"] else run.rawconfig["_wandb"]["visualize"]
    assert set(panels) == {"pca/scree", "pca/cumulative", "pca/cosine_similarity", "pca/seeds_in_plane", *(set(panels) & {"pca/variance_by_depth"})}
    for key, panel in panels.items():
        assert panel["panel_config"]["panelDefId"].startswith(f"{server.entity}/wandb-pca-")
        assert run.summary[f"{key}_table"]["_type"] == "table-file"
    assert run.summary["pca/plots/scree"]["_type"] == "image-file" and run.summary["pca/report"]["_type"] == "html-file"
    assert run.summary["pca/histograms/first_ratio"]["_type"] == "histogram"

    table = next(artifact for artifact in run.logged_artifacts() if "pcalayers" in artifact.name).get("pca/layers")
    assert isinstance(table, wandb.Table)
    rows = {row[table.columns.index("layer")]: row for row in table.data}
    for row in fit["layers"]:
        logged_row = rows[row["layer"]]
        assert logged_row[table.columns.index("total_variance")] == pytest.approx(row["total_variance"], rel=1e-12)
        assert logged_row[table.columns.index("parameters")] == row["parameters"]

    sample = tool("sample", tmp_path / "fit", "--log", "--json", env=env)
    model = api.artifact(sample["models"][0]["artifact"])
    assert model.type == "checkpoint" and model.metadata["scale"] == "variance"
    assert {"random_seed", "number", "weights", "seeds", "pretrained"} <= set(model.metadata)
    assert f"variance-{model.metadata['random_seed']}-{model.metadata['number']}" in model.aliases
    downloaded = pathlib.Path(model.download(root=str(tmp_path / "model")))
    original = next(path for path in sample["models"][0]["files"] if path.endswith(".ckpt"))
    assert (downloaded / pathlib.Path(original).name).read_bytes() == pathlib.Path(original).read_bytes()
    torch_side("read", original, tmp_path / "sampled.npz")


def test_artifacts_travel_both_ways(server, tmp_path):
    import wandb

    (tmp_path / "ours/sub").mkdir(parents=True)
    (tmp_path / "ours/a.bin").write_bytes(os.urandom(100_000))
    (tmp_path / "ours/sub/b.txt").write_text("hello\n")
    put = tool("artifact", "put", tmp_path / "ours", "--name", f"{server.entity}/travel/ours", "--type", "dataset",
               "--alias", "best", "--metadata", '{"rows": 3}', "--json")
    artifact = wandb.Api().artifact(f"{server.entity}/travel/ours:best")
    assert (artifact.version, artifact.metadata, artifact.type) == ("v0", {"rows": 3}, "dataset")
    assert put["artifact"] == f"{server.entity}/travel/ours:v0"
    there = pathlib.Path(artifact.download(root=str(tmp_path / "there")))
    for name in ("a.bin", "sub/b.txt"):
        assert (there / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()

    with wandb.init(entity=server.entity, project="travel") as run:
        theirs = wandb.Artifact("theirs", type="dataset")
        theirs.add_dir(str(tmp_path / "ours"))
        run.log_artifact(theirs).wait()
    env = {"WANDB_CACHE_DIR": str(tmp_path / "cache")}
    got = tool("artifact", "get", f"{server.entity}/travel/theirs:latest", "--root", tmp_path / "back", "--json", env=env)
    assert got["artifacts"][0]["version"] == "v0"
    for name in ("a.bin", "sub/b.txt"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()
    missing = tool("artifact", "get", f"{server.entity}/travel/nothing:latest", env=env, code=3)
    assert "nothing" in missing.stderr and "hint:" in missing.stderr
