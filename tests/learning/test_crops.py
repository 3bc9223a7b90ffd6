import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.config import FinetuneConfig
from napari_unet.core.network.unet import halo_px, output_px
from napari_unet.core.tiling import smallest_input_px, valid_input_px
from napari_unet.engine.samples import AnnotatedPlane
from napari_unet.learning.crops import tile_px, with_tiles
from napari_unet.learning.training import NewModel, new_model

DEFAULT = FinetuneConfig()


def model(depth=3, diameter_px=None):
    made = new_model(NewModel(depth=depth, width=2), "m", seed=0)
    made.header = dataclasses.replace(made.header, diameter_px=diameter_px)
    return made


def plane(diameter_px, seen=None):
    """A plane with one disc."""
    rows, columns = np.indices((200, 200)) - 99.5
    labels = (np.hypot(rows, columns) < diameter_px / 2).astype(np.int32)
    return AnnotatedPlane(labels[None].astype(np.float32), labels, seen)


@given(depth=st.integers(1, 6), cell_px=st.floats(0, 1e4))
def test_tiles_are_valid_and_show_whole_cells(depth, cell_px):
    side = tile_px(depth, cell_px)
    assert side == valid_input_px(side, depth)
    assert output_px(side, depth) >= min(1.7 * cell_px, 236 - 2 * halo_px(depth))
    assert output_px(side, depth) >= min(44, 236 - 2 * halo_px(depth))
    assert side <= max(236, smallest_input_px(depth))
    assert tile_px(depth, cell_px + 10) >= side


@pytest.mark.parametrize(
    ("depth", "cell_px", "side"),
    [
        (3, 8, 132),
        (3, 25, 132),
        (3, 28, 172),
        (3, 33, 236),
        (3, 60, 236),
        (1, 25, 132),
        (4, 8, 236),
    ],
)
def test_tiles_grow_with_the_cells(depth, cell_px, side):
    assert with_tiles(DEFAULT, model(depth), [plane(cell_px)], "cpu").tile_px == side


def test_tiles_suit_the_cells_that_the_model_knows_as_well():
    small, large = plane(10), plane(80)
    for diameter_px, zoom, shown, side in (
        (None, 1.0, small, 132),
        (56, 0.5, small, 172),
        (56, 0.5, plane(0), 172),
        (56, 0.2, large, 236),
    ):
        made = model(diameter_px=diameter_px)
        made.header = dataclasses.replace(made.header, zoom=zoom)
        assert with_tiles(DEFAULT, made, [shown], "cpu").tile_px == side


def test_a_gpu_gets_large_tiles():
    assert with_tiles(DEFAULT, model(), [plane(24)], "cuda").tile_px == 236


def test_a_given_side_stays():
    given_side = FinetuneConfig(tile_px=188)
    assert with_tiles(given_side, model(), [plane(24)], "cpu") == given_side
