"""The row of the dock for the model: one entry a model, what it is for, and its menu."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path

from magicgui.widgets import ComboBox
from qtpy.QtCore import QBuffer, QEvent, QObject, Signal
from qtpy.QtGui import QAction, QImage
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.plugin.dock.rows.offer_row import when_words
from napari_unet.plugin.dock.widgets import menu_button
from napari_unet.plugin.results.model_files import read

# What the shipped models are for, and the widths of the cells that they know, in pixels.
_SHIPPED = {
    "nuclei": "Nuclei: fluorescence, stained tissue",
    "phase": "Whole cells in phase contrast",
}
SIZES_PX = {"nuclei": (8, 40), "phase": (40, 70)}
# What the scores in a header were measured on; the first one that is there is told.
_TESTS = {"held_out": "test cells", "replay": "earlier corrections"}


class ModelRow(QWidget):
    """The choice of a model, a line on what it is for, and a menu for its versions and files.

    Parameters
    ----------
    store
        The models.
    go_back
        Returns to the model before.

    Attributes
    ----------
    box
        The choice; one entry a model.
    menu
        Its entries are made anew whenever it opens.

    Signals
    -------
    changed
        Name of a model that another version stands for now, or of the one to choose; may be empty.
    told
        A sentence for the user.
    failed
        A sentence for the user.
    """

    changed = Signal(str)
    told = Signal(str)
    failed = Signal(str)

    def __init__(self, store: ModelStore, go_back: Callable[[], None]) -> None:
        super().__init__()
        self._store, self._go_back = store, go_back
        self._extra = ""
        self.box = ComboBox(label="Model", choices=self._names)
        self.box.native.installEventFilter(self)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self.fill)
        tip = "Return to the previous model; versions, rename, remove, import, export"
        self.more = menu_button("⋯", tip, self.menu)
        line = QHBoxLayout()
        line.addWidget(QLabel("Model"))
        line.addWidget(self.box.native, 1)
        line.addWidget(self.more)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(line)
        layout.addWidget(self.about)

    def offer(self, name: str = "") -> None:
        """Offer the models that are there now; choose one by its name or NAME@VERSION."""
        if name:
            self._extra = name if "@" in name else ""
        self.box.reset_choices()
        if name in self.box.choices:
            self.box.value = name
        self.describe()

    def describe(self) -> None:
        """Say what the chosen model is for."""
        model = self._chosen()
        text = "" if model is None else description(model)
        self.about.setText(text)
        self.about.setVisible(bool(text))
        self.box.native.setToolTip(
            f"The model that finds the cells. {text}\nVersion {model.version} of {model.name}"
            if model is not None
            else "The model that finds the cells"
        )

    def eventFilter(self, box: QObject | None, event: QEvent | None) -> bool:
        """Add the picture of a shipped model to the tooltip when that is wanted first."""
        model = self._chosen()
        if event is not None and event.type() == QEvent.Type.ToolTip and model is not None:
            tip = self.box.native.toolTip()
            if model.shipped and model.name in _SHIPPED and "<img" not in tip:
                lines = "<br>".join(tip.splitlines())
                self.box.native.setToolTip(f'{lines}<br><img src="{_picture(model.name)}">')
        return super().eventFilter(box, event)

    def fill(self) -> None:
        """Make the entries of the menu for the chosen model."""
        self.menu.clear()
        model = self._chosen()
        own = model is not None and not model.shipped
        has_parent = model is not None and model.header.parent is not None
        self._add("Return to previous model", self._go_back, has_parent)
        if model is not None:
            self._fill_versions(model)
        self.menu.addSeparator()
        self._add("Rename…", self._ask_name, own)
        self._add("Remove…", self._ask_remove, own)
        self._add("Import…", self._ask_import, True)
        self._add("Export…", self._ask_export, model is not None)

    def rename(self, name: str) -> None:
        """Give the chosen model another name."""
        before = self._chosen()
        if before is not None:
            self._store.rename(before.name, name)
            self.changed.emit(name)
            self.told.emit(f'"{before.name}" is called "{name}" now')

    def remove(self) -> None:
        """Delete all versions of the chosen model; its corrections stay."""
        model = self._chosen()
        if model is None:
            return
        for version in self._store.versions(model.name):
            if not version.shipped:
                self._store.remove(version)
        self.changed.emit("")
        self.told.emit(f'"{model.name}" was removed; its corrections are kept')

    def export(self, path: Path) -> None:
        """Write the chosen model to a file; the ending says the format."""
        model = self._chosen()
        if model is not None:
            self.told.emit(f"The model was written to {self._store.export(model, path)}")

    def use(self, version: ModelVersion) -> None:
        """Have the model's name stand for another version."""
        self._store.activate(version)
        self.changed.emit(version.name)
        self.told.emit(f'Version {version.version} of "{version.name}" is in use; click Segment')

    def _names(self, widget: object) -> list[str]:
        extra = [self._extra] if self._extra else []
        return list(dict.fromkeys([*self._store.names(), *extra]))

    def _chosen(self) -> ModelVersion | None:
        if self.box.value is None:
            return None
        try:
            return self._store.find(self.box.value)
        except ValueError:
            return None

    def _fill_versions(self, model: ModelVersion) -> None:
        versions = self._store.versions(model.name)
        if len(versions) < 2:
            return
        inner = QMenu("Versions", self.menu)
        self.menu.addMenu(inner)
        for version in versions[::-1]:
            action = QAction(_verdict(version), inner)
            action.setCheckable(True)
            action.setChecked(version.version == model.version)
            action.triggered.connect(
                lambda checked=False, v=version: self._try(lambda: self.use(v))
            )
            inner.addAction(action)

    def _add(self, text: str, slot: Callable[[], None], enabled: bool) -> None:
        action = QAction(text, self.menu)
        action.setEnabled(enabled)
        action.triggered.connect(lambda checked=False: self._try(slot))
        self.menu.addAction(action)

    def _ask_name(self) -> None:
        name, given = QInputDialog.getText(self, "Rename", f"New name of {self.box.value}")
        if given:
            self.rename(name.strip())

    def _ask_remove(self) -> None:
        text = f'Delete "{self.box.value}" with all its versions? Its corrections are kept.'
        if QMessageBox.question(self, "Remove", text) == QMessageBox.StandardButton.Yes:
            self.remove()

    def _ask_import(self) -> None:
        kinds = "Models (*.safetensors *.zip)"
        names, _ = QFileDialog.getOpenFileNames(self, "Import", "", kinds)
        if names:
            read(names)

    def _ask_export(self) -> None:
        name = f"{self.box.value}.safetensors"
        kinds = "Models (*.safetensors);;bioimage.io (*.zip);;ONNX (*.onnx)"
        path, _ = QFileDialog.getSaveFileName(self, "Export", name, kinds)
        if path:
            self.export(Path(path))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self.failed.emit(str(error))


