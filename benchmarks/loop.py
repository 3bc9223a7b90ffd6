"""What does a user get who segments, corrects, fine-tunes and segments again?

    NAPARI_UNET_DATA=FOLDER python benchmarks/loop.py [--kinds hela ...] [--seeds 0 1 2]
        [--rounds 4] [--objects 5] [--steps 90 | --seconds 60] [--boxes] [--json FILE]
        [--model NAME_OR_FILE] [--config KEY=VALUE ...] [--crop 512]
    ... --shuffled          are labels of another image refused?
    ... --sample-minute     three nuclei of the tissue sample, and one minute

Each kind of image has work images, which a simulated user corrects, and judge images, which nobody
corrects. A round: the user clicks Segment on the next work image, corrects five objects, and clicks
Fine-tune; a version that is refused is not used. What was painted becomes corrections by the
dock's own functions. Then the judge images are segmented, with the version in use and with one that
was refused. The score is AP at IoU 0.5.

With `--boxes` the user makes all right in a box of 128 px and confirms it, instead of correcting
five objects.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data as samples
from skimage.morphology import disk

from napari_unet import demo
from napari_unet.config import FinetuneConfig
from napari_unet.core.metrics import count_matches, overlaps
from napari_unet.plugin.carry import carry_over
from napari_unet.plugin.marks import Box, box_mark
from napari_unet.plugin.seen import SeenPlane
from napari_unet.service.corrections import Annotated, PaintedPlane
from napari_unet.service.image_files import read_image
from napari_unet.service.model_store import ModelStore, Reference
from napari_unet.service.segmentation import SegmentationService

# Width of the ring around a corrected cell that counts as seen, as in the dock, in pixels.
RING_PX = 8
# Side of the box that the user makes right with `--boxes`, in pixels.
BOX_PX = 128
# Overlap with the true cell from which a found one looks right to the user.
LOOKS_RIGHT = 0.5
# Share of a true cell that may be erased with something else before the user paints it again.
MAY_GO = 0.2
# Differences of AP up to this count as none.
NOISE = 0.02

Labels = NDArray[np.int32]
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of image: which files are corrected, and which judge.

    Attributes
    ----------
    folder
        In NAPARI_UNET_DATA, with `images` and `masks`; empty for the sample of the package.
    work, judge
        Names of files without their endings.
    work_at, judge_at
        Where the crops lie along Y and X: 0 is the first row or column, 1 the last.
    model
        What the user begins with.
    """

    folder: str
    work: tuple[str, ...]
    judge: tuple[str, ...]
    work_at: tuple[float, float] = (0.5, 0.5)
    judge_at: tuple[float, float] = (0.5, 0.5)
    model: str = "nuclei"

    @property
    def is_partial(self) -> bool:
        """Whether only some cells are marked, as strokes of a brush: the sample of the package."""
        return not self.folder

    @property
    def least_iou(self) -> float:
        """IoU from which a cell counts as found; strokes are rougher than outlines."""
        return 0.3 if self.is_partial else 0.5


# Nothing that judges was learnt by the models that ship, nor lies beside what is corrected.
KINDS = {
    # Tumours of different organs, at two magnifications.
    "he_20x": Kind("tissue_he_5", ("image03",), ("image01", "image07")),
    "he_40x": Kind("tissue_he_5", ("image09",), ("image13",)),
    # dsb2018, fold 4 of recipes/nuclei.py. Violet: group 0bf33d3d, judged by two others. Pink: the
    # one group there is, 8f27ebc7.
    "violet": Kind(
        "dsb2018",
        ("0bf33d3db4282d91", "4ae4f936a9ade472", "815524d88283ba10"),
        ("65c8527c16a01619", "f952cc65376009cf", "673baf65ae5c571d"),
    ),
    "pink": Kind(
        "dsb2018",
        ("4193474b2f1c72f7", "87ea72894f6534b2"),
        ("57bd029b19c1b382", "8f27ebc74164eddf"),
    ),
    # Left and right half.
    "sample": Kind("", ("left",), ("right",)),
    "hela": Kind(
        "ctc_dic_c2dh_hela_01", ("t000", "t010", "t020"), ("t032", "t040", "t048", "t067")
    ),
    "u373": Kind(
        "ctc_phc_c2dh_u373_01", ("t000", "t012", "t024"), ("t044", "t059", "t092", "t112"), model="phase"
    ),
    # Fields that recipes/phase.py does not learn from: one of each magnification.
    "usiigaci": Kind("usiigaci_phc_t98g", ("set22", "set43"), ("set24", "set47"), model="phase"),
    # Other rats.
    "axons": Kind(
        "axon_sem_rat",
        ("sub-rat1_sample-data1_SEM", "sub-rat3_sample-data10_SEM"),
        (
            "sub-rat2_sample-data5_SEM",
            "sub-rat4_sample-data12_SEM",
            "sub-rat6_sample-data15_SEM",
            "sub-rat7_sample-Maxo03img60_SEM",
        ),
    ),
    # Later frames, and another corner of them.
    "fluo": Kind(
        "ctc_fluo_n2dl_hela_02sub", ("t000", "t002"), ("t009", "t011"), (0.0, 0.0), (1.0, 1.0)
    ),
}


