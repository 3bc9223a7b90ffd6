import re

import pytest

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.jobs import JobCancelled
from napari_unet.service.segmentation import SegmentationService

LONG = FinetuneConfig(steps=10_000, seconds=None, tile_px=60, device="cpu", precision="float32")


def learns(widget, qtbot, points=3):
    qtbot.waitUntil(lambda: len(widget.curve.points) >= points, timeout=60_000)


@pytest.mark.slow
def test_a_fine_tune_that_was_cut_short_is_offered_and_goes_on(
    segmented, outlined, docked, qtbot, settle, store, monkeypatch
):
    monkeypatch.setattr("napari_unet.learning.cut_short._EVERY_S", 0.0)
    widget, _ = segmented
    outlined(widget)
    settle(widget)
    assert not widget.cut_short.isVisible()
    widget.budget.choices = (("long", 600.0),)
    widget.finetune_button.click()
    learns(widget, qtbot)
    # The dock is closed meanwhile, and once more while it goes on.
    for _ in range(2):
        widget.cleanup()
        widget = docked()
        settle(widget)
        row = widget.cut_short
        assert row.isVisible()
        words = r"A fine-tune of tiny was cut short today \d\d:\d\d, after 0:\d\d of 10:00\."
        assert re.fullmatch(words, row.text.text())
        row.go_on.click()
        assert not row.isVisible()
        assert widget.is_busy
        learns(widget, qtbot)
        assert re.match(r"Training 0:\d\d of 10:00", widget.status.text())
    widget.cancel_button.click()
    settle(widget)
    assert widget.last.is_needed
    assert len(store.versions("tiny")) == 2
    assert not row.isVisible()
    assert list(store.root.rglob("*.state")) == []


def test_what_is_discarded_is_offered_no_more(docked, settle, store, image, add_model):
    service = SegmentationService(store)
    add_model("other", normalisation={"low": 0.0, "high": 100.0})
    job = service.finetune([annotate(image, "YX", (image > 100).astype("i4"))], "other", LONG)

    def close(told):
        if told.loss is not None:
            service.servers.local.leave()
            job.cancel()

    job.progressed.connect(close)
    with pytest.raises(JobCancelled):
        job.wait(60)
    widget = docked()
    settle(widget)
    row = widget.cut_short
    assert row.text.text().endswith(" of 10000 steps.")
    row.discard.click()
    settle(widget)
    assert not row.isVisible()
    assert list(store.root.rglob("*.state")) == []
