"""Drafts: the labels that Segment wrote, and the strokes painted on them, saved as they are made.

A crash loses one stroke at most.

    ROOT/KEY/info.json              what the draft is, and ID, the folder of the two files below
    ROOT/KEY/ID/baseline.npz        the labels that Segment wrote
    ROOT/KEY/ID/plane-3.npz         the strokes on plane 3
    ROOT/KEY.previous/              the draft before this one, if the user painted on it

The info file is replaced in one step, so a new draft is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.axes import get_plane, plane_indices
from napari_unet.core.json_types import JsonObject
from napari_unet.corrections.fingerprint import plane_sha256, slug
from napari_unet.io.atomic import clean_once, part_of, replacing

_FORMAT = "napari-unet draft 1"
_INFO, _BASELINE, _STROKES, _PREVIOUS = "info.json", "baseline.npz", "plane*.npz", ".previous"
# Keys that can be names of folders on every system. Windows reserves some names for devices.
_SAFE = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)$)[a-z0-9](?:[a-z0-9_-]{0,78}[a-z0-9])?")
# About how many pixels of an image enter its fingerprint; more would take too long for large ones.
_SAMPLE_PX = 1 << 20
# Exceptions that reading a broken file can raise.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)


class _Head(TypedDict):
    """The content of the info file of a draft; `info` is what the caller saves with it."""

    format: str
    key: str
    created: str
    folder: str
    info: JsonObject


@dataclass(frozen=True)
class Draft:
    """Saved labels that a user was painting on.

    Attributes
    ----------
    baseline
        The labels that Segment wrote, int32.
    labels
        The baseline with the strokes painted on it.
    info
        The info as it was saved.
    created
        When the draft was begun, ISO 8601 in UTC.
    damaged
        Planes whose strokes cannot be read; their labels are those of the baseline.
    """

    baseline: NDArray[np.int32]
    labels: NDArray[np.int32]
    info: JsonObject
    created: str
    damaged: tuple[tuple[int, ...], ...] = ()


class Drafts:
    """The drafts in a folder, one for each image.

    Only one program at a time may write a draft.

    Parameters
    ----------
    root
        The folder, which need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        clean_once(self.root)

    def begin(self, key: str, baseline: NDArray[np.int32], info: Mapping[str, object]) -> None:
        """Begin a new draft of an image.

        An earlier draft is kept as the previous one if it has strokes or cannot be read.

        Parameters
        ----------
        key
            Text that identifies the image, see `fingerprint`.
        baseline
            The labels that Segment wrote, (..., Y, X).
        info
            Facts to save with it, which json can hold.

        Raises
        ------
        OSError
            If it cannot be written; the earlier draft stays.
        """
        folder = self._folder(key)
        unreadable = (folder / _INFO).exists() and self._head(folder) is None
        if unreadable or self.has_strokes(key):
            self._back_up(folder)
        head: _Head = {
            "format": _FORMAT,
            "key": key,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "folder": uuid.uuid4().hex[:8],
            "info": dict(info),
        }
        baseline = np.asarray(baseline, np.int32)
        _write(folder / head["folder"] / _BASELINE, {"baseline": baseline})
        _write_head(folder, head)
        for path in folder.iterdir():
            if path.name == _INFO or path.name == head["folder"]:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def save_plane(
        self,
        key: str,
        index: Sequence[int],
        changed: NDArray[np.int64],
        values: NDArray[np.int32],
    ) -> None:
        """Save all strokes on a plane, in place of those saved before.

        Parameters
        ----------
        key
            Of the draft.
        index
            Position of the plane along the axes before Y and X.
        changed
            Positions in the flattened plane at which it differs from the baseline. If there are
            none, the strokes on the plane are deleted.
        values
            The labels at these positions.

        Raises
        ------
        ValueError
            If there is no such draft, or the numbers of positions and values differ.
        OSError
            If it cannot be written; what was saved before stays.
        """
        if changed.shape != values.shape or changed.ndim != 1:
            raise ValueError(
                f"the changes are {changed.shape} and their values {values.shape}; "
                "give one value for each position"
            )
        folder = self._folder(key)
        path = folder / self._readable_head(key)["folder"] / _plane_name(index)
        if not changed.size:
            path.unlink(missing_ok=True)
            return
        # Steps between neighbouring positions are mostly 1, which compresses well.
        steps = np.diff(changed.astype(np.int64), prepend=0)
        _write(path, {"steps": steps, "values": values.astype(np.int32)})

    def save_info(self, key: str, info: Mapping[str, object]) -> None:
        """Replace the info of a draft.

        Raises
        ------
        ValueError
            If there is no such draft.
        """
        head = self._readable_head(key)
        head["info"] = dict(info)
        _write_head(self._folder(key), head)

    def load(self, key: str, *, previous: bool = False) -> Draft | None:
        """Read a draft, or the previous one; None if there is none or it cannot be read.

        It deletes nothing. It takes long for large stacks.
        """
        folder = self._folder(key, previous)
        head = self._head(folder)
        if head is None:
            return None
        try:
            baseline = _read(folder / head["folder"] / _BASELINE)["baseline"]
            if baseline.dtype != np.int32 or baseline.ndim < 2:
                raise ValueError("no labels")
        except _UNREADABLE:
            return None
        labels, damaged = baseline.copy(), []
        for path in sorted((folder / head["folder"]).glob(_STROKES)):
            index = tuple(int(number) for number in re.findall(r"\d+", path.stem))
            try:
                _paint(labels[index], _read(path))
            except (*_UNREADABLE, IndexError):
                damaged.append(index)
        return Draft(baseline, labels, head["info"], head["created"], tuple(damaged))

    def has(self, key: str) -> bool:
        """Return whether there is a draft."""
        return (self._folder(key) / _INFO).exists()

    def info(self, key: str) -> JsonObject | None:
        """Return the info of a draft; None if there is none or it cannot be read."""
        head = self._head(self._folder(key))
        return None if head is None else head["info"]

    def changed_ns(self, key: str) -> int:
        """Return when a draft was last written, in nanoseconds since 1970; 0 if there is none."""
        files = [path for path in self._folder(key).rglob("*") if path.is_file()]
        return max((path.stat().st_mtime_ns for path in files), default=0)

    def copy(self, key: str, to: Drafts, new_key: str) -> None:
        """Copy a draft into another folder of drafts, where there is none with that key.

        Raises
        ------
        ValueError
            If there is no such draft.
        """
        head = self._readable_head(key) | {"key": new_key}
        source, target = self._folder(key), to._folder(new_key)
        shutil.copytree(source / head["folder"], target / head["folder"])
        _write_head(target, head)

    def has_strokes(self, key: str, *, previous: bool = False) -> bool:
        """Return whether a draft has strokes; reads no labels, so it is fast."""
        folder = self._folder(key, previous)
        head = self._head(folder)
        return head is not None and any((folder / head["folder"]).glob(_STROKES))

    def _folder(self, key: str, previous: bool = False) -> Path:
        name = key
        if not _SAFE.fullmatch(key):
            name = f"{slug(key) or 'image'}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return self.root / (name + _PREVIOUS if previous else name)

    def _head(self, folder: Path) -> _Head | None:
        """Return the content of the info file; None if there is none or it cannot be read."""
        try:
            head: _Head = json.loads((folder / _INFO).read_text("utf-8"))
            whole = (
                head["format"] == _FORMAT
                and re.fullmatch("[0-9a-f]+", head["folder"])
                and isinstance(head["info"], dict)
                and {"key", "created"} <= set(head)
            )
        except _UNREADABLE:
            return None
        return head if whole else None

    def _readable_head(self, key: str) -> _Head:
        head = self._head(self._folder(key))
        if head is None:
            raise ValueError(f"there is no draft of {key!r}; segment the image again")
        return head

    def _back_up(self, folder: Path) -> None:
        """Copy a draft to the place of the previous one, which is deleted after the copying."""
        part = part_of(folder)
        try:
            shutil.copytree(folder, part, ignore=shutil.ignore_patterns(".*.part"))
            previous = folder.with_name(folder.name + _PREVIOUS)
            self._delete(previous)
            part.rename(previous)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _delete(self, folder: Path) -> None:
        """Delete a folder; it is renamed first, so that no half of it is taken for a draft."""
        if folder.exists():
            part = part_of(folder)
            folder.rename(part)
            shutil.rmtree(part, ignore_errors=True)


