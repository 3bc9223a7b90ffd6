"""Who may use a server: a token for each person, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

from napari_unet.io.atomic import replacing
from napari_unet.serving.jsons import Unfit, from_json, parse, to_json
from napari_unet.serving.messages import Right

# Names of folders on every system.
_NAME = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)$)[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Person:
    """A person who may use the server.

    Attributes
    ----------
    name
        Small letters, digits, "-" and "_".
    token_sha256
        Hash of the token.
    rights
        What this person may do.
    expires
        Date and time, ISO 8601, UTC; empty for never.
    """

    name: str
    token_sha256: str
    rights: tuple[Right, ...]
    expires: str = ""

    @property
    def has_expired(self) -> bool:
        """Whether the token is no longer valid."""
        return bool(self.expires) and datetime.fromisoformat(self.expires) < datetime.now(UTC)


@dataclass(frozen=True)
class _File:
    format: str
    people: tuple[Person, ...]


class People:
    """The people in a file; a change of the file holds from the next request on.

    Parameters
    ----------
    file
        The file, which need not exist yet.
    """

    _FORMAT = "napari-unet people 1"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version: tuple[int, int] | None = None
        self._people: dict[str, Person] = {}

    def all(self) -> dict[str, Person]:
        """Return all people by name.

        Raises
        ------
        ValueError
            If the file is broken: nobody is let in then.
        """
        try:
            state = self._file.stat()
        except FileNotFoundError:
            return {}
        version = state.st_mtime_ns, state.st_ino
        if version != self._version:
            try:
                content = from_json(_File, parse(self._file.read_bytes()))
            except Unfit as error:
                raise ValueError(
                    f"{self._file} is broken ({error}); put it back, or delete it and add all "
                    "people again"
                ) from error
            self._people = {person.name: person for person in content.people}
            self._version = version
        return self._people

    def find(self, token: str) -> Person | None:
        """Return the person who has a token; None if there is none, or it has expired."""
        digest = _hash(token)
        for person in self.all().values():
            if secrets.compare_digest(person.token_sha256, digest):
                return None if person.has_expired else person
        return None

    def may(self, name: str) -> bool:
        """Return whether a person is there, and has not expired."""
        person = self.all().get(name)
        return person is not None and not person.has_expired

    def add(self, name: str, rights: Sequence[str] = get_args(Right), days: int = 365) -> tuple[
        Person, str
    ]:  # fmt: skip
        """Add a person, or give one a new token; return both. The old token ends at once.

        Parameters
        ----------
        name
            Name of the person.
        rights
            Some of "segment" and "teach".
        days
            Until the token expires; 0 for never.

        Raises
        ------
        ValueError
            If the name or a right cannot be one.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a person's name here; use up to 32 small letters, digits, "
                "'-' and '_'"
            )
        if not rights or set(rights) - set(get_args(Right)):
            raise ValueError(
                f"the rights are {', '.join(rights)}; give one or both of "
                f"{', '.join(get_args(Right))}"
            )
        token = secrets.token_urlsafe(32)
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        found = {"name": name, "token_sha256": _hash(token), "rights": list(rights),
                 "expires": ends.isoformat() if days else ""}  # fmt: skip
        person = from_json(Person, found)
        self._write({**self.all(), name: person})
        return person, token

    def remove(self, name: str) -> None:
        """Remove a person, whose token ends at once.

        Raises
        ------
        ValueError
            If there is no such person.
        """
        people = dict(self.all())
        if people.pop(name, None) is None:
            there = ", ".join(people) or "nobody yet"
            raise ValueError(f"there is no person {name!r}; there is: {there}")
        self._write(people)

    def _write(self, people: dict[str, Person]) -> None:
        content = asdict(_File(self._FORMAT, tuple(people.values())))
        with replacing(self._file) as part:
            part.touch(mode=0o600, exist_ok=False)
            part.write_text(json.dumps(to_json(content), indent=2) + "\n")


def _hash(token: str) -> str:
    # A token has 256 random bits, so it cannot be guessed from a plain hash.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
