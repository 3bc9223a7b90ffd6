"""What does a user get who segments, corrects, fine-tunes and segments again?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.loop [--kinds hela ...] [--seeds 0 1 2]
        [--rounds 4] [--objects 5] [--steps 270 | --seconds 60] [--boxes | --whole | --dense]
        [--model NAME_OR_FILE] [--config KEY=VALUE ...] [--crop 512] [--json FILE]
    ... --shuffled          are labels of another image refused?
    ... --sample-minute     three nuclei of the tissue sample, and one minute
    ... --forgetting        does `nuclei` lose on its own kinds what it learns of others?

Each kind of image has work images, which a simulated user corrects, and judge images, which nobody
corrects. A round: the user clicks Segment on the next work image, corrects five objects, and clicks
Fine-tune; a version that is refused is not used. What was painted becomes corrections by the
dock's own functions. Then the judge images are segmented, with the version in use and with one that
was refused. The score is AP at IoU 0.5.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.kinds import KINDS, Kind, Labels, Sample, read, tissue
from benchmarks.user import WAYS, Desk, ids
from napari_unet import demo
from napari_unet.config import FinetuneConfig
from napari_unet.core.cells.metrics import count_matches, overlaps
from napari_unet.corrections.annotations import PaintedPlane
from napari_unet.models.store import ModelStore, Reference
from napari_unet.service.segmentation import SegmentationService

# Differences of AP up to this count as none.
NOISE = 0.02
# What `nuclei` was made for.
OWN_KINDS = ("film", "fluo", "bright", "violet")

Row = dict[str, Any]


@contextmanager
def fresh(model: str) -> Iterator[tuple[SegmentationService, Reference]]:
    """A service without models of its own but the one to begin with, if that is a file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SegmentationService(ModelStore(Path(folder)))) as service,
    ):
        if model.endswith(".safetensors"):
            model = service.store.import_file(Path(model), "start").name
        yield service, model


def judge(
    service: SegmentationService, model: Reference, kind: Kind, images: list[Sample]
) -> float:
    """AP on the judge images; where only some cells are marked, of found cells that lie on them."""
    hits = n_true = n_found = 0
    for sample in images:
        labels = service.segment(sample.image, sample.axes, model).wait().labels
        if kind.is_partial:
            area = np.bincount(labels.ravel())
            inside = np.bincount(labels[sample.truth > 0], minlength=len(area))
            labels = np.where((2 * inside > area)[labels], labels, 0)
        iou, _ = overlaps(sample.truth, labels)
        hits += count_matches(iou, kind.least_iou)
        n_true, n_found = n_true + iou.shape[0], n_found + iou.shape[1]
    return hits / max(1, n_true + n_found - hits)


def run(
    kind: Kind,
    seed: int,
    options: argparse.Namespace,
    at_end: Callable[[SegmentationService, Reference], None] = lambda service, model: None,
) -> Iterator[Row]:
    """The rounds of one seed, the first click as round 0; `at_end` gets the model in use then."""
    work, judges = read(kind, options.crop)
    desks = [Desk(sample, is_partial=kind.is_partial) for sample in work]
    with fresh(options.model or kind.model) as (service, model):
        ap = judge(service, model, kind, judges)
        yield {"round": 0, "ap": ap}
        for number in range(1, options.rounds + 1):
            desk = desks[(number - 1) % len(desks)]
            desk.segment(service, model)
            rng = np.random.default_rng([seed, number])
            user = desk.correct(options.way, options.objects, rng)
            row: Row = {"round": number, "image": desk.sample.name, "ap": ap}
            row |= {"objects": user.objects, "strokes": user.strokes}
            if user.strokes or options.way != "objects":
                job = service.finetune([desk.annotated()], model, settings(options, seed, desk))
                done = job.wait()
                new = judge(service, done.model, kind, judges)
                row |= {
                    "ap_before": ap,
                    "ap_new": new,
                    "accepted": done.verdict.accepted,
                    "version": done.model.reference,
                    "why": done.verdict.why,
                    "check": str(done.check),
                    "replay": str(done.replay),
                    "steps": done.steps,
                    "seconds": job.seconds,
                }
                # As the dock does: what is refused does not segment.
                if done.verdict.accepted:
                    model, ap = done.model.name, new
                row["ap"] = ap
            yield row
        at_end(service, model)


def settings(options: argparse.Namespace, seed: int, desk: Desk) -> FinetuneConfig:
    """Of a fine-tune on what a desk shows."""
    given = {
        "steps": options.steps,
        "seconds": options.seconds,
        "seed": seed,
        "channel": desk.channel,
    }
    return FinetuneConfig(**{**given, **dict(options.config)})


# Tables


