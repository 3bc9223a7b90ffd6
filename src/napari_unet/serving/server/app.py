"""The requests that a server answers, which `openapi` describes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from napari_unet.jobs import sentence
from napari_unet.serving.arrays import HEAD_BYTES, check_array
from napari_unet.serving.jsons import Unfit, from_json, parse, to_json
from napari_unet.serving.messages import (
    JOB_ID,
    MESSAGES,
    RELEASE,
    RIGHTS,
    SHA256,
    Hello,
    JobStatus,
    Kind,
    SentInput,
    SentView,
    Wishes,
)
from napari_unet.serving.server import openapi
from napari_unet.serving.server.blobs import FULL, Blobs, Refused, no_room
from napari_unet.serving.server.guard import refusal
from napari_unet.serving.server.job import ServedJob
from napari_unet.serving.server.jobs import JobQueue
from napari_unet.serving.server.limits import Door, Limits
from napari_unet.serving.server.openapi import NEW_JOB, Call, Endpoint
from napari_unet.serving.server.people import Person

log = logging.getLogger("napari_unet.serving")
# Longest wait for news, in seconds.
_WAIT_S = 20.0
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_WAITING = [
    {"name": "since", "in": "query", "schema": {"type": "integer"},
     "description": "Number of the last progress report that is known."},
    {"name": "wait", "in": "query", "schema": {"type": "number", "maximum": _WAIT_S},
     "description": "Seconds to wait for a change."},
]  # fmt: skip
_PART = {"name": "Content-Range", "in": "header", "required": True,
         "schema": {"type": "string", "pattern": f"^{_RANGE.pattern}$"}}  # fmt: skip
T = TypeVar("T")


class Answers:
    """Answers the requests of people, which `Guard` has let in.

    Parameters
    ----------
    computer
        The server's name, for people.
    jobs, blobs, limits
        Of the server.
    """

    def __init__(self, computer: str, jobs: JobQueue, blobs: Blobs, limits: Limits) -> None:
        self._computer, self._jobs, self._blobs, self._limits = computer, jobs, blobs, limits

    def calls(self) -> list[Call]:
        """Return all requests that are answered."""
        job, blob = "/v1/jobs/{job}", "/v1/blobs/{sha256}"
        return [
            Call("GET", "/health", self.health),
            Call("GET", "/v1/hello", self.hello, returns=Hello),
            Call("GET", "/v1/jobs", self.list_jobs),
            Call("PUT", job, self.put_job, NEW_JOB, JobStatus),
            Call("GET", job, self.get_job, returns=JobStatus, parameters=_WAITING),
            Call("DELETE", job, self.delete_job),
            Call("PUT", f"{job}/inputs", self.put_input, SentInput),
            Call("PUT", f"{job}/view", self.put_view, SentView),
            Call("PUT", f"{job}/wishes", self.put_wishes, Wishes),
            Call("GET", f"{job}/result", self.get_result),
            Call("GET", f"{job}/outputs/{{name}}", self.get_output),
            Call("GET", blob, self.get_blob),
            Call("PUT", blob, self.put_blob, bytes, parameters=[_PART]),
        ]

    async def health(self, request: Request) -> Response:
        """Say that the server runs; needs no token."""
        return JSONResponse({"status": "ok"})

    async def hello(self, request: Request) -> Response:
        """Return the release and the name of the server, who you are, and your rights."""
        person = _person(request)
        return _json(Hello(RELEASE, self._computer, person.name, person.rights))

    async def list_jobs(self, request: Request) -> Response:
        """List your jobs."""
        return JSONResponse(
            [
                {"id": job.id, "created": job.created, "kind": job.kind, "state": job.state}
                for job in self._jobs.of(_person(request).name)
            ]
        )

    async def put_job(self, request: Request) -> Response:
        """Add a job; the id is yours to choose. Repeating it changes nothing."""
        body = await request.body()
        content = parse(body)
        if not isinstance(content, dict) or set(content) != {"kind", "request"}:
            raise Unfit("the message should have kind and request")
        kind = content["kind"]
        if not isinstance(kind, str) or kind not in MESSAGES:
            raise Unfit(f"kind should be one of {', '.join(MESSAGES)}")
        person = _person(request)
        if RIGHTS[kind] not in person.rights:
            raise Refused(403, f"{person.name} has no right to {RIGHTS[kind]} here")
        from_json(MESSAGES[kind], content["request"], "the request")
        number = _checked(JOB_ID, request.path_params["job"], "32 hexadecimal digits")
        job = self._jobs.add(person.name, number, cast(Kind, kind), body)
        return _json(self._jobs.status(job, 0), 201)

    async def get_job(self, request: Request) -> Response:
        """Return state, position, news, and what the job waits for."""
        job, since = self._job(request), _number(request, "since", 1 << 53)
        status = self._jobs.status(job, int(since))
        wait = _number(request, "wait", _WAIT_S)
        if wait and not (status.news or status.wants or job.has_ended):
            with suppress(TimeoutError):
                await asyncio.wait_for(job.changed.wait(), wait)
            status = self._jobs.status(self._job(request), int(since))
        return _json(status)

    async def delete_job(self, request: Request) -> Response:
        """Cancel a job, and delete it with its result and its images."""
        # A job that is not there is deleted already.
        with suppress(Refused):
            self._jobs.remove(self._job(request))
        return Response(status_code=204)

    async def put_input(self, request: Request) -> Response:
        """Say which blob is an input that the job wants."""
        job, sent = self._job(request), await _content(SentInput, request)
        path = self._blob(job.person, sent.sha256)
        with path.open("rb") as file:
            check_array(file.read(HEAD_BYTES), path.stat().st_size, self._limits.blob_bytes)
        self._jobs.give(job, sent)
        return Response(status_code=204)

    async def put_view(self, request: Request) -> Response:
        """Say what the user looks at, while a model learns."""
        job, view = self._job(request), await _content(SentView, request)
        self._blob(job.person, view.sha256)
        self._jobs.look_at(job, view)
        return Response(status_code=204)

    async def put_wishes(self, request: Request) -> Response:
        """End a training early and keep it, or give it more time."""
        self._jobs.wish(self._job(request), await _content(Wishes, request))
        return Response(status_code=204)

    async def get_result(self, request: Request) -> Response:
        """Return the result of a job that is done; it stays until the job is deleted."""
        return _file(self._done(request).folder / "result.json", "application/json")

    async def get_output(self, request: Request) -> Response:
        """Return labels (an array, see blobs) or a new model (a safetensors file)."""
        name = request.path_params["name"]
        if name not in ("labels", "model"):
            raise Refused(404, "there is no such output")
        return _file(self._done(request).folder / "out" / name)

    async def get_blob(self, request: Request) -> Response:
        """Return a blob that you sent.

        Status 404 has the header Upload-Offset: how much of it is there.
        """
        person, sha256 = _person(request).name, _sha256(request)
        path = self._blobs.find(person, sha256)
        if path is None:
            offset = self._blobs.offset(person, sha256)
            return Response(status_code=404, headers={"upload-offset": str(offset)})
        return _file(path)

    async def put_blob(self, request: Request) -> Response:
        """Take a part of a blob: a file, or an array (npy 1.0 without pickles, all through zlib).

        Parts come in their order; status 409 has the header Upload-Offset.
        """
        person, sha256 = _person(request).name, _sha256(request)
        if self._blobs.find(person, sha256) is not None:
            async for _ in request.stream():
                pass
            return JSONResponse({"whole": True})
        found = _RANGE.fullmatch(request.headers.get("content-range", ""))
        if found is None:
            raise Refused(400, "give the header Content-Range: bytes FIRST-LAST/TOTAL")
        first, last, total = map(int, found.groups())
        upload = self._blobs.upload(person, sha256, first, last + 1, total)
        try:
            async for part in request.stream():
                upload.write(part)
        finally:
            upload.close()
        # The hash of a large file takes seconds.
        size = await asyncio.to_thread(upload.finish)
        self._jobs.arrived(person)
        return JSONResponse({"whole": size == total}, headers={"upload-offset": str(size)})

    def _job(self, request: Request) -> ServedJob:
        number = _checked(JOB_ID, request.path_params["job"], "32 hexadecimal digits")
        return self._jobs.find(_person(request).name, number)

    def _blob(self, person: str, sha256: str) -> Path:
        path = self._blobs.find(person, sha256)
        if path is None:
            raise Refused(409, "there is no blob with this SHA-256; send it first")
        return path

    def _done(self, request: Request) -> ServedJob:
        job = self._job(request)
        if job.state != "done":
            raise Refused(409, f"the job is {job.state}, and has no result")
        return job


def make_app(answers: Answers, jobs: JobQueue, door: Door) -> Starlette:
    """Return the application; the queue is open while it runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        jobs.open()
        ticking = asyncio.create_task(_tick(jobs, door))
        try:
            yield
        finally:
            ticking.cancel()
            jobs.close()

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return await refusal(error, request.scope, request.receive)

    calls = answers.calls()
    document, page = JSONResponse(openapi.document(calls)), HTMLResponse(openapi.page(calls))
    app = Starlette(
        routes=[
            Route("/", _same(page)),
            Route("/openapi.json", _same(document)),
            *(Route(call.path, _answer(call.answer), methods=[call.method]) for call in calls),
        ],
        lifespan=lifespan,
        exception_handlers={Refused: refuse},
    )
    app.router.redirect_slashes = False
    return app


