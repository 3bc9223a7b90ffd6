"""Measuring the cells, saving the table, and segmenting files from the dock."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest
import tifffile

from napari_unet.service import files as batch


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(layer) -> dict:
    return {name: list(layer.features[name]) for name in layer.features}


@pytest.mark.slow
def test_cells_are_measured_as_they_are_now(segmented, settle, tmp_path):
    widget, layer = segmented
    layer.scale = (0.5, 0.5)
    widget.viewer.layers["cells"].scale = (0.5, 0.5)
    layer.paint((78, 75), 40)
    settle(widget)
    widget.measuring.measure.click()
    settle(widget)
    assert widget.status.text().startswith("4 cells measured")
    found = table(layer)
    assert found["index"] == [1, 2, 3, 40]
    assert found["class"] == ["cell"] * 4
    for cell, area in zip(found["index"], found["area"], strict=True):
        assert area == (layer.data == cell).sum() / 4
    assert max(found["intensity_max"][:3]) == 220
    widget.measuring.save_table(tmp_path / "cells.csv")
    settle(widget)
    assert widget.status.text() == "4 cells written to cells.csv"
    assert widget.status.toolTip() == str(tmp_path / "cells.csv")
    rows = rows_of(tmp_path / "cells.csv")
    assert [int(row["label"]) for row in rows] == [1, 2, 3, 40]
    assert {row["class"] for row in rows} == {"cell"}
    assert {row["unit"] for row in rows} == {"pixel"}


@pytest.mark.slow
def test_cells_of_the_result_that_were_erased_have_no_row(segmented, settle):
    widget, layer = segmented
    widget.segment_button.click()
    settle(widget)
    layer = widget.labels.value
    layer.data_setitem(np.nonzero(layer.data == 2), 0)
    layer.metadata["napari_unet"]["since_last"] = {1: "same", 2: "new", 3: "same"}
    settle(widget)
    widget.measuring.measure.click()
    settle(widget)
    assert table(layer)["index"] == [1, 3]
    assert table(layer)["since last result"] == ["same", "same"]


@pytest.mark.slow
def test_what_is_painted_later_leaves_the_table_whole(segmented, settle, hand):
    widget, layer = segmented
    widget.measuring.measure.click()
    settle(widget)
    areas = table(layer)["area"]
    widget.correcting.class_choice.name.setText("lobed")
    widget.correcting.class_choice._add()
    layer.mode, layer.brush_size, layer.selected_label = "paint", 6, 9
    hand(widget.viewer).drag([(78, 75), (78, 80)])
    settle(widget)
    found = table(layer)
    assert found["index"] == [1, 2, 3, 9]
    assert found["class"] == ["cell", "cell", "cell", "lobed"]
    assert found["area"][:3] == areas
    assert np.isnan(found["area"][3])
    widget.measuring.measure.click()
    settle(widget)
    assert table(layer)["area"][3] == (layer.data == 9).sum()
    assert table(layer)["class"][3] == "lobed"


def test_labels_of_another_size_are_not_measured(segmented, settle):
    widget, _ = segmented
    widget.viewer.add_labels(np.zeros((5, 5), np.int32), name="other")
    widget.measuring.measure.click()
    assert "'other' are 5 x 5 and the image 'cells' is 96 x 96; choose" in widget.status.text()
    assert not widget.is_busy


@pytest.fixture
def files(tmp_path, image):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", image)
    (folder / "c.tif").write_bytes(b"broken")
    return folder


def test_files_are_segmented(docked, settle, files, tmp_path):
    widget = docked()
    widget.measuring.files.click()
    dialog = widget.measuring.dialog
    assert not dialog.start.isEnabled()
    dialog.choose([files])
    dialog.save_to(tmp_path / "out")
    assert "images" in dialog.chosen.text()
    dialog.table.setChecked(True)
    dialog.start.click()
    settle(widget)
    told = widget.status.text()
    assert f"6 cells in 2 of 3 images, in {tmp_path / 'out'}" in told
    assert "1 of 3 images failed; the others are done:" in told
    assert f"{files / 'c.tif'} cannot be read" in told
    assert told.startswith("⚠")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["a_cells.csv", "a_labels.tif", "b_cells.csv", "b_labels.tif"]
    assert len(rows_of(tmp_path / "out" / "a_cells.csv")) == 3
    assert tifffile.imread(tmp_path / "out" / "b_labels.tif").max() == 3


def test_segmenting_files_can_be_cancelled(docked, qtbot, settle, files, tmp_path, monkeypatch):
    widget = docked()
    segment, begun, cancelled = batch.segment_file, [], threading.Event()

    def second_after_cancel(*args):
        begun.append(args)
        assert len(begun) < 2 or cancelled.wait(60)
        return segment(*args)

    monkeypatch.setattr(batch, "segment_file", second_after_cancel)
    widget.measuring.files.click()
    widget.measuring.dialog.choose([files / "a.tif", files / "b.tif"])
    widget.measuring.dialog.save_to(tmp_path / "out")
    widget.measuring.dialog.start.click()
    qtbot.waitUntil(lambda: len(begun) == 2)
    widget.cancel_button.click()
    cancelled.set()
    settle(widget)
    assert "Cancelled" in widget.status.text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_labels.tif"]


def test_files_that_would_be_overwritten_are_refused(docked, settle, files):
    widget = docked()
    widget.measuring.files.click()
    dialog = widget.measuring.dialog
    dialog.choose([files / "a.tif", files / "a.tif"])
    dialog.save_to(files)
    dialog.start.click()
    assert "two images would go to" in widget.status.text()
    assert not widget.is_busy
