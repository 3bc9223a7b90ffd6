"""Does the gate refuse what is wrong, and let through what is right?

    NAPARI_UNET_DATA=FOLDER python benchmarks/gate.py [--seeds 10] [--seconds 20] [--steps N]

Fine-tunes the shipped model on corrections of four images with five cells each, drawn by the seed:
true ones, and shuffled ones, whose labels and seen places are those of another of the images,
mirrored and moved. Counts how many new versions the gate
accepts. On fluorescence, the kind that the model knows, the images are those that judge it (fold
4, see recipes/nuclei.py); it has never seen DIC.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))

import corrections
import nuclei
from corrections import Labels, Sample

from napari_unet.config import FinetuneConfig
from napari_unet.service.corrections import Annotated, Correction
from napari_unet.service.image_files import read_image
from napari_unet.service.model_store import ModelStore
from napari_unet.service.segmentation import SegmentationService

Seen = tuple[Labels, NDArray[np.bool_]]


def fluorescence() -> list[Sample]:
    """Images of one size that judge the shipped model, with their truth."""
    folder = Path(os.environ["NAPARI_UNET_DATA"]) / "dsb2018"
    with (folder / "meta.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["type"] == "fluo"]
    names = {row["id"] for row in rows if nuclei.fold(row["group"]) == nuclei.JUDGE}
    paths = [p for p in sorted((folder / "images").iterdir()) if p.stem in names]
    samples = [
        Sample(p.stem, read_image(p).data, read_image(folder / "masks" / f"{p.stem}.tif").data)
        for p in paths
    ]
    return [s for s in samples if s.truth.shape == (256, 256) and len(np.unique(s.truth)) > 6]


def draw(sample: Sample, rng: np.random.Generator) -> Seen:
    """Five neighbouring true cells, painted, and where they and their surroundings were seen."""
    ids = np.unique(sample.truth)[1:]
    centres = np.array([np.argwhere(sample.truth == i).mean(0) for i in ids])
    first = centres[rng.integers(len(ids))]
    nearest = ids[np.argsort(((centres - first) ** 2).sum(1))[:5]]
    labels = np.zeros(sample.truth.shape, np.int32)
    for cell in nearest:
        labels[corrections.painted(sample.truth == cell)] = cell
    return labels, corrections.seen(np.zeros_like(labels), labels, [])


def shuffle(given: list[Seen], rng: np.random.Generator) -> list[Seen]:
    """Labels that do not belong to their images: another's, mirrored and moved.

    Another's alone would not do: in a film, the cells are where they were.
    """
    shape = np.array(given[0][0].shape)
    moves = [tuple(rng.integers(shape // 4, 3 * shape // 4)) for _ in given]
    return [
        (np.roll(labels[::-1], move, (0, 1)), np.roll(seen[::-1], move, (0, 1)))
        for (labels, seen), move in zip([*given[1:], given[0]], moves, strict=True)
    ]


def main() -> None:
    """Count what the gate accepts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--steps", type=int, help="instead of seconds")
    parser.add_argument("--kinds", nargs="+", default=["fluorescence", "hela"])
    parser.add_argument("--ways", nargs="+", default=["shuffled", "true"])
    options = parser.parse_args()
    block = corrections.SETS["hela"]
    for kind in options.kinds:
        pool = fluorescence() if kind == "fluorescence" else corrections.read(block, block.correct)
        for way in options.ways:
            accepted = 0
            for seed in range(options.first, options.first + options.seeds):
                rng = np.random.default_rng(seed)
                samples = [pool[i] for i in rng.choice(len(pool), 4, replace=False)]
                given = [draw(sample, rng) for sample in samples]
                if way == "shuffled":
                    given = shuffle(given, rng)
                annotated = [
                    Annotated(s.image, "YX", (Correction((), *truth),), name=s.name)
                    for s, truth in zip(samples, given, strict=True)
                ]
                config = FinetuneConfig(
                    seconds=None if options.steps else options.seconds,
                    steps=options.steps,
                    seed=seed,
                )
                with tempfile.TemporaryDirectory() as folder:
                    service = SegmentationService(ModelStore(Path(folder)))
                    done = service.finetune(annotated, "nuclei@1", config).wait()
                    service.close()
                accepted += done.verdict.accepted
                print(f"  {kind} {way} seed {seed}: {done.check}; {done.verdict.why}", flush=True)
            print(f"{kind}, {way} labels: {accepted} of {options.seeds} accepted", flush=True)


if __name__ == "__main__":
    main()
