"""The files of one correction in a collection: written whole, and read as they were written.

FOLDER/images/KEY.tif    raw pixels of a plane or a piece of it, YX or CYX
FOLDER/labels/KEY.tif    its labels
FOLDER/seen/KEY.tif      255 where the labels are truth, 0 where nobody has looked
FOLDER/KEY.json          what they are; written last: without it there is no entry
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.intensity import Statistics
from napari_unet.corrections.truth import Box, Truth
from napari_unet.io.atomic import clean_once, replacing, reserve

FORMAT = "napari-unet correction 1"
_FOLDERS = ("images", "labels", "seen")
_KEY = re.compile(r"[a-z0-9-]+-\d{4,}")


@dataclass(frozen=True)
class Entry:
    """A correction in a collection.

    Attributes
    ----------
    key
        Its name there.
    image
        What the image is called, for people.
    index
        Position of the plane in it, along the axes other than C, Y, X.
    n_cells
        Labelled pieces where somebody has looked.
    seen_px
        Pixels where somebody has looked.
    shape
        (Y, X) of what is stored.
    created
        When, ISO 8601 in UTC.
    sha256
        Hash of the files of its image, labels and seen pixels, one after the other.
    classes
        Classes of its cells, sorted; empty without cells.
    identity
        Hash of the raw plane: corrections of the same plane have the same.
    """

    key: str
    image: str
    index: tuple[int, ...]
    n_cells: int
    seen_px: int
    shape: tuple[int, int]
    created: str
    sha256: str
    classes: tuple[str, ...]
    identity: str

    @property
    def number(self) -> int:
        """Grows with each correction of a plane."""
        return int(self.key.rpartition("-")[2])


@dataclass(frozen=True)
class Facts:
    """What the json of an entry says.

    Attributes
    ----------
    entry
        In short.
    axes, image_shape
        Of the file of the image: YX or CYX.
    offset_px
        Where the stored piece begins in its plane, along Y and X.
    classes
        Class of each id that is not plainly a "cell".
    statistics
        Of the whole plane.
    all
        Everything, as it is written.
    """

    entry: Entry
    axes: str
    image_shape: tuple[int, ...]
    offset_px: tuple[int, int]
    classes: Mapping[int, str]
    statistics: Statistics
    all: Mapping[str, Any]


class EntryFiles:
    """The entries in a folder, by key.

    Parameters
    ----------
    folder
        Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list_keys(self) -> list[str]:
        """All keys, sorted; an entry may be broken."""
        paths = self.folder.glob("*.json")
        return sorted(path.stem for path in paths if _KEY.fullmatch(path.stem))

    def has(self, key: str) -> bool:
        """Whether there is an entry, perhaps a broken one."""
        return bool(_KEY.fullmatch(key)) and self._json(key).is_file()

    def arrays(self, key: str) -> tuple[Path, Path, Path]:
        """Where the image, the labels and the seen pixels lie."""
        image, labels, seen = (self.folder / name / f"{key}.tif" for name in _FOLDERS)
        return image, labels, seen

    def reserve(self, stem: str, number: int) -> str:
        """A free key of this number or a higher one."""
        (self.folder / _FOLDERS[0]).mkdir(parents=True, exist_ok=True)
        clean_once(self.folder / _FOLDERS[0], ".tif")
        while True:
            key = f"{stem}-{number:04d}"
            number += 1
            try:
                # Another program may be adding, too.
                reserve(self.arrays(key)[0])
            except FileExistsError:
                continue
            if not self.has(key):
                return key
            self.arrays(key)[0].unlink()  # an entry whose image was lost keeps its key

    def write_arrays(self, key: str, plane: NDArray[Any], truth: Truth, box: Box) -> dict[str, Any]:
        """Write a box of a raw plane (C, Y, X) and what is known of it; returns its facts."""
        from napari_unet.io.images import write_image, write_labels

        truth = truth.within(box)
        piece = plane[(slice(None), *box)]
        piece = piece[0] if len(piece) == 1 else piece
        axes = "CYX"[-piece.ndim :]
        image, labels, seen = self.arrays(key)
        native = piece.dtype.newbyteorder("=")
        write_image(image, np.ascontiguousarray(piece, native), axes)
        write_labels(labels, truth.labels, "YX")
        write_image(seen, truth.seen.astype(np.uint8) * np.uint8(255), "YX", compress=True)
        return {
            "axes": axes,
            "shape": list(piece.shape),
            "dtype": native.name,
            "plane_shape": list(plane.shape[1:]),
            "offset_px": [box[0].start, box[1].start],
            "n_cells": truth.n_cells(),
            "seen_px": int(truth.seen.sum()),
            "class_names": list(truth.class_names()),
            "classes": {str(i): name for i, name in sorted(truth.classes.items())},
            "sha256": self._sha256(key),
        }

    def write_facts(self, key: str, facts: Mapping[str, Any]) -> Entry:
        """Write the json, with which the entry begins to exist."""
        with replacing(self._json(key)) as part:
            part.write_text(json.dumps({"format": FORMAT} | dict(facts), indent=2) + "\n", "utf-8")
        return self.facts(key).entry

    def facts(self, key: str) -> Facts:
        """Read the json.

        Raises
        ------
        ValueError
            If it is broken, or none of ours.
        """
        try:
            return _parse(key, json.loads(self._json(key).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._broken(key, error) from error

    def truth(self, facts: Facts) -> Truth:
        """Read labels and seen pixels.

        Raises
        ------
        ValueError
            If a file is missing, or not what was written.
        """
        entry = facts.entry
        self.check(entry)
        (top, left), (rows, columns) = facts.offset_px, entry.shape
        box = (slice(top, top + rows), slice(left, left + columns))
        labels, seen = (self._pixels(entry.key, place, entry.shape) for place in (1, 2))
        return Truth(labels.astype(np.int32), seen > 0, facts.classes, box)

    def image(self, facts: Facts) -> NDArray[Any]:
        """Read the raw pixels; raises as `truth`, which sees whether they are what was written."""
        return self._pixels(facts.entry.key, 0, facts.image_shape)

    def check(self, entry: Entry) -> None:
        """See that the files are what was written; raises ValueError if not."""
        try:
            found = self._sha256(entry.key)
        except OSError as error:
            raise self._broken(entry.key, error) from error
        if found != entry.sha256:
            raise self._broken(entry.key, "its image, labels or seen pixels were changed")

    def copy(self, key: str, target: EntryFiles) -> None:
        """Copy an entry to another folder, under the same key."""
        sources, copies = ((*files.arrays(key), files._json(key)) for files in (self, target))
        for source, copy in zip(sources, copies, strict=True):
            with replacing(copy) as part:
                shutil.copyfile(source, part)

    def delete(self, key: str) -> None:
        """Delete an entry, the json first, what holds the key last; or what there is of it."""
        for path in (self._json(key), *self.arrays(key)[::-1]):
            path.unlink(missing_ok=True)

    def _pixels(self, key: str, place: int, shape: tuple[int, ...]) -> NDArray[Any]:
        from tifffile import imread

        try:
            # Readers drop axes of one pixel.
            return np.asarray(imread(self.arrays(key)[place])).reshape(shape)
        except Exception as error:
            # Readers have exceptions of their own.
            raise self._broken(key, error) from error

    def _sha256(self, key: str) -> str:
        found = hashlib.sha256()
        for path in self.arrays(key):
            found.update(path.read_bytes())
        return found.hexdigest()

    def _json(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _broken(self, key: str, why: object) -> ValueError:
        reason = f"it lacks {why}" if isinstance(why, KeyError) else why
        return ValueError(
            f"the correction {key!r} in {self.folder} cannot be read ({reason}); "
            "put its files back as they were, or remove it"
        )


def _parse(key: str, facts: dict[str, Any]) -> Facts:
    if facts["format"] != FORMAT:
        raise ValueError(f"its format is {facts['format']!r}, not {FORMAT!r}")
    shape = tuple(int(n) for n in facts["shape"])
    rows, columns = shape[-2:]
    top, left = facts["offset_px"]
    low, high = (tuple(float(v) for v in facts["statistics"][end]) for end in ("low", "high"))
    entry = Entry(
        key=key,
        image=str(facts["image"]),
        index=tuple(int(i) for i in facts["index"]),
        n_cells=int(facts["n_cells"]),
        seen_px=int(facts["seen_px"]),
        shape=(rows, columns),
        created=str(facts["created"]),
        sha256=str(facts["sha256"]),
        classes=tuple(str(name) for name in facts["class_names"]),
        identity=str(facts["identity"]),
    )
    return Facts(
        entry=entry,
        axes=str(facts["axes"]),
        image_shape=shape,
        offset_px=(int(top), int(left)),
        classes={int(i): str(name) for i, name in facts["classes"].items()},
        statistics=Statistics(low, high),
        all=facts,
    )
