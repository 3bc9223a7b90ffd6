"""Labels that are a mask: the dock says what it makes of them."""

from __future__ import annotations

import numpy as np
import pytest

MASK = "the labels hold one value (255) in 3 separate pieces: a mask"
DONE = f"{MASK}, so each piece is a cell, and cells that touch are one"


@pytest.fixture
def widget(docked_by_napari, settle, image):
    widget = docked_by_napari
    widget.viewer.add_image(image, name="cells")
    mask = (image > 100).astype(np.uint8) * np.uint8(255)
    widget.viewer.add_labels(mask, name="mask")
    settle(widget)
    assert widget.labels.value.name == "mask"
    return widget


def test_a_mask_is_split_and_that_is_said_before_and_after_it_teaches(widget, settle):
    count = widget.correcting.count.text()
    assert count == f'All 3 cells of "mask" are used as examples; {DONE}'
    widget.budget.choices = (("a moment", 0.5),)
    widget.finetune_button.click()
    settle(widget)
    assert f". T{DONE[1:]}" in widget.status.text()


def test_a_mask_that_is_measured_is_said_to_be_one(widget, settle):
    widget.measuring.measure.click()
    settle(widget)
    told = widget.status.text()
    assert told.startswith("1 cell measured"), told
    assert f"{MASK}, and each value was measured as one cell; give one number to each" in told


@pytest.mark.slow
def test_labels_with_a_number_for_each_cell_are_no_mask(widget, settle, image):
    from scipy import ndimage

    widget.viewer.add_labels(ndimage.label(image > 100)[0], name="cells of mine")
    settle(widget)
    count = widget.correcting.count.text()
    assert count == 'All 3 cells of "cells of mine" are used as examples'
    widget.segment_button.click()
    settle(widget)
    # Two cells that are painted with one number in a result are two cells, as ever.
    labels = widget.labels.value
    labels.brush_size = 6
    labels.paint((80, 80), 9)
    labels.paint((8, 60), 9)
    settle(widget)
    assert "mask" not in widget.correcting.count.text()
