"""Somebody uses the dock at random: nothing fails but with a sentence.

    python tests/fuzz/random_use.py [--minutes 10] [--seed N] [--actions]

A real viewer and the dock as napari opens it. It ends with 1 at the first exception that nobody
handled, ERROR in the log or failure that is told by the name of an exception, and prints the seed
and the last actions. What napari does wrong without this package is counted, and is no failure.
Jobs run in threads, so a seed gives the same actions, and not always the same moments.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# A failure that is told by the name of an exception, not by a sentence.
_NAMELESS = re.compile(r"^⚠ \w*(Error|Exception)\b")
_SHOWN = 25


class Faults:
    """What went wrong, wherever it was raised."""

    def __init__(self) -> None:
        self.ours: list[str] = []
        self.of_others: list[str] = []

    def take(self, error: BaseException) -> None:
        """An exception that nobody handled."""
        frames: list[str] = []
        seen: BaseException | None = error
        while seen is not None:
            frames += [frame.filename for frame in traceback.extract_tb(seen.__traceback__)]
            seen = seen.__cause__ or seen.__context__
        if any("napari_unet" in name for name in frames):
            self.ours.append("".join(traceback.format_exception(error)))
        else:
            self.of_others.append("".join(traceback.format_exception(error)[-3:]))

    def watch(self) -> None:
        """Take note from now on of all that nobody handles, and of the log."""
        from napari.utils.notifications import notification_manager

        sys.excepthook = lambda kind, error, trace: self.take(error)
        threading.excepthook = lambda args: args.exc_value and self.take(args.exc_value)
        handler = logging.Handler(logging.ERROR)
        handler.emit = self._log  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        notification_manager.notification_ready.connect(self._told)

    def _log(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.take(record.exc_info[1])
        elif record.name.startswith("napari_unet"):
            self.ours.append(record.getMessage())

    def _told(self, notification: Any) -> None:
        error = getattr(notification, "exception", None)
        if error is not None:
            self.take(error)


class User:
    """Somebody with a viewer and the dock, and no plan.

    Parameters
    ----------
    seed
        Says what is done.
    folder
        For tables.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        import napari

        self.rng, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.folder = folder
        self.viewer = napari.Viewer()
        self.open_dock()
        self.add_image()

    def open_dock(self) -> None:
        """The dock, as napari opens it."""
        self.docked, self.dock = self.viewer.window.add_plugin_dock_widget("napari-unet")
        if "bright" in self.dock.model.choices and self.rng.random() < 0.9:
            self.dock.model.value = "bright"

    # Images

    def _pixels(self, *others: int) -> np.ndarray:
        size = self.rng.choice([(48, 64), (64, 48), (40, 40)])
        y, x = np.mgrid[: size[0], : size[1]]
        image = self.numbers.normal(30, 4, (*others, *size))
        for index in np.ndindex(*others):
            for _ in range(4):
                cy, cx = self.numbers.uniform(5, 43, 2)
                image[index][(y - cy) ** 2 + (x - cx) ** 2 <= 25] = 200
        return image.clip(0, 255).astype(np.uint8)

    def add_image(self) -> str:
        """One of some kind."""
        import dask.array as da
        from napari.layers import Image

        if len([x for x in self.viewer.layers if isinstance(x, Image)]) > 4:
            return "enough images"
        kind = self.rng.choice(
            ["plane", "plane", "stack", "channels", "colour", "nan", "lazy", "pyramid", "movie"]
        )
        options: dict[str, Any] = {}
        pixels: Any = self._pixels()
        if kind == "stack":
            pixels, options = self._pixels(4), {"scale": (2, 1, 1)}
        elif kind == "channels":
            pixels, options = self._pixels(2), {"axis_labels": ("c", "y", "x")}
        elif kind == "movie":
            pixels, options = self._pixels(2, 3), {"axis_labels": ("t", "z", "y", "x")}
        elif kind == "colour":
            pixels = np.moveaxis(self._pixels(3), 0, -1)
        elif kind == "nan":
            pixels = pixels.astype(np.float32)
            pixels[::7] = np.nan
        elif kind == "lazy":
            pixels = da.from_array(self._pixels(3), chunks=(1, 32, 32))
        elif kind == "pyramid":
            pixels, options = [pixels, pixels[::2, ::2]], {"multiscale": True}
        self.viewer.add_image(pixels, name=kind, **options)
        return kind

    def change_image(self) -> str:
        """Put other pixels into a layer, or change them in place."""
        image = self._layer("Image")
        if image is None or image.multiscale or image.rgb:
            return "none"
        how = self.rng.choice(["in place", "the same size", "another size"])
        if how == "in place" and isinstance(image.data, np.ndarray):
            image.data[..., :10, :] = 0
            image.refresh()
        elif how == "the same size":
            image.data = np.asarray(image.data)[..., ::-1, :].copy()
        else:
            image.data = self._pixels(*image.data.shape[:-2])
        return f"{image.name}, {how}"

    def add_own_labels(self) -> str:
        """A mask, or labels that fit nothing."""
        image = self._layer("Image")
        if image is None or image.multiscale or image.rgb or self.rng.random() < 0.3:
            self.viewer.add_labels(np.ones((5, 5), np.int32), name="small")
            return "small"
        mask = (np.asarray(image.data) > 100).astype(np.uint8) * np.uint8(255)
        self.viewer.add_labels(mask, name="mask")
        return f"mask of {image.name}"

    def delete_layer(self) -> str:
        """Any of them."""
        layer = self._layer()
        if layer is None:
            return "none"
        self.viewer.layers.remove(layer)
        return layer.name

    def clear_all(self) -> str:
        """All layers go."""
        if self.rng.random() < 0.8:
            return "not now"
        self.viewer.layers.clear()
        return "all"

    def rename_layer(self) -> str:
        layer = self._layer()
        if layer is None:
            return "none"
        layer.name = self.rng.choice(["a", "b", "cells", "learnt from (U-Net)", "é 中"])
        return layer.name

    def select_layer(self) -> str:
        layer = self._layer()
        self.viewer.layers.selection.active = layer
        return str(layer)

    def hide_or_show(self) -> str:
        layer = self._layer()
        if layer is None:
            return "none"
        layer.visible = not layer.visible
        return layer.name

    def move_layer(self) -> str:
        if len(self.viewer.layers) > 1:
            self.viewer.layers.move(self.rng.randrange(len(self.viewer.layers)), 0)
        return ""

    def _layer(self, kind: str = "") -> Any:
        found = [x for x in self.viewer.layers if not kind or type(x).__name__ == kind]
        return self.rng.choice(found) if found else None

    # Painting

    def _painted(self) -> tuple[Any, tuple[int, ...]] | None:
        layer = self._layer("Labels")
        if layer is None or layer.multiscale or not layer.editable:
            return None
        return layer, tuple(self.rng.randrange(n) for n in layer.data.shape)

    def paint(self) -> str:
        found = self._painted()
        if found is None:
            return "none"
        layer, at = found
        layer.brush_size = self.rng.randint(1, 20)
        new = min(int(np.max(layer.data)) + 1, int(np.iinfo(layer.data.dtype).max))
        layer.selected_label = self.rng.choice([1, 2, 7, new])
        layer.paint(at, layer.selected_label)
        return f"{layer.name} {at} {layer.selected_label}"

    def erase(self) -> str:
        found = self._painted()
        if found is None:
            return "none"
        layer, at = found
        layer.brush_size = self.rng.randint(1, 30)
        layer.paint(at, 0)
        return f"{layer.name} {at}"

    def fill(self) -> str:
        found = self._painted()
        if found is None:
            return "none"
        layer, at = found
        layer.fill(at, self.rng.randint(0, 9))
        return f"{layer.name} {at}"

    def undo(self) -> str:
        layer = self._layer("Labels")
        if layer is not None and not layer.multiscale:
            layer.undo() if self.rng.random() < 0.7 else layer.redo()
        return str(layer)

    # The viewer

    def move_sliders(self) -> str:
        dims = self.viewer.dims
        for axis in range(dims.ndim):
            dims.set_current_step(axis, self.rng.randrange(max(1, dims.nsteps[axis])))
        return str(dims.current_step)

    def turn(self) -> str:
        self.viewer.dims.ndisplay = self.rng.choice([2, 2, 2, 3])
        return str(self.viewer.dims.ndisplay)

    def reopen_dock(self) -> str:
        """Close the dock, at work or not, and open it again."""
        if self.rng.random() < 0.6:
            return "not now"
        self.viewer.window.remove_dock_widget(self.docked)
        pump(self.rng.choice([0.0, 0.3]))
        self.open_dock()
        return "closed and opened"

    # The dock

    def segment(self) -> str:
        advanced = self.dock.advanced
        advanced.scope.value = self.rng.choice(advanced.scope.choices)
        advanced.link.value = self.rng.choice(advanced.link.choices)
        self.dock.segment_button.click()
        return f"{advanced.scope.value}, {advanced.link.value}"

    def finetune(self) -> str:
        self.dock.budget.choices = (("a moment", 0.3),)
        self.dock.finetune_button.click()
        return self.dock.status.text()

    def cancel(self) -> str:
        for _ in range(self.rng.choice([1, 1, 2])):
            self.dock.cancel_button.click()
        return ""

    def choose(self) -> str:
        """Something else in one of the boxes."""
        box = self.rng.choice([self.dock.image, self.dock.labels, self.dock.model])
        if box.choices:
            box.value = self.rng.choice(box.choices)
        return f"{box.label}: {box.value}"

    def click(self) -> str:
        """One of the other buttons."""
        dock = self.dock
        name, button = self.rng.choice(
            [
                ("confirm", dock.correcting.confirm),
                ("rectangle", dock.correcting.rectangle),
                ("next place", dock.correcting.next_place),
                ("measure", dock.measuring.measure),
                ("tracks", dock.measuring.exporting.tracks_button),
                ("changes", dock.view.changed),
                ("as it is", dock.look.findChildren(type(dock.segment_button))[0]),
                ("use it anyway", dock.last.use),
                ("back", dock.last.back),
                ("guess", dock.advanced.guess.native),
                ("preview", dock.advanced.preview.native),
                *(("draft", b) for b in dock.draft.findChildren(type(dock.segment_button))),
            ]
        )
        button.click()
        return f"{name}: {dock.status.text()}"

    def save_table(self) -> str:
        try:
            self.dock.measuring.save_table(self.folder / "table.csv")
        except ValueError as error:
            return str(error)  # a sentence, which the button shows
        return "saved"

    def export(self) -> str:
        from napari_unet.plugin.results.exporting import EXPORT_FORMATS

        format = self.rng.choice(EXPORT_FORMATS)
        path = self.folder / f"export{format.ending}"
        try:
            self.dock.measuring.exporting.write(path, format, overwrite=True)
        except ValueError as error:
            return str(error)
        return format.name

    def set_advanced(self) -> str:
        """Axes, a channel, the size: often wrong ones."""
        advanced = self.dock.advanced
        advanced.axes.value = self.rng.choice(["", "", "zyx", "cyx", "yxc", "tyx", "q"])
        advanced.channel.value = self.rng.choice([-1, -1, 0, 1, 5])
        advanced.diameter.value = self.rng.choice([0, 0, 12, 40])
        advanced.ring.value = self.rng.choice([2, 8])
        return f"{advanced.axes.value!r}, {advanced.channel.value}"

    def restore_defaults(self) -> str:
        """As they are at first."""
        advanced = self.dock.advanced
        advanced.axes.value, advanced.channel.value = "", -1
        advanced.diameter.value, advanced.ring.value = 0, 8
        advanced.link.value = advanced.link.choices[0]
        return ""

    def wait(self) -> str:
        """Until nothing runs."""
        end = time.monotonic() + 20
        while (self.dock.is_busy or self.dock.is_counting) and time.monotonic() < end:
            pump(0.02)
        if time.monotonic() >= end:
            self.dock.cancel_button.click()
        return self.dock.status.text()

    def actions(self) -> list[Callable[[], str]]:
        """What may be done, the usual more often."""
        return [
            *[self.segment] * 5,
            *[self.paint] * 6,
            *[self.erase, self.fill, self.undo, self.choose, self.move_sliders] * 2,
            *[self.click] * 5,
            *[self.finetune, self.wait] * 3,
            *[self.add_image, self.change_image, self.add_own_labels, self.delete_layer],
            *[self.rename_layer, self.select_layer, self.hide_or_show, self.move_layer],
            *[
                self.turn,
                self.reopen_dock,
                self.cancel,
                self.save_table,
                self.export,
                self.set_advanced,
            ],
            *[self.restore_defaults, self.clear_all],
        ]


