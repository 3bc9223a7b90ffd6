import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core import intensity
from napari_unet.core.intensity import (
    Normalisation,
    Statistics,
    match_channels,
    measure,
    normalise,
    spread_dye,
)

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32"]


def ramp(dtype: str = "float32", n: int = 101) -> np.ndarray:
    """(1, 1, n) from 0 to n - 1: the percentiles are the values."""
    return np.arange(n).reshape(1, 1, n).astype(dtype)


@pytest.mark.parametrize("dtype", [*DTYPES, "float64", ">u2"])
def test_percentiles_become_0_and_1_for_every_dtype(dtype):
    if dtype == "bool":
        plane, expected = np.eye(4, dtype=bool)[None], np.eye(4)[None]
    else:
        plane, expected = ramp(dtype), (ramp("float64") - 10) / 80
    out, statistics = normalise(plane, Normalisation(low=10, high=90))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    if dtype != "bool":
        assert statistics == Statistics((10.0,), (90.0,))


def test_the_default_percentiles():
    assert measure(ramp(n=1001)) == Statistics((10.0,), (pytest.approx(998.0),))


@pytest.mark.parametrize("factor", [1e-30, 1e30, 1e200])
def test_a_factor_on_the_intensities_changes_nothing(factor):
    plane = np.random.default_rng(0).random((1, 20, 20))
    np.testing.assert_allclose(normalise(plane * factor)[0], normalise(plane)[0], atol=1e-6)


def test_large_offsets_keep_their_digits():
    plane = ramp("int64") + 2**40
    np.testing.assert_allclose(normalise(plane)[0], normalise(ramp())[0], atol=1e-6)


def test_channels_are_scaled_on_their_own():
    first, second = ramp()[0], 1000 - 5 * ramp()[0]
    out, statistics = normalise(np.stack([first, second]), Normalisation(low=0, high=100))
    np.testing.assert_allclose(out[0], 1 - out[1], atol=1e-6)
    assert statistics == Statistics((0.0, 500.0), (100.0, 1000.0))


def test_values_are_clipped():
    plane = ramp()
    plane[0, 0, 0], plane[0, 0, -1] = -1e6, 1e6
    out, _ = normalise(plane, Normalisation(low=10, high=90, clip=0.5))
    assert (out.min(), out.max()) == (-0.5, 1.5)
    assert out[0, 0, 50] == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_number_is_left_out(dtype):
    clean, plane = ramp(dtype), ramp(dtype)
    plane = np.concatenate([plane, np.array([[[np.nan, np.inf, -np.inf]]], dtype)], axis=2)
    assert measure(plane) == measure(clean)
    out, _ = normalise(plane)
    np.testing.assert_array_equal(out[..., :-3], normalise(clean)[0])
    np.testing.assert_array_equal(out[0, 0, -3:], [0, 2, -1])


@pytest.mark.parametrize("value", [0.0, 7.0, -1e9, np.nan, np.inf])
def test_a_constant_channel_becomes_0(value):
    out, _ = normalise(np.full((1, 5, 5), value))
    assert not out[np.isfinite(out)].any() or value == np.inf
    assert np.isfinite(out).all()


def test_a_constant_with_infinities_is_finite():
    plane = np.zeros((1, 4, 4), np.float32)
    plane[0, 0, :3] = np.nan, np.inf, -np.inf
    assert not normalise(plane)[0].any()


def test_statistics_are_reused():
    movie = np.random.default_rng(0).integers(0, 1000, (3, 1, 20, 20))
    first, statistics = normalise(movie[0])
    second, used = normalise(movie[1], statistics=statistics)
    assert used is statistics
    np.testing.assert_array_equal(normalise(movie[0], statistics=statistics)[0], first)
    (low,), (high,) = statistics.low, statistics.high
    np.testing.assert_allclose(second, np.clip((movie[1] - low) / (high - low), -1, 2), atol=1e-6)


def test_statistics_of_another_number_of_channels_are_refused():
    with pytest.raises(ValueError, match="zip"):
        normalise(np.zeros((2, 5, 5)), statistics=Statistics((0.0,), (1.0,)))


def test_large_planes_are_measured_on_a_subset(monkeypatch):
    plane = np.random.default_rng(0).normal(500, 100, (1, 400, 500))
    exact = measure(plane)
    sizes = []
    percentile = np.percentile
    monkeypatch.setattr(intensity, "_SAMPLE_PX", 10_000)
    monkeypatch.setattr(
        np, "percentile", lambda values, q: (sizes.append(values.size), percentile(values, q))[1]
    )
    rough = measure(plane)
    assert 5_000 < sizes[0] <= 10_000
    assert rough.low[0] == pytest.approx(exact.low[0], abs=15)
    assert rough.high[0] == pytest.approx(exact.high[0], abs=30)
    assert rough != exact


def test_the_plane_itself_is_left_alone():
    plane = ramp("float32")
    plane[0, 0, 3] = np.nan
    copy = plane.copy()
    normalise(plane)
    np.testing.assert_array_equal(plane, copy)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (2, 2), (3, 3)])
