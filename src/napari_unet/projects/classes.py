"""The classes of an image's cells: a table beside its labels, for those that are no plain cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari_unet.io.outputs import check_replaceable
from napari_unet.segmentation.measurements import write_table
from napari_unet.service.exports import read_classes

# The class of cells that have no line in the table.
CELL = "cell"
# Text in the name of the table, between the name of the labels and the ending.
CLASSES = "_classes"


def path_of(labels: Path) -> Path:
    """Return the path of the table for a file or store of labels."""
    return labels.with_name(f"{labels.stem}{CLASSES}.csv")


def classes_of(labels: Path) -> dict[int, str]:
    """Return the classes of the cells of labels; those that are left out are cells.

    Raises
    ------
    ValueError
        If the table cannot be read.
    """
    path = path_of(labels)
    return read_classes(path) if path.exists() else {}


def save_classes(labels: Path, classes: Mapping[int, str]) -> None:
    """Write the classes of the cells of labels; without any, there is no table.

    Raises
    ------
    NotOursError
        If there is a file of another program with that name.
    """
    path, told = path_of(labels), sorted((c, n) for c, n in classes.items() if n != CELL)
    check_replaceable(path)
    if told:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, {"label": [c for c, _ in told], "class": [n for _, n in told]})
    else:
        path.unlink(missing_ok=True)
