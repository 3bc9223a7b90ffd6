import hashlib
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from napari_unet.jobs import FinishReason
from napari_unet.remote import worker as module
from napari_unet.remote.tasks import FetchedPlanes
from napari_unet.remote.worker import JobQueue, pack, unpack

SOON = 30.0


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue(tmp_path / "sent", "cpu")
    yield queue
    queue._runner.close()


def until(queue, number, holds):
    end = time.monotonic() + SOON
    while not holds(state := queue.status(number, 0, False)):
        assert time.monotonic() < end, state
        time.sleep(0.01)
    return state


def ended(state):
    return state["reason"] is not None


def test_a_job_runs_reports_and_has_a_result(queue):
    def task(job, inputs):
        job.report(0.5, "half", 0.25)
        return {"device": inputs.device}

    queue.start("a", task)
    state = until(queue, "a", ended)
    assert state["reason"] is FinishReason.DONE
    assert [(p.fraction, p.message, p.loss) for p in state["news"]] == [(0.5, "half", 0.25)]
    assert queue.status("a", state["since"], False)["news"] == []
    assert unpack(queue.result("a")) == unpack(queue.result("a")) == {"device": "cpu"}
    queue.cancel("a")
    assert queue.status("a", 0, False) is None
    assert queue.result("a") is None


def test_a_job_that_is_started_twice_runs_once(queue):
    runs = []
    for _ in range(2):
        queue.start("a", lambda job, inputs: runs.append(1))
    until(queue, "a", ended)
    queue.start("a", lambda job, inputs: runs.append(1))
    assert runs == [1]


def test_an_error_comes_as_its_sentence(queue):
    def task(job, inputs):
        raise ValueError("the image is flat; give another")

    queue.start("a", task)
    assert until(queue, "a", ended)["error"] == "the image is flat; give another"


def test_what_is_wanted_is_given_once(queue):
    queue.start("a", lambda job, inputs: [inputs.fetch("x", ahead=["y"]), inputs.fetch("y")])
    assert until(queue, "a", lambda s: s["wants"])["wants"] == ["x", "y"]
    queue.give("a", "x", b"1")
    assert until(queue, "a", lambda s: s["wants"] == ["y"])
    queue.give("a", "y", b"2")
    until(queue, "a", ended)
    assert unpack(queue.result("a")) == [[b"1"], [b"2"]]


def test_planes_that_are_sent_are_an_image(queue):
    planes = np.arange(12, dtype=np.uint16).reshape(3, 1, 2, 2)

    def task(job, inputs):
        image = FetchedPlanes(inputs, planes.shape)
        return image.dtype, image.ndim, np.asarray(image), image[2, 0], image[:, 0]

    queue.start("a", task)
    while not ended(state := until(queue, "a", lambda s: s["wants"] or ended(s))):
        for key in state["wants"]:
            queue.give("a", key, pack(planes[int(key.split()[1])]))
    dtype, ndim, whole, last, sample = unpack(queue.result("a"))
    assert (dtype, ndim) == (np.uint16, 4)
    np.testing.assert_array_equal(whole, planes)
    np.testing.assert_array_equal(last, planes[2, 0])
    np.testing.assert_array_equal(sample, planes[:1, 0])


def test_a_file_is_sent_once(queue):
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()

    def task(job, inputs):
        return [path.read_bytes() for path in inputs.files([sha256])]

    queue.start("a", task)
    assert until(queue, "a", lambda s: s["wants"])["wants"] == [sha256]
    queue.give("a", sha256, content)
    until(queue, "a", ended)
    queue.start("b", task)
    until(queue, "b", ended)
    assert unpack(queue.result("a")) == unpack(queue.result("b")) == [content]


def test_a_file_that_is_not_what_was_promised_is_not_kept(queue, tmp_path):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    queue.start("a", lambda job, inputs: inputs.files([sha256]))
    until(queue, "a", lambda s: s["wants"])
    queue.give("a", sha256, b"others")
    assert "changed while it was sent" in until(queue, "a", ended)["error"]
    assert list((tmp_path / "sent").iterdir()) == []


def test_a_client_that_falls_silent_does_not_block_the_others(queue, monkeypatch):
    monkeypatch.setattr(module, "SILENT_S", 0.05)
    queue.start("a", lambda job, inputs: inputs.fetch("x"))
    queue.start("b", lambda job, inputs: "done")
    until(queue, "b", ended)
    assert "the server gave up" in queue.status("a", 0, False)["error"]


def test_a_job_that_waits_knows_how_many_are_before_it(queue):
    hold = threading.Event()
    queue.start("a", lambda job, inputs: hold.wait(SOON))
    queue.start("b", lambda job, inputs: None)
    assert queue.status("b", 0, False)["waiting"] == 1
    assert queue.status("a", 0, False)["waiting"] == 0
    hold.set()
    assert until(queue, "b", ended)["waiting"] == 0


def test_a_cancel_ends_what_waits_and_what_runs(queue):
    seen = []

    def task(job, inputs):
        try:
            inputs.fetch("never")
        finally:
            seen.append("ended")

    queue.start("a", task)
    queue.start("b", lambda job, inputs: seen.append("b"))
    until(queue, "a", lambda s: s["wants"])
    queue.cancel("b")
    queue.cancel("a")
    queue.start("c", lambda job, inputs: seen.append("c"))
    until(queue, "c", ended)
    assert seen == ["ended", "c"]


def test_more_time_is_passed_on(queue):
    def task(job, inputs):
        while job.extended_s is None:
            job.report(0.1, "learning")
            time.sleep(0.01)
        return job.extended_s

    queue.start("a", task)
    until(queue, "a", lambda s: s["news"])
    queue.status("a", 0, False, 120.0)
    until(queue, "a", ended)
    assert unpack(queue.result("a")) == 120


def test_to_finish_is_passed_on(queue):
    def task(job, inputs):
        while not job.is_finishing:
            job.report(0.1, "learning")
            time.sleep(0.01)
        return "kept"

    queue.start("a", task)
    until(queue, "a", lambda s: s["news"])
    queue.status("a", 0, True)
    until(queue, "a", ended)
    assert unpack(queue.result("a")) == "kept"


def test_what_nobody_asks_for_is_forgotten(queue, monkeypatch):
    def task(job, inputs):
        while True:
            job.report(0.1, "learning")
            time.sleep(0.01)

    queue.start("a", lambda job, inputs: "result")
    until(queue, "a", ended)
    queue.start("b", task)
    until(queue, "b", lambda s: s["news"])
    monkeypatch.setattr(module, "FORGOTTEN_S", 0.02)
    time.sleep(0.1)
    queue.start("c", lambda job, inputs: None)
    assert queue.status("a", 0, False) is None
    assert queue.status("b", 0, False) is None
    until(queue, "c", ended)


def test_what_is_packed_here_can_be_unpacked_on_another_system():
    path = Path("models", "nuclei", "0001.safetensors")
    content = pack({"file": path})
    assert unpack(content) == {"file": path}
    # On Windows no PosixPath can be made, and here no WindowsPath.
    assert type(path).__name__.encode() not in zlib.decompress(content)
