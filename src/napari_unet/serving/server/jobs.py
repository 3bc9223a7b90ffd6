"""The jobs of a server: kept on disk, done in turns, followed by their people.

All methods are called in the thread of the event loop. A job that waited or ran when the server or
its worker ended is begun again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import defaultdict, deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from napari_unet.config import Device
from napari_unet.io.atomic import replacing
from napari_unet.serving.jsons import Unfit, from_json, to_json
from napari_unet.serving.messages import (
    SHA256,
    JobStatus,
    Kind,
    SentInput,
    SentProgress,
    SentView,
    State,
    Wishes,
)
from napari_unet.serving.server.blobs import Blobs, Refused
from napari_unet.serving.server.job import ServedJob, begins_in, files_in, in_turns, read_job
from napari_unet.serving.server.limits import Limits
from napari_unet.serving.server.people import People
from napari_unet.serving.server.workers import Line, WorkerProcess

log = logging.getLogger("napari_unet.serving")
# A job whose worker died is begun again, so many times in all: it may be what ends the workers.
_TIMES = 2
# A worker that does not end a cancelled job within this many seconds is ended itself.
_PATIENCE_S = 60.0
# From so many jobs of a kind that ended last it is guessed how long the next one takes.
_LAST = 20


class JobQueue:
    """Gives jobs to workers, one at a time to each.

    Parameters
    ----------
    folder
        Of the jobs.
    blobs, people, limits
        Of the server.
    device
        Where networks run if a client leaves the choice.
    workers
        How many workers there are; None for one for each GPU, and at least one.
    """

    def __init__(
        self,
        folder: Path,
        blobs: Blobs,
        people: People,
        limits: Limits,
        device: Device,
        workers: int | None,
    ) -> None:
        self._folder, self._blobs, self._people, self._limits = folder, blobs, people, limits
        self._device, self._n_workers = device, workers
        self._temporary = folder.parent / "tmp"
        self._jobs: dict[str, ServedJob] = {}
        self._workers: dict[WorkerProcess, ServedJob | None] = {}
        self._turns: dict[str, int] = {}
        # How long the last jobs of each kind took, in seconds.
        self._took: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LAST))
        self._closing = False

    def open(self) -> None:
        """Start the workers, and take up what was left by an earlier run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        for folder in self._folder.iterdir():
            try:
                self._jobs[folder.name] = read_job(folder)
            except (OSError, Unfit):
                # It was being added, or deleted.
                shutil.rmtree(folder, ignore_errors=True)
        for job in self._jobs.values():
            if job.state == "running":
                self._again(job)
        for number in range(self._n_workers or 1):
            self._start_worker(number)

    def close(self) -> None:
        """End the workers; jobs that run are begun again by the next `open`."""
        self._closing = True
        for worker, job in self._workers.items():
            if job is not None and not job.has_ended:
                job.begun -= 1  # it is not the job that ends the worker
                self._keep(job)
            worker.close(5.0)

    def of(self, person: str) -> list[ServedJob]:
        """Return the jobs of a person, in the order in which they came."""
        found = (job for job in self._jobs.values() if job.person == person)
        return sorted(found, key=lambda job: job.number)

    def find(self, person: str, number: str) -> ServedJob:
        """Return a job of a person, whose client is there.

        Raises
        ------
        Refused
            If this person has no such job.
        """
        job = self._jobs.get(number)
        if job is None or job.person != person or job.is_removed:
            raise Refused(404, "there is no such job, or no longer; start it again")
        job.asked = time.monotonic()
        return job

    def add(self, person: str, number: str, kind: Kind, request: bytes) -> ServedJob:
        """Add a job, unless this person has it already; the request was checked.

        Raises
        ------
        Refused
            If this person has too many, the id is taken, or the disk is full.
        """
        known = self._jobs.get(number)
        if known is not None:
            return self.find(person, number)
        if sum(not job.has_ended for job in self.of(person)) >= self._limits.jobs:
            raise Refused(429, f"{self._limits.jobs} jobs of yours are here; wait until one ends")
        folder = self._folder / number
        job = ServedJob(
            person=person,
            kind=kind,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            number=max((job.number for job in self._jobs.values()), default=0) + 1,
            folder=folder,
            files=files_in(request),
        )
        try:
            with replacing(folder / "request.json") as part:
                part.write_bytes(request)
            job.save()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._jobs[number] = job
        self._hand_out()
        return job

    def status(self, job: ServedJob, since: int) -> JobStatus:
        """Return the state of a job, with the progress reports after number `since`."""
        last = job.news[-1].number if job.news else 0
        # A job that was begun again numbers its reports anew.
        news = [each for each in job.news if each.number > since or since > last]
        waiting = in_turns((j for j in self._jobs.values() if j.state == "waiting"), self._turns)
        before = [held for held in self._workers.values() if held is not None]
        if job.state == "waiting":
            before += waiting[: waiting.index(job)]
        return JobStatus(
            job.kind,
            job.state,
            len(before) if job.state == "waiting" else 0,
            begins_in(before, self._took, len(self._workers)) if job.state == "waiting" else None,
            tuple(news),
            last,
            job.wants,
            job.error,
            job.begun,
        )

    def give(self, job: ServedJob, sent: SentInput) -> None:
        """Note that an input is a blob, which is there."""
        if job.given.get(sent.key) != sent.sha256:
            job.given[sent.key] = sent.sha256
            self._keep(job)
        self._supply(job)

    def arrived(self, person: str) -> None:
        """Note that a blob of a person, or a part of one, has come."""
        for job in self.of(person):
            if job.wants:
                job.asked = time.monotonic()
                self._supply(job)

    def wish(self, job: ServedJob, wishes: Wishes) -> None:
        """End a training early and keep what was learnt, or give it so many seconds in all."""
        known = job.wishes
        job.wishes = Wishes(wishes.finish or known.finish, wishes.extended_s or known.extended_s)
        self._tell(job, do="wish", wishes=to_json(job.wishes))

    def look_at(self, job: ServedJob, view: SentView) -> None:
        """Note what the user looks at."""
        job.view = view
        job.views.add(view.sha256)
        self._tell(job, do="view", view=to_json(view))

    def remove(self, job: ServedJob) -> None:
        """Cancel a job, and delete it with its result and its images."""
        if not job.has_ended:
            job.state = "cancelled"
            self._note_end(job)
        if job in self._workers.values():
            self._cancel(job)
            job.is_removed = True
            self._keep(job)
        else:
            self._delete(job)

    def tidy(self) -> None:
        """End and delete what is over time or not allowed any more; called every second."""
        now, limits = time.monotonic(), self._limits
        for worker, held in self._workers.items():
            if held is not None and held.ending and now - held.ending > _PATIENCE_S:
                worker.kill()
        for job in list(self._jobs.values()):
            if job.is_removed:
                continue
            if not self._people.may(job.person) or now - job.asked > limits.keep_s:
                self.remove(job)
            elif job.has_ended:
                continue
            elif job.wants and now - job.asked > limits.quiet_s:
                self._fail(
                    job,
                    "the connection ended before all was sent, so the server gave up; "
                    "start this again",
                )
            elif job.state == "running" and now - job.started > limits.job_s:
                hours = f"{limits.job_s / 3600:g}"
                self._fail(job, f"the server ends jobs after {hours} hours; give it less to do")

    def tidy_disk(self) -> None:
        """Delete blobs that nobody used for long; called every minute."""
        live = [job for job in self._jobs.values() if not job.has_ended]
        self._blobs.tidy({(j.person, sha) for j in live for sha in (*j.files, *j.given.values())})

    def _start_worker(self, number: int) -> None:
        worker = WorkerProcess(
            number, self._device, self._limits.blob_bytes, self._temporary, self._said, self._gone
        )
        self._workers[worker] = None

    def _hand_out(self) -> None:
        """Give the next jobs to workers that have none."""
        for worker, job in list(self._workers.items()):
            if job is None and worker.is_ready:
                waiting = (j for j in self._jobs.values() if j.state == "waiting")
                following = next(iter(in_turns(waiting, self._turns)), None)
                if following is None:
                    return
                self._begin(worker, following)

    def _begin(self, worker: WorkerProcess, job: ServedJob) -> None:
        self._turns[job.person] = max(self._turns.values(), default=0) + 1
        job.state, job.begun, job.started = "running", job.begun + 1, time.monotonic()
        job.news.clear()
        self._workers[worker] = job
        self._keep(job)
        here = {key: sha for key, sha in job.given.items() if self._blobs.find(job.person, sha)}
        here |= {sha: sha for sha in job.files if self._blobs.find(job.person, sha)}
        worker.tell(
            do="run", folder=str(job.folder), blobs=str(self._blobs.of(job.person)), given=here
        )
        job.notify()

    def _said(self, worker: WorkerProcess, line: Line) -> None:
        """Take what a worker says."""
        if line["say"] == "hello":
            worker.is_ready = True
            if self._n_workers is None and worker.number == 0:
                known = {each.number for each in self._workers}
                for number in set(range(line["gpus"])) - known:
                    self._start_worker(number)
            self._hand_out()
            return
        job = self._workers[worker]
        if job is None:
            return
        if line["say"] == "begun":
            self._pass_on(worker, job)
        elif line["say"] == "news":
            job.news.append(from_json(SentProgress, line["news"]))
        elif line["say"] == "wants":
            job.wants = tuple(line["wants"])
            self._supply(job)
        elif line["say"] == "ended":
            self._workers[worker] = None
            self._take_end(job, line["state"], line["error"])
            self._hand_out()
        job.notify()

    def _pass_on(self, worker: WorkerProcess, job: ServedJob) -> None:
        """Tell a worker that has begun a job what was asked for meanwhile."""
        if job.ending:
            worker.tell(do="cancel")
        worker.tell(do="wish", wishes=to_json(job.wishes))
        if job.view is not None:
            worker.tell(do="view", view=to_json(job.view))

    def _take_end(self, job: ServedJob, state: State, error: str) -> None:
        """Note how a job ended in its worker, unless that was decided before."""
        if job.is_removed:
            self._delete(job)
        elif not job.has_ended:
            if state == "cancelled":
                # Nobody here has cancelled it.
                state, error = "failed", "the server ended the job; start it again"
            if state == "done":
                self._took[job.kind].append(time.monotonic() - job.started)
            job.state, job.error = state, error
            self._note_end(job)
            self._keep(job)

    def _gone(self, worker: WorkerProcess) -> None:
        """Take up the job of a worker whose process has ended, and start another one."""
        job = self._workers.pop(worker)
        if self._closing:
            return
        log.warning("worker %d has ended, and is started again", worker.number)
        if job is not None:
            if job.is_removed:
                self._delete(job)
            elif not job.has_ended:
                self._again(job)
            job.notify()
        # One that cannot even start is not started many times in a second.
        delay = 0.0 if worker.is_ready else 10.0
        asyncio.get_running_loop().call_later(delay, self._start_worker, worker.number)

    def _again(self, job: ServedJob) -> None:
        """Let a job begin again, which its worker or an earlier server left."""
        job.wants = ()
        for path in job.folder.iterdir():
            if path.is_dir():
                # Temporary files and outputs.
                shutil.rmtree(path, ignore_errors=True)
        if job.begun < _TIMES:
            job.state = "waiting"
            self._keep(job)
        else:
            self._fail(
                job,
                "the server's worker ended twice while it did this; there may not be enough "
                "memory: take a smaller image, or tell whoever runs the server",
            )

    def _fail(self, job: ServedJob, error: str) -> None:
        job.state, job.error, job.wants = "failed", error, ()
        self._cancel(job)
        self._note_end(job)
        self._keep(job)

    def _cancel(self, job: ServedJob) -> None:
        if job in self._workers.values():
            job.ending = time.monotonic()
            self._tell(job, do="cancel")

    def _supply(self, job: ServedJob) -> None:
        """Tell a worker which inputs that it wants are here."""
        rest = []
        for key in job.wants:
            sha256 = key if SHA256.fullmatch(key) else job.given.get(key, "")
            if sha256 and self._blobs.find(job.person, sha256):
                self._tell(job, do="give", key=key, sha256=sha256)
            else:
                rest.append(key)
        job.wants = tuple(rest)

    def _tell(self, job: ServedJob, **line: object) -> None:
        for worker, held in self._workers.items():
            if held is job:
                worker.tell(**line)

    def _keep(self, job: ServedJob) -> None:
        """Write a job to disk; on a full one it goes on all the same, until the server ends."""
        try:
            job.save()
        except OSError as error:
            log.error("the job %s could not be written: %s", job.id, error)

    def _note_end(self, job: ServedJob) -> None:
        """Write the line of the log about a job, and wake its client."""
        seconds = time.monotonic() - job.started if job.started else 0.0
        log.info("%s: %s %s %s, %.1f s", job.person, job.kind, job.id, job.state, seconds)
        job.wants = ()
        job.notify()

    def _delete(self, job: ServedJob) -> None:
        del self._jobs[job.id]
        shutil.rmtree(job.folder, ignore_errors=True)
        # Its images go with it, unless another job needs them; files are used again.
        others = {sha for each in self.of(job.person) for sha in each.given.values()}
        for sha256 in {*job.given.values(), *job.views} - others:
            with suppress(OSError):
                (self._blobs.of(job.person) / sha256).unlink(missing_ok=True)
