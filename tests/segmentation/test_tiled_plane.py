import dataclasses

import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.models.device import Compute
from napari_unet.models.header import ModelHeader
from napari_unet.models.loaded import LoadedModel
from napari_unet.segmentation import planes as segmenting
from napari_unet.segmentation import tiled_plane as large_plane
from napari_unet.segmentation.tiled_plane import PlaneSource, segment_large

CPU = Compute("cpu", "float32")


def model(*, in_channels=1, n_classes=2, distance=True, zoom=1.0, **postprocess) -> LoadedModel:
    """Bright is cell; the other outputs follow from the brightness nearby."""
    network = UNet(
        UNetConfig(depth=2, width=4, in_channels=in_channels, n_classes=n_classes,
                   dropout=0.0, distance=distance)
    )  # fmt: skip
    initialise(network, 3)
    with torch.no_grad():
        for convs in (network.down[0], network.join[-1]):
            for conv in (convs[0], convs[2]):
                conv.weight[0, 0, 1, 1] += 2.0
        network.head.weight[1, 0] += 6.0
        network.head.bias[1] -= 2.0
        # The brightest are cells of the other class.
        network.head.weight[2:n_classes, 0] += 8.0
        network.head.bias[2:n_classes] -= 4.0
    names = ("background", "cell", "large cell")[:n_classes]
    header = ModelHeader(
        name="m", architecture={}, classes=names, zoom=zoom,
        postprocess={"gap_px": 1, "min_size_px": 4, **postprocess},
    )  # fmt: skip
    return LoadedModel(network.eval(), header)


def picture(blobs, shape=(150, 230), channels=1):
    image = blobs(1, shape)[0].astype(np.float32)
    return np.stack([image + 20 * c for c in range(channels)])


CASES = [
    {},
    {"seed_threshold": 0.5},
    {"seed_threshold": 0.5, "radius_px": 4.0},
    {"n_classes": 3, "distance": False},
    {"zoom": 0.61, "seed_threshold": 0.5},
    {"zoom": 1.7, "n_classes": 3},
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("largest_px", [1024, 30])
def test_a_plane_in_blocks_gets_the_labels_of_the_whole(case, largest_px, blobs, monkeypatch):
    monkeypatch.setattr(large_plane, "BLOCK_PX", 48)
    loaded = model(**case, largest_px=largest_px)
    image = picture(blobs)[0]
    plane = PlaneSource(loaded, image, "YX", (), PredictConfig(tile_px=108, diameter_px=None), CPU)
    target = np.full(image.shape, -1, np.int32)
    found = segmenting._segment_large(plane, target, lambda *_: None)

    expected = np.zeros(image.shape, np.int32)
    scored, _ = segmenting._segment(plane, lambda *_: None)
    whole = segmenting._take_known(plane, expected, scored, 0)
    assert len(whole.votes) > 3
    order = np.zeros(len(found.votes) + 1, np.int32)
    order[target.ravel()] = expected.ravel()
    np.testing.assert_array_equal(order[target], expected)
    np.testing.assert_array_equal(np.sort(order[1:]), np.arange(1, len(whole.votes) + 1))
    np.testing.assert_array_equal(found.votes, whole.votes[order[1:] - 1])


@pytest.mark.slow
def test_a_large_plane_is_read_in_parts_and_reported_on(blobs, monkeypatch):
    monkeypatch.setattr(large_plane, "BLOCK_PX", 64)
    image = picture(blobs, (300, 200))[0]
    asked = []

    class Parts:
        shape = image.shape

        def __getitem__(self, key):
            asked.append(image[key].size)
            return image[key]

    plane = PlaneSource(
        model(), Parts(), "YX", (), PredictConfig(tile_px=92, diameter_px=None), CPU
    )
    _ = plane.statistics
    asked.clear()
    told = []
    segment_large(plane, np.zeros(image.shape, np.int32), lambda f, m: told.append((f, m)))
    assert max(asked) <= 92**2
    assert [f for f, _ in told] == sorted(f for f, _ in told)
    assert told[-1][0] < 1
    assert {m for _, m in told} == {"segmenting", "labelling cells"}


def test_the_service_takes_the_way_that_suits_the_size(service, add_model, blobs, monkeypatch):
    add_model("bright")
    config = PredictConfig(device="cpu", precision="float32", tile_px=108)
    image = np.stack([blobs(seed, (120, 140))[0] for seed in (0, 1)])

    def run():
        return service.segment(image, "ZYX", "bright", config).wait(60.0)

    whole = run()
    monkeypatch.setattr(segmenting, "LARGE_PX", 100)
    monkeypatch.setattr(large_plane, "BLOCK_PX", 50)
    parts = run()
    np.testing.assert_array_equal(parts.labels > 0, whole.labels > 0)
    assert dataclasses.replace(parts, labels=whole.labels) == whole
    np.testing.assert_array_equal(parts.labels, whole.labels)
