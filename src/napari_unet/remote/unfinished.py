"""Notes of what was sent to a server and is yet to come back, for when napari ended meanwhile."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_unet.io.atomic import replacing

FORMAT = "napari-unet pending 1"


@dataclass(frozen=True)
class Pending:
    """A fine-tune or training on a server.

    Attributes
    ----------
    number
        The job's id there.
    name
        The model that gets the version.
    parent
        Reference of the version that it began with; empty if none.
    server
        Path of the file of credentials.
    computer
        The server's name, for people.
    indices
        Plane of each correction that was made for it.
    """

    number: str
    name: str
    parent: str
    server: str
    computer: str
    indices: tuple[tuple[int, ...], ...] = ()


class PendingJobs:
    """Such notes, in a folder.

    Parameters
    ----------
    folder
        Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, note: Pending) -> None:
        """Write a note; it is there after a crash."""
        with replacing(self._path(note)) as part:
            part.write_text(json.dumps({"format": FORMAT} | asdict(note), indent=2) + "\n", "utf-8")

    def remove(self, note: Pending) -> None:
        """Remove a note, if it is there."""
        self._path(note).unlink(missing_ok=True)

    def all(self) -> list[Pending]:
        """All notes, the oldest first; what cannot be read is left out."""
        found = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            try:
                content = json.loads(path.read_text("utf-8"))
                if content.pop("format") != FORMAT:
                    continue
                content["indices"] = tuple(tuple(index) for index in content["indices"])
                note = Pending(**content)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if path == self._path(note):
                found.append(note)
        return found

    def _path(self, note: Pending) -> Path:
        return self._folder / f"{note.number}.json"
