"""A model file that is dropped onto napari is added, or refused with a sentence."""

from __future__ import annotations

import pytest
from napari.utils.notifications import notification_manager

from napari_unet.plugin.results.model_files import get_reader


@pytest.fixture
def told():
    seen = []

    def take(notification):
        seen.append((str(notification.severity), notification.message))

    notification_manager.notification_ready.connect(take)
    yield seen
    notification_manager.notification_ready.disconnect(take)


def test_a_dropped_model_is_added_and_chosen(
    docked_by_napari, qtbot, tmp_path, write_model, store, told
):
    widget = docked_by_napari
    write_model(tmp_path / "theirs.safetensors", name="theirs")
    assert widget.viewer.open(str(tmp_path / "theirs.safetensors"), plugin=None) == []
    qtbot.waitUntil(lambda: widget.model.value == "theirs", timeout=60_000)
    assert len(widget.viewer.layers) == 0
    assert store.find("theirs").version == 1
    (message,) = [text for severity, text in told if severity == "info"]
    assert message == "the model theirs@1 was added; choose it in the dock, under Model"


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"hello" * 99])
def test_what_is_no_model_is_refused_with_a_sentence(
    docked_by_napari, qtbot, tmp_path, store, told, content
):
    before = store.names()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    assert docked_by_napari.viewer.open(str(path), plugin=None) == []
    qtbot.waitUntil(lambda: bool(told), timeout=60_000)
    ((severity, message),) = told
    assert severity == "error"
    assert "bad.safetensors" in message
    assert "Error" not in message
    assert store.names() == before


def test_other_files_are_left_to_other_readers():
    assert get_reader("a.tif") is None
    assert get_reader(["a.safetensors", "b.tif"]) is None
    assert get_reader("A.SafeTensors") is not None
