"""GeoJSON as QuPath reads it: one feature for each cell and plane, in pixels."""

from __future__ import annotations

import json
from pathlib import Path

from napari_unet.core.cells.polygons import Outline, Polygon
from napari_unet.io.atomic import replacing
from napari_unet.io.exports.labelled import Labelled, Plane

# The name of the measurement that holds the id of a cell, which QuPath keeps.
LABEL = "label"


def write_geojson(path: Path, labelled: Labelled) -> None:
    """Write the outlines of all cells as a FeatureCollection, one feature a line."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        before = "\n"
        for plane in labelled.planes():
            for cell in plane.cells:
                file.write(before + json.dumps(_feature(cell, plane, labelled)))
                before = ",\n"
        file.write("\n]}\n")


def _feature(cell: Outline, plane: Plane, labelled: Labelled) -> dict[str, object]:
    parts = [_closed(polygon) for polygon in cell.polygons]
    one = len(parts) == 1
    geometry: dict[str, object] = {
        "type": "Polygon" if one else "MultiPolygon",
        "coordinates": parts[0] if one else parts,
    }
    if plane.name:
        # The channel -1 means all channels.
        geometry["plane"] = {"c": -1, "z": plane.z or 0, "t": plane.t or 0}
    properties: dict[str, object] = {
        "objectType": labelled.objects,
        "measurements": {LABEL: cell.label},
    }
    if cell.label in labelled.classes:
        properties["classification"] = {"name": labelled.classes[cell.label]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(polygon: Polygon) -> list[list[list[float]]]:
    """Return the rings of a polygon, each with its first point again at the end."""
    return [[*ring.tolist(), ring[0].tolist()] for ring in polygon]
