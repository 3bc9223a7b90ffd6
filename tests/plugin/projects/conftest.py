"""A folder of four images, and the dock with it open."""

from __future__ import annotations

import pytest
import tifffile


@pytest.fixture
def folder(tmp_path, discs):
    folder = tmp_path / "images"
    folder.mkdir()
    for n, name in enumerate("abcd"):
        tifffile.imwrite(folder / f"{name}.tif", discs((20, 20 + 4 * n), (30, 70), (70, 30)))
    return folder


@pytest.fixture
def opened(docked, settle, folder):
    """The dock with the folder open, at its first image."""
    widget = docked()
    widget.measuring.files.click()
    dialog = widget.measuring.dialog
    assert not dialog.queue.isEnabled()
    dialog.choose([folder])
    dialog.queue.click()
    settle(widget)
    return widget
