"""The box in which a server is chosen, with a dot that says whether it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QFileDialog

from napari_unet.jobs import sentence
from napari_unet.models.device import has_torch
from napari_unet.plugin.dock.head import NOT_HERE
from napari_unet.plugin.dock.theme import BAD, GOOD
from napari_unet.plugin.dock.widgets import shrink
from napari_unet.plugin.viewer.main_thread import MainThread
from napari_unet.serving.client.known import KnownServers, why_silent

HERE = "this computer"
ADD, FORGET = "add a server…", "forget this server"
_TIP = "Where Segment, Fine-tune and Estimate size work; a green dot: the server answers"
# While the box is on the screen, servers are asked again after so many milliseconds.
_AGAIN_MS = 10_000
_DOT_PX = 10
_UNKNOWN = "#808080"


class ServerChoice(QObject):
    """Chooses where jobs run: on this computer, or on one of the servers that were named.

    - Servers are asked whether they answer in threads, and only while the box is on the screen.
    - A file of credentials that is added is copied; one in the preferences is used where it lies.

    Parameters
    ----------
    known
        The servers that the user has named.

    Attributes
    ----------
    box
        Its value is "" for this computer, the name of a server, or the path of a file.

    Signals
    -------
    failed
        A sentence for the user.
    """

    failed = Signal(str)

    def __init__(self, known: KnownServers) -> None:
        super().__init__()
        self._known, self._main = known, MainThread()
        # A file from the preferences that was not added.
        self._file = ""
        # By name or path: "" if it answers, else why not.
        self._said: dict[str, str] = {}
        self._asking: set[str] = set()
        self._is_closed = False
        self._before = self._first()
        self.box = ComboBox(label="Server", choices=self._choices, value=self._before, tooltip=_TIP)
        self.box.changed.connect(self._on_chosen)
        shrink(self.box.native)
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(_AGAIN_MS)
        self._again.timeout.connect(self._ask)
        # Both end together.
        self.setParent(self.box.native)
        self.box.native.installEventFilter(self)
        self._draw()

    def choose(self, text: str) -> None:
        """Choose a server by its name or by the path of its file; "" for the usual one."""
        if text and text not in self._known.names():
            self._file = text
        self._offer(text or self._first())

    def file(self) -> Path | None:
        """Return the file of credentials; None for this computer.

        Raises
        ------
        ValueError
            If the server was forgotten meanwhile.
        """
        return self._known.find(str(self.box.value)) if self.box.value else None

    def close(self) -> None:
        """Ask no more."""
        self._is_closed = True

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask when the box is painted: somebody can see it then."""
        if event is not None and event.type() == QEvent.Type.Paint and not self._again.isActive():
            QTimer.singleShot(0, self._ask)
            self._again.start()
        return False

    def _first(self) -> str:
        names = self._known.names()
        return "" if has_torch() or not names else names[0]

    def _servers(self) -> list[str]:
        return [*self._known.names(), *([self._file] if self._file else [])]

    def _choices(self, widget: object = None) -> list[tuple[str, str]]:
        names = self._known.names()
        servers = [(name if name in names else Path(name).name, name) for name in self._servers()]
        forget = [(FORGET, FORGET)] if self._before in names else []
        return [(HERE if has_torch() else NOT_HERE, ""), *servers, (ADD, ADD), *forget]

    def _offer(self, value: str) -> None:
        """Show the servers anew, with one of them chosen."""
        self._before = value
        with self.box.changed.blocked():
            # Anew, or those that were there before keep their place.
            self.box.choices = ()
            self.box.reset_choices()
            self.box.value = value
        self._draw()
        self._ask()

    def _on_chosen(self, value: str) -> None:
        before = self._before
        if value == ADD:
            path = QFileDialog.getOpenFileName(None, "Server", "", "Server (*.json)")[0]
            self._offer(self._added(path) if path else before)
        elif value == FORGET:
            self._try(lambda: self._known.remove(before))
            self._offer(self._first())
        else:
            self._offer(value)

    def _added(self, path: str) -> str:
        """Add a server, and return what is to be chosen then."""
        return self._try(lambda: self._known.add(Path(path))) or self._before

    def _try(self, action: Callable[[], str | None]) -> str | None:
        try:
            return action()
        except (ValueError, OSError) as error:
            self.failed.emit(str(error))
            return None

    def _ask(self) -> None:
        """Ask all servers whether they answer, if the box is on the screen."""
        if self._is_closed or self.box.native.visibleRegion().isEmpty():
            return
        for name in self._servers():
            if name not in self._asking:
                self._asking.add(name)
                Thread(target=self._ask_one, args=(name,), daemon=True).start()
        self._again.start()

    def _ask_one(self, name: str) -> None:
        """Ask one server, in a thread; what goes wrong is what is wrong with the server."""
        try:
            why = why_silent(self._known.find(name))
        except Exception as error:
            why = sentence(error)
        self._main.do(self._on_answer, name, why)

    def _on_answer(self, name: str, why: str) -> None:
        self._asking.discard(name)
        if not self._is_closed and self._said.get(name) != why:
            self._said[name] = why
            self._draw()

    def _draw(self) -> None:
        """Show a dot before each server."""
        native = self.box.native
        for row, (_, value) in enumerate(self._choices()):
            if value in self._servers():
                why = self._said.get(value)
                colour = _UNKNOWN if why is None else BAD if why else GOOD
                native.setItemIcon(row, _dot(colour))
                native.setItemData(row, why or "it answers", Qt.ItemDataRole.ToolTipRole)
        why = self._said.get(str(self.box.value), "")
        native.setToolTip(f"{_TIP}\n⚠ {why}" if why else _TIP)


def _dot(colour: str) -> QIcon:
    picture = QPixmap(_DOT_PX, _DOT_PX)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawEllipse(1, 1, _DOT_PX - 2, _DOT_PX - 2)
    painter.end()
    return QIcon(picture)