@dataclass(frozen=True)
class Sample:
    """An image (Y, X) or (Y, X, C) and its true labels (Y, X)."""

    name: str
    image: NDArray[Any]
    truth: Labels

    @property
    def axes(self) -> str:
        return "YXC" if self.image.ndim == 3 else "YX"


# Images


def read(kind: Kind, crop_px: int) -> tuple[list[Sample], list[Sample]]:
    """Work images and judge images of a kind."""
    if kind.is_partial:
        left, right = halves()
        return [left], [right]
    parts = ((kind.work, kind.work_at), (kind.judge, kind.judge_at))
    work, judge = ([read_one(kind, name, at, crop_px) for name in names] for names, at in parts)
    return work, judge


def read_one(kind: Kind, name: str, at: tuple[float, float], crop_px: int) -> Sample:
    """A crop of a file."""
    folder = Path(os.environ["NAPARI_UNET_DATA"]) / kind.folder
    image, truth = (
        read_image(next((folder / part).glob(f"{name}.*"))).data for part in ("images", "masks")
    )
    box = tuple(
        slice(start, start + crop_px)
        for start in (round(f * max(0, n - crop_px)) for f, n in zip(at, truth.shape, strict=True))
    )
    return Sample(name, image[box].copy(), truth[box].astype(np.int32))


def halves() -> Iterator[Sample]:
    """Left and right half of the tissue sample with its hand-marked nuclei."""
    image, truth = tissue()
    middle = image.shape[1] // 2
    for name, part in (("left", np.s_[:, :middle]), ("right", np.s_[:, middle:])):
        yield Sample(name, image[part].copy(), truth[part].copy())


def tissue() -> tuple[NDArray[np.uint8], Labels]:
    """The tissue sample and its hand-marked nuclei: nucleus n has the label n + 1."""
    image = samples.immunohistochemistry()
    truth = np.zeros(image.shape[:2], np.int32)
    for number in range(len(demo.NUCLEI)):
        truth[demo.stroke_mask(number, truth.shape)] = number + 1
    return image, truth


# The user


def match(mask: NDArray[np.bool_], labels: Labels) -> float:
    """IoU of a mask and the label that overlaps it best."""
    ids, common = np.unique(labels[mask], return_counts=True)
    areas = np.array([(labels == i).sum() for i in ids])
    iou = common / (mask.sum() + areas - common)
    return float(iou[ids > 0].max(initial=0))


def painted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a round brush of an eighth of a cell's diameter makes of a cell: its corners go."""
    radius = max(1, round(np.sqrt(mask.sum() / np.pi) / 8))
    wide = np.pad(mask, radius, mode="edge")
    opened = ndimage.binary_opening(wide, disk(radius))[radius:-radius, radius:-radius]
    return opened if opened.any() else mask


