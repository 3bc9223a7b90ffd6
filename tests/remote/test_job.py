import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet.jobs import Job
from napari_unet.learning.live_view import View
from napari_unet.remote.job import RemoteJob
from napari_unet.remote.worker import JobQueue

SIDE = 2048


@pytest.fixture
def queue(tmp_path):
    queue = JobQueue(tmp_path / "sent", "cpu")
    yield queue
    queue._runner.close()


class Line:
    """A connection to a queue in this process; counts the pixels of the views that are sent."""

    computer = "gpu"

    def __init__(self, queue):
        self.queue, self.sent = queue, []

    def call(self, check, method, number, *args):
        if method == "set_view":
            self.sent.append(args[0].image.nbytes)
        return getattr(self.queue, method)(number, *args)


@pytest.fixture
def pan(queue):
    """Shows views one after the other: the bytes that were sent, and what the server saw."""

    def pan(views):
        seen, turn = [], iter(views)
        now = SimpleNamespace(view=next(turn))

        def task(job, inputs):
            end = time.monotonic() + 60
            while now.view is not None:
                assert time.monotonic() < end
                known = inputs.view()
                if known is not None and (not seen or known is not seen[-1]):
                    seen.append(known)
                    now.view = next(turn, None)
                threading.Event().wait(0.005)

        line = Line(queue)

        def work(job):
            remote = RemoteJob(job, line, "1")
            queue.start("1", task)
            remote.follow({}, lambda: now.view)

        Job("look", work).run()
        return line.sent, seen

    return pan


def boxes(n):
    return [(slice(20 * i, 20 * i + 300), slice(0, 300)) for i in range(n)]


@pytest.mark.parametrize("axes", ["YX", "CYX", "YXC"])
def test_ten_pans_send_the_plane_once(pan, axes):
    plane = np.random.default_rng(0).integers(0, 4000, (SIDE, SIDE)).astype(np.uint16)
    image = {"YX": plane, "CYX": plane[None], "YXC": plane[..., None]}[axes]
    channel = None if axes == "YX" else 0
    # Each time a new object, as the viewer makes them.
    sent, seen = pan(View(image, axes, (), box, channel) for box in boxes(10))
    assert sent == [plane.nbytes] + [0] * 9
    assert [view.box for view in seen] == boxes(10)
    for view in seen:
        assert view.axes == "CYX"
        assert view.channel is None
        np.testing.assert_array_equal(view.image[0], plane)


def test_another_plane_another_channel_and_another_image_are_sent(pan):
    image = np.arange(2 * 3 * 40 * 50, dtype=np.uint16).reshape(2, 3, 40, 50)
    (box,) = boxes(1)
    others = [(image, (0,), 1), (image, (1,), 1), (image, (1,), 2), (image.copy(), (1,), 2)]
    sent, seen = pan(View(data, "ZCYX", index, box, channel) for data, index, channel in others)
    assert sent == [2 * 40 * 50] * 4
    for view, (data, (z,), channel) in zip(seen, others, strict=True):
        np.testing.assert_array_equal(view.image[0], data[z, channel])
