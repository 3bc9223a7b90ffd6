import dataclasses

import numpy as np
import pytest
import torch

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.core.network.unet import UNetConfig
from napari_unet.engine.augmentation_preview import preview
from napari_unet.engine.samples import AnnotatedPlane, Sampler

PLAIN = AugmentConfig(elastic_sigma_px=0, rotate=False, flip=False, scale=1.0, grey=0.0, noise=0.0)
HALO = 20


def sampler(augment: AugmentConfig | None = None, seed: int = 3) -> Sampler:
    rng = np.random.default_rng(0)
    image = rng.random((2, 200, 160), np.float32)
    labels = np.zeros((200, 160), np.int32)
    labels[20:60, 20:60], labels[60:120, 20:60], labels[100:180, 90:140] = 1, 2, 3
    config = FinetuneConfig(steps=1, tile_px=92, augment=augment or AugmentConfig(), seed=seed)
    network = UNetConfig(depth=2, width=2, in_channels=2)
    return Sampler([AnnotatedPlane(image, labels)], network, config, torch.device("cpu"))


def test_shapes_and_types():
    shown = preview(sampler(), depth=2, draws=3)
    types = {
        "image": np.float32,
        "grid": np.uint8,
        "deformed_image": np.float32,
        "deformed_grid": np.uint8,
        "deformed_labels": np.int32,
        "weight": np.float32,
    }
    assert {field.name for field in dataclasses.fields(shown)} == set(types)
    for name, dtype in types.items():
        channels = (2,) if name in ("image", "deformed_image") else ()
        assert getattr(shown, name).shape == (3, 52, 52, *channels)
        assert getattr(shown, name).dtype == dtype


def test_what_is_shown_is_what_training_draws():
    shown, drawn = preview(sampler(), depth=2, draws=3), sampler()
    for index in range(3):
        sample = drawn.draw()
        image = sample.image[:, HALO:-HALO, HALO:-HALO].numpy()
        np.testing.assert_array_equal(np.moveaxis(shown.deformed_image[index], -1, 0), image)
        np.testing.assert_array_equal(shown.deformed_labels[index], sample.labels)
        np.testing.assert_array_equal(shown.weight[index], sample.weight.numpy())


def test_the_lines_are_deformed_and_regular_before():
    shown = preview(sampler(), depth=2, draws=4)
    assert set(np.unique(shown.grid)) == {0, 1}
    for before, after in zip(shown.grid, shown.deformed_grid, strict=True):
        lines = before.all(axis=0).sum() + before.all(axis=1).sum()
        assert lines >= 2, "some rows and columns are lines from end to end"
        assert after.any()
        assert not np.array_equal(before, after)


@pytest.mark.parametrize("seed", range(3))
def test_without_augmentation_nothing_is_deformed(seed):
    # The middle of an even window lies between two pixels, so it may be off by half of one.
    shown = preview(sampler(PLAIN, seed), depth=2, draws=1)
    ys, xs = np.nonzero(shown.grid[0])
    for y, x in zip(ys, xs, strict=True):
        near = shown.deformed_grid[0][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert near.any()
