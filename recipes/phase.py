"""Train, export and score the model `phase` that ships.

    NAPARI_UNET_DATA=FOLDER python recipes/phase.py [--work recipes/work]

FOLDER/usiigaci_phc_t98g holds images/ and masks/ of 16 fields of T98G cells in phase contrast
(Tsai et al. 2019, doi:10.1016/j.softx.2019.02.007, MIT licence). It begins with the second stage of
`nuclei` (nuclei.py, in the same work folder), goes on with 12 fields, and is judged on 4 others,
two of each magnification. A stage that is done is not done again.
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nuclei

from napari_unet.config import AugmentConfig, train_config
from napari_unet.learning.training import cell_diameter
from napari_unet.models.checkpoint import load_model, save_model

JUDGE = ("set22", "set24", "set43", "set47")
TRAINED_ON = "Usiigaci T98G phase contrast, MIT, 12 of 16 fields"
# Of the cells' size: at it they are about as large as the nuclei that the network knows.
ZOOM = 0.5
STAGES = 2
# Chosen on the fields that it learns from.
DECODING = {
    "threshold": 0.4,
    "seed_threshold": 0.35,
    "peak_threshold": 0.45,
    "min_size_px": 125,
    "gap_px": 1,
}


def split(data: Path, work: Path) -> None:
    """Link images and masks into `phase-judge` and `phase-learn`."""
    for part in ("judge", "learn"):
        shutil.rmtree(work / f"phase-{part}", ignore_errors=True)
    for source in sorted(data.glob("*/*.tif")):
        part = work / ("phase-judge" if source.stem in JUDGE else "phase-learn")
        (part / source.parent.name).mkdir(parents=True, exist_ok=True)
        (part / source.parent.name / source.name).symlink_to(source.resolve())


def main() -> None:
    """Split, train, export, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    work = parser.parse_args().work
    data = Path(os.environ["NAPARI_UNET_DATA"]) / "usiigaci_phc_t98g"
    begin = work / "nuclei-1.safetensors"
    if not begin.exists():
        parser.error(f"{begin} is not there; run recipes/nuclei.py with the same --work first")
    network, header = load_model(begin)
    split(data, work)
    images = nuclei.read(work / "phase-learn")
    diameter = cell_diameter(images)
    assert diameter is not None
    weights = work / "phase-start.safetensors"
    save_model(weights, network, replace(header, diameter_px=ZOOM * diameter))
    words = (*header.trained_on, TRAINED_ON)
    for number in range(STAGES):
        config = replace(
            train_config("fast", steps=3000, seed=number),
            balance=0.5,
            tile_px=348,
            diameter_px=diameter,
            # Two magnifications, and cells of other lines are brighter or darker than their ground.
            augment=AugmentConfig(scale=1.5, grey=0.2, invert=0.1),
        )
        before, weights = weights, work / f"phase-{number}.safetensors"
        if not weights.exists():
            nuclei.learn(images, nuclei.Stage("phase", config), before, weights, words)
    network, header = load_model(weights)
    final = work / "phase.safetensors"
    last = replace(header, postprocess=DECODING, replay="phase")
    save_model(final, network, last, half=True)
    nuclei.sample(images[::2], final, work / "phase-replay.npz", zoom=ZOOM)
    nuclei.evaluate(work / "phase-judge", final)


if __name__ == "__main__":
    main()