def report(rows: list[Row], kinds: Sequence[str], rounds: int) -> None:
    """Print a table of the kinds, and how often the verdict was wrong."""
    heads = ["kind", "first click", *(f"round {n}" for n in range(1, rounds + 1))]
    print("\nAP, the mean of the seeds (the worst)\n")
    print("| " + " | ".join([*heads, "strokes", "minutes"]) + " |")
    print("|" + "---|" * (len(heads) + 2))
    fell = []
    for kind in kinds:
        mine = [row for row in rows if row["kind"] == kind]
        if not mine:
            continue
        ap = [[row["ap"] for row in mine if row["round"] == n] for n in range(rounds + 1)]
        means = [float(np.mean(each)) for each in ap]
        fell += [kind] if np.diff(means).min(initial=0) < -NOISE else []
        n_seeds = len(ap[0])
        strokes = sum(row.get("strokes", 0) for row in mine) / n_seeds
        minutes = sum(row.get("seconds", 0) for row in mine) / n_seeds / 60
        cells = [f"{mean:.3f} ({min(each):.3f})" for mean, each in zip(means, ap, strict=True)]
        print("| " + " | ".join([kind, *cells, f"{strokes:.1f}", f"{minutes:.1f}"]) + " |")
    tuned = [row for row in rows if "accepted" in row]
    n_tuned, n_used = len(tuned), sum(row["accepted"] for row in tuned)
    gains = [(row["accepted"], row["ap_new"] - row["ap_before"]) for row in tuned]
    worse = sum(gain < -NOISE for _, gain in gains)
    let_in = sum(is_used and gain < -NOISE for is_used, gain in gains)
    kept_out = sum(not is_used and gain > NOISE for is_used, gain in gains)
    print(f"\nby more than {NOISE}, {share(let_in, n_tuned)} rounds got worse;")
    print(f"{share(worse, n_tuned)} new versions are worse, used or not;")
    print(f"{share(let_in, n_used)} accepted ones are worse,")
    print(f"{share(kept_out, n_tuned - n_used)} refused ones would have been better:")
    print(f"{share(let_in + kept_out, n_tuned)} verdicts were wrong")
    print(f"kinds that fall in a round, in the mean of the seeds: {', '.join(fell) or 'none'}")


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(1, whole):.0%})"


def key(row: Row) -> str:
    """What a run was: kind, seed and settings."""
    return json.dumps([row["kind"], row["seed"], row["settings"]], sort_keys=True)


def loop(options: argparse.Namespace) -> None:
    """Run what the file does not hold yet, and print all of it."""
    known: dict[str, dict[int, Row]] = {}
    if options.json and options.json.exists():
        for line in options.json.read_text().splitlines():
            row = json.loads(line)
            known.setdefault(key(row), {})[row["round"]] = row
    names = ("way", "objects", "steps", "seconds", "model", "config", "crop")
    used = json.loads(json.dumps({name: getattr(options, name) for name in names}))
    rows: list[Row] = []
    for name in options.kinds:
        if options.way != "objects" and KINDS[name].is_partial:
            print(f"{name}: left out, for too few of its cells are marked")
            continue
        for seed in options.seeds:
            about: Row = {"kind": name, "seed": seed, "settings": used}
            done = known.get(key(about), {})
            wanted = range(options.rounds + 1)
            if all(n in done for n in wanted):
                rows += [done[n] for n in wanted]
                continue
            for row in run(KINDS[name], seed, options):
                rows.append(about | row)
                tell(rows[-1])
                if options.json:
                    with options.json.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    report(rows, options.kinds, options.rounds)


def tell(row: Row) -> None:
    """Print a round."""
    told = f"{row['kind']:9} seed {row['seed']} round {row['round']}: AP {row['ap']:.3f}"
    if "strokes" in row:
        told += f", {row['objects']} objects ({row['strokes']} strokes) on {row['image']}"
    if "accepted" in row:
        verdict = "accepted" if row["accepted"] else "refused"
        told += (
            f", {row['steps']} steps in {row['seconds']:.0f} s, new AP {row['ap_new']:.3f} "
            f"{verdict}: {row['why']} (check {row['check']}; replay {row['replay']})"
        )
    print(told, flush=True)


# Other questions


def forgetting(options: argparse.Namespace) -> None:
    """What a model has lost on its own kinds after it learnt other ones."""
    own = {name: read(KINDS[name], options.crop)[1] for name in OWN_KINDS}

    def show(who: str, service: SegmentationService, model: Reference) -> None:
        found = [f"{name} {judge(service, model, KINDS[name], own[name]):.3f}" for name in own]
        print(f"{who}, {model}: AP {', '.join(found)}", flush=True)

    with fresh(options.model or "nuclei") as (service, model):
        show("before", service, model)
    for name in options.kinds:
        for seed in options.seeds:
            for _ in run(KINDS[name], seed, options, partial(show, f"{name} seed {seed}")):
                pass


