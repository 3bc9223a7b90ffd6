"""The four steps of the dock as napari opens it: greying, the accent, messages, the size."""

from __future__ import annotations

import re

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
)

from napari_unet.plugin.dock.rows.verdict_card import MORE_S

# Words of the time before, which a newcomer did not understand.
OLD_WORDS = (
    "Corrections in", "Class", "Learn for", "Confirm", "Take back", "Next place", "was seen",
    "Go back", "as the model says", "Restore\n", "Segment files", "augmentation", "Guess",
)  # fmt: skip


@pytest.fixture
def dock(docked_by_napari):
    return docked_by_napari


def accents(dock) -> list[str]:
    buttons = dock.findChildren(QPushButton)
    return [b.text() for b in buttons if b.property("accent") and b.isVisible()]


def usable(dock) -> set[str]:
    parts = (
        dock.segment_button, dock.correcting.confirm, dock.correcting.rectangle,
        dock.correcting.take_back, dock.correcting.next_place, dock.finetune_button,
        dock.measuring.measure, dock.measuring.exporting.button, dock.measuring.files,
    )  # fmt: skip
    return {part.text() for part in parts if part.isEnabled()}


def segment(dock, settle, image):
    layer = dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    return layer


CORRECT = {"Mark view", "Mark box", "Undo last mark", "Next doubtful cell"}
FILES, MEASURE = {"Folder of images…"}, {"Measure", "Export"}


@pytest.mark.slow
def test_what_cannot_be_used_is_grey_and_says_why(dock, settle, image):
    assert usable(dock) == FILES
    assert "Open an image first" in dock.segment_button.toolTip()
    for part in (*dock.correcting.parts, dock.finetune_button):
        assert part.toolTip() == "Click Segment first"
    assert dock.measuring.measure.toolTip() == "Nothing to measure yet: click Segment first"
    dock.viewer.add_image(image, name="cells")
    assert usable(dock) == {"Segment"} | FILES
    assert dock.segment_button.toolTip() == "Find the cells of the image"
    dock.segment_button.click()
    assert usable(dock) == set()
    assert "Something is running" in dock.measuring.files.toolTip()
    settle(dock)
    assert usable(dock) == {"Segment"} | CORRECT | MEASURE | FILES
    assert "Correct a cell first" in dock.finetune_button.toolTip()
    layer = dock.labels.value
    layer.paint((75, 75), 9)
    assert dock.finetune_button.isEnabled(), "at once, before the stroke is counted"
    settle(dock)
    assert dock.finetune_button.isEnabled()
    layer.undo()
    settle(dock)
    assert not dock.finetune_button.isEnabled()
    dock.viewer.layers.clear()
    settle(dock)
    assert usable(dock) == FILES


@pytest.mark.slow
def test_one_button_is_the_next_thing_to_do(dock, settle, image, outlined):
    segment(dock, settle, image)
    assert accents(dock) == ["Next doubtful cell"]
    dock.advanced.axes.value = "yx"
    assert accents(dock) == ["Segment"]
    dock.segment_button.click()
    settle(dock)
    assert accents(dock) == ["Next doubtful cell"]
    assert dock.correcting.hint.isVisible()
    outlined(dock)
    settle(dock)
    assert accents(dock) == ["Fine-tune"]
    assert not dock.correcting.hint.isVisible()
    dock.budget.choices = (("a moment", 1.0),)
    dock.finetune_button.click()
    assert accents(dock) == []
    settle(dock)
    assert accents(dock) == ["Segment again"]
    dock.last.again.click()
    settle(dock)
    assert accents(dock) == ["Next doubtful cell"], "what came along was learnt already"
    dock.labels.value.paint((75, 75), 9)
    assert accents(dock) == ["Fine-tune"]


@pytest.mark.slow
def test_the_bar_runs_in_place_of_the_button_that_started_it(dock, settle, image, outlined):
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    assert dock.running.isVisible()
    assert not dock.segment_button.isVisible()
    assert dock.running.parent() is dock.find_step
    assert dock.cancel_button.text() == "Cancel"
    settle(dock)
    assert dock.segment_button.isVisible()
    assert not dock.running.isVisible()
    outlined(dock)
    dock.budget.choices = (("a moment", 1.0),)
    dock.finetune_button.click()
    assert dock.running.parent() is dock.teach_step
    assert not dock.finetune_button.isVisible()
    assert dock.segment_button.isVisible()
    assert dock.cancel_button.text() == "Stop"
    settle(dock)
    assert dock.finetune_button.isVisible()


