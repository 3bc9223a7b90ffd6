"""Connections to a server, with a server of one answer."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from napari_unet.serving.client.connection import Connection, ServerAway, begin
from napari_unet.serving.credentials import Credentials


@pytest.fixture
def asked():
    return threading.Event()


@pytest.fixture
def answer():
    return threading.Event()


@pytest.fixture
def connection(asked, answer):
    """To a server that answers /wait when it may, and anything else at once."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/wait":
                asked.set()
                answer.wait(30)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        connection = Connection(Credentials(address, "here", "anna", "t"))
        yield connection
        answer.set()
        connection.close()
        server.shutdown()


def test_a_request_on_its_way_ends_before_its_connection(connection, asked, answer):
    waiting = begin(lambda: connection.send("GET", "/wait"))
    assert asked.wait(30)
    before = connection._client
    connection.close()
    assert not before.is_closed
    connection.send("GET", "/other")
    assert connection._client is not before
    answer.set()
    waiting.result(30)
    assert before.is_closed
    after = connection._client
    connection.close()
    assert after.is_closed


def test_what_fails_after_the_greeting_may_be_tried_again(connection, monkeypatch):
    def fail(*_, **__):
        raise httpx.ReadError("bad record") from ssl.SSLError("bad record")

    monkeypatch.setattr(httpx.Client, "stream", fail)
    with pytest.raises(ServerAway, match="cannot be reached"):
        connection.send("GET", "/other")
