"""What a user waits for beside the network, and whether its cost grows as it should."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table

from benchmarks import first_click
from benchmarks.common import mosaic, run_python, status
from benchmarks.speed.table import Row, medians
from napari_unet import api
from napari_unet.config import PredictConfig
from napari_unet.core.cells.instances import label_instances, separate_touching
from napari_unet.core.network.weight_map import border_weights
from napari_unet.corrections.annotations import annotate
from napari_unet.corrections.collection import Collection
from napari_unet.learning.live_view import LiveView, View
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import SHIPPED, ModelStore
from napari_unet.service.segmentation import SegmentationService

# The columns of our table, by the names of scikit-image.
COLUMNS = (
    "label", "area", "centroid", "intensity_mean", "intensity_max", "intensity_min",
    "axis_major_length", "axis_minor_length", "eccentricity", "perimeter", "solidity",
)  # fmt: skip


def click(runs: int) -> Iterator[Row]:
    """From the click on Segment to labels in the viewer, 512 x 512."""
    cold, warm, network = first_click.measure(runs, 512)
    yield Row("first click, 512 x 512, cold", cold, "the aim", 3.0, 1.0)
    yield Row(f"warm ({network:.0%} of it the network)", warm, "the aim", 0.3, 1.0)


def size(runs: int) -> Iterator[Row]:
    """What the search for the size of cells adds, where they are three times as wide as known."""
    with closing(SegmentationService(ModelStore(Path("none")))) as service:

        def segment(image: NDArray[Any], diameter: Any) -> Any:
            config = PredictConfig(diameter_px=diameter)
            return service.segment(image, "YX", "nuclei", config).wait()

        for side, zoom in ((256, 1), (256, 3), (2048, 3)):
            image = ndimage.zoom(mosaic(max(side // zoom // 256, 1) * 256, "images"), zoom, order=1)
            image = image[:side, :side]
            known = segment(image, "auto").look.diameter_px
            found = medians(
                runs,
                auto=lambda image=image: segment(image, "auto"),
                known=lambda image=image, known=known: segment(image, known),
                own=lambda image=image: segment(image, None),
            )
            # The guess alone can be shorter than what else differs between two runs.
            guess = max(found["auto"] - found["known"], 0.001)
            wide = "as wide as known" if zoom == 1 else f"{zoom} times as wide"
            yield Row(
                f"guess of the size, {side} x {side}, cells {wide}",
                guess, "segmenting it as it is", found["own"], 1.0,
            )  # fmt: skip


def collecting(runs: int) -> Iterator[Row]:
    """What is read of a model's corrections before a fine-tune begins."""
    rng, labels = np.random.default_rng(0), np.zeros((64, 64), np.int32)
    labels[10:20, 10:20] = 1
    seconds: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        stored = Collection(Path(folder))
        for before, wanted in ((0, 50), (50, 200)):
            for number in range(before, wanted):
                image = rng.integers(0, 255, (64, 64)).astype(np.uint8)
                stored.add(replace(annotate(image, "YX", labels), name=f"image {number}"), 0)

            def read() -> None:
                collection = Collection(Path(folder))
                entries = collection.entries()
                keys = {entry.key for entry in entries}
                for entry in entries:
                    collection.seen_in(entry, keys)

            seconds[wanted] = medians(runs, read=read)["read"]
    yield Row("200 corrections before a fine-tune", seconds[200], "the aim", 0.5, 1.0)
    yield Row("the same", seconds[200], "4 times 50 corrections", 4 * seconds[50], 0.8)


def measuring(runs: int) -> Iterator[Row]:
    """A table of 2,500 cells on 2000 x 2000; and of a plane that is read in parts."""
    image, labels = squares(2000)
    found = medians(
        runs,
        ours=lambda: api.measure(image, labels),
        theirs=lambda: regionprops_table(labels, image, properties=COLUMNS),
    )
    what = f"measuring {labels.max()} cells, 2000 x 2000"
    yield Row(what, found["ours"], "regionprops_table", found["theirs"], 1.0)
    once, larger = (
        run_python(f"from benchmarks.speed.costs import measured; measured({times})")
        for times in (1, 2)
    )
    yield Row(f"{what}, memory", once["bytes"], "the aim", 20.0, 1.0, "bytes a px")
    what = f"measuring {larger['cells']} cells, 12000 x 12000, read in parts"
    beside = f"{once['cells']} cells, 6000 x 6000"
    yield Row(what, larger["MB"], beside, once["MB"], 0.9, "MB")


