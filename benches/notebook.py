"""The path that users run in a notebook today: load every checkpoint, subtract, and scikit-learn's PCA of each layer.

usage: python notebook.py FOLDER N     prints one JSON object
"""

import json
import pathlib
import resource
import sys
import time

started = time.perf_counter()

import sklearn
import torch
from sklearn.decomposition import PCA

imported = time.perf_counter()
folder, seeds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
pretrained = torch.load(folder / "pretrained.ckpt", map_location="cpu")
finetuned = [torch.load(folder / f"seed_{i}.ckpt", map_location="cpu") for i in range(seeds)]
loaded = time.perf_counter()
task_vectors = [{name: state[name] - pretrained[name] for name in pretrained} for state in finetuned]
subtracted = time.perf_counter()
variance = {}
for name in pretrained:
    rows = torch.stack([vector[name].flatten() for vector in task_vectors])
    variance[name] = float(PCA().fit(rows.numpy()).explained_variance_.sum())
done = time.perf_counter()
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
            "import_s": imported - started,
            "load_s": loaded - imported,
            "subtract_s": subtracted - loaded,
            "pca_s": done - subtracted,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "variance": variance,
        }
    )
)
