"""Train, export and score the model `nuclei` that ships.

    NAPARI_UNET_DATA=FOLDER python recipes/nuclei.py [--work recipes/work]

FOLDER/dsb2018 and FOLDER/dsb2018_stage1_test hold images/, masks/ and meta.csv of the CC0 set
BBBC038 (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7). Its images are pieces of larger
mosaics, so they are split by the group that ties the pieces together, never by file: a group's hash
puts it into one of five folds. Fold 0 was used to choose settings, fold 4 only judges. The shipped
weights learn from folds 0-3.

It learns in stages, each of which ends with a model: started again, it goes on after the last. The
first four know the first folder alone. The last two show tissue in other colours, as grey values
and as its nuclear stain, three times as often, and all cells in other sizes. The fifth leaves the
violet and yellow sections of the second folder out, to see how a new look fares. What ships is the
mean of the weights before and after these two.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from skimage.measure import label

from napari_unet.cli import main as napari_unet
from napari_unet.config import AugmentConfig, FinetuneConfig, train_config
from napari_unet.core.network.unet import UNet
from napari_unet.core.stains import NuclearStain
from napari_unet.corrections.annotations import Annotated
from napari_unet.corrections.labelled_folders import read_annotated
from napari_unet.learning.replay import ONE
from napari_unet.learning.training import NewModel, annotated_planes
from napari_unet.models.checkpoint import load_model, save_model
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

JUDGE = 4
# Chosen on fold 0, with a model that learnt from folds 1 to 3, and on the tissue of the demo, which
# loses more nuclei the higher the peak is.
DECODING = {
    "threshold": 0.45,
    "seed_threshold": 0.4,
    "peak_threshold": 0.45,
    "min_size_px": 16,
    "gap_px": 1,
}
TRAINED_ON = "BBBC038 / Data Science Bowl 2018, CC0, grouped folds 0-3 of 5"
# Of the second folder, a look that the first one lacks.
NEW_LOOK = "purple_yellow_512x680"
TISSUE = "histo_purple"


@dataclass(frozen=True)
class Stage:
    """A piece of the training.

    Attributes
    ----------
    name
        Of the file that it ends with.
    config
        What it does.
    start
        What it begins with, where that is not the stage before.
    parts
        Folders of images that it learns from; tissue counts three times where there are several.
    """

    name: str
    config: FinetuneConfig
    start: NewModel | None = None
    parts: tuple[str, ...] = ("learn",)


def stages() -> Iterator[Stage]:
    """What the shipped weights went through, in order."""
    # The cells are small: three poolings see far enough, at half the cost of four.
    new = NewModel(depth=3, width=32, in_channels=3)
    at_first = train_config("fast", steps=4000)
    then = train_config("fast", steps=8000, seed=1)
    yield Stage("0", replace(at_first, balance=0.5, tile_px=348, decay=False), new)
    yield Stage("1", replace(then, balance=0.5, tile_px=348))
    for name, steps in (("2", 16000), ("3", 14000)):
        longer = train_config("fast", steps=steps, seed=int(name))
        yield Stage(name, replace(longer, balance=0.5, tile_px=348))
    varied = AugmentConfig(scale=1.6, grey=0.2, invert=0.05, colour=0.25, to_grey=0.15)
    more = ("learn", "learn-more")
    for name, steps, parts in (("4", 7500, more), ("5", 3000, (*more, "learn-look"))):
        last = train_config("fast", steps=steps, seed=int(name))
        yield Stage(name, replace(last, balance=0.5, tile_px=348, augment=varied), parts=parts)


def fold(group: str) -> int:
    """Fold of a group of images, 0 to 4."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5


def table(data: Path) -> list[dict[str, str]]:
    """Rows of meta.csv, one for each image."""
    with (data / "meta.csv").open() as file:
        return sorted(csv.DictReader(file), key=lambda row: row["id"])


def split(data: Path, work: Path, judge: int = JUDGE, leave_out: int | None = None) -> None:
    """Link images and masks into `judge` (one fold) and `learn` (the others but `leave_out`).

    Those of the second folder are in `judge-more`, `learn-more`, and `learn-look`.
    """
    for old in work.glob("judge*"), work.glob("learn*"):
        for folder in old:
            shutil.rmtree(folder)
    for source, more in ((data / "dsb2018", ""), (data / "dsb2018_stage1_test", "-more")):
        for row in table(source):
            if fold(row["group"]) == leave_out:
                continue
            part = ("judge" if fold(row["group"]) == judge else "learn") + more
            if row["group"] == NEW_LOOK:
                part = "learn-look"
            for kind in ("images", "masks"):
                (file,) = (source / kind).glob(f"{row['id']}.*")
                for folder in (work / part, work / part / row["type"]):
                    (folder / kind).mkdir(parents=True, exist_ok=True)
                    (folder / kind / file.name).symlink_to(file.resolve())


def read(part: Path) -> list[Annotated]:
    """The images and masks of a part."""
    return read_annotated(part / "images", part / "masks")


