"""Train, export and score the model `nuclei` that ships.

    NAPARI_UNET_DATA=FOLDER python recipes/nuclei.py [--work recipes/work]

FOLDER/dsb2018 holds images/, masks/ and meta.csv of the CC0 set BBBC038 (Caicedo et al. 2019,
doi:10.1038/s41592-019-0612-7). Its images are pieces of larger mosaics, so they are split by the
group that ties the pieces together, never by file: a group's hash puts it into one of five folds.
Fold 0 was used to choose settings, fold 4 only judges. The shipped weights learn from folds 0-3.

It learns in stages, each of which ends with a model: started again, it goes on after the last.
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

from napari_unet.cli import main as napari_unet
from napari_unet.config import FinetuneConfig, train_config
from napari_unet.engine.checkpoint import load_model, save_model
from napari_unet.service.corrections import Annotated
from napari_unet.service.image_files import read_annotated
from napari_unet.service.model_store import ModelStore
from napari_unet.service.segmentation import SegmentationService
from napari_unet.service.training import NewModel

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
    """

    name: str
    config: FinetuneConfig
    start: NewModel | None = None


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


def fold(group: str) -> int:
    """Fold of a group of images, 0 to 4."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5


def table(data: Path) -> list[dict[str, str]]:
    """Rows of meta.csv, one for each image."""
    with (data / "meta.csv").open() as file:
        return sorted(csv.DictReader(file), key=lambda row: row["id"])


def split(data: Path, work: Path, judge: int = JUDGE, leave_out: int | None = None) -> None:
    """Link images and masks into `judge` (one fold) and `learn` (the others but `leave_out`)."""
    shutil.rmtree(work / "judge", ignore_errors=True)
    shutil.rmtree(work / "learn", ignore_errors=True)
    for row in table(data):
        if fold(row["group"]) == leave_out:
            continue
        part = work / ("judge" if fold(row["group"]) == judge else "learn")
        for kind in ("images", "masks"):
            (source,) = (data / kind).glob(f"{row['id']}.*")
            for folder in (part, part / row["type"]):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                (folder / kind / source.name).symlink_to(source.resolve())


def read(part: Path) -> list[Annotated]:
    """The images and masks of a part."""
    return read_annotated(part / "images", part / "masks")


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
    split(Path(os.environ["NAPARI_UNET_DATA"]) / "dsb2018", work, options.judge, options.leave_out)
    images = read(work / "learn")
    weights = work
    for stage in stages():
        before, weights = weights, work / f"nuclei-{stage.name}.safetensors"
        if not weights.exists():
            learn(images, stage, before, weights, (TRAINED_ON,))
    network, header = load_model(weights)
    weights = work / "nuclei.safetensors"
    save_model(weights, network, replace(header, postprocess=DECODING), half=True)
    judge = work / "judge"
    for part in (judge, *sorted(p.parent for p in judge.glob("*/images"))):
        evaluate(part, weights)


if __name__ == "__main__":
    main()
