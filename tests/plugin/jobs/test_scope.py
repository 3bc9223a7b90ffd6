"""What is segmented: a plane, what is in view, a stack, everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtTest import QTest

from napari_unet.plugin.jobs.scope import ALL, PLANE, STACK, planes_in
from napari_unet.plugin.results.carry_over import carry_around
from napari_unet.segmentation.plane_order import PlaneLabels

ARRIVING = "arriving cells (U-Net)"


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_the_plane_in_view_comes_first_and_the_farthest_last(t, z, data):
    here = data.draw(st.integers(0, t - 1)), data.draw(st.integers(0, z - 1))
    shape = (t, 2, z, 8, 8)
    everything = planes_in(ALL, "TCZYX", shape, here)
    assert sorted(everything) == list(np.ndindex(t, z))
    away = [(abs(i - here[0]), abs(j - here[1])) for i, j in everything]
    assert away == sorted(away)
    stack = planes_in(STACK, "TCZYX", shape, here)
    assert stack == everything[:z]
    assert all(i == here[0] for i, _ in stack)
    assert planes_in(PLANE, "TCZYX", shape, here) == [here]


@pytest.fixture
def movie(docked, discs):
    widget = docked()
    z = [discs((20, 20)), discs((30, 70), (60, 60)), discs((70, 30))]
    layer = widget.viewer.add_image(
        np.stack([z, z[::-1]]), name="movie", axis_labels=("t", "z", "y", "x")
    )
    return widget, layer


def test_a_stack_is_all_planes_of_the_time_point_in_view(movie, settle):
    widget, _ = movie
    widget.viewer.dims.set_current_step(0, 1)
    widget.advanced.scope.value = "whole z-stack"
    widget.segment_button.click()
    settle(widget)
    data = widget.labels.value.data
    assert not data[0].any()
    assert [len(np.unique(plane)) - 1 for plane in data[1]] == [1, 2, 1]


@pytest.mark.slow
def test_ids_do_not_depend_on_the_plane_in_view(movie, settle):
    widget, _ = movie
    widget.advanced.scope.value = "everything"
    found = []
    for z in (0, 2):
        widget.viewer.dims.set_current_step(1, z)
        widget.segment_button.click()
        settle(widget)
        found.append(widget.labels.value.data.copy())
    np.testing.assert_array_equal(*found)


def holding(widget, monkeypatch, after: int):
    """Lets the work wait after so many planes are done; returns the gate, and what came."""
    from threading import Event

    from napari_unet.jobs import Job

    gate, came, report = Event(), [], Job.report

    def slow(job, fraction, message, loss=None, preview=None):
        # Somebody listens by then.
        while preview and widget.controller.follower._job is not job and not gate.wait(0.02):
            job.check()
        report(job, fraction, message, loss, preview)
        if preview:
            assert all(isinstance(plane, PlaneLabels) for plane in preview)
            came.append(preview[-1].index)
            if len(came) == after:
                while not gate.wait(0.02):
                    job.check()

    monkeypatch.setattr(Job, "report", slow)
    return gate, came


def wait_for(condition) -> None:
    for _ in range(2400):
        if condition():
            return
        QTest.qWait(25)
    raise AssertionError("it never came")


def test_planes_that_are_done_are_shown_until_the_result_is_there(movie, settle, monkeypatch):
    widget, _ = movie
    dims = widget.viewer.dims
    dims.set_current_step(0, 0)
    dims.set_current_step(1, 1)
    gate, came = holding(widget, monkeypatch, 2)
    widget.advanced.scope.value = "everything"
    widget.segment_button.click()
    wait_for(lambda: ARRIVING in widget.viewer.layers and len(came) == 2)
    assert came[0] == (0, 1)
    assert came[1] in {(0, 0), (0, 2)}
    shown = widget.viewer.layers[ARRIVING]
    assert not shown.editable
    assert len(np.unique(shown.data)) == 3
    assert widget.labels.value is None
    dims.set_current_step(1, came[1][1])
    wait_for(
        lambda: (
            ARRIVING in widget.viewer.layers
            and len(np.unique(widget.viewer.layers[ARRIVING].data)) == 2
        )
    )
    gate.set()
    settle(widget)
    wait_for(lambda: not [x for x in widget.viewer.layers if "arriving" in x.name])
    data = widget.labels.value.data
    assert [len(np.unique(plane)) - 1 for plane in data.reshape(-1, 96, 96)] == [1, 2, 1, 1, 2, 1]


def test_cancel_on_the_way_changes_nothing(movie, settle, monkeypatch):
    widget, layer = movie
    widget.segment_button.click()
    settle(widget)
    before = widget.labels.value
    painted = before.data.copy()
    holding(widget, monkeypatch, 2)
    widget.advanced.scope.value = "everything"
    widget.segment_button.click()
    wait_for(lambda: ARRIVING in widget.viewer.layers)
    widget.cancel_button.click()
    settle(widget)
    assert widget.status.text() == "Cancelled; nothing was changed"
    wait_for(lambda: list(widget.viewer.layers) == [layer, before])
    assert widget.labels.value is before
    np.testing.assert_array_equal(before.data, painted)


def look_at_corner(monkeypatch, height: int, width: int) -> None:
    """As if the canvas showed this much of the image only."""
    corner = slice(0, height), slice(0, width)
    monkeypatch.setattr("napari_unet.plugin.jobs.scope.visible_box", lambda layer: corner)


@pytest.mark.slow
def test_what_is_in_view_leaves_the_rest_as_it_is(docked, settle, discs, monkeypatch):
    widget = docked()
    image = discs((20, 20), (30, 70), (70, 30))
    layer = widget.viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    first = widget.labels.value
    first.paint((83, 83), 44)
    settle(widget)
    before = first.data.copy()
    layer.data = discs((25, 10), (40, 80), (80, 40))
    look_at_corner(monkeypatch, 41, 45)
    widget.advanced.scope.value = "visible area"
    widget.segment_button.click()
    settle(widget)
    data = widget.labels.value.data
    outside = np.ones(data.shape, bool)
    outside[:41, :45] = False
    np.testing.assert_array_equal(data[outside], before[outside])
    assert data[25, 10]
    assert not data[20, 22]
    assert widget.status.text().startswith("1 cell,")


def test_in_view_without_a_result_is_empty_elsewhere(docked, settle, image, monkeypatch):
    widget = docked()
    widget.viewer.add_image(image)
    look_at_corner(monkeypatch, 41, 61)
    widget.advanced.scope.value = "visible area"
    widget.segment_button.click()
    settle(widget)
    data = widget.labels.value.data
    assert data[20, 20]
    assert not data[41:].any()
    assert not data[:, 61:].any()
    assert widget.status.text().startswith("1 cell,")


def test_an_old_cell_goes_on_in_the_box_under_its_own_id():
    old, new = np.zeros((20, 20), np.int32), np.zeros((20, 20), np.int32)
    old[5:9, 4:14] = 3
    old[15:18, 2:5] = 5
    new[5:9, 10:15] = 101
    new[0:3, 15:18] = 102
    box = slice(0, 20), slice(10, 20)
    found = carry_around(new, old, np.zeros(old.shape, bool), box)
    np.testing.assert_array_equal(found[:, :10], old[:, :10])
    assert set(np.unique(found)) == {0, 3, 5, 102}
    np.testing.assert_array_equal(found[:, 10:] == 3, new[:, 10:] == 101)
