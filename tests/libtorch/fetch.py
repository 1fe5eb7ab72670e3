"""Gets libtorch for CPUs by the smallest way: `fetch.py FOLDER`.

The registry has no wheel of torch for Linux without CUDA, but a wheel is a zip archive, and its server answers range
requests: this reads the directory of the wheel of torch, then the files that a program on a CPU needs, about 131 of 527
MB. pip finds the wheel, by whatever index and proxy it is configured with. Every file is held to the SHA-256 that the
wheel's own RECORD states, and the wheel's length to what the server says.

libtorch_cpu.so of that wheel wants libcudart and libcupti for profiling; a C compiler makes two libraries in their place
whose functions all answer "no CUDA device". So this libtorch runs on CPUs only.
"""

import base64
import hashlib
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zlib

VERSION = "2.13.0"
LIBRARIES = {"libtorch_cpu.so", "libc10.so", "libtorch_global_deps.so"}
# Ranges nearer to each other than this are read in one.
GAP = 1 << 20


def wheel():
    """The URL of the wheel of torch, from pip."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    # Nothing is installed: the report says where the wheel is.
    report = subprocess.run([*pip, "--report", "-", f"torch=={VERSION}"], check=True, capture_output=True).stdout
    (found,) = json.loads(report)["install"]
    return found["download_info"]["url"]


class Ranges:
    """A file on a server, read by ranges."""

    def __init__(self, url):
        self.url, self.read_bytes, self.requests = url, 0, 0
        _, self.length = self.get("bytes=0-0")

    def get(self, wanted):
        request = urllib.request.Request(self.url, headers={"Range": wanted, "Accept-Encoding": "identity"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            if answer.status != 206:
                sys.exit("the server of the wheel answers no range requests: install the wheel with pip instead")
            content, whole = answer.read(), int(answer.headers["Content-Range"].rsplit("/", 1)[1])
        self.read_bytes += len(content)
        self.requests += 1
        return content, whole

    def read(self, start, end):
        content, whole = self.get(f"bytes={start}-{end - 1}")
        if len(content) != end - start or whole != self.length:
            sys.exit(f"bytes {start} to {end} of the wheel came out as {len(content)} bytes of {whole}")
        return content


def directory(source):
    """Name, method, compressed size, header offset of every file in the archive."""
    tail = source.read(max(0, source.length - (1 << 16)), source.length)
    end = tail.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", tail[end + 10 : end + 20])
    if count == 0xFFFF or start == 0xFFFFFFFF:
        wide = tail.rindex(b"PK\x06\x06")
        count, size, start = struct.unpack("<QQQ", tail[wide + 32 : wide + 56])
    first = source.length - len(tail)
    content = tail[start - first : start - first + size] if start >= first else source.read(start, start + size)
    entries, at = {}, 0
    for _ in range(count):
        method, = struct.unpack("<H", content[at + 10 : at + 12])
        packed, _, name, extra, comment = struct.unpack("<IIHHH", content[at + 20 : at + 34])
        offset, = struct.unpack("<I", content[at + 42 : at + 46])
        entries[content[at + 46 : at + 46 + name].decode()] = (method, packed, offset)
        at += 46 + name + extra + comment
    return entries, start


def unpack(source, entries, directory_start, names):
    """Name and content of each of these files, in the order of the archive."""
    starts = sorted(offset for _, _, offset in entries.values()) + [directory_start]
    end_of = dict(zip(starts, starts[1:]))
    runs = []
    for name in sorted(names, key=lambda name: entries[name][2]):
        start = entries[name][2]
        if runs and start - runs[-1][1] <= GAP:
            runs[-1][1] = end_of[start]
            runs[-1][2].append(name)
        else:
            runs.append([start, end_of[start], [name]])
    for start, end, members in runs:
        content = memoryview(source.read(start, end))
        for name in members:
            method, packed, offset = entries[name]
            local = offset - start
            lengths = struct.unpack("<HH", content[local + 26 : local + 30])
            data = content[local + 30 + sum(lengths) :][:packed]
            yield name, zlib.decompress(data, -15) if method == 8 else bytes(data)


def stub(library, symbols, folder):
    """A library of this name whose functions all answer that there is no CUDA device."""
    # 100 is cudaErrorNoDevice; the one function that returns a text returns one.
    texts = {"cudaGetErrorString", "cudaGetErrorName"}
    line = lambda name: f'const char *{name}(int e){{return "no CUDA";}}' if name in texts else f"int {name}(void){{return 100;}}"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "stub.c").write_text("\n".join(map(line, symbols)) + "\n")
        (scratch / "stub.map").write_text(f"{library} {{ global: *; }};\n")
        flags = [f"-Wl,-soname,{library}", f"-Wl,--version-script={scratch / 'stub.map'}"]
        subprocess.run(["cc", "-shared", "-fPIC", *flags, "-o", folder / library, scratch / "stub.c"], check=True)


def wanted_symbols(library):
    """The functions that `library` wants, by the library that is to have them."""
    told = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    wanted = {}
    for name, of in re.findall(r"(\w+)@(lib(?:cudart|cupti)\.so\.\d+)", told):
        wanted.setdefault(of, []).append(name)
    return wanted


def main(folder):
    if (folder / "build-version").exists() and (folder / "build-version").read_text() == VERSION:
        print(f"libtorch {VERSION} is in {folder}")
        return
    source = Ranges(wheel())
    entries, end = directory(source)
    (record,) = [name for name in entries if name.endswith(".dist-info/RECORD")]
    libraries = {name for name in entries if name.startswith("torch/lib/") and name.rsplit("/", 1)[1] in LIBRARIES}
    libraries |= {name for name in entries if re.fullmatch(r"torch\.libs/.*|torch/lib/libgomp.*", name)}
    headers = {name for name in entries if name.startswith("torch/include/") and not name.endswith("/")}
    licences = {name for name in entries if re.search(r"\.dist-info/.*(LICENSE|NOTICE)", name)}
    shutil.rmtree(folder, ignore_errors=True)
    digests = {}
    for name, content in unpack(source, entries, end, {record} | libraries | headers | licences):
        if name == record:
            lines = [line.rsplit(",", 2) for line in content.decode().splitlines()]
            stated = {path.strip('"'): digest for path, digest, _ in lines}
            continue
        digests[name] = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        path = folder / re.sub(r"^(torch/lib|torch\.libs)/", "lib/", name).removeprefix("torch/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    wrong = [name for name, digest in digests.items() if stated.get(name) != f"sha256={digest}"]
    if wrong:
        sys.exit(f"not what the wheel's RECORD says: {', '.join(wrong[:5])}")
    lib = folder / "lib"
    for library, symbols in wanted_symbols(lib / "libtorch_cpu.so").items():
        stub(library, symbols, lib)
    # The wheel's own libtorch.so holds nothing and wants libtorch_cuda.so.
    empty = ["cc", "-shared", "-fPIC", "-Wl,-soname,libtorch.so", "-xc", "/dev/null", "-o", lib / "libtorch.so"]
    subprocess.run(empty, check=True)
    (folder / "build-version").write_text(VERSION)
    print(f"libtorch {VERSION} in {folder}: {source.read_bytes / 1e6:.0f} MB in {source.requests} requests")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
