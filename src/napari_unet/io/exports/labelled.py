"""The labels that an export writes, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane, get_stack, plane_indices, plane_shape
from napari_unet.core.cells.polygons import Outline, outlines
from napari_unet.core.checks import whole_labels
from napari_unet.io.image_source import ImageSource


@dataclass(frozen=True)
class Plane:
    """One plane of labels.

    Attributes
    ----------
    labels
        (Y, X), int32.
    t, z
        Its place along T and Z, from 0; None where the labels have no such axis.
    number
        Its place among all planes, as ImageJ counts them, from 0.
    """

    labels: NDArray[np.int32]
    t: int | None
    z: int | None
    number: int

    @property
    def cells(self) -> Iterator[Outline]:
        """The outline of each cell, in the order of the ids."""
        return outlines(self.labels)

    @property
    def name(self) -> str:
        """Its place in words, such as "t003_z012"; "" for a single plane."""
        places = (("t", self.t), ("z", self.z))
        return "_".join(f"{axis}{at:03}" for axis, at in places if at is not None)


@dataclass(frozen=True)
class Labelled:
    """Labels to write.

    Attributes
    ----------
    source
        The labels: whole numbers, 0 = background, without an axis C; and the size of their pixels.
    classes
        The class of cells by their ids; not all have to be there.
    name
        The name of the labels, for formats that tell it.
    objects
        What the cells are in QuPath: detections, which it counts and measures, or annotations,
        which can be edited there.
    report
        Called with the share of the planes that are done whenever labels are read; may raise to
        stop. Where tracks are looked for, all planes are read twice.
    """

    source: ImageSource
    classes: Mapping[int, str] = field(default_factory=dict)
    name: str = "labels"
    objects: Literal["detection", "annotation"] = "detection"
    report: Callable[[float], None] = lambda share: None

    @property
    def labels(self) -> LazyArray:
        """The labels."""
        return self.source.data

    @property
    def axes(self) -> str:
        """One letter of TZYX for each axis."""
        return self.source.axes

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Size of a plane (Y, X)."""
        return plane_shape(self.axes, self.labels.shape)

    @property
    def n_times(self) -> int:
        """Number of frames; 1 without an axis T."""
        return self.labels.shape[self.axes.index("T")] if "T" in self.axes else 1

    def planes(self) -> Iterator[Plane]:
        """Yield all planes, one in memory at a time."""
        letters = [axis for axis in self.axes if axis not in "YX"]
        n_z = self.labels.shape[self.axes.index("Z")] if "Z" in self.axes else 1
        indices = list(plane_indices(self.axes, self.labels.shape))
        for done, index in enumerate(indices):
            self.report(done / len(indices))
            at = dict(zip(letters, index, strict=True))
            labels = whole_labels(get_plane(self.labels, self.axes, index)[0])
            number = at.get("T", 0) * n_z + at.get("Z", 0)
            yield Plane(labels, at.get("T"), at.get("Z"), number)

    def frame(self, time: int) -> NDArray[np.int32]:
        """Return the labels of one time: (Y, X), or (Z, Y, X)."""
        self.report(time / self.n_times)
        get = get_stack if "Z" in self.axes else get_plane
        return whole_labels(get(self.labels, self.axes, (time,) if "T" in self.axes else ())[0])
