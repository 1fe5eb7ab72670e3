"""Cuts seed corpora for the fuzz targets out of the checkpoint fixtures."""

import json
import os
import struct
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures", "checkpoint")
SMALL = 4096


def put(target, name, content):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(content)


for version in sorted(os.listdir(FIXTURES)):
    folder = os.path.join(FIXTURES, version)
    if not os.path.isdir(folder):
        continue
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        for index in ("pytorch_model.bin.index.json", "model.safetensors.index.json"):
            if os.path.isfile(os.path.join(path, index)):
                with open(os.path.join(path, index)) as file:
                    content = json.load(file)
                # The target has two shards of each kind, with two tensors each.
                ending = ".bin" if index.endswith(".bin.index.json") else ".safetensors"
                tensors = enumerate(["a", "b.weight", "c", "d.bias"])
                content["weight_map"] = {tensor: f"{at // 2}{ending}" for at, tensor in tensors}
                put("sharded_index", f"{version}-{name}", json.dumps(content).encode())
        if os.path.isfile(os.path.join(path, ".metadata")):
            with open(os.path.join(path, ".metadata"), "rb") as file:
                # The target has the files of both fixtures, under three names.
                content = file.read()
                put("distributed", f"{version}-{name}",
                    content.replace(b"__0_0", b"__0_1") if name == "distributed_cut" else content)
        if not os.path.isfile(path):
            continue
        content = open(path, "rb").read()
        seed = f"{version}-{name}"
        if zipfile.is_zipfile(path):
            if len(content) <= SMALL:
                put("zip_directory", seed, content)
            for record in zipfile.ZipFile(path).namelist():
                pickle = zipfile.ZipFile(path).read(record)
                if record.endswith("data.pkl") and len(pickle) <= SMALL:
                    put("pickle", seed, pickle)
                    put("torch_archive", seed, pickle)
        elif name.endswith(".safetensors"):
            length = struct.unpack("<Q", content[:8])[0]
            put("safetensors_index", seed, content[8:8 + length])
        elif content.startswith(b"\x80\x02\x8a\n") and len(content) <= SMALL:
            put("legacy", seed, content[content.index(b".", content.index(b"little_endian")) + 1:])
