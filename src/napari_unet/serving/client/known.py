"""The servers that a user has named, such as the lab's and the institute's."""

from __future__ import annotations

import re
from pathlib import Path

from napari_unet.serving.credentials import (
    Credentials,
    CredentialsError,
    read_credentials,
    write_credentials,
)


class KnownServers:
    """A file of credentials for each server, `NAME.json`, in a folder of the user's.

    Parameters
    ----------
    folder
        Folder of the files; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all servers, in alphabetical order."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def add(self, file: Path) -> str:
        """Keep a copy of a file of credentials; returns the name of the server.

        A file for a server that is known already, with a new token for example, replaces the old
        one.

        Raises
        ------
        CredentialsError
            If the file cannot be used.
        """
        credentials = read_credentials(file)
        plain = re.sub(r"[^\w-]", "-", credentials.computer.partition(".")[0])[:40]
        name, number = plain or "server", 1
        while (path := self._path(name)).exists() and not _is_same(path, credentials):
            number += 1
            name = f"{plain or 'server'}-{number}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_credentials(path, credentials)
        return name

    def remove(self, name: str) -> None:
        """Forget a server, and delete the copy of its credentials.

        Raises
        ------
        ValueError
            If there is no such server.
        """
        if name not in self.names():
            raise ValueError(self._none(name))
        self._path(name).unlink(missing_ok=True)

    def find(self, text: str) -> Path:
        """Return the file of a server, given its name or the path of any file of credentials.

        Raises
        ------
        ValueError
            If it is neither; whether the file can be used is not checked.
        """
        if text in self.names():
            return self._path(text)
        path = Path(text).expanduser()
        if path.suffix or path.exists() or path.name != text:
            return path
        raise ValueError(self._none(text))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _none(self, name: str) -> str:
        there = ", ".join(self.names()) or "none yet"
        return (
            f"there is no server {name!r}; there is: {there}; add one with its file: "
            "napari-unet servers add FILE"
        )


def why_silent(file: Path) -> str:
    """Ask a server whether it can be used now; returns "" or a sentence on why not."""
    # Here, so that a dock that names no server opens without it.
    from napari_unet.serving.client.connection import Connection, check_installed

    try:
        check_installed()
        connection = Connection(read_credentials(file))
        try:
            connection.hello()
        finally:
            connection.close()
    except ValueError as error:
        return str(error)
    return ""


def _is_same(path: Path, credentials: Credentials) -> bool:
    """Return whether a file is for the same server, or for none that can be reached any more."""
    try:
        known = read_credentials(path)
    except CredentialsError:
        return True
    if known.certificate or credentials.certificate:
        return known.certificate == credentials.certificate
    return known.address == credentials.address
