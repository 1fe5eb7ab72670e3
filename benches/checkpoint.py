"""The readers that Python users have, for the benchmark of checkpoint reading.

usage: python checkpoint.py HOW FILE     prints one JSON object
HOW: list-torch, list-torch-mmap, list-safetensors, sum-torch, sum-torch-mmap, sum-safetensors
"""

import json
import sys
import time

import torch

how, file = sys.argv[1:]


def rss_anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


before, started = rss_anonymous(), time.perf_counter()
what, kind = how.split("-", 1)
if kind == "safetensors":
    from safetensors.torch import safe_open

    opened = safe_open(file, "pt")
    if what == "list":
        found = [(name, opened.get_slice(name).get_shape()) for name in opened.keys()]
    else:
        found = [float(opened.get_tensor(name).sum(dtype=torch.float64)) for name in opened.keys()]
else:
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=kind == "torch-mmap")
    if what == "list":
        found = [(name, list(tensor.shape)) for name, tensor in state.items()]
    else:
        found = [float(tensor.sum(dtype=torch.float64)) for tensor in state.values()]
inner = time.perf_counter() - started
print(json.dumps({"inner_s": inner, "peak_bytes": max(0, rss_anonymous() - before), "found": len(found)}))
