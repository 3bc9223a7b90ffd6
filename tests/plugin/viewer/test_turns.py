"""Steps that are done one after the other, and what waits for them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.plugin.viewer import canvas
from napari_unet.plugin.viewer.canvas import remove_soon
from napari_unet.plugin.viewer.turns import in_turns


def test_steps_that_are_no_longer_wanted_are_left_out(qtbot):
    done = []
    steps = [lambda: done.append(1), lambda: done.append(2)]
    in_turns(steps, lambda: not done, lambda: done.append("end"))
    assert not done
    qtbot.waitUntil(lambda: "end" in done, timeout=2000)
    assert done == [1, "end"]


def test_layers_leave_when_all_is_done(viewer, qtbot, monkeypatch):
    monkeypatch.setattr(canvas, "_PAUSE_MS", 1)
    layer, seen = viewer.add_image(np.zeros((9, 9))), []

    def look():
        # Longer than a layer waits by itself.
        qtbot.wait(150)
        seen.append(layer in viewer.layers)

    in_turns([look, look], lambda: True, lambda: seen.append("end"))
    remove_soon(viewer, layer)
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=2000)
    assert seen == [True, True, "end"]


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_fails_holds_up_nothing(qtbot):
    done = []
    with qtbot.captureExceptions() as caught:
        in_turns([lambda: 1 / 0], lambda: True, lambda: done.append("end"))
        qtbot.waitUntil(lambda: bool(done), timeout=2000)
    assert [kind for kind, *_ in caught] == [ZeroDivisionError]
    assert canvas._n_held == 0
