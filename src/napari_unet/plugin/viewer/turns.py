"""Several steps in the viewer's thread, between which it can draw and hear the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from qtpy.QtCore import QTimer

from napari_unet.plugin.viewer.canvas import hold_layers

# From one step to the next, in ms: enough to draw once.
_TURN_MS = 15


def in_turns(
    steps: Sequence[Callable[[], None]], goes_on: Callable[[], bool], end: Callable[[], None]
) -> None:
    """Do one step after the other, each in a moment of its own.

    Parameters
    ----------
    steps
        What is to be done. Layers that are to leave wait until it is.
    goes_on
        Asked before each step; False leaves out those to come.
    end
        Called after the last step.
    """

    def take(left: Sequence[Callable[[], None]]) -> None:
        is_done = True
        try:
            if left and goes_on():
                left[0]()
                is_done = False
        finally:
            if is_done:
                hold_layers(held=False)
                end()
        if not is_done:
            QTimer.singleShot(_TURN_MS, partial(take, left[1:]))

    hold_layers(held=True)
    QTimer.singleShot(_TURN_MS, partial(take, steps))
