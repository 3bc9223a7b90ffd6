"""How good are cells of real 3D stacks, linked from planes or found in 3D?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.stacks [--sets stardist plantseg embryo cho]
        [--seconds 60] [--steps N] [--no-finetune] [--model nuclei] [--json FILE]

Lines for each stack, all scored in 3D against its truth (SEG, AP at 0.5, objects found):

linked truth   the true labels of each plane, without the knowledge of what belongs together,
               linked along z: what the rule can reach
the model      plane by plane, linked; and in 3D, seen from three sides
fine-tuned     the same after a fine-tune on the true labels of every fourth plane; the score is on
               all planes, those included

A movie of stacks counts as one image: each time is linked along z, and scored for itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.common import data_folder
from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import plane_indices
from napari_unet.core.cells.metrics import Scores
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.io.images import read_image
from napari_unet.models.store import ModelStore, Reference
from napari_unet.segmentation.linking import linked_ids
from napari_unet.service.segmentation import SegmentationService

SETS = {
    "stardist": "stardist_nuclei_3d",
    "plantseg": "plantseg_nuclei_3d",
    "embryo": "qcanet_mouse_embryo_3d",
    "cho": "ctc_fluo_n3dh_cho_02sub",
}
# Distance of the planes over the size of a pixel, as their sources give it; 1 where they do not.
ANISOTROPY = {"plantseg": 0.284 / 0.127, "embryo": 2.18, "cho": 1.0 / 0.202}
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Stack:
    """A stack, or a movie of stacks, with its truth."""

    image: NDArray[np.generic]
    axes: str
    truth: Labels
    anisotropy: float


def read(name: str) -> Stack:
    """One of the sets; several files are the times of a movie."""
    folder = data_folder() / SETS[name]
    paths, anisotropy = sorted((folder / "images").iterdir()), ANISOTROPY.get(name, 1.0)
    images = np.stack([read_image(path, "ZYX").data for path in paths])
    truths = np.stack([read_image(folder / "masks" / path.name, "ZYX").data for path in paths])
    if len(paths) == 1:
        return Stack(images[0], "ZYX", truths[0].astype(np.int32), anisotropy)
    return Stack(images, "TZYX", truths.astype(np.int32), anisotropy)


def score(stack: Stack, labels: Labels) -> dict[str, float]:
    """In 3D, over all times."""
    scores = Scores()
    shape = (-1, *stack.truth.shape[-3:])
    for truth, found in zip(stack.truth.reshape(shape), labels.reshape(shape), strict=True):
        scores.add(truth, found)
    return scores.summary()


def sections(stack: Stack) -> Labels:
    """The truth with an id of its own for each piece of a cell in a plane."""
    out = np.zeros_like(stack.truth)
    count = 0
    for index in plane_indices(stack.axes, stack.truth.shape):
        plane = stack.truth[index]
        for cell in np.unique(plane[plane > 0]):
            pieces, n = ndimage.label(plane == cell, np.ones((3, 3)))
            out[index][pieces > 0] = pieces[pieces > 0] + count
            count += n
    return out


def every_fourth(stack: Stack) -> Annotated:
    """What is taught: the truth of every fourth plane."""
    indices = list(plane_indices(stack.axes, stack.truth.shape))[::4]
    taught = tuple(Correction(index, stack.truth[index].copy()) for index in indices)
    return Annotated(stack.image, stack.axes, taught, "stack")


def lines(
    stack: Stack, model: str, config: FinetuneConfig | None
) -> Iterator[tuple[str, dict[str, float]]]:
    """The lines of a stack: name and scores; without settings nothing is fine-tuned."""
    parts = sections(stack)
    yield "linked truth", score(stack, linked_ids(parts, stack.axes, "z")[parts])
    with tempfile.TemporaryDirectory() as folder:
        service = SegmentationService(ModelStore(Path(folder)))

        def segment(what: str, which: Reference) -> Iterator[tuple[str, dict[str, float]]]:
            ways = {"": {"link": "z"}, ", in 3D": {"in_3d": True, "anisotropy": stack.anisotropy}}
            for way, settings in ways.items():
                start = time.perf_counter()
                config = PredictConfig(**settings)
                done = service.segment(stack.image, stack.axes, which, config).wait()
                seconds = time.perf_counter() - start
                yield what + way, {**score(stack, done.labels), "seconds": seconds}

        yield from segment(model, model)
        if config is None:
            service.close()
            return
        job = service.finetune([every_fourth(stack)], model, config)
        done = job.wait()
        facts = {"steps": done.steps, "learnt_s": job.seconds, "ok": done.verdict.accepted}
        # What the check refuses is scored as well: the figure is of the training.
        for what, scores in segment("fine-tuned", done.model):
            yield what, scores | facts
        service.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--no-finetune", action="store_true")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    budget = {"steps": options.steps, "seconds": None if options.steps else options.seconds}
    config = None if options.no_finetune else FinetuneConfig(**budget)
    table: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'stack':10} {'what':18} {'SEG':>6} {'AP50':>6} {'true':>5} {'found':>5}")
    for name in options.sets:
        table[name] = {}
        for what, scores in lines(read(name), options.model, config):
            table[name][what] = scores
            more = f" {scores['seconds']:.1f} s" if "seconds" in scores else ""
            more += f", {scores['steps']} steps" if "steps" in scores else ""
            print(
                f"{name:10} {what:18} {scores['seg']:6.3f} {scores['ap50']:6.3f} "
                f"{scores['n_true']:5} {scores['n_pred']:5}{more}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
