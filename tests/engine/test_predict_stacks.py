from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.network.unet import UNet, UNetConfig, halo_px, initialise
from napari_unet.engine.predict import Predictor

CPU = torch.device("cpu")


@cache
def make(depth: int, z_depth: int, in_channels: int = 1) -> UNet:
    network = UNet(UNetConfig(depth=depth, width=3, in_channels=in_channels, z_depth=z_depth))
    initialise(network, seed=3)
    return network.eval()


@torch.inference_mode()
def untiled(network: UNet, stack):
    """The whole stack in one piece, continued by NumPy's mirroring."""
    pads = []
    for n, depth in zip(stack.shape[1:], network.config.depths, strict=True):
        step, halo = 2**depth, halo_px(depth)
        pads.append((halo, halo + max(step, -(-(n - 4) // step) * step) + 4 - n))
    padded = np.pad(stack, ((0, 0), *pads), mode="reflect")
    logits = network(torch.from_numpy(padded).to(network.head.weight)[None])[0].float().numpy()
    z, y, x = stack.shape[1:]
    return logits[:, :z, :y, :x]


@st.composite
def cases(draw):
    depth, z_depth = draw(st.sampled_from([(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]))
    shape = tuple(draw(st.integers(1, longest)) for longest in (2, 30, 50, 50))
    # Not so small that a stack takes hundreds of tiles.
    least = 13 * 2**depth - 4 + max(shape) // 4
    return depth, z_depth, shape, draw(st.integers(least, least + 40))


@pytest.mark.slow
@settings(max_examples=60)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_tiled_equals_untiled_for_every_stack(case, seed):
    depth, z_depth, shape, tile_px = case
    network = make(depth, z_depth, shape[0])
    stack = np.random.default_rng(seed).random(shape, np.float32)
    logits = Predictor(network, CPU).logits(stack, tile_px)
    assert logits.dtype == np.float32
    expected = untiled(network, stack)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("z_depth", [0, 1])
def test_the_smallest_tiles_of_a_stack_show_no_seam_either(z_depth):
    network = make(1, z_depth)
    stack = np.random.default_rng(0).random((1, 9, 11, 10), np.float32)
    tiled = Predictor(network, CPU).logits(stack, 22)
    assert tiled.shape == (2, 9, 11, 10)
    np.testing.assert_allclose(tiled, untiled(network, stack), rtol=0, atol=1e-5)


def test_tiles_of_a_stack_are_counted_and_may_be_stopped():
    class StopError(Exception):
        pass

    seen = []

    def on_tile(done, total):
        seen.append((done, total))
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        Predictor(make(1, 0), CPU).logits(np.zeros((1, 9, 30, 30), np.float32), 40, on_tile)
    assert seen == [(0, 4), (1, 4), (2, 4)]
