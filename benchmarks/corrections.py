"""How good are the labels after a few corrections?

    NAPARI_UNET_DATA=FOLDER python benchmarks/corrections.py [--sets hela u373 usiigaci]
        [--ways ours background dense] [--seconds 45] [--steps N] [--json FILE]
        [--start MODEL] [--plot FILE]    the plot wants matplotlib

A simulated user corrects images of a kind that the shipped model has never seen. In each round
they open another image, click Segment, correct its five worst objects (missed, false, merged or
split) with a round brush, not with perfect outlines, say of up to ten found cells that they are
right, and fine-tune for 45 seconds. Four rounds make 20 corrected objects and 3 minutes of
training. After each round the model is judged on other frames or fields, further away in time.

ours        what the plugin does: learn from what was seen
background  what is common: all labels of the image, as they are now, count as truth
dense       the ceiling: the true labels of every image of the block, 20 minutes
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

from napari_unet.config import FinetuneConfig
from napari_unet.core.edits import find_edits
from napari_unet.core.metrics import Scores, overlaps
from napari_unet.service.corrections import Annotated, Correction
from napari_unet.service.image_files import read_image
from napari_unet.service.model_store import ModelStore, Reference
from napari_unet.service.segmentation import SegmentationService

RING_PX = 8
# A found cell that overlaps the true one by this much looks right to a person.
LOOKS_RIGHT = 0.8
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Block:
    """A data set, and which of its files are corrected and which judge."""

    folder: str
    correct: slice
    judge: slice


SETS = {
    "hela": Block("ctc_dic_c2dh_hela_01", slice(0, 26), slice(30, 52, 3)),
    "u373": Block("ctc_phc_c2dh_u373_01", slice(0, 34), slice(40, 68, 4)),
    "usiigaci": Block("usiigaci_phc_t98g", slice(0, 8), slice(10, 16, 2)),
}


@dataclass
class Effort:
    """What it cost the user."""

    objects: int = 0
    gestures: int = 0
    confirmed: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """An image and its truth."""

    name: str
    image: NDArray[np.generic]
    truth: Labels


def read(block: Block, which: slice) -> list[Sample]:
    """Images of a block with their truth."""
    folder = Path(os.environ["NAPARI_UNET_DATA"]) / block.folder
    return [
        Sample(path.stem, read_image(path).data, read_image(folder / "masks" / path.name).data)
        for path in sorted((folder / "images").iterdir())[which]
    ]


def painted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a round brush of an eighth of a cell's diameter makes of a cell: its corners go."""
    radius = max(1, round(np.sqrt(mask.sum() / np.pi) / 8))
    wide = np.pad(mask, radius)
    opened = ndimage.binary_opening(wide, disk(radius))[radius:-radius, radius:-radius]
    return opened if opened.any() else mask


def correct(
    sample: Sample, found: Labels, suggested: list[tuple[float, float]], count: int, effort: Effort
) -> Labels:
    """Labels after the user corrected the worst objects.

    The worst have most pixels wrong, in steps of half a cell; of equals, those nearest to where
    the plugin suggests to paint come first.
    """
    iou, _ = overlaps(sample.truth, found)
    true_ids, found_ids = (np.unique(x)[1:] for x in (sample.truth, found))
    best = iou.max(1, initial=0)
    area = {int(t): int((sample.truth == t).sum()) for t in true_ids}
    half = max(float(np.median(list(area.values()))) / 2, 1)
    pairs = zip(best, true_ids, strict=True)
    wrong = [((1 - i) * area[int(t)] / half, "true", int(t)) for i, t in pairs if i < 0.7]
    touched = np.unique(found[sample.truth > 0])
    false = [int(f) for f in found_ids if f not in touched]
    wrong += [((found == f).sum() / half, "false", f) for f in false]
    after = found.copy()
    here = np.array(suggested[0] if suggested else np.array(found.shape) / 2)

    def rank(item: tuple[float, str, int]) -> tuple[float, float]:
        labels = sample.truth if item[1] == "true" else found
        place = np.argwhere(labels == item[2]).mean(0)
        return -round(item[0]), float(((place - here) ** 2).sum())

    for _, kind, number in sorted(wrong, key=rank)[:count]:
        effort.objects += 1
        if kind == "false":
            after[after == number] = 0
            effort.gestures += 1
            continue
        cell = sample.truth == number
        for other in np.unique(after[cell])[1:]:
            # What is left of a found object that lies mostly in this cell is rubbed out.
            if (cell & (after == other)).sum() > 0.5 * (after == other).sum():
                after[after == other] = 0
                effort.gestures += 1
        after[painted(cell)] = after.max() + 1
        effort.gestures += 2
    return after


def confirm(sample: Sample, labels: Labels, changed: NDArray[np.bool_], count: int) -> list[int]:
    """Found cells of which the user says that they are right."""
    iou, _ = overlaps(sample.truth, labels)
    ids = np.unique(labels)[1:]
    right = [
        int(i) for i, best in zip(ids, iou.max(0, initial=0), strict=True) if best >= LOOKS_RIGHT
    ]
    return [i for i in right if not changed[labels == i].any()][:count]


def seen(before: Labels, after: Labels, confirmed: list[int]) -> NDArray[np.bool_]:
    """Where the labels are truth."""
    trusted = find_edits(before, after, RING_PX).trusted
    if confirmed:
        cells = np.isin(after, confirmed)
        trusted |= ndimage.distance_transform_edt(~cells) <= RING_PX
    return trusted


def judge(
    service: SegmentationService, model: Reference, samples: list[Sample]
) -> dict[str, float]:
    """Scores on images that nobody corrected."""
    scores = Scores()
    for sample in samples:
        scores.add(sample.truth, service.segment(sample.image, "YX", model).wait().labels)
    return scores.summary()


