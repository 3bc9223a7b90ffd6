"""The linking of cells in a large job: overlaps are counted in each block and added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.axes import label_axes
from napari_unet.io.atomic import replacing
from napari_unet.large_images.steps import Steps
from napari_unet.large_images.tasks import (
    Volume,
    VolumePlane,
    count_overlaps,
    large_plane,
    write_objects,
)
from napari_unet.segmentation.linking import Index, link_cells, nearest

if TYPE_CHECKING:
    from napari_unet.core.cells.linking import Overlaps


def link_planes(volume: Volume, areas: Mapping[Index, NDArray[np.int64]], steps: Steps) -> int:
    """Write the labels of all planes with the ids of linked cells; return the number of these.

    Parameters
    ----------
    volume
        A volume whose planes are labelled, with ids 1, 2, ... that are unique over all planes.
    areas
        For each plane, the areas of its cells in pixels, in the order of their ids.
    steps
        Runs the tasks.
    """
    from napari_unet.core.cells.linking import add_up

    axes, link = label_axes(volume.axes).replace("Y", "").replace("X", ""), volume.config.link
    planes = {index: VolumePlane(volume, index) for index in areas}
    blocks = range(len(large_plane(next(iter(planes.values()))).blocks))
    earlier = {index: [planes[before] for before in nearest(index, axes, link)] for index in planes}
    pieces = [(plane, n, earlier[index]) for index, plane in planes.items() for n in blocks]
    steps.do("overlap", count_overlaps, pieces)

    def overlapping(before: Index, index: Index) -> Overlaps:
        name, plane = planes[before].name, planes[index]
        return add_up(tuple(plane.known("overlap", n)[name]) for n in blocks)

    first = dict(zip(areas, np.cumsum([0, *map(len, areas.values())]).tolist(), strict=False))
    cells = {index: (np.arange(len(of)) + first[index] + 1, of) for index, of in areas.items()}
    objects = link_cells(cells, overlapping, axes, link)
    for index, plane in planes.items():
        with replacing(plane.path("objects")) as part, part.open("wb") as file:
            np.save(file, objects[cells[index][0]])
    steps.do(
        "object",
        write_objects,
        [(plane, n, first[index]) for index, plane in planes.items() for n in blocks],
    )
    return int(objects.max())