@pytest.mark.slow
def test_a_message_goes_when_its_cause_is_gone(dock, settle, image):
    first = segment(dock, settle, image)
    found = dock.find_step.note
    assert found.text().startswith("3 cells, typically ")
    dock.correcting.take_back.click()
    assert dock.correct_step.note.text().startswith("⚠ there is no mark to undo")
    assert found.isVisible(), "each step has a message of its own"
    dock.labels.value.paint((75, 75), 9)
    assert not dock.correct_step.note.isVisible()
    settle(dock)
    dock.measuring.measure.click()
    settle(dock)
    assert dock.results_step.note.text() == "4 cells measured"
    dock.labels.value.paint((78, 20), 10)
    assert not dock.results_step.note.isVisible()
    dock.viewer.add_image(np.flip(image, 0).copy(), name="second")
    settle(dock)
    assert not found.isVisible()
    dock.advanced.axes.value = "Q"
    dock.segment_button.click()
    assert found.text().startswith("⚠ ")
    dock.advanced.axes.value = ""
    assert not found.isVisible()
    dock.viewer.layers.selection.active = first
    assert dock.status.text() == ""


def test_measure_opens_the_table_below_the_image(dock, settle, image, qtbot):
    segment(dock, settle, image)
    height = dock.height()
    dock.measuring.measure.click()
    settle(dock)
    name = next(name for name in dock.viewer.window.dock_widgets if "Features table" in name)
    table = next(t for t in dock.window().findChildren(QDockWidget) if t.windowTitle() == name)
    below = Qt.DockWidgetArea.BottomDockWidgetArea
    assert dock.window().dockWidgetArea(table) == below
    assert dock.height() >= height
    # Some rows are seen, not the heading alone.
    qtbot.waitUntil(lambda: table.height() >= 0.25 * dock.window().height())


@pytest.mark.slow
def test_a_refused_version_offers_more_time_or_itself(dock, settle, image, hand):
    segment(dock, settle, image)
    layer = dock.labels.value
    # As long as it gets for tissue.
    dock.look.show_for("shown to the model at half their size, seen as its nuclear stain")
    words = "176 cells, typically 8 px wide; shown to the model at twice their size, seen as its "
    dock.find_step.note.setText(f"{words}nuclear stain")
    # What is painted is not in the image.
    layer.mode, layer.brush_size = "paint", 8
    hand(dock.viewer).drag([(78, 70), (78, 80)])
    dock.window().resize(1366, 768)
    dock.budget.choices = (("a moment", 0.5),)
    dock.finetune_button.click()
    settle(dock)
    card = dock.last
    assert card.note.text().startswith("The old model stays in use: ")
    assert card.property("card") == "doubtful"
    dock.grab()
    assert dock.findChild(QScrollArea).verticalScrollBar().maximum() == 0
    shown = [b.text() for b in card.findChildren(QPushButton) if b.isVisible()]
    assert shown == ["Train 2 min more", "Use the new one anyway"]
    assert "it takes more corrections" in card.note.text()
    assert accents(dock) == ["Next doubtful cell"]
    asked = []
    service = dock.controller.service

    def finetune(*args, **options):
        asked.append(args[2].seconds)
        raise ValueError("enough")

    service.finetune = finetune
    card.more.click()
    settle(dock)
    assert asked == [0.5 + MORE_S]
    assert not card.isVisible(), "a new fine-tune has begun"
    assert dock.teach_step.note.text() == "⚠ enough"


@pytest.mark.slow
def test_the_verdict_goes_with_its_image(dock, settle, image, outlined):
    segment(dock, settle, image)
    outlined(dock)
    dock.budget.choices = (("a moment", 1.0),)
    dock.finetune_button.click()
    settle(dock)
    assert dock.last.isVisible()
    assert dock.last.note.text().startswith('New model "tiny", version 2, is ready: ')
    assert dock.last.back.text() == "Return to version 1"
    dock.viewer.add_image(np.flip(image, 0).copy(), name="second")
    settle(dock)
    assert not dock.last.isVisible()


def texts(dock) -> str:
    parts = [*dock.findChildren(QPushButton), *dock.findChildren(QLabel)]
    return "\n".join(f"{part.text()}\n{part.toolTip()}" for part in parts)


def test_the_words_are_those_of_a_biologist(dock, settle, image):
    segment(dock, settle, image)
    said = texts(dock)
    assert not [word for word in OLD_WORDS if word in said]
    for title in ("1  Find cells", "2  Correct", "3  Teach", "4  Results"):
        assert title in said
    assert dock.parent().windowTitle().startswith("U-Net cells")


def test_every_control_has_a_tooltip(dock, settle, image):
    segment(dock, settle, image)
    kinds = (QAbstractButton, QComboBox, QSlider)
    shown = [part for kind in kinds for part in dock.findChildren(kind) if part.isVisible()]
    bare = [part for part in shown if not part.toolTip()]
    assert len(shown) > 25
    assert not bare
    fields = (dock.image, dock.labels, dock.model, dock.budget, *dock.advanced._fields)
    assert not [field.label for field in fields if not field.tooltip]
    for part, key in (
        (dock.correcting.take_back, "(U)"),
        (dock.correcting.next_place, "(N)"),
        (dock.correcting.confirm, "(Shift-C)"),
    ):
        assert key in part.toolTip()


