"""The head of the dock: where the last job ran, and a menu with help."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMenu, QMessageBox, QWidget

from napari_unet.models.device import has_torch
from napari_unet.plugin.dock.widgets import menu_button

TITLE = "U-Net cells"
DOCUMENTATION = "https://napari-unet.readthedocs.io"
ISSUES = "https://github.com/napari-unet/napari-unet/issues"
NOT_HERE = "no local computing here"
_TUTORIAL = f"""
<h3>Find cells, correct a few, teach the model</h3>
<p>To try it: <i>File ▸ Open Sample ▸ U-Net segmentation ▸ Tissue</i>.</p>
<p><b>1 Find cells.</b> Open an image. Of a stack, a movie or channels, <i>read as</i> says what
they are taken for. Choose a model and click <i>Segment</i>.</p>
<p><b>2 Correct.</b> <i>Next doubtful cell</i> (N) leads to the cells where a correction helps
most. <i>add</i> (A): drag a box around a missed or a wrong cell, and press C if the outline is
right. <i>remove</i> (R) takes the cell under the pointer away, <i>split</i> (S) and <i>merge</i>
(J) take a drag, and the brush corrects outlines. Point at a cell that is right and press C. Five
to ten cells are enough: the model learns from those and a thin margin around them, and ignores the
rest.</p>
<p><b>3 Teach.</b> Click <i>Fine-tune</i>. The old model stays as it is. The new one is tested on
some of your corrections before it is used. Then click <i>Segment again</i>.</p>
<p><b>4 Results.</b> Measure the cells, save them, or segment a folder of images.</p>
<p>More: <a href="{DOCUMENTATION}">{DOCUMENTATION}</a></p>
"""
_SHORTCUTS = (
    ("C", "mark the cell under the pointer as correct (over background: the background)"),
    ("Shift-C", "mark the visible area as correct"),
    ("U", "undo the last mark"),
    ("N", "next doubtful cell"),
    ("A", "add or replace a cell: drag a box around it; C adds the outline, the wheel resizes it"),
    ("R", "remove the cell under the pointer"),
    ("S", "split a cell: draw a line across it"),
    ("J", "join two cells: drag from one into the other"),
    ("H", "nothing here: draw a loop around a place without cells"),
    ("Esc", "end a gesture, or drop its outline"),
    ("Page Down, Page Up", "the next image of a folder, the one before"),
    ("Shift-D", "all labels of this image of a folder are right"),
    ("M", "a new number for the next cell (napari)"),
    ("1, 2, 3, 4", "eraser, brush, polygon, fill (napari)"),
    ("Ctrl-Z", "undo the last stroke (napari)"),
)


class Head(QWidget):
    """Where the last job ran, and the menu behind the question mark.

    Parameters
    ----------
    restore_defaults
        Sets all settings as they were at first.
    set_preferences
        Opens the dialog for what the dock begins with.

    Attributes
    ----------
    compute
        Where the last job ran.
    menu
        Its entries are named in `actions_by_name`.
    """

    def __init__(
        self, restore_defaults: Callable[[], None], set_preferences: Callable[[], None]
    ) -> None:
        super().__init__()
        self.compute = QLabel("" if has_torch() else NOT_HERE)
        self.compute.setToolTip("Where the last job ran; none ran yet")
        self.shown: QMessageBox | None = None
        self.menu = QMenu(self)
        for name, slot in (
            ("Tutorial", lambda: self._show("Tutorial", _TUTORIAL)),
            ("Shortcuts", lambda: self._show("Shortcuts", _table(_SHORTCUTS))),
            ("Report a problem", lambda: self._show("Report a problem", _report())),
            ("Preferences…", set_preferences),
            ("Restore defaults", restore_defaults),
        ):
            action = self.menu.addAction(name)
            if action is not None:
                action.triggered.connect(lambda checked=False, slot=slot: slot())
        tip = "Tutorial, shortcuts, report a problem, preferences, restore defaults"
        help_button = menu_button("?", tip, self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.compute)
        layout.addWidget(help_button)

    def show_compute(self, where: str) -> None:
        """Show where the last job ran, such as "CPU, 2 threads, bfloat16"."""
        self.compute.setText(where.split(",")[0])
        self.compute.setToolTip(f"The last job ran on {where}")

    def _show(self, title: str, text: str) -> None:
        self.shown = box = QMessageBox(self)
        box.setWindowTitle(f"{TITLE}: {title}")
        box.setTextFormat(Qt.TextFormat.RichText)
        box.setText(text)
        # Links can be clicked, and text be copied.
        box.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        box.setModal(False)
        box.show()


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    lines = "".join(
        f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{does}</td></tr>" for key, does in rows
    )
    return f"<table>{lines}</table>"


def _report() -> str:
    from napari_unet.serving.messages import RELEASE

    packages = [name for name in ("napari", "torch", "numpy") if find_spec(name)]
    lines = [f"napari-unet {RELEASE}", *(f"{n} {version(n)}" for n in packages)]
    found = "<br>".join(lines)
    return (
        f'<p>Write to <a href="{ISSUES}">{ISSUES}</a>. Please say what you did, what you expected '
        "and what came instead, with a picture and the message of the dock. Copy these lines "
        "along:</p>"
        f"<p>{found}<br>Python {platform.python_version()}<br>{platform.platform()}</p>"
    )
