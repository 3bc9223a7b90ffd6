"""Model files with one thing changed at random: each is refused in one sentence, or read right.

    python tests/fuzz/model_files.py [--count 10000] [--seed 0]

A file is a small model whose bytes, header, table of weights or length were changed. It is read as
`napari-unet segment --model FILE` reads it, and a plane is given to what comes of it. Prints how
many were refused, how long the slowest took and how much memory all took; exit status 1 and the
number of the file, which makes it again, if one was neither refused nor right.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_unet.config import PredictConfig
from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.models.checkpoint import load_model, save_model
from napari_unet.models.device import choose
from napari_unet.models.header import ModelFileError, ModelHeader
from napari_unet.models.loaded import LoadedModel

LARGEST_S, LARGEST_MB = 1.0, 200.0
EXACT = PredictConfig(device="cpu", precision="float32")
# What stands in for an entry: wrong types, ranges, and what other programs trip over.
ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 10**6, 10**12, 2**63, 10**400, 0.5, -0.5, 1e-9, 1e300, 1e-300,
    float("nan"), float("inf"), "", "a", "1", "../x", "C:\\x", "CON", "\0", "x" * 300, "\ud800",
    "\x1b[2J", [], [None], [[]], [1, 2], ["a", "b"], {}, {"x": 1}, {"": None},
    {"a": {"b": {"c": 1}}},
]  # fmt: skip


@dataclass
class Parts:
    """A model file, taken apart: the table of weights, the header of ours, the numbers."""

    table: dict[str, Any]
    ours: dict[str, Any]
    numbers: bytes

    @classmethod
    def of(cls, content: bytes) -> Parts:
        (length,) = struct.unpack("<Q", content[:8])
        table = json.loads(content[8 : 8 + length])
        ours = json.loads(table.pop("__metadata__")["napari_unet"])
        return cls(table, ours, content[8 + length :])

    def whole(self) -> bytes:
        metadata = {"__metadata__": {"napari_unet": json.dumps(self.ours)}}
        return joined(json.dumps(metadata | self.table).encode(), self.numbers)


def joined(head: bytes, numbers: bytes) -> bytes:
    return struct.pack("<Q", len(head)) + head + numbers


def small_model(path: Path) -> bytes:
    """A model of 1,000 weights, with something in each entry of its header."""
    network = UNet(UNetConfig(depth=1, width=2, dropout=0.0, distance=True))
    initialise(network, 0)
    header = ModelHeader(
        name="small", architecture={}, normalisation={"low": 1.0, "high": 99.0, "clip": 1.0},
        postprocess={"threshold": 0.5, "seed_threshold": 0.4, "min_size_px": 4, "gap_px": 1,
                     "radius_px": 3.0, "largest_px": 64, "peak_threshold": 0.1},
        pixel_size_um=0.5, diameter_px=12.0, parent="ab" * 32, trained_on=("cells",),
        settings={"steps": 5, "augment": {"flip": True}}, corrections={"a-0001": "cd" * 32},
        seed=1, steps=5, plans=((9, 40),), scores={"ap50": 0.5}, created="2026-01-01",
        licence="CC0-1.0",
    )  # fmt: skip
    save_model(path, network, header)
    return path.read_bytes()


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in a tree of JSON, with each key in it."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def change_entry(rng: random.Random, tree: Any) -> None:
    """Replace, remove, rename or double one entry."""
    where, key = rng.choice(list(places(tree)))
    what = rng.randrange(4)
    if what == 0 or isinstance(where, list):
        where[key] = rng.choice(ODD)
    elif what == 1:
        del where[key]
    elif what == 2:
        where[rng.choice(["x", "", "depth", "../x"])] = where.pop(key)
    elif isinstance(where[key], int | float):
        where[key] *= rng.choice([-1, 0, 2, 1.5, 1000, 1e-6])


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 10, 100])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def head_changed(rng: random.Random, content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return bytes_changed(rng, content[: 8 + length]) + content[8 + length :]


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def longer(rng: random.Random, content: bytes) -> bytes:
    place, more = rng.randrange(len(content)), rng.randbytes(rng.choice([1, 4, 8, 1000]))
    return content[:place] + more + content[place:]


def length_changed(rng: random.Random, content: bytes) -> bytes:
    return struct.pack("<Q", rng.choice([0, 1, 8, 2**31, 2**62, rng.randrange(4000)])) + content[8:]


def header_changed(rng: random.Random, content: bytes) -> bytes:
    parts = Parts.of(content)
    change_entry(rng, parts.ours)
    return parts.whole()


def table_changed(rng: random.Random, content: bytes) -> bytes:
    parts = Parts.of(content)
    change_entry(rng, parts.table)
    return parts.whole()


def doubled(rng: random.Random, content: bytes) -> bytes:
    """An entry of the header, or an array, twice."""
    parts = Parts.of(content)
    tree = rng.choice([parts.ours, parts.table])
    name = rng.choice(list(tree))
    more = f", {json.dumps(name)}: {json.dumps(rng.choice([tree[name], rng.choice(ODD)]))}}}"
    if tree is parts.table:
        (length,) = struct.unpack("<Q", content[:8])
        head = content[8 : 8 + length].decode().rstrip()
        return joined((head[:-1] + more).encode(), parts.numbers)
    ours = json.dumps(parts.ours)[:-1] + more
    head = json.dumps({"__metadata__": {"napari_unet": ours}} | parts.table)
    return joined(head.encode(), parts.numbers)


def deep(rng: random.Random, content: bytes) -> bytes:
    """Lists in lists in lists."""
    n, parts = rng.choice([10, 900, 100_000]), Parts.of(content)
    ours = json.dumps(parts.ours)[:-1] + f', "settings": {"[" * n}{"]" * n}}}'
    return joined(json.dumps({"__metadata__": {"napari_unet": ours}}).encode(), parts.numbers)


def weights_changed(rng: random.Random, content: bytes) -> bytes:
    parts = Parts.of(content)
    numbers = np.frombuffer(parts.numbers, np.float32).copy()
    some = rng.sample(range(len(numbers)), rng.choice([1, 10, len(numbers)]))
    numbers[some] = rng.choice([np.nan, np.inf, -np.inf, 1e38, 1e-38, 0.0, 5.0])
    parts.numbers = numbers.tobytes()
    return parts.whole()


CHANGES: list[Callable[[random.Random, bytes], bytes]] = [
    bytes_changed, head_changed, cut, longer, length_changed, header_changed, header_changed,
    header_changed, table_changed, table_changed, doubled, deep, weights_changed,
]  # fmt: skip


def read(path: Path, image: np.ndarray) -> str:
    """What comes of a file: "refused" or "right"; anything else raises."""
    try:
        network, header = load_model(path)
    except ModelFileError as error:
        told = str(error)
        assert str(path) in told, told
        assert "\n" not in told, told
        assert len(told) < 500 + len(str(path)), told
        return "refused"
    parts = Parts.of(path.read_bytes())
    for name, tensor in network.state_dict().items():
        entry = parts.table[name]
        first, last = entry["data_offsets"]
        kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[entry["dtype"]]
        there = np.frombuffer(parts.numbers[first:last], kind).astype(np.float32)
        np.testing.assert_array_equal(tensor.numpy(), there.reshape(entry["shape"]))
    known = json.loads(header.to_metadata()["napari_unet"])
    assert known == known | {k: v for k, v in parts.ours.items() if k in known}
    model, compute = LoadedModel(network, header), choose("cpu", "float32")
    try:
        plane = model.prepare(image[None])
        zoom = min(2.0, header.zoom)  # larger ones are right, and slow
        scores = model.scores(plane, compute, None, lambda *_: None, zoom)
    except (ValueError, FloatingPointError):
        return "refused"
    labels = model.instances(scores, EXACT)
    assert labels.shape == image.shape
    assert labels.dtype == np.int32
    assert np.isfinite(scores.foreground).all()
    return "right"


def run(count: int, seed: int, folder: Path) -> dict[str, float]:
    """Try so many files.

    Raises
    ------
    AssertionError
        Names the first file that was neither refused nor right, slow, or large.
    """
    content = small_model(folder / "good.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (40, 44)).astype(np.uint8)
    assert read(folder / "good.safetensors", image) == "right"
    found = {"refused": 0, "right": 0, "slowest_s": 0.0, "mb": 0.0}
    path, before = folder / "bad.safetensors", _peak_mb()
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        path.write_bytes(rng.choice(CHANGES)(rng, content))
        start = time.process_time()
        try:
            found[read(path, image)] += 1
        except BaseException as error:
            raise AssertionError(f"file {number} of seed {seed}: {error!r}") from error
        seconds, found["mb"] = time.process_time() - start, _peak_mb() - before
        found["slowest_s"] = max(found["slowest_s"], seconds)
        assert seconds < LARGEST_S, f"file {number} of seed {seed}: {seconds:.1f} s"
        assert found["mb"] < LARGEST_MB, f"file {number} of seed {seed}: {found['mb']:.0f} MB"
    return found


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, value in run(options.count, options.seed, Path(folder)).items():
            print(f"{name:10} {value:.6g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
