import dataclasses
import os
import signal

import numpy as np
import pytest

from napari_unet.config import FinetuneConfig
from napari_unet.service.corrections import annotate
from napari_unet.service.pending import Pending, PendingJobs
from napari_unet.service.segmentation import SegmentationService
from servers import SOON, Server

pytest.importorskip("distributed")

LONG = FinetuneConfig(steps=100_000, seconds=None, tile_px=60, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


def test_segment_works_on_the_server(docked, settle, image, server):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    widget.advanced.server.value = server.file
    widget.segment_button.click()
    settle(widget, SOON)
    assert "3 cells" in widget.status.text()
    assert widget.compute.text().startswith(f"Computed on {server.credentials.computer}: CPU")
    assert len(np.unique(widget.labels.value.data)) == 4
    widget.advanced.server.value = None
    widget.segment_button.click()
    settle(widget)
    assert widget.compute.text().startswith("Computed on CPU")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kill -9")
def test_a_server_that_dies_costs_no_stroke(
    docked_by_napari, settle, image, tmp_path, qtbot, monkeypatch
):
    monkeypatch.setattr("napari_unet.service.connection.PATIENCE_S", 1.0)
    monkeypatch.setattr("napari_unet.service.remote_job.PERSIST_S", 1.0)
    dies, widget = Server(tmp_path), docked_by_napari
    try:
        widget.viewer.add_image(image, name="cells")
        widget.segment_button.click()
        settle(widget)
        layer = widget.labels.value
        layer.paint((78, 75), 9)
        painted = layer.data.copy()
        widget.advanced.server.value = dies.file
        widget.budget.choices = (("long", 600.0),)
        widget.finetune_button.click()
        qtbot.waitUntil(lambda: len(widget.curve.points) > 2, timeout=int(1000 * SOON))
        os.killpg(dies.process.pid, signal.SIGKILL)
        settle(widget, SOON)
        assert "cannot be reached; see that napari-unet serve runs there" in widget.status.text()
        np.testing.assert_array_equal(layer.data, painted)
        assert widget.controller.service.store.find("tiny").version == 1
        widget.advanced.server.value = None
        widget.segment_button.click()
        settle(widget)
        assert widget.status.text().startswith("3 cells found"), widget.status.text()
        assert widget.labels.value.data[78, 75]
    finally:
        dies.stop()


def test_a_file_that_is_not_there_costs_nothing(segmented, settle, tmp_path):
    widget, layer = segmented
    before = layer.data.copy()
    widget.advanced.server.value = tmp_path / "nothing.json"
    widget.segment_button.click()
    assert "there is no file" in widget.status.text()
    assert not widget.is_busy
    np.testing.assert_array_equal(layer.data, before)
    widget.advanced.server.line_edit.value = ""
    widget.segment_button.click()
    settle(widget)
    assert "3 cells" in widget.status.text()


def test_a_fine_tune_that_was_left_is_offered(docked, settle, server, store, add_model, image):
    add_model("other", normalisation={"low": 0.0, "high": 100.0})
    before = SegmentationService(store)
    before.servers.use(server.file)
    given = dataclasses.replace(annotate(image, "YX", (image > 100).astype(int)), name="cells")
    losses = []
    job = before.finetune([given], "other", LONG)
    job.progressed.connect(lambda p: losses.append(p.loss) if p.loss is not None else None)
    while not losses:
        job._end.wait(0.05)
    before.close()
    widget = docked()
    assert not widget.server.isHidden()
    assert "was left teaching other" in widget.server.text.text()
    widget.server.reconnect.click()
    assert widget.server.isHidden()
    widget.cancel_button.click()  # once: what was learnt is kept
    settle(widget, SOON)
    assert "other@2" in widget.status.text() or "Not used" in widget.status.text()
    assert store.versions("other")[-1].version == 2
    assert widget.server.isHidden()


def test_what_was_left_can_be_dropped(docked, store, tmp_path):
    service = SegmentationService(store)
    note = Pending("ab", "tiny", "tiny@1", str(tmp_path / "nothing.json"), "gpu")
    PendingJobs(store.root.parent / "on-servers").add(note)
    widget = docked()
    assert widget.server.text.text() == "gpu was left teaching tiny"
    widget.server.reconnect.click()
    assert "there is no file" in widget.status.text()
    widget.server.drop.click()
    assert widget.server.isHidden()
    assert service.servers.pending() == []
