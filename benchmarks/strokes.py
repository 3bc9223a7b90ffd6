"""How many strokes do gestures save, and does a model learn as much from them?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.strokes [--kinds fluo hela he_20x] [--seeds 0 1]
        [--hands brush gestures [exact]] [--objects 5] [--steps 270] [--crop 512]

One round of the loop (`loop.py`) for each hand, on the same image and the same errors: five of the
worst cells are corrected until each has an IoU of 0.7, the model that ships learns from them what
the hand made, and the judge images are segmented. All hands err alike: what they drag begins and
ends beside where they mean, by up to 10 % of a cell's sides.

- *brush* paints and erases with straight drags of a round brush that is as large as fits into the
  typical cell. Each drag counts; keys that choose the eraser or a new number, and the size of the
  brush, do not.
- *gestures* count one for each drag, each click, each key that removes cells or marks a row of
  outlines as correct, and each use of the wheel (`gesture_user.py`).
- *exact* counts as the brush does, and teaches the true outlines: what better masks would bring.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from benchmarks.common import data_folder
from benchmarks.gesture_user import Exact, Gesturer, Painter
from benchmarks.kinds import KINDS, read
from benchmarks.loop import fresh, judge
from benchmarks.user import Desk, match
from napari_unet.config import FinetuneConfig

HANDS: dict[str, type[Painter]] = {"brush": Painter, "gestures": Gesturer, "exact": Exact}


@dataclass(frozen=True)
class Round:
    """What one hand did with one image, and what came of it.

    Attributes
    ----------
    strokes
        What it took.
    iou
        Mean of the cells that were corrected, with the true ones.
    ap
        Of the model that learnt from it, on the judge images.
    """

    strokes: int
    iou: float
    ap: float


def rounds_of(name: str, seed: int, options: argparse.Namespace) -> tuple[float, list[Round]]:
    """AP before, and the round of each hand."""
    kind, done = KINDS[name], []
    work, judges = read(kind, options.crop)
    with fresh(kind.model) as (service, model):
        before = judge(service, model, kind, judges) if options.steps else math.nan
    for hand in (HANDS[each] for each in options.hands):
        desk = Desk(work[0], hand=hand)
        with fresh(kind.model) as (service, model):
            desk.segment(service, model)
            user = desk.correct("objects", options.objects, np.random.default_rng([seed, 1]))
            assert isinstance(user, Painter)
            cells = [desk.sample.truth == cell for cell in set(user.cells)]
            iou = float(np.mean([match(cell, user.labels) for cell in cells]))
            ap = math.nan
            if options.steps:
                config = FinetuneConfig(steps=options.steps, seed=seed, channel=desk.channel)
                learnt = service.finetune([desk.annotated()], model, config).wait()
                ap = judge(service, learnt.model, kind, judges)
        done.append(Round(user.strokes, iou, ap))
    return before, done


def main() -> None:
    """Run both hands, and print what each did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = [name for name, kind in KINDS.items() if not kind.is_partial]
    parser.add_argument("--kinds", nargs="+", default=["fluo", "hela", "he_20x"], choices=whole)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--hands", nargs="+", default=["brush", "gestures"], choices=HANDS)
    parser.add_argument("--objects", type=int, default=5, help="corrected by each hand")
    parser.add_argument("--steps", type=int, default=270, help="of a fine-tune; 0: count strokes")
    parser.add_argument("--crop", type=int, default=512, help="of the images, in pixels")
    options = parser.parse_args()
    data_folder()
    columns = ("strokes", "IoU of cells", "AP after")
    heads = [f"{head}, {hand}" for head in columns for hand in options.hands]
    print("| " + " | ".join(["kind", "seed", "AP before", *heads]) + " |")
    print("|" + "---|" * (3 + len(heads)))
    rounds: list[list[Round]] = []
    for name in options.kinds:
        for seed in options.seeds:
            before, both = rounds_of(name, seed, options)
            rounds.append(both)
            tell(name, str(seed), before, both)
    for number, hand in enumerate(options.hands):
        done = [both[number] for both in rounds]
        strokes, iou, ap = (
            np.mean([getattr(each, what) for each in done]) for what in ("strokes", "iou", "ap")
        )
        print(f"{hand}: {strokes:.1f} strokes, IoU {iou:.2f}, AP {ap:.3f} in the mean")


def tell(name: str, seed: str, before: float, both: list[Round]) -> None:
    """Print a row."""
    cells = [name, seed, f"{before:.3f}"]
    cells += [str(done.strokes) for done in both]
    cells += [f"{done.iou:.2f}" for done in both]
    cells += [f"{done.ap:.3f}" for done in both]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
