"""The dock in a real viewer, driven with clicks and strokes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMainWindow, QMenu

from napari_unet.config import PredictConfig
from napari_unet.jobs import FinishReason, Job, JobCancelled
from napari_unet.plugin.dock.widget import SegmentWidget


def cells(widget) -> Labels:
    layer = widget.viewer.layers.selection.active
    assert isinstance(layer, Labels)
    return layer


def previous_model(widget) -> None:
    """Click "Return to previous model" in the menu beside Model."""
    widget.models.fill()
    widget.models.menu.actions()[0].trigger()


def finetuning_for_long(widget, settle, image) -> Job:
    """Segment, paint, start a long fine-tune; returns its job once it has begun."""
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    cells(widget).paint((75, 75), 9)
    widget.budget.choices = (("long", 600.0),)
    jobs = []
    finetune = widget.controller.service.finetune
    widget.controller.service.finetune = lambda *a, **k: jobs.append(finetune(*a, **k)) or jobs[0]
    widget.finetune_button.click()
    for _ in range(200):
        QTest.qWait(50)
        if jobs and widget.curve.points:
            return jobs[0]
    raise AssertionError("the job never reported")


def test_segment_adds_labels_that_lie_over_the_image(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(
        image, name="cells", scale=(0.5, 0.5), translate=(3, 4), units=("um", "um")
    )
    widget.segment_button.click()
    settle(widget)
    layer = cells(widget)
    assert layer.data.dtype == np.int32
    assert layer.data.max() == 3
    assert all(layer.data[at] for at in ((20, 20), (30, 70), (70, 30)))
    assert not layer.data[50, 50]
    source = widget.viewer.layers["cells"]
    np.testing.assert_array_equal(layer.scale, source.scale)
    np.testing.assert_array_equal(layer.translate, source.translate)
    assert layer.units == source.units
    assert layer.metadata["napari_unet"]["image"] == "cells"
    assert layer.metadata["napari_unet"]["model"] == "tiny@1"
    assert widget.status.text().startswith("3 cells, typically ")
    assert widget.status.toolTip().startswith("Model tiny, version 1, ")
    assert widget.compute.text() == "CPU"
    assert widget.compute.toolTip().startswith("The last job ran on CPU, ")
    assert layer.selected_label == 4
    assert widget.labels.value is layer


@pytest.mark.slow
def test_painting_with_the_mouse_is_counted_and_undo_is_not(docked, settle, hand, image):
    widget = docked()
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    assert widget.correcting.count.text() == "nothing corrected yet"
    layer = cells(widget)
    layer.mode = "paint"
    layer.brush_size = 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    assert layer.data[78, 75] == 4
    assert widget.correcting.count.text() == "1 cell corrected"
    layer.mode = "erase"
    layer.brush_size = 20
    hand(widget.viewer).drag([(20, 18), (20, 22)])
    settle(widget)
    assert widget.correcting.count.text() == "2 cells corrected"
    layer.undo()
    layer.undo()
    settle(widget)
    assert widget.correcting.count.text() == "nothing corrected yet"


@pytest.mark.slow
def test_finetune_learns_a_new_version_and_leaves_layers_alone(docked, settle, outlined, image):
    widget = docked()
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    layer = outlined(widget)
    painted = layer.data.copy()
    widget.budget.choices = (("a moment", 4.0),)
    widget.finetune_button.click()
    assert not widget.finetune_button.isEnabled()
    settle(widget)
    assert widget.controller.service.store.find("tiny").version == 2
    assert widget.model.value == "tiny"
    assert widget.status.text().startswith('New model "tiny", version 2, is ready: ')
    assert widget.last.note.isVisible()
    assert widget.curve.points
    np.testing.assert_array_equal(layer.data, painted)
    assert widget.finetune_button.isEnabled()


@pytest.mark.slow
def test_segment_again_keeps_painted_layers_and_replaces_untouched_ones(
    docked, settle, hand, image
):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    for _ in range(2):
        widget.segment_button.click()
        settle(widget)
    assert [layer.name for layer in widget.viewer.layers] == ["cells", "cells cells"]
    first = cells(widget)
    first.mode = "paint"
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    painted = first.data.copy()
    widget.segment_button.click()
    settle(widget)
    names = [layer.name for layer in widget.viewer.layers]
    assert names == ["cells", "cells cells", "cells cells [1]", "learnt from (U-Net)"]
    assert not first.visible
    np.testing.assert_array_equal(first.data, painted)
    assert cells(widget) is not first


@pytest.mark.slow
def test_going_back_to_the_earlier_model_is_one_click(docked, settle, outlined, image):
    widget = docked()
    store = widget.controller.service.store
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    outlined(widget)
    widget.budget.choices = (("a moment", 0.5),)
    widget.finetune_button.click()
    settle(widget)
    assert store.find("tiny").version == 2
    previous_model(widget)
    assert store.find("tiny").version == 1
    assert widget.status.text() == 'Version 1 of "tiny" is in use again'
    assert [v.version for v in store.versions("tiny")] == [1, 2]


@pytest.mark.slow
def test_planes_of_a_stack_are_segmented_and_counted_apart(docked, settle, discs):
    widget = docked()
    stack = np.stack([discs((20, 20)), discs((30, 70), (60, 60)), discs((70, 30))])
    widget.viewer.add_image(stack, name="movie")
    widget.viewer.dims.set_point(0, 1)
    widget.segment_button.click()
    settle(widget)
    layer = cells(widget)
    assert [int(plane.max()) for plane in layer.data] == [0, 2, 0]
    widget.advanced.scope.value = "everything"
    widget.segment_button.click()
    settle(widget)
    layer = cells(widget)
    assert [len(np.unique(plane)) - 1 for plane in layer.data] == [1, 2, 1]
    assert len(np.unique(layer.data)) == 5
    for plane, y in ((0, 40), (2, 50)):
        widget.viewer.dims.set_point(0, plane)
        layer.paint((plane, y, y), 9)
    settle(widget)
    assert widget.correcting.count.text() == "2 cells corrected on 2 planes"


@pytest.mark.slow
def test_rgb_and_labels_from_elsewhere(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(np.stack([image] * 3, -1), rgb=True)
    widget.segment_button.click()
    settle(widget)
    assert cells(widget).data.max() == 3
    own = np.zeros(image.shape, np.uint8)
    own[10:20, 50:60] = 1
    widget.viewer.add_labels(own, name="mine")
    settle(widget)
    assert widget.labels.value.name == "mine"
    assert widget.correcting.count.text() == '1 cell of "mine" is used as an example'


@pytest.mark.slow
def test_cancel_ends_the_job_and_adds_nothing(docked, settle, image):
    widget = docked()
    finetuning_for_long(widget, settle, image)
    widget.cancel_button.click()
    widget.cancel_button.click()
    settle(widget)
    assert widget.status.text() == "Cancelled; nothing was changed"
    assert len(widget.controller.service.store.versions("tiny")) == 1


@pytest.mark.slow
def test_errors_are_sentences_and_the_widget_works_on(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(np.zeros((2, 2, 2, 8, 8)), name="odd")
    widget.segment_button.click()
    assert "name them" in widget.status.text() or "axes" in widget.status.text()
    widget.viewer.layers.clear()
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    widget.viewer.add_labels(np.ones((5, 5), int))
    settle(widget)
    widget.finetune_button.click()
    assert "are 5 x 5 and the image" in widget.status.text()
    widget.labels.value = next(x for x in widget.viewer.layers if x.name.endswith("cells"))
    widget.segment_button.click()
    settle(widget)
    assert widget.status.text().startswith("3 cells")


def test_an_exception_inside_a_job_reaches_the_user(docked, settle, image, monkeypatch):
    widget = docked()
    widget.viewer.add_image(image)

    def fail(*args, **kwargs):
        raise RuntimeError("the network fell over")

    monkeypatch.setattr("napari_unet.core.cells.instances.label_instances", fail)
    widget.segment_button.click()
    settle(widget)
    assert widget.status.text() == "⚠ RuntimeError: the network fell over"
    assert len(widget.viewer.layers) == 1
    assert widget.segment_button.isEnabled()


@pytest.mark.slow
def test_augmentation_preview_adds_real_draws(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    widget.advanced.preview.native.click()
    settle(widget)
    names = {layer.name for layer in widget.viewer.layers if "augmentation" in layer.name}
    assert names == {
        f"augmentation: {name}"
        for name in (
            "image",
            "grid",
            "deformed image",
            "deformed labels",
            "deformed grid",
            "weight",
        )
    }
    draws = widget.viewer.layers["augmentation: deformed labels"].data
    assert draws.ndim == 3
    assert draws.max() > 0
    assert not np.array_equal(draws[0], draws[1])
    assert widget.image.value.name == "image"
    assert widget.labels.value.name == "image cells"
    weight = widget.viewer.layers["augmentation: weight"].data
    assert weight.min() == 0
    assert weight.max() >= 1


@pytest.mark.slow
def test_closing_the_dock_cancels_the_job(docked, settle, image):
    widget = docked()
    job = finetuning_for_long(widget, settle, image)
    widget.viewer.window.remove_dock_widget(widget)
    QTest.qWait(100)
    with pytest.raises(JobCancelled):
        job.wait(10)
    widget.viewer.add_image(image)


@pytest.mark.slow
def test_only_one_thing_runs_at_a_time(docked, settle, image):
    widget = docked()
    job = finetuning_for_long(widget, settle, image)
    assert not widget.advanced.preview.native.isEnabled()
    assert not widget.models.more.isEnabled()
    with pytest.raises(ValueError, match="running still"):
        widget.controller.segment(widget.image.value, "tiny", PredictConfig())
    widget.cancel_button.click()
    widget.cancel_button.click()
    settle(widget)
    assert job.reason is FinishReason.CANCELLED
    assert widget.advanced.preview.native.isEnabled()


def test_a_result_that_cannot_be_shown_is_told(docked, settle, image, monkeypatch):
    widget = docked()
    widget.viewer.add_image(image)
    monkeypatch.setattr(
        "napari_unet.plugin.results.result_layers.labels_like", lambda *args, **named: 1 / 0
    )
    widget.segment_button.click()
    settle(widget)
    assert "ZeroDivisionError" in widget.status.text()
    assert widget.segment_button.isEnabled()


@pytest.mark.slow
def test_labels_of_another_image_are_not_learnt(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(image, name="first")
    widget.segment_button.click()
    settle(widget)
    result = cells(widget)
    result.paint((75, 75), 9)
    widget.viewer.add_image(image[::-1].copy(), name="second")
    settle(widget)
    assert widget.image.value.name == "second"
    assert widget.labels.value is None
    widget.labels.value = result
    settle(widget)
    widget.finetune_button.click()
    settle(widget)
    assert "were made from the image 'first'" in widget.status.text()
    widget.viewer.layers["first"].name = "renamed"
    widget.viewer.layers.selection.active = result
    assert widget.image.value.name == "renamed"


@pytest.mark.slow
def test_a_stack_can_be_segmented_plane_by_plane(docked, settle, discs):
    widget = docked()
    viewer = widget.viewer
    viewer.add_image(np.stack([discs((20, 20)), discs((30, 70), (60, 60))]), name="movie")
    viewer.dims.set_point(0, 0)
    widget.segment_button.click()
    settle(widget)
    cells(widget).paint((0, 60, 60), 9)
    painted = cells(widget).data[0].copy()
    viewer.dims.set_point(0, 1)
    widget.segment_button.click()
    settle(widget)
    assert [layer.name for layer in viewer.layers] == ["movie", "movie cells"]
    layer = cells(widget)
    np.testing.assert_array_equal(layer.data[0], painted)
    assert set(np.unique(layer.data[1])) & set(np.unique(painted)) == {0}
    assert len(np.unique(layer.data[1])) == 3
    assert widget.correcting.count.text() == "1 cell corrected"


@pytest.mark.slow
def test_a_new_dock_knows_what_was_painted(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(image)
    widget.segment_button.click()
    settle(widget)
    cells(widget).paint((75, 75), 9)
    widget.viewer.window.remove_dock_widget(widget)
    again = SegmentWidget(widget.viewer, widget.controller.service)
    widget.viewer.window.add_dock_widget(again)
    settle(again)
    assert again.labels.value is cells(again)
    assert again.correcting.count.text() == "1 cell corrected"
    again.cleanup()


def test_what_is_left_to_the_model_is_said_in_words(docked):
    advanced = docked().advanced
    whole = (advanced.channel, advanced.min_size, advanced.diameter)
    for box, value, shown in (*((box, 7, "7") for box in whole), (advanced.threshold, 0.7, "0.70")):
        least = box.native.text()
        assert least in ("automatic", "default", "not given")
        box.value = value
        assert box.native.text() == shown
        box.value = box.min
        assert box.native.text() == least


def test_settings_reach_the_job(docked, settle, image, monkeypatch):
    widget = docked()
    widget.viewer.add_image(image)
    asked = []
    service = widget.controller.service
    segment = service.segment
    monkeypatch.setattr(service, "segment", lambda *args: asked.append(args[3]) or segment(*args))
    widget.advanced.threshold.value = 0.7
    widget.advanced.min_size.value = 500
    widget.advanced.precision.value = "float32"
    widget.segment_button.click()
    settle(widget)
    assert asked == [PredictConfig(threshold=0.7, min_size_px=500, precision="float32")]
    assert cells(widget).data.max() == 0


@pytest.mark.slow
def test_importing_the_widget_loads_neither_torch_nor_image_processing():
    code = (
        "import sys, napari_unet.plugin.dock.widget; "
        "slow = {'torch', 'distributed', 'skimage.segmentation', 'scipy.ndimage'}; "
        "slow &= set(sys.modules); "
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def titles(menu: QMenu, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Paths of all entries of a menu, once it has been opened."""
    menu.aboutToShow.emit()
    found = []
    for action in menu.actions():
        name = (*path, action.text().replace("&", ""))
        found += titles(action.menu(), name) if action.menu() else [name]
    return found


