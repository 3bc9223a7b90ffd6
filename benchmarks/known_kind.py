"""What do five corrections do to an image of a kind that `nuclei` knows?

    NAPARI_UNET_DATA=FOLDER python benchmarks/known_kind.py [--fold 4] [--model nuclei]
        [--steps 40 80] [--objects 5] [--config JSON]

An image from each group of a fold of dsb2018 (see recipes/nuclei.py), the first with 20 cells or
more. The simulated user of corrections.py corrects its worst objects, fine-tunes, and segments it
again. AP at 0.5 before and after, of all cells, and of the rest: those that were not corrected.
The shipped model learnt from folds 0 to 3; settings were chosen on fold 0, with one that had not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from corrections import Effort, Labels, Sample, correct, seen

from napari_unet.config import FinetuneConfig
from napari_unet.core.metrics import Scores, overlaps
from napari_unet.service.corrections import Annotated, Correction
from napari_unet.service.image_files import read_image
from napari_unet.service.model_store import ModelStore, Reference
from napari_unet.service.segmentation import SegmentationService

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))

import nuclei

LEAST_CELLS = 20


def samples(data: Path, fold: int) -> Iterator[tuple[str, Sample]]:
    """Kind and image, one from each group."""
    taken = set()
    for row in nuclei.table(data):
        if row["group"] in taken or nuclei.fold(row["group"]) != fold:
            continue
        image, masks = (next((data / d).glob(f"{row['id']}.*")) for d in ("images", "masks"))
        truth = read_image(masks).data.astype(np.int32)
        if len(np.unique(truth)) > LEAST_CELLS:
            taken.add(row["group"])
            yield row["type"], Sample(row["id"], read_image(image).data, truth)


def ap(truth: Labels, found: Labels) -> float:
    """AP at 0.5."""
    scores = Scores()
    scores.add(truth, found)
    return scores.summary()["ap50"]


def rest(truth: Labels, found: Labels, corrected: Labels) -> tuple[Labels, Labels]:
    """Both without the cells that mostly lie on those that were corrected."""

    def without(labels: Labels) -> Labels:
        mine = np.bincount(labels[corrected > 0], minlength=labels.max() + 1)
        area = np.bincount(labels.ravel(), minlength=labels.max() + 1)
        return np.where((2 * mine > area)[labels], 0, labels)

    return without(truth), without(found)


def main() -> None:
    """A line for each image and number of steps, then the means by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fold", type=int, default=nuclei.JUDGE)
    parser.add_argument("--model", default="nuclei@1")
    parser.add_argument("--steps", type=int, nargs="+", default=[40, 80])
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--config", type=json.loads, default={}, help="of the fine-tune, JSON")
    options = parser.parse_args()
    model: Reference = Path(options.model) if "." in options.model else options.model
    means: dict[str, list[list[float]]] = {}
    for kind, sample in samples(Path(os.environ["NAPARI_UNET_DATA"]) / "dsb2018", options.fold):
        axes = "YXC" if sample.image.ndim == 3 else "YX"
        row: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            service = SegmentationService(ModelStore(Path(folder)))
            first = service.segment(sample.image, axes, model).wait().labels
            after = correct(sample, first, [], options.objects, Effort())
            iou, _ = overlaps(sample.truth, np.where(after != first, after, 0))
            painted = np.unique(sample.truth)[1:][iou.max(1, initial=0) > 0.5]
            corrected = np.where(np.isin(sample.truth, painted), sample.truth, 0)
            given = Correction((), after, seen(first, after, []))
            row += [ap(sample.truth, first), ap(*rest(sample.truth, first, corrected))]
            for steps in options.steps:
                config = FinetuneConfig(**{"steps": steps, "seconds": None, **options.config})
                annotated = Annotated(sample.image, axes, (given,), name=sample.name)
                done = service.finetune([annotated], model, config, f"of-{steps}").wait()
                # What is not accepted does not become the model that segments.
                used = done.model if done.verdict.accepted else model
                found = service.segment(sample.image, axes, used).wait().labels
                row += [ap(sample.truth, found), ap(*rest(sample.truth, found, corrected))]
            service.close()
        for name in ("all", kind):
            means.setdefault(name, []).append(row)
        print(f"{kind:17} {sample.name[:8]}", *(f"{x:.3f}" for x in row), flush=True)
    heads = ["before", *(f"{steps} steps" for steps in options.steps)]
    print("| images | " + " | ".join(f"{h}: all cells, the rest" for h in heads) + " |")
    for name, rows in means.items():
        each = np.mean(rows, 0).reshape(-1, 2)
        cells = " | ".join(f"{a:.3f}, {b:.3f}" for a, b in each)
        print(f"| {name}, {len(rows)} | {cells} |")


if __name__ == "__main__":
    main()