async def _tick(jobs: JobQueue, door: Door) -> None:
    """Tidy up every second, and the disk every minute."""
    number = 0
    while True:
        try:
            door.close_silent()
            jobs.tidy()
            if number % 60 == 0:
                jobs.tidy_disk()
        except Exception:
            log.exception("the server could not tidy up")
        number += 1
        await asyncio.sleep(1.0)


def _answer(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint whose errors are sentences."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused:
            raise
        except ValueError as error:
            raise Refused(400, sentence(error)) from error
        except OSError as error:
            if error.errno in FULL:
                raise no_room() from error
            raise

    return answer


def _same(response: Response) -> Endpoint:
    """Return an endpoint that always gives the same answer."""

    async def answer(request: Request) -> Response:
        return response

    return answer


def _person(request: Request) -> Person:
    person: Person = request.scope["person"]
    return person


def _json(thing: object, status: int = 200) -> Response:
    return JSONResponse(to_json(thing), status)


def _file(path: Path, kind: str = "application/octet-stream") -> Response:
    return FileResponse(path, media_type=kind)


def _checked(pattern: re.Pattern[str], text: str, words: str) -> str:
    if not pattern.fullmatch(text):
        raise Refused(400, f"{text[:40]!r} is not {words}")
    return text


def _sha256(request: Request) -> str:
    return _checked(SHA256, request.path_params["sha256"], "64 hexadecimal digits")


def _number(request: Request, name: str, largest: float) -> float:
    try:
        value = float(request.query_params.get(name, 0))
    except ValueError:
        value = -1.0
    if not 0 <= value <= largest:
        raise Refused(400, f"{name} should be a number from 0 to {largest:g}")
    return value


async def _content(kind: type[T], request: Request) -> T:
    return from_json(kind, parse(await request.body()))
