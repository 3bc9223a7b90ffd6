import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.cells.polygons import fill, outlines

SMALL = arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)
)


def filled(labels):
    """The labels again, from their outlines."""
    again = np.zeros_like(labels)
    for cell in outlines(labels):
        for polygon in cell.polygons:
            box, mask = fill(polygon, labels.shape)
            again[box][mask] = cell.label
    return again


@given(SMALL)
def test_outlines_hold_the_same_pixels(labels):
    np.testing.assert_array_equal(filled(labels), labels)


@given(SMALL)
def test_outlines_are_valid_polygons_of_the_same_area(labels):
    for cell in outlines(labels):
        parts = [shapely.Polygon(polygon[0], polygon[1:]) for polygon in cell.polygons]
        assert all(part.is_valid for part in parts), shapely.is_valid_reason(parts)
        whole = shapely.MultiPolygon(parts)
        assert whole.is_valid, shapely.is_valid_reason(whole)
        assert whole.area == cell.area_px == np.count_nonzero(labels == cell.label)
        for part in parts:
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)


@given(SMALL)
def test_rings_turn_at_each_point_and_never_touch_themselves(labels):
    for cell in outlines(labels):
        for ring in (ring for polygon in cell.polygons for ring in polygon):
            assert len(np.unique(ring, axis=0)) == len(ring) >= 4
            steps = np.roll(ring, -1, 0) - ring
            assert (np.count_nonzero(steps, axis=1) == 1).all()
            is_flat = steps[:, 1] == 0
            assert (is_flat != np.roll(is_flat, 1)).all()


def test_a_ring_that_touches_itself_becomes_a_hole():
    labels = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]])
    (cell,) = outlines(labels)
    ((outer, hole),) = cell.polygons
    assert outer.tolist() == [[1, 0], [3, 0], [3, 3], [0, 3], [0, 1], [1, 1]]
    assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_pieces_that_touch_at_a_corner_are_two():
    (cell,) = outlines(np.eye(2, dtype=np.int32))
    assert len(cell.polygons) == 2


def test_large_cells_keep_their_pixels():
    y, x = np.indices((300, 420))
    labels = (np.hypot(y - 150, x - 200) // 40).astype(np.int32) * (x % 7 > 0)
    np.testing.assert_array_equal(filled(labels), labels)


@given(
    st.lists(
        st.tuples(st.floats(-3, 12, width=16), st.floats(-3, 12, width=16)), min_size=3, max_size=7
    )
)
def test_any_polygon_is_filled_where_the_centres_of_pixels_lie_in_it(points):
    """Of polygons that do not cross themselves, and away from their lines."""
    polygon = shapely.Polygon(points)
    box, mask = fill([np.array(points)], (8, 9))
    found = np.zeros((8, 9), bool)
    found[box] = mask
    if not polygon.is_valid:
        return
    y, x = np.indices(found.shape) + 0.5
    centres = shapely.points(x, y)
    is_clear = shapely.distance(polygon.boundary, centres) > 1e-6
    np.testing.assert_array_equal(found[is_clear], shapely.contains(polygon, centres)[is_clear])


@pytest.mark.parametrize("rings", [[], [np.zeros((0, 2))], [np.array([[1, 1], [5, 5]])]])
def test_nothing_is_filled_with_nothing(rings):
    assert not fill(rings, (8, 8))[1].any()


def test_what_lies_beside_the_plane_is_left_out():
    ring = np.array([[-5, -5], [3, -5], [3, 2], [-5, 2]])
    box, mask = fill([ring], (10, 10))
    assert box == (slice(0, 2), slice(0, 3))
    assert mask.all()
    assert fill([ring + 100], (10, 10))[1].size == 0
