"""What somebody who means harm, with and without a token, can do to a server: nothing lasting."""

import dataclasses
import hashlib
import json
import os
import random
import socket
import ssl
import sys
import time
import zlib
from contextlib import ExitStack, suppress
from uuid import uuid4

import httpx
import numpy as np
import pytest

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.serving.arrays import pack_array
from napari_unet.serving.jsons import to_json
from napari_unet.serving.messages import (
    FinetuneMessage,
    SegmentMessage,
    SentEntry,
    SentModel,
    SentPlane,
)
from servers import Server

resource = pytest.importorskip("resource")
# What a process has open, and its memory, are asked for as on Linux.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]
# A test floods with so many.
MANY = 300
MODEL = SentModel("m", 1, "a" * 64)
SEGMENT = SegmentMessage("TCYX", (1, 1, 40, 50), MODEL, PredictConfig(), ((0,),), None)
FINETUNE = FinetuneMessage(
    (SentPlane("cells", {1: "dividing"}, None, (0, 0), False),),
    MODEL,
    FinetuneConfig(),
    "m",
    (SentEntry("cells-0001", ("b" * 64,) * 4),),
    None,
    1.0,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("server"), silent_s=2.0, body_s=2.0, part_bytes=1 << 20,
        json_bytes=1 << 20, blob_bytes=8 << 20, person_bytes=30 << 20, calls_per_s=1000,
        calls_at_once=5000,
    )  # fmt: skip
    yield server
    assert server.process.poll() is None
    server.stop()


@pytest.fixture(autouse=True)
def holders_keep_working(server):
    """Who has a token is answered afterwards; memory and files are as they were."""
    memory, files = server.memory_mb(), outside(server)
    yield
    with server.connect_as_holder() as holder:
        assert holder.get("/v1/hello").status_code == 200
    assert server.memory_mb() < memory + 300
    assert outside(server) == files


def outside(server):
    """What lies in the server's folder, but for what jobs and blobs may write."""
    parts = ("jobs", "blobs", "log.txt")
    return {p.name for p in server.folder.iterdir()} - set(parts), sorted(
        p.name for p in server.folder.parent.iterdir()
    )


@pytest.fixture
def holder(server):
    with server.connect_as_holder() as holder:
        yield holder


def job(client, content, number=None):
    return client.put(f"/v1/jobs/{number or uuid4().hex}", content=content)


def as_json(kind, message):
    return json.dumps({"kind": kind, "request": to_json(message)}).encode()


def put(client, content, sha256=None, first=0, total=None):
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    total = total or len(content)
    said = {"content-range": f"bytes {first}-{first + len(content) - 1}/{total}"}
    return client.put(f"/v1/blobs/{sha256}", content=content, headers=said)


