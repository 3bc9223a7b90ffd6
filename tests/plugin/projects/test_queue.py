"""A folder of images in the dock: one image open at a time, saved as it is corrected."""

from __future__ import annotations

import csv
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_unet.plugin.viewer.record import is_helper, record_of
from napari_unet.projects.project import Project


def shown(widget):
    return [layer for layer in widget.viewer.layers if not is_helper(layer)]


def segment(widget, settle):
    widget.segment_button.click()
    settle(widget)
    settle(widget)
    return widget.labels.value


def correct(widget, hand, at=(75, 75)):
    layer = widget.labels.value
    layer.mode, layer.brush_size = "paint", 9
    layer.selected_label = 99
    hand(widget.viewer).drag([at, (at[0], at[1] + 1)])
    return layer


def go(widget, settle, steps=1):
    (widget.queue.following if steps > 0 else widget.queue.previous).click()
    settle(widget)
    settle(widget)


@pytest.mark.slow
def test_a_folder_is_opened_corrected_and_left(opened, settle, hand, folder):
    panel = opened.queue
    assert panel.place.text() == "1 of 4: ○ new"
    assert [layer.name for layer in shown(opened)] == ["a.tif"]
    assert opened.image.value.name == "a.tif"
    assert segment(opened, settle).name == "a.tif cells"
    assert panel.place.text() == "1 of 4: ◔ segmented"
    correct(opened, hand)
    # Nothing waits for the stroke to be counted.
    go(opened, settle)
    assert panel.place.text() == "2 of 4: ○ new"
    assert [layer.name for layer in shown(opened)] == ["b.tif"]
    project = Project(folder)
    entry = project.entry("a.tif")
    assert (entry.state, entry.n_corrected, entry.model) == ("corrected", 1, "tiny@1")
    assert project.read_labels("a.tif", project.read("a.tif"))[75, 75] == 99
    assert project.manifest.current == "b.tif"
    go(opened, settle, -1)
    assert [layer.name for layer in shown(opened)] == ["a.tif", "a.tif cells"]
    assert opened.labels.value.data[75, 75] == 99
    assert "1 cell corrected" in opened.correcting.count.text()
    opened.labels.value.undo()
    go(opened, settle, -1)
    assert "this is the first image" in panel.note.text()


@pytest.mark.slow
def test_marks_and_done_come_back(opened, settle, hand, docked, folder):
    layer = segment(opened, settle)
    hand(opened.viewer).point((20, 20))
    hand(opened.viewer).press("C")
    settle(opened)
    hand(opened.viewer).press("D", "ShiftModifier")
    settle(opened)
    assert opened.queue.place.text() == "1 of 4: ✔ done"
    hand(opened.viewer).press("PageDown")
    settle(opened)
    assert opened.queue.queue.name == "b.tif"
    hand(opened.viewer).press("PageUp")
    settle(opened)
    assert opened.queue.done.isChecked()
    again = opened.labels.value
    assert again != layer
    np.testing.assert_array_equal(again.data, layer.data)
    assert "1 place marked correct" in opened.correcting.count.text()


@pytest.mark.slow
def test_segmented_again_a_corrected_image_keeps_its_corrections(opened, settle, hand, folder):
    segment(opened, settle)
    correct(opened, hand)
    settle(opened)
    segment(opened, settle)
    go(opened, settle)
    go(opened, settle, -1)
    assert opened.labels.value.data[75, 75] > 0
    assert "carried over" in opened.correcting.count.text()
    assert Project(folder).entry("a.tif").state == "corrected"


@pytest.mark.slow
def test_layers_and_arrays_are_freed(opened, settle, qtbot, hand):
    gone = []
    for _ in range(3):
        segment(opened, settle)
        correct(opened, hand)
        settle(opened)
        for layer in shown(opened):
            gone += [weakref.ref(layer), weakref.ref(layer.data)]
        del layer
        go(opened, settle)
    # Whoever was told of the layers lets go of them with the next image.
    segment(opened, settle)
    assert len(shown(opened)) == 2

    def are_freed():
        gc.collect()
        return all(ref() is None for ref in gone)

    qtbot.waitUntil(are_freed, timeout=5000)
    assert len(opened.controller.corrections._trackers) == 1
    assert not opened.queue.queue._leaving


