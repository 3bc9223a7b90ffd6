"""COCO's JSON: each plane is an image, each cell in it an annotation with a mask.

The masks are runs of pixels (RLE), not polygons: polygons of COCO have no holes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.io.atomic import replacing
from napari_unet.io.exports.labelled import Labelled

# The class of cells of which none is known.
_CELL = "cell"


def write_coco(path: Path, labelled: Labelled) -> None:
    """Write all cells as a data set of COCO; `label` of an annotation is the id of the cell."""
    names = sorted({_CELL, *labelled.classes.values()})
    category = {name: number for number, name in enumerate(names, start=1)}
    height, width = labelled.plane_shape
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for plane in labelled.planes():
        name = "_".join(filter(None, (labelled.name, plane.name)))
        image: dict[str, object] = {"id": len(images) + 1, "file_name": name}
        places = {"t": plane.t, "z": plane.z}
        images.append(
            image
            | {"height": height, "width": width}
            | {axis: at for axis, at in places.items() if at is not None}
        )
        for cell in plane.cells:
            points = np.concatenate([polygon[0] for polygon in cell.polygons])
            (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": category[labelled.classes.get(cell.label, _CELL)],
                    "label": cell.label,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": cell.area_px,
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [height, width],
                        "counts": _runs(
                            plane.labels[top:bottom, left:right] == cell.label,
                            (top, left),
                            (height, width),
                        ),
                    },
                }
            )
    categories = [{"id": number, "name": name} for name, number in category.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with replacing(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def _runs(
    mask: NDArray[np.bool_], corner: tuple[int, int], plane_shape: tuple[int, int]
) -> list[int]:
    """Return the lengths of the runs outside and inside a cell, column by column of its plane.

    Parameters
    ----------
    mask
        The pixels of the cell in a box.
    corner
        The first row and column of the box.
    plane_shape
        Size of the plane.
    """
    height, width = plane_shape
    columns, rows = np.nonzero(mask.T)
    places = (columns + corner[1]) * height + rows + corner[0]
    is_start = np.diff(places, prepend=-2) > 1
    ends = places[np.roll(is_start, -1)] + 1
    changes = np.stack((places[is_start], ends), axis=1).ravel()
    runs: list[int] = np.diff(changes, prepend=0, append=height * width).tolist()
    return runs
