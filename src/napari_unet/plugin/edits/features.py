"""Class and measurements of each cell, in napari's table of the layer's features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.plugin.edits.tracker import DEFAULT_CLASS
from napari_unet.plugin.viewer.record import record_of

Columns = dict[str, Pixels]
# The id of a cell is called so by napari, and so by `segmentation.measurements`.
INDEX, LABEL = "index", "label"


def show_features(layer: Labels) -> None:
    """Put classes and measurements into the features; napari shows them under the pointer."""
    record = record_of(layer)
    classes, measured, since_last = record.classes, record.measured, record.since_last
    # Of the cells of the result, those that were erased are not among the measured ones.
    found = since_last if measured is None else measured[LABEL].tolist()
    ids = sorted({*classes, *found})
    few: dict[str, list[int] | list[str]] = {
        INDEX: ids,
        "class": [classes.get(cell, DEFAULT_CLASS) for cell in ids],
    }
    if since_last:
        few["since last result"] = [since_last.get(cell, "") for cell in ids]
    shown = {name: list(layer.features[name]) for name in few if name in layer.features}
    if (shown == few or not (ids or shown)) and record.shown is measured:
        return
    layer.features = few if measured is None else {**few, **_filled(measured, np.array(ids))}
    record.shown = measured


def with_classes(measured: Columns, classes: Mapping[int, str], unit: str) -> Columns:
    """Return a table of measured cells with the class of each, and the unit of lengths."""
    kinds = [classes.get(cell, DEFAULT_CLASS) for cell in measured[LABEL].tolist()]
    return {**measured, "class": np.array(kinds, object), "unit": np.full(len(kinds), unit)}


def _filled(measured: Columns, ids: NDArray[np.int64]) -> Columns:
    """Return measurements for these ids; NaN for cells that were painted after measuring."""
    at = np.searchsorted(ids, measured[LABEL])
    if len(at) == len(ids):
        return {name: column for name, column in measured.items() if name != LABEL}
    filled = {}
    for name, column in measured.items():
        if name != LABEL:
            filled[name] = np.full(len(ids), np.nan)
            filled[name][at] = column
    return filled
