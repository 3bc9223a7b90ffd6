"""The training set of a fine-tune with its held-out cells, called a lesson."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.collection import Collection, Entry
from napari_unet.learning.training import annotated_planes, reach
from napari_unet.models.loaded import LoadedModel

if TYPE_CHECKING:
    from napari_unet.core.cells.holdout import Split
    from napari_unet.engine.samples import AnnotatedPlane

# Smallest number of cells at which held-out cells never join the training set. With fewer, all
# cells are needed for training in the end.
_PLENTY = 40
# With fewer new cells than this, cross-validation with two folds is used.
_FEW = 10


@dataclass(frozen=True)
class Lesson:
    """The training set of a fine-tune and its held-out cells, at the size that the network sees.

    Attributes
    ----------
    planes
        The annotated plane of each entry of the collection.
    split
        Which of their pixels are trained on, and which are held out.
    other
        With few cells, a second split that exchanges the two; else None.
    units
        (Y, X) int32 for each plane: the number of a cell, with the background around it, or 0.
        Numbers begin at 1 and are unique over all planes.
    known
        For each unit, whether the parent was trained or checked on it.
    n_cells
        Number of cells in all planes.
    zoom
        Factor by which the images are enlarged for the network.
    """

    planes: tuple[AnnotatedPlane, ...]
    split: Split
    other: Split | None
    units: tuple[NDArray[np.int32], ...]
    known: NDArray[np.bool_]
    n_cells: int
    zoom: float

    @property
    def is_plenty(self) -> bool:
        """Whether there are so many cells that held-out ones need not join the training set."""
        return self.n_cells >= _PLENTY

    def teaching(self, split: Split) -> list[AnnotatedPlane]:
        """Return the planes with only the pixels that a split trains on."""
        return [
            replace(plane, seen=mask, labels=np.where(mask, plane.labels, 0))
            for plane, mask in zip(self.planes, split.learn, strict=True)
            if mask.any()
        ]

    def held_out(self, split: Split) -> list[NDArray[np.int32]]:
        """Return the units (Y, X) of each plane that a split holds out; 0 elsewhere."""
        return [
            np.where(held > 0, units, 0) for held, units in zip(split.held, self.units, strict=True)
        ]


def prepare(
    model: LoadedModel,
    collection: Collection,
    entries: Sequence[Entry],
    config: FinetuneConfig,
    zoom: float,
    check: Callable[[], None],
) -> Lesson:
    """Read entries of a collection, and split them into training and held-out cells.

    Parameters
    ----------
    model
        The parent. It prepares the images, and its header names the entries that it learnt from.
    collection, entries
        The collection, and the entries to read.
    config
        Settings, with the fraction of cells to hold out.
    zoom
        Factor by which the images are enlarged for the network.
    check
        Called before each entry; may raise to stop.

    Raises
    ------
    ValueError
        If no pixel was seen.
    """
    from napari_unet.core.cells.holdout import Split, seen_units, split_seen, swapped
    from napari_unet.core.network.unet import halo_px
    from napari_unet.core.resample import resize_labels

    planes, known, read, origins = [], [], [], []
    for entry in entries:
        annotated = collection.read(entry)
        (correction,) = annotated.corrections
        box = reach(correction, round(config.reach_px / zoom))
        learnt = collection.seen_in(entry, model.header.corrections)[box]
        for plane in annotated_planes([annotated], model, config, check, zoom):
            planes.append(plane)
            known.append(resize_labels(learnt, plane.labels.shape))
            read.append(entry)
            starts = (
                (line.start or 0) + o for line, o in zip(box, annotated.offset_px, strict=True)
            )
            y, x = (zoom * start for start in starts)
            origins.append((y, x))
    if not planes:
        raise ValueError("nothing was corrected; paint at least one cell, then fine-tune")
    labels = [plane.labels for plane in planes]
    seen = [p.labels >= 0 if p.seen is None else p.seen for p in planes]
    n_cells = sum(entry.n_cells for entry in read)
    units, of_parent = _numbered(
        [seen_units(*each) for each in zip(labels, seen, strict=True)], known
    )
    other = None
    if config.held_out:
        plenty = n_cells >= _PLENTY
        few = not plenty and np.count_nonzero(~of_parent) < _FEW
        # With plenty of cells, the same images are held out in each fine-tune; else the new ones.
        order = (
            {e.image: e.fingerprint for e in read} if plenty else {e.image: "" for e in read[::-1]}
        )
        images = sorted(order, key=order.__getitem__)
        split = split_seen(
            labels,
            seen,
            [images.index(e.image) for e in read],
            guard_px=2 * halo_px(model.network.config.depth),
            share=max(0.5, config.held_out) if few else config.held_out,
            known=None if plenty else known,
            origins=origins,
        )
        if few and split.n_units:
            other = swapped(split, known)
    else:
        empty = tuple(np.zeros(mask.shape, np.int32) for mask in seen)
        split = Split(tuple(seen), empty, 0, False)
    return Lesson(tuple(planes), split, other, units, of_parent, n_cells, zoom)


def _numbered(
    units: Sequence[NDArray[np.int32]], known: Sequence[NDArray[np.bool_]]
) -> tuple[tuple[NDArray[np.int32], ...], NDArray[np.bool_]]:
    """Return units numbered over all planes, and for each whether most of it is known."""
    from napari_unet.core.cells.holdout import mostly

    numbered, of_parent, count = [], [np.zeros(0, bool)], 0
    for unit, mask in zip(units, known, strict=True):
        numbered.append(np.where(unit > 0, unit + count, 0).astype(np.int32))
        of_parent.append(mostly(unit, mask))
        count += int(unit.max(initial=0))
    return tuple(numbered), np.concatenate(of_parent)
