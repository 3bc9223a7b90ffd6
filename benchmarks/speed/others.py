"""`nuclei` beside MONAI, StarDist and Cellpose: image to labels, each in a process of its own.

The processes are asked in turn, so that a busy machine slows all of them. Weights of the others
cannot be downloaded everywhere, and speed needs none: where no model was trained, their networks
have random weights, and what these would predict is put in place of what they do predict (true
distances, true flows), so that their search for cells has as many to find as ours.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from benchmarks.common import ROOT, mosaic, status
from benchmarks.environments import PINS, environ, rival
from benchmarks.speed.table import MISSING, Row

# Side of the corner that each process segments once before it is timed.
WARM_PX = 512


class Once(NamedTuple):
    """One run: seconds, cells found, and the peak memory of the process so far."""

    seconds: float
    cells: int
    mb: float


@contextmanager
def asked(
    call: Sequence[object], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[Callable[[], Once]]:
    """Start a process that waits for a line, works, and answers "= SECONDS CELLS MB".

    Lends a function that asks it once. It raises RuntimeError if the process ends instead.
    """
    pipe = subprocess.PIPE
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [str(word) for word in call],
            stdin=pipe, stdout=pipe, stderr=errors, text=True, env=env, cwd=ROOT,
        ) as process,
    ):  # fmt: skip
        assert process.stdin
        assert process.stdout

        def once() -> Once:
            try:
                print(file=process.stdin, flush=True)
                for line in process.stdout or ():
                    if line.startswith("="):
                        seconds, cells, mb = line[1:].split()
                        return Once(float(seconds), int(cells), float(mb))
            except BrokenPipeError:
                pass
            said = log.read_text().strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{said[-1]} (see {log})")

        try:
            yield once
        finally:
            # It may have ended itself.
            with suppress(BrokenPipeError):
                process.stdin.close()


def answer(work: Callable[[np.ndarray], np.ndarray], path: str) -> None:
    """In a process that is asked: segment an image whenever a line comes."""
    image = tifffile.imread(path)
    work(image[:WARM_PX, :WARM_PX])
    for _ in sys.stdin:
        start = time.perf_counter()
        labels = work(image)
        print("=", time.perf_counter() - start, labels.max(), status("VmHWM"), flush=True)


def nuclei(path: str) -> None:
    """In a process of its own: `nuclei`, as a user has it."""
    from napari_unet.models.store import ModelStore
    from napari_unet.service.segmentation import SegmentationService

    service = SegmentationService(ModelStore(Path("none")))
    answer(lambda image: service.segment(image, "YX", "nuclei").wait().labels, path)


def monai(path: str, overlap: str) -> None:
    """In a process of its own: the same, but the network is run in MONAI's windows."""
    import torch
    from monai.inferers import sliding_window_inference
    from torch.nn import functional as F

    from napari_unet.config import PredictConfig
    from napari_unet.core.network.unet import halo_px
    from napari_unet.models.checkpoint import load_model
    from napari_unet.models.device import choose
    from napari_unet.models.loaded import LoadedModel
    from napari_unet.models.store import SHIPPED

    compute, model = choose(), LoadedModel(*load_model(SHIPPED / "nuclei.safetensors"))
    predictor, halo = model.predictor(compute), halo_px(model.network.config.depth)

    def padded(window: torch.Tensor) -> torch.Tensor:
        return predictor._network(F.pad(window, (halo,) * 4, mode="reflect"))

    @torch.inference_mode()
    def logits(plane: np.ndarray, *_: object) -> np.ndarray:
        given = torch.from_numpy(np.ascontiguousarray(plane))[None].to(
            predictor.device, predictor.dtype, memory_format=torch.channels_last
        )
        found = sliding_window_inference(given, (388, 388), 1, padded, overlap=float(overlap))
        return found[0].float().cpu().numpy()

    predictor.logits = logits

    def work(image: np.ndarray) -> np.ndarray:
        scores = model.scores(model.prepare(image[None]), compute, None, lambda *_: None)
        return model.instances(scores, PredictConfig())

    answer(work, path)


def own(name: str, *arguments: object) -> list[object]:
    """The call of a function of this module in a process of its own."""
    code = f"import sys; from benchmarks.speed.others import {name}; {name}(*sys.argv[1:])"
    return [sys.executable, "-c", code, *arguments]


def in_turn(
    calls: Mapping[str, Callable[[], Sequence[object]]],
    logs: Path,
    runs: int,
    env: Mapping[str, str],
) -> tuple[dict[str, Once], dict[str, str]]:
    """Ask processes in turn; the medians of each, and why others could not be measured."""
    found: dict[str, list[Once]] = {name: [] for name in calls}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        asking = {}
        for name, call in calls.items():
            try:
                asking[name] = stack.enter_context(asked(call(), logs / f"{name}.log", env))
            except (OSError, subprocess.CalledProcessError) as error:
                failed[name] = str(error)
        for _ in range(runs):
            for name, once in asking.items():
                if name not in failed:
                    try:
                        found[name].append(once())
                    except RuntimeError as error:
                        failed[name] = str(error)
    middle = {
        name: Once(statistics.median(one.seconds for one in each), each[-1].cells, each[-1].mb)
        for name, each in found.items()
        if name not in failed
    }
    return middle, failed


def mosaic_file(folder: Path, side: int) -> tuple[Path, float]:
    """A mosaic of nuclei as a file, its masks beside it; and the diameter of its nuclei, in px.

    Cellpose is told the size: one that it had to find would cost it more.
    """
    masks, path = mosaic(side, "masks"), folder / f"mosaic-{side}.tif"
    tifffile.imwrite(path, mosaic(side, "images"))
    tifffile.imwrite(path.with_suffix(".masks.tif"), masks.astype(np.uint16))
    areas = np.bincount(masks.ravel())[1:]
    return path, float(np.median(np.sqrt(areas[areas > 0] * 4 / np.pi)))


def end_to_end(options: Namespace, side: int, rivals: Mapping[str, float | None]) -> Iterator[Row]:
    """`nuclei` and the others, image to labels; `rivals` names tools, with the ratios aimed at."""
    folder = options.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path, diameter = mosaic_file(folder, side)
    calls: dict[str, Callable[[], Sequence[object]]] = {
        "nuclei": lambda: own("nuclei", path),
        "MONAI, overlap 0.25": lambda: own("monai", path, 0.25),
        "MONAI, overlap 0.5": lambda: own("monai", path, 0.5),
        **{tool: partial(rival, tool, options, "speed", path, folder, diameter) for tool in rivals},
    }
    found, failed = in_turn(calls, folder, options.runs, environ(options))
    ours = found.pop("nuclei", None)
    if ours is None:
        raise RuntimeError(failed["nuclei"])
    what = f"nuclei, {side} x {side}, end to end, {ours.cells} cells"
    for name, other in found.items():
        pins = {pin.partition("==")[::2] for pin in PINS.get(name, ())}
        version = "".join(f" {number}" for tool, number in pins if name.startswith(tool))
        yield Row(
            what, ours.seconds, f"{name}{version}, {other.cells} cells", other.seconds,
            rivals.get(name), mb=ours.mb, other_mb=other.mb,
        )  # fmt: skip
    for name, why in failed.items():
        yield Row(what, ours.seconds, f"{name}: {MISSING}: {why}", mb=ours.mb)
