"""Scores that stay in memory, and the cells that are found in them again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.segmentation.planes import again
from napari_unet.service.segmentation import SegmentationService

SOON = 60.0
# Not resized, in 32 bits.
PLAIN = PredictConfig(diameter_px=None, channel=None, precision="float32")


@pytest.fixture
def service(store):
    service = SegmentationService(store)
    yield service
    service.close()


def test_other_settings_give_the_labels_of_a_segment_with_them(service, add_model, blobs):
    add_model("m")
    image, _ = blobs()
    found = service.segment(image, "YX", "m", PLAIN).wait(SOON)
    for settings in ({}, {"threshold": 0.9}, {"min_size_px": 115}):
        config = replace(PLAIN, **settings)
        whole = service.segment(image, "YX", "m", config).wait(SOON)
        drawn = again(found, config)
        np.testing.assert_array_equal(drawn.labels, whole.labels)
        assert (drawn.n_cells, drawn.kinds) == (whole.n_cells, whole.kinds)
        assert drawn.diameter_px == whole.diameter_px
    assert drawn.n_cells < found.n_cells


def test_settings_of_a_resized_image_are_in_its_own_pixels(service, add_model, blobs):
    add_model("m", diameter_px=24.0)
    found = service.segment(blobs()[0], "YX", "m", replace(PLAIN, diameter_px=12.0)).wait(SOON)
    assert found.scores.zoom == 2
    assert found.scores.defaults == (0.5, 4)


def test_scores_are_those_of_one_plane_in_16_bits(service, add_model, blobs):
    add_model("m")
    stack = np.stack([blobs(seed)[0] for seed in range(3)])
    found = service.segment(stack, "ZYX", "m", PLAIN, [(1,), (0,), (2,)]).wait(SOON)
    assert found.scores.index == (1,)
    assert found.scores.foreground.dtype == np.float16
    drawn = again(found, replace(PLAIN, threshold=0.9))
    assert drawn.planes == ((1,),)
    assert drawn.labels[1].any()
    assert not drawn.labels[[0, 2]].any()


def test_where_no_scores_are_kept(service, add_model, blobs, monkeypatch):
    add_model("m")
    image, _ = blobs()
    box = (slice(0, 40), slice(0, 40))
    part = service.segment(image, "YX", "m", PLAIN, box=box).wait(SOON)
    linked = service.segment(np.stack([image] * 2), "ZYX", "m", replace(PLAIN, link="z"))
    in_3d = service.segment(np.stack([image] * 2), "ZYX", "m", replace(PLAIN, in_3d=True))
    monkeypatch.setattr("napari_unet.segmentation.kept_scores._LARGEST_PX", image.size - 1)
    large = service.segment(image, "YX", "m", PLAIN)
    for found in (part, linked.wait(SOON), in_3d.wait(SOON), large.wait(SOON)):
        assert found.scores is None
        with pytest.raises(ValueError, match="no scores of this result are in memory"):
            again(found, PLAIN)