class User:
    """Corrects one image until its labels look right.

    Parameters
    ----------
    truth
        (Y, X), what the user would paint.
    labels
        (Y, X), what is shown; changed in place.
    is_partial
        Whether there are true cells that `truth` lacks: then nothing is erased.
    """

    def __init__(self, truth: Labels, labels: Labels, *, is_partial: bool) -> None:
        self.truth, self.labels, self.is_partial = truth, labels, is_partial

    def wrong_cells(self, within: Labels) -> list[int]:
        """True cells that were missed or look wrong, of those in a part of the truth."""
        cells = np.unique(within[within > 0]).tolist()
        return [c for c in cells if match(self.truth == c, self.labels) < LOOKS_RIGHT]

    def false_cells(self, within: Labels) -> list[int]:
        """Found cells that are none, of those in a part of the labels."""
        if self.is_partial:
            return []
        found = np.unique(within[within > 0]).tolist()
        beside = [f for f in found if (self.truth[self.labels == f] > 0).mean() < 0.5]
        return [f for f in beside if match(self.labels == f, self.truth) < LOOKS_RIGHT]

    def paint(self, cell: int) -> int:
        """Paint a true cell, clear up what of found cells is left around it; returns strokes."""
        mask = painted(self.truth == cell)
        under = np.unique(self.labels[mask])
        self.labels[mask] = self.labels.max() + 1
        left = [f for f in under[under > 0].tolist() if (self.labels == f).any()]
        wrong = [f for f in left if match(self.labels == f, self.truth) < LOOKS_RIGHT]
        return 1 + sum(self.erase(f) for f in wrong if not self.is_partial)

    def erase(self, found: int) -> int:
        """Erase a found cell, paint the true ones that lay under it; returns strokes of paint."""
        gone = self.labels == found
        self.labels[gone] = 0
        strokes = 0
        for cell in self.wrong_cells(np.where(gone, self.truth, 0)):
            # It may have been painted with the one before.
            if gone[self.truth == cell].mean() > MAY_GO and cell in self.wrong_cells(
                np.where(self.truth == cell, cell, 0)
            ):
                strokes += self.paint(cell)
        return strokes

    def correct(self, count: int, rng: np.random.Generator) -> int:
        """Correct the worst objects, at random among those as bad; returns strokes.

        An error is as bad as it has wrong pixels, in steps of half a cell.
        """
        areas = np.bincount(self.truth.ravel())[1:]
        half = float(np.median(areas[areas > 0])) / 2
        todo = []
        for cell in self.wrong_cells(self.truth):
            mask = self.truth == cell
            todo.append(((1 - match(mask, self.labels)) * mask.sum() / half, "paint", cell))
        for found in self.false_cells(self.labels):
            todo.append(((self.labels == found).sum() / half, "erase", found))
        todo = [todo[n] for n in rng.permutation(len(todo))]
        todo.sort(key=lambda error: -round(error[0]))
        strokes = 0
        for _, what, number in todo:
            if strokes >= count:
                break
            strokes += self.put_right(what, number)
        return strokes

    def correct_box(self, box: Box) -> int:
        """Make everything right in a box; returns strokes."""
        strokes = 0
        for found in self.false_cells(self.labels[box]):
            strokes += self.put_right("erase", found)
        for cell in self.wrong_cells(self.truth[box]):
            strokes += self.put_right("paint", cell)
        return strokes

    def put_right(self, what: str, number: int) -> int:
        """Correct an object, unless that was done with one before; returns strokes."""
        if what == "paint":
            still = self.wrong_cells(np.where(self.truth == number, number, 0))
            return self.paint(number) if still else 0
        still = (self.labels == number).any()
        return 1 + self.erase(number) if still else 0


class Desk:
    """A work image with its labels, as the dock keeps them."""

    def __init__(self, sample: Sample, *, is_partial: bool = False) -> None:
        self.sample, self.is_partial = sample, is_partial
        self.plane: SeenPlane | None = None

    def segment(self, service: SegmentationService, model: Reference) -> None:
        """Click on Segment: what was corrected before comes along."""
        labels = service.segment(self.sample.image, self.sample.axes, model).wait().labels
        states = None
        if self.plane is not None:
            before = self.plane.painted.after
            states = self.plane.look(RING_PX).states
            labels = np.where(labels > 0, labels + before.max(), 0).astype(np.int32)
            labels, _ = carry_over(labels, before, states > 0)
        self.plane = SeenPlane(PaintedPlane((), labels, labels), states, ())

    def correct(self, count: int, rng: np.random.Generator, *, in_box: bool) -> int:
        """What the user does to the labels; returns strokes."""
        assert self.plane is not None
        labels, marks = self.plane.painted.before.copy(), self.plane.marks
        user = User(self.sample.truth, labels, is_partial=self.is_partial)
        if in_box:
            box = self.next_box(rng)
            strokes = user.correct_box(box)
            marks = (*marks, box_mark((), box))
        else:
            strokes = user.correct(count, rng)
        self.plane = replace(
            self.plane, painted=replace(self.plane.painted, after=labels), marks=marks
        )
        return strokes

    def next_box(self, rng: np.random.Generator) -> Box:
        """A box around one of the cells that are furthest from having been seen."""
        assert self.plane is not None
        seen = self.plane.look(RING_PX).states > 0
        cells = np.unique(self.sample.truth)[1:]
        boxes = []
        for cell in rng.permutation(cells):
            middle = np.argwhere(self.sample.truth == cell).mean(0)
            starts = [
                int(np.clip(round(m - BOX_PX / 2), 0, max(0, n - BOX_PX)))
                for m, n in zip(middle, seen.shape, strict=True)
            ]
            boxes.append(tuple(slice(s, min(s + BOX_PX, n)) for s, n in zip(starts, seen.shape)))
        return min(boxes, key=lambda box: round(10 * seen[box].mean()))

    def annotated(self) -> Annotated:
        """What Fine-tune learns from."""
        assert self.plane is not None
        given = self.plane.correction(RING_PX, {})
        corrections = () if given is None else (given,)
        return Annotated(self.sample.image, self.sample.axes, corrections, self.sample.name)


