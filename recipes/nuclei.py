"""Train, export and score the model `nuclei` that ships.

    NAPARI_UNET_DATA=FOLDER python recipes/nuclei.py [--steps 10000] [--work recipes/work]

FOLDER/dsb2018 holds images/, masks/ and meta.csv of the CC0 set BBBC038 (Caicedo et al. 2019,
doi:10.1038/s41592-019-0612-7). Its images are pieces of larger mosaics, so they are split by the
group that ties the pieces together, never by file: a group's hash puts it into one of five folds.
Fold 0 was used to choose settings, fold 4 only judges. The shipped weights learn from folds 0-3.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from napari_unet.cli import main as napari_unet
from napari_unet.config import train_config
from napari_unet.engine.checkpoint import load_model, save_model
from napari_unet.service.corrections import Annotated
from napari_unet.service.image_files import read_annotated
from napari_unet.service.model_store import ModelStore
from napari_unet.service.segmentation import SegmentationService
from napari_unet.service.training import NewModel

JUDGE = 4
TRAINED_ON = "BBBC038 / Data Science Bowl 2018, CC0, grouped folds 0-3 of 5"


def fold(group: str) -> int:
    """Fold of a group of images, 0 to 4."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5


def split(data: Path, work: Path, judge: int = JUDGE, leave_out: int | None = None) -> None:
    """Link images and masks into `judge` (one fold) and `learn` (the others but `leave_out`)."""
    shutil.rmtree(work / "judge", ignore_errors=True)
    shutil.rmtree(work / "learn", ignore_errors=True)
    with (data / "meta.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
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


def main() -> None:
    """Split, train, export, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    options = parser.parse_args()
    work, weights = options.work, options.work / "nuclei.safetensors"
    split(Path(os.environ["NAPARI_UNET_DATA"]) / "dsb2018", work)
    # More capacity than the default: an hour of training fills it.
    model = NewModel(width=32, in_channels=3)
    config = replace(train_config("fast", steps=options.steps), balance=0.5)
    # The models of the person who runs this stay out of it.
    service = SegmentationService(ModelStore(work / "models"))
    job = service.train(read(work / "learn"), "nuclei", config, model, [TRAINED_ON])
    job.progressed.connect(lambda p: print(f"\r{p.message:40}", end="", flush=True))
    done = job.wait()
    service.close()
    network, header = load_model(done.model.path)
    save_model(weights, network, replace(header, licence="BSD-3-Clause"), half=True)
    judge = work / "judge"
    for part in (judge, *sorted(p.parent for p in judge.glob("*/images"))):
        print(f"\n{part.name}", flush=True)
        pair = ("--images", str(part / "images"), "--labels", str(part / "masks"))
        napari_unet(["evaluate", *pair, "--model", str(weights), "--json"])


if __name__ == "__main__":
    main()
