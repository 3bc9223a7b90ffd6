"""Which recipe reaches good labels soonest on this machine?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.presets [--minutes 3] [--only NAME ...]

Trains each recipe from scratch for the same wall time on folds 1 to 3 of dsb2018 and scores it on
fold 0 (see recipes/nuclei.py for the folds). Fold 4, which judges what ships, is not read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.common import data_folder
from napari_unet.config import FinetuneConfig, train_config
from napari_unet.corrections.labelled_folders import list_pairs
from napari_unet.models.store import ModelStore
from napari_unet.service.evaluation import evaluate
from napari_unet.service.segmentation import NewModel, SegmentationService
from recipes import nuclei


def recipes(seconds: float) -> dict[str, tuple[NewModel, FinetuneConfig]]:
    """The recipes by name; each differs from `fast` in what its name says."""
    fast, paper = train_config("fast", seconds=seconds), train_config("paper", seconds=seconds)
    model = NewModel(in_channels=3)
    return {
        "fast": (model, fast),
        "fast, width 32": (replace(model, width=32), fast),
        "fast, balance 0.5": (model, replace(fast, balance=0.5)),
        "fast, no distance": (replace(model, distance=False), fast),
        "paper": (replace(model, width=64, dropout=0.5, distance=False), paper),
        "paper, width 16": (replace(model, distance=False), paper),
    }


def main() -> None:
    """Train and score each recipe; a table as it goes, JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    chosen = recipes(60 * options.minutes)
    table = {}
    print(f"{'recipe':20} {'steps':>6} {'AP 0.5':>7} {'mean AP':>8} {'IoU':>6}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        nuclei.split(data_folder(), work, judge=0, leave_out=nuclei.JUDGE)
        images, judge = nuclei.read(work / "learn"), work / "judge"
        for name in options.only or chosen:
            model, config = chosen[name]
            service = SegmentationService(ModelStore(work / "models"))
            done = service.train(images, "candidate", config, model).wait()
            scores = evaluate(
                service, list_pairs(judge / "images", judge / "masks"), done.model.path
            )
            service.close()
            table[name] = {"steps": done.steps, **scores}
            print(
                f"{name:20} {done.steps:6} {scores['ap50']:7.3f} {scores['map']:8.3f} "
                f"{scores['iou']:6.3f}",
                flush=True,
            )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
