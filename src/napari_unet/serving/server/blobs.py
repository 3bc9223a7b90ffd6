"""Data that people sent, by SHA-256, in a folder for each of them; uploads can be resumed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from napari_unet.serving.server.limits import Limits

# Errors of a disk that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PART = ".part"


class Refused(Exception):
    """A request is refused.

    Attributes
    ----------
    status
        The status of the answer.
    sentence
        Why, and what to do.
    offset
        Where an upload has to go on; None if this is about something else.
    """

    def __init__(self, status: int, sentence: str, offset: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.offset = status, sentence, offset


class Blobs:
    """The blobs of all people; nobody sees those of another.

    Parameters
    ----------
    folder
        Gets a folder for each person.
    limits
        Bounds on sizes.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        # The upload that writes to a file now; one that is older stops.
        self._writing: dict[Path, Upload] = {}

    def of(self, person: str) -> Path:
        """Return the folder of a person."""
        return self._folder / person

    def find(self, person: str, sha256: str) -> Path | None:
        """Return a blob, which counts as used now; None if it is not there."""
        path = self.of(person) / sha256
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def offset(self, person: str, sha256: str) -> int:
        """Return how many bytes of a blob that is not whole are there."""
        try:
            return self._part(person, sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def upload(self, person: str, sha256: str, first: int, stop: int, total: int) -> Upload:
        """Begin to write the bytes from `first` to `stop` of a blob of `total` bytes.

        Raises
        ------
        Refused
            If it is too large, if there is no room, or if other bytes come next.
        """
        limits = self._limits
        if not 0 <= first < stop <= total:
            raise Refused(400, "the range of bytes cannot be; give bytes FIRST-LAST/TOTAL")
        if total > limits.blob_bytes:
            raise Refused(
                413, f"{total} bytes are more than {limits.blob_bytes}; send a smaller image"
            )
        part = self._part(person, sha256)
        there = self.offset(person, sha256)
        if first != there:
            raise Refused(409, f"{there} bytes are here; go on from there", there)
        if first == 0 and self._used(person) + total > limits.person_bytes:
            raise Refused(
                507,
                f"the server keeps {limits.person_bytes >> 20} MB for each person, and yours are "
                "full; wait until jobs have ended, or delete some",
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free - (total - first) < limits.free_bytes:
            raise no_room()
        part.parent.mkdir(exist_ok=True)
        self._writing[part] = upload = Upload(self, part, stop - first, total)
        return upload

    def is_current(self, upload: Upload) -> bool:
        """Return whether no later upload writes to the same file."""
        return self._writing.get(upload.path) is upload

    def ended(self, upload: Upload) -> None:
        """Forget an upload."""
        if self.is_current(upload):
            del self._writing[upload.path]

    def tidy(self, keep: set[tuple[str, str]]) -> None:
        """Delete blobs that nobody used for long, and folders of people without blobs.

        Parameters
        ----------
        keep
            Person and SHA-256 of those that jobs still need.
        """
        end = time.time() - self._limits.keep_s
        for path in self._folder.glob("*/*"):
            if (path.parent.name, path.name) not in keep and path not in self._writing:
                with suppress(OSError):
                    if path.stat().st_mtime < end:
                        path.unlink()
        for folder in self._folder.glob("*/"):
            with suppress(OSError):
                folder.rmdir()

    def _part(self, person: str, sha256: str) -> Path:
        return self.of(person) / f"{sha256}{_PART}"

    def _used(self, person: str) -> int:
        with suppress(FileNotFoundError), os.scandir(self.of(person)) as found:
            return sum(each.stat().st_size for each in found)
        return 0


class Upload:
    """Writes one part of a blob; see `Blobs.upload`."""

    def __init__(self, blobs: Blobs, path: Path, size: int, total: int) -> None:
        self.path, self._blobs, self._left, self._total = path, blobs, size, total
        self._file = path.open("ab", buffering=0)

    def write(self, content: bytes) -> None:
        """Write the next bytes.

        Raises
        ------
        Refused
            If there are more than was said, if the disk is full, or if another upload of the same
            blob has begun.
        """
        self._left -= len(content)
        if self._left < 0:
            raise Refused(400, "there are more bytes than the range says; send them again")
        if not self._blobs.is_current(self):
            raise Refused(409, "the same blob is being sent by another request; ask for its state")
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            if error.errno in FULL:
                # What is there takes room that others may need.
                self.path.unlink(missing_ok=True)
                raise no_room() from error
            raise

    def close(self) -> None:
        """End it; what was written stays, so that it can be gone on with."""
        self._file.close()
        self._blobs.ended(self)

    def finish(self) -> int:
        """Keep the blob if it is whole, and return how many bytes are there.

        Raises
        ------
        Refused
            If its SHA-256 is another one; it is deleted then.
        """
        size = self.path.stat().st_size
        if size < self._total:
            return size
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        whole = self.path.with_suffix("")
        if found != whole.name:
            self.path.unlink()
            raise Refused(422, "the bytes have another SHA-256 than was said; send them again", 0)
        self.path.replace(whole)
        return size


def no_room() -> Refused:
    """Return the refusal of a server whose disk is full."""
    return Refused(507, "the disk of the server is full; tell whoever runs it, and try again later")
