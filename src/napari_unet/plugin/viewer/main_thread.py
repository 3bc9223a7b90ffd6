"""From any thread into the viewer's."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Signal, Slot


class MainThread(QObject):
    """Does things in the thread it was made in, which is to be the main one.

    It connects its signal once, there: connecting from elsewhere (as superqt's
    `ensure_main_thread` does at each call) needs a lock of Qt's that the main thread may hold
    while it waits for Python's.
    """

    _asked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._asked.connect(self._do)

    def do(self, action: Callable[..., object], *args: object) -> None:
        """Do it at once in the main thread; from elsewhere, when that one comes to it."""
        self._asked.emit((action, args))

    @Slot(object)
    def _do(self, asked: tuple[Callable[..., object], tuple[object, ...]]) -> None:
        action, args = asked
        action(*args)
