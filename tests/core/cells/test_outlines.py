from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_unet.core.cells.outlines import propose, resized

SHAPE = (60, 70)


def ellipse(y: float, x: float, height: float, width: float) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mask: np.ndarray = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1
    return mask


def filled(box: tuple[slice, slice], mask: np.ndarray) -> np.ndarray:
    plane = np.zeros(SHAPE, bool)
    plane[box] = mask
    return plane


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@given(st.floats(6, 20), st.floats(6, 20), st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4))
def test_a_clear_cell_is_found_in_an_inexact_box(height, width, jitter):
    cell = ellipse(30, 35, height, width)
    image = np.random.default_rng(0).normal(50, 5, SHAPE) + 60 * cell
    top, bottom, left, right = (
        2 * side * j for side, j in zip((height, height, width, width), jitter, strict=True)
    )
    sides = (30 - height + top, 30 + height + bottom, 35 - width + left, 35 + width + right)
    assert iou(filled(*propose(image[None], sides)), cell) > 0.8


@given(st.lists(st.floats(-5, 64), min_size=4, max_size=4), st.integers(1, 4))
def test_any_box_gives_an_outline_within_the_plane(sides, channels):
    image = np.random.default_rng(0).integers(0, 255, (channels, *SHAPE)).astype(np.uint8)
    (top, bottom), (left, right) = sorted(sides[:2]), sorted(sides[2:])
    assume(0 <= top + bottom <= 2 * 59)
    assume(0 <= left + right <= 2 * 69)
    box, mask = propose(image, (top, bottom, left, right))
    assert mask.shape == image[0][box].shape
    assert mask.any()


def test_a_box_beside_the_plane_is_refused():
    with pytest.raises(ValueError, match="beside the image"):
        propose(np.zeros((1, *SHAPE)), (70, 80, 100, 120))


def test_a_flat_image_gives_the_ellipse_of_the_box():
    found = filled(*propose(np.full((1, *SHAPE), 7, np.uint16), (20, 40, 15, 55)))
    assert iou(found, ellipse(30, 35, 10, 20)) > 0.9


@pytest.mark.parametrize("turn", [-1, 1])
def test_a_long_cell_that_lies_across_is_found(turn):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    along, across = (rows - 30) + turn * (columns - 35), (rows - 30) - turn * (columns - 35)
    cell = (along / 28) ** 2 + (across / 11) ** 2 <= 1
    image = np.random.default_rng(0).normal(50, 5, SHAPE) + 30 * cell
    rows, columns = np.nonzero(cell)
    sides = (rows.min() - 1, rows.max() + 1, columns.min() - 1, columns.max() + 1)
    assert iou(filled(*propose(image[None], sides)), cell) > 0.8


def test_a_cell_that_shows_by_its_texture_is_found():
    cell = ellipse(30, 35, 15, 20)
    rng = np.random.default_rng(0)
    image = np.where(cell, rng.normal(50, 20, SHAPE), rng.normal(50, 4, SHAPE))
    assert iou(filled(*propose(image[None], (13, 46, 13, 57))), cell) > 0.8


def test_a_cell_that_shows_in_one_channel_only_is_found():
    cell = ellipse(30, 35, 8, 12)
    noise = np.random.default_rng(0).normal(0, 30, (3, *SHAPE))
    noise[1] = noise[1] / 10 + 40 * cell
    assert iou(filled(*propose(noise, (21, 38, 24, 48))), cell) > 0.8


@pytest.mark.parametrize("by_px", [1, 3])
def test_an_outline_grows_and_shrinks_within_the_plane(by_px):
    box, mask = propose(ellipse(5, 5, 8, 8)[None] * 99.0, (-3, 13, -3, 13))
    wide = filled(*resized(box, mask, by_px, SHAPE))
    narrow = filled(*resized(box, mask, -by_px, SHAPE))
    one = filled(box, mask)
    assert narrow.sum() < one.sum() < wide.sum()
    assert not (narrow & ~one).any()
    assert not (one & ~wide).any()
    assert filled(*resized(box, mask, -99, SHAPE)).any()
