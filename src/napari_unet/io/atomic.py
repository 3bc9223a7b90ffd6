"""Write files that appear whole or not at all, and clean up after a process that was killed.

A file that is not finished lies beside its target, as `.NAME.PLACE-PID-RANDOM.part`. The name says
which process writes it. When a process first writes into a folder, it deletes such files of
processes that no longer run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# The name of an unfinished file; the groups are the place and the number of the process.
_PART = re.compile(r"\..+\.([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{12}\.part")
# An unfinished file that is older than this, in seconds, is deleted wherever its writer runs: on
# another computer one cannot see whether a process still runs, but no write takes a day.
_OLD_S = 86_400.0
# Errors that are about the disk that is written to, whatever file they name.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Folders that this process has cleaned, each with the ending of the names reserved there.
_cleaned: set[tuple[Path, str]] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; its file replaces `path` at the end of the block.

    An older file stays until then, and also if the block raises an exception. The folder is made
    if it is missing.

    Raises
    ------
    OSError
        If it cannot be written; the error names `path` and says what is wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clean_once(path.parent)
    part = part_of(path)
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise _named(error, part, path) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if os.name == "posix":
        # The new name is only on the disk when the folder has been written there.
        folder = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some network drives cannot
            os.fsync(folder)
        os.close(folder)


def part_of(path: Path) -> Path:
    """Return a new name beside a path, for a file that this process has not finished yet."""
    return path.with_name(f".{path.name}.{this_process()}-{uuid.uuid4().hex[:12]}.part")


def this_process() -> str:
    """Return a text that tells this process from others, of other computers as well."""
    return f"{_place()}-{os.getpid()}"


def may_run(process: str) -> bool:
    """Return whether the process with this text (`this_process`) may still run.

    It is True as well where one cannot see that: on another computer, and on Windows.
    """
    place, _, number = process.rpartition("-")
    return place != _place() or (number.isdecimal() and _is_alive(int(number)))


def reserve(path: Path) -> None:
    """Make a small file that reserves a name; `replacing` later puts the real file there.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    clean_once(path.parent)
    part = part_of(path)
    try:
        part.write_text(part.name)
        try:
            # This is one step, so that the file is never there without the name of its writer.
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:
            # The file system has no links.
            with path.open("x") as file:
                file.write(part.name)
    finally:
        part.unlink(missing_ok=True)


def clean_once(folder: Path, reserved: str = "") -> None:
    """Delete unfinished files and folders that processes which no longer run left in a folder.

    Parameters
    ----------
    folder
        The folder; it is cleaned only once by this process.
    reserved
        Ending of the files among which there may be some of `reserve`; "" if there are none.
    """
    if (folder, reserved) in _cleaned:
        return
    _cleaned.add((folder, reserved))
    # Files that cannot be listed or deleted stay; they do no harm.
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            name = path.name
            if reserved and name.endswith(reserved):
                name = _reservation(path)
            if _is_abandoned(name, path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def is_reserved(path: Path) -> bool:
    """Whether a file only reserves a name (`reserve`) and has no content yet."""
    return _PART.fullmatch(_reservation(path)) is not None


def _reservation(path: Path) -> str:
    """Return the text that `reserve` may have written into a file; "" if the file is too large."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size < 1000:
            return path.read_text()
    return ""


def _is_abandoned(name: str, path: Path) -> bool:
    found = _PART.fullmatch(name)
    if found is None:
        return False
    if found[1] == _place() and not _is_alive(int(found[2])):
        return True
    return time.time() - path.lstat().st_mtime > _OLD_S


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # on Windows this question would end the process; the age decides instead
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _place() -> str:
    """Return 8 hexadecimal digits for the computer or container in which process numbers count."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Add this path to errors of a full disk in the block that name no file."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _named(error: OSError, part: Path, path: Path) -> OSError:
    """Return the error with the path that was to be written, not that of the unfinished file."""
    if error.errno is None:
        # NumPy only says that it wrote too little, so try to write to find out why.
        try:
            with part.open("ab") as file:
                file.write(bytes(1 << 16))
                file.flush()
                os.fsync(file.fileno())
        except OSError as why:
            error = why
    if error.errno is None or not (error.errno in _FULL or error.filename in (None, str(part))):
        return error
    return OSError(error.errno, error.strerror, str(path))
