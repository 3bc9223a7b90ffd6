"""Runs programs as on a computer without torch: `python without_torch.py PROGRAM ARGUMENTS`.

PROGRAM is `cli`, or `dock`, which segments and teaches in a viewer on the server of a file.
"""

from __future__ import annotations

import importlib.machinery
import sys
import time
from pathlib import Path


class _Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Find all packages but torch."""
        return None if name.split(".")[0] == "torch" else super().find_spec(name, path, target)


def dock(file: str) -> None:
    """Print what the dock says, line by line."""
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    from hands import Hand

    viewer = napari.Viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet")

    def wait(holds):
        end = time.monotonic() + 120
        while not holds():
            assert time.monotonic() < end, widget.status.text()
            QApplication.processEvents()
            time.sleep(0.01)

    y, x = np.mgrid[:96, :96]
    image = np.full((96, 96), 20, np.uint8)
    for cy, cx in ((20, 20), (30, 70), (70, 30)):
        image[(y - cy) ** 2 + (x - cx) ** 2 <= 36] = 220
    viewer.add_image(image, name="cells")
    widget.model.value = "tiny"
    choice = widget.advanced.server
    print(widget.compute.text(), "|", choice.box.native.currentText())
    widget.segment_button.click()
    print(widget.status.text())

    choice.choose(widget.controller.service.servers.known.add(Path(file)))
    widget.segment_button.click()
    wait(lambda: not widget.is_busy)
    print(widget.status.text(), "on", widget.compute.text())
    layer = widget.labels.value
    layer.mode, layer.brush_size, layer.selected_label = "paint", 15, int(layer.data[20, 20])
    Hand(viewer).drag([(20, 20), (20, 21)])
    wait(lambda: not widget.is_counting)
    losses = []
    widget.controller.follower.progressed.connect(lambda p: losses.append(p.loss))
    widget.finetune_button.click()
    wait(lambda: any(loss is not None for loss in losses) or not widget.is_busy)
    widget.cancel_button.click()
    wait(lambda: not widget.is_busy)
    print([version.reference for version in widget.controller.service.store.versions("tiny")])
    viewer.close()


if __name__ == "__main__":
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = _Finder
    program, *arguments = sys.argv[1:]
    if program == "dock":
        dock(*arguments)
    else:
        from napari_unet.cli import main

        sys.argv[0] = "napari-unet"
        status = main(arguments)
        print("torch" in sys.modules)
        sys.exit(status)
