"""Labels written in the formats of other programs, for the command line and Python."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_unet.io.exports.formats import FORMATS, INSIDE, TABLE, format_of
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.image_source import ImageSource
from napari_unet.segmentation.measurements import measure, write_table


class ExistsError(ValueError):
    """An export cannot be written, because there is something with its name."""


def export(
    path: Path,
    labelled: Labelled,
    format: str | None = None,
    image: ImageSource | None = None,
    *,
    overwrite: bool = False,
    warn: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Write labels in the format of another program.

    Parameters
    ----------
    path
        The file or folder to write; for "image-zarr", the OME-Zarr of the image, which gets
        `labels/cells`.
    labelled
        The labels, and what is known of them.
    format
        A name of `io.exports.formats.FORMATS`, or "table"; by default the ending of `path` decides.
    image
        For a table: the image whose brightness is measured, with the axes of the labels and perhaps
        C; without it there are no intensities.
    overwrite
        Whether what is there may be replaced.
    warn
        Called with a sentence if pixels of the image are not numbers.

    Raises
    ------
    ExistsError
        If there is something at `path`, and it may not be replaced.
    ValueError
        If there is no such format, or it cannot hold these labels.
    """
    chosen = check_new(path, format, overwrite=overwrite)
    if chosen == TABLE:
        _write_table(path, labelled, image, warn)
    else:
        FORMATS[chosen](path, labelled)


def check_new(path: Path, format: str | None = None, *, overwrite: bool = False) -> str:
    """Return the format of an export, unless there is something that it would replace.

    Parameters
    ----------
    path, format, overwrite
        As for `export`.

    Raises
    ------
    ExistsError
        If there is.
    ValueError
        If there is no such format.
    """
    chosen = format_of(path, format)
    written = path / "labels" / "cells" if chosen == INSIDE else path
    if os.path.lexists(written) and not overwrite:
        raise ExistsError(f"{written} is there already, so nothing was written; give another name")
    return chosen


def read_classes(path: Path) -> dict[int, str]:
    """Return the class of each cell from a table of cells: its columns `label` and `class`.

    Raises
    ------
    ValueError
        If it has no such columns, or a label is no whole number.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not {"label", "class"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{path} has no columns label and class; give the table that segment --table writes"
            )
        try:
            return {int(row["label"]): row["class"] for row in rows if row["class"]}
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: a label is no whole number ({error}); give one for each cell"
            ) from error


def _write_table(
    path: Path, labelled: Labelled, image: ImageSource | None, warn: Callable[[str], None]
) -> None:
    about = image or labelled.source
    scale, unit = labelled.source.scale
    columns = measure(labelled.labels, about.data, about.axes, scale, warn=warn)
    if image is None:
        columns = {name: of for name, of in columns.items() if not name.startswith("intensity")}
    ids = columns["label"].tolist()
    if labelled.classes:
        columns["class"] = np.array([labelled.classes.get(label, "") for label in ids], object)
    write_table(path, columns | {"unit": np.full(len(ids), unit)})
