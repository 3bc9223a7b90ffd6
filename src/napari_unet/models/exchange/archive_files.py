"""The files of an archive, read as a stranger's: by name, up to a size, and never unpacked."""

from __future__ import annotations

import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from napari_unet.core.json_types import JsonMapping
from napari_unet.models.header import ModelFileError

# Names of the description in an archive, the newest first.
YAML = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
# Largest description and largest other file that are read, in bytes, whatever the zip says of them.
_LARGEST_YAML, _LARGEST_FILE = 1_000_000, 1 << 30
# What reading a broken or encrypted zip raises.
_BROKEN = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
# More files are in no archive.
_MOST_FILES = 1000


class Archive(Protocol):
    """Reads the files of an archive by their names."""

    def read(self, name: str, largest: int = _LARGEST_FILE) -> bytes:
        """Return a file; ModelFileError if it is not there, or has more bytes than `largest`."""

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""


def is_archive(path: Path) -> bool:
    """Return whether a path is a folder or a zip, and not a model file."""
    return path.is_dir() or (path.is_file() and zipfile.is_zipfile(path))


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[Archive, JsonMapping]]:
    """Open a zip or a folder; yield its files, and its description.

    Raises
    ------
    ModelFileError
        If it holds no description of a model, or cannot be read.
    """
    try:
        if path.is_dir():
            folder = _Folder(path)
            yield folder, _description(path, folder)
        else:
            with zipfile.ZipFile(path) as zipped:
                if len(zipped.infolist()) > _MOST_FILES:
                    raise ModelFileError(
                        f"{path} holds more than {_MOST_FILES} files; give a zip of one model"
                    )
                archive = _Zip(path, zipped)
                yield archive, _description(path, archive)
    except _BROKEN as error:
        raise ModelFileError(f"{path} cannot be read: {error}; take another copy") from error


def read_checked(archive: Archive, entry: object, what: str) -> bytes:
    """Return a file that a description names, after a check of its hash.

    Parameters
    ----------
    archive
        Where it lies.
    entry
        A table with "source" and, where there is one, "sha256".
    what
        What it is, in words.

    Raises
    ------
    ModelFileError
        If it is not in the archive, or is not the file that was described.
    """
    table = entry if isinstance(entry, Mapping) else {}
    source = table.get("source")
    if not isinstance(source, str) or "://" in source:
        raise ModelFileError(
            f"{what} are not in the archive; give the zip that bioimage.io offers for download"
        )
    content = archive.read(source)
    if table.get("sha256", found := hashlib.sha256(content).hexdigest()) != found:
        raise ModelFileError(f"{what} are damaged: another hash was recorded; take another copy")
    return content


def _description(path: Path, archive: Archive) -> JsonMapping:
    import yaml

    name = next((name for name in YAML if archive.has(name)), None)
    if name is None:
        raise ModelFileError(
            f"{path} is no model of bioimage.io: there is no {YAML[0]} in it; give a zip that "
            "bioimage.io or napari-unet made"
        )
    try:
        content = yaml.safe_load(archive.read(name, _LARGEST_YAML).decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: its {name} cannot be read; take another copy") from error
    if not isinstance(content, Mapping) or content.get("type") != "model":
        raise ModelFileError(f"{path} is of bioimage.io, and no model; give the zip of a model")
    return content


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._zip = path, archive
        self._names = set(archive.namelist())

    def has(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str, largest: int = _LARGEST_FILE) -> bytes:
        name = name.removeprefix("./")
        if not self.has(name):
            raise ModelFileError(f"{self._path}: {name!r} is missing in it; take another copy")
        # What the zip says of the size may be wrong, so no more than that is unpacked.
        with self._zip.open(name) as file:
            content = file.read(largest + 1)
        return _within(self._path, name, content, largest)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        return (self._path / name).is_file()

    def read(self, name: str, largest: int = _LARGEST_FILE) -> bytes:
        parts = PurePosixPath(name).parts
        path = self._path.joinpath(*parts)
        inside = path.resolve().is_relative_to(self._path.resolve())
        if not inside or not path.exists() or not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(f"{self._path}: {name!r} is no file in it; take another copy")
        with path.open("rb") as file:
            content = file.read(largest + 1)
        return _within(self._path, name, content, largest)


def _within(path: Path, name: str, content: bytes, largest: int) -> bytes:
    if len(content) > largest:
        raise ModelFileError(f"{path}: {name!r} in it has more than {largest >> 20} MiB")
    return content