def images_of(stage: Stage, work: Path) -> list[Annotated]:
    """What a stage learns from; of several parts, tissue twice as it is and once as its stain."""
    images = [image for part in stage.parts for image in read(work / part)]
    if len(stage.parts) > 1:
        tissue = [
            i
            for part in stage.parts
            if (work / part / TISSUE).exists()
            for i in read(work / part / TISSUE)
        ]
        stains = [
            replace(i, image=np.asarray(NuclearStain(i.image, i.axes.index("C"))), axes="YX")
            for i in tissue
        ]
        images += tissue + stains
    return images


def learn(
    images: list[Annotated], stage: Stage, before: Path, after: Path, words: tuple[str, ...]
) -> None:
    """One stage, from the model file of the one before to that of this one."""
    start: NewModel | str = stage.start or str(before)
    steps = 0 if stage.start else load_model(before)[1].steps
    # The models of the person who runs this stay out of it.
    service = SegmentationService(ModelStore(after.parent / f"models-{stage.name}"))
    job = service.train(images, "new", stage.config, start)
    job.progressed.connect(lambda p: print(f"\r{stage.name}: {p.message:40}", end="", flush=True))
    network, header = load_model(job.wait().model.path)
    service.close()
    header = replace(
        header,
        name=after.stem.partition("-")[0],
        trained_on=words,
        licence="BSD-3-Clause",
        parent=None,
        # From scratch it learns nuclei of all sizes.
        diameter_px=None if stage.start else header.diameter_px,
        steps=steps + header.steps,
    )
    save_model(after, network, header, half=True)


def mean_of(first: Path, last: Path) -> UNet:
    """The network whose weights are the mean of two.

    The later stages learnt new looks and lost a little of the old ones: the mean of what was before
    and after them keeps both (Wortsman et al. 2022, arXiv:2109.01903).
    """
    network = load_model(last)[0]
    with torch.no_grad():
        for weight, other in zip(
            network.parameters(), load_model(first)[0].parameters(), strict=True
        ):
            weight.lerp_(other, 0.5)
    return network


def sample(
    images: list[Annotated], weights: Path, file: Path, *, side_px: int = 224, zoom: float = 1.0
) -> None:
    """Write the middles of images, as the network sees them, for fine-tunes to show again.

    See `learning.replay`. Images that are smaller than the side are left out.
    """
    model = LoadedModel(*load_model(weights))
    crops, masks = [], []
    for plane in annotated_planes(images, model, FinetuneConfig(), lambda: None, zoom):
        y, x = ((n - side_px) // 2 for n in plane.labels.shape)
        if min(y, x) < 0:
            continue
        box = slice(y, y + side_px), slice(x, x + side_px)
        crops.append(np.clip(np.rint(ONE * plane.image[:, *box]), 0, 255).astype(np.uint8))
        masks.append(label(plane.labels[box], connectivity=2).astype(np.uint16))
    np.savez_compressed(file, images=np.stack(crops), labels=np.stack(masks))


def one_of_each_group(part: Path, data: Path, kind: str, count: int) -> list[Annotated]:
    """The first images of different groups of a kind that learn."""
    groups = {row["id"]: row["group"] for row in table(data)}
    first = {}
    for file in sorted((part / kind / "images").iterdir()):
        first.setdefault(groups[file.stem], file)
    return [
        read_annotated(file, part / kind / "masks" / f"{file.stem}.tif")[0]
        for file in list(first.values())[:count]
    ]


def evaluate(part: Path, weights: Path) -> None:
    """Print what `napari-unet evaluate` says of a model."""
    print(f"\n{part.name}", flush=True)
    pair = ("--images", str(part / "images"), "--labels", str(part / "masks"))
    napari_unet(["evaluate", *pair, "--model", str(weights), "--json"])


def main() -> None:
    """Split, train, export, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    parser.add_argument("--judge", type=int, default=JUDGE, help="the fold that judges")
    parser.add_argument("--leave-out", type=int, help="a fold that does not even judge")
    options = parser.parse_args()
    work = options.work
    split(Path(os.environ["NAPARI_UNET_DATA"]), work, options.judge, options.leave_out)
    weights = work
    for stage in stages():
        before, weights = weights, work / f"nuclei-{stage.name}.safetensors"
        if not weights.exists():
            learn(images_of(stage, work), stage, before, weights, (TRAINED_ON,))
    network, header = mean_of(work / "nuclei-3.safetensors", weights), load_model(weights)[1]
    weights = work / "nuclei.safetensors"
    last = replace(header, postprocess=DECODING, replay="nuclei")
    save_model(weights, network, last, half=True)
    data = Path(os.environ["NAPARI_UNET_DATA"]) / "dsb2018"
    shown = [
        image
        for kind, count in ((TISSUE, 12), ("fluo", 14), ("brightfield_gray", 3))
        for image in one_of_each_group(work / "learn", data, kind, count)
    ]
    sample(shown, weights, work / "nuclei-replay.npz")
    judge = work / "judge"
    for part in (judge, *sorted(p.parent for p in judge.glob("*/images"))):
        evaluate(part, weights)


if __name__ == "__main__":
    main()