def measured(times: int) -> None:
    """In a process of its own: print what memory a table takes, as JSON."""
    import json
    import tracemalloc

    image, labels = squares(2000)
    tracemalloc.start()
    api.measure(image, labels)
    each = tracemalloc.get_traced_memory()[1] / image.size
    tracemalloc.stop()
    before = status("VmHWM")
    plane = Tiled(labels, 3 * times, step=int(labels.max()))
    cells = len(api.measure(Tiled(image, 3 * times), plane, axes="YX")["label"])
    over = status("VmHWM") - before
    print(json.dumps({"bytes": each, "cells": cells, "MB": over}))


def squares(side: int) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """A plane with a square cell every 40 pixels."""
    labels = np.zeros((side, side), np.int32)
    corners = range(5, side - 20, 40)
    for number, (y, x) in enumerate(((y, x) for y in corners for x in corners), start=1):
        labels[y : y + 15, x : x + 15] = number
    return np.random.default_rng(0).integers(0, 4000, labels.shape).astype(np.uint16), labels


class Tiled:
    """A plane of copies of a square, made where it is read; counts the pixels that are read.

    With a `step`, the labels of each copy are higher than those of the one before by it.
    """

    def __init__(self, square: NDArray[Any], times: int, step: int = 0) -> None:
        self._square, self._times, self._step = square, times, step
        self.shape = (square.shape[0] * times, square.shape[1] * times)
        self.dtype, self.ndim, self.read_px = square.dtype, 2, 0

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, columns = (np.arange(n)[k] for n, k in zip(self.shape, key, strict=True))
        side = len(self._square)
        out = self._square[np.ix_(rows % side, columns % side)]
        if self._step:
            number = (rows[:, None] // side * self._times + columns // side) * self._step
            out = np.where(out > 0, out + number.astype(out.dtype), out)
        self.read_px += out.size
        return out


def lazy_view() -> Iterator[Row]:
    """A look during a fine-tune at 300 x 300 px of a lazy plane of 36 megapixels."""
    model = LoadedModel(*load_model(SHIPPED / "nuclei.safetensors"))
    image = Tiled(mosaic(512, "images")[:500, :500], 12)
    looking = LiveView(model, choose(), 1.0, lambda: None)
    box = (slice(0, 300), slice(0, 300))
    looking.look(View(image, "YX", (), box))
    first = image.read_px
    looking.look(View(image, "YX", (), box))
    what = "lazy plane of 6000 x 6000, view of 300 x 300"
    beside, pixels = "what the network sees", float(400 * 400)
    yield Row(f"{what}, later looks", image.read_px - first, beside, pixels, 1.0, "px")
    yield Row(f"{what}, first look", first, "the plane", 36e6, unit="px")


def weights(runs: int) -> Iterator[Row]:
    """The weight map beside one distance transform of the frame for each cell; instances."""
    some, middle, many = (separate_touching(mosaic(n, "masks")) for n in (512, 2048, 4096))
    cells = np.unique(middle)[1:]
    scores = ndimage.gaussian_filter((many > 0).astype(np.float32), 0.7)

    found = medians(
        runs,
        **{
            "512": lambda: border_weights(some),
            "2048": lambda: border_weights(middle),
            "4096": lambda: border_weights(many),
            "naive": lambda: ndimage.distance_transform_edt(middle != cells[0]),
            "instances": lambda: label_instances(scores),
        },
    )
    beside = "a distance transform for each"
    what = f"weight map, 2048 x 2048, {len(cells)} cells"
    yield Row(what, found["2048"], beside, len(cells) * found["naive"])
    yield Row("weight map, 4096 x 4096", found["4096"], "64 times that of 512", 64 * found["512"])
    yield Row("instances of 4096 x 4096", found["instances"])
