"""The choice of a model: one entry a model, its description, its menu."""

from __future__ import annotations

import zipfile

import pytest

from napari_unet.models import store as model_store
from napari_unet.models.store import ModelStore


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
    assert "phase contrast" in dock.models.about.text()


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
