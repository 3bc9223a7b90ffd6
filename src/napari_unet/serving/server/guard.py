"""What stands before all requests: tokens, rates, and bounds on bodies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from napari_unet.serving.server.blobs import Refused
from napari_unet.serving.server.limits import Door, Limits, Rate
from napari_unet.serving.server.people import People

log = logging.getLogger("napari_unet.serving")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What anybody may see: it says nothing about this server.
OPEN = ("/", "/health", "/openapi.json")
# Of those without a token, so many times fewer calls are answered.
_STRANGERS = 10
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]


class Guard:
    """Passes a request on if it has the token of a person, who is put into its scope.

    Parameters
    ----------
    app
        Answers requests.
    people, limits
        Of the server.
    door
        Is told which connections have shown a token.
    """

    def __init__(self, app: App, people: People, limits: Limits, door: Door) -> None:
        self._app, self._people, self._limits, self._door = app, people, limits, door
        self._rate = Rate(limits.calls_per_s, limits.calls_at_once)
        self._strangers = Rate(limits.calls_per_s / _STRANGERS, limits.calls_at_once / _STRANGERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._bounded(scope, receive), send_with_headers)
        except Refused as refused:
            if not begun:
                await _refuse(refused, send_with_headers)

    def _check(self, scope: Scope) -> None:
        """Put the person into the scope; raise `Refused` if there is none, or too many calls."""
        client = tuple(scope.get("client") or ("", 0))
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        person = self._people.find(token) if scheme.lower() == "bearer" and token else None
        if person is None:
            if not self._strangers.takes(client[0]):
                raise Refused(429, "there are too many requests; wait a moment")
            if scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
                return
            log.warning("%s: refused, without a valid token", client[0])
            raise Refused(401, "the token is not valid here; ask whoever runs the server")
        if not self._rate.takes(person.name):
            raise Refused(429, "there are too many requests; wait a moment")
        self._door.let_in(client)
        scope["person"] = person

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` with bounds on size and time."""
        limits = self._limits
        part = scope["path"].startswith("/v1/blobs/")
        left = limits.part_bytes if part else limits.json_bytes
        said = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = Refused(413, f"a body may have {left} bytes; send less at a time")
        if not said.isdigit() or len(said) > 15 or int(said) > left:
            raise too_large
        ended = False

        async def receive_bounded() -> Message:
            nonlocal left, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), limits.body_s)
            except TimeoutError:
                raise Refused(408, "the rest of the request did not come; send it again") from None
            left -= len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if left < 0:
                raise too_large
            return message

        return receive_bounded


async def _refuse(refused: Refused, send: Send) -> None:
    """Answer with a sentence, and close the connection: the body may not have been read."""
    content = json.dumps({"error": refused.sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status == 429:
        headers.append((b"retry-after", b"1"))
    if refused.offset is not None:
        headers.append((b"upload-offset", str(refused.offset).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