def description(model: ModelVersion) -> str:
    """What a model is for, in one line."""
    if model.shipped:
        least, most = SIZES_PX.get(model.name, (0, 0))
        return f"{_SHIPPED[model.name]}, {least} to {most} px" if most else ""
    header = model.header
    if header.foreign:
        return f"A model of another program, only to segment: {header.foreign['told']}"
    n = len(header.corrections)
    where = "1 image" if n == 1 else f"{n} images or planes"
    taught = f"Your model, taught on {where}" if n else "Your model"
    size = f", for cells of about {header.diameter_px:.0f} px" if header.diameter_px else ""
    return taught + size


def _verdict(version: ModelVersion) -> str:
    """When a version was made, and what its check said, in one line."""
    scores, created = version.header.scores, version.header.created
    said = ["not accepted"] if version.refused else []
    for name, where in _TESTS.items():
        if f"{name}_after" in scores:
            before, after = (100 * scores[f"{name}_{end}"] for end in ("before", "after"))
            said.append(f"{after:.0f} % on {where} (before {before:.0f} %)")
            break
    when = ""
    # Files of strangers may hold any text.
    with suppress(ValueError):
        when = f", {when_words(datetime.fromisoformat(created))}"
    verdict = f": {'; '.join(said)}" if said else ""
    return f"Version {version.version}{when}{verdict}"


@cache
def _picture(name: str) -> str:
    """What a shipped model finds, drawn, as a PNG in the address of a picture."""
    # The dock opens without scipy.ndimage, which this imports.
    from napari_unet.plugin.drawn_images import example

    pixels = example(name)
    height, width, _ = pixels.shape
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    file = QBuffer()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.data().data()).decode()}"
