"""Cells are told from what lies under them, on dark, grey, coloured and bright images."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.colours import luminance, outline

CELLS = np.arange(1, 65, dtype=np.int32).reshape(8, 8)


def contrast(image: Image) -> float:
    """The least contrast of a cell's colour with the image; 1: none, 21: black on white."""
    colours = labels_like(image, CELLS, "cells", {}).colormap.map(CELLS)[..., :3].reshape(-1, 3)
    ground = float(luminance(image.thumbnail[..., :3].astype(float) / 255).mean())
    pairs = (luminance(colours.astype(float)) + 0.05) / (ground + 0.05)
    return float(np.minimum(np.maximum(pairs, 1 / pairs), 21).min())


@pytest.mark.parametrize(("grey", "least"), [(0, 9), (60, 5), (130, 2), (240, 5), (255, 6)])
def test_cells_stand_out_from_images_of_any_brightness(grey, least):
    image = Image(np.full((8, 8), grey, np.uint8), contrast_limits=(0, 255))
    assert contrast(image) > least


def test_cells_stand_out_from_pink_tissue():
    tissue = np.full((8, 8, 3), (205, 120, 165), np.uint8)
    assert contrast(Image(tissue, rgb=True)) > 1.6
    colours = labels_like(Image(tissue, rgb=True), CELLS, "cells", {}).colormap.map(CELLS)[..., :3]
    assert np.linalg.norm(colours - np.array((205, 120, 165)) / 255, axis=-1).min() > 0.2


def test_neighbouring_numbers_have_colours_of_their_own():
    image = Image(np.zeros((8, 8), np.uint8))
    colours = labels_like(image, CELLS, "cells", {}).colormap.map(np.arange(1, 49))[:, :3]
    apart = np.linalg.norm(np.diff(colours, axis=0), axis=1)
    assert apart.min() > 0.3


def test_filled_cells_let_the_image_through():
    layer = labels_like(Image(np.zeros((8, 8), np.uint8)), CELLS, "cells", {})
    outline(layer, 1)
    assert (layer.contour, layer.opacity) == (1, 1)
    outline(layer, 0)
    assert layer.contour == 0
    assert layer.opacity < 1
