"""How good after the same time of training, and how fast, beside StarDist and Cellpose 3?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.rivals [--work DIR] [--minutes 25]
        [--only ours stardist cellpose] [--kinds all|fluo] [--speed] [--threads N]

Each learns from scratch from folds 0 to 3 of dsb2018 (see recipes/nuclei.py for the folds), by its
own recipe, for the same wall time on this machine, and segments fold 4. The labels of all are
judged by one piece of code, the one behind `napari-unet evaluate`. The time runs from the beginning
of the first training step to the end of the last: drawing and augmenting samples count, and checks
on validation images; reading the files and what is done once, before or after, does not (Cellpose:
flows of the true masks, its model of sizes; StarDist: its thresholds).

The rivals are installed into environments of their own under DIR (several GB; needs Python 3.9 to
3.11, see --python). What has been trained there is judged again, not trained again.

--speed: seconds from image to labels, 2048 x 2048, ours (the shipped `nuclei`) and the rival's in
turn; the rivals with the models trained before, so train them long enough.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks.common import data_folder
from benchmarks.environments import environ, rival
from benchmarks.speed.others import in_turn, mosaic_file, own
from napari_unet.config import train_config
from napari_unet.core.cells.metrics import Scores
from napari_unet.corrections.labelled_folders import list_pairs, read_pair
from napari_unet.io.images import read_image, write_labels
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import NewModel, SegmentationService
from recipes import nuclei

TOOLS = ("ours", "stardist", "cellpose")
SCORES = {"ap50": "AP 0.5", "ap75": "AP 0.75", "map": "mean AP"}


def prepare(data: Path, work: Path, kinds: str) -> None:
    """Split, and write the images and masks as plain tif, which each of the tools reads."""
    nuclei.split(data, work)
    for part in (work / "learn", work / "judge"):
        source = part if kinds == "all" else part / kinds
        for image, masks in list_pairs(source / "images", source / "masks"):
            picture, truth = read_pair(image, masks)
            for kind, pixels in (("images", picture.data), ("masks", truth.astype(np.uint16))):
                path = work / kinds / part.name / kind / f"{image.stem}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                rgb = pixels.ndim == 3
                tifffile.imwrite(path, pixels, photometric="rgb" if rgb else "minisblack")


def ours(folder: Path, out: Path, seconds: float) -> dict[str, Any]:
    """What a rival's script does: train, write a model, labels, and how long it took."""
    service = SegmentationService(ModelStore(out / "models"))
    config, images = train_config("fast", seconds=seconds), nuclei.read(folder / "learn")
    job = service.train(images, "ours", config, NewModel(in_channels=3))
    ends: list[float] = []
    job.progressed.connect(lambda p: ends.append(time.perf_counter()) if p.loss else None)
    done = job.wait()
    # The first report comes when the first step has ended: one more, as long as the others.
    trained = (ends[-1] - ends[0]) * done.steps / max(done.steps - 1, 1)
    start = time.perf_counter()
    for path in sorted((folder / "judge" / "images").iterdir()):
        image = read_image(path)
        labels = service.segment(image.data, image.axes, done.model.path).wait().labels
        write_labels(out / "labels" / path.name, labels, image.label_axes)
    service.close()
    return {
        "steps": done.steps,
        "train_s": trained,
        "predict_s": time.perf_counter() - start,
        "version": f"{done.compute}, torch {torch.__version__}",
    }


def learn(tool: str, folder: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train a tool unless that was done, and say how it went."""
    report = out / "report.json"
    if not report.exists():
        (out / "labels").mkdir(parents=True, exist_ok=True)
        seconds = 60 * options.minutes
        if tool == "ours":
            report.write_text(json.dumps(ours(folder, out, seconds)))
        else:
            call = rival(tool, options, "train", folder, out, seconds)
            with (out / "log.txt").open("w") as log:
                code = subprocess.run(call, stdout=log, stderr=log, env=environ(options)).returncode
            if code:
                raise SystemExit(f"{tool} failed, see {out / 'log.txt'}")
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def judge(truth: Path, labels: Path, stems: set[str]) -> dict[str, float]:
    """Scores of the labels of some images, read from files."""
    scores = Scores()
    for found, true in list_pairs(labels, truth):
        if found.stem in stems:
            scores.add(*(read_image(path).data.astype(np.int64) for path in (true, found)))
    if scores.n_images != len(stems):
        raise SystemExit(f"{labels} holds {scores.n_images} of {len(stems)} images; train again")
    return scores.summary()


def parts(work: Path, kinds: str) -> dict[str, set[str]]:
    """Names of the judging images, by kind."""
    folders = {p.parent.name: p for p in sorted((work / "judge").glob("*/images"))}
    if kinds != "all":
        folders = {kinds: folders[kinds]}
    else:
        folders = {"all": work / "judge" / "images", **folders}
    return {name: {path.stem for path in folder.iterdir()} for name, folder in folders.items()}


def speed(tool: str, out: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of three, a rival and `nuclei` in turn, and the cells that they find."""
    path, diameter = mosaic_file(out, 2048)
    calls = {
        "nuclei": lambda: own("nuclei", path),
        tool: lambda: rival(tool, options, "speed", path, out, diameter),
    }
    found, failed = in_turn(calls, out, 3, environ(options))
    if failed:
        raise SystemExit(f"{failed}")
    result: dict[str, float] = {}
    for name, once in found.items():
        result |= {f"{name}, s": once.seconds, f"{name}, cells": once.cells}
    return result


def main() -> None:
    """Train, judge and time; a table as it goes, and JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--kinds", choices=("all", "fluo"), default="all")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    options = parser.parse_args()
    options.work = work = options.work.resolve()
    torch.set_num_threads(options.threads)
    prepare(data_folder(), work, options.kinds)
    folder, judged = work / options.kinds, parts(work, options.kinds)
    runs, results = folder / f"{options.minutes:g}-minutes", {}
    print("| tool | steps | minutes | images | " + " | ".join(SCORES.values()) + " |")
    print("|---|---:|---:|---|" + "---:|" * len(SCORES))
    for tool in options.only:
        results[tool] = found = learn(tool, folder, runs / tool, options)
        found["scores"] = {}
        for name, stems in judged.items():
            scores = judge(folder / "judge" / "masks", runs / tool / "labels", stems)
            found["scores"][name] = scores
            numbers = " | ".join(f"{scores[key]:.3f}" for key in SCORES)
            head = f"| {tool} | {found['steps']} | {found['train_s'] / 60:.2f} | {name} |"
            print(f"{head} {numbers} |", flush=True)
    if options.speed:
        for tool in (tool for tool in options.only if tool != "ours"):
            results[tool]["speed"] = speed(tool, runs / tool, options)
            print(f"{tool}, 2048 x 2048: {json.dumps(results[tool]['speed'])}", flush=True)
    path = runs / "results.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | results, indent=1))
    print(path)


if __name__ == "__main__":
    main()
