"""Training: a step beside the ceiling, and what a minute of fine-tuning on five cells holds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import mosaic
from benchmarks.speed.networks import ceiling, operations
from benchmarks.speed.table import Row, medians
from napari_unet.config import LARGE_TILE_PX, FinetuneConfig, train_config
from napari_unet.core.cells.instances import separate_touching
from napari_unet.corrections.annotations import Annotated, annotate
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.engine.trainer import Trainer
from napari_unet.learning.training import NewModel, new_model
from napari_unet.models.device import choose
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

# Steps of the fine-tune that is timed; the first ones, which are slower, do not count.
STEPS, FIRST = 24, 4


def step(runs: int) -> Iterator[Row]:
    """A step of width 32 on a tile of 572 px, and drawing its sample."""
    compute = choose()
    model = new_model(NewModel(width=32, in_channels=1, dropout=0.0), "new", 0)
    # Forward, and twice as much backward; of the plain weights, which the trainer replaces.
    needed = 3 * operations(model.network, 572)
    image, labels = mosaic(512, "images"), mosaic(512, "masks")
    plane = AnnotatedPlane(model.prepare(image[None]), labels.astype(np.int32))
    config = replace(train_config("fast", steps=10**6), tile_px=572)
    trainer = Trainer(model.network, [plane], config, compute.torch_device, compute.torch_dtype)
    sampler = Sampler([plane], model.network.config, config, compute.torch_device)
    fastest, work = ceiling(compute)
    found = medians(runs, ceiling=fastest, step=trainer.step, sample=sampler.draw)
    share = needed * found["ceiling"] / work
    yield Row("training step, width 32, 572 px", found["step"], "the ceiling", share, 0.70)
    yield Row("drawing its sample", found["sample"], "the step", found["step"])


def minute() -> Iterator[Row]:
    """A fine-tune of `nuclei` on five cells of median size, beside tiles of 236 px."""
    image, masks = mosaic(512, "images"), separate_touching(mosaic(512, "masks"))
    by_size = np.argsort(np.bincount(masks.ravel())[1:]) + 1
    middle = len(by_size) // 2
    cells = by_size[middle - 2 : middle + 3]
    painted = np.where(np.isin(masks, cells), masks, 0)
    given = annotate(image, "YX", painted, painted > 0)
    seconds: dict[int | None, list[float]] = {None: [], LARGE_TILE_PX: []}
    # In turn, so that a busy machine slows both.
    for _ in range(3):
        for tile_px, gaps in seconds.items():
            gaps += _gaps(given, FinetuneConfig(steps=STEPS, tile_px=tile_px))
    ours, before = (statistics.median(gaps) for gaps in seconds.values())
    yield Row(
        f"step of a fine-tune on 5 cells, {60 / ours:.0f} a minute",
        ours, f"on tiles of {LARGE_TILE_PX} px", before, 3.0,
    )  # fmt: skip


def _gaps(given: Annotated, config: FinetuneConfig) -> list[float]:
    """Seconds between the steps of a fine-tune."""
    ends: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SegmentationService(ModelStore(Path(folder)))) as service,
    ):
        job = service.finetune([given], "nuclei", config)
        job.progressed.connect(lambda p: ends.append(time.perf_counter()) if p.loss else None)
        job.wait()
    return list(np.diff(ends)[FIRST:])
