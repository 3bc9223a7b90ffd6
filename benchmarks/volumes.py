"""A network of stacks beside one of planes, both taught every fourth plane of a stack.

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.volumes [--minutes 3] [--only NAME ...]

Both are trained from scratch for the same time on the same planes; the other planes are unseen. The
planes that the second one segments are linked along Z. Both are judged by SEG of 3D objects on the
planes that were not painted: of the same stack, and of other stacks where there are some.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.common import data_folder
from napari_unet.config import PredictConfig, train_config
from napari_unet.core.cells.metrics import Scores
from napari_unet.corrections.annotations import Annotated, annotate
from napari_unet.learning.training import NewModel
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

# Planes 2, 6, 10, ... are painted.
PAINTED = slice(2, None, 4)
Stack = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """Stacks of a folder: the distance of their planes in pixels, and which teach and judge."""

    folder: str
    anisotropy: float
    teach: Sequence[int] = (0,)
    judge: Sequence[int] = ()


CASES = {
    case.folder: case
    for case in (
        Case("plantseg_nuclei_3d", 0.284 / 0.127),
        Case("stardist_nuclei_3d", 2.0),
        Case("qcanet_mouse_embryo_3d", 2.18),
        Case("ctc_fluo_n3dh_cho_02sub", 5.0, (0, 3), (6, 9)),
    )
}


def main() -> None:
    """Train and judge both on each folder; a table as it goes, JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--only", nargs="*", default=None, choices=CASES)
    parser.add_argument("--depth", type=int, default=None, help="of the network of stacks")
    parser.add_argument("--width", type=int, default=None, help="of the network of stacks")
    options = parser.parse_args()
    table = {}
    print(f"{'stacks':24} {'network':10} {'steps':>6} {'SEG':>6} {'AP 0.5':>7} found of true")
    for name in options.only or CASES:
        case = CASES[name]
        shape = {"depth": options.depth, "width": options.width}
        deep = NewModel(dims=3, anisotropy=case.anisotropy, **shape)
        for network, new in (("3D", deep), ("2D linked", NewModel())):
            found = run(case, new, 60 * options.minutes)
            table[f"{name}, {network}"] = found
            print(
                f"{name:24} {network:10} {found['steps']:6} {found['seg']:6.3f} "
                f"{found['ap50']:7.3f} {found['n_pred']:5} of {found['n_true']}",
                flush=True,
            )
    print(json.dumps(table))


def run(case: Case, new: NewModel, seconds: float) -> dict[str, Any]:
    """Train one network, and score it."""
    stacks, scores = read(case), Scores()
    with tempfile.TemporaryDirectory() as folder:
        service = SegmentationService(ModelStore(Path(folder)))
        annotated = [painted(*stacks[i]) for i in case.teach]
        done = service.train(annotated, "m", train_config(seconds=seconds), new).wait()
        for i in sorted({*case.teach, *case.judge}):
            image, truth = stacks[i]
            config = PredictConfig(link="z" if new.dims == 2 else "none")
            labels = service.segment(image, "ZYX", done.model.path, config).wait().labels
            unseen = np.ones(len(truth), bool)
            if i in case.teach:
                unseen[PAINTED] = False
            scores.add(truth[unseen], labels[unseen])
        service.close()
    return {"steps": done.steps, **scores.summary()}


def read(case: Case) -> list[Stack]:
    """Images and labels (Z, Y, X) of a folder, in order."""
    folder = data_folder() / case.folder
    images = sorted((folder / "images").iterdir())
    return [(tifffile.imread(f), tifffile.imread(folder / "masks" / f.name)) for f in images]


def painted(image: NDArray[Any], truth: NDArray[Any]) -> Annotated:
    """A stack of which every fourth plane was painted."""
    trusted = np.zeros(truth.shape, bool)
    trusted[PAINTED] = True
    return annotate(image, "ZYX", np.where(trusted, truth, 0), trusted)


if __name__ == "__main__":
    main()
