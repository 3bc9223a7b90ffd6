"""Unfinished jobs on servers, kept on disk, so that their results can be had after a restart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_unet.io.atomic import replacing
from napari_unet.serving.jsons import from_json, parse

FORMAT = "napari-unet pending 1"


@dataclass(frozen=True)
class UnfinishedJob:
    """A fine-tune or training on a server whose result has not come back.

    Attributes
    ----------
    number
        Id of the job on the server.
    name
        The model that gets the version.
    parent
        Reference of the version that it began with; empty for a new model.
    server
        Path of the server's credentials.
    computer
        The server's name, for people.
    indices
        For each correction that was sent, the index of its plane.
    images
        For each of them, the name of its image.
    """

    number: str
    name: str
    parent: str
    server: str
    computer: str
    indices: tuple[tuple[int, ...], ...] = ()
    images: tuple[str, ...] = ()


class UnfinishedJobs:
    """The unfinished jobs of this user, one file each.

    Parameters
    ----------
    folder
        Folder of the files; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, job: UnfinishedJob) -> None:
        """Write a job to disk, where it survives a crash of this program."""
        with replacing(self._path(job)) as part:
            part.write_text(json.dumps({"format": FORMAT} | asdict(job), indent=2) + "\n", "utf-8")

    def remove(self, job: UnfinishedJob) -> None:
        """Delete a job, if it is there."""
        self._path(job).unlink(missing_ok=True)

    def all(self) -> list[UnfinishedJob]:
        """Return all jobs, the oldest first, without those that cannot be read."""
        found = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            try:
                content = parse(path.read_bytes())
                if content.pop("format") != FORMAT:
                    continue
                job = from_json(UnfinishedJob, content)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if path == self._path(job):
                found.append(job)
        return found

    def _path(self, job: UnfinishedJob) -> Path:
        return self._folder / f"{job.number}.json"
