"""What torch is asked to do, in the interpreter that has it: `TORCH_PYTHON torch_side.py VERB ...`, answers as JSON or npz.

make FOLDER SEEDS   a pretrained model and SEEDS fine-tuned ones as torch.save writes them
read FILE NPZ       torch.load(weights_only=True), tensors as float64 to NPZ
"""

import collections
import json
import pathlib
import sys

import numpy
import torch


def model(generator, base=None):
    """A state dict with the kinds of tensors that real ones have; `base` plus noise when given."""
    shapes = {
        "model.visual.conv1.weight": (8, 3, 4, 4),
        "model.visual.blocks.0.attn.in_proj_weight": (24, 8),
        "model.visual.blocks.0.attn.in_proj_bias": (24,),
        "model.visual.blocks.0.mlp.c_fc.weight": (32, 8),
        "model.visual.ln_post.weight": (8,),
        "model.logit_scale": (),
        "model.frozen.weight": (16, 8),
        "model.half.weight": (12, 12),
    }
    tensors = collections.OrderedDict()
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if base is None:
            value = noise
        elif name in ("model.frozen.weight", "model.logit_scale"):
            value = base[name].float()
        else:
            value = base[name].float() + 0.05 * noise
        tensors[name] = value.half() if "half" in name else value
    tensors["model.num_batches_tracked"] = torch.tensor(7, dtype=torch.int64)
    return tensors


def make(folder, seeds):
    folder = pathlib.Path(folder)
    generator = torch.Generator().manual_seed(1)
    base = model(generator)
    (folder / "pt").mkdir(parents=True)
    torch.save(base, folder / "pt" / "trained.ckpt")
    for seed in range(int(seeds)):
        (folder / f"ft_{seed}").mkdir()
        torch.save(model(generator, base), folder / f"ft_{seed}" / "trained.ckpt")
    print(json.dumps({"torch": torch.__version__, "tensors": list(base)}))


def read(file, npz):
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    state = torch.load(file, map_location="cpu", **({"weights_only": True} if version >= (1, 13) else {}))
    numpy.savez(npz, **{name: value.to(torch.float64).numpy() for name, value in state.items()})
    print(json.dumps({name: str(value.dtype) for name, value in state.items()}))


if __name__ == "__main__":
    {"make": make, "read": read}[sys.argv[1]](*sys.argv[2:])
