"""One table of all cells of all images of a project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_unet.io.outputs import check_replaceable
from napari_unet.jobs import Reporter, sentence
from napari_unet.projects.classes import CELL, classes_of
from napari_unet.projects.project import Project
from napari_unet.segmentation.measurements import Columns, measure, write_table

# Name of the table in the folder of the project.
TABLE = "napari-unet-cells.csv"


def write_cells(
    job: Reporter,
    project: Project,
    path: Path,
    told: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> int:
    """Measure the cells of all images, and write one table with the name of the image; in a job.

    Parameters
    ----------
    job
        Receives the progress.
    project
        The project.
    path
        The CSV file.
    told
        Called with a sentence about each image that could not be measured.
    overwrite
        Whether a file of another program may be replaced.

    Returns
    -------
    The number of cells.

    Raises
    ------
    NotOursError
        If there is a file of another program.
    ValueError
        If no image has labels.
    """
    check_replaceable(path, overwrite=overwrite)
    tables: list[Columns] = []
    kinds: list[dict[int, str]] = []
    names = [n for n in sorted(project.names) if project.label_path(n).exists()]
    if not names:
        raise ValueError("no image has labels yet; segment the rest first")
    for number, name in enumerate(names):
        job.report(number / len(names), f"measuring {name}")
        try:
            image = project.read(name)
            labels = project.read_labels(name, image)
            if labels is None:
                raise ValueError("its labels are gone")
            scale, unit = image.scale
            columns = measure(labels, image.data, image.axes, scale, job.check)
            classes = classes_of(project.label_path(name))
        except (ValueError, OSError, MemoryError) as error:
            told(f"{name}: {sentence(error)}")
            continue
        n = len(columns["label"])
        state = project.entry(name).state
        first: Columns = {"image": np.full(n, name, object)}
        last: Columns = {"unit": np.full(n, unit, object), "state": np.full(n, state, object)}
        tables.append(first | columns | last)
        kinds.append(classes)
    if not tables:
        raise ValueError("no image could be measured")
    if any(kinds):
        for table, classes in zip(tables, kinds, strict=True):
            of_cells = [classes.get(label, CELL) for label in table["label"].tolist()]
            table["class"] = np.array(of_cells, object)
    write_table(path, _joined(tables))
    return sum(len(table["label"]) for table in tables)


def _joined(tables: list[Columns]) -> Columns:
    """Put tables below each other; a column that one lacks is empty there."""
    # Those of the table with most columns come first, in their order.
    longest = sorted(tables, key=len, reverse=True)
    names = dict.fromkeys(name for table in longest for name in table)

    def column(table: Columns, name: str) -> np.ndarray:
        empty = np.full(len(table["label"]), np.nan, object)
        return np.asarray(table.get(name, empty), object)

    return {name: np.concatenate([column(table, name) for table in tables]) for name in names}