def knock(server):
    """A connection over TLS, by somebody who trusts anybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", server.port), 20)
    return context.wrap_socket(raw)


def said(connection):
    """What comes back until the end."""
    found = b""
    with suppress(OSError):
        while part := connection.recv(65536):
            found += part
    return found


# Without a token


def test_who_has_no_token_learns_nothing(server):
    with httpx.Client(base_url=server.credentials.address, verify=False) as stranger:
        assert stranger.get("/health").json() == {"status": "ok"}
        for token in ("", "Bearer", "Bearer x", "Basic eDp5", f"bearer {'x' * 43}"):
            for method, path in (("GET", "/v1/hello"), ("PUT", "/v1/jobs/x"), ("DELETE", "/")):
                answer = stranger.request(method, path, headers={"authorization": token})
                assert answer.status_code in (401, 429)
                assert set(answer.json()) == {"error"}
        page = stranger.get("/")
    assert server.credentials.computer not in page.text
    assert "napari-unet serve" in page.text
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_silent_connections_do_not_keep_others_out(server, holder):
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
        assert holder.get("/v1/hello").status_code == 200
        with server.connect_as_holder() as another:
            assert another.get("/v1/hello").status_code == 200
        assert server.open_files() < 250


def test_a_silent_connection_is_closed(server):
    with socket.create_connection(("127.0.0.1", server.port), 20) as silent, knock(server) as spoke:
        spoke.sendall(b"GET /health HT")
        assert said(silent) == b""
        assert said(spoke) == b""


def test_endless_headers_are_cut_off(server):
    with knock(server) as connection, suppress(OSError):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for number in range(100_000):
            connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1000))
        raise AssertionError("it took 100 MB of headers")


def test_a_body_of_a_stranger_is_not_read(server):
    with knock(server) as connection:
        head = b"PUT /v1/jobs/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head)
        with suppress(OSError):
            for _ in range(3000):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
            raise AssertionError("it took 200 MB")


def test_garbage_ends_the_connection(server):
    rng = random.Random(0)
    for number in range(40):
        with socket.create_connection(("127.0.0.1", server.port), 20) as raw, suppress(OSError):
            raw.sendall(rng.randbytes(rng.randrange(1, 2000)))
        if number % 4 == 0:
            with knock(server) as connection, suppress(OSError):
                connection.sendall(rng.randbytes(rng.randrange(1, 2000)))


# With a token


def test_a_body_that_is_too_long_is_refused_unread(server, holder):
    assert job(holder, b"x" * (2 << 20)).status_code == 413
    answer = put(holder, b"x" * (2 << 20))
    assert answer.status_code == 413
    assert "a body may have" in answer.json()["error"]

    def endless():
        for _ in range(3000):
            yield bytes(65536)

    with suppress(httpx.TransportError):
        assert holder.put(f"/v1/jobs/{uuid4().hex}", content=endless()).status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(server):
    token = server.credentials.token.encode()
    with knock(server) as connection:
        connection.sendall(
            b"PUT /v1/jobs/%s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-length: 100\r\n\r\nabc" % (uuid4().hex.encode(), token)
        )
        assert b" 408 " in said(connection)


def test_a_request_that_is_changed_anywhere_is_refused_or_does_no_harm(holder):
    rng, known = random.Random(1), [as_json("segment", SEGMENT), as_json("finetune", FINETUNE)]
    parts = [b"null", b"-1", b"1e999", b"NaN", b'"../../x"', b"[]", b"{}", b"9" * 400, b"true"]
    statuses = []
    for _ in range(200):
        content = bytearray(rng.choice(known))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(content))
            content[at : at + rng.randrange(0, 12)] = rng.choice([*parts, rng.randbytes(3)])
        answer = job(holder, bytes(content))
        statuses.append(answer.status_code)
        if answer.status_code == 201:
            holder.delete(str(answer.request.url.path))
    assert set(statuses) <= {201, 400, 403, 429}
    assert statuses.count(400) > 150


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[" * 500_000, b"{" * 500_000, b'{"a":' * 100_000, b'{"kind": [], "request": {}}',
        b'{"kind": "segment", "request": {"shape": [' + b"1," * 100_000 + b"1]}}",
        b"\xff\xfe", b"1" * 500_000,
        as_json("segment", SEGMENT).replace(b"[0]", b"[5]"),
        as_json("segment", SEGMENT).replace(b'"m"', b'"../m"'),
        as_json("segment", SEGMENT).replace(b"a" * 64, b"../" + b"a" * 61),
        as_json("finetune", FINETUNE).replace(b"cells-0001", b"../cells-0001"),
        as_json("finetune", FINETUNE).replace(b'"workers": 0', b'"workers": 100000'),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_a_sentence(holder, content):
    answer = job(holder, content)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a" * 63, "A" * 64, "a" * 64 + ".part", "%00", "/"],
)
def test_names_that_are_paths_are_refused(server, holder, name):
    for path in (
        f"/v1/jobs/{name}", f"/v1/blobs/{name}", f"/v1/jobs/{uuid4().hex}/outputs/{name}",
        f"/v1/jobs/{name}/result",
    ):  # fmt: skip
        for method in ("GET", "PUT"):
            headers = {"content-range": "bytes 0-0/1"} if method == "PUT" else {}
            content = b"x" if method == "PUT" else b""
            answer = holder.request(method, path, headers=headers, content=content)
            assert answer.status_code in (400, 404, 405), (path, answer.text)
    assert holder.get("/v1/jobs").json() == []


def test_others_jobs_and_blobs_are_not_there(server, holder):
    number = uuid4().hex
    assert job(holder, as_json("segment", SEGMENT), number).status_code == 201
    sha256 = hashlib.sha256(b"secret").hexdigest()
    assert put(holder, b"secret").json() == {"whole": True}
    with server.connect_as_holder(server.add("ben")) as other:
        for path in ("", "/result", "/outputs/labels"):
            assert other.get(f"/v1/jobs/{number}{path}").status_code == 404
        assert other.put(f"/v1/jobs/{number}/wishes", content=b"{}").status_code == 404
        assert job(other, as_json("segment", SEGMENT), number).status_code == 404
        assert other.delete(f"/v1/jobs/{number}").status_code == 204
        assert other.get(f"/v1/blobs/{sha256}").status_code == 404
        assert other.get("/v1/jobs").json() == []
    assert holder.get(f"/v1/jobs/{number}").status_code == 200
    holder.delete(f"/v1/jobs/{number}")


def test_who_may_segment_may_not_teach(server):
    with server.connect_as_holder(server.add("guest", "--rights", "segment")) as guest:
        answer = job(guest, as_json("finetune", FINETUNE))
        assert answer.status_code == 403
        assert answer.json()["error"] == "guest has no right to teach here"
        number = uuid4().hex
        assert job(guest, as_json("segment", SEGMENT), number).status_code == 201
        guest.delete(f"/v1/jobs/{number}")


def test_who_is_removed_is_out_at_once(server):
    file = server.add("carl")
    with server.connect_as_holder(file) as carl:
        number = uuid4().hex
        assert job(carl, as_json("segment", SEGMENT), number).status_code == 201
        server.command("remove-user", "carl")
        assert carl.get(f"/v1/jobs/{number}").status_code == 401
    end = time.monotonic() + 20
    while (server.folder / "jobs" / number).exists():
        assert time.monotonic() < end, "the job goes on"
        time.sleep(0.1)


def test_a_token_that_has_ended(server):
    file = server.add("dora")
    people = server.folder / "people.json"
    content = json.loads(people.read_text())
    for person in content["people"]:
        if person["name"] == "dora":
            person["expires"] = "2020-01-01T00:00:00+00:00"
    people.write_text(json.dumps(content))
    with server.connect_as_holder(file) as dora:
        assert dora.get("/v1/hello").status_code == 401


def test_more_jobs_than_a_person_may_have(holder):
    numbers = [uuid4().hex for _ in range(60)]
    statuses = [job(holder, as_json("segment", SEGMENT), n).status_code for n in numbers]
    assert statuses.count(201) == 50
    assert set(statuses) == {201, 429}
    for number in numbers:
        holder.delete(f"/v1/jobs/{number}")


# Blobs


def test_a_blob_that_was_cut_off_is_gone_on_with(server, holder):
    content = random.Random(2).randbytes(500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    token = server.credentials.token.encode()
    with knock(server) as connection:
        connection.sendall(
            b"PUT /v1/blobs/%s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-range: bytes 0-499999/500000\r\ncontent-length: 500000\r\n\r\n"
            % (sha256.encode(), token)
            + content[:200_000]
        )
        end = time.monotonic() + 20
        while holder.head(f"/v1/blobs/{sha256}").headers["upload-offset"] != "200000":
            assert time.monotonic() < end
            time.sleep(0.02)
    wrong = put(holder, content[100_000:], sha256, 100_000, 500_000)
    assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, "200000")
    assert put(holder, content[200_000:], sha256, 200_000, 500_000).json() == {"whole": True}
    assert holder.get(f"/v1/blobs/{sha256}").content == content


def test_a_blob_with_another_hash_is_not_kept(server, holder):
    sha256 = hashlib.sha256(b"what was said").hexdigest()
    assert put(holder, b"what was sent", sha256).status_code == 422
    assert holder.get(f"/v1/blobs/{sha256}").status_code == 404
    assert not list(server.folder.glob(f"blobs/*/{sha256}*"))


def test_blobs_beyond_the_limits(server, holder):
    for size in (9 << 20, 1 << 40, 1 << 49):
        assert put(holder, b"x", "c" * 64, 0, size).status_code == 413
    for said_range in ("bytes 5-2/9", "bytes 0-0/0", "bytes */9", "x", "bytes -1-0/1"):
        headers = {"content-range": said_range}
        answer = holder.put(f"/v1/blobs/{'c' * 64}", content=b"x", headers=headers)
        assert answer.status_code == 400
    with server.connect_as_holder(server.add("eva")) as eva:
        statuses = []
        for number in range(40):
            content = bytes([number]) * (1 << 20)
            statuses.append(put(eva, content).status_code)
        assert statuses == [200] * 30 + [507] * 10


def test_a_disk_that_is_full(server, holder):
    content = random.Random(3).randbytes(900_000)
    pid, kind = server.process.pid, resource.RLIMIT_FSIZE
    before = resource.prlimit(pid, kind, (500_000, resource.RLIM_INFINITY))
    try:
        answer = put(holder, content)
        assert (answer.status_code, "disk of the server is full" in answer.text) == (507, True)
        assert holder.get("/v1/hello").status_code == 200
    finally:
        resource.prlimit(pid, kind, before)
    assert put(holder, content).json() == {"whole": True}


def npy(header, data=b""):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


BOMBS = {
    "object": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
    "huge": npy("{'descr': '<u2', 'fortran_order': False, 'shape': (99999, 99999, 9), }"),
    "negative": npy("{'descr': '<u2', 'fortran_order': False, 'shape': (-1, 5), }"),
    "call": npy("__import__('os').system('id')"),
    "nested": npy("(" * 116),
    "empty": npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1000, 1000), }"),
    "text": b"no array",
    "record": npy("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (1,), }"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_no_array_is_no_input(holder, name):
    number, content = uuid4().hex, zlib.compress(BOMBS[name])
    assert job(holder, as_json("segment", SEGMENT), number).status_code == 201
    assert put(holder, content).json() == {"whole": True}
    key = {"key": "image 0", "sha256": hashlib.sha256(content).hexdigest()}
    assert holder.put(f"/v1/jobs/{number}/inputs", json=key).status_code == 400
    holder.delete(f"/v1/jobs/{number}")


def test_a_bomb_in_zlib_fails_its_job_alone(server, holder, write_model, tmp_path):
    write_model(tmp_path / "m.safetensors")
    model = (tmp_path / "m.safetensors").read_bytes()
    put(holder, model)
    sent = dataclasses.replace(MODEL, sha256=hashlib.sha256(model).hexdigest())
    # It declares 4 kB, and would give 128 MB.
    bomb = zlib.compress(pack_zeros(1 << 27))
    put(holder, bomb)
    number = uuid4().hex
    job(holder, as_json("segment", dataclasses.replace(SEGMENT, model=sent)), number)
    key = {"key": "image 0", "sha256": hashlib.sha256(bomb).hexdigest()}
    assert holder.put(f"/v1/jobs/{number}/inputs", json=key).status_code == 204
    end = time.monotonic() + 60
    while (state := holder.get(f"/v1/jobs/{number}?wait=5").json())["state"] in (
        "waiting", "running",
    ):  # fmt: skip
        assert time.monotonic() < end
    assert state["state"] == "failed"
    assert "an array should have 4000 bytes" in state["error"]
    holder.delete(f"/v1/jobs/{number}")


def pack_zeros(size):
    return zlib.decompress(pack_array(np.zeros((1, 40, 50), np.uint16))) + bytes(size)


def test_the_log_names_who_and_what_and_no_image(server, holder):
    number = uuid4().hex
    job(holder, as_json("finetune", FINETUNE), number)
    holder.delete(f"/v1/jobs/{number}")
    log = server.log.read_text()
    (line,) = (text for text in log.splitlines() if number in text)
    assert f"{server.credentials.person}: finetune {number} cancelled, " in line
    assert "cells" not in log
    assert server.credentials.token not in log
    assert os.stat(server.folder / "log.txt").st_mode & 0o077 == 0