# The loop


def begin(folder: str, model: str) -> tuple[SegmentationService, Reference]:
    """A service whose models are in a folder of its own, and the model to begin with."""
    service = SegmentationService(ModelStore(Path(folder)))
    if model.endswith(".safetensors"):
        return service, service.store.import_file(Path(model), "start").name
    return service, model


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


def run(kind: Kind, seed: int, options: argparse.Namespace) -> Iterator[Row]:
    """The rounds of one seed, the first click as round 0."""
    work, judges = read(kind, options.crop)
    desks = [Desk(sample, is_partial=kind.is_partial) for sample in work]
    with tempfile.TemporaryDirectory() as folder:
        service, model = begin(folder, options.model or kind.model)
        ap = judge(service, model, kind, judges)
        yield {"round": 0, "ap": ap}
        for number in range(1, options.rounds + 1):
            desk = desks[(number - 1) % len(desks)]
            desk.segment(service, model)
            rng = np.random.default_rng([seed, number])
            strokes = desk.correct(options.objects, rng, in_box=options.boxes)
            row: Row = {"round": number, "image": desk.sample.name, "strokes": strokes, "ap": ap}
            if strokes or options.boxes:
                config = settings(options, seed)
                job = service.finetune([desk.annotated()], model, config)
                done = job.wait()
                new = judge(service, done.model, kind, judges)
                row |= {
                    "ap_before": ap,
                    "ap_new": new,
                    "accepted": done.verdict.accepted,
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
        service.close()


def settings(options: argparse.Namespace, seed: int) -> FinetuneConfig:
    """Of a fine-tune."""
    given = {"steps": options.steps, "seconds": options.seconds, "seed": seed}
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
    gains = [(row["accepted"], row["ap_new"] - row["ap_before"]) for row in tuned]
    worse = sum(gain < -NOISE for _, gain in gains)
    let_in = sum(ok and gain < -NOISE for ok, gain in gains)
    kept_out = sum(not ok and gain > NOISE for ok, gain in gains)
    n_ok = sum(ok for ok, _ in gains)
    print(f"\nof {len(gains)} fine-tunes, by more than {NOISE}:")
    print(f"  {share(worse, len(gains))} made it worse")
    print(f"  {share(let_in, n_ok)} of the accepted are worse")
    print(f"  {share(kept_out, len(gains) - n_ok)} of the refused would have been better")
    print(f"  {share(let_in + kept_out, len(gains))} verdicts were wrong")
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
    names = ("objects", "boxes", "steps", "seconds", "model", "config", "crop")
    used = json.loads(json.dumps({name: getattr(options, name) for name in names}))
    rows: list[Row] = []
    for name in options.kinds:
        if options.boxes and KINDS[name].is_partial:
            print(f"{name}: left out, too few of its cells are marked to make a box right")
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
        told += f", {row['strokes']} strokes on {row['image']}"
    if "accepted" in row:
        verdict = "accepted" if row["accepted"] else "refused"
        told += (
            f", {row['steps']} steps in {row['seconds']:.0f} s, new AP {row['ap_new']:.3f} "
            f"{verdict}: {row['why']} (check {row['check']}; replay {row['replay']})"
        )
    print(told, flush=True)


# Other questions


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
            desks = [Desk(replace(a, truth=moved(a.truth, b.truth, rng))) for a, b in pairs]
            with tempfile.TemporaryDirectory() as folder:
                service, model = begin(folder, options.model or kind.model)
                for desk in desks:
                    desk.segment(service, model)
                    desk.correct(options.objects, rng, in_box=options.boxes)
                given = [desk.annotated() for desk in desks]
                done = service.finetune(given, model, settings(options, seed)).wait()
                service.close()
            accepted += done.verdict.accepted
            print(f"  {name} seed {seed}: {done.verdict.why} ({done.check})", flush=True)
        total += accepted
        print(f"{name}, labels of another image: {accepted} of {len(options.seeds)} accepted")
    print(f"in all: {total} of {len(options.kinds) * len(options.seeds)} accepted")


def moved(own: Labels, other: Labels, rng: np.random.Generator) -> Labels:
    """Labels of another image at the size of one's own, mirrored and moved.

    Another's alone would not do: in a film, the cells are where they were.
    """
    mirrored = np.pad(other[::-1], [(0, max(0, n - m)) for n, m in zip(own.shape, other.shape)])
    fitting = mirrored[: own.shape[0], : own.shape[1]]
    return np.roll(fitting, [rng.integers(n // 4, 3 * n // 4) for n in own.shape], (0, 1))


def sample_minute(options: argparse.Namespace) -> None:
    """Three missed nuclei of the tissue sample, painted, and one minute."""
    image, truth = tissue()
    for seed in options.seeds:
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            service, model = begin(folder, options.model or "nuclei")
            desk = Desk(Sample("tissue", image, truth))
            desk.segment(service, model)
            assert desk.plane is not None
            first = desk.plane.painted.before
            missed = [n for n in range(len(demo.NUCLEI)) if not demo.found(first, [n])]
            three = rng.permutation(missed)[:3].tolist()
            after = first.copy()
            for number in three:
                after[truth == number + 1] = after.max() + 1
            desk.plane = replace(desk.plane, painted=PaintedPlane((), first, after))
            done = service.finetune([desk.annotated()], model, settings(options, seed)).wait()
            second = service.segment(image, "YXC", done.model).wait().labels
            service.close()
        others = [n for n in range(len(demo.NUCLEI)) if n not in three]
        before, now = ((demo.found(x, others), surely_false(x), x) for x in (first, second))
        print(
            f"seed {seed}: {'accepted' if done.verdict.accepted else 'refused'} after {done.steps} "
            f"steps ({done.check}; {done.verdict.why}); others found {before[0]} -> {now[0]} of "
            f"{len(others)}; false cells {before[1]} -> {now[1]}, of "
            f"{len(np.unique(before[2])) - 1} -> {len(np.unique(now[2])) - 1}",
            flush=True,
        )


def surely_false(labels: Labels) -> int:
    """Cells of the tissue sample that are browner or paler than each hand-marked nucleus.

    Not all nuclei are marked, so a cell beside the marked ones may be true; nuclei are blue.
    """
    image, truth = tissue()
    colour = image.astype(float)
    values = (colour[..., 0] - colour[..., 2], colour.mean(2))
    wrong = np.zeros(len(np.unique(labels[labels > 0])), bool)
    for value in values:
        limit = max(ndimage.mean(value, truth, np.unique(truth)[1:]))
        wrong |= np.asarray(ndimage.mean(value, labels, np.unique(labels[labels > 0]))) > limit
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
    budget.add_argument("--steps", type=int, help="of a fine-tune (default: 90)")
    budget.add_argument("--seconds", type=float, help="of a fine-tune, instead")
    parser.add_argument("--model", help="name or file, instead of each kind's own")
    parser.add_argument(
        "--config", nargs="+", type=setting, default=[], metavar="KEY=VALUE", help="of a fine-tune"
    )
    parser.add_argument("--boxes", action="store_true", help="make a box right, and confirm it")
    parser.add_argument("--crop", type=int, default=512, help="of the images, in pixels")
    parser.add_argument("--json", type=Path, help="a line for each round is appended")
    parser.add_argument("--shuffled", action="store_true", help="teach labels of another image")
    parser.add_argument("--sample-minute", action="store_true", help="three painted nuclei")
    options = parser.parse_args()
    if options.sample_minute and not options.steps:
        options.seconds = options.seconds or 60.0
    elif not options.seconds:
        options.steps = options.steps or 90
    if "NAPARI_UNET_DATA" not in os.environ:
        sys.exit("NAPARI_UNET_DATA is not set; set it to the folder of the images")
    if options.sample_minute:
        sample_minute(options)
    elif options.shuffled:
        shuffled(options)
    else:
        loop(options)


if __name__ == "__main__":
    main()
