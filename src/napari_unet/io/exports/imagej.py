"""ROIs of ImageJ and Fiji: a zip with one for each cell and plane.

ImageJ counts the corners of pixels as `core.cells.polygons` does, so an ROI selects exactly the
pixels of its cell. A cell with holes or several pieces becomes a composite.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from napari_unet.core.cells.polygons import Outline
from napari_unet.io.atomic import replacing
from napari_unet.io.exports.labelled import Labelled, Plane

# The name of the property of an ROI that holds the id of its cell.
LABEL = "label"
# The operations of a path in a composite: go to a point, draw a line to it, close the line.
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_rois(path: Path, labelled: Labelled) -> None:
    """Write the outlines of all cells as a zip for ImageJ's ROI Manager."""
    classes = labelled.classes
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for plane in labelled.planes():
            for cell in plane.cells:
                name = "_".join(filter(None, (plane.name, f"cell{cell.label:05}")))
                roi = _roi(cell)
                roi.name = name
                _place(roi, plane)
                roi.props = f"{LABEL}: {cell.label}\n"
                if cell.label in classes:
                    roi.props += f"class: {' '.join(classes[cell.label].split())}\n"
                file.writestr(f"{name}.roi", roi.tobytes())


def _roi(cell: Outline) -> ImagejRoi:
    rings = [ring for polygon in cell.polygons for ring in polygon]
    points = np.concatenate(rings)
    if len(rings) == 1:
        roi = ImagejRoi.frompoints(points)
        roi.roitype = ROI_TYPE.TRACED
        # roifile also asks for labels beside the ROIs.
        roi.options &= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    else:
        path: list[float] = []
        for ring in rings:
            for number, (x, y) in enumerate(ring.tolist()):
                path += [_LINE if number else _MOVE, x, y]
            path.append(_CLOSE)
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(path))
        roi.multi_coordinates = np.array(path, np.float32)
    roi.left, roi.top = points.min(0).tolist()
    roi.right, roi.bottom = points.max(0).tolist()
    return roi


def _place(roi: ImagejRoi, plane: Plane) -> None:
    """Set the plane of an ROI: the number in a stack, or both places in a hyperstack."""
    if plane.t is not None and plane.z is not None:
        roi.t_position, roi.z_position = plane.t + 1, plane.z + 1
    elif plane.name:
        roi.position = plane.number + 1
