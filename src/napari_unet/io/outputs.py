"""Check that a result replaces nothing but labels and tables that this program wrote."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

# The mark in labels that this program writes: an attribute in zarr, the software in tif.
MARK = "napari-unet"
# Names of files in a zarr store, and of files that file browsers leave in every folder.
_IN_ZARR = re.compile(
    r"\.z(?:attrs|group|array|metadata)|zarr\.json|c|[0-9.]+|\.DS_Store|Thumbs\.db|desktop\.ini"
)
# Names of the columns that `measurements.measure` makes, and of those that are added to them.
_COLUMN = re.compile(
    r"image|label|[tz](?:_first|_last)?|area|volume|centroid_[zyx]|intensity_(?:mean|max|min)(?:_\d+)?|"
    r"equivalent_diameter|axis_major_length|axis_minor_length|eccentricity|solidity|perimeter|"
    r"class|unit|state"
)


class NotOursError(ValueError):
    """A result cannot be written, because a file of another program has its name."""


def check_replaceable(path: Path, *, overwrite: bool = False) -> None:
    """Raise an error if a result must not be written to a path.

    Parameters
    ----------
    path
        The path of labels (zarr, tif) or of a table (csv).
    overwrite
        Whether files of other programs may be replaced, too.

    Raises
    ------
    NotOursError
        If there is something at `path` that this program did not write.
    """
    if overwrite or not os.path.lexists(path) or is_ours(path):
        return
    raise NotOursError(
        f"{path} is there already and was not made by napari-unet, so it is not replaced; give "
        "another name, or move it away"
    )


def is_ours(path: Path) -> bool:
    """Whether a path is a result that this program wrote, or an empty folder."""
    if path.is_dir():
        return not any(path.iterdir()) or _is_our_zarr(path)
    try:
        return (_is_our_table if path.suffix.lower() == ".csv" else _is_our_tif)(path)
    except Exception:
        # Each reader has its own exceptions.
        return False


def _is_our_zarr(path: Path) -> bool:
    is_new = (path / "zarr.json").exists()
    try:
        attributes = json.loads((path / ("zarr.json" if is_new else ".zattrs")).read_text("utf-8"))
        attributes = attributes["attributes"] if is_new else attributes
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not isinstance(attributes, dict) or MARK not in attributes:
        return False
    return all(_IN_ZARR.fullmatch(name) for _, _, names in os.walk(path) for name in names)


def _is_our_tif(path: Path) -> bool:
    import tifffile

    with tifffile.TiffFile(path) as file:
        software = file.pages.first.tags.get("Software")
        return software is not None and software.value == MARK


def _is_our_table(path: Path) -> bool:
    with path.open(newline="", encoding="utf-8") as file:
        names = next(csv.reader(file), [])
    return names[:1] in (["label"], ["image"]) and all(map(_COLUMN.fullmatch, names))
