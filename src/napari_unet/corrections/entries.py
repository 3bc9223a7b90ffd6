"""The files of one correction in a collection.

FOLDER/images/KEY.tif    raw pixels of a plane or a piece of it, YX or CYX
FOLDER/labels/KEY.tif    its labels
FOLDER/seen/KEY.tif      255 where the labels are truth, 0 where nobody has looked
FOLDER/KEY.json          what they are; written last, because an entry begins to exist with it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.core.boxes import Box
from napari_unet.core.intensity import Statistics
from napari_unet.core.json_types import JsonObject
from napari_unet.corrections.truth import Truth
from napari_unet.io.atomic import clean_once, replacing, reserve

FORMAT = "napari-unet correction 1"
_FOLDERS = ("images", "labels", "seen")
_KEY = re.compile(r"[a-z0-9-]+-\d{4,}")
_FILE = re.compile(rf"({_KEY.pattern})\.json")


@dataclass(frozen=True)
class Entry:
    """A short description of one correction in a collection.

    Attributes
    ----------
    key
        Its name in the collection.
    image
        Name of the image, to show to the user.
    index
        Position of the plane in the image, along the axes other than C, Y, X.
    n_cells
        Number of cells on seen pixels; separate pieces count as separate cells.
    seen_px
        Number of seen pixels.
    shape
        (Y, X) of the stored piece, in pixels.
    created
        Time of creation, ISO 8601 in UTC.
    sha256
        Hash of the files of its image, labels and seen pixels, one after the other.
    classes
        Names of the classes of its cells, sorted; empty without cells.
    fingerprint
        Fingerprint of the raw plane; all corrections of one plane have the same.
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
    fingerprint: str

    @property
    def number(self) -> int:
        """Number of the entry, which grows with each correction of a plane."""
        return int(self.key.rpartition("-")[2])


@dataclass(frozen=True)
class Facts:
    """The content of the json file of an entry.

    Attributes
    ----------
    entry
        The short description.
    axes, image_shape
        Axes (YX or CYX) and shape of the stored image.
    offset_px
        Position of the stored piece in its plane, along Y and X.
    classes
        Name of the class of each id whose class is not "cell".
    statistics
        Intensities of the whole plane that become 0 and 1.
    all
        The whole content, as it is in the file.
    """

    entry: Entry
    axes: str
    image_shape: tuple[int, ...]
    offset_px: tuple[int, int]
    classes: Mapping[int, str]
    statistics: Statistics
    all: Mapping[str, object]


class EntryFiles:
    """Reads and writes the files of the entries in a folder, by key.

    Parameters
    ----------
    folder
        The folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What was read, with the size and the time of the json file then.
        self._read: dict[str, tuple[tuple[int, int], Facts]] = {}

    def list_keys(self) -> list[str]:
        """Return all keys, sorted; an entry may be broken."""
        with suppress(FileNotFoundError, NotADirectoryError):
            names = (_FILE.fullmatch(name) for name in os.listdir(self.folder))
            return sorted(name[1] for name in names if name)
        return []

    def has(self, key: str) -> bool:
        """Return whether there is an entry with this key; it may be broken."""
        return bool(_KEY.fullmatch(key)) and self._json(key).is_file()

    def arrays(self, key: str) -> tuple[Path, Path, Path]:
        """Return the paths of the image, the labels and the seen pixels."""
        image, labels, seen = (self.folder / name / f"{key}.tif" for name in _FOLDERS)
        return image, labels, seen

    def reserve(self, stem: str, number: int) -> str:
        """Reserve a free key with this number or a higher one, and return it."""
        (self.folder / _FOLDERS[0]).mkdir(parents=True, exist_ok=True)
        clean_once(self.folder / _FOLDERS[0], ".tif")
        while True:
            key = f"{stem}-{number:04d}"
            number += 1
            try:
                # Another program may be adding an entry at the same time.
                reserve(self.arrays(key)[0])
            except FileExistsError:
                continue
            if not self.has(key):
                return key
            self.arrays(key)[0].unlink()  # the key belongs to an entry whose image was lost

    def write_arrays(
        self, key: str, plane: NDArray[np.generic], truth: Truth, box: Box
    ) -> dict[str, object]:
        """Write a box of a raw plane (C, Y, X) and its truth; return facts for the json file."""
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

    def write_facts(self, key: str, facts: Mapping[str, object]) -> Entry:
        """Write the json file, with which the entry begins to exist; return the entry."""
        with replacing(self._json(key)) as part:
            part.write_text(json.dumps({"format": FORMAT} | dict(facts), indent=2) + "\n", "utf-8")
        return self.facts(key).entry

    def facts(self, key: str) -> Facts:
        """Read the json file of an entry.

        Raises
        ------
        ValueError
            If it is broken, or was not written by this program.
        """
        try:
            state = os.stat(f"{self.folder}{os.sep}{key}.json")  # a Path takes longer
            version = state.st_size, state.st_mtime_ns
            if key not in self._read or self._read[key][0] != version:
                facts = _parse(key, json.loads(self._json(key).read_text("utf-8")))
                self._read[key] = version, facts
            return self._read[key][1]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._broken(key, error) from error

    def truth(self, facts: Facts) -> Truth:
        """Read the labels and the seen pixels of an entry.

        Raises
        ------
        ValueError
            If a file is missing or was changed.
        """
        entry = facts.entry
        self.check(entry)
        (top, left), (rows, columns) = facts.offset_px, entry.shape
        box = (slice(top, top + rows), slice(left, left + columns))
        labels, seen = (self._pixels(entry.key, place, entry.shape) for place in (1, 2))
        return Truth(labels.astype(np.int32), seen > 0, facts.classes, box)

    def image(self, facts: Facts) -> NDArray[np.generic]:
        """Read the raw pixels; raises ValueError if they cannot be read.

        Whether they were changed is checked by `truth` or `check`, not here.
        """
        return self._pixels(facts.entry.key, 0, facts.image_shape)

    def check(self, entry: Entry) -> None:
        """Check that the files are unchanged; raises ValueError if they are not."""
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
        """Delete the files of an entry: the json first, and last the image, which holds the key."""
        for path in (self._json(key), *self.arrays(key)[::-1]):
            path.unlink(missing_ok=True)

    def _pixels(self, key: str, place: int, shape: tuple[int, ...]) -> Pixels:
        from tifffile import imread

        try:
            # tifffile drops axes of length 1, so the shape is restored.
            return np.asarray(imread(self.arrays(key)[place])).reshape(shape)
        except Exception as error:
            # tifffile and its codecs raise exceptions of their own.
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


def _parse(key: str, facts: JsonObject) -> Facts:
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
        fingerprint=str(facts["identity"]),
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
