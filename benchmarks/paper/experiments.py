"""The three experiments of the 2015 paper, on the parts of their data that are at hand.

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.paper.experiments isbi [--minutes 60]
        [--recipes paper ours] [--json FILE]
    ... u373, ... hela, and for the ablation
    ... isbi --recipes ours no-border no-elastic neither

isbi    EM membranes: learns slices 0 to 17, judged on 18 to 22
u373    PhC-C2DH-U373 01: learns frames 0 to 33, judged on 40 to 67
hela    DIC-C2DH-HeLa 01: learns frames 0 to 25, judged on 30 to 51

The challenges' own test sets are closed, so these are other images than the paper's table is of.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.common import data_folder
from napari_unet.config import FinetuneConfig, train_config
from napari_unet.core.cells.metrics import Scores, rand_error, warping_error
from napari_unet.corrections.annotations import annotate
from napari_unet.io.images import read_image
from napari_unet.learning.training import cell_diameter
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.service.segmentation import NewModel, SegmentationService

Pairs = list[tuple[NDArray[np.generic], NDArray[np.int32]]]


@dataclass(frozen=True)
class Experiment:
    """A data set, its parts, and what the paper reports."""

    folder: str
    learn: slice
    judge: slice
    score: Callable[[SegmentationService, ModelVersion, Pairs], dict[str, float]]
    paper: dict[str, float]
    # At how many times the size of nuclei cells are shown to our network; None: as they are.
    size: float | None


def cells_of(masks: NDArray[np.generic]) -> NDArray[np.int32]:
    """Instance labels; a mask of 255 and 0 holds one cell in each connected component."""
    if set(np.unique(masks)) <= {0, 255}:
        return np.asarray(ndimage.label(masks)[0], np.int32)
    return masks.astype(np.int32)


def read(folder: Path, which: slice) -> Pairs:
    """Images and instance labels."""
    return [
        (read_image(path).data, cells_of(read_image(folder / "masks" / path.name).data))
        for path in sorted((folder / "images").iterdir())[which]
    ]


def membranes(
    service: SegmentationService, version: ModelVersion, pairs: Pairs
) -> dict[str, float]:
    """The errors of the ISBI 2012 challenge, each at the threshold that is best for it.

    The pixel error is 1 - the F-score of the cells' pixels, all slices counted together
    (brainiac2.mit.edu/isbi_challenge/evaluation); beside it the share of pixels that are wrong.
    The scores are means over the eight ways to turn and mirror a slice; the paper took the mean
    over seven turned versions (table 1).
    """
    model = LoadedModel(*load_model(version.path))

    def foreground(image: NDArray[np.generic]) -> NDArray[np.float32]:
        prepared = model.prepare(np.ascontiguousarray(image)[None])
        return model.scores(prepared, choose(), None, lambda f, m: None).foreground

    def mean(image: NDArray[np.generic]) -> NDArray[np.float32]:
        ways = [(turns, mirrored) for turns in range(4) for mirrored in (1, -1)]
        seen = (np.rot90(foreground(np.rot90(image, k)[:, ::m])[:, ::m], -k) for k, m in ways)
        return np.asarray(np.mean(list(seen), axis=0))

    scores = [mean(image) for image, _ in pairs]
    found = []
    for threshold in np.arange(0.1, 0.91, 0.1):
        each = []
        for (_, truth), score in zip(pairs, scores, strict=True):
            cells, cell = score > threshold, truth > 0
            wrong, sizes = (cells != cell).mean(), cells.mean() + cell.mean()
            rand = rand_error(truth, ndimage.label(cells)[0])
            each.append((wrong, sizes, rand, warping_error(cell, cells)))
        wrong, sizes, rand, warping = np.mean(each, axis=0)
        # F = 2 TP / sizes, and what is wrong is sizes - 2 TP.
        found.append((wrong / sizes, wrong, rand, warping))
    names = "pixel_error", "wrong_pixels", "rand_error", "warping_error"
    return dict(zip(names, np.min(found, axis=0).tolist(), strict=True))


def tracked(service: SegmentationService, version: ModelVersion, pairs: Pairs) -> dict[str, float]:
    """The Cell Tracking Challenge's SEG, which the paper calls IoU, and AP."""
    scores = Scores()
    for image, truth in pairs:
        scores.add(truth, service.segment(image, "YX", version).wait().labels)
    summary = scores.summary()
    return {name: summary[name] for name in ("seg", "ap50", "iou")}


ISBI = {"warping_error": 0.000353, "rand_error": 0.0382, "pixel_error": 0.0611}
EXPERIMENTS = {
    "isbi": Experiment("isbi2012_em", slice(0, 18), slice(18, 23), membranes, ISBI, None),
    "u373": Experiment(
        "ctc_phc_c2dh_u373_01", slice(0, 34), slice(40, 68), tracked, {"seg": 0.9203}, 2.0
    ),
    "hela": Experiment(
        "ctc_dic_c2dh_hela_01", slice(0, 26), slice(30, 52), tracked, {"seg": 0.7756}, 1.0
    ),
}


def recipe(name: str, seconds: float, diameter_px: float | None) -> tuple[NewModel, FinetuneConfig]:
    """The paper's network and recipe, ours, or ours without a part of the paper's."""
    if name == "paper":
        new = NewModel(width=64, dropout=0.5, distance=False)
        return new, replace(train_config("paper", seconds=seconds), precision="auto")
    config = replace(train_config("fast", seconds=seconds), diameter_px=diameter_px)
    if name in ("no-border", "neither"):
        config = replace(config, w0=0.0)
    if name in ("no-elastic", "neither"):
        config = replace(config, augment=replace(config.augment, elastic_sigma_px=0.0))
    return NewModel(width=32), config


def main() -> None:
    """Train and judge each recipe; a line as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--recipes", nargs="+", default=["paper", "ours"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    experiment = EXPERIMENTS[options.experiment]
    folder = data_folder() / experiment.folder
    learn, judge = (read(folder, part) for part in (experiment.learn, experiment.judge))
    annotated = [annotate(image, "YX", labels) for image, labels in learn]
    typical = cell_diameter(annotated)
    diameter = typical / experiment.size if typical and experiment.size else None
    results: dict[str, dict[str, float]] = {"the paper, on its test set": experiment.paper}
    print(results, flush=True)
    for name in options.recipes:
        new, config = recipe(name, 60 * options.minutes, diameter)
        with tempfile.TemporaryDirectory() as store:
            service = SegmentationService(ModelStore(Path(store)))
            job = service.train(annotated, "experiment", config, new)
            done = job.wait()
            scores = experiment.score(service, done.model, judge)
            service.close()
        results[name] = {**scores, "steps": done.steps, "minutes": job.seconds / 60}
        words = "  ".join(f"{key} {value:.4g}" for key, value in results[name].items())
        print(f"{options.experiment} {name:10} {words}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
