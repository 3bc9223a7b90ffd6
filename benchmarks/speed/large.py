"""Large images: what a megapixel costs, in memory and from zarr to zarr, and Dask workers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import larger_than_memory
from benchmarks.common import mosaic, run_python, status
from benchmarks.speed.table import Row

# Side of the image that Dask workers segment.
CLUSTER_PX = 4096


def in_memory(sides: Sequence[int]) -> Iterator[Row]:
    """Seconds and peak memory for images in memory, each in a process of its own."""
    code = "from benchmarks.speed.large import segment; segment({})"
    yield from _flat("in memory", {side: run_python(code.format(side)) for side in sides})


def zarr_to_zarr(sides: Sequence[int]) -> Iterator[Row]:
    """Seconds and peak memory from zarr to OME-Zarr."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            image = Path(folder) / f"{side}.zarr"
            larger_than_memory.make(image, side)
            done = larger_than_memory.run(image, Path(folder) / "labels.zarr")
            found[side] = {"s": done["seconds"], "MB": done["MB over the start"]}
            for store in (image, Path(folder) / "labels.zarr"):
                shutil.rmtree(store)
    yield from _flat("zarr to zarr", found)
    for side, each in found.items():
        what = f"zarr to zarr, {side} x {side}, peak over the start"
        yield Row(what, each["MB"], "the aim", 600.0, 1.0, "MB")


def _flat(how: str, found: dict[int, dict[str, float]]) -> Iterator[Row]:
    """A row for each size: its cost of a megapixel beside that of the first."""
    costs = {side: 1e6 * each["s"] / side**2 for side, each in found.items()}
    first = next(iter(costs))
    for side, cost in costs.items():
        what = f"{how}, {side} x {side}, a megapixel"
        beside = {} if side == first else {"beside": f"of {first} x {first}", "other": costs[first]}
        yield Row(what, cost, mb=found[side]["MB"], least=0.9 if beside else None, **beside)


def segment(side: int) -> None:
    """In a process of its own: segment an image in memory, and print what it took, as JSON."""
    from napari_unet.models.store import ModelStore
    from napari_unet.service.segmentation import SegmentationService

    piece = mosaic(1024, "images").astype(np.uint16) * 200
    n = -(-side // 1024)
    image = np.tile(piece, (n, n))[:side, :side].copy()
    service = SegmentationService(ModelStore(Path("none")))
    # The first call loads torch and the model.
    service.segment(piece[:256, :256], "YX", "nuclei").wait()
    start = time.perf_counter()
    labels = service.segment(image, "YX", "nuclei").wait().labels
    seconds = time.perf_counter() - start
    service.close()
    over = status("VmHWM") - (image.nbytes + labels.nbytes) / 2**20
    print(json.dumps({"s": seconds, "MB": over}))


def cluster(workers: Sequence[int]) -> Iterator[Row]:
    """Dask workers of one thread each, beside one such worker."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.zarr"
        larger_than_memory.make(image, CLUSTER_PX)
        seconds = {
            n: larger_than_memory.on_cluster(image, Path(folder) / f"{n}.zarr", n)
            for n in (1, *workers)
        }
    for n in workers:
        linear = seconds[1] / min(n, cores)
        what = f"{n} Dask workers, {CLUSTER_PX} x {CLUSTER_PX}"
        yield Row(what, seconds[n], f"linear from 1, {cores} cores", linear, 0.9)