@pytest.mark.slow
def test_nothing_scrolls_on_a_small_screen_also_with_a_verdict(
    dock, settle, image, outlined, qtbot
):
    window = dock.window()
    window.resize(1366, 768)
    segment(dock, settle, image)
    outlined(dock)
    dock.budget.choices = (("a moment", 1.0),)
    dock.finetune_button.click()
    settle(dock)
    assert dock.last.isVisible()
    qtbot.wait(200)
    assert window.height() <= 768
    assert dock.width() == 368
    bar = dock.findChild(QScrollArea).verticalScrollBar()
    assert bar.maximum() == 0


def test_the_accent_follows_the_theme(dock, settle, image):
    dock.viewer.add_image(image)
    seen = set()
    for theme in ("light", "dark"):
        dock.viewer.theme = theme
        seen.add(dock.styleSheet())
    assert len(seen) == 2


def test_the_menu_of_the_question_mark(dock, settle, image):
    entries = {action.text(): action for action in dock.head.menu.actions()}
    assert list(entries) == [
        "Tutorial",
        "Shortcuts",
        "Report a problem",
        "Preferences…",
        "Restore defaults",
    ]
    for name, words in (
        ("Tutorial", "Find cells"),
        ("Shortcuts", "undo the last mark"),
        ("Report a problem", "napari-unet "),
    ):
        entries[name].trigger()
        assert words in dock.head.shown.text()
        dock.head.shown.close()
    assert "https://github.com/napari-unet/napari-unet/issues" in dock.head.shown.text()
    dock.viewer.add_image(image)
    dock.advanced.threshold.value, dock.budget.value = 0.7, 600.0
    dock.advanced.diameter.value, dock.advanced.scope.value = 30, "visible area"
    entries["Restore defaults"].trigger()
    config = dock.advanced.predict_config()
    assert (config.threshold, config.diameter_px) == (None, "auto")
    assert (dock.budget.value, dock.advanced.scope.value) == (60.0, "this plane")


@pytest.mark.slow
def test_restore_defaults_restores_what_is_seen_and_how_planes_are_connected(dock, settle, image):
    segment(dock, settle, image)
    dock.view.filled.click()
    dock.correcting.show_seen.click()
    dock.view.changed.setChecked(True)
    assert dock.labels.value.contour == 0
    restore = {action.text(): action for action in dock.head.menu.actions()}["Restore defaults"]
    restore.trigger()
    assert dock.view.outlined.isChecked()
    assert dock.labels.value.contour > 0
    assert dock.correcting.show_seen.isChecked()
    assert not dock.view.changed.isChecked()
    dock.viewer.add_image(np.stack([image] * 3), name="stack")
    dock.advanced.scope.value = "everything"
    dock.advanced.link.value = "none"
    assert dock.advanced.files_config().link == "none"
    restore.trigger()
    dock.advanced.scope.value = "everything"
    assert dock.advanced.link.value == "z"
    assert dock.advanced.predict_config().link == "z"
    assert dock.advanced.files_config().link == "none", "nobody chose it"


def test_the_head_lists_every_key_and_gesture_of_the_dock(dock, settle, image):
    segment(dock, settle, image)
    entries = {action.text(): action for action in dock.head.menu.actions()}
    entries["Shortcuts"].trigger()
    listed = set(re.findall(r"<b>(.+?)</b>", dock.head.shown.text()))
    listed = {key for keys in listed for key in keys.split(", ")}
    keymaps = dock.labels.value.keymap, getattr(dock.viewer, "__wrapped__", dock.viewer).keymap
    bound = {str(key).replace("+", "-") for keymap in keymaps for key in keymap}
    names = {"PageDown": "Page Down", "PageUp": "Page Up"}
    assert {"A", "R", "N", "PageUp", "Shift-C"} <= bound
    assert {names.get(key, key) for key in bound} <= listed
    dock.head.shown.close()
    entries["Tutorial"].trigger()
    for name, key in (("add", "A"), ("remove", "R"), ("split", "S"), ("merge", "J")):
        assert f"<i>{name}</i> ({key})" in " ".join(dock.head.shown.text().split())
    dock.head.shown.close()


def test_a_tool_that_is_on_looks_otherwise_than_the_next_button(dock, settle, image, qtbot):
    segment(dock, settle, image)
    tool, following = dock.correcting.gestures.buttons["split"], dock.correcting.next_place
    following.click()
    for theme in ("light", "dark"):
        dock.viewer.theme = theme
        tool.setChecked(True)
        qtbot.wait(50)
        marked = next(b for b in dock.findChildren(QPushButton) if b.property("accent"))
        at, other = (ground(button) for button in (tool, marked))
        assert np.abs(np.subtract(at, other)).max() > 40
        edge = tool.grab().toImage().pixelColor(tool.width() // 2, 1).getRgb()[:3]
        assert np.abs(np.subtract(at, edge)).max() > 80
        tool.setChecked(False)
        qtbot.wait(50)
        assert np.abs(np.subtract(at, ground(tool))).max() > 20


def ground(button) -> tuple[int, ...]:
    """The colour between the edge of a button and its text."""
    return button.grab().toImage().pixelColor(button.width() // 2, 4).getRgb()[:3]
