"""Files that appear whole or not at all, and what a killed writer leaves behind.

What is not finished lies beside its target, as `.NAME.PLACE-PID-RANDOM.part`: the name tells which
process writes it. When a process first writes into a folder, it deletes what others left there
that are gone.
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

_PART = re.compile(r"\..+\.([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{12}\.part")
# Of a writer on another computer it cannot be seen whether it still runs. None takes a day.
_OLD_S = 86_400.0
# What is said of the disk that is written to, whatever file it names.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Folders that this process has cleaned, with the ending of what may be reserved there.
_cleaned: set[tuple[Path, str]] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end of the block.

    An older file stays until then, and stays if the block raises. The folder is made if it is
    missing.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, and what is wrong with it.
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
        # The new name is on the disk once its folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some network drives cannot
            os.fsync(folder)
        os.close(folder)


def part_of(path: Path) -> Path:
    """A new name beside a path, for what this process has not finished yet."""
    return path.with_name(f".{path.name}.{_place()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.part")


def reserve(path: Path) -> None:
    """Make a small file that keeps others from taking a name; `replacing` puts the real one there.

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
            # In one step, so that it says whose it is from the beginning.
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links.
            with path.open("x") as file:
                file.write(part.name)
    finally:
        part.unlink(missing_ok=True)


def clean_once(folder: Path, reserved: str = "") -> None:
    """Delete what writers that are gone left in a folder: `.part` files and folders of ours.

    Parameters
    ----------
    folder
        Looked at once in the life of this process.
    reserved
        Ending of files among which there may be some of `reserve`; "" for none.
    """
    if (folder, reserved) in _cleaned:
        return
    _cleaned.add((folder, reserved))
    # What cannot be listed or deleted stays: it harms nobody.
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
    """Whether a file is but a name held by `reserve`."""
    return _PART.fullmatch(_reservation(path)) is not None


def _reservation(path: Path) -> str:
    """What `reserve` wrote into a file; empty if it did not."""
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
        return True  # to ask there is to end it; its age tells
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _place() -> str:
    """Where a process number means the same: 8 hexadecimal digits."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """What a full disk says in the block names this path, where it names none."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _named(error: OSError, part: Path, path: Path) -> OSError:
    """The error with the path that was to be written, not the part or a file that was read."""
    if error.errno is None:
        # numpy says only that it wrote less than it was given.
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
