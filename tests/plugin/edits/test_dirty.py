"""Comparing only where napari says that something was painted finds what comparing all finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from napari_unet.plugin.edits.draft_cells import draft_of
from napari_unet.plugin.edits.marks import box_mark
from napari_unet.plugin.edits.tracker import EditTracker, Survey
from napari_unet.plugin.viewer.record import record_of

SIZE = 48
places = st.integers(0, SIZE - 1)
ids = st.integers(0, 9)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("stroke"), places, places, ids, st.integers(1, 12)),
        st.tuples(st.just("fill"), places, places, ids),
        st.tuples(st.just("set"), places, places, ids),
        st.tuples(st.just("script"), places, places, ids),
        st.tuples(st.just("new data"), places, places, ids),
        st.tuples(st.sampled_from(["undo", "redo"]), places, places),
        st.tuples(st.sampled_from(["mark", "draft"]), places, places),
    ),
    min_size=4,
    max_size=14,
)


def own(n_planes: int | None) -> Labels:
    """A layer that Segment wrote, of one plane or a stack."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for cell, (y, x) in enumerate([(2, 2), (2, 30), (20, 14), (33, 33)], start=1):
        labels[y : y + 9, x : x + 11] = cell
    labels = labels if n_planes is None else np.stack([labels] * n_planes)
    layer = Labels(labels)
    record_of(layer).baseline = labels.copy()
    return layer


def act(layer: Labels, plane: tuple[int, ...], step: tuple) -> None:
    what, y, x, *more = step
    at = (*plane, y, x)
    if what == "stroke":
        layer.brush_size = more[1]
        with layer.block_history():
            layer.paint(at, more[0])
            layer.paint((*plane, max(y - 5, 0), min(x + 7, SIZE - 1)), more[0])
    elif what == "fill":
        layer.fill(at, more[0])
    elif what == "set":
        layer.data_setitem(tuple(np.array([n]) for n in at), more[0])
    elif what == "script":
        layer.data[(*plane, slice(y, y + 3), slice(x, x + 3))] = more[0]
        layer.refresh()
    elif what == "new data":
        data = layer.data.copy()
        data[(*plane, slice(y, y + 3))] = more[0]
        layer.data = data
    elif what in ("undo", "redo"):
        getattr(layer, what)()
    elif what == "mark":
        mark = box_mark(plane, (slice(y, y + 9), slice(x, x + 9)))
        record_of(layer).writable_marks().append(mark)
    elif what == "draft":
        box = slice(max(y - 8, 0), y + 8), slice(max(x - 8, 0), x + 8)
        y, x = (slice(line.start, min(line.stop, SIZE)) for line in box)
        labels = layer.data[plane] if plane else layer.data
        cell = int(labels[y, x].max())
        if cell:
            record_of(layer).add_draft(draft_of(plane, labels, (y, x), cell))


def surveyed(tracker: EditTracker, *dirty: object) -> tuple[Survey, dict]:
    saved = {}
    return tracker.survey(tracker.memo(), 3, saved.update, *dirty), saved


def check_same(found: tuple[Survey, dict], wanted: tuple[Survey, dict]) -> None:
    assert found[0].count == wanted[0].count
    for one, other in (
        (found[0].states, wanted[0].states),
        (found[0].drafts, wanted[0].drafts),
    ):
        assert one.keys() == other.keys()
        for index, states in one.items():
            np.testing.assert_array_equal(states, other[index])
    assert found[1].keys() == wanted[1].keys() == found[0].changes.keys()
    for index, (where, values) in found[1].items():
        np.testing.assert_array_equal(where, wanted[1][index][0])
        np.testing.assert_array_equal(values, wanted[1][index][1])
        assert (where.dtype, values.dtype) == (np.int64, np.int32)


@pytest.mark.slow
@given(steps, st.sampled_from([None, 2]), st.data())
@settings(max_examples=40, deadline=None)
def test_it_finds_what_comparing_all_finds(steps, n_planes, data):
    layer = own(n_planes)
    tracker = EditTracker(layer, lambda: None)
    for step in steps:
        plane = () if n_planes is None else (data.draw(st.integers(0, n_planes - 1)),)
        act(layer, plane, step)
        if data.draw(st.booleans()):
            found = surveyed(tracker, tracker.take_dirty())
            check_same(found, surveyed(EditTracker(layer, lambda: None)))


def test_of_a_stroke_only_its_box_is_compared():
    layer = own(None)
    tracker = EditTracker(layer, lambda: None)
    assert tracker.take_dirty() is None
    layer.brush_size = 5
    layer.paint((30, 10), 7)
    layer.paint((33, 12), 7)
    y, x = tracker.take_dirty()[()]
    assert 26 <= y.start < y.stop <= 38
    assert 6 <= x.start < x.stop <= 17
    assert tracker.take_dirty() == {}


BOX = slice(3, 5), slice(5, 6)


@pytest.mark.parametrize(
    ("axes", "boxes"),
    [("ZYX", {(1,): BOX, (2,): BOX}), ("YXZ", {(5,): (slice(1, 3), slice(3, 5))})],
)
def test_any_order_of_axes_will_do(axes, boxes):
    layer = Labels(np.zeros((4, 5, 6), np.int32))
    record_of(layer).axes = axes
    tracker = EditTracker(layer, lambda: None)
    tracker.take_dirty()
    layer.data_setitem((np.array([1, 2]), np.array([3, 4]), np.array([5, 5])), 9)
    assert tracker.take_dirty() == boxes


def test_undo_new_data_and_places_counted_from_the_end_may_be_anywhere():
    layer = own(None)
    tracker = EditTracker(layer, lambda: None)
    for act_somewhere in (
        layer.undo,
        lambda: setattr(layer, "data", layer.data.copy()),
        lambda: layer.data_setitem((np.array([-1]), np.array([-1])), 3),
    ):
        layer.paint((30, 10), 7 if layer.data[30, 10] != 7 else 8)
        tracker.take_dirty()
        act_somewhere()
        assert tracker.take_dirty() is None
