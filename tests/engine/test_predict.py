import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.cells.instances import label_instances
from napari_unet.core.network.unet import UNet, UNetConfig, initialise
from napari_unet.engine import predict
from napari_unet.engine.predict import Predictor, foreground_scores, in_16_bits

CPU = torch.device("cpu")


@cache
def make(depth: int, in_channels: int = 1, n_classes: int = 2, width: int = 4) -> UNet:
    config = UNetConfig(depth=depth, width=width, in_channels=in_channels, n_classes=n_classes)
    network = UNet(config).eval()
    initialise(network, seed=3)
    with torch.no_grad():  # logits of about unit size, so that errors are what they seem
        image = torch.rand(1, in_channels, 316, 316, generator=torch.Generator().manual_seed(0))
        spread = network(image).std()
        assert spread > 0.1, "it is alive"
        network.head.weight /= spread
    return network


@torch.inference_mode()
def untiled(network: UNet, plane):
    """The whole plane in one piece, continued by NumPy's mirroring."""
    step = 2**network.config.depth
    halo = 6 * step - 4
    # The output is a multiple of the step and 4 more.
    after = [halo + max(step, -(-(n - 4) // step) * step) + 4 - n for n in plane.shape[1:]]
    padded = np.pad(plane, ((0, 0), (halo, after[0]), (halo, after[1])), mode="reflect")
    logits = network(torch.from_numpy(padded).to(network.head.weight)[None])[0].float().numpy()
    return logits[:, : plane.shape[1], : plane.shape[2]]


@st.composite
def cases(draw):
    depth = draw(st.sampled_from([1, 1, 2, 2, 3, 4]))
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 150), st.integers(1, 150)))
    smallest = 13 * 2**depth - 4
    # Not so small that a plane takes hundreds of tiles.
    least = smallest + max(shape[1:]) // 6
    return depth, shape, draw(st.integers(least, least + 120))


@pytest.mark.slow
@settings(max_examples=150)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_tiled_equals_untiled(case, seed):
    depth, shape, tile_px = case
    network = make(depth, shape[0])
    plane = np.random.default_rng(seed).random(shape, np.float32)
    logits = Predictor(network, CPU).logits(plane, tile_px)
    assert logits.dtype == np.float32
    expected = untiled(network, plane)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.slow
@settings(max_examples=40)
@given(
    depth=st.integers(1, 4),
    height=st.integers(1, 600),
    width=st.integers(1, 600),
    spare=st.integers(0, 200),
    seed=st.integers(0, 99),
)
def test_tiled_equals_untiled_up_to_600_px(depth, height, width, spare, seed):
    network = make(depth)
    plane = np.random.default_rng(seed).random((1, height, width), np.float32)
    tile_px = 13 * 2**depth - 4 + max(height, width) // 4 + spare
    logits = Predictor(network, CPU).logits(plane, tile_px)
    expected = untiled(network, plane)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.slow
