"""The Export menu, Import, and Show tracks, in the dock as napari opens it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog

from napari_unet.api import export_labels, read_labels
from napari_unet.plugin.results.exporting import EXPORT_FORMATS

FORMATS = {format.name: format for format in EXPORT_FORMATS}


@pytest.fixture
def dock(docked_by_napari):
    return docked_by_napari


@pytest.fixture
def answer(monkeypatch):
    """Answers the dialog that asks for a file or folder; returns what it was asked with."""

    def give(path) -> list[tuple]:
        asked = []
        for name in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, name, lambda *of: asked.append(of) or (str(path), ""))
        monkeypatch.setattr(
            QFileDialog, "getExistingDirectory", lambda *of: asked.append(of) or str(path)
        )
        return asked

    return give


def movie(discs) -> np.ndarray:
    """A cell that moves, and one that divides in the third of four frames."""
    where = ([(20, 20), (70, 48)],) * 2 + ([(24, 20), (70, 43), (70, 53)],) * 2
    return np.stack([discs(*centres, radius=4) for centres in where])


def labels_of_movie() -> np.ndarray:
    labels = np.zeros((4, 96, 96), np.int32)
    for time in range(4):
        labels[time, 17 + time : 24 + time, 17:24] = 5
    labels[:2, 66:75, 40:58] = 7
    labels[2:, 66:75, 40:48], labels[2:, 66:75, 50:58] = 8, 9
    return labels


def choose(dock, settle, name: str) -> str:
    menu = dock.measuring.exporting
    menu.menu.aboutToShow.emit()
    menu.actions_by_name[name].trigger()
    settle(dock)
    return dock.results_step.note.text()


@pytest.mark.slow
def test_labels_are_exported_in_every_format_that_suits_them(dock, settle, image, answer, tmp_path):
    dock.viewer.add_image(image, name="cells", scale=(0.5, 0.5), units=("um", "um"))
    dock.segment_button.click()
    settle(dock)
    labels = dock.labels.value
    labels.paint((78, 75), 40)
    settle(dock)
    for name in ("imagej", "geojson", "coco", "tif", "zarr"):
        format = FORMATS[name]
        asked = answer(tmp_path / "of.mine")
        told = choose(dock, settle, name)
        assert asked[0][2] == f"cells cells{format.ending}"
        assert told == f"'cells cells' was exported to of.mine{format.ending}"
        path = tmp_path / f"of.mine{format.ending}"
        assert dock.results_step.note.toolTip() == str(path)
        if name != "coco":
            np.testing.assert_array_equal(read_labels(path, shape=(96, 96)) > 0, labels.data > 0)
    with tifffile.TiffFile(tmp_path / "of.mine.tif") as file:
        np.testing.assert_array_equal(file.asarray(), labels.data)
        assert file.imagej_metadata["unit"] in ("um", "micron", "µm", "\\u00B5m")
    assert len(json.loads((tmp_path / "of.mine.json").read_text())["annotations"]) == 4
    for name in ("tracks", "ctc"):
        action = dock.measuring.exporting.actions_by_name[name]
        assert not action.isEnabled()
        assert action.toolTip().startswith("For movies only")
    assert not dock.measuring.exporting.tracks_button.isVisible()


def test_a_file_of_the_cells_is_offered_beside_the_image(dock, settle, image, answer, tmp_path):
    tifffile.imwrite(tmp_path / "own.tif", image)
    dock.viewer.open(tmp_path / "own.tif", plugin="napari")
    dock.segment_button.click()
    settle(dock)
    dock.labels.value.name = "own cells [1]"
    asked = answer("")
    for name, file in (("tif", "own cells.tif"), ("table", "own cells.csv")):
        dock.measuring.exporting.actions_by_name[name].trigger()
        assert asked.pop()[2] == str(tmp_path / file)


def test_a_file_is_replaced_only_if_the_dialog_asked(segmented, settle, answer, tmp_path):
    dock, _ = segmented
    (tmp_path / "cells.zip").write_text("something else")
    answer(tmp_path / "cells")
    told = choose(dock, settle, "imagej")
    assert told.startswith("⚠")
    assert "is there already, so nothing was written; give another name" in told
    assert (tmp_path / "cells.zip").read_text() == "something else"
    answer(tmp_path / "cells.zip")
    assert choose(dock, settle, "imagej") == "'cells cells' was exported to cells.zip"


def test_nobody_chose_a_file(segmented, settle, answer):
    dock, _ = segmented
    before = dock.results_step.note.text()
    answer("")
    for name in ("table", "imagej", "ctc"):
        dock.measuring.exporting.actions_by_name[name].setEnabled(True)
        dock.measuring.exporting.actions_by_name[name].trigger()
    dock.measuring.exporting.import_button.click()
    assert not dock.is_busy
    assert dock.results_step.note.text() == before


def test_the_table_is_of_the_cells_as_they_are_now(segmented, settle, answer, tmp_path):
    dock, labels = segmented
    labels.paint((78, 75), 40)
    answer(tmp_path / "cells.csv")
    assert choose(dock, settle, "table") == "4 cells written to cells.csv"
    with (tmp_path / "cells.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["1", "2", "3", "40"]


@pytest.mark.slow
def test_tracks_are_shown_and_exported(dock, settle, discs, answer, tmp_path):
    dock.viewer.add_image(movie(discs), name="film", axis_labels=("t", "y", "x"))
    labels = dock.viewer.add_labels(labels_of_movie(), name="tracked", scale=(1, 1, 1))
    settle(dock)
    exporting = dock.measuring.exporting
    assert exporting.tracks_button.isVisible()
    chosen = set(dock.viewer.layers.selection)
    exporting.tracks_button.click()
    settle(dock)
    assert dock.results_step.note.text() == "4 tracks and 1 division are shown"
    layer = dock.viewer.layers["film tracks"]
    assert set(dock.viewer.layers.selection) == chosen
    np.testing.assert_array_equal(np.unique(layer.data[:, 0]), [5, 7, 8, 9])
    np.testing.assert_allclose(layer.data[layer.data[:, 0] == 5], [
        [5, time, 20 + time, 20] for time in range(4)
    ])  # fmt: skip
    assert layer.graph == {8: [7], 9: [7]}
    labels.data[2:][labels.data[2:] == 9] = 0
    exporting.tracks_button.click()
    settle(dock)
    assert [x.name for x in dock.viewer.layers].count("film tracks") == 1
    assert dock.results_step.note.text() == "3 tracks and 0 divisions are shown"
    answer(tmp_path / "tracks")
    assert choose(dock, settle, "tracks") == "'tracked' was exported to tracks.csv"
    assert choose(dock, settle, "ctc") == "'tracked' was exported to tracks"
    assert (tmp_path / "tracks" / "res_track.txt").read_text() == "5 0 3 0\n7 0 1 0\n8 2 3 7\n"


def test_cells_that_are_not_linked_have_no_tracks(dock, settle, discs):
    dock.viewer.add_image(movie(discs), name="film", axis_labels=("t", "y", "x"))
    labels = labels_of_movie()
    dock.viewer.add_labels(labels + 10 * np.arange(4)[:, None, None] * (labels > 0))
    settle(dock)
    dock.measuring.exporting.tracks_button.click()
    settle(dock)
    assert "no cell has the same id at two times" in dock.results_step.note.text()
    assert "film tracks" not in dock.viewer.layers


@pytest.mark.slow
def test_labels_are_written_into_the_store_of_their_image(dock, settle, image, answer, tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Label, Reader
    from ome_zarr.writer import write_image

    store = tmp_path / "cells.zarr"
    write_image(image, str(store), axes="yx", scale_factors=[])
    dock.viewer.open(str(store))
    dock.segment_button.click()
    settle(dock)
    asked = answer(store)
    assert choose(dock, settle, "image-zarr") == "'cells cells' was exported to cells.zarr"
    # The dialog begins there.
    assert asked[0][2] == str(store)
    nodes = list(Reader(parse_url(store, mode="r"))())
    (labels,) = [node for node in nodes if node.load(Label) is not None]
    np.testing.assert_array_equal(np.asarray(labels.data[0]), dock.labels.value.data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.zip", "mine.geojson", "mine_seg.npy"])
def test_imported_labels_are_labels_of_ones_own(dock, settle, image, answer, tmp_path, name):
    mine = np.zeros((96, 96), np.int32)
    mine[10:30, 10:30], mine[60:80, 20:40] = 3, 8
    if name.endswith(".npy"):
        np.save(tmp_path / name, {"masks": mine.astype(np.uint16), "flows": []})
    else:
        export_labels(mine, tmp_path / name)
    import_button = dock.measuring.exporting.import_button
    assert not import_button.isEnabled()
    assert "Open an image first" in import_button.toolTip()
    dock.viewer.add_image(image, name="cells", scale=(2, 2))
    dock.segment_button.click()
    settle(dock)
    found = dock.labels.value
    answer(tmp_path / name)
    import_button.click()
    settle(dock)
    layer = dock.labels.value
    assert layer.name == name.partition(".")[0]
    np.testing.assert_array_equal(layer.data, mine)
    np.testing.assert_array_equal(layer.scale, (2, 2))
    assert not found.visible
    assert dock.correct_step.note.text() == f"2 cells imported from {name}"
    assert dock.correcting.count.text() == f'All 2 cells of "{layer.name}" are used as examples'
    assert dock.finetune_button.isEnabled()


def test_why_labels_cannot_be_imported_is_told_below_the_button(dock, image, answer, tmp_path):
    dock.viewer.add_image(image, name="cells")
    dock.advanced.axes.value = "Q"
    answer(tmp_path / "mine.tif")
    dock.measuring.exporting.import_button.click()
    assert dock.correct_step.note.text().startswith("⚠ ")
    assert dock.results_step.note.text() == ""


def test_labels_of_another_image_are_refused(dock, settle, image, answer, tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", np.ones((5, 5), np.uint16))
    dock.viewer.add_image(image, name="cells")
    answer(tmp_path / "small.tif")
    dock.measuring.exporting.import_button.click()
    settle(dock)
    assert "5 x 5 and the image is 96 x 96" in dock.correct_step.note.text()
    assert dock.labels.value is None
