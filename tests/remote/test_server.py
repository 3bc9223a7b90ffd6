import asyncio
import os
import pickle
import signal
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import tifffile

from napari_unet.remote.credentials import make_credentials
from servers import Server

pytest.importorskip("distributed")
from distributed.comm import CommClosedError
from distributed.comm.registry import get_backend

# A server takes seconds to start.
pytestmark = pytest.mark.slow


class Crafted:
    """Who unpickles this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


async def send(address, marker, **arguments):
    """Have whoever listens there run a crafted pickle, without waiting to be welcomed."""
    comm = await get_backend(address[:3]).get_connector().connect(address[6:], **arguments)
    try:
        crafted = pickle.dumps(Crafted(marker))
        await comm.write(comm.handshake_info())
        message = {"op": "run", "function": crafted, "args": crafted, "kwargs": crafted}
        await comm.write(message | {"wait": True, "reply": True})
        for _ in range(2):
            await asyncio.wait_for(comm.read(), 10)
    finally:
        comm.abort()


def stranger():
    """Speaks TLS, trusts anybody, shows no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def impostor():
    """Shows a certificate of its own, made as ours are, and trusts anybody."""
    security = make_credentials("tls://127.0.0.1:1", "other").security()
    context = security.get_connection_args("client")["ssl_context"]
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_who_has_the_credentials_runs_what_he_likes(server, tmp_path):
    """So the tests below would notice."""
    friend = server.credentials.security().get_connection_args("client")
    marker = tmp_path / "ran"
    with suppress(CommClosedError):
        asyncio.run(send(server.addresses()[1], marker, **friend))
    assert marker.exists()


@pytest.mark.parametrize("context", [stranger, impostor])
def test_who_has_other_credentials_or_none_is_refused(server, tmp_path, context):
    for address in server.addresses():
        with pytest.raises(CommClosedError):
            asyncio.run(send(address, tmp_path / "ran", ssl_context=context()))
    assert list(tmp_path.iterdir()) == []
    assert server.ask(os.getpid) != os.getpid()


def test_who_does_not_speak_tls_is_refused(server, tmp_path):
    for address in server.addresses():
        plain = address.replace("tls://", "tcp://")
        with pytest.raises(CommClosedError):
            asyncio.run(send(plain, tmp_path / "ran"))
        host, port = plain.removeprefix("tcp://").rsplit(":", 1)
        crafted = pickle.dumps(Crafted(tmp_path / "ran"))
        for garbage in (crafted, b"\0" * 100, b"GET / HTTP/1.1\r\n"):
            with socket.create_connection((host, int(port)), 10) as raw:
                raw.sendall(garbage)
                # It may have hung up by now.
                with suppress(OSError):
                    raw.shutdown(socket.SHUT_WR)
                    # At most a TLS alert, 7 bytes, and then the end.
                    assert len(raw.recv(1000) + raw.recv(1000)) <= 7
    assert list(tmp_path.iterdir()) == []
    assert server.ask(os.getpid) != os.getpid()


def test_it_listens_on_this_computer_alone_and_shows_no_web_page(server):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    def pages(dask_worker):
        return dask_worker.http_server.port

    assert all("://127.0.0.1:" in address for address in server.addresses())
    with pytest.raises(HTTPError, match="404") as refused:
        urlopen(f"http://127.0.0.1:{server.ask(pages)}/health", timeout=10)
    refused.value.close()


def test_on_every_address_it_speaks_tls_alone(tmp_path):
    """There is no way to start it without."""
    public = Server(tmp_path / "files", host="0.0.0.0")
    (tmp_path / "asked").mkdir()
    try:
        port = int(public.credentials.address.rpartition(":")[2])
        assert public.credentials.address.startswith("tls://")
        with pytest.raises(CommClosedError):
            asyncio.run(send(f"tcp://127.0.0.1:{port}", tmp_path / "asked" / "ran"))
        with pytest.raises(CommClosedError):
            asyncio.run(
                send(f"tls://127.0.0.1:{port}", tmp_path / "asked" / "ran", ssl_context=stranger())
            )
        assert list((tmp_path / "asked").iterdir()) == []
    finally:
        public.stop()


def test_what_it_prints_tells_where_the_file_is(server):
    (line,) = (text for text in server.log.read_text().splitlines() if "serving at" in text)
    assert str(server.file) in line
    assert server.credentials.address in line
    assert server.file.stat().st_mode & 0o077 == 0
    assert "PRIVATE" not in line


def test_dask_does_not_keep_the_network_to_one_thread(server):
    def threads():
        return os.environ.get("MKL_NUM_THREADS")

    assert server.ask(threads) == os.environ.get("MKL_NUM_THREADS")


def test_it_ends_cleanly_and_comes_back_with_the_same_credentials(tmp_path):
    first = Server(tmp_path)
    before, worker = first.credentials, first.ask(os.getpid)
    assert first.stop() == 0
    assert len(first.log.read_text().splitlines()) == 1
    assert not Path(f"/proc/{worker}").exists()
    second = Server(tmp_path)
    assert (second.credentials.key, second.credentials.computer) == (before.key, before.computer)
    assert second.stop(signal.SIGINT) == 0
    assert len(second.log.read_text().splitlines()) == 1


def test_a_port_that_is_taken(server, tmp_path, capsys):
    from napari_unet.cli import main

    port = server.credentials.address.rpartition(":")[2]
    assert main(["serve", "--port", port, "--credentials", str(tmp_path / "c.json")]) == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


def test_a_file_that_others_can_read(tmp_path, capsys):
    from napari_unet.cli import main

    path = tmp_path / "c.json"
    path.write_text("{}")
    path.chmod(0o644)
    assert main(["serve", "--port", "0", "--credentials", str(path)]) == 1
    assert "can be read by others" in capsys.readouterr().err
    assert path.read_text() == "{}"


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    from napari_unet.cli import main
    from napari_unet.remote import credentials

    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    assert main(["serve", "--credentials", str(tmp_path / "c.json")]) == 1
    assert "pip install 'napari-unet[cluster]'" in capsys.readouterr().err


def test_the_worker_knows_the_device(server):
    def device():
        import dask

        return dask.config.get("napari-unet.device")

    assert server.ask(device) == "cpu"


def test_the_command_line_works_there(server, add_model, blobs, tmp_path, capsys):
    from napari_unet.cli import main

    add_model("nuclei")
    image, out = tmp_path / "cells.tif", tmp_path / "out.tif"
    tifffile.imwrite(image, blobs()[0])
    assert main(["segment", str(image), "-o", str(out), "--server", str(server.file)]) == 0
    assert f"({server.credentials.computer}: CPU" in capsys.readouterr().out
    assert tifffile.imread(out).max() == blobs()[1].max()


def test_the_command_line_without_the_file(add_model, blobs, tmp_path, capsys):
    from napari_unet.cli import main

    add_model("nuclei")
    image = tmp_path / "cells.tif"
    tifffile.imwrite(image, blobs()[0])
    missing = str(tmp_path / "nothing.json")
    call = ["segment", str(image), "-o", str(tmp_path / "out.tif"), "--server", missing]
    assert main(call) == 1
    assert "there is no file" in capsys.readouterr().err
