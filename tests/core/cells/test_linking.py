import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.cells.linking import Linker, Rule, add_up, areas, assign, link, overlaps

SHAPE = (24, 26)


def disc(y, x, radius, shape=SHAPE):
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def linked(planes, rule=None):
    """The planes with the ids of their objects."""
    out = np.zeros_like(planes)
    frames = [areas(plane) for plane in planes]
    found = link(frames, lambda one, other: overlaps(planes[one], planes[other]), rule)
    for plane, (ids, _), objects, to in zip(planes, frames, found, out, strict=True):
        for cell, linked_to in zip(ids, objects, strict=True):
            to[plane == cell] = linked_to
    return out


def partition(labels):
    """Which pixels are together, whatever the ids are."""
    ids, inverse = np.unique(labels, return_inverse=True)
    flat = inverse.ravel()
    firsts = [int(np.flatnonzero(flat == n)[0]) for n in range(len(ids))]
    return np.where(labels.ravel() > 0, np.array(firsts)[flat], -1).tolist()


def renamed(planes, rng):
    """Other ids on each plane, large and small."""
    out = np.zeros(planes.shape, np.int64)
    for plane, to in zip(planes, out, strict=True):
        ids = np.unique(plane[plane > 0])
        new = rng.integers(1, 1000, len(ids)).cumsum() * 10**5 % (2**31 - 1)
        for before, after in zip(ids, rng.permutation(new), strict=True):
            to[plane == before] = after
    return out


@st.composite
def stacks(draw):
    """Planes of a few discs that drift, grow, vanish and touch: (planes, Y, X)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    planes = np.zeros((draw(st.integers(1, 5)), *SHAPE), np.int64)
    for cell in range(1, draw(st.integers(0, 5)) + 1):
        y, x = rng.uniform(0, 24, 2)
        for plane in planes:
            if rng.random() < 0.8:
                plane[disc(y, x, rng.uniform(2, 6))] = cell
            y, x = y + rng.normal(), x + rng.normal()
    return planes


@st.composite
def volumes(draw):
    """Balls in cells of a lattice, so that none lies over another: (Z, Y, X)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    z, y, x = np.indices((16, 32, 32))
    out = np.zeros(z.shape, np.int64)
    corners = draw(st.lists(st.sampled_from([(8, 8), (8, 24), (24, 8), (24, 24)]), unique=True))
    for number, (cy, cx) in enumerate(corners, 1):
        radius, cz = rng.uniform(3, 7), rng.uniform(4, 12)
        flat = rng.uniform(0.6, 1.5)
        ball = ((z - cz) * flat) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
        out[ball] = number
    return out


@pytest.mark.slow
@given(volumes(), st.integers(0, 2**32 - 1))
def test_planes_of_a_volume_give_its_objects(truth, seed):
    planes = renamed(truth, np.random.default_rng(seed))
    assert partition(linked(planes)) == partition(truth)


@given(stacks(), st.integers(0, 2**32 - 1))
def test_names_do_not_matter(planes, seed):
    other = renamed(planes, np.random.default_rng(seed))
    assert np.array_equal(linked(planes), linked(other))


@given(stacks(), st.integers(0, 2))
def test_no_two_cells_of_a_plane_are_one_and_all_are_kept(planes, bridge):
    out = linked(planes, Rule(bridge=bridge))
    assert np.array_equal(out > 0, planes > 0)
    for before, after in zip(planes, out, strict=True):
        assert len(np.unique(before)) == len(np.unique(after))
    ids = np.unique(out[out > 0])
    assert ids.tolist() == list(range(1, len(ids) + 1))


@given(stacks(), st.integers(0, 2))
def test_the_way_along_the_planes_does_not_matter(planes, bridge):
    ious = []
    for gap in range(1, bridge + 2):
        for one, other in zip(planes[:-gap], planes[gap:], strict=True):
            size = [dict(zip(*areas(plane), strict=True)) for plane in (one, other)]
            ious += [
                n / (size[0][a] + size[1][b] - n)
                for a, b, n in zip(*overlaps(one, other), strict=True)
            ]
    assume(len(set(ious)) == len(ious))
    rule = Rule(bridge=bridge)
    back = linked(planes[::-1].copy(), rule)[::-1]
    assert partition(linked(planes, rule)) == partition(back)