@pytest.mark.slow
def test_the_rest_is_segmented_and_corrected_images_stay(opened, settle, hand, folder, qtbot):
    segment(opened, settle)
    correct(opened, hand)
    go(opened, settle)
    panel = opened.queue
    assert panel.segment_rest.text() == "Segment the rest (3)"
    panel.segment_rest.click()
    qtbot.waitUntil(lambda: "9 cells in 3 images" in panel.note.text(), timeout=20_000)
    settle(opened)
    # The open image was read again; what came of the rest is still told, and told once.
    assert "9 cells in 3 images" in panel.note.text()
    assert not opened.status.text()
    # The open image had no labels: they are shown now.
    assert opened.labels.value.name == "b.tif cells"
    assert panel.place.text() == "1 of 4: ◔ segmented"
    assert not panel.segment_rest.isEnabled()
    project = Project(folder)
    assert [project.entry(name).state for name in sorted(project.names)] == [
        "corrected", "segmented", "segmented", "segmented",
    ]  # fmt: skip
    assert project.read_labels("a.tif", project.read("a.tif"))[75, 75] == 99


@pytest.mark.slow
def test_after_the_rest_the_next_image_is_the_most_doubtful_one(
    opened, settle, hand, docked, folder
):
    panel, queue = opened.queue, opened.queue.queue
    segment(opened, settle)
    correct(opened, hand)
    settle(opened)
    assert not panel.by_doubt.isChecked()
    panel.segment_rest.click()
    settle(opened)
    # Drawn images are about as doubtful as each other.
    for name, doubt in (("b.tif", 0.1), ("c.tif", 0.2), ("d.tif", 0.3)):
        queue.project.segmented(name, "tiny@1", 3, doubt)
    queue.arrange()
    # The open image stays open, with what was painted on it, and is the first of the list.
    assert queue.names == ["a.tif", "d.tif", "c.tif", "b.tif"]
    assert opened.labels.value.data[75, 75] == 99
    assert panel.place.text() == "1 of 4: ◑ corrected"
    assert panel.by_doubt.isChecked()
    assert "most doubtful images come first now" in panel.note.text()
    assert "9 cells in 3 images" in panel.note.text()
    go(opened, settle)
    assert queue.name == "d.tif"
    correct(opened, hand)
    go(opened, settle)
    assert queue.name == "c.tif"
    # Nothing moved while images were corrected; a fine-tune orders them anew.
    assert queue.names == ["a.tif", "d.tif", "c.tif", "b.tif"]
    queue.teaching = ("a.tif", "d.tif")
    model = opened.controller.service.store.find("tiny")
    verdict = SimpleNamespace(accepted=False)
    opened.controller.learnt.emit(SimpleNamespace(verdict=verdict, model=model, slips=()))
    settle(opened)
    assert queue.names == ["c.tif", "b.tif", "a.tif", "d.tif"]
    # One click goes back to the order of names, and that stays.
    panel.by_doubt.click()
    settle(opened)
    assert queue.names == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert (queue.name, panel.place.text()) == ("c.tif", "3 of 4: ◔ segmented")
    again = docked()
    again.queue.open_folder(folder)
    settle(again)
    queue = again.queue.queue
    queue.project.taught(["a.tif"], "tiny")
    queue.arrange()
    assert queue.names == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert not again.queue.by_doubt.isChecked()


