"""Does a model's steadiness tell how good its labels are?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.steady [--kinds hela ...] [--crop 512]

For each image of the loop's kinds (`kinds.py`): AP at IoU 0.5 of the model that ships, at the size
of the image, and its steadiness, the share of cells that it finds again in the image turned and
resized. The end gives the rank correlation of the two.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.common import data_folder
from benchmarks.kinds import KINDS, read
from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane
from napari_unet.core.cells.metrics import count_matches, overlaps
from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.models.checkpoint import load_model
from napari_unet.models.device import choose
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.steadiness import sight, steadiness
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = [name for name, kind in KINDS.items() if not kind.is_partial]
    parser.add_argument("--kinds", nargs="+", default=whole, choices=whole)
    parser.add_argument("--crop", type=int, default=512, help="of the images, in pixels")
    options = parser.parse_args()
    data_folder()
    native = PredictConfig(diameter_px=None, channel=None)
    compute = choose(native.device, native.precision)
    found: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SegmentationService(ModelStore(Path(folder)))) as service,
    ):
        for name in options.kinds:
            kind = KINDS[name]
            model = LoadedModel(*load_model(service.store.find(kind.model).path))
            for sample in (s for part in read(kind, options.crop) for s in part):
                labels = service.segment(sample.image, sample.axes, kind.model, native).wait()
                iou, _ = overlaps(sample.truth, labels.labels)
                hits = count_matches(iou, 0.5)
                ap = hits / max(1, sum(iou.shape) - hits)
                plane = model.prepare(get_plane(sample.image, sample.axes, ()))
                nothing = np.zeros(plane.shape[1:], bool)
                seen = AnnotatedPlane(plane, nothing.astype(np.int32), nothing)
                steady = steadiness([sight(model, seen, compute, lambda: None)])
                found.append((ap, steady))
                print(f"{name:9} {sample.name[:16]:16} AP {ap:.3f}, steadiness {steady:.3f}")
    ap, steady = np.array(found).T
    print(f"\n{len(found)} images; rank correlation {spearmanr(ap, steady).statistic:.2f}")
    for low, high in ((0.0, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = ap[(steady >= low) & (steady < high)]
        if len(inside):
            print(
                f"steadiness {low:.1f} to {min(1, high):.1f}: {len(inside)} images, AP "
                f"{inside.min():.2f} to {inside.max():.2f}, median {np.median(inside):.2f}"
            )


if __name__ == "__main__":
    main()