def test_the_dock_is_in_the_menus(viewer):
    window = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow))
    entries = [
        entry
        for action in window.menuBar().actions()
        for entry in titles(action.menu(), (action.text().replace("&", ""),))
    ]
    places = {entry[:2] for entry in entries if "U-Net cells" in entry[-1]}
    assert ("Layers", "Segment") in places
    assert "Plugins" in {place[0] for place in places}


def test_the_diameter_is_guessed_and_filled_in(docked, settle, image):
    widget = docked()
    widget.viewer.add_image(np.kron(image, np.ones((3, 3), image.dtype)))
    widget.advanced.guess.native.click()
    settle(widget)
    # Discs of a radius of 6 px, three times as large.
    assert widget.advanced.diameter.value == pytest.approx(36, rel=0.2)
    assert "click Segment" in widget.status.text()
    widget.segment_button.click()
    settle(widget)
    assert cells(widget).data.max() == 3


def test_where_no_cells_are_recognised_the_diameter_stays(docked, settle):
    widget = docked()
    widget.viewer.add_image(np.zeros((64, 64), np.uint8))
    widget.advanced.guess.native.click()
    settle(widget)
    assert widget.advanced.diameter.value == 0
    assert "recognises no cells at any size" in widget.status.text()
    assert widget.segment_button.isEnabled()


def test_the_dock_fits_on_a_small_screen(docked):
    dock = docked()
    dock.advanced.expand(animate=False)
    assert dock.minimumSizeHint().height() < 400
    assert dock.sizeHint().width() >= dock.advanced.minimumSizeHint().width()