def test_the_rest_can_be_stopped_and_goes_on(opened, settle, monkeypatch):
    from napari_unet.service import files

    segment_file, done = files.segment_file, []

    def two_then_stop(*args):
        done.append(args)
        if len(done) == 3:
            opened.controller.follower.cancel()
        return segment_file(*args)

    monkeypatch.setattr(files, "segment_file", two_then_stop)
    opened.queue.segment_rest.click()
    settle(opened)
    assert "Stopped: 2 of 4 images are done" in opened.queue.note.text()
    assert opened.queue.segment_rest.text() == "Segment the rest (2)"
    opened.queue.segment_rest.click()
    settle(opened)
    assert not opened.queue.segment_rest.isEnabled()


def test_what_is_wrong_with_a_folder_is_told(docked, settle, tmp_path):
    widget = docked()
    widget.queue.open_folder(tmp_path / "none")
    settle(widget)
    assert widget.queue.queue.project is None
    assert widget.queue.isHidden()
    assert "there is no folder" in widget.status.text()


def test_an_image_that_cannot_be_read_is_passed_over(opened, settle, folder):
    (folder / "b.tif").write_bytes(b"broken")
    go(opened, settle)
    assert "b.tif cannot be read" in opened.queue.note.text()
    assert opened.queue.queue.name == "a.tif"
    opened.queue.images.chosen.emit("c.tif")
    settle(opened)
    assert opened.queue.place.text() == "3 of 4: ○ new"


def test_while_it_segments_the_image_stays(opened, settle):
    opened.segment_button.click()
    opened.queue.following.click()
    assert "something is running for this image" in opened.queue.note.text()
    settle(opened)
    assert opened.labels.value.name == "a.tif cells"


def test_closed_with_the_last_stroke_unsaved(opened, settle, hand, folder, qtbot):
    segment(opened, settle)
    correct(opened, hand)
    opened.cleanup()

    def is_saved():
        project = Project(folder)
        found = project.read_labels("a.tif", project.read("a.tif"))
        return project.entry("a.tif").state == "corrected" and found[75, 75] == 99

    qtbot.waitUntil(is_saved, timeout=5000)


def test_a_script_ends_with_the_last_stroke_unsaved(
    opened, settle, hand, folder, qtbot, monkeypatch
):
    segment(opened, settle)
    correct(opened, hand)
    # The controller goes first then, while Qt is there still.
    opened.controller.close()
    monkeypatch.delattr(opened.controller.corrections, "_timer")
    opened.cleanup()
    qtbot.waitUntil(lambda: Project(folder).entry("a.tif").state == "corrected", timeout=5000)
    project = Project(folder)
    assert project.read_labels("a.tif", project.read("a.tif"))[75, 75] == 99


@pytest.mark.slow
def test_all_corrected_images_teach_but_those_that_are_held_out(
    opened, settle, hand, monkeypatch, folder
):
    opened.queue.segment_rest.click()
    settle(opened)
    for n in range(3):
        settle(opened)
        correct(opened, hand)
        if n == 1:
            opened.queue.held_out.click()
        if n < 2:
            go(opened, settle)
    settle(opened)
    given = []

    def fail(annotated, *args, **options):
        given.extend(annotated)
        raise ValueError("this is a test")

    monkeypatch.setattr(opened.controller.service, "finetune", fail)
    opened.finetune_button.click()
    settle(opened)
    assert [item.name for item in given] == ["c.tif", "a.tif"]
    assert all(item.corrections for item in given)
    go(opened, settle, -1)
    opened.finetune_button.click()
    settle(opened)
    assert "b.tif is held out" in opened.status.text()


def test_pictures_are_made_of_what_is_in_view(opened, qtbot):
    images = opened.queue.images
    qtbot.waitUntil(lambda: not images.item(0).icon().isNull(), timeout=5000)
    assert images.item(1).text() == "b.tif\n○ new"


