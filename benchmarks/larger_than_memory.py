"""How much memory does a zarr store take, does a kill cost anything, how would a cluster do?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.larger_than_memory [--side 10000 20000]
        [--kills 20 --kill-side 4096]   so many kills at random moments, each followed by a resume
        [--workers 2 4]                 a Dask cluster on this machine beside this process

The image is a mosaic of nuclei, 16 bits. Memory is what the process has at its peak over what it
has after loading the model. Times of tiles and blocks, as measured here, also tell how long 1, 16
and 128 such workers would take, each piece going to the first worker that is free, and each kind of
piece waiting for the one before.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.common import ROOT, mosaic, run_python, status


def make(path: Path, side: int) -> None:
    """A store of `side` x `side` px."""
    if path.exists():
        return
    piece = mosaic(2048, "images").astype(np.uint16) * 200
    image = zarr.create_array(path, shape=(side, side), chunks=(1024, 1024), dtype=np.uint16)
    for y in range(0, side, 2048):
        for x in range(0, side, 2048):
            image[y : y + 2048, x : x + 2048] = piece[: side - y, : side - x]


def segment(image: str, out: str, scheduler: str = "") -> None:
    """In a process of its own: segment, and print what it took, as JSON."""
    from napari_unet.large_images import job as volumes
    from napari_unet.models.store import ModelStore
    from napari_unet.service.segmentation import SegmentationService

    service = SegmentationService(ModelStore(Path("none")))
    service.servers.local.load(service.store.find("nuclei"))
    before, start = status("VmRSS"), time.perf_counter()
    spent: dict[str, list[float]] = {}
    if not scheduler:
        for kind in ("score_tile", "label_block", "write_block", "write_level"):
            setattr(volumes, kind, timed(getattr(volumes, kind), spent.setdefault(kind, [])))
    job = service.segment_volume(Path(image), Path(out), "nuclei", scheduler=scheduler or None)
    done = job.wait()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "cells": done.n_cells,
                "MB over the start": status("VmHWM") - before,
                "pieces": spent,
            }
        )
    )


def timed(work: Any, spent: list[float]) -> Any:
    """The same work, which writes down how long it takes."""

    def run(*piece: Any) -> None:
        start = time.perf_counter()
        work(*piece)
        spent.append(time.perf_counter() - start)

    return run


def run(image: Path, out: Path, scheduler: str = "") -> dict[str, Any]:
    """`segment` in another process."""
    found: dict[str, Any] = run_python(call(image, out, scheduler))
    return found


def on_cluster(image: Path, out: Path, workers: int) -> float:
    """Seconds of `segment` on a Dask cluster of so many processes of one thread each."""
    from distributed import LocalCluster

    os.environ["OMP_NUM_THREADS"] = "1"
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        seconds: float = run(image, out, cluster.scheduler_address)["seconds"]
    return seconds


def call(image: Path, out: Path, scheduler: str = "") -> str:
    """The code of a process that segments."""
    given = ", ".join(repr(str(each)) for each in (image, out, scheduler))
    return f"from benchmarks.larger_than_memory import segment; segment({given})"


def schedule(pieces: dict[str, list[float]], workers: int) -> float:
    """Seconds that so many workers take."""
    total = 0.0
    for durations in pieces.values():
        free = [0.0] * workers
        for duration in durations:
            heapq.heappush(free, heapq.heappop(free) + duration)
        total += max(free)
    return total


def same_but_for_names(a: Path, b: Path) -> bool:
    """Whether two stores hold the same labels, up to a renaming of ids."""
    first, second = (zarr.open_array(path / "0", mode="r") for path in (a, b))
    there: dict[int, int] = {}
    back: dict[int, int] = {}
    for y in range(0, first.shape[0], 1024):
        rows = np.stack([np.asarray(first[y : y + 1024]), np.asarray(second[y : y + 1024])])
        for one, other in np.unique(rows.reshape(2, -1), axis=1).T.tolist():
            if there.setdefault(one, other) != other or back.setdefault(other, one) != one:
                return False
    return there.get(0, 0) == 0


def killed(image: Path, out: Path, kills: int, seconds: float) -> int:
    """Kill the job so often; how often it had to begin."""
    starts = 0
    for seed in range(kills + 1):
        if out.exists():
            shutil.rmtree(out)
        command = [sys.executable, "-c", call(image, out)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            starts += 1
            if seed < kills:
                # Starting takes some seconds; the rest adds up to about the time of one job.
                time.sleep(4 + random.Random(seed).uniform(0, 2 * seconds / kills))
                process.send_signal(signal.SIGKILL)
    return starts


def main() -> None:
    """Measure, a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("large-work"))
    parser.add_argument("--side", type=int, nargs="*", default=[10_000, 20_000])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill-side", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[int, float] = {}
    for side in options.side:
        image = work / f"{side}.zarr"
        make(image, side)
        found = run(image, work / f"{side}-labels.zarr")
        pieces, seconds[side] = found.pop("pieces"), found["seconds"]
        print(f"{side} x {side}: {json.dumps(found)}")
        alone = schedule(pieces, 1)
        for workers in (16, 128):
            took = schedule(pieces, workers)
            print(
                f"  {workers} workers, on paper: {took:.0f} s, {alone / took:.1f}x",
                flush=True,
            )
    if options.kills or options.workers:
        side = options.kill_side
        image, whole = work / f"{side}.zarr", work / f"{side}-labels.zarr"
        if side not in seconds:
            make(image, side)
            seconds[side] = run(image, whole)["seconds"]
            print(f"{side} x {side}: {seconds[side]:.0f} s here", flush=True)
    if options.kills:
        out = work / "killed.zarr"
        starts = killed(image, out, options.kills, seconds[side])
        same = same_but_for_names(out, whole)
        print(f"killed and resumed, {starts} starts: same labels {same}", flush=True)
    for workers in options.workers:
        out = work / f"dask-{workers}.zarr"
        took = on_cluster(image, out, workers)
        same = same_but_for_names(out, whole)
        print(f"{workers} Dask workers: {took:.0f} s, same labels {same}", flush=True)


if __name__ == "__main__":
    main()