def interactive(
    way: str,
    block: Block,
    judges: list[Sample],
    config: FinetuneConfig,
    options: argparse.Namespace,
) -> list[Effort]:
    """Rounds of corrections and fine-tunes; the effort and the scores after each."""
    if way == "background":
        config = replace(config, held_out=0.0)  # all of it teaches, all the time
    samples = read(block, block.correct)
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, options.rounds).astype(int)]
    curve, effort = [], Effort()
    with tempfile.TemporaryDirectory() as folder:
        service = SegmentationService(ModelStore(Path(folder)))
        model: Reference = options.start
        for sample in chosen:
            result = service.segment(sample.image, "YX", model).wait()
            places = [(place.y, place.x) for _, place in result.places]
            after = correct(sample, result.labels, places, options.objects, effort)
            confirmed = confirm(sample, after, after != result.labels, options.confirm)
            effort.confirmed += len(confirmed)
            effort.gestures += len(confirmed)
            trusted = seen(result.labels, after, confirmed) if way == "ours" else None
            given = Annotated(
                sample.image, "YX", (Correction((), after, trusted),), name=sample.name
            )
            start = time.perf_counter()
            done = service.finetune([given], model, config, "learnt").wait()
            effort.seconds += time.perf_counter() - start
            model = done.model  # whatever the gate says: the curve shows what was learnt
            effort.scores = judge(service, model, judges)
            curve.append(replace(effort))
            verdict = "accepted" if done.verdict.accepted else "refused"
            print(
                f"  {way:10} {effort.objects:3} objects {effort.gestures:4} gestures "
                f"({effort.confirmed:2} confirmed) {effort.seconds / 60:5.1f} min "
                f"{done.steps:5} steps  AP50 {effort.scores['ap50']:.3f}  "
                f"IoU {effort.scores['iou']:.3f}  {verdict}: {done.check}; {done.replay}",
                flush=True,
            )
        service.close()
    return curve


def dense(block: Block, judges: list[Sample], options: argparse.Namespace) -> Effort:
    """All true labels of the block."""
    samples = read(block, block.correct)
    given = [
        Annotated(s.image, "YX", (Correction((), s.truth.astype(np.int32)),), name=s.name)
        for s in samples
    ]
    areas = np.concatenate([np.bincount(s.truth.ravel())[1:] for s in samples])
    diameter = float(np.sqrt(4 / np.pi * np.median(areas[areas > 0])))
    config = FinetuneConfig(
        steps=options.dense_steps,
        seconds=None if options.dense_steps else 60 * options.dense_minutes,
        anchor=0.0,
        diameter_px=diameter,
    )
    with tempfile.TemporaryDirectory() as folder:
        service = SegmentationService(ModelStore(Path(folder)))
        job = service.train(given, "dense", config, options.start)
        done = job.wait()
        scores = judge(service, done.model, judges)
        service.close()
    print(
        f"  dense      {sum(len(np.unique(s.truth)) - 1 for s in samples)} objects "
        f"{job.seconds / 60:5.1f} min {done.steps:5} steps  AP50 {scores['ap50']:.3f}  "
        f"IoU {scores['iou']:.3f}",
        flush=True,
    )
    return Effort(objects=int((areas > 0).sum()), seconds=job.seconds, scores=scores)


def plot(results: dict[str, dict[str, list[Effort]]], path: Path) -> None:
    """Curves of AP at 0.5 over corrected objects, one panel for each set."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(results), figsize=(4 * len(results), 3.2), squeeze=False)
    for panel, (name, ways) in zip(panels[0], results.items(), strict=True):
        for way, curve in ways.items():
            ap = [effort.scores["ap50"] for effort in curve]
            if way == "dense":
                panel.axhline(ap[0], color="grey", linestyle="--", label="all true labels")
            else:
                label = "ours" if way == "ours" else "unpainted = background"
                panel.plot([effort.objects for effort in curve], ap, "o-", label=label)
        panel.set(title=name, xlabel="corrected objects", ylabel="AP at IoU 0.5", ylim=(0, 1))
    panels[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Run the ways on the sets; a table as it goes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--ways", nargs="+", default=["ours", "background", "dense"])
    parser.add_argument("--start", default="nuclei@1", help="the model that it begins with")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--objects", type=int, default=5, help="corrected in a round")
    parser.add_argument("--confirm", type=int, default=10, help="confirmed in a round, at most")
    parser.add_argument("--seconds", type=float, default=45, help="of training in a round")
    parser.add_argument("--steps", type=int, help="of training in a round, instead")
    parser.add_argument("--dense-minutes", type=float, default=20)
    parser.add_argument("--dense-steps", type=int)
    parser.add_argument("--config", type=json.loads, default={}, help="of the fine-tune, JSON")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds = None if options.steps else options.seconds
    config = FinetuneConfig(steps=options.steps, seconds=seconds, **options.config)
    results: dict[str, dict[str, list[Effort]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            block = SETS[name]
            judges = read(block, block.judge)
            service = SegmentationService(ModelStore(Path(folder)))
            untouched = Effort(scores=judge(service, options.start, judges))
            service.close()
            ap, iou = untouched.scores["ap50"], untouched.scores["iou"]
            print(f"{name}: untouched AP50 {ap:.3f}  IoU {iou:.3f}", flush=True)
            results[name] = {}
            for way in options.ways:
                if way == "dense":
                    results[name][way] = [dense(block, judges, options)]
                else:
                    curve = interactive(way, block, judges, config, options)
                    results[name][way] = [untouched, *curve]
    if options.plot:
        plot(results, options.plot)
    if options.json:
        content = {n: {w: [vars(e) for e in c] for w, c in r.items()} for n, r in results.items()}
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
