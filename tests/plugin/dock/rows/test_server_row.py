import dataclasses

import numpy as np
import pytest

from napari_unet.config import FinetuneConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.client.unfinished import UnfinishedJob, UnfinishedJobs
from servers import SOON, Server

pytest.importorskip("uvicorn")

LONG = FinetuneConfig(steps=100_000, seconds=None, tile_px=60, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.mark.slow
def test_segment_works_on_the_server(docked, settle, image, server):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    widget.advanced.server.choose(str(server.file))
    widget.segment_button.click()
    settle(widget, SOON)
    assert "3 cells" in widget.status.text()
    assert widget.compute.text() == f"{server.credentials.computer}: CPU"
    assert len(np.unique(widget.labels.value.data)) == 4
    widget.advanced.server.box.value = ""
    widget.segment_button.click()
    settle(widget)
    assert widget.compute.text() == "CPU"


def test_a_file_that_is_not_there_costs_nothing(segmented, settle, tmp_path):
    widget, layer = segmented
    before = layer.data.copy()
    widget.advanced.server.choose(str(tmp_path / "nothing.json"))
    widget.segment_button.click()
    assert "there is no file" in widget.status.text()
    assert not widget.is_busy
    np.testing.assert_array_equal(layer.data, before)
    widget.advanced.server.box.value = ""
    widget.segment_button.click()
    settle(widget)
    assert "3 cells" in widget.status.text()


@pytest.mark.slow
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
    assert "training of other was left" in widget.server.text.text()
    widget.server.reconnect.click()
    assert widget.server.isHidden()
    widget.cancel_button.click()  # once: what was learnt is kept
    settle(widget, SOON)
    assert widget.status.text().startswith(('New model "other", version 2', "The old model stays"))
    assert store.versions("other")[-1].version == 2
    assert widget.server.isHidden()


def test_what_was_left_can_be_dropped(docked, store, tmp_path):
    service = SegmentationService(store)
    note = UnfinishedJob("ab", "tiny", "tiny@1", str(tmp_path / "nothing.json"), "gpu")
    UnfinishedJobs(store.root.parent / "on-servers").add(note)
    widget = docked()
    assert widget.server.text.text() == "A training of tiny was left on gpu."
    widget.server.reconnect.click()
    assert "there is no file" in widget.status.text()
    widget.server.drop.click()
    assert widget.server.isHidden()
    assert service.servers.pending() == []