def test_as_many_channels_as_needed_are_passed_on(count, channels):
    plane = np.random.default_rng(0).random((count, 4, 5), np.float32)
    assert match_channels(plane, channels) is plane


@pytest.mark.parametrize("count", [3, 4])
def test_colours_become_luma(count):
    plane = np.zeros((count, 2, 2), np.float32)
    plane[:3] = 0.5
    plane[1, 0, 0] = 1.0
    out = match_channels(plane, 1)
    assert out.shape == (1, 2, 2)
    assert out.dtype == np.float32
    assert out[0, 1, 1] == pytest.approx(0.5), "grey stays as bright as it was"
    assert 0.5 + 0.5 * 0.58 < out[0, 0, 0] < 0.5 + 0.5 * 0.73, "green is most of it"


def test_one_channel_is_repeated():
    plane = np.random.default_rng(0).random((1, 4, 5), np.float32)
    out = match_channels(plane, 3)
    np.testing.assert_array_equal(out, np.repeat(plane, 3, axis=0))


def test_alpha_is_dropped():
    plane = np.random.default_rng(0).random((4, 4, 5), np.float32)
    np.testing.assert_array_equal(match_channels(plane, 3), plane[:3])


@pytest.mark.parametrize(("count", "channels"), [(2, 1), (5, 1), (3, 2), (2, 3)])
def test_other_numbers_of_channels_are_named(count, channels):
    sentence = f"the image has {count} channels and the model takes {channels}; choose one channel"
    with pytest.raises(ValueError, match=sentence):
        match_channels(np.zeros((count, 4, 4), np.float32), channels)


def cells(seed, ground=30.0, height=70.0, share=0.2):
    """A noisy ground and brighter cells over a share of it, (1, 96, 96)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((96, 96))
    period = 24
    away = np.hypot(rows % period - 12, columns % period - 12)
    inside = away < period * np.sqrt(share / np.pi)
    return (rng.normal(ground, 2, (96, 96)) + height * inside)[None]


@given(
    st.integers(0, 5),
    st.integers(4, 16),
    st.sampled_from([-1e6, -1e4, 1e4, 1e6]),
    st.sampled_from(["corner", "dots", "line"]),
)
def test_a_few_specks_do_not_set_the_contrast(seed, side, value, where):
    image = cells(seed)
    specked = image.copy()
    if where == "corner":
        specked[0, :side, :side] = value
    elif where == "line":
        specked[0, 50, : 8 * side] = value
    else:
        dots = np.random.default_rng(seed).choice(image.size, side**2, replace=False)
        specked.reshape(-1)[dots] = value
    (low,), (high,) = dataclasses.astuple(measure(specked))
    (expected_low,), (expected_high,) = dataclasses.astuple(measure(image))
    span = expected_high - expected_low
    assert low == pytest.approx(expected_low, abs=0.1 * span)
    assert high == pytest.approx(expected_high, abs=0.1 * span)


@pytest.mark.slow
@given(
    st.integers(0, 5),
    st.sampled_from([0.005, 0.02, 0.1, 0.3, 0.6]),
    st.sampled_from([20.0, 200.0, 60_000.0, -25.0]),
    st.booleans(),
)
def test_cells_are_no_specks_however_few_or_bright_they_are(seed, share, height, whole):
    image = cells(seed, height=height, share=share)
    if whole:
        image = image.clip(0, None).round().astype(np.uint16)
    stats = measure(image)
    assert stats.low == (np.percentile(image.astype(np.float64), 1.0),)
    assert stats.high == (np.percentile(image.astype(np.float64), 99.8),)


@given(arrays(np.uint8, (1, 20, 20)))
def test_pixels_of_8_bits_are_measured_by_percentiles_alone_where_they_fill_their_range(image):
    image[0, :4] = np.linspace(0, 255, 80).reshape(4, 20)
    stats = measure(image)
    assert (stats.low[0], stats.high[0]) == tuple(np.percentile(image, (1.0, 99.8)))


def test_a_dark_colour_takes_the_others_and_a_pale_one_stays():
    rng = np.random.default_rng(0)
    nuclei = rng.random((40, 50)).astype(np.float32)
    red = np.stack([255 * nuclei, 4 * nuclei, 0 * nuclei])
    plane, used = normalise(red)
    for colour in spread_dye(plane, used):
        np.testing.assert_array_equal(colour, plane[0])
    # Violet on white: blue has little contrast, and is bright.
    violet = np.stack([255 - 150 * nuclei, 250 - 200 * nuclei, 250 - 30 * rng.random((40, 50))])
    plane, used = normalise(violet)
    np.testing.assert_array_equal(spread_dye(plane, used), plane)


def test_close_percentiles_take_few_tries(monkeypatch):
    tries = []
    percentile = np.percentile
    monkeypatch.setattr(np, "percentile", lambda *args: tries.append(1) or percentile(*args))
    plane = np.random.default_rng(0).integers(0, 255, (1, 40, 44)).astype(np.uint8)
    measure(plane, Normalisation(low=1, high=2))
    assert len(tries) <= 2 * 2**4
