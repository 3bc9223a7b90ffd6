"""The switch that shows what changed since the last result."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.plugin.results.changes import GONE, LEGEND, NEW, RESHAPED, gone_outlines

NAME = "changes (U-Net)"


@pytest.fixture
def dock(docked_by_napari):
    return docked_by_napari


def names(dock) -> list[str]:
    return [layer.name for layer in dock.viewer.layers if layer.visible]


def values(dock) -> set[int]:
    """The colours that are shown; empty while there is no such layer."""
    return set(np.unique(dock.viewer.layers[NAME].data)) if NAME in names(dock) else set()


@pytest.mark.slow
def test_new_reshaped_and_gone_cells_are_outlined(dock, settle, discs, qtbot):
    layer = dock.viewer.add_image(discs((20, 20), (30, 70), (70, 30)), name="cells")
    dock.segment_button.click()
    settle(dock)
    switch = dock.view.changed
    assert not switch.isChecked()
    assert not switch.isEnabled()
    assert "Nothing changed since the last result" in switch.toolTip()
    # One stays, one grows, one goes, one comes.
    changed = np.maximum(discs((20, 20), (70, 70)), discs((30, 70), radius=7))
    layer.data = changed
    dock.segment_button.click()
    settle(dock)
    assert "1 new, 1 gone, 1 reshaped" in dock.find_step.note.text()
    assert switch.isEnabled()
    assert switch.toolTip() == LEGEND
    assert NAME not in names(dock), "off by default"
    chosen = set(dock.viewer.layers.selection)
    switch.click()
    qtbot.waitUntil(lambda: values(dock) == {0, NEW, RESHAPED, GONE}, timeout=5000)
    shown = dock.viewer.layers[NAME]
    assert set(dock.viewer.layers.selection) == chosen
    for value, (y, x) in ((NEW, (70, 70)), (RESHAPED, (30, 70)), (GONE, (70, 30))):
        rows, columns = np.nonzero(shown.data == value)
        assert abs(rows.mean() - y) < 1.5
        assert abs(columns.mean() - x) < 1.5
        assert shown.data[y, x] == 0, "an outline, no area"
    assert not shown.data[:40, :40].any(), "what stayed is not shown"
    switch.click()
    assert NAME not in names(dock)
    qtbot.waitUntil(lambda: len(dock.viewer.layers) == 2, timeout=5000)
    switch.click()
    layer.data = discs((20, 20))
    dock.segment_button.click()
    settle(dock)
    # It follows the next result.
    qtbot.waitUntil(lambda: values(dock) == {0, GONE}, timeout=5000)
    # A result that was painted on is kept, and the next one added above: its outlines hide nothing.
    before = dock.labels.value
    before.paint((50, 50), 90)
    settle(dock)
    layer.data = discs((20, 20), (70, 30))
    dock.segment_button.click()
    settle(dock)
    qtbot.waitUntil(lambda: values(dock) == {0, NEW}, timeout=5000)
    layers = dock.viewer.layers
    assert dock.labels.value != before
    assert layers.index(layers[NAME]) > layers.index(dock.labels.value)
    dock.cleanup()
    assert NAME not in names(dock)


@pytest.mark.slow
def test_it_follows_the_plane_in_view(dock, settle, discs, qtbot):
    stack = np.stack([discs((20, 20)), discs((70, 70))])
    layer = dock.viewer.add_image(stack, name="stack")
    dock.advanced.scope.value = dock.advanced.scope.choices[-1]
    dock.advanced.link.value = "none"
    dock.segment_button.click()
    settle(dock)
    layer.data = np.stack([discs((20, 20)), discs((20, 70))])
    dock.segment_button.click()
    settle(dock)
    dock.view.changed.click()
    dock.viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: values(dock) == {0}, timeout=5000)
    dock.viewer.dims.set_current_step(0, 1)
    qtbot.waitUntil(lambda: values(dock) == {0, NEW, GONE}, timeout=5000)
    shown = dock.viewer.layers[NAME].data
    assert shown[:40, 60:80].max() == NEW
    assert shown[60:80, 60:80].max() == GONE


def test_the_outline_of_a_cell_at_the_edge():
    labels = np.zeros((8, 9), np.int32)
    labels[:6, 3:9], labels[6:, :] = 4, 5
    found = gone_outlines([((0,), labels), ((1,), labels * 0)], {4})
    assert list(found) == [(0,)]
    outline = np.zeros(labels.shape, bool)
    outline.flat[found[0,]] = True
    inner = np.zeros(labels.shape, bool)
    inner[2:4, 5:7] = True
    np.testing.assert_array_equal(outline, (labels == 4) & ~inner)
    assert gone_outlines([((), labels)], set()) == {}