@settings(max_examples=50)
@given(case=cases())
def test_tiled_equals_untiled_to_the_last_digit_in_double_precision(case):
    depth, shape, tile_px = case
    network = copy.deepcopy(make(depth, shape[0])).double()
    plane = np.random.default_rng(0).random(shape, np.float32)
    logits = Predictor(network, CPU, torch.float64).logits(plane, tile_px)
    np.testing.assert_allclose(logits, untiled(network, plane), rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_tiles_that_are_started_before_others_are_fetched_land_where_they_belong(ahead):
    network = make(2)
    plane = np.random.default_rng(0).random((1, 90, 70), np.float32)
    told = []
    predictor = Predictor(network, CPU)
    expected = predictor.logits(plane, 80)
    predictor._ahead = ahead
    logits = predictor.logits(plane, 80, lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(logits, expected)
    assert [done for done, _ in told] == list(range(told[0][1] + 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_gpu_finds_what_the_processor_finds():
    network = make(3)
    plane = np.random.default_rng(0).random((1, 300, 200), np.float32)
    gpu = Predictor(network, torch.device("cuda")).logits(plane, 204)
    np.testing.assert_allclose(gpu, Predictor(network, CPU).logits(plane, 204), atol=0.02)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_smallest_tiles_show_no_seam_either(depth):
    network = make(depth, n_classes=3)
    plane = np.random.default_rng(0).random((1, 61, 45), np.float32)
    tiled = Predictor(network, CPU).logits(plane, 13 * 2**depth - 4)
    assert tiled.shape == (3, 61, 45)
    np.testing.assert_allclose(tiled, untiled(network, plane), rtol=0, atol=1e-5)


def test_the_step_of_the_paper_would_show_seams():
    # What the test above can see: tiles that are off the lattice by the 4 extra pixels.
    network = make(4)
    plane = np.random.default_rng(0).random((1, 44, 20), np.float32)
    whole = untiled(network, plane)
    beside = untiled(network, plane[:, 20:])
    assert np.abs(whole[:, 20:] - beside).max() > 0.01


@pytest.mark.slow
def test_labels_do_not_depend_on_the_tile():
    network = make(4)
    rows, columns = np.indices((400, 440))
    waves = np.sin(rows / 7) * np.sin(columns / 9) + np.random.default_rng(0).random((400, 440)) / 5
    predictor = Predictor(network, CPU, torch.float64)
    small, paper, large = (
        foreground_scores(predictor.logits(waves[None].astype(np.float32), tile_px))
        for tile_px in (284, 572, 1020)
    )
    middle = float(np.median(small))
    labels = label_instances(small, middle)
    assert labels.max() > 10
    np.testing.assert_array_equal(label_instances(paper, middle), labels)
    np.testing.assert_array_equal(label_instances(large, middle), labels)


def test_tiles_are_counted():
    calls = []
    plane = np.zeros((1, 100, 100), np.float32)
    Predictor(make(2), CPU).logits(plane, 92, lambda done, total: calls.append((done, total)))
    assert calls == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("stop_at", [0, 3])
def test_a_job_can_be_stopped_between_tiles(stop_at):
    class StopError(Exception):
        pass

    seen = []

    def on_tile(done, total):
        seen.append(done)
        if done == stop_at:
            raise StopError

    with pytest.raises(StopError):
        Predictor(make(2), CPU).logits(np.zeros((1, 100, 100), np.float32), 92, on_tile)
    assert seen == list(range(stop_at + 1))


def test_another_number_of_channels_is_named():
    predictor = Predictor(make(1), CPU)
    sentence = "the image has 3 channels and the model takes 1; choose the channels or another"
    with pytest.raises(ValueError, match=sentence):
        predictor.logits(np.zeros((3, 40, 40), np.float32), 100)


def test_too_small_a_tile_is_named():
    with pytest.raises(ValueError, match=r"a tile of 100 px is too small .*; give 204 px or more"):
        Predictor(make(4), CPU).logits(np.zeros((1, 40, 40), np.float32), 100)


def test_the_network_is_left_as_it_is():
    network = UNet(UNetConfig(depth=1, width=2)).train()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predictor = Predictor(network, CPU, torch.bfloat16)
    predictor.logits(np.zeros((1, 9, 9), np.float32), 100)
    assert network.training
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, weights[name])


def test_what_becomes_of_the_network_later_does_not_matter():
    network, plane = UNet(UNetConfig(depth=1, width=2)), np.zeros((1, 9, 9), np.float32)
    predictor = Predictor(network, CPU)
    logits = predictor.logits(plane, 100)
    with torch.no_grad():
        network.head.bias += 1
    np.testing.assert_array_equal(predictor.logits(plane, 100), logits)


def test_dropout_is_off():
    network = UNet(UNetConfig(depth=1, width=4)).train()
    plane = np.random.default_rng(0).random((1, 30, 30), np.float32)
    predictor = Predictor(network, CPU)
    np.testing.assert_array_equal(predictor.logits(plane, 100), predictor.logits(plane, 100))


def test_convolutions_joined_with_their_relu_give_the_same_numbers(monkeypatch):
    network, plane = make(2, width=8), np.random.default_rng(0).random((1, 90, 90), np.float32)
    joined = Predictor(network, CPU, torch.bfloat16).logits(plane, 100)
    monkeypatch.setattr(predict, "_fuse", lambda network: None)
    apart = Predictor(network, CPU, torch.bfloat16).logits(plane, 100)
    np.testing.assert_array_equal(joined, apart)


def test_bfloat16_comes_close_and_comes_back_as_float32():
    network = make(2, width=8)
    plane = np.random.default_rng(0).random((1, 50, 60), np.float32)
    exact = Predictor(network, CPU).logits(plane, 100)
    rough = Predictor(network, CPU, torch.bfloat16).logits(plane, 100)
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max())


def test_a_plane_that_is_a_view_gives_the_same_logits():
    predictor = Predictor(make(1), CPU)
    plane = np.random.default_rng(0).random((1, 40, 60), np.float32)
    turned = np.ascontiguousarray(plane.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(predictor.logits(turned, 50), predictor.logits(plane, 50))


@given(
    arrays(
        np.float32, st.sampled_from([(2, 3, 4), (3, 4, 2)]), elements=st.floats(-1e4, 1e4, width=32)
    )
)
def test_foreground_scores_equal_those_of_softmax(logits):
    expected = 1 - torch.from_numpy(logits).double().softmax(0)[0].numpy()
    scores = foreground_scores(logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e30, 3e38])
def test_foreground_scores_of_huge_logits_are_0_or_1(size):
    logits = np.array([[[size, -size]], [[-size, size]]], np.float32)
    np.testing.assert_array_equal(foreground_scores(logits), [[0, 1]])


@given(arrays(np.float32, (2, 9), elements=st.floats(0, 1, width=32)))
def test_scores_in_16_bits_are_those_of_numpy(scores):
    np.testing.assert_array_equal(in_16_bits(scores), scores.astype(np.float16))


def test_logits_that_are_no_numbers_are_no_labels():
    network = UNet(UNetConfig(depth=1, width=2, dropout=0.0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e30)
    predictor = Predictor(network, CPU)
    with pytest.raises(FloatingPointError, match="gives no numbers for this image: its weights"):
        predictor.logits(np.ones((1, 20, 20), np.float32), 64)