def test_a_new_model_is_scored_on_held_out_images(opened, settle, store, add_model):
    opened.queue.segment_rest.click()
    settle(opened)
    settle(opened)
    opened.queue.held_out.click()
    settle(opened)
    assert "mark them as done" in opened.queue.scores.text()
    opened.queue.done.click()
    settle(opened)
    assert "1 of 1 held-out images judge the next model" in opened.queue.scores.text()
    parent = store.find("tiny")
    model = add_model("tiny", seed=1, normalisation={"low": 0.0, "high": 100.0})
    opened.queue.queue.teaching = ("b.tif",)
    accepted = SimpleNamespace(accepted=True)
    done = SimpleNamespace(verdict=accepted, parent=parent, model=model, slips=())
    opened.controller.learnt.emit(done)
    settle(opened)
    settle(opened)
    assert opened.queue.scores.text() == "AP on 1 held-out image: 1.00, 1.00 after 0, 0 cells"
    # All but the image that is done are left for the new model.
    assert opened.queue.segment_rest.text() == "Segment the rest (3)"


def test_a_count_that_is_older_than_the_stroke_hides_nothing(opened, settle, hand, folder):
    from napari_unet.plugin.edits.tracker import EditCount

    layer = segment(opened, settle)
    correct(opened, hand)
    # A survey that began before the stroke ends after it.
    opened.controller.corrections.counted.emit(layer, EditCount())
    go(opened, settle)
    assert Project(folder).entry("a.tif").n_corrected == 1


def test_closed_the_folder_leaves_nothing(opened, settle, qtbot):
    segment(opened, settle)
    opened.queue.leave.click()

    def is_empty():
        return not [each for each in opened.viewer.layers if isinstance(each, Image | Labels)]

    qtbot.waitUntil(is_empty, timeout=5000)
    assert opened.queue.isHidden()


def test_slips_of_the_brush_are_shown_on_their_image(opened, settle):
    from napari_unet.core.cells.suggestions import Place
    from napari_unet.learning.live_view import Slip
    from napari_unet.plugin.results.suggestions import CHECK

    slips = tuple(
        Slip((), Place(y, 30.0, 1.0), name) for y, name in ((20.0, "a.tif"), (70, "b.tif"))
    )
    done = SimpleNamespace(
        verdict=SimpleNamespace(accepted=False, why="no"),
        parent=None, model=None, slips=slips, check=None, replay=None, compute="CPU",
    )  # fmt: skip
    opened.queue.queue.teaching = ("a.tif", "b.tif")
    done.model = opened.controller.service.store.find("tiny")
    told = opened.controller._show_improvement(opened.image.value, done)
    assert told.endswith(
        "2 corrections look like slips of the brush (on a.tif, b.tif): see Next doubtful cell"
    )
    for name, y in (("a.tif", 20), ("b.tif", 70)):
        segment(opened, settle)
        opened.correcting.next_place.click()
        assert opened.status.text().startswith("A slip of the brush? Place 1 of 1"), name
        np.testing.assert_allclose(opened.viewer.layers[CHECK].data, [[y, 30]])
        go(opened, settle)


def test_the_curve_is_drawn(opened, settle, folder):
    from napari_unet.projects.manifest import Score

    opened.queue.segment_rest.click()
    settle(opened)
    settle(opened)
    for box in (opened.queue.held_out, opened.queue.done):
        box.click()
        settle(opened)
    curve = opened.queue.curve
    assert not curve.isVisible()
    # Without what it is drawn on.
    for n, (n_cells, ap) in enumerate(((5, 0.61), (12, 0.74), (20, 0.745)), 1):
        opened.queue.queue.project.add_score(Score(f"m@{n}", n_cells, ap, ("a.tif",)))
        opened.queue.refresh()
    assert curve.isVisible()
    first, second, last = curve.places()
    assert first.x() < second.x() < last.x()
    assert first.y() > second.y() > last.y()
    assert (second.x() - first.x()) / (last.x() - first.x()) == pytest.approx(7 / 15)
    shown = curve.grab().toImage()
    around = [shown.pixelColor(round(p.x()), round(p.y())).name() for p in (first, second, last)]
    assert around == ["#2ec4b6"] * 3
    assert opened.queue.scores.text() == (
        "AP on 1 held-out image: 0.61, 0.74, 0.74 after 5, 12, 20 cells"
    )
    opened.queue.queue.project.add_score(Score("m@4", 30, 0.75, ("a.tif",)))
    opened.queue.refresh()
    assert "more correcting hardly pays" in opened.queue.scores.text()


