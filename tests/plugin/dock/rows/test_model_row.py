"""The choice of a model: one entry a model, its description, its menu."""

from __future__ import annotations

import re
import zipfile
from base64 import b64decode
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from qtpy.QtCore import QEvent
from qtpy.QtGui import QHelpEvent, QImage
from qtpy.QtWidgets import QApplication, QToolTip

from napari_unet.models import store as model_store
from napari_unet.models.header import read_header
from napari_unet.models.store import ModelStore
from napari_unet.plugin.dock.rows.model_row import SIZES_PX

DOCS, WEIGHTS = Path(__file__).parents[4] / "docs", model_store.SHIPPED


@pytest.fixture
def dock(docked_by_napari, write_model):
    """The dock, with two models that ship with the program."""
    model_store.SHIPPED.mkdir()
    for name in ("nuclei", "phase"):
        write_model(model_store.SHIPPED / f"{name}.safetensors", name=name)
    docked_by_napari.models.offer()
    return docked_by_napari


def entries(dock) -> dict:
    dock.models.fill()
    return {action.text(): action for action in dock.models.menu.actions() if action.text()}


def test_one_entry_a_model_and_what_it_is_for(dock, add_model):
    add_model("tiny")
    dock.models.offer()
    assert sorted(dock.model.choices) == ["nuclei", "phase", "tiny"]
    dock.model.value = "nuclei"
    assert "fluorescence, stained tissue, 8 to 40 px" in dock.models.about.text()
    assert "Version 1 of nuclei" in dock.model.native.toolTip()
    dock.model.value = "phase"
    assert "phase contrast, 40 to 70 px" in dock.models.about.text()


def test_a_shipped_model_has_a_picture_of_what_it_is_for(dock):
    shown = {}
    for name in ("nuclei", "phase", "tiny"):
        dock.model.value = name
        box = dock.model.native
        at = box.rect().center()
        QApplication.sendEvent(box, QHelpEvent(QEvent.Type.ToolTip, at, box.mapToGlobal(at)))
        found = re.search(r'<img src="data:image/png;base64,([^"]+)"', box.toolTip())
        shown[name] = None if found is None else QImage.fromData(b64decode(found[1]))
        assert f"Version 1 of {name}" in box.toolTip()
    QToolTip.hideText()
    assert shown["tiny"] is None
    assert (shown["nuclei"].width(), shown["phase"].width()) == (192, 192)
    assert shown["nuclei"] != shown["phase"]


@pytest.mark.parametrize("page", ["which-model.md", "models.md"])
@pytest.mark.parametrize("name", sorted(SIZES_PX))
def test_the_pages_tell_the_same_sizes(name, page):
    text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
    assert "{} to {} px wide".format(*SIZES_PX[name]) in text


def test_the_card_of_a_shipped_model_names_a_size_that_it_knows():
    for name, (least, most) in SIZES_PX.items():
        header = read_header(WEIGHTS / f"{name}.safetensors")
        assert least <= (header.diameter_px or least) <= most


def test_shipped_models_are_not_renamed_or_removed(dock):
    dock.model.value = "nuclei"
    found = entries(dock)
    assert [name for name, action in found.items() if not action.isEnabled()] == [
        "Return to previous model",
        "Rename…",
        "Remove…",
    ]
    assert "Versions" not in found


def test_a_version_is_chosen_in_the_menu(dock, add_model):
    add_model("tiny")
    dock.models.offer("tiny")
    versions = entries(dock)["Versions"].menu().actions()
    assert [(a.text(), a.isChecked()) for a in versions] == [
        ("Version 2", True),
        ("Version 1", False),
    ]
    versions[1].trigger()
    assert ModelStore().find("tiny").version == 1
    assert dock.status.text() == 'Version 1 of "tiny" is in use; click Segment'


def test_versions_stand_with_their_verdicts(dock, write_model):
    given = {"name": "mine", "created": "2026-11-20T12:03:00+00:00"}
    store, at = ModelStore(), f"{datetime.fromisoformat(given['created']).astimezone():%H:%M}"

    def add(accepted: bool, **scores: float) -> None:
        write = partial(write_model, **given, scores=scores)
        store.add("mine", lambda path: write(path), activate=accepted)

    add(True)
    add(True, held_out_before=0.34, held_out_after=0.671)
    add(False, held_out_before=0.671, held_out_after=0.6, replay_before=0.8, replay_after=0.7)
    add(False, replay_before=0.8, replay_after=0.7)
    dock.models.offer("mine")
    versions = entries(dock)["Versions"].menu().actions()
    assert [action.text() for action in versions] == [
        f"Version 4, 2026-11-20 {at}: not accepted; 70 % on earlier corrections (before 80 %)",
        f"Version 3, 2026-11-20 {at}: not accepted; 60 % on test cells (before 67 %)",
        f"Version 2, 2026-11-20 {at}: 67 % on test cells (before 34 %)",
        f"Version 1, 2026-11-20 {at}",
    ]


def test_renaming_exporting_and_removing(dock, tmp_path):
    dock.model.value = "tiny"
    dock.models.rename("lobes")
    assert dock.model.value == "lobes"
    assert "tiny" not in dock.model.choices
    dock.models._try(lambda: dock.models.rename("nuclei"))
    assert "there is a model 'nuclei' already" in dock.status.text()
    dock.models.export(tmp_path)
    assert (tmp_path / "lobes.safetensors").is_file()
    pytest.importorskip("onnx")
    dock.models.export(tmp_path / "lobes.zip")
    assert dock.status.text() == f"The model was written to {tmp_path / 'lobes.zip'}"
    assert ModelStore().import_file(tmp_path / "lobes.zip").reference == "tiny@1"
    dock.models.remove()
    assert "lobes" not in dock.model.choices
    assert dock.status.text() == '"lobes" was removed; its corrections are kept'


@pytest.mark.slow
def test_a_model_of_another_program_segments_and_is_not_taught(
    segmented, settle, outlined, store, tmp_path
):
    pytest.importorskip("onnxruntime")
    dock, _ = segmented
    path = store.export("tiny", tmp_path / "tiny.zip")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as changed:
        for name in archive.namelist():
            # Without what says that it is ours.
            changed.writestr(name, archive.read(name).replace(b"napari_unet:", b"nobody:"))
    store.import_file(other, "other")
    dock.models.offer("other")
    assert dock.model.value == "other"
    assert dock.models.about.text() == (
        "A model of another program, only to segment: cells are where 'cell' is high"
    )
    dock.segment_button.click()
    settle(dock)
    assert "3 cells" in dock.status.text()
    outlined(dock)
    settle(dock)
    dock.finetune_button.click()
    settle(dock)
    assert "other@1 is a model of another program: it segments, and cannot be" in dock.status.text()