def shuffled(options: argparse.Namespace) -> None:
    """Teach labels of another image, and count what is accepted."""
    total = 0
    for name in options.kinds:
        kind, accepted = KINDS[name], 0
        work, judges = read(kind, options.crop)
        others = [*work[1:], judges[0]]
        for seed in options.seeds:
            rng = np.random.default_rng(seed)
            pairs = zip(work, others, strict=True)
            desks = [
                Desk(replace(a, truth=moved(a.truth, b.truth, rng)), is_partial=kind.is_partial)
                for a, b in pairs
            ]
            with fresh(options.model or kind.model) as (service, model):
                for desk in desks:
                    desk.segment(service, model)
                    desk.correct(options.way, options.objects, rng)
                given = [desk.annotated() for desk in desks]
                done = service.finetune(given, model, settings(options, seed, desks[0])).wait()
            accepted += done.verdict.accepted
            print(f"  {name} seed {seed}: {done.verdict.why} ({done.check})", flush=True)
        total += accepted
        print(f"{name}, labels of another image: {accepted} of {len(options.seeds)} accepted")
    print(f"in all: {total} of {len(options.kinds) * len(options.seeds)} accepted")


def moved(own: Labels, other: Labels, rng: np.random.Generator) -> Labels:
    """Labels of another image at the size of one's own, mirrored and moved.

    Another's alone would not do: in a film, the cells are where they were.
    """
    mirrored = np.pad(
        other[::-1], [(0, max(0, n - m)) for n, m in zip(own.shape, other.shape, strict=True)]
    )
    fitting = mirrored[: own.shape[0], : own.shape[1]]
    return np.roll(fitting, [rng.integers(n // 4, 3 * n // 4) for n in own.shape], (0, 1))


def sample_minute(options: argparse.Namespace) -> None:
    """Three missed nuclei of the tissue sample, painted, and one minute."""
    image, truth = tissue()
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        with fresh(options.model or "nuclei") as (service, model):
            desk = Desk(Sample("tissue", image, truth))
            desk.segment(service, model)
            assert desk.plane is not None
            first = desk.plane.painted.before
            missed = [n for n in range(len(demo.NUCLEI)) if not demo.found(first, [n])]
            three = rng.permutation(missed)[:3].tolist()
            painted = first.copy()
            for number in three:
                painted[truth == number + 1] = painted.max() + 1
            desk.plane = replace(desk.plane, painted=PaintedPlane((), first, painted))
            done = service.finetune([desk.annotated()], model, settings(options, seed, desk)).wait()
            second = service.segment(image, "YXC", done.model).wait().labels
        others = [n for n in range(len(demo.NUCLEI)) if n not in three]
        before, after = (
            f"{demo.found(labels, others)} of {len(others)} others found, "
            f"{surely_false(labels)} of {len(ids(labels))} cells surely false"
            for labels in (first, second)
        )
        verdict = "accepted" if done.verdict.accepted else f"refused: {done.verdict.why}"
        print(
            f"seed {seed}, {done.steps} steps: {before} -> {after}; {verdict} ({done.check})",
            flush=True,
        )


def surely_false(labels: Labels) -> int:
    """Cells of the tissue sample that are browner or paler than each hand-marked nucleus.

    Not all nuclei are marked, so a cell beside the marked ones may be true; nuclei are blue.
    """
    image, truth = tissue()
    colour = image.astype(float)
    wrong = np.zeros(len(ids(labels)), bool)
    for value in (colour[..., 0] - colour[..., 2], colour.mean(2)):
        limit = np.max(ndimage.mean(value, truth, ids(truth)))
        wrong |= np.asarray(ndimage.mean(value, labels, ids(labels))) > limit
    return int(wrong.sum())


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a value that is no JSON is a word."""
    name, equals, value = text.partition("=")
    if not equals or name not in FinetuneConfig.__dataclass_fields__:
        known = ", ".join(FinetuneConfig.__dataclass_fields__)
        raise argparse.ArgumentTypeError(f"{text!r}; give KEY=VALUE, KEY one of {known}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--objects", type=int, default=5, help="corrected in a round")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="of a fine-tune (default: 270)")
    budget.add_argument("--seconds", type=float, help="of a fine-tune, instead")
    parser.add_argument("--model", help="name or file, instead of each kind's own")
    parser.add_argument(
        "--config", nargs="+", type=setting, default=[], metavar="KEY=VALUE", help="of a fine-tune"
    )
    way = parser.add_mutually_exclusive_group()
    for name, meaning in WAYS.items():
        way.add_argument(f"--{name}", dest="way", action="store_const", const=name, help=meaning)
    parser.set_defaults(way="objects")
    parser.add_argument("--crop", type=int, default=512, help="of the images, in pixels")
    parser.add_argument("--json", type=Path, help="a line for each round is appended")
    parser.add_argument("--shuffled", action="store_true", help="teach labels of another image")
    parser.add_argument("--forgetting", action="store_true", help="score the kinds it knew")
    parser.add_argument("--sample-minute", action="store_true", help="three painted nuclei")
    options = parser.parse_args()
    if options.sample_minute and not options.steps:
        options.seconds = options.seconds or 60.0
    elif not options.seconds:
        options.steps = options.steps or 270
    if "NAPARI_UNET_DATA" not in os.environ:
        sys.exit("NAPARI_UNET_DATA is not set; set it to the folder of the images")
    if options.sample_minute:
        sample_minute(options)
    elif options.shuffled:
        shuffled(options)
    elif options.forgetting:
        forgetting(options)
    else:
        loop(options)


if __name__ == "__main__":
    main()
