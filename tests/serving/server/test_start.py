import dataclasses
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from uuid import uuid4

import httpx
import pytest
import tifffile

from napari_unet.cli import main
from napari_unet.config import PredictConfig
from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.credentials import read_credentials, write_credentials
from napari_unet.serving.server import start
from napari_unet.serving.server.certificate import fingerprint, own_certificate
from servers import SOON, Server

EXACT = PredictConfig(device="cpu", precision="float32")


@pytest.fixture
def serve(tmp_path, capsys):
    """What `serve` says when it does not start: `serve(*options)`."""

    def call(*options):
        known = ("--folder", tmp_path / "server", "--credentials", tmp_path / "c.json", "--port", 0)
        assert main(["serve", *map(str, (*known, "--as-root", *options))]) == 1
        return capsys.readouterr().err

    return call


def test_it_does_not_run_as_root_unasked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert main(["serve", "--folder", str(tmp_path / "server")]) == 1
    assert "does not run as root" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages(serve, monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    assert "pip install 'napari-unet[server]'" in serve()


def test_without_tls_it_listens_on_this_computer_alone(serve):
    assert "could be read on the way" in serve("--no-tls", "--host", "0.0.0.0")


def test_certificates_that_do_not_fit(serve, tmp_path):
    assert "go together" in serve("--certificate", tmp_path / "a.pem")
    missing = ("--certificate", tmp_path / "a.pem", "--key", tmp_path / "b.pem")
    assert f"there is no file {tmp_path / 'a.pem'}" in serve(*missing)
    assert "--no-tls needs no certificate" in serve("--no-tls", *missing)
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("nothing")
    assert "the certificate cannot be used" in serve(*missing)


def test_a_port_that_is_taken(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in serve("--port", port)
    assert not (tmp_path / "c.json").exists()


def test_the_certificate_is_made_once_and_its_key_is_secret(tmp_path):
    certificate, key = own_certificate(tmp_path)
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = certificate.read_bytes(), key.read_bytes()
    assert own_certificate(tmp_path) == (certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == before
    assert len(fingerprint(certificate.read_text())) == 95


@pytest.mark.slow
def test_what_it_prints_and_the_file(server):
    (line,) = (text for text in server.log.read_text().splitlines() if "serving at" in text)
    assert str(server.file) in line
    assert server.credentials.address in line
    assert server.file.stat().st_mode & 0o077 == 0
    assert server.credentials.token not in server.log.read_text()
    assert fingerprint(server.credentials.certificate) in server.log.read_text()


@pytest.mark.slow
def test_it_ends_and_comes_back_with_the_same_people(tmp_path):
    server = Server(tmp_path)
    first, second = server.credentials, None
    try:
        with pytest.raises(AssertionError, match="another napari-unet serve uses"):
            Server(tmp_path)
        (worker,) = server.workers()
        assert server.stop() == 0
        end = time.monotonic() + SOON
        while os.path.exists(f"/proc/{worker}") and time.monotonic() < end:
            time.sleep(0.05)
        assert not os.path.exists(f"/proc/{worker}")
        server.log.unlink()
        server.restart(0)
        second = server.credentials
        assert (second.token, second.certificate) == (first.token, first.certificate)
        assert second.address != first.address, "it took another port"
        with server.connect_as_holder() as holder:
            assert holder.get("/v1/hello").json()["person"] == first.person
    finally:
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.slow
def test_behind_a_proxy_and_two_workers(tmp_path, store, add_model, blobs):
    server = Server(tmp_path, "--no-tls", "--workers", 2)
    services = []
    try:
        assert server.credentials.address.startswith("http://127.0.0.1:")
        assert len(server.workers()) == 2
        add_model("bright")
        for name in ("anna", "ben"):
            service = SegmentationService(store)
            service.servers.use(server.add(name))
            services.append(service)
        jobs = [s.segment(blobs()[0], "YX", "bright", EXACT) for s in services for _ in range(2)]
        assert len({job.wait(SOON).n_cells for job in jobs}) == 1
    finally:
        for service in services:
            service.close()
        server.stop()


@pytest.mark.slow
def test_a_client_that_is_killed(server, service, add_model, blobs):
    """Its job ends after `quiet_s`, or when its person ends it, and others have their turn."""
    add_model("bright")
    program = (
        "import sys, numpy as np, time\n"
        "from pathlib import Path\n"
        "from napari_unet import PredictConfig\n"
        "from napari_unet.service.segmentation import SegmentationService\n"
        "class Slow:\n"
        "    shape, ndim, dtype = (9, 40, 50), 3, np.dtype('u1')\n"
        "    def __getitem__(self, key):\n"
        "        if key[0] > 0 and key[1] == slice(None): time.sleep(600)\n"
        "        return np.zeros(self.shape, 'u1')[key]\n"
        "service = SegmentationService()\n"
        f"service.servers.use(Path({str(server.file)!r}))\n"
        "service.segment(Slow(), 'ZYX', 'bright', PredictConfig(device='cpu')).wait()\n"
    )
    with (
        server.connect_as_holder() as holder,
        subprocess.Popen([sys.executable, "-c", program]) as client,
    ):
        end = time.monotonic() + SOON
        while [job["state"] for job in holder.get("/v1/jobs").json()] != ["running"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        client.kill()
        client.wait()
        (left,) = holder.get("/v1/jobs").json()
        assert holder.delete(f"/v1/jobs/{left['id']}").status_code == 204
    service.servers.use(server.file)
    assert service.segment(blobs()[0], "YX", "bright", EXACT).wait(SOON).n_cells


@pytest.mark.slow
def test_the_description_is_true(server):
    with server.connect_as_holder() as holder:
        document = holder.get("/openapi.json").json()
        assert document["openapi"] == "3.1.0"
        names = set(document["components"]["schemas"])
        refs = json.dumps(document).split('"#/components/schemas/')[1:]
        assert {ref.partition('"')[0] for ref in refs} <= names
        box = document["components"]["schemas"]["SentView"]["properties"]["box"]
        whole = {"type": "integer"}
        assert [part["prefixItems"] for part in box["prefixItems"]] == [[whole, whole]] * 2
        for path, calls in document["paths"].items():
            path = path.replace("{job}", uuid4().hex).replace("{sha256}", "a" * 64)
            for method in calls:
                answer = holder.request(method, path, content=b"{}")
                assert answer.status_code in (200, 204, 400, 404, 409), (method, path)
                assert answer.status_code != 404 or "Not Found" not in answer.text


@pytest.mark.slow
def test_the_command_line_works_there(server, add_model, blobs, tmp_path, capsys):
    add_model("nuclei")
    image, out = tmp_path / "cells.tif", tmp_path / "out.tif"
    tifffile.imwrite(image, blobs()[0])
    assert main(["segment", str(image), "-o", str(out), "--server", str(server.file)]) == 0
    assert f"({server.credentials.computer}: CPU" in capsys.readouterr().out
    assert tifffile.imread(out).max() == blobs()[1].max()


def test_the_command_line_without_the_file(add_model, blobs, tmp_path, capsys):
    add_model("nuclei")
    image = tmp_path / "cells.tif"
    tifffile.imwrite(image, blobs()[0])
    missing = str(tmp_path / "nothing.json")
    call = ["segment", str(image), "-o", str(tmp_path / "out.tif"), "--server", missing]
    assert main(call) == 1
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.slow
def test_an_impostor_gets_no_token(server, tmp_path):
    """Who listens in the place of the server is found out before the token is sent."""
    certificate, key = own_certificate(tmp_path)
    heard = []

    class Impostor:
        def serve(self):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            raw, _ = self.listening.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    heard.append(connection.recv(1000))
            except OSError:
                heard.append(b"")

    impostor = Impostor()
    with socket.create_server(("127.0.0.1", 0)) as impostor.listening:
        address = f"https://127.0.0.1:{impostor.listening.getsockname()[1]}"
        write_credentials(
            tmp_path / "c.json", dataclasses.replace(server.credentials, address=address)
        )
        thread = threading.Thread(target=impostor.serve)
        thread.start()
        there = read_credentials(tmp_path / "c.json")
        with (
            httpx.Client(base_url=address, verify=there.context(), trust_env=False) as client,
            pytest.raises(httpx.ConnectError),
        ):
            client.get("/v1/hello", headers={"authorization": there.token})
        thread.join(SOON)
    assert heard == [b""]
