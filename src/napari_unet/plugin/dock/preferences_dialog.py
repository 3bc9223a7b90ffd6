"""The dialog for what the dock begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_unet.plugin.dock.advanced import Advanced
from napari_unet.plugin.dock.widgets import beside, button, row
from napari_unet.plugin.preferences import (
    CELLS,
    DEVICES,
    FILLED,
    OUTLINES,
    Preferences,
    PreferenceStore,
)
from napari_unet.plugin.results.outlines import Outlines

_FIRST = "the first in the list"


class Preferring:
    """Sets the controls of the dock as the preferences say, and asks for these.

    Parameters
    ----------
    store
        Keeps the preferences.
    model
        The box of models.
    advanced
        The settings of the dock.
    outlines
        How results are shown.

    Attributes
    ----------
    dialog
        The one that was opened last.
    """

    def __init__(
        self, store: PreferenceStore, model: ComboBox, advanced: Advanced, outlines: Outlines
    ) -> None:
        self._store, self._model, self._advanced = store, model, advanced
        self._outlines, self._used = outlines, Preferences()
        self.dialog: PreferencesDialog | None = None

    def ask(self, dock: QWidget) -> None:
        """Open the dialog."""
        names = [str(name) for name in self._model.choices]
        self.dialog = PreferencesDialog(self._store, names, dock)
        self.dialog.setModal(True)
        self.dialog.show()

    def use(self) -> None:
        """Set all that the preferences have otherwise than the dock at first."""
        self._used = Preferences()
        self.change(self._store.values)

    def change(self, wanted: Preferences) -> None:
        """Set what the preferences had otherwise until now; the rest is as the user set it."""
        before, self._used = self._used, wanted
        if wanted.model != before.model and wanted.model in self._model.choices:
            self._model.value = wanted.model
        if wanted.device != before.device:
            self._advanced.device.value = wanted.device
        if wanted.cells != before.cells:
            self._outlines.choose({OUTLINES: True, FILLED: False}.get(wanted.cells))
        if wanted.server != before.server:
            self._advanced.server.choose(wanted.server)


class PreferencesDialog(QDialog):
    """Shows the preferences; OK keeps them.

    Parameters
    ----------
    store
        Keeps them.
    models
        Names of the models that can be chosen.
    parent
        The dock.
    """

    def __init__(self, store: PreferenceStore, models: Sequence[str], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("U-Net cells: Preferences")
        self.setMinimumWidth(420)
        self._store, wanted = store, store.values
        self.model = _choice(
            (_FIRST, *models), wanted.model or _FIRST, "The model that is chosen at first"
        )
        self.device = _choice(
            DEVICES,
            wanted.device,
            "The processor (cpu) or a graphics card (cuda, mps); auto: the fastest",
        )
        self.cells = _choice(
            CELLS, wanted.cells, "Automatic: outlines, and filled in stacks and very large images"
        )
        self.drafts = QLineEdit(wanted.drafts)
        self.drafts.setPlaceholderText("beside the models")
        self.drafts.setToolTip(
            "Where strokes are saved while you paint; used when the dock is next opened"
        )
        self.server = QLineEdit(wanted.server)
        self.server.setPlaceholderText("this computer")
        self.server.setToolTip(
            "Name of a server in the dock, or the file that napari-unet serve wrote: Segment and "
            "Fine-tune there"
        )
        self.ok = button("OK", "Keep these settings, and use them now", self._save)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.hide()
        form = QFormLayout()
        form.addRow("Model", self.model)
        form.addRow("Compute on", self.device)
        form.addRow("Show cells as", self.cells)
        form.addRow("Autosave folder", self._with_choice(self.drafts, self._ask_folder))
        form.addRow("Server", self._with_choice(self.server, self._ask_server))
        where = QLabel(f"Kept in {store.path}" if store.path else "Kept until napari is closed")
        where.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(where)
        layout.addWidget(self.problem)
        layout.addWidget(row(self.ok, button("Cancel", "Change nothing", self.reject)))

    def _with_choice(self, line: QLineEdit, ask: Callable[[], str]) -> QWidget:
        def choose() -> None:
            line.setText(ask() or line.text())

        return beside(line, 3, button("Choose…", line.toolTip(), choose), 1)

    def _ask_folder(self) -> str:
        chosen: str = QFileDialog.getExistingDirectory(self, "Autosave folder")
        return chosen

    def _ask_server(self) -> str:
        chosen: str = QFileDialog.getOpenFileName(self, "Server", "", "Server (*.json)")[0]
        return chosen

    def _save(self) -> None:
        model = self.model.currentText()
        wanted = Preferences(
            model="" if model == _FIRST else model,
            device=self.device.currentText(),
            cells=self.cells.currentText(),
            drafts=self.drafts.text().strip(),
            server=self.server.text().strip(),
        )
        try:
            self._store.save(wanted)
        except OSError as error:
            self.problem.setText(f"⚠ The preferences cannot be kept: {error}")
            self.problem.show()
            return
        self.accept()


def _choice(known: Sequence[str], chosen: str, tip: str) -> QComboBox:
    box = QComboBox()
    # A model may be gone, or on another computer.
    box.addItems(list(dict.fromkeys((*known, chosen))))
    box.setCurrentText(chosen)
    box.setToolTip(tip)
    return box
