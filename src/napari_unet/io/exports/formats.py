"""The formats of exports, and which one the ending of a name means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from napari_unet.io.exports.coco import write_coco
from napari_unet.io.exports.geojson import write_geojson
from napari_unet.io.exports.imagej import write_rois
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.exports.stores import write_into_image, write_tif, write_zarr
from napari_unet.io.exports.tracks import write_challenge, write_track_table

# Writes labels to a path; what is there is replaced.
Writer = Callable[[Path, Labelled], None]
# Labels in the store of their image, which is the path.
INSIDE = "image-zarr"
FORMATS: Mapping[str, Writer] = {
    "imagej": write_rois,
    "geojson": write_geojson,
    "coco": write_coco,
    "tif": write_tif,
    "zarr": write_zarr,
    INSIDE: write_into_image,
    "tracks": write_track_table,
    "ctc": write_challenge,
}
# The table of measurements, which this package does not write.
TABLE = "table"
# What an ending means. Tracks, folders of the challenge and images have to be asked for.
ENDINGS = {
    ".zip": "imagej",
    ".geojson": "geojson",
    ".json": "coco",
    ".tif": "tif",
    ".tiff": "tif",
    ".zarr": "zarr",
    ".csv": TABLE,
}


def format_of(path: Path, name: str | None = None) -> str:
    """Return the name of the format: the given one, or what the ending of the path means.

    Raises
    ------
    ValueError
        If there is no such format, or the ending means none.

    Examples
    --------
    >>> format_of(Path("cells.geojson"))
    'geojson'
    """
    known = sorted([*FORMATS, TABLE])
    if name is not None:
        if name not in known:
            raise ValueError(f"there is no format {name!r}; give one of {', '.join(known)}")
        return name
    found = ENDINGS.get(path.suffix.lower())
    if found is None:
        raise ValueError(
            f"the ending of {path} means no format; give one of {', '.join(ENDINGS)}, or the "
            f"format: {', '.join(known)}"
        )
    return found
