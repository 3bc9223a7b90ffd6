"""A job of the server, and its files.

FOLDER/ID/request.json     what is to be done
FOLDER/ID/job.json         whose it is, its state, and the inputs that have come
FOLDER/ID/result.json      the result, and FOLDER/ID/out/ its outputs
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median

from napari_unet.io.atomic import replacing
from napari_unet.serving.jsons import Unfit, from_json, parse, to_json
from napari_unet.serving.messages import ENDED, Kind, SentProgress, SentView, State, Wishes

# Largest number of progress reports that are kept for a client that does not call.
_NEWS = 2000


@dataclass(eq=False, kw_only=True)
class KeptJob:
    """What `job.json` holds of a job.

    Attributes
    ----------
    person, kind, created
        Whose it is, what is done, and since when (ISO 8601, UTC).
    number
        Grows with each job of the server.
    state, error
        See `JobStatus`.
    begun
        How many times a worker has begun it.
    given
        SHA-256 of each input that has come, by key.
    """

    person: str
    kind: Kind
    created: str
    number: int
    state: State = "waiting"
    error: str = ""
    begun: int = 0
    given: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class ServedJob(KeptJob):
    """A job of a person.

    Attributes
    ----------
    folder
        Its files.
    files
        SHA-256 of all files that its request names.
    news, wants, view, wishes
        What its worker has said, and what its client has asked for.
    views
        SHA-256 of all pieces of images that its client has looked at.
    asked, started
        Time of the client's last call, and when it began to run; seconds of the monotonic clock.
    ending
        When its worker was told to cancel it, by the monotonic clock; 0 for never.
    is_removed
        Whether it is deleted as soon as its worker has ended it.
    changed
        Is set, and replaced, when there is news.
    """

    folder: Path
    files: frozenset[str]
    news: deque[SentProgress] = field(default_factory=lambda: deque(maxlen=_NEWS))
    wants: tuple[str, ...] = ()
    view: SentView | None = None
    views: set[str] = field(default_factory=set)
    wishes: Wishes = field(default_factory=Wishes)
    asked: float = field(default_factory=time.monotonic)
    started: float = 0.0
    ending: float = 0.0
    is_removed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """Which it is: 32 hexadecimal digits, drawn by its client."""
        return self.folder.name

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is done for it."""
        return self.state in ENDED

    def save(self) -> None:
        """Write what is known of it to its folder."""
        kept = {each.name: getattr(self, each.name) for each in fields(KeptJob)}
        with replacing(self.folder / "job.json") as part:
            part.write_text(json.dumps(to_json(kept)), "utf-8")

    def notify(self) -> None:
        """Wake those who wait for news."""
        self.changed.set()
        self.changed = asyncio.Event()


def in_turns(waiting: Iterable[ServedJob], turns: Mapping[str, int]) -> list[ServedJob]:
    """Return jobs in the order in which they are done: people take turns.

    Parameters
    ----------
    waiting
        The jobs; those of one person stay in the order of their numbers.
    turns
        When each person had the last turn, as a number that grows; 0 for never.
    """
    rounds: Counter[str] = Counter()
    keys = {}
    for job in sorted(waiting, key=lambda job: job.number):
        keys[job.id] = (rounds[job.person], turns.get(job.person, 0), job.number), job
        rounds[job.person] += 1
    return [job for _, job in sorted(keys.values(), key=lambda each: each[0])]


def begins_in(
    before: Iterable[ServedJob], took: Mapping[str, Sequence[float]], n_workers: int
) -> float | None:
    """Return the seconds until a job is expected to begin.

    Parameters
    ----------
    before
        The jobs that run or come first.
    took
        For each kind of job, how long the last ones took, in seconds.
    n_workers
        How many jobs run at once.

    Returns
    -------
    seconds
        None if a job before is of a kind of which none has ended yet.
    """
    left = 0.0
    for job in before:
        if not took.get(job.kind):
            return None
        ran = time.monotonic() - job.started if job.state == "running" else 0.0
        left += max(median(took[job.kind]) - ran, 0.0)
    return left / n_workers


def read_job(folder: Path) -> ServedJob:
    """Return a job of an earlier run of the server.

    Raises
    ------
    Unfit, OSError
        If it was being added or deleted.
    """
    kept = from_json(KeptJob, parse((folder / "job.json").read_bytes()))
    if kept.state == "cancelled":
        raise Unfit("it was being deleted")
    files = files_in((folder / "request.json").read_bytes())
    return ServedJob(**vars(kept), folder=folder, files=files)


def files_in(request: bytes) -> frozenset[str]:
    """Return the SHA-256 of all files that a request names."""
    return frozenset(re.findall(r'"([0-9a-f]{64})"', request.decode()))
