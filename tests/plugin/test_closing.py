"""napari closed while the dock is idle or at work: each time in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_unet.corrections.drafts import Drafts
from napari_unet.learning.cut_short import find_cut_short
from napari_unet.models import store as model_store
from napari_unet.models.store import ModelStore

# What a user does, told by the first argument; the window closes when it is done.
STORY = """
import sys
import time

import napari
import numpy as np
import torch
from qtpy.QtCore import QTimer

what, closing = sys.argv[1:]
y, x = np.mgrid[:96, :96]
image = np.full((96, 96), 20, np.uint8)
for cy, cx in ((20, 20), (30, 70), (70, 30)):
    image[(y - cy) ** 2 + (x - cx) ** 2 <= 36] = 220
viewer = napari.Viewer()
viewer.add_image(np.tile(image, (24, 24)) if what == "segment" else image, name="cells")
inner, dock = viewer.window.add_plugin_dock_widget("napari-unet")


def segmented():
    dock.segment_button.click()
    while dock.is_busy:
        yield
    labels = dock.labels.value
    labels.brush_size = 10
    labels.paint((20, 21), int(labels.data[20, 20]))


def in_torch(job):
    # Stands for a step or a tile that takes longer than anybody waits.
    image = torch.rand(1, 8, 64, 64, requires_grad=True)
    kernel = torch.rand(8, 8, 3, 3, requires_grad=True)
    while True:
        torch.nn.functional.conv2d(image, kernel).sum().backward()


def story():
    yield
    if what == "segment":
        dock.segment_button.click()
        while not dock.progress.value():
            yield
    if what in ("painted", "finetune"):
        yield from segmented()
    if what == "painted":
        # The dock lies on its own, and a rectangle is being drawn.
        inner.setFloating(True)
        dock.correcting.rectangle.click()
    if what == "finetune":
        dock.budget.choices = (("long", 600.0),)
        dock.finetune_button.click()
        while len(dock.curve.points) < 3:
            yield
        # The curve is drawn.
        for _ in range(20):
            yield
    if what == "stuck":
        service = dock.controller.service
        dock.controller.follower.run("Working", lambda: service.submit("work", in_torch), str)
        for _ in range(20):
            yield


told = story()


def step():
    try:
        next(told)
    except StopIteration:
        print("closing", dock.is_busy, "torch._dynamo" in sys.modules, time.process_time())
        viewer.close() if closing == "script" else viewer.window._qt_window.close()
    else:
        QTimer.singleShot(50, step)


QTimer.singleShot(50, step)
napari.run()
"""
AT_WORK = ("segment", "finetune", "stuck")


def cpu_of_children() -> float | None:
    """Seconds that the processes which have ended kept a processor busy; None where none tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "closing"),
    [("painted", "window"), ("segment", "script"), ("finetune", "window"), ("stuck", "window")],
)
def test_closing_ends_the_process_well(
    what: str,
    closing: str,
    store: ModelStore,
    add_model: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    homes = {f"XDG_{n}_HOME": str(tmp_path / n) for n in ("CONFIG", "CACHE", "DATA")}
    cpu_before = cpu_of_children()
    with subprocess.Popen(
        [sys.executable, "-u", "-c", STORY, what, closing],
        env=os.environ | homes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        before = []
        for line in process.stdout:
            before.append(line)
            if line.startswith("closing"):
                break
        closing_began = time.monotonic()
        after, _ = process.communicate(timeout=200)
        waited = time.monotonic() - closing_began
    assert (process.returncode, after) == (0, ""), "".join(before) + after
    _, was_busy, has_compiler, seconds = before[-1].split()
    assert was_busy == str(what in AT_WORK)
    # It takes 1.4 s to import, and nothing is compiled.
    assert has_compiler == "False"
    if hasattr(os, "killpg"):
        # No process of its own is left.
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    # Seconds of the processor, which other programs may keep busy.
    if cpu_before is not None:
        computed = cpu_of_children() - cpu_before - float(seconds)
        print(f"{what}: closed in {waited:.1f} s, in which it computed {computed:.1f} s")
        assert computed < 4
    if what in ("painted", "finetune"):
        folders = list((store.root.parent / "drafts").iterdir())
        draft = Drafts(store.root.parent / "drafts").load(folders[0].name)
        assert not np.array_equal(draft.labels, draft.baseline)
    # What a fine-tune had learnt is offered at the next start. The process began with what ships.
    monkeypatch.setattr(model_store, "SHIPPED", Path(model_store.__file__).parents[1] / "weights")
    assert len(find_cut_short(store)) == (what == "finetune")


def test_napari_knows_what_runs_and_asks_before_it_closes(docked_by_napari, qtbot, settle, image):
    widget = docked_by_napari
    # What its question lists, when the window manager closes the window.
    listed = widget.viewer.window.__wrapped__._task_status_manager.get_status
    widget.viewer.add_image(image)
    for what in ("Segmenting", "Measuring"):
        chosen = {"Segmenting": widget.segment_button, "Measuring": widget.measuring.measure}[what]
        qtbot.waitUntil(chosen.isEnabled)
        # It waits for its turn: a small image is measured before anybody can look.
        turn = threading.Event()
        widget.controller.service.submit("wait", lambda job, turn=turn: turn.wait(60))
        chosen.click()
        assert listed() == [f"napari-worker: Executing {what} (napari-unet)"]
        turn.set()
        settle(widget)
        assert listed() == []
    widget.segment_button.click()
    assert len(listed()) == 1
    # The dock is closed, and napari is not.
    widget.cleanup()
    assert listed() == []