def test_the_order_of_planes_matters_not_to_a_stack_that_grows():
    linker, planes = Linker(), np.stack([disc(12, 12, 5)] * 3).astype(int)
    for plane in planes:
        linker.add(*areas(plane), [])
    assert linker.objects().tolist() == [0, 1, 2, 3], "without overlaps nothing is linked"


@pytest.mark.parametrize(("missing", "bridge", "objects"), [(1, 1, 1), (2, 1, 2), (2, 2, 1)])
def test_missing_planes_are_bridged(missing, bridge, objects):
    planes = np.stack([disc(12, 12, 6)] * 8).astype(int)
    planes[3 : 3 + missing] = 0
    assert linked(planes, Rule(bridge=bridge)).max() == objects


def test_what_is_nearer_comes_before_what_is_bridged():
    planes = np.zeros((3, *SHAPE), int)
    planes[0][disc(12, 12, 6)] = 1
    planes[1][disc(12, 13, 6)] = 2
    planes[2][disc(12, 12, 6)] = 3
    planes[2][disc(3, 20, 2)] = 4
    out = linked(planes)
    assert out[0].max() == out[1].max() == out[2][12, 12]
    assert out[2][3, 20] == 2
    # Where a merged pair takes the id of one, the other is found again behind it.
    pair = np.zeros((3, *SHAPE), int)
    for plane in pair[::2]:
        plane[disc(12, 7, 5)], plane[disc(12, 18, 5)] = 1, 2
    pair[1] = (disc(12, 7, 5) | disc(12, 18, 5)) * 5
    out = linked(pair, Rule(min_iou=0.3))
    assert np.array_equal(out[0], out[2])


def test_the_cap_of_a_cell_belongs_to_it_and_a_cell_above_another_does_not():
    planes = np.zeros((8, *SHAPE), int)
    for z, radius in enumerate((2, 7, 8, 8, 7, 2)):
        planes[z][disc(12, 12, radius)] = 1
    assert linked(planes).max() == 1
    assert linked(planes, Rule(cap=0)).max() == 3
    # Four planes of a large cell, then four of a small one within its outline.
    planes = np.stack([disc(12, 12, 9)] * 4 + [disc(10, 12, 4)] * 4).astype(int)
    assert linked(planes).max() == 2


def test_parts_of_planes_add_up():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 40, 30))
    whole = overlaps(a, b)
    parts = add_up(overlaps(a[r], b[r]) for r in (slice(0, 7), slice(7, 25), slice(25, 40)))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(column) for column in add_up([])] == [0, 0, 0]
    assert [len(column) for column in overlaps(a * 0, b)] == [0, 0, 0]


@given(hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 4)))
def test_areas_and_overlaps_count_pixels(a):
    b = np.roll(a, 1)
    ids, sizes = areas(a)
    assert dict(zip(ids, sizes, strict=True)) == {i: (a == i).sum() for i in np.unique(a[a > 0])}
    assert [a.ravel().tolist().index(i) for i in ids] == sorted(
        a.ravel().tolist().index(i) for i in ids
    )
    for one, other, shared in zip(*overlaps(a, b), strict=True):
        assert shared == ((a == one) & (b == other)).sum() > 0


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), st.floats(0.01, 1), max_size=12
    )
)
@settings(max_examples=50)
def test_the_choice_is_one_to_one_and_the_best(values):
    from itertools import permutations

    pairs = np.array(list(values), int).reshape(-1, 2)
    rows, columns = assign(pairs[:, 0], pairs[:, 1], np.array(list(values.values())))
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    total = sum(values[pair] for pair in zip(rows.tolist(), columns.tolist(), strict=True))
    best = max(sum(values.get((r, c), 0) for r, c in enumerate(p)) for p in permutations(range(5)))
    assert total == pytest.approx(best)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="give two of the same size"):
        overlaps(np.zeros((2, 3), int), np.zeros((3, 2), int))
    linker, one = Linker(), np.ones(1, np.int64)
    linker.add(one, one, [])
    with pytest.raises(ValueError, match="names the cell 7, which its plane does not have"):
        linker.add(one, one, [(one * 7, one, one)])
