import gc
import logging
import threading
import time
import weakref

import pytest

from napari_unet.jobs import (
    FinishReason,
    Job,
    JobCancelled,
    JobFailed,
    JobRunner,
    JobState,
    Progress,
    sentence,
)

SOON = 10.0


class Stop(BaseException):
    """Like KeyboardInterrupt and SystemExit: no Exception."""


@pytest.fixture
def runner():
    runner = JobRunner()
    yield runner
    runner.close()


class Held:
    """Work that runs until it is let go, or cancelled."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, job):
        self.begun.set()
        while not self.go.wait(0.005):
            job.report(0.5, "waiting")
        return "result"


def test_a_job_gives_its_result(runner):
    job = runner.submit("add", lambda job: 1 + 1)
    assert job.wait(SOON) == 2
    assert job.wait(SOON) == 2
    assert (job.state, job.reason, job.result) == (JobState.ENDED, FinishReason.DONE, 2)
    assert job.error == ""
    assert job.name == "add"
    assert job.seconds >= 0


def test_states_go_forward_only(runner):
    first, seen = Held(), []
    blocker = runner.submit("first", first)
    job = runner.submit("second", lambda job: seen.append(job.state))
    job.ended.connect(lambda job: seen.append(job.state))
    assert first.begun.wait(SOON)
    assert (blocker.state, job.state, job.reason) == (JobState.RUNNING, JobState.QUEUED, None)
    first.go.set()
    job.wait(SOON)
    job.cancel()
    job.run()
    assert (job.state, job.reason) == (JobState.ENDED, FinishReason.DONE)
    runner.submit("third", lambda job: None).wait(SOON)
    assert seen == [JobState.RUNNING, JobState.ENDED]


def test_jobs_run_one_at_a_time_in_order(runner):
    log = []

    def work(number):
        def run(job):
            log.append(("begin", number))
            time.sleep(0.001)
            log.append(("end", number))

        return run

    jobs = [runner.submit(str(n), work(n)) for n in range(20)]
    for job in jobs:
        job.wait(SOON)
    assert log == [(what, n) for n in range(20) for what in ("begin", "end")]


def test_submitting_from_many_threads_at_once_still_runs_one_at_a_time(runner):
    running, most, jobs = [], [], []

    def work(job):
        running.append(1)
        most.append(len(running))
        time.sleep(0.002)
        running.pop()

    barrier = threading.Barrier(8)

    def submit():
        barrier.wait()
        jobs.append(runner.submit("job", work))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        job.wait(SOON)
    assert most == [1] * 8


def test_progress_reaches_listeners(runner):
    held, seen = Held(), []
    runner.submit("before", held)

    def work(job):
        job.report(0.0, "begin")
        job.report(1.0, "end", 0.25)

    job = runner.submit("work", work)
    job.progressed.connect(seen.append)
    held.go.set()
    job.wait(SOON)
    assert seen == [Progress(0.0, "begin"), Progress(1.0, "end", 0.25)]


def test_parts_report_to_their_job(runner):
    held, seen = Held(), []
    runner.submit("before", held)

    def work(job):
        job.part(1, 4, "plane").report(0.5, "segmenting")
        job.part(0, 1, "plane").report(0.5, "segmenting", preview="dropped")
        job.part(1, 2, "stack").part(1, 2, "plane").report(0.0, "reading")

    job = runner.submit("work", work)
    job.progressed.connect(seen.append)
    held.go.set()
    job.wait(SOON)
    assert seen == [
        Progress(0.375, "segmenting, plane 2 of 4"),
        Progress(0.5, "segmenting"),
        Progress(0.75, "reading, plane 2 of 2, stack 2 of 2"),
    ]


def test_cancel_ends_a_running_job_at_its_next_report(runner):
    held = Held()
    job = runner.submit("held", held)
    assert held.begun.wait(SOON)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert (job.state, job.reason, job.result) == (JobState.ENDED, FinishReason.CANCELLED, None)


def test_cancel_ends_a_queued_job_at_once_and_it_never_runs(runner):
    held, ran, ends = Held(), [], []
    first = runner.submit("first", held)
    job = runner.submit("second", ran.append)
    job.ended.connect(ends.append)
    assert held.begun.wait(SOON)
    job.cancel()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait(0.001)  # while the first still runs
    assert first.state is JobState.RUNNING
    held.go.set()
    assert first.wait(SOON) == "result"
    assert runner.submit("third", lambda job: 3).wait(SOON) == 3
    assert ran == []
    assert ends == [job]


def test_a_cancel_that_nobody_noticed_changes_nothing(runner):
    held = threading.Event()
    job = runner.submit("deaf", lambda job: held.wait(SOON))
    while job.state is JobState.QUEUED:
        time.sleep(0.001)
    job.cancel()
    held.set()
    assert job.wait(SOON) is True
    assert job.reason is FinishReason.DONE


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the image is odd; give an even one"),
        RuntimeError("shapes differ"),  # napari's own worker swallows these
        FloatingPointError("training diverged"),
        MemoryError(),
        KeyError("k"),
        StopIteration(),
        GeneratorExit(),
        OSError(28, "No space left on device", "model"),
        AssertionError(),
        KeyboardInterrupt(),
        SystemExit(3),
        Stop("stop"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_ends_the_job_with_a_sentence_and_the_cause(runner, error):
    def work(job):
        raise error

    job = runner.submit("fails", work)
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            job.wait(SOON)
        assert caught.value.__cause__ is error
        assert str(caught.value) == job.error == sentence(error)
    assert len(job.error) > 3
    assert "\n" not in job.error
    assert (job.state, job.reason, job.result) == (JobState.ENDED, FinishReason.FAILED, None)
    assert runner.submit("next", lambda job: "runs").wait(SOON) == "runs"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("the axes are 'YY';\n give others"), "the axes are 'YY'; give others"),
        (FloatingPointError("training diverged"), "training diverged"),
        (JobFailed("this image failed"), "this image failed"),
        (RuntimeError("a\n  b"), "RuntimeError: a b"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (MemoryError("Unable to allocate 9 EiB"), "there is not enough memory; close other"),
        (OSError(28, "No space left on device"), "the file system says: No space left on device;"),
        (PermissionError(13, "Permission denied", "a/b"), "Permission denied (a/b); see that"),
        (OSError("odd"), "OSError: odd"),
    ],
)
def test_errors_as_sentences(error, expected):
    assert expected in sentence(error)
    assert "\n" not in sentence(error)


@pytest.mark.parametrize("error", [RuntimeError("listener"), Stop("listener")])
def test_listeners_that_raise_change_nothing(runner, caplog, error):
    def listener(content):
        raise error

    held = Held()
    runner.submit("before", held)

    def work(job):
        job.report(0.5, "half way")
        return "result"

    job, seen = runner.submit("work", work), []
    job.progressed.connect(listener)
    job.ended.connect(listener)
    with caplog.at_level(logging.ERROR, "napari_unet"):
        held.go.set()
        assert job.wait(SOON) == "result"
        runner.submit("next", seen.append).wait(SOON)
    assert job.reason is FinishReason.DONE
    assert len(seen) == 1
    assert [record.message for record in caplog.records] == ["a listener to work failed"] * 2


def test_a_listener_may_wait_for_what_has_ended(runner):
    held, got = Held(), []
    job = runner.submit("work", held)
    job.ended.connect(lambda job: got.append(job.wait(SOON)))
    held.go.set()
    job.wait(SOON)
    runner.submit("next", lambda job: None).wait(SOON)
    assert got == ["result"]


def test_waiting_has_a_limit_and_can_go_on(runner):
    held = Held()
    job = runner.submit("slow", held)
    with pytest.raises(TimeoutError, match=r"slow has not ended after 0\.01 s"):
        job.wait(0.01)
    held.go.set()
    assert job.wait(SOON) == "result"


def test_an_interrupt_while_waiting_cancels_the_job(runner):
    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            if not job._cancel.is_set():
                raise KeyboardInterrupt
            return super().wait(timeout)

    held = Held()
    job = runner.submit("held", held)
    job._end = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    with pytest.raises(JobCancelled):
        job.wait(SOON)


def test_closing_cancels_what_runs_and_what_waits():
    runner, held = JobRunner(), Held()
    jobs = [runner.submit("runs", held), runner.submit("waits", held)]
    assert held.begun.wait(SOON)
    start = time.perf_counter()
    runner.close(timeout_s=SOON)
    assert time.perf_counter() - start < SOON
    for job in jobs:
        assert job.reason is FinishReason.CANCELLED
    runner.close()


def test_closing_does_not_wait_for_the_deaf():
    runner, go = JobRunner(), threading.Event()
    job = runner.submit("deaf", lambda job: go.wait(SOON))
    queued = runner.submit("queued", lambda job: None)
    while job.state is JobState.QUEUED:
        time.sleep(0.001)
    start = time.perf_counter()
    runner.close(timeout_s=0.05)
    assert time.perf_counter() - start < 2
    assert queued.reason is FinishReason.CANCELLED
    # A closed runner can be used again, even while the old thread is not done.
    assert runner.submit("new", lambda job: "runs").wait(SOON) == "runs"
    go.set()
    assert job.wait(SOON) is True
    runner.close()


def test_closing_an_unused_runner():
    JobRunner().close()


def test_the_thread_ends_with_the_runner():
    runner = JobRunner()
    name = runner.submit("name", lambda job: threading.current_thread()).wait(SOON)
    assert name.daemon
    assert name.name == "napari-unet"
    runner.close()
    name.join(SOON)
    assert not name.is_alive()


def test_a_runner_does_not_keep_what_its_jobs_worked_on(runner):
    class Image:
        pass

    image = Image()
    gone = weakref.ref(image)
    runner.submit("work", lambda job, image=image: None).wait(SOON)
    runner.submit("next", lambda job: None).wait(SOON)
    del image
    gc.collect()
    assert gone() is None


def test_a_job_can_run_without_a_runner():
    job = Job("here", lambda job: threading.get_ident())
    job.run()
    assert job.wait(0) == threading.get_ident()