def test_files_that_are_chosen_are_opened_one_by_one(docked, settle, folder):
    widget = docked()
    widget.measuring.files.click()
    dialog = widget.measuring.dialog
    dialog.choose([folder / "b.tif", folder / "c.tif"])
    assert "one by one: images/labels" in dialog.where.text()
    dialog.queue.click()
    settle(widget)
    assert widget.queue.queue.names == ["b.tif", "c.tif"]
    assert widget.queue.place.text() == "1 of 2: ○ new"


def test_a_plate_is_opened_field_by_field(docked, settle, tmp_path, image):
    import zarr

    path = tmp_path / "p.zarr"
    plate = zarr.open_group(path, mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    described = {
        "version": "0.4",
        "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    for field in "01":
        group = well.create_group(field)
        group.attrs["multiscales"] = [described]
        group.create_array("0", data=image)
    widget = docked()
    widget.measuring.files.click()
    widget.measuring.dialog.choose([path])
    widget.measuring.dialog.queue.click()
    settle(widget)
    assert widget.queue.queue.names == ["p.zarr/A/1/0", "p.zarr/A/1/1"]
    np.testing.assert_allclose(widget.image.value.scale, (0.5, 0.5))
    widget.queue.segment_rest.click()
    settle(widget)
    settle(widget)
    assert widget.queue.place.text() == "1 of 2: ◔ segmented"
    assert widget.labels.value.data.max() == 3
    assert sorted(each.name for each in (tmp_path / "labels").iterdir()) == [
        "p_A_1_0_labels.zarr", "p_A_1_1_labels.zarr",
    ]  # fmt: skip


@pytest.mark.parametrize("axes", ["CYX", "TYX"])
def test_what_the_axes_are_is_said_once_for_the_folder(docked, settle, hand, discs, tmp_path, axes):
    for n, name in enumerate("abc"):
        image = discs((20, 20 + 4 * n), (70, 30))
        tifffile.imwrite(tmp_path / f"{name}.tif", np.stack([image] * 2), photometric="minisblack")
    widget = docked()
    widget.queue.open_folder(tmp_path)
    settle(widget)
    # The rest is segmented before anybody sees that the axes are wrong.
    widget.queue.segment_rest.click()
    settle(widget)
    assert widget.read_as.axes == "ZYX"
    widget.read_as.choose(axes)
    settle(widget)
    assert widget.queue.segment_rest.text() == "Segment the rest (3)"
    segment(widget, settle)
    correct(widget, hand)
    settle(widget)
    painted = np.asarray(widget.labels.value.data).copy()
    assert painted.shape == ((96, 96) if axes == "CYX" else (2, 96, 96))
    assert not widget.queue.note.is_warning
    go(widget, settle)
    assert widget.read_as.axes == axes
    widget.queue.segment_rest.click()
    settle(widget)
    again = docked()
    again.queue.open_folder(tmp_path)
    settle(again)
    again.queue.images.chosen.emit("a.tif")
    settle(again)
    assert again.read_as.axes == axes
    np.testing.assert_array_equal(again.labels.value.data, painted)
    project = Project(tmp_path)
    for name in ("a.tif", "b.tif", "c.tif"):
        image = project.read(name)
        assert (image.axes, image.file_axes) == (axes, "ZYX")
        assert project.read_labels(name, image).shape == painted.shape
    assert [project.entry(f"{name}.tif").state for name in "abc"] == [
        "corrected", "segmented", "segmented",
    ]  # fmt: skip
    if axes == "CYX":
        # A fine-tune sees again what was seen then.
        again.queue.images.chosen.emit("b.tif")
        settle(again)
        assert record_of(again.labels.value).channel == 0
        assert record_of(again.labels.value).has_channel
    if axes == "TYX":
        # The cells of a movie are tracked, as Segment does.
        first, second = project.read_labels("b.tif", image)
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def refused(opened, settle, store):
    """Ends a fine-tune of the open image, whose version is refused for want of time."""

    def refuse():
        verdict = SimpleNamespace(accepted=False, why="only 4 steps were possible", wants_time=True)
        model = store.find("tiny")
        done = SimpleNamespace(
            verdict=verdict, parent=model, model=model, slips=(), check=None, replay=None,
            compute="CPU",
        )  # fmt: skip
        controller = opened.controller
        opened.queue.queue.teaching = (opened.queue.queue.name,)
        controller.follower.begin("Fine-tuning")
        told = controller._show_improvement(opened.image.value, done)
        controller.follower.finish(told, True)
        settle(opened)

    return refuse


@pytest.mark.slow
def test_what_a_fine_tune_came_to_is_still_offered_on_the_next_image(
    opened, settle, hand, refused, monkeypatch
):
    opened.queue.segment_rest.click()
    settle(opened)
    correct(opened, hand)
    settle(opened)
    window = opened.window()
    window.resize(window.width(), 600)
    settle(opened)
    opened.column.ensureWidgetVisible(opened.finetune_button)
    refused()
    # Though the window is low.
    assert opened.last.more.visibleRegion().boundingRect().height() > 20
    go(opened, settle)
    assert opened.queue.queue.name == "b.tif"
    assert opened.last.more.isVisible()
    assert "only 4 steps were possible" in opened.last.note.text()
    given = []
    monkeypatch.setattr(
        opened.controller.service,
        "finetune",
        lambda annotated, model, config, **more: given.append((annotated, config)) or 1 / 0,
    )
    opened.last.more.click()
    settle(opened)
    ((annotated, config),) = given
    assert [item.name for item in annotated] == ["a.tif"]
    assert config.seconds == 180
    # Another folder, or none, has nothing to do with it.
    refused()
    opened.queue.leave.click()
    settle(opened)
    assert not opened.last.isVisible()


@pytest.mark.slow
def test_what_is_learnt_from_is_tinted_over_each_image(opened, settle, hand):
    opened.queue.segment_rest.click()
    settle(opened)
    for _ in range(3):
        correct(opened, hand)
        settle(opened)
        layers = [layer for layer in opened.viewer.layers if "(going)" not in layer.name]
        assert layers[0] is opened.image.value
        (tint,) = [layer for layer in layers if layer.name == "learnt from (U-Net)"]
        assert tint.visible
        go(opened, settle)


def test_a_folder_goes_on_with_its_model(opened, settle, docked, add_model, folder):
    add_model("zebra", normalisation={"low": 0.0, "high": 100.0})
    add_model("tiger", normalisation={"low": 0.0, "high": 100.0})
    opened.models.offer()
    opened.model.value = "zebra"
    settle(opened)
    again = docked()
    again.model.value = "tiger"
    again.queue.open_folder(folder)
    settle(again)
    assert again.model.value == "zebra"
    again.queue.leave.click()
    settle(again)
    again.model.value = "tiny"
    again.queue.open_folder(folder)
    settle(again)
    assert again.model.value == "zebra"


def test_held_out_images_are_seen_as_the_dock_says(opened, settle, store, add_model, monkeypatch):
    opened.queue.segment_rest.click()
    settle(opened)
    for box in (opened.queue.held_out, opened.queue.done):
        box.click()
        settle(opened)
    opened.advanced.min_size.value = 5000
    opened.queue.queue.teaching = ("b.tif",)
    done = SimpleNamespace(
        verdict=SimpleNamespace(accepted=True), parent=None, model=store.find("tiny"), slips=()
    )
    opened.controller.learnt.emit(done)
    settle(opened)
    settle(opened)
    # No cell is as large as that.
    assert opened.queue.scores.text() == "AP on 1 held-out image: 0.00 after 0 cells"


def test_the_table_of_all_cells_is_told_beside_the_list(opened, settle, folder, monkeypatch):
    opened.queue.segment_rest.click()
    settle(opened)
    path = folder / "cells.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *given: (str(path), ""))
    opened.queue.table.click()
    settle(opened)
    assert opened.queue.note.text() == f"12 cells written to {path}"
    assert not opened.status.text()
    with path.open(newline="") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {f"{n}.tif" for n in "abcd"}


@pytest.mark.slow
def test_the_viewer_draws_between_the_steps_to_the_next_image(opened, settle, qtbot):
    opened.queue.segment_rest.click()
    settle(opened)
    # The image was read again, and what it had before leaves.
    qtbot.waitUntil(lambda: len(opened.viewer.layers) == 2, timeout=5000)
    events, seen, turn = opened.viewer.layers.events, [], 0

    def tick():
        nonlocal turn
        turn += 1

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(1)
    for event in (events.inserted, events.removed):
        event.connect(lambda event: seen.append((event.type, event.value.name, turn)))
    go(opened, settle)
    qtbot.waitUntil(lambda: len(seen) == 4, timeout=5000)
    timer.stop()
    kinds, names, turns = zip(*seen, strict=True)
    assert kinds == ("inserted", "inserted", "removed", "removed")
    assert names[:2] == ("b.tif", "b.tif cells")
    assert len(set(turns)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("wants_time", [False, True])
def test_models_that_are_refused_tell_that_correcting_hardly_pays(
    opened, settle, store, add_model, wants_time
):
    opened.queue.segment_rest.click()
    settle(opened)
    for box in (opened.queue.held_out, opened.queue.done):
        box.click()
        settle(opened)
    parent = store.find("tiny")
    for seed in (1, 2):
        model = add_model("tiny", seed=seed, normalisation={"low": 0.0, "high": 100.0})
        (model.path.parent / f"000{model.version}.refused").touch()
        opened.queue.queue.teaching = ("b.tif",)
        verdict = SimpleNamespace(accepted=False, wants_time=wants_time)
        done = SimpleNamespace(verdict=verdict, parent=parent, model=model, slips=())
        opened.controller.learnt.emit(done)
        settle(opened)
        settle(opened)
    told = opened.queue.scores.text()
    if wants_time:
        assert told == "1 of 1 held-out images judge the next model"
        return
    assert told.startswith("AP on 1 held-out image: 1.00, (1.00), (1.00) after 0, 0, 0 cells")
    assert "more correcting hardly pays" in told


def test_what_the_cells_are_is_there_again(opened, settle, add_model):
    kinds = ("background", "round", "long")
    add_model("kinds", classes=kinds, normalisation={"low": 0.0, "high": 100.0})
    opened.models.offer("kinds")
    layer = segment(opened, settle)
    assert record_of(layer).classes == dict.fromkeys((1, 2, 3), "round")
    go(opened, settle)
    go(opened, settle, -1)
    again = opened.labels.value
    assert again != layer
    assert record_of(again).classes == dict.fromkeys((1, 2, 3), "round")
    assert set(again.features["class"][1:]) == {"round"}


@pytest.mark.slow
def test_an_image_without_labels_does_not_keep_the_others_from_teaching(
    opened, settle, hand, monkeypatch
):
    assert not opened.finetune_button.isEnabled()
    segment(opened, settle)
    correct(opened, hand)
    go(opened, settle)
    assert opened.labels.value is None
    assert opened.finetune_button.isEnabled()
    given = []

    def fail(annotated, *args, **options):
        given.extend(annotated)
        raise ValueError("this is a test")

    monkeypatch.setattr(opened.controller.service, "finetune", fail)
    opened.finetune_button.click()
    settle(opened)
    assert [item.name for item in given] == ["a.tif"]
    assert "this is a test" in opened.status.text()
