"""While a model learns, a plane that is looked at is known again as the same one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.plugin.jobs.live_view import LearningView


@pytest.mark.parametrize("channel", [1, "stain", None])
def test_the_same_plane_is_the_same_array_however_often_it_is_looked_at(viewer, channel):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    image = viewer.add_image(pixels, rgb=True)
    learning = LearningView(viewer)
    learning.begin(image, channel)
    first = learning.view.image
    learning.go_on(None)
    assert learning.view.image is first
    image.data = pixels[::-1]
    learning.go_on(None)
    assert learning.view.image is not first
    learning.end()