def pump(seconds: float) -> None:
    """Let Qt work."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= end:
            return
        time.sleep(0.005)


def write_model(path: Path) -> None:
    """A small model, for which cells are what is bright."""
    import torch

    from napari_unet.core.network.unet import UNet, UNetConfig, initialise
    from napari_unet.models.checkpoint import save_model
    from napari_unet.models.header import ModelHeader

    network = UNet(UNetConfig(depth=1, width=2, in_channels=1, n_classes=2, dropout=0.0))
    initialise(network, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.05)
        for convs in (network.down[0], network.join[-1]):
            for conv in (convs[0], convs[2]):
                conv.weight[(0, 0, *(n // 2 for n in conv.kernel_size))] += 1.0
        network.head.weight[1, 0] += 20.0
        network.head.bias[1] -= 10.0
    header = ModelHeader(name="bright", architecture={}, normalisation={"low": 0.0, "high": 100.0})
    save_model(path, network, header)


def run(minutes: float, seed: int, folder: Path, *, show: bool) -> int:
    """Use the dock for so long; 1 if something failed."""
    from napari_unet.models.store import ModelStore

    ModelStore().add("bright", write_model)
    faults = Faults()
    faults.watch()
    user = User(seed, folder)
    done: list[str] = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and not faults.ours:
        action = user.rng.choice(user.actions())
        done.append(action.__name__)
        if show:
            print(len(done), action.__name__, end=" ", flush=True)
        try:
            said = action()
        except Exception as error:
            # What a button would show as a fault, too.
            faults.take(error)
            said = repr(error)
        done[-1] += f": {said}"
        if show:
            print(said, flush=True)
        pump(user.rng.choice([0.0, 0.02, 0.1, 0.4]))
        if _NAMELESS.match(user.dock.status.text()):
            faults.ours.append(user.dock.status.text())
    if not faults.ours:
        user.wait()
    print(f"seed {seed}: {len(done)} actions, {len(faults.of_others)} faults of napari alone")
    print(*dict.fromkeys(faults.of_others), sep="\n", end="")
    if not faults.ours:
        return 0
    print("the last actions:", *done[-_SHOWN:], sep="\n  ")
    print(faults.ours[0])
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--actions", action="store_true", help="print each action")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    faulthandler.enable()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # Nothing of whoever runs it.
        for place in ("DATA", "CONFIG", "CACHE"):
            os.environ[f"XDG_{place}_HOME"] = f"{name}/{place}"
        os.environ["NAPARI_UNET_MODELS"] = f"{name}/models"
        status = run(options.minutes, seed, Path(name), show=options.actions)
    sys.stdout.flush()
    # How napari is closed at work is tested elsewhere.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
