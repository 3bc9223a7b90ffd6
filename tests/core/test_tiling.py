import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.tiling import plan_tiles, read_mirrored, smallest_input_px, valid_input_px


def mirrored(plane, spans):
    return read_mirrored(lambda box: plane[(slice(None), *box)], plane.shape[1:], spans)


def halo(depth: int) -> int:
    return 6 * 2**depth - 4


@st.composite
def plans(draw, longest: int = 300):
    depth = draw(st.integers(1, 4))
    shape = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    smallest = 13 * 2**depth - 4
    return shape, draw(st.integers(smallest, smallest + 400)), depth


@given(plans())
def test_writes_cover_the_plane_exactly_once(plan):
    shape, _, _ = plan
    count = np.zeros(shape, int)
    for tile in plan_tiles(*plan):
        assert count[tile.write].size
        count[tile.write] += 1
    assert (count == 1).all()


@given(plans())
def test_reads_are_valid_sizes_on_one_lattice_and_not_too_large(plan):
    _, largest_px, depth = plan
    step = 2**depth
    tiles = plan_tiles(*plan)
    for tile in tiles:
        for start, stop in tile.read:
            size = stop - start
            assert size <= largest_px
            assert (size - 4 * (step - 1)) % step == 0
            assert size > 2 * halo(depth)
            assert (start + halo(depth)) % step == 0
    assert len({stop - start for tile in tiles for start, stop in tile.read[:1]}) == 1


@pytest.mark.slow
@given(plans())
def test_the_crop_is_what_the_tile_sees_of_its_write(plan):
    _, _, depth = plan
    for tile in plan_tiles(*plan):
        for (start, stop), write, crop in zip(tile.read, tile.write, tile.crop, strict=True):
            assert start + halo(depth) + crop.start == write.start
            assert crop.stop - crop.start == write.stop - write.start
            assert crop.stop <= stop - start - 2 * halo(depth)


@pytest.mark.slow
@given(plans())
def test_tiles_are_as_few_and_as_small_as_can_be(plan):
    shape, largest_px, depth = plan
    step = 2**depth
    tiles = plan_tiles(*plan)
    for axis, length in enumerate(shape):
        count = len({tile.read[axis] for tile in tiles})
        size = tiles[0].read[axis][1] - tiles[0].read[axis][0]

        def reach(count: int, size: int) -> int:
            """Pixels that this many tiles cover; each but the last forgoes 4."""
            return count * (size - 2 * halo(depth) - 4) + 4

        assert reach(count, size) >= length
        if count > 1:
            assert reach(count - 1, valid_input_px(largest_px, depth)) < length
        if size > smallest_input_px(depth):
            assert reach(count, size - step) < length


def test_the_tile_of_the_paper():
    (tile,) = plan_tiles((388, 388), 572, 4)
    assert tile.read == ((-92, 480), (-92, 480))
    assert tile.write == tile.crop == (slice(0, 388), slice(0, 388))
    assert len(plan_tiles((389, 388), 572, 4)) == 2


@pytest.mark.parametrize(
    ("largest_px", "depth", "expected"),
    [(572, 4, 572), (587, 4, 572), (588, 4, 588), (204, 4, 204), (1024, 4, 1020), (22, 1, 22)],
)
def test_valid_input_sizes(largest_px, depth, expected):
    assert valid_input_px(largest_px, depth) == expected


@pytest.mark.parametrize(("depth", "smallest"), [(1, 22), (2, 48), (3, 100), (4, 204)])
def test_too_small_a_tile_is_named_with_what_is_needed(depth, smallest):
    assert smallest_input_px(depth) == valid_input_px(smallest, depth) == smallest
    sentence = f"{smallest - 1} px is too small for a network of depth {depth}; give {smallest} px"
    with pytest.raises(ValueError, match=sentence):
        plan_tiles((50, 50), smallest - 1, depth)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_plane_is_refused(shape):
    with pytest.raises(ValueError, match=r"the plane is \d x \d px; it needs 1 x 1 or more"):
        plan_tiles(shape, 572, 4)


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20)),
    before=st.tuples(st.integers(0, 70), st.integers(0, 70)),
    after=st.tuples(st.integers(0, 70), st.integers(0, 70)),
)
def test_reading_mirrors_at_the_edges_however_far(shape, before, after):
    plane = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    padded = np.pad(plane, ((0, 0), *zip(before, after, strict=True)), mode="reflect")
    read = tuple((-b, n + a) for b, a, n in zip(before, after, shape[1:], strict=True))
    np.testing.assert_array_equal(mirrored(plane, read), padded)


def test_reading_within_the_plane_is_a_plain_slice():
    plane = np.arange(200, dtype=np.float32).reshape(2, 10, 10)
    np.testing.assert_array_equal(mirrored(plane, ((2, 7), (0, 10))), plane[:, 2:7, 0:10])


def test_reading_wholly_outside_the_plane():
    plane = np.arange(5, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    out = mirrored(plane, ((-12, -8), (5, 6)))
    np.testing.assert_array_equal(out[0, :, 0], [4, 3, 2, 1])


# Stacks


@st.composite
def stack_plans(draw):
    depth = draw(st.integers(1, 3))
    z_depth = draw(st.integers(0, depth))
    shape = tuple(draw(st.integers(1, longest)) for longest in (40, 90, 90))
    smallest = 13 * 2**depth - 4
    # Not so small that a stack takes thousands of tiles.
    return shape, draw(st.integers(smallest + 20, smallest + 120)), (z_depth, depth, depth)


@given(stack_plans())
def test_tiles_of_a_stack_follow_each_axis(plan):
    shape, largest_px, depths = plan
    count = np.zeros(shape, int)
    for tile in plan_tiles(*plan):
        count[tile.write] += 1
        for axis, depth in enumerate(depths):
            (start, stop), write, crop = tile.read[axis], tile.write[axis], tile.crop[axis]
            assert stop - start <= largest_px
            assert valid_input_px(stop - start, depth) == stop - start
            assert (start + halo(depth)) % 2**depth == 0
            assert start + halo(depth) + crop.start == write.start
            assert crop.stop <= stop - start - 2 * halo(depth)
    assert (count == 1).all()


def test_reading_a_stack_mirrors_along_all_axes():
    stack = np.random.default_rng(0).random((2, 3, 5, 4), np.float32)
    pads = ((4, 2), (3, 9), (0, 6))
    read = tuple((-b, n + a) for (b, a), n in zip(pads, stack.shape[1:], strict=True))
    padded = np.pad(stack, ((0, 0), *pads), mode="reflect")
    found = read_mirrored(lambda box: stack[(slice(None), *box)], stack.shape[1:], read)
    np.testing.assert_array_equal(found, padded)


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="the stack is 0 x 5 x 5 px; it needs 1 x 1 x 1 or more"):
        plan_tiles((0, 5, 5), 100, (0, 1, 1))
