import dataclasses
import os
import shutil
import signal
import socket
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.corrections.collection import collection_of
from napari_unet.jobs import Job, JobCancelled, JobFailed, Progress, TooShort
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.learning.training import NewModel
from napari_unet.models.checkpoint import load_model
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.client import connection, following
from napari_unet.serving.client.following import RemoteJob
from napari_unet.serving.credentials import write_credentials
from napari_unet.serving.messages import SentProgress
from napari_unet.serving.server.certificate import _make
from servers import SOON, Server

pytest.importorskip("uvicorn")

# A server takes seconds to start.
pytestmark = pytest.mark.slow

TINY = NewModel(depth=1, width=4, dropout=0.1, distance=False)
SETTINGS = FinetuneConfig(
    steps=20, seconds=None, tile_px=60, learning_rate=1e-2, warmup_steps=5, device="cpu",
    precision="float32",
)  # fmt: skip
LONG = dataclasses.replace(SETTINGS, steps=100_000)
EXACT = PredictConfig(device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def one_thread():
    """As the server has, so that sums are added in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def remote(store, server):
    """A service that works on the server."""
    service = SegmentationService(store)
    service.servers.use(server.file)
    yield service
    service.close()


@pytest.fixture
def given(blobs):
    """An image with its labels, as corrected."""
    image, labels = blobs()
    return dataclasses.replace(annotate(image, "YX", labels), name="blobs")


@pytest.fixture
def weak(service, given):
    """A model that has learnt nearly nothing."""
    config = dataclasses.replace(SETTINGS, steps=2)
    return service.train([given], "weak", config, TINY, ["blobs, CC0"]).wait(SOON).model


@pytest.fixture
def elsewhere(store, tmp_path, server):
    """A service on the server whose store is a copy of this one."""
    made = []

    def make():
        root = tmp_path / "elsewhere" / "models"
        shutil.copytree(store.root, root)
        service = SegmentationService(ModelStore(root))
        service.servers.use(server.file)
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


def weights(version):
    network, _ = load_model(version.path)
    return torch.cat([p.flatten() for p in network.state_dict().values()])


def same(there, here):
    """Whether two segmentations are the same, but for where they were made."""
    np.testing.assert_array_equal(there.labels, here.labels)
    rest = {f.name for f in dataclasses.fields(here)} - {"labels", "compute", "scores"}
    return all(getattr(there, name) == getattr(here, name) for name in rest)


def once_learning(job, act):
    """Do something after the first steps."""
    begun = threading.Event()

    def listen(progress):
        if progress.loss is not None and not begun.is_set():
            begun.set()
            act()

    job.progressed.connect(listen)
    return begun


# Segmenting


def test_an_image_that_another_job_takes_along_is_sent_again(
    remote, add_model, blobs, server, monkeypatch
):
    """Two jobs have the same image, and one ends before the other says that it needs it."""
    add_model("bright")
    upload, taken = connection.Connection.upload, []

    def upload_and_lose(self, content, check):
        sha256 = upload(self, content, check)
        blob = server.folder / "blobs" / server.credentials.person / sha256
        if not taken and blob.read_bytes()[:1] == b"x":  # zlib's; the model goes first
            taken.append(blob.unlink())
        return sha256

    monkeypatch.setattr(connection.Connection, "upload", upload_and_lose)
    assert remote.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON).n_cells
    assert taken


def test_labels_are_those_of_this_computer(service, remote, add_model, blobs, server):
    add_model("bright")
    here = service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)
    job = remote.segment(blobs()[0], "YX", "bright", EXACT)
    said = []
    job.progressed.connect(said.append)
    there = job.wait(SOON)
    assert here.n_cells == blobs()[1].max()
    assert there.labels.dtype == np.int32
    assert same(there, here)
    assert there.scores is None, "they are large, and hold the whole model"
    assert there.compute == f"{server.credentials.computer}: {here.compute}"
    assert any(p.message == "segmenting" for p in said)


def test_channels_links_orders_and_boxes_are_those_of_this_computer(
    service, remote, add_model, blobs
):
    add_model("bright")
    planes = np.stack([blobs(seed)[0] for seed in (0, 0, 1)])
    stack = np.stack([np.zeros_like(planes), planes], axis=1)
    config = dataclasses.replace(EXACT, channel=1)
    outward = [(1,), (2,), (0,)]
    box = (slice(10, 60), slice(20, 70))
    linked = dataclasses.replace(config, link="z")
    for settings, options in (
        (config, {"planes": outward}),
        (linked, {}),
        (linked, {"planes": outward}),
        (config, {"planes": [(1,)], "box": box}),
    ):
        here, there = (
            place.segment(stack, "ZCYX", "bright", settings, **options).wait(SOON)
            for place in (service, remote)
        )
        assert here.n_cells
        assert same(there, here)


@pytest.mark.parametrize("stacks", [{}, {"z_depth": 1, "anisotropy": 1.0}])
@pytest.mark.parametrize(
    ("axes", "order"), [("TZYX", (0, 1, 2, 3)), ("ZYTX", (1, 2, 0, 3))], ids=["TZYX", "ZYTX"]
)
def test_stacks_in_3d_are_those_of_this_computer(
    service, remote, add_model, blobs, stacks, axes, order
):
    add_model("bright", **stacks)
    planes = np.stack([blobs(seed)[0] for seed in (0, 0, 0, 1, 1, 1, 0, 1, 0)])
    movie = planes.reshape(3, 3, *planes.shape[1:]).transpose(order)
    later = [(2, 1), (0, 0)] if axes[0] == "T" else [(1, 2), (0, 0)]
    in_3d = dataclasses.replace(EXACT, in_3d=not stacks)
    for settings, planes in (
        (in_3d, None),
        (dataclasses.replace(in_3d, link="t" if stacks else "zt"), None),
        (in_3d, later),
    ):
        here, there = (
            place.segment(movie, axes, "bright", settings, planes).wait(SOON)
            for place in (service, remote)
        )
        assert here.n_cells
        assert same(there, here)
    with pytest.raises(ValueError, match="no Z; give a stack"):
        remote.segment(movie[0], "TYX" if axes[0] == "T" else "YTX", "bright", in_3d).wait(SOON)


@pytest.mark.parametrize(("axes", "order"), [("TCYX", (0, 1, 2, 3)), ("YXCT", (2, 3, 1, 0))])
def test_only_the_planes_that_are_asked_for_are_sent(
    service, remote, add_model, blobs, axes, order
):
    add_model("bright", in_channels=2)
    stack = np.stack([np.stack([blobs(seed)[0]] * 2) for seed in range(4)]).transpose(order)
    asked = []

    class Recording:
        shape = stack.shape

        def __getitem__(self, key):
            asked.append(key[axes.index("T")])
            return stack[key]

    planes = [(1,), (3,)]
    native = dataclasses.replace(EXACT, diameter_px=None, channel=None)
    here = service.segment(stack, axes, "bright", native, planes).wait(SOON)
    there = remote.segment(Recording(), axes, "bright", native, planes).wait(SOON)
    np.testing.assert_array_equal(there.labels, here.labels)
    assert there.planes == here.planes == ((1,), (3,))
    assert there.places == here.places
    assert set(asked) == {1, 3}


def test_a_model_is_sent_once(remote, add_model, blobs, monkeypatch):
    add_model("bright", seed=7)
    sent = []
    upload = connection.Connection.upload

    def spy(self, content, check):
        sent.append(content[:200])
        return upload(self, content, check)

    monkeypatch.setattr(connection.Connection, "upload", spy)
    for _ in range(2):
        remote.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)
    assert [b"__metadata__" in content for content in sent] == [True, False, False]


def test_the_size_of_cells_is_guessed_there(service, remote, add_model, blobs):
    add_model("bright")
    here = service.guess_diameter(blobs()[0], "YX", "bright", (), EXACT).wait(SOON)
    assert remote.guess_diameter(blobs()[0], "YX", "bright", (), EXACT).wait(SOON) == here


def test_an_error_is_the_same_sentence(service, remote, add_model):
    add_model("bright")
    flat, tile = np.full((40, 40), np.nan), PredictConfig(tile_px=3)
    for image, config in ((flat, EXACT), (np.ones((40, 40)), tile)):
        errors = []
        for each in (service, remote):
            with pytest.raises(JobFailed) as failed:
                each.segment(image, "YX", "bright", config).wait(SOON)
            errors.append(str(failed.value))
        assert errors[0] == errors[1]


# Fine-tuning


def test_a_version_is_as_if_it_was_made_here(service, elsewhere, weak, given, server):
    there = elsewhere()
    here = service.finetune([given], "weak", SETTINGS).wait(SOON)
    done = there.finetune([given], "weak", SETTINGS).wait(SOON)
    assert done.model.path.is_relative_to(there.store.root)
    assert done.model.reference == here.model.reference == "weak@2"
    assert torch.equal(weights(done.model), weights(here.model))
    assert not torch.equal(weights(done.model), weights(weak))
    assert dataclasses.replace(done.model.header, created="") == dataclasses.replace(
        here.model.header, created=""
    )
    for name in ("verdict", "check", "replay", "steps", "slips"):
        assert getattr(done, name) == getattr(here, name)
    assert done.parent.reference == weak.reference
    assert there.store.find("weak") == (done.model if done.verdict.accepted else done.parent)
    assert done.compute.startswith(f"{server.credentials.computer}: CPU")
    assert there.servers.pending() == []
    (kept,) = collection_of(there.store, "weak").entries()
    assert done.model.header.corrections == {kept.key: kept.sha256}


def test_what_was_corrected_earlier_counts_there_too(service, elsewhere, weak, given, blobs):
    first = service.finetune([given], "weak", SETTINGS).wait(SOON).model
    there = elsewhere()
    labels = given.corrections[0].labels.copy()
    labels[labels == 1] = 0
    again = dataclasses.replace(annotate(given.image, "YX", labels), name="blobs")
    other = dataclasses.replace(annotate(blobs(3)[0], "YX", blobs(3)[1]), name="other")
    here = service.finetune([again, other], first, SETTINGS).wait(SOON)
    done = there.finetune([again, other], first, SETTINGS).wait(SOON)
    assert len(collection_of(there.store, "weak").entries(superseded=True)) == 3
    assert torch.equal(weights(done.model), weights(here.model))
    assert (done.verdict, done.check, done.replay) == (here.verdict, here.check, here.replay)


def test_a_model_is_trained_there(service, elsewhere, weak, given):
    there = elsewhere()
    here = service.train([given], "new", SETTINGS, TINY, ["blobs"]).wait(SOON)
    done = there.train([given], "new", SETTINGS, TINY, ["blobs"]).wait(SOON)
    assert torch.equal(weights(done.model), weights(here.model))
    assert dataclasses.replace(done.model.header, created="") == dataclasses.replace(
        here.model.header, created=""
    )
    again = there.train([given], "weak", SETTINGS, weak).wait(SOON)
    assert again.parent.reference == weak.reference


def test_progress_tells_each_step(remote, weak, given):
    job = remote.finetune([given], "weak", SETTINGS)
    said = []
    job.progressed.connect(said.append)
    job.wait(SOON)
    losses = [p for p in said if p.loss is not None]
    assert len(losses) == SETTINGS.steps
    fractions = [p.fraction for p in losses]
    assert fractions == sorted(fractions)


def test_more_time_is_had_there(remote, weak, given):
    config = dataclasses.replace(SETTINGS, steps=None, seconds=60.0)
    job = remote.finetune([given], "weak", config)
    said = []

    def listen(progress):
        said.append(progress.message)
        if " of 1:30, step " in progress.message:
            job.finish()

    job.progressed.connect(listen)
    once_learning(job, lambda: job.extend(90.0))
    job.wait(SOON)
    where = remote.servers.chosen.computer
    assert any(f", measuring the speed of {where}" in message for message in said)
    assert any(" of 1:30, step " in message for message in said)


def test_what_a_server_tells_is_not_about_this_computer():
    told = []

    def work(job):
        short = TooShort(30.0, 6, 240.0)
        RemoteJob(job, SimpleNamespace(computer="gpu"), "1")._report(
            SentProgress(1, 0.1, "measuring the speed of this computer", 0.5, 0.25, short), None
        )

    job = Job("told", work)
    job.progressed.connect(told.append)
    job.run()
    short = TooShort(30.0, 6, 240.0, "gpu")
    assert told == [Progress(0.1, "measuring the speed of gpu", 0.5, None, 0.25, short)]


def test_what_the_user_looks_at_is_shown(remote, weak, given, monkeypatch):
    view = View(np.stack([given.image] * 2), "ZYX", (1,), (slice(0, 40), slice(10, 60)))
    config = dataclasses.replace(SETTINGS, steps=None, seconds=12.0)
    job = remote.finetune([given], "weak", config, watch=lambda: view)
    shown = []

    def listen(progress):
        if progress.preview is not None:
            shown.append(progress.preview)
            job.finish()

    job.progressed.connect(listen)
    job.wait(SOON)
    assert isinstance(shown[0], ViewLabels)
    assert shown[0].view.image is view.image
    assert (shown[0].view.axes, shown[0].view.index) == ("ZYX", (1,))
    assert shown[0].labels.shape == (40, 50)


def test_a_cancel_ends_it_there_and_the_corrections_are_kept(remote, weak, given, server):
    job = remote.finetune([given], "weak", LONG)
    once_learning(job, job.cancel)
    with pytest.raises(JobCancelled):
        job.wait(SOON)
    assert remote.store.find("weak") == weak
    assert remote.servers.pending() == []
    assert len(collection_of(remote.store, "weak").entries()) == 1
    # The worker is free for the next one.
    assert remote.finetune([given], "weak", SETTINGS).wait(SOON).model.version == 2


def test_what_was_learnt_can_be_kept(remote, weak, given):
    job = remote.finetune([given], "weak", LONG)
    once_learning(job, job.finish)
    done = job.wait(SOON)
    assert 0 < done.steps < 50_000
    assert done.model.version == 2


# Where things break


def test_a_job_whose_worker_is_killed_begins_again(remote, weak, given, server, service):
    config = dataclasses.replace(SETTINGS, steps=60)
    job = remote.finetune([given], "weak", config)
    said = []
    job.progressed.connect(lambda progress: said.append(progress.message))
    once_learning(job, lambda: [os.kill(pid, signal.SIGKILL) for pid in server.workers()])
    done = job.wait(SOON)
    assert "the worker of the server ended; beginning again" in said
    assert done.model.version == 2
    assert remote.servers.pending() == []


def test_a_job_that_ends_its_workers_is_given_up(remote, weak, given, server, store):
    job = remote.finetune([given], "weak", LONG)
    kills = []

    def kill(progress):
        if progress.loss is None:
            kills.append("ready")
        elif kills and kills[-1] == "ready":
            kills.append("killed")
            [os.kill(pid, signal.SIGKILL) for pid in server.workers()]

    job.progressed.connect(kill)
    with pytest.raises(JobFailed, match="ended twice while it did this"):
        job.wait(SOON)
    assert remote.servers.pending() == []
    assert store.find("weak") == weak
    assert len(collection_of(store, "weak").entries()) == 1
    # Another worker has taken its place.
    assert remote.finetune([given], "weak", SETTINGS).wait(SOON).model.version == 2


def test_a_job_goes_on_after_a_restart_of_the_server(tmp_path, store, weak, given):
    server = Server(tmp_path)
    service = SegmentationService(store)
    try:
        service.servers.use(server.file)
        job = service.finetune([given], "weak", dataclasses.replace(SETTINGS, steps=100))
        assert once_learning(job, lambda: None).wait(SOON)
        port, _ = server.port, server.stop(signal.SIGKILL)
        server.restart(port)
        assert job.wait(SOON).steps == 100
        assert service.servers.pending() == []
    finally:
        service.close()
        server.stop()


def test_a_job_goes_on_while_napari_is_closed(store, server, weak, given):
    config = dataclasses.replace(SETTINGS, steps=300)
    first = SegmentationService(store)
    first.servers.use(server.file)
    job = first.finetune([given], "weak", config)
    assert once_learning(job, lambda: None).wait(SOON)
    first.close()
    assert store.find("weak") == weak
    second = SegmentationService(store)
    (note,) = second.servers.pending()
    assert (note.name, note.parent) == ("weak", "weak@1")
    assert note.computer == server.credentials.computer
    done = second.servers.resume(note).wait(SOON)
    assert (done.model.reference, done.steps) == ("weak@2", 300)
    assert done.parent.reference == "weak@1"
    assert second.servers.pending() == []
    second.close()


def test_a_job_that_was_left_can_be_dropped(store, server, weak, given):
    first = SegmentationService(store)
    first.servers.use(server.file)
    assert once_learning(first.finetune([given], "weak", LONG), lambda: None).wait(SOON)
    first.close()
    second = SegmentationService(store)
    second.servers.drop(second.servers.pending()[0])
    assert second.servers.pending() == []
    second.servers.use(server.file)
    # It ended there, or this would wait.
    assert second.finetune([given], "weak", SETTINGS).wait(SOON).model.version == 2
    second.close()


class Wire:
    """Passes on what goes to a port and comes back, until it is cut; the first call breaks."""

    def __init__(self, port):
        self._port, self._ends, self._is_first = port, [], True
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        ends, self._ends = self._ends, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self):
        self._listening.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._is_first:
                self._is_first = False
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._port))
            self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source, target):
        with source:
            try:
                while content := source.recv(65536):
                    target.sendall(content)
                target.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


def test_a_connection_that_breaks_is_made_again(tmp_path, store, server, weak, given):
    wire = Wire(server.port)
    there = dataclasses.replace(server.credentials, address=f"https://127.0.0.1:{wire.port}")
    write_credentials(tmp_path / "wire.json", there)
    service = SegmentationService(store)
    service.servers.use(tmp_path / "wire.json")
    job = service.finetune([given], "weak", dataclasses.replace(SETTINGS, steps=200))
    once_learning(job, wire.cut)
    done = job.wait(SOON)
    assert (done.model.version, done.steps) == (2, 200)
    service.close()
    wire.close()


def test_a_server_that_is_not_there(store, server, add_model, blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE_S", 1.0)
    monkeypatch.setattr(following, "PERSIST_S", 0.5)
    add_model("bright")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = dataclasses.replace(server.credentials, address=f"https://127.0.0.1:{port}")
    write_credentials(tmp_path / "away.json", away)
    service = SegmentationService(store)
    service.servers.use(tmp_path / "away.json")
    with pytest.raises(JobFailed, match=r"cannot be reached; see that napari-unet serve runs"):
        service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)
    service.servers.use(None)
    assert service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON).n_cells
    service.close()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [("token", "refused these credentials"), ("certificate", "is not the one of these")],
)
def test_other_credentials_are_refused(server, service, add_model, blobs, tmp_path, what, sentence):
    add_model("bright")
    other = {"token": "x" * 43, "certificate": _make()[0].decode()}[what]
    wrong = dataclasses.replace(server.credentials, **{what: other})
    write_credentials(tmp_path / "c.json", wrong)
    service.servers.use(tmp_path / "c.json")
    with pytest.raises(JobFailed, match=sentence):
        service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)


def test_a_file_of_the_earlier_server_is_told_apart(service, tmp_path):
    path = tmp_path / "server.json"
    path.write_text('{"format": "napari-unet server 1", "address": "tls://gpu:8786"}')
    path.chmod(0o600)
    with pytest.raises(ValueError, match=r"server of an earlier release.*add-user"):
        service.servers.use(path)


def test_another_release_is_told_apart(remote, add_model, blobs, monkeypatch):
    add_model("bright")
    monkeypatch.setattr(connection, "RELEASE", "99")
    with pytest.raises(JobFailed, match="and this computer 99; install the same release"):
        remote.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON)
