"""The main job as a newcomer does it: three clicks and a brush, on a real image with real weights.

With NAPARI_UNET_PICTURES=docs/images it also writes the pictures of the docs, and the animation.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from qtpy.QtWidgets import QWidget

import hands
from napari_unet.demo import NUCLEI, found
from napari_unet.models.store import SHIPPED
from pictures import save_animation, save_small, time_each_step, with_pointer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (SHIPPED / "nuclei.safetensors").exists(), reason="no weights here"),
]


hand, settle = hands.hand, hands.settle


def test_three_clicks_and_a_brush(make_napari_viewer, qtbot, hand, settle, tmp_path, monkeypatch):
    # Taking pictures is half of the time that this takes.
    takes_pictures = "NAPARI_UNET_PICTURES" in os.environ
    pictures = Path(os.environ.get("NAPARI_UNET_PICTURES", tmp_path))
    monkeypatch.setenv("NAPARI_UNET_MODELS", str(tmp_path / "models"))
    # 50 steps are enough here, which is fewer than count as enough elsewhere.
    monkeypatch.setattr("napari_unet.learning.validation.ENOUGH_STEPS", 1)
    time_each_step(monkeypatch)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1250, 800)

    frames: list[tuple[Image.Image, int]] = []

    def frame(ms: int, button: QWidget | None = None) -> Image.Image | None:
        """Show the window for so long in the animation, then the button that is clicked next."""
        if not takes_pictures:
            return None
        qtbot.wait(300)
        shown = Image.fromarray(viewer.window.screenshot(canvas_only=False, flash=False)[..., :3])
        if ms:
            frames.append((shown, ms))
        if button is not None:
            at = button.mapTo(viewer.window._qt_window, button.rect().center())
            frames.append((with_pointer(shown, (at.x(), at.y())), 900))
        return shown

    def picture(name: str, ms: int = 0, button: QWidget | None = None) -> None:
        shown = frame(ms, button)
        if shown is not None:
            save_small(shown, pictures / f"{name}.png")

    viewer.open_sample("napari-unet", "tissue")
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet")
    try:
        picture("1-open", 1200, widget.segment_button)
        widget.segment_button.click()
        settle(widget, 300)
        first = viewer.layers.selection.active
        before = first.data.copy()
        assert before.max() > 20
        picture("2-segmented", 1800)

        missed = [i for i in range(len(NUCLEI)) if not found(before, [i])][:8]
        assert missed, "the model misses none of the marked nuclei: choose a harder image"
        first.mode = "paint"
        for number in missed:
            start, stop, radius = NUCLEI[number]
            first.brush_size = 2 * radius
            first.selected_label = int(first.data.max()) + 1
            hand(viewer).drag([start, stop, start])
            frame(350)
        settle(widget, 300)
        # A stroke may also meet a cell that was there.
        assert len(missed) <= int(widget.correcting.count.text().split()[0]) <= 2 * len(missed)
        picture("3-painted", 1200)

        # A few that are right as they are: what is confirmed teaches, too.
        known = [i for i in range(len(NUCLEI)) if found(before, [i])]
        for number in known[:5]:
            hand(viewer).point(NUCLEI[number][0])
            hand(viewer).press("C")
        settle(widget, 300)
        assert "5 marked correct" in widget.correcting.count.text()
        picture("7-confirmed")
        widget.correcting.next_place.click()
        assert widget.status.text().startswith("Doubtful cell 1 of ")
        picture("8-next-place")
        viewer.reset_view()

        if takes_pictures:
            widget.budget.value = 30.0
        else:
            widget.budget.choices = (("50 steps", 22.5),)
        frame(900, widget.finetune_button)
        widget.finetune_button.click()
        learning = "found while it learns (U-Net)"
        qtbot.waitUntil(
            lambda: learning in viewer.layers and len(widget.curve.points) > 20,
            timeout=300_000,
        )
        picture("4-learning", 1800)
        settle(widget, 400)
        assert widget.status.text().startswith('New model "my-nuclei" is ready: '), (
            widget.status.text()
        )
        assert widget.model.value == "my-nuclei"
        assert learning not in viewer.layers
        picture("9-verdict", 1500, widget.last.again)

        widget.last.again.click()
        settle(widget, 300)
        second = viewer.layers.selection.active
        after = second.data
        picture("5-segmented-again", 3500)
        if takes_pictures:
            save_animation(frames, pictures / "three-clicks.webp")
        # What was painted came along; what was not is the model's own doing.
        assert found(after, missed) == len(missed)
        others = [i for i in range(len(NUCLEI)) if i not in missed]
        assert found(after, known) >= 0.9 * len(known)
        assert found(after, others) >= len(known)
        assert first in viewer.layers

        widget.last.back.click()
        settle(widget, 300)
        assert widget.model.value == "nuclei"
        assert first.visible
        assert not second.visible
        picture("10-back")

        widget.labels.value = first
        widget.advanced.preview.native.click()
        settle(widget, 300)
        for layer in viewer.layers:
            layer.visible = layer.name.startswith("augmentation")
        viewer.dims.set_point(0, 1)
        viewer.reset_view()
        camera = getattr(viewer, "scene", viewer).camera
        y, x = viewer.layers["augmentation: weight"].translate[-2:]
        # Three columns of 196 px.
        camera.center = (0, y + 98, x - 114)
        camera.zoom = 0.84
        picture("6-augmentation")
    finally:
        widget.cleanup()
