"""What a server that means harm can do to its client: fail a job, and nothing else."""

import dataclasses
import hashlib
import json
import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import annotate
from napari_unet.jobs import JobFailed
from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.arrays import pack_array
from napari_unet.serving.client import connection, following
from napari_unet.serving.credentials import Credentials, write_credentials
from napari_unet.serving.jsons import to_json
from napari_unet.serving.messages import RELEASE, Hello, JobStatus

SOON = 60.0
STATUS = to_json(JobStatus("segment", "done", 0, None, (), 0, (), "", 1))
SEGMENTED = {
    "compute": "CPU", "diameter_px": 9.0, "kinds": ["cell"], "places": [],
    "warnings": [], "look": {"channel": None, "diameter_px": None, "words": ""},
}  # fmt: skip
TRAINED = {
    "verdict": {"accepted": True, "why": "good"}, "check": None, "replay": None, "steps": 3,
    "compute": "CPU", "slips": [],
}  # fmt: skip


class Harm:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return open, ("harm", "w")


class Hostile(BaseHTTPRequestHandler):
    """Answers as `server.answers` says: by a part of the path, the content, or a function."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = next((k for k in self.server.answers if re.search(k, self.path)), None)
        answer = self.server.answers.get(kind, {})
        if callable(answer):
            answer(self)
            return
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815


@pytest.fixture
def hostile(tmp_path, service, monkeypatch):
    """A service whose server gives these answers: `hostile({PATTERN: ANSWER})`."""
    monkeypatch.chdir(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    path = tmp_path / "evil.json"
    write_credentials(path, Credentials(address, "evil", "anna", "x" * 43))

    def answer(answers) -> SegmentationService:
        usual = {"hello": to_json(Hello(RELEASE, "evil", "anna", ())), "result": SEGMENTED}
        rest = {key: value for key, value in usual.items() if key not in answers}
        server.answers = answers | rest | {r"jobs/\w+": STATUS}
        service.servers.use(path)
        return service

    yield answer
    assert not (tmp_path / "harm").exists()
    server.shutdown()
    server.server_close()


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        for _ in range(100_000):
            handler.wfile.write(bytes(1 << 20))
    except OSError:
        pass


def elsewhere(handler):
    handler.send_response(302)
    handler.send_header("location", "http://127.0.0.1:9/")
    handler.send_header("content-length", "0")
    handler.end_headers()


LABELS = np.zeros((1, 72, 80), np.int32)
LABELS[0, :9, :9] = 1


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"hello": b"[" * 100_000}, "answered nonsense"),
        ({"hello": pickle.dumps(Harm())}, "answered nonsense"),
        ({"hello": elsewhere}, "status 302"),
        ({"hello": endless}, "answered with more than"),
        ({r"jobs/\w+\?": STATUS | {"more": 1}}, "answered nonsense"),
        (
            {r"jobs/\w+\?": STATUS | {"state": "failed", "error": "a\x1b[2J<img src=x>"}},
            r"a \[2J\(",
        ),
        ({r"jobs/\w+\?": STATUS | {"wants": ["../../etc/passwd"]}}, "not everything had been sent"),
        ({"outputs": pack_array(LABELS[:, 1:])}, "labels that are not of this image"),
        ({"outputs": pack_array(LABELS * 7)}, "labels that are not of this image"),
        ({"outputs": pack_array(LABELS - 5)}, "labels that are not of this image"),
        ({"outputs": pack_array(LABELS.astype(np.float32))}, "labels that are not of this image"),
        ({"outputs": pack_array(np.zeros((9, 999, 999), np.int32))}, "larger than"),
        ({"outputs": pickle.dumps(Harm())}, "an array is broken|no packed array"),
        ({"outputs": endless}, "answered with more than"),
    ],
)
def test_a_job_fails_with_a_sentence(hostile, add_model, blobs, monkeypatch, answers, sentence):
    monkeypatch.setattr(connection, "_ANSWER_BYTES", 4 << 20)
    monkeypatch.setattr(following, "PERSIST_S", 0.5)
    add_model("bright")
    job = hostile(answers).segment(blobs()[0], "YX", "bright", PredictConfig(device="cpu"))
    with pytest.raises(JobFailed, match=sentence) as failed:
        job.wait(SOON)
    assert str(failed.value).isprintable()


@pytest.mark.parametrize("kind", ["pickle", "cut", "other name", "nothing"])
def test_a_model_that_is_none_is_not_kept(hostile, add_model, write_model, blobs, tmp_path, kind):
    before = add_model("bright")
    write_model(tmp_path / "m.safetensors", name="bright" if kind == "cut" else "other")
    model = (tmp_path / "m.safetensors").read_bytes()
    content = {
        "pickle": pickle.dumps(Harm()), "cut": model[:-10], "other name": model, "nothing": b"",
    }[kind]  # fmt: skip
    service = hostile({"outputs": content, "result": TRAINED})
    given = dataclasses.replace(annotate(blobs()[0], "YX", blobs()[1]), name="blobs")
    config = FinetuneConfig(steps=3, seconds=None, tile_px=60, device="cpu")
    with pytest.raises(JobFailed, match="model"):
        service.finetune([given], "bright", config).wait(SOON)
    assert service.store.versions("bright") == [before]
    assert service.servers.pending() == []
    assert hashlib.sha256(before.path.read_bytes()).hexdigest() == before.sha256()
