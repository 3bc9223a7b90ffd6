import hashlib
import threading
import time

import pytest

from napari_unet.jobs import FinishReason
from napari_unet.remote import worker as module
from napari_unet.remote.worker import Desk, unpack

SOON = 30.0


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "sent", "cpu")
    yield desk
    desk._runner.close()


def until(desk, number, holds):
    end = time.monotonic() + SOON
    while not holds(state := desk.status(number, 0, False)):
        assert time.monotonic() < end, state
        time.sleep(0.01)
    return state


def ended(state):
    return state["reason"] is not None


def test_a_job_runs_tells_and_brings_its_result(desk):
    def errand(job, supply):
        job.report(0.5, "half", 0.25)
        return {"device": supply.device}

    desk.start("a", errand)
    state = until(desk, "a", ended)
    assert state["reason"] is FinishReason.DONE
    assert [(p.fraction, p.message, p.loss) for p in state["news"]] == [(0.5, "half", 0.25)]
    assert desk.status("a", state["since"], False)["news"] == []
    assert unpack(desk.take("a")) == unpack(desk.take("a")) == {"device": "cpu"}
    desk.cancel("a")
    assert desk.status("a", 0, False) is None
    assert desk.take("a") is None


def test_a_job_that_was_posted_twice_runs_once(desk):
    runs = []
    for _ in range(2):
        desk.start("a", lambda job, supply: runs.append(1))
    until(desk, "a", ended)
    desk.start("a", lambda job, supply: runs.append(1))
    assert runs == [1]


def test_an_error_comes_as_its_sentence(desk):
    def errand(job, supply):
        raise ValueError("the image is flat; give another")

    desk.start("a", errand)
    assert until(desk, "a", ended)["error"] == "the image is flat; give another"


def test_what_is_wanted_is_given_once(desk):
    desk.start("a", lambda job, supply: [supply.fetch("x", ahead=["y"]), supply.fetch("y")])
    assert until(desk, "a", lambda s: s["wants"])["wants"] == ["x", "y"]
    desk.give("a", "x", b"1")
    assert until(desk, "a", lambda s: s["wants"] == ["y"])
    desk.give("a", "y", b"2")
    until(desk, "a", ended)
    assert unpack(desk.take("a")) == [[b"1"], [b"2"]]


def test_a_file_is_sent_once(desk):
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()

    def errand(job, supply):
        return [path.read_bytes() for path in supply.files([sha256])]

    desk.start("a", errand)
    assert until(desk, "a", lambda s: s["wants"])["wants"] == [sha256]
    desk.give("a", sha256, content)
    until(desk, "a", ended)
    desk.start("b", errand)
    until(desk, "b", ended)
    assert unpack(desk.take("a")) == unpack(desk.take("b")) == [content]


def test_a_file_that_is_not_what_was_promised_is_not_kept(desk, tmp_path):
    sha256 = hashlib.sha256(b"weights").hexdigest()
    desk.start("a", lambda job, supply: supply.files([sha256]))
    until(desk, "a", lambda s: s["wants"])
    desk.give("a", sha256, b"others")
    assert "changed while it was sent" in until(desk, "a", ended)["error"]
    assert list((tmp_path / "sent").iterdir()) == []


def test_a_client_that_falls_silent_does_not_block_the_others(desk, monkeypatch):
    monkeypatch.setattr(module, "SILENT_S", 0.05)
    desk.start("a", lambda job, supply: supply.fetch("x"))
    desk.start("b", lambda job, supply: "done")
    until(desk, "b", ended)
    assert "the server gave up" in desk.status("a", 0, False)["error"]


def test_jobs_that_wait_are_told_for_how_many(desk):
    hold = threading.Event()
    desk.start("a", lambda job, supply: hold.wait(SOON))
    desk.start("b", lambda job, supply: None)
    assert desk.status("b", 0, False)["waiting"] == 1
    assert desk.status("a", 0, False)["waiting"] == 0
    hold.set()
    assert until(desk, "b", ended)["waiting"] == 0


def test_a_cancel_ends_what_waits_and_what_runs(desk):
    seen = []

    def errand(job, supply):
        try:
            supply.fetch("never")
        finally:
            seen.append("ended")

    desk.start("a", errand)
    desk.start("b", lambda job, supply: seen.append("b"))
    until(desk, "a", lambda s: s["wants"])
    desk.cancel("b")
    desk.cancel("a")
    desk.start("c", lambda job, supply: seen.append("c"))
    until(desk, "c", ended)
    assert seen == ["ended", "c"]


def test_more_time_is_passed_on(desk):
    def errand(job, supply):
        while job.extended_s is None:
            job.report(0.1, "learning")
            time.sleep(0.01)
        return job.extended_s

    desk.start("a", errand)
    until(desk, "a", lambda s: s["news"])
    desk.status("a", 0, False, 120.0)
    until(desk, "a", ended)
    assert unpack(desk.take("a")) == 120


def test_to_finish_is_passed_on(desk):
    def errand(job, supply):
        while not job.is_finishing:
            job.report(0.1, "learning")
            time.sleep(0.01)
        return "kept"

    desk.start("a", errand)
    until(desk, "a", lambda s: s["news"])
    desk.status("a", 0, True)
    until(desk, "a", ended)
    assert unpack(desk.take("a")) == "kept"


def test_what_nobody_asks_for_is_forgotten(desk, monkeypatch):
    def errand(job, supply):
        while True:
            job.report(0.1, "learning")
            time.sleep(0.01)

    desk.start("a", lambda job, supply: "result")
    until(desk, "a", ended)
    desk.start("b", errand)
    until(desk, "b", lambda s: s["news"])
    monkeypatch.setattr(module, "FORGOTTEN_S", 0.02)
    time.sleep(0.1)
    desk.start("c", lambda job, supply: None)
    assert desk.status("a", 0, False) is None
    assert desk.status("b", 0, False) is None
    until(desk, "c", ended)
