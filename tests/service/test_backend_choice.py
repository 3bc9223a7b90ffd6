import threading

import pytest

from napari_unet.jobs import JobRunner
from napari_unet.service.backend_choice import Servers
from napari_unet.serving.client.unfinished import UnfinishedJob, UnfinishedJobs
from napari_unet.serving.credentials import Credentials, write_credentials

pytest.importorskip("httpx")

SOON = 10.0


@pytest.fixture
def runner():
    runner = JobRunner()
    yield runner
    runner.close()


@pytest.fixture
def servers(store, runner):
    return Servers(store, runner)


@pytest.fixture
def file(tmp_path):
    """Of a server that nobody has to reach."""
    path = tmp_path / "gpu.json"
    write_credentials(path, Credentials("https://127.0.0.1:9", "gpu", "anna", "x" * 43))
    return path


def test_work_is_done_here_until_a_server_is_chosen(servers, file):
    here = servers.chosen
    assert here is servers.local
    assert servers.use(file) == "gpu"
    there = servers.chosen
    assert there is not here
    servers.use(file)
    assert servers.chosen is there
    assert servers.use(None) == ""
    assert servers.chosen is here


def test_without_the_file_all_stays_as_it_was(servers, file, tmp_path):
    servers.use(file)
    there = servers.chosen
    with pytest.raises(ValueError, match="there is no file"):
        servers.use(tmp_path / "nothing.json")
    assert servers.chosen is there


def test_what_was_used_is_closed_after_the_jobs_before(servers, file, runner, monkeypatch):
    go, closed = threading.Event(), threading.Event()
    servers.use(file)
    monkeypatch.setattr(servers.chosen, "close", closed.set)
    runner.submit("before", lambda job: go.wait(SOON))
    servers.use(None)
    assert not closed.is_set()
    go.set()
    assert closed.wait(SOON)


def test_a_note_stays_until_it_is_dropped(servers, store, tmp_path):
    note = UnfinishedJob("ab", "cells", "cells@1", str(tmp_path / "nothing.json"), "gpu")
    UnfinishedJobs(store.root.parent / "on-servers").add(note)
    with pytest.raises(ValueError, match="there is no file"):
        servers.resume(note)
    assert servers.pending() == [note]
    servers.drop(note)
    assert servers.pending() == []
    assert servers.chosen is servers.local
