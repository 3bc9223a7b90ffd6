"""Several people at once on a real server: whose turn it is, and on which GPU."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.service.segmentation import SegmentationService
from servers import SOON, Server

pytest.importorskip("uvicorn")

EXACT = PredictConfig(device="cpu", precision="float32")


class HeldImage:
    """A stack of two planes, of which the client reads the second once `go` is set."""

    def __init__(self, plane, go):
        self._pixels, self._go = np.stack([plane, plane]), go
        self.shape, self.ndim, self.dtype = self._pixels.shape, 3, plane.dtype

    def __getitem__(self, key):
        if key[0] > 0 and key[1] == slice(None):
            assert self._go.wait(SOON)
        return self._pixels[key]


@pytest.fixture
def client_of(store):
    """Makes a client for a file of credentials."""
    made = []

    def client(file):
        service = SegmentationService(store)
        service.servers.use(file)
        made.append(service)
        return service

    yield client
    for service in made:
        service.close()


def states(server, file):
    with server.connect_as_holder(file) as holder:
        return [job["state"] for job in holder.get("/v1/jobs").json()]


def wait_until(holds):
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_ten_jobs_of_one_person_do_not_hold_up_another(server, client_of, add_model, blobs):
    """Anna's jobs came first; after her first one each of the others has a turn."""
    add_model("bright")
    image, _ = blobs()
    go = threading.Event()
    people = ("anna", "ben", "carl", "dora")
    files = {name: server.add(name) for name in people}
    log, jobs = server.folder / "log.txt", []
    # It is known now how long such a job takes.
    client_of(files["anna"]).segment(image, "YX", "bright", EXACT).wait(SOON)
    before = len(log.read_text().splitlines())
    for number, name in enumerate(("anna", "anna", "anna", "ben", "carl", "dora")):
        client = client_of(files[name])
        if number == 0:
            jobs.append(client.segment(HeldImage(image, go), "ZYX", "bright", EXACT))
        else:
            jobs.append(client.segment(image, "YX", "bright", EXACT))
        # Each is there before the next one comes.
        n_before = sum(each == name for each in ("anna", "anna", "anna")[:number])
        wait_until(lambda name=name, n=n_before: len(states(server, files[name])) > n)
    with server.connect_as_holder(files["dora"]) as holder:
        (mine,) = holder.get("/v1/jobs").json()
        told = holder.get(f"/v1/jobs/{mine['id']}").json()
    assert (told["position"], told["begins_s"] >= 0) == (3, True)
    go.set()
    assert len({job.wait(SOON).n_cells for job in jobs[1:]}) == 1
    ended = [line.split()[1] for line in log.read_text().splitlines()[before:]]
    assert ended == [f"{name}:" for name in (*people, "anna", "anna")]


@pytest.mark.slow
def test_each_gpu_has_a_worker_of_its_own(tmp_path, monkeypatch, client_of, add_model, blobs):
    """Two GPUs are pretended: torch counts them, and the jobs run on the processor all the same."""
    add_model("bright")
    image, _ = blobs()
    (tmp_path / "sitecustomize.py").write_text(
        "import torch\ntorch.cuda.device_count = lambda: 2\n"
    )
    path = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    server = Server(tmp_path / "s", "--device", "auto")

    def gpus():
        found = []
        for pid in server.workers():
            given = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            found += [x.partition("=")[2] for x in given if x.startswith("CUDA_VISIBLE")] or ["all"]
        return sorted(found)

    try:
        wait_until(lambda: gpus() == ["1", "all"])
        files, go = [server.add(name) for name in ("anna", "ben")], threading.Event()
        jobs = [client_of(f).segment(HeldImage(image, go), "ZYX", "bright", EXACT) for f in files]
        # Both run at once.
        wait_until(lambda: [states(server, file) for file in files] == [["running"]] * 2)
        go.set()
        assert len({job.wait(SOON).n_cells for job in jobs}) == 1
        (second,) = (
            pid for pid in server.workers()
            if b"CUDA_VISIBLE_DEVICES=1" in Path(f"/proc/{pid}/environ").read_bytes()
        )  # fmt: skip
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: second not in server.workers() and gpus() == ["1", "all"])
    finally:
        server.stop()