def fingerprint(image: LazyArray, axes: str, name: str) -> str:
    """Return the fingerprint of an image: 16 hexadecimal digits.

    Only the first plane is read, and about a million of its pixels are hashed. Stacks with the same
    first plane therefore differ only if their name, shape, axes or dtype differ.

    Parameters
    ----------
    image
        Array-like, in the order of `axes`.
    axes
        One letter of TZCYX for each axis.
    name
        Name of the image.
    """
    words = (str(tuple(image.shape)), str(np.dtype(image.dtype)), axes, name)
    first = next(plane_indices(axes, image.shape), None)
    if first is None:
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]
    return plane_sha256(get_plane(image, axes, first), _SAMPLE_PX, *words)[:16]


def _plane_name(index: Sequence[int]) -> str:
    return "-".join(["plane", *(str(int(i)) for i in index)]) + ".npz"


def _paint(plane: NDArray[np.int32], strokes: Mapping[str, Pixels]) -> None:
    """Write strokes into a plane (Y, X), in place; raise ValueError if they do not fit."""
    changed, values = np.cumsum(strokes["steps"]), strokes["values"]
    if plane.ndim != 2 or changed.shape != values.shape or changed.min(initial=0) < 0:
        raise ValueError("strokes of another plane")
    if changed.max(initial=0) >= plane.size:
        raise ValueError("strokes of another plane")
    plane.reshape(-1)[changed] = values


def _write(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write an npz file with fast compression; numpy's own compression is much slower."""
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read(path: Path) -> dict[str, Pixels]:
    try:
        # numpy gets an open file, because it leaves a file open if it opens it and cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:
        # The zip and zlib modules raise exceptions of their own.
        raise ValueError(f"{path} cannot be read ({error})") from error


def _write_head(folder: Path, head: _Head) -> None:
    with replacing(folder / _INFO) as part:
        part.write_text(json.dumps(head, indent=2) + "\n", "utf-8")
