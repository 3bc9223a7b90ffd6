"""What stands before all requests: tokens, rates, and bounds on bodies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.responses import JSONResponse, Response

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
# The rest of a refused body is read up to so many bytes and seconds: with bytes left to read, the
# end of a connection can take the answer with it.
_DRAIN_BYTES, _DRAIN_S = 16 << 20, 5.0
# Of those without a token, so many times fewer calls are answered.
_STRANGERS = 10


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

        try:
            self._check(scope)
            bounded = self._bounded(scope, receive)
        except Refused as refused:
            answer = await refusal(refused, scope, receive)
            await answer(scope, receive, send)
        else:
            await self._app(scope, bounded, send)

    def _check(self, scope: Scope) -> None:
        """Put the person into the scope; raise `Refused` if there is none, or too many calls."""
        client = tuple(scope.get("client") or ("", 0))
        headers = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            person = self._people.find(token) if scheme.lower() == "bearer" and token else None
        except ValueError as error:
            log.error("%s", error)
            raise Refused(503, "the server cannot let anybody in; tell whoever runs it") from error
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
        headers = dict(scope["headers"])
        said = headers.get(b"content-length", b"0")
        scope["is_unread"] = said != b"0" or b"transfer-encoding" in headers
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
            scope["is_unread"] = not ended
            if left < 0:
                raise too_large
            return message

        return receive_bounded


async def refusal(refused: Refused, scope: Scope, receive: Receive) -> Response:
    """Return the answer to a refused request; the connection ends if its body was not read."""
    if "person" in scope:
        await _drain(scope, receive)
    headers = {"connection": "close"} if scope.get("is_unread", True) else {}
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refused.status == 429:
        headers["retry-after"] = "1"
    if refused.offset is not None:
        headers["upload-offset"] = str(refused.offset)
    return JSONResponse({"error": refused.sentence}, refused.status, headers)


async def _drain(scope: Scope, receive: Receive) -> None:
    """Read the rest of a body, within bounds, and forget it."""
    left = _DRAIN_BYTES
    with suppress(TimeoutError, Refused):
        async with asyncio.timeout(_DRAIN_S):
            while scope.get("is_unread") and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                scope["is_unread"] = message.get("more_body", False)
