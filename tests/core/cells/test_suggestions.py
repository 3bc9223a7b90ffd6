import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.cells.suggestions import contradicted_places, suggest_corrections


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def sure(shape, *doubtful, doubt=0.5):
    scores = np.full(shape, 0.001, np.float32)
    for y, x, radius in doubtful:
        scores[disc(shape, y, x, radius)] = doubt
    return scores


@pytest.mark.parametrize("diameter", [5, 12, 24])
def test_a_doubtful_cell_is_found(diameter):
    scores = sure((200, 240), (70, 160, diameter / 2))
    (place,) = suggest_corrections(scores, diameter)
    assert np.hypot(place.y - 70, place.x - 160) < 0.25 * diameter
    assert 0 < place.weight <= 1


def test_what_was_seen_is_left_out():
    shape = (100, 200)
    scores = sure(shape, (50, 50, 6), (50, 150, 6))
    before = scores.copy()
    (place,) = suggest_corrections(scores, 12, disc(shape, 50, 50, 8))
    assert place.x == pytest.approx(150, abs=3)
    np.testing.assert_array_equal(scores, before)


def test_the_most_doubtful_comes_first_and_only_as_many_as_asked():
    scores = sure((60, 300), (30, 50, 3), (30, 250, 6), (30, 150, 5))
    found = suggest_corrections(scores, 12)
    assert [round(place.x, -1) for place in found] == [250, 150, 50]
    assert suggest_corrections(scores, 12, count=2) == found[:2]


def test_a_line_of_doubt_between_two_cells_counts():
    scores = sure((80, 80))
    scores[30:50, 20:60] = 0.999
    scores[30:50, 39:41] = 0.5
    found = suggest_corrections(scores, 20)
    assert (found[0].y, found[0].x) == (pytest.approx(40, abs=5), pytest.approx(40, abs=3))


def test_nothing_is_asked_where_the_model_is_sure():
    assert suggest_corrections(sure((50, 60)), 12) == []
    assert suggest_corrections(1 - sure((50, 60)), 12) == []


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.floats(1, 60),
    st.integers(0, 30),
    st.integers(0, 99),
    st.sampled_from(["flat", "noise", "smooth"]),
)
def test_places_lie_on_the_plane_and_apart_for_every_shape(shape, diameter, count, seed, kind):
    rng = np.random.default_rng(seed)
    scores = np.full(shape, 0.5, np.float32)
    if kind == "noise":
        scores = rng.random(shape, np.float32)
    elif kind == "smooth":
        scores[:] = np.linspace(0.2, 0.6, shape[1])
    found = suggest_corrections(scores, diameter, count=count)
    assert len(found) <= count
    weights = [place.weight for place in found]
    assert weights == sorted(weights, reverse=True)
    for place in found:
        assert 0 <= place.y <= shape[0] - 1
        assert 0 <= place.x <= shape[1] - 1
    block = max(1, round(diameter / 8))
    for i, one in enumerate(found):
        for other in found[:i]:
            # At the far edge a block may be cut.
            assert max(abs(one.y - other.y), abs(one.x - other.x)) >= 7 * block


def test_a_cell_that_the_model_is_sure_is_none_is_found():
    shape = (100, 120)
    painted = disc(shape, 30, 40, 8) | disc(shape, 70, 90, 8)
    scores = np.where(disc(shape, 30, 40, 8), 0.97, 0.02).astype(np.float32)
    (place,) = contradicted_places(scores, painted, np.ones(shape, bool), 16)
    assert np.hypot(place.y - 70, place.x - 90) < 1.5
    assert place.weight == pytest.approx(1, abs=0.05)
    # The other way round: it is sure of a cell that was erased.
    (place,) = contradicted_places(scores, np.zeros(shape, bool), np.ones(shape, bool), 16)
    assert np.hypot(place.y - 30, place.x - 40) < 1.5


def test_only_what_was_said_is_contradicted():
    shape = (60, 60)
    painted = disc(shape, 30, 30, 8)
    scores = np.full(shape, 0.02, np.float32)
    assert contradicted_places(scores, painted, np.zeros(shape, bool), 16) == []
    assert contradicted_places(scores, painted, ~painted, 16) == []
    half_sure = np.full(shape, 0.2, np.float32)
    assert contradicted_places(half_sure, painted, np.ones(shape, bool), 16) == []


@pytest.mark.parametrize("diameter", [10, 20, 40])
@pytest.mark.parametrize("grown", [-1, 1])
def test_an_outline_one_pixel_off_is_no_slip(diameter, grown):
    shape = (80, 80)
    painted = disc(shape, 40, 40, diameter / 2)
    found = disc(shape, 40, 40, diameter / 2 + grown)
    scores = np.where(found, 0.99, 0.01).astype(np.float32)
    assert contradicted_places(scores, painted, np.ones(shape, bool), diameter) == []


def test_the_largest_slip_comes_first_and_only_as_many_as_asked():
    shape = (60, 200)
    painted = disc(shape, 30, 30, 6) | disc(shape, 30, 100, 9) | disc(shape, 30, 170, 7)
    scores = np.full(shape, 0.01, np.float32)
    found = contradicted_places(scores, painted, np.ones(shape, bool), 14)
    assert [round(place.x, -1) for place in found] == [100, 170, 30]
    assert contradicted_places(scores, painted, np.ones(shape, bool), 14, count=1) == found[:1]


def test_a_slip_is_shown_at_a_pixel_of_it():
    shape = (100, 100)
    ring = disc(shape, 50, 50, 30) & ~disc(shape, 50, 50, 22)
    scores = np.full(shape, 0.01, np.float32)
    (place,) = contradicted_places(scores, ring, np.ones(shape, bool), 20)
    assert ring[round(place.y), round(place.x)]
