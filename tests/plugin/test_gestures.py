"""Corrections by one gesture, with the mouse on the canvas of the dock that napari opened."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from hands import Hand
from napari_unet.plugin.dock.widget import SegmentWidget
from napari_unet.plugin.edits.autosave import labels_from
from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED, DRAFT, UNSEEN
from napari_unet.plugin.viewer.canvas import camera_of
from napari_unet.plugin.viewer.layers import planes_of
from napari_unet.plugin.viewer.record import record_of

SEEN, SKETCH = "learnt from (U-Net)", "gesture (U-Net)"
CELLS = ((20, 20), (30, 70), (70, 30))


@pytest.fixture
def dock(
    docked_by_napari: SegmentWidget,
    settle: Callable[[SegmentWidget], None],
    image: np.ndarray,
) -> tuple[SegmentWidget, Labels, Hand]:
    """The dock as napari opens it after a click on Segment, the three cells, and a hand."""
    widget = docked_by_napari
    viewer = widget.viewer
    viewer.add_image(image, name="cells")
    widget.model.value = "tiny"
    widget.segment_button.click()
    settle(widget)
    layer = widget.labels.value
    layer.mode, layer.brush_size = "paint", 9
    return widget, layer, Hand(viewer)


def turn_wheel(hand: Hand, at: tuple[float, float], steps: int) -> None:
    """Turn the mouse wheel over a world point."""
    y, x = hand._on_canvas(at)
    local = QPointF(x, y)
    for _ in range(abs(steps)):
        event = QWheelEvent(
            local,
            QPointF(hand.canvas.mapToGlobal(local.toPoint())),
            QPoint(),
            QPoint(0, 120 if steps > 0 else -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(hand.canvas, event)
        QApplication.processEvents()


def tool(widget: SegmentWidget, name: str) -> None:
    widget.correcting.gestures.buttons[name].click()


def is_on(widget: SegmentWidget) -> list[str]:
    buttons = widget.correcting.gestures.buttons
    return [name for name, made in buttons.items() if made.isChecked()]


def seen(widget: SegmentWidget) -> np.ndarray:
    """What is shown to teach; without the layer, nothing is."""
    layers = widget.viewer.layers
    return np.asarray(layers[SEEN].data) if SEEN in layers else np.zeros((96, 96), np.uint8)


def undone(widget: SegmentWidget, hand: Hand, settle: Callable[..., None]) -> str:
    """Press Ctrl-Z once; what the dock counts then."""
    hand.press("Z", "ControlModifier")
    settle(widget)
    return widget.correcting.count.text()


def test_the_key_removes_the_cell_under_the_pointer(dock, settle):
    widget, layer, hand = dock
    before = layer.data.copy()
    hand.point((30, 70))
    hand.press("R")
    settle(widget)
    assert not layer.data[22:39, 62:79].any()
    assert (layer.data > 0).sum() == (before[:, :60] > 0).sum()
    assert f"Cell {before[30, 70]} removed" in widget.status.text()
    assert widget.correcting.count.text() == "1 cell corrected"
    assert (seen(widget)[24:37, 64:77] == CORRECTED).all()
    assert str(layer.mode) == "paint"
    hand.point((50, 50))
    hand.press("R")
    assert "no cell here" in widget.status.text()
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.slow
def test_clicks_remove_until_escape(dock, settle, qtbot):
    widget, layer, hand = dock
    before = layer.data.copy()
    tool(widget, "remove")
    assert is_on(widget) == ["remove"]
    assert str(layer.mode) == "pan_zoom"
    for at in CELLS[:2]:
        hand.drag([at])
    assert np.unique(layer.data).tolist() == [0, before[70, 30]]
    centre = camera_of(widget.viewer).center
    hand.drag([(70, 30), (70, 60)])
    assert camera_of(widget.viewer).center == centre
    assert layer.data[70, 30]
    hand.press("Escape")
    qtbot.wait(50)
    assert is_on(widget) == []
    assert str(layer.mode) == "paint"
    settle(widget)
    assert widget.correcting.count.text() == "2 cells corrected"
    assert undone(widget, hand, settle) == "1 cell corrected"
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.slow
def test_a_line_splits_a_cell_and_both_parts_teach(dock, settle, taught, qtbot):
    widget, layer, hand = dock
    before, name = layer.data.copy(), int(layer.data[20, 20])
    layer.metadata["napari_unet"]["classes"] = {name: "dividing"}
    hand.press("S")
    assert is_on(widget) == ["split"]
    hand.drag([(8, 20), (16, 18), (32, 20)])
    new = set(np.unique(layer.data)) - set(np.unique(before))
    assert len(new) == 1
    assert layer.data[20, 15] != layer.data[20, 25]
    assert name in (layer.data[20, 15], layer.data[20, 25])
    np.testing.assert_array_equal(layer.data > 0, before > 0)
    hand.drag([(8, 70), (30, 70)])
    assert "does not cut through" in widget.status.text()
    hand.press("S")
    assert is_on(widget) == []
    settle(widget)
    assert widget.correcting.count.text() == "2 cells corrected"
    (correction,) = taught(widget, settle)
    assert correction.trusted[before == name].all()
    assert not correction.trusted[30, 70]
    assert set(correction.classes.values()) == {"dividing"}
    assert len(correction.classes) == 2
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.slow
def test_a_drag_joins_two_cells_over_a_gap(dock, settle):
    widget, layer, hand = dock
    original = layer.data.copy()
    layer.data_setitem(tuple(np.mgrid[15:26, 30:36].reshape(2, -1)), 50)
    before = layer.data.copy()
    assert not before[20, 28]
    hand.press("J")
    hand.drag([(20, 20), (20, 32)])
    assert layer.data[20, 32] == layer.data[20, 28] == layer.data[20, 20] == before[20, 20]
    settle(widget)
    assert widget.correcting.count.text() == "1 cell corrected"
    kept = layer.data.copy()
    hand.drag([(20, 20), (70, 30)])
    assert "lie between the two cells" in widget.status.text()
    np.testing.assert_array_equal(layer.data, kept)
    undone(widget, hand, settle)
    np.testing.assert_array_equal(layer.data, before)
    undone(widget, hand, settle)
    np.testing.assert_array_equal(layer.data, original)


@pytest.mark.slow
def test_a_loop_says_that_there_is_nothing(dock, settle, taught):
    widget, layer, hand = dock
    before = layer.data.copy()
    hand.press("H")
    hand.drag([(5, 45), (60, 45), (60, 90), (5, 90)])
    assert not layer.data[:60, 45:].any()
    hand.press("H")
    settle(widget)
    assert widget.correcting.count.text() == "1 corrected, 1 marked correct"
    states = seen(widget)
    assert states[30, 70] == CORRECTED
    assert states[55, 50] == CONFIRMED
    assert states[20, 20] == UNSEEN
    marks = json.loads(json.dumps(layer.metadata["napari_unet"]["marks"]))
    assert len(marks) == 1
    (correction,) = taught(widget, settle)
    assert correction.trusted[10:55, 50:88].all()
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)
    assert not seen(widget).any()
    layer.redo()
    settle(widget)
    assert widget.correcting.count.text() == "1 corrected, 1 marked correct"


@pytest.mark.slow
def test_a_loop_over_background_is_taken_back_by_u(dock, settle):
    widget, _, hand = dock
    hand.press("H")
    hand.drag([(80, 60), (80, 90), (92, 90), (92, 60)])
    settle(widget)
    assert "no cells removed" in widget.status.text()
    assert seen(widget)[86, 75] == CONFIRMED
    hand.press("U")
    settle(widget)
    assert widget.correcting.count.text() == "nothing corrected yet"
    hand.drag([(10, 10), (10, 10.4), (10, 10)])
    assert widget.status.text().startswith("Draw a loop")


def missed(widget: SegmentWidget, layer: Labels, hand: Hand) -> np.ndarray:
    """The cells when Segment had missed the second one."""
    hand.point((30, 70))
    hand.press("R")
    layer.metadata["napari_unet"]["baseline"] = layer.data.copy()
    widget.controller.corrections.tracker(layer).baseline = layer.data.copy()
    truth: np.ndarray = np.asarray(widget.viewer.layers["cells"].data) > 100
    return truth & (np.arange(96) > 50)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.slow
def test_a_box_adds_a_draft_that_teaches_when_it_is_confirmed(dock, settle, taught):
    widget, layer, hand = dock
    truth = missed(widget, layer, hand)
    before = layer.data.copy()
    hand.press("A")
    hand.drag([(23, 64), (36, 77)])
    np.testing.assert_array_equal(layer.data, before)
    assert SKETCH in widget.viewer.layers
    assert widget.viewer.layers.selection.active == layer
    hand.drag([(50, 50)])
    settle(widget)
    cell = int(layer.data[30, 70])
    assert iou(layer.data == cell, truth) > 0.8
    assert widget.correcting.count.text() == "1 draft to confirm (C) or touch up"
    assert set(np.unique(seen(widget))) == {UNSEEN, DRAFT}
    hand.press("A")
    assert SKETCH not in widget.viewer.layers
    assert str(layer.mode) == "paint"
    assert layer.selected_label > cell
    hand.point((30, 70))
    hand.press("C")
    settle(widget)
    # The cell counts once, though it was marked as well.
    assert widget.correcting.count.text() == "1 cell corrected"
    assert DRAFT not in seen(widget)
    (correction,) = taught(widget, settle)
    assert correction.trusted[layer.data == cell].all()
    hand.press("U")
    settle(widget)
    assert widget.correcting.count.text() == "1 draft to confirm (C) or touch up"
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.slow
def test_c_adds_the_outline_as_correct_wherever_the_pointer_is(dock, settle, taught):
    widget, layer, hand = dock
    missed(widget, layer, hand)
    before = layer.data.copy()
    hand.press("A")
    hand.drag([(23, 64), (36, 77)])
    hand.point((90, 90))
    hand.press("C")
    settle(widget)
    cell = int(layer.data[30, 70])
    assert cell
    assert layer.data[90, 90] == 0
    assert widget.status.text() == f"Cell {cell} added and marked as correct"
    assert widget.correcting.count.text() == "1 cell corrected"
    assert SKETCH not in widget.viewer.layers or not len(widget.viewer.layers[SKETCH].data)
    (correction,) = taught(widget, settle)
    assert correction.trusted[layer.data == cell].all()
    assert not correction.trusted[90, 90]
    # With nothing outlined, the key is for the cell under the pointer.
    hand.point((90, 90))
    hand.press("C")
    assert widget.status.text() == "Background marked as correct"
    hand.press("U")
    hand.press("U")
    settle(widget)
    assert widget.correcting.count.text() == "1 draft to confirm (C) or touch up"
    assert undone(widget, hand, settle) == "nothing corrected yet"
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.slow
def test_a_draft_that_is_touched_up_is_corrected(dock, settle):
    widget, layer, hand = dock
    missed(widget, layer, hand)
    hand.press("A")
    hand.drag([(23, 64), (36, 77)])
    hand.press("2")
    settle(widget)
    assert is_on(widget) == []
    assert str(layer.mode) == "paint"
    assert "1 draft" in widget.correcting.count.text()
    assert layer.selected_label == layer.data[30, 70] > 0
    hand.drag([(30, 76), (30, 77)])
    settle(widget)
    assert widget.correcting.count.text() == "1 cell corrected"
    assert seen(widget)[30, 70] == CORRECTED


@pytest.mark.slow
def test_the_wheel_sizes_the_outline_and_escape_drops_it(dock, settle, qtbot):
    widget, layer, hand = dock
    missed(widget, layer, hand)
    zoom = camera_of(widget.viewer).zoom
    before = layer.data.copy()
    tool(widget, "add")
    areas = []
    for steps in (0, 2, -2):
        hand.drag([(23, 64), (36, 77)])
        turn_wheel(hand, (30, 70), steps)
        assert camera_of(widget.viewer).zoom == zoom
        hand.press("Enter")
        qtbot.wait(10)
        areas.append(int((layer.data != before).sum()))
        hand.press("Z", "ControlModifier")
        np.testing.assert_array_equal(layer.data, before)
    assert areas[2] < areas[0] < areas[1]
    hand.drag([(23, 64), (36, 77)])
    hand.press("Escape")
    qtbot.wait(50)
    assert "dropped" in widget.status.text()
    assert is_on(widget) == ["add"]
    hand.press("Enter")
    np.testing.assert_array_equal(layer.data, before)
    hand.press("Escape")
    qtbot.wait(50)
    assert is_on(widget) == []
    turn_wheel(hand, (30, 70), 1)
    assert camera_of(widget.viewer).zoom != zoom


def test_one_key_marks_all_outlines_of_a_row_of_boxes_as_correct(dock, settle, qtbot):
    widget, layer, hand = dock
    for at in CELLS:
        hand.point(at)
        hand.press("R")
    hand.press("A")
    for y, x in CELLS:
        hand.drag([(y - 7, x - 7), (y + 7, x + 7)])
    # The second outline is taken back, and the third is dropped.
    hand.press("Escape")
    qtbot.wait(50)
    hand.press("Z", "ControlModifier")
    hand.drag([(63, 23), (77, 37)])
    assert "with the 2 before" in widget.status.text()
    hand.press("C")
    settle(widget)
    assert len(np.unique(layer.data)) == 3
    assert not layer.data[30, 70]
    added = [int(layer.data[at]) for at in (CELLS[0], CELLS[2])]
    assert widget.status.text() == f"Cells {added[0]}, {added[1]} added and marked as correct"
    # One was removed, and two were drawn anew.
    assert "3 cells corrected" in widget.correcting.count.text()
    assert "draft" not in widget.correcting.count.text()
    # What a click adds waits for the brush, whatever C says of the others.
    hand.drag([(23, 63), (37, 77)])
    hand.drag([(50, 50)])
    hand.point((90, 90))
    hand.press("C")
    settle(widget)
    assert "1 draft to confirm" in widget.correcting.count.text()


def test_a_box_replaces_a_wrong_cell_and_leaves_its_neighbours(dock, settle):
    widget, layer, hand = dock
    truth = layer.data == layer.data[30, 70]
    layer.data_setitem(tuple(np.nonzero(truth & (np.indices(truth.shape)[1] > 68))), 50)
    layer.data_setitem(tuple(np.mgrid[26:35, 80:92].reshape(2, -1)), 60)
    before = layer.data.copy()
    wrong = int(before[30, 66])
    hand.press("A")
    hand.drag([(23, 64), (37, 77)])
    assert f"The outline goes in place of cells {wrong}, 50. " in widget.status.text()
    hand.press("Enter")
    settle(widget)
    cell = int(layer.data[30, 70])
    assert iou(layer.data == cell, truth) > 0.8
    assert not np.isin(layer.data, (wrong, 50)).any()
    assert (layer.data[26:35, 80:92] == 60).all()
    assert (layer.data[20, 20], layer.data[70, 30]) == (before[20, 20], before[70, 30])
    assert "1 draft" in widget.correcting.count.text()
    # A draft teaches nothing, nor does what it erased.
    assert set(np.unique(seen(widget)[truth & (layer.data != 60)])) == {UNSEEN, DRAFT}
    hand.press("Z", "ControlModifier")
    np.testing.assert_array_equal(layer.data, before)
    hand.drag([(23, 64), (37, 77)])
    hand.press("C")
    settle(widget)
    # The other one was painted before.
    assert widget.correcting.count.text() == "2 cells corrected"


@pytest.mark.slow
def test_a_draft_comes_along_and_is_saved(dock, settle):
    widget, layer, hand = dock
    missed(widget, layer, hand)
    tool(widget, "add")
    hand.drag([(80, 70), (92, 90)])
    hand.press("Enter")
    settle(widget)
    cell = layer.data == layer.data[86, 80]
    saved = widget.controller._autosave.find(record_of(layer).draft)
    restored = labels_from(widget.viewer.layers["cells"], saved)
    assert record_of(restored).draft_cells == record_of(layer).draft_cells
    np.testing.assert_array_equal(restored.data == restored.data[86, 80], cell)
    widget.segment_button.click()
    settle(widget)
    newer = widget.labels.value
    assert newer != layer
    assert is_on(widget) == []
    np.testing.assert_array_equal(newer.data == newer.data[86, 80], cell)
    assert widget.correcting.count.text() == "1 draft to confirm (C) or touch up"
    assert not widget.finetune_button.isEnabled(), "there is nothing to learn from yet"
    widget.segment_button.click()
    settle(widget)
    newer = widget.labels.value
    np.testing.assert_array_equal(newer.data == newer.data[86, 80], cell)
    assert widget.correcting.count.text() == "1 draft to confirm (C) or touch up"
    assert DRAFT in seen(widget)
    hand.point((86, 80))
    hand.press("C")
    settle(widget)
    assert "1 place marked correct" in widget.correcting.count.text()


@pytest.mark.slow
@pytest.mark.parametrize("n_planes", [1, 2])
def test_what_replaced_a_wrong_cell_stays_when_it_is_found_again(
    n_planes, docked_by_napari, settle, image
):
    widget = docked_by_napari
    viewer = widget.viewer
    viewer.add_image(image if n_planes == 1 else np.stack([image] * n_planes), name="cells")
    widget.model.value = "tiny"
    widget.segment_button.click()
    settle(widget)
    layer, hand = widget.labels.value, Hand(viewer)
    layer.brush_size = 3
    # All three are smaller than what is found: a draft, one that is touched up, a confirmed one.
    tool(widget, "add")
    for y, x in CELLS:
        hand.drag([(y - 8, x - 8), (y + 8, x + 8)])
        turn_wheel(hand, (y, x), -2)
        hand.press("Enter")
    hand.press("Escape")
    here = viewer.dims.current_step[:1] if n_planes > 1 else ()
    plane = planes_of(layer)[here]
    layer.mode, layer.selected_label = "paint", int(plane[CELLS[1]])
    hand.drag([(30, 75), (30, 76)])
    hand.point(CELLS[2])
    hand.press("C")
    settle(widget)
    made = plane.copy()
    said = "1 draft to confirm (C) or touch up"
    assert said in widget.correcting.count.text()
    for _ in range(2):
        widget.segment_button.click()
        settle(widget)
        newer = planes_of(widget.labels.value)[here]
        np.testing.assert_array_equal(newer, made)
        assert said in widget.correcting.count.text()


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["YX", "TYX", "YXT", "CYX", "TYXC"])
def test_the_plane_in_view_of_any_layer(axes, docked, settle, discs):
    widget = docked()
    viewer = widget.viewer
    plane = discs(*CELLS)
    sizes = {"T": 3, "C": 2, "Y": 96, "X": 96}
    image = np.moveaxis(
        np.broadcast_to(plane, (*(sizes[a] for a in axes if a in "TC"), 96, 96)),
        (-2, -1),
        (axes.index("Y"), axes.index("X")),
    ).copy()
    scale = [2.0 if a in "TC" else 0.5 for a in axes]
    viewer.add_image(image, name="cells", scale=scale, axis_labels=list(axes), rgb=False)
    viewer.dims.order = [
        *(axes.index(a) for a in axes if a in "TC"),
        *(axes.index(a) for a in "YX"),
    ]
    if "T" in axes:
        viewer.dims.set_point(axes.index("T"), 2.0)
    widget.advanced.axes.value = axes
    if "C" in axes:
        widget.advanced.channel.value = 0
    if "T" in axes:
        widget.advanced.scope.value = "everything"
    widget.segment_button.click()
    settle(widget)
    layer = widget.labels.value
    before = planes_of(layer).copy()
    here = (1,) if "T" in axes else ()
    hand = Hand(viewer)
    tool(widget, "split")
    hand.drag([(4, 10), (16, 10)])
    after = planes_of(layer).copy()
    assert len(np.unique(after[(*here, slice(12, 28), slice(12, 28))])) == 3
    tool(widget, "merge")
    hand.drag([(10, 7.5), (10, 12.5)])
    after = planes_of(layer)
    assert len(np.unique(after[(*here, slice(12, 28), slice(12, 28))])) == 2
    tool(widget, "nothing here")
    hand.drag([(29, 9), (29, 21), (41, 21), (41, 9)])
    assert not planes_of(layer)[(*here, slice(60, 80), slice(20, 40))].any()
    hand.press("Z", "ControlModifier")
    tool(widget, "remove")
    hand.drag([(15, 35)])
    assert ("removed on this plane" in widget.status.text()) == ("T" in axes)
    tool(widget, "add")
    hand.drag([(11.5, 32), (18, 38.5)])
    hand.press("Enter")
    after = planes_of(layer).copy()
    assert iou(after[here] > 0, before[here] > 0) > 0.9
    assert after[(*here, 30, 70)] not in (0, before[(*here, 30, 70)])
    changed = np.argwhere(before != after)[:, :-2]
    assert (changed == here).all()


@pytest.mark.slow
def test_what_cannot_be_is_said_in_a_sentence(dock, qtbot):
    widget, layer, hand = dock
    viewer = widget.viewer
    layer.visible = False
    tool(widget, "split")
    assert "hidden" in widget.status.text()
    assert is_on(widget) == []
    layer.visible = True
    viewer.dims.ndisplay = 3
    tool(widget, "split")
    assert "switch to 2D" in widget.status.text()
    viewer.dims.ndisplay = 2
    tool(widget, "merge")
    hand.drag([(20, 20), (20, 50)])
    assert "only one end" in widget.status.text()
    viewer.layers.selection.active = viewer.layers["cells"]
    qtbot.wait(50)
    assert is_on(widget) == []
    assert str(layer.mode) == "paint"
    tool(widget, "merge")
    assert viewer.layers.selection.active == layer
    layer.mode = "erase"
    qtbot.wait(50)
    assert is_on(widget) == []
    assert str(layer.mode) == "erase"
    narrow = Labels(np.full((96, 96), 254, np.uint8), name="narrow")
    viewer.add_layer(narrow)
    widget.labels.value = narrow
    tool(widget, "split")
    hand.drag([(-4, 20), (99, 20)])
    assert "all numbers are used" in widget.status.text()


@pytest.mark.slow
def test_closing_the_dock_ends_the_gesture(dock):
    widget, layer, hand = dock
    viewer = widget.viewer
    tool(widget, "nothing here")
    hand.drag([(50, 50), (60, 50), (60, 60)])
    viewer.window.remove_dock_widget(widget)
    assert SKETCH not in viewer.layers
    assert str(layer.mode) == "paint"
    before = layer.data.copy()
    hand.press("A")
    hand.press("R")
    np.testing.assert_array_equal(layer.data, before)


def test_our_keys_are_free_in_napari(dock):
    widget, layer, _ = dock
    ours = {str(key) for key in layer.keymap}
    napari = {str(key) for keys in (layer.class_keymap, widget.viewer.class_keymap) for key in keys}
    assert {"A", "R", "S", "J", "H"} <= ours
    assert {"M", "P", "Ctrl+Z"} <= napari
    assert not ours & napari
