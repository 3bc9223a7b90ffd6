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
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks.common import data_folder, mosaic
from napari_unet.config import train_config
from napari_unet.core.cells.metrics import Scores
from napari_unet.corrections.labelled_folders import list_pairs, read_pair
from napari_unet.io.images import read_image, write_labels
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import NewModel, SegmentationService
from recipes import nuclei

# Versions that are known to work together.
PINS = {
    "stardist": (
        "stardist==0.9.1",
        "csbdeep==0.8.2",
        "tensorflow-cpu==2.15.1",
        "numpy==1.26.4",
        "scikit-image==0.26.0",
        "scipy==1.17.1",
        "numba==0.68.1",
        "tifffile==2026.3.3",
    ),
    "cellpose": (
        "cellpose==3.1.1.3",
        "torch==2.13.0",
        "numpy==2.0.2",
        "scipy==1.17.1",
        "numba==0.68.1",
        "opencv-python-headless==4.12.0.88",
        "tifffile==2026.3.3",
    ),
}
TOOLS = ("ours", *PINS)
SCORES = {"ap50": "AP 0.5", "ap75": "AP 0.75", "map": "mean AP"}


def environment(tool: str, work: Path, python: str) -> Path:
    """The interpreter of an environment that holds a rival; made where it is not there."""
    folder = work / f"env-{tool}"
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done, pins = folder / "installed.txt", "\n".join(PINS[tool])
    if not done.exists() or done.read_text() != pins:
        print(f"installing {tool}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "-q", *PINS[tool]], check=True)
        done.write_text(pins)
    return interpreter


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


def rival(tool: str, options: argparse.Namespace, *words: object) -> list[str]:
    """The call of a rival's script."""
    interpreter = environment(tool, options.work, options.python)
    script = Path(__file__).parent / f"rival_{tool}.py"
    return [str(word) for word in (interpreter, script, *words, options.threads)]


def environ(options: argparse.Namespace) -> dict[str, str]:
    """Threads of the libraries that take them from the environment; no models from elsewhere."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    threads = dict.fromkeys(names, str(options.threads))
    apart = {"CELLPOSE_LOCAL_MODELS_PATH": str(options.work / "cellpose")}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**own, **threads, **apart}


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
    """Median seconds of three, a rival and `nuclei` in turn, each after one that does not count."""
    image, masks = mosaic(2048, "images"), mosaic(2048, "masks")
    areas = np.bincount(masks.ravel())[1:]
    # Cellpose is told the size: a size that it had to find would cost it more.
    diameter = float(np.median(np.sqrt(areas[areas > 0] * 4 / np.pi)))
    tifffile.imwrite(out / "mosaic.tif", image)
    service = SegmentationService(ModelStore(out / "models"))

    def nuclei_once() -> tuple[float, int]:
        start = time.perf_counter()
        labels = service.segment(image, "YX", "nuclei").wait().labels
        return time.perf_counter() - start, int(labels.max())

    pipe = subprocess.PIPE
    call = rival(tool, options, "speed", out / "mosaic.tif", out, diameter)
    with (
        (out / "speed.log").open("w") as log,
        subprocess.Popen(
            call, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environ(options)
        ) as process,
    ):
        assert process.stdin
        assert process.stdout

        def rival_once() -> tuple[float, int]:
            # It waits for a line, predicts, and answers with one that begins with "=".
            print(file=process.stdin, flush=True)
            for line in process.stdout:
                if line.startswith("="):
                    seconds, cells = line[1:].split()
                    return float(seconds), int(cells)
            raise SystemExit(f"{tool} failed, see {out / 'speed.log'}")

        works: dict[str, Callable[[], tuple[float, int]]] = {
            "nuclei": nuclei_once,
            tool: rival_once,
        }
        runs = [{name: work() for name, work in works.items()} for _ in range(4)]
        process.stdin.close()
    service.close()
    result: dict[str, float] = {"true cells": int((areas > 0).sum())}
    for name in works:
        result[f"{name}, s"] = statistics.median(run[name][0] for run in runs[1:])
        result[f"{name}, cells"] = runs[-1][name][1]
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
