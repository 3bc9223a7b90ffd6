"""What the dock begins with: in napari's settings, in a file, and in the dock's own dialog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from napari_unet.plugin.preferences import CELLS, DEVICES, Preferences, PreferenceStore

MANIFEST = Path(__file__).parents[2] / "src" / "napari_unet" / "napari.yaml"


@pytest.fixture
def napari_file(preferences_of_nobody, monkeypatch):
    """The file in which napari keeps them."""
    settings = pytest.importorskip("napari.settings")
    if not hasattr(settings, "get_plugin_settings"):
        pytest.skip("this napari has no settings of plugins")
    monkeypatch.delenv("NAPARI_UNET_PREFERENCES")
    return preferences_of_nobody.with_name("napari-unet.yaml")


def test_the_manifest_declares_the_same_settings():
    declared = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["contributions"]
    properties = declared["configurations"]["dock"]["properties"]
    assert {name: of["default"] for name, of in properties.items()} == vars(Preferences())
    assert tuple(properties["device"]["enum"]) == DEVICES
    assert tuple(properties["cells"]["enum"]) == CELLS


def test_a_file_keeps_them(tmp_path):
    path = tmp_path / "of" / "mine.json"
    store, told = PreferenceStore(path), []
    assert store.values == Preferences()
    store.changed.connect(told.append)
    wanted = Preferences(model="phase", device="cpu", cells="filled", drafts="/tmp/drafts")
    store.save(wanted)
    assert told == [wanted]
    assert PreferenceStore(path).values == wanted
    path.write_text(json.dumps({"device": "cpu", "of another version": 1}))
    assert PreferenceStore(path).values == Preferences(device="cpu")


@pytest.mark.parametrize("content", ["{", "[1]", '{"device": "tpu"}', '{"model": 3}', "\x00\x01"])
def test_a_broken_file_is_told_and_kept(tmp_path, content):
    path = tmp_path / "preferences.json"
    path.write_text(content)
    store = PreferenceStore(path)
    assert store.values == Preferences()
    assert str(path) in store.fault
    assert "so the defaults hold (the file is kept as preferences.json.broken)" in store.fault
    assert path.read_text() == content
    store.save(Preferences(device="cpu"))
    assert path.with_name("preferences.json.broken").read_text() == content
    assert PreferenceStore(path).values.device == "cpu"


def test_napari_keeps_them(napari_file):
    from napari.settings import get_plugin_settings

    store, told = PreferenceStore(), []
    assert store.path == napari_file
    store.changed.connect(told.append)
    get_plugin_settings("napari-unet").dock.device = "cpu"
    assert told == [Preferences(device="cpu")]
    store.save(Preferences(device="cpu", cells="filled"))
    assert yaml.safe_load(napari_file.read_text())["dock"] == {"device": "cpu", "cells": "filled"}
    store.close()
    store.close()


@pytest.mark.parametrize("content", ["dock: [", "dock: {device: tpu}"])
def test_a_broken_file_of_napari_is_told_and_kept(napari_file, content):
    napari_file.write_text(content)
    store = PreferenceStore()
    assert store.values == Preferences()
    assert "so the defaults hold (the file is kept as napari-unet.yaml.broken)" in store.fault
    store.save(Preferences(device="cpu"))
    assert napari_file.with_name("napari-unet.yaml.broken").read_text() == content


def preferences_action(dock):
    return next(a for a in dock.head.menu.actions() if a.text() == "Preferences…")


def test_the_dialog_changes_the_dock_at_once(
    docked_by_napari, settle, image, preferences_of_nobody
):
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    assert dock.labels.value.contour == 1
    preferences_action(dock).trigger()
    dialog = dock.preferring.dialog
    assert dialog.isVisible()
    dialog.device.setCurrentText("cpu")
    dialog.cells.setCurrentText("filled")
    dialog.server.setText("/somewhere/server.json")
    dialog.drafts.setText("/somewhere/drafts")
    dialog.ok.click()
    assert not dialog.isVisible()
    assert dock.advanced.device.value == "cpu"
    assert dock.labels.value.contour == 0
    assert dock.view.filled.isChecked()
    assert dock.advanced.server.file() == Path("/somewhere/server.json")
    assert PreferenceStore().values.drafts_folder == Path("/somewhere/drafts")
    dock.advanced.device.value = "auto"
    preferences_action(dock).trigger()
    dock.preferring.dialog.server.clear()
    dock.preferring.dialog.ok.click()
    assert dock.advanced.server.file() is None
    assert dock.advanced.device.value == "auto", "what was not changed is as the user set it"
    dock.head.menu.actions()[-1].trigger()
    assert dock.advanced.device.value == "cpu", "the defaults are the preferences"


def test_an_opened_dock_begins_with_them(viewer, add_model, preferences_of_nobody, tmp_path):
    for name in ("aaa", "tiny"):
        add_model(name, normalisation={"low": 0.0, "high": 100.0})
    PreferenceStore().save(Preferences("tiny", "cpu", "filled", str(tmp_path / "strokes")))
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")
    assert dock.model.value == "tiny"
    assert dock.advanced.device.value == "cpu"
    assert dock.view.filled.isChecked()
    dock.cleanup()


def test_a_dock_says_that_its_preferences_are_broken(viewer, add_model, preferences_of_nobody):
    add_model("tiny")
    preferences_of_nobody.write_text("{")
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")
    assert dock.find_step.note.text().startswith(f"⚠ the preferences in {preferences_of_nobody}")
    assert dock.find_step.note.isVisibleTo(dock)
    dock.cleanup()
