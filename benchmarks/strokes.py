"""How many strokes do gestures save, and does a model learn as much from them?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.strokes [--kinds fluo hela he_20x] [--seeds 0 1]
        [--objects 5] [--steps 90] [--crop 512]

One round of the loop (`loop.py`) for each of two hands, on the same image and the same errors: five
of the worst cells are corrected, the model that ships learns from them, and the judge images are
segmented. The *brush* paints and erases with straight drags of a round brush that is as large as
fits into the typical cell, until a cell's IoU is 0.8; what it teaches is the exact outline, as in
the loop. *Gestures* remove, split and merge with one act each. To add a cell they clear its place
(a key for one wrong cell, a loop around several), and take two acts: a box, and the key that adds
its outline as correct. Where the outline's IoU is below 0.7, it is touched up with the brush, or
dropped for it, whichever takes fewer drags.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from benchmarks.common import data_folder
from benchmarks.gesture_user import Gesturer, Painter
from benchmarks.kinds import KINDS, read
from benchmarks.loop import fresh, judge
from benchmarks.user import Desk, Hand
from napari_unet.config import FinetuneConfig

HANDS: dict[str, Hand] = {"brush": Painter, "gestures": Gesturer}


@dataclass(frozen=True)
class Round:
    """What one hand did with one image, and what came of it."""

    objects: int
    strokes: int
    ap: float


def rounds_of(name: str, seed: int, options: argparse.Namespace) -> tuple[float, list[Round]]:
    """AP before, and the round of each hand."""
    kind, done = KINDS[name], []
    work, judges = read(kind, options.crop)
    with fresh(kind.model) as (service, model):
        before = judge(service, model, kind, judges) if options.steps else math.nan
    for hand in HANDS.values():
        desk = Desk(work[0], hand=hand)
        with fresh(kind.model) as (service, model):
            desk.segment(service, model)
            user = desk.correct("objects", options.objects, np.random.default_rng([seed, 1]))
            ap = math.nan
            if options.steps:
                config = FinetuneConfig(steps=options.steps, seed=seed, channel=desk.channel)
                learnt = service.finetune([desk.annotated()], model, config).wait()
                ap = judge(service, learnt.model, kind, judges)
        done.append(Round(user.objects, user.strokes, ap))
    return before, done


def main() -> None:
    """Run both hands, and print what each did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = [name for name, kind in KINDS.items() if not kind.is_partial]
    parser.add_argument("--kinds", nargs="+", default=["fluo", "hela", "he_20x"], choices=whole)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--objects", type=int, default=5, help="corrected by each hand")
    parser.add_argument("--steps", type=int, default=90, help="of a fine-tune; 0: count strokes")
    parser.add_argument("--crop", type=int, default=512, help="of the images, in pixels")
    options = parser.parse_args()
    data_folder()
    heads = (f"{head}, {hand}" for head in ("objects", "strokes", "AP after") for hand in HANDS)
    print("| " + " | ".join(["kind", "seed", "AP before", *heads]) + " |")
    print("|" + "---|" * 9)
    rounds: list[list[Round]] = []
    for name in options.kinds:
        for seed in options.seeds:
            before, both = rounds_of(name, seed, options)
            rounds.append(both)
            tell(name, str(seed), before, both)
    strokes, gained = (
        np.array([[getattr(done, what) for done in both] for both in rounds]).mean(0)
        for what in ("strokes", "ap")
    )
    print(f"\nstrokes in the mean: {strokes[0]:.1f} with the brush, {strokes[1]:.1f} with gestures")
    print(f"AP after it in the mean: {gained[0]:.3f} and {gained[1]:.3f}")


def tell(name: str, seed: str, before: float, both: list[Round]) -> None:
    """Print a row."""
    cells = [name, seed, f"{before:.3f}"]
    cells += [str(done.objects) for done in both]
    cells += [str(done.strokes) for done in both]
    cells += [f"{done.ap:.3f}" for done in both]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
