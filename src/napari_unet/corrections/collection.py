"""All corrections of a model, kept in ordinary files that other programs can read.

Entries never change, because the header of a model lists the entries that it learnt from, by key
and SHA-256. A plane that is corrected again gets a new entry with a higher number. It also holds
what the entry before it said of other pixels. For the layout of the files see `entries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.axes import get_plane, label_axes
from napari_unet.core.boxes import Box
from napari_unet.core.checks import check_plane
from napari_unet.core.intensity import measure
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.corrections.entries import Entry, EntryFiles
from napari_unet.corrections.fingerprint import plane_sha256, slug
from napari_unet.corrections.truth import Truth, merge, same, truth_of
from napari_unet.models.store import ModelStore, check_name

__all__ = ["Collection", "Entry", "collection_of", "find_collection"]

# Largest plane, in pixels, that is stored as a whole (4 megapixels). Larger ones are cut to the
# seen pixels and a margin, to save disk space.
_WHOLE_PX = 1 << 22


class Collection:
    """The corrections in a folder.

    Parameters
    ----------
    folder
        The folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._files = EntryFiles(self.folder)
        # Of which plane an entry is, by key, and the other way round: entries never change.
        self._fingerprints: dict[str, str] = {}
        self._of_plane_keys: dict[str, set[str]] = {}

    def entries(self, *, superseded: bool = False) -> list[Entry]:
        """Return the latest entry of each plane, sorted by key.

        With `superseded`, earlier entries of the planes are returned as well. Broken files and
        files of other programs are left out.
        """
        found = [entry for entry in self._listed() if self._is_whole(entry)]
        if superseded:
            return found
        latest = {entry.fingerprint: entry for entry in sorted(found, key=_age)}
        return [entry for entry in found if latest[entry.fingerprint] is entry]

    def find(self, key: str) -> Entry:
        """Return the entry with this key, which need not be the latest of its plane.

        Raises
        ------
        ValueError
            If there is no such entry, or it is broken.
        """
        if self._files.has(key):
            return self._files.facts(key).entry
        there = ", ".join(entry.key for entry in self.entries())
        raise ValueError(
            f"there is no correction {key!r} in {self.folder}; choose one of: {there or 'none yet'}"
        )

    def facts(self, entry: Entry) -> dict[str, object]:
        """Return all that an entry's json file says; raises ValueError if it is broken."""
        return dict(self._files.facts(entry.key).all)

    def files(self, entry: Entry) -> tuple[Path, Path, Path]:
        """Return the files of the image, the labels and the seen pixels; do not write to them."""
        return self._files.arrays(entry.key)

    def read(self, entry: Entry) -> Annotated:
        """Read an entry: its plane, or the stored piece of it, with one correction.

        Raises
        ------
        ValueError
            If a file is missing or was changed.
        """
        facts = self._files.facts(entry.key)
        truth = self._files.truth(facts)
        seen = None if truth.seen.all() else truth.seen
        correction = Correction((), truth.labels, seen, truth.classes)
        image = self._files.image(facts)
        return Annotated(
            image, facts.axes, (correction,), entry.image, facts.statistics, facts.offset_px
        )

    def seen_in(self, entry: Entry, keys: Iterable[str]) -> NDArray[np.bool_]:
        """Return a mask (Y, X) of the pixels about which some entries say the same as this one.

        Two entries say the same of a pixel if both see a cell there, or both see background.

        Parameters
        ----------
        entry
            The entry; the mask has the shape of its stored piece.
        keys
            Keys of the entries that count; those of other planes, and keys of no entry, do not.
        """
        now = self._files.truth(self._files.facts(entry.key))
        seen = np.zeros(now.seen.shape, bool)
        for key in self._of_same_plane(entry, frozenset(keys)):
            if not (self._files.has(key) and self._is_whole(self._files.facts(key).entry)):
                continue
            then = now if key == entry.key else self._files.truth(self._files.facts(key))
            then = then.within(now.box)
            seen |= then.seen & ((then.labels > 0) == (now.labels > 0))
        return seen

    def _of_same_plane(self, entry: Entry, keys: frozenset[str]) -> set[str]:
        """Return those of the keys whose entries are of the same plane as this one.

        This is asked for each entry with the keys of all, so it reads each entry only once.
        """
        for key in keys - self._fingerprints.keys():
            with suppress(ValueError):
                fingerprint = self._files.facts(key).entry.fingerprint
                self._fingerprints[key] = fingerprint
                self._of_plane_keys.setdefault(fingerprint, set()).add(key)
        return self._of_plane_keys.get(entry.fingerprint, set()) & keys

    def add(self, annotated: Annotated, margin_px: int) -> list[Entry]:
        """Store corrections, one entry for each plane with a seen pixel; return the entries.

        If the plane was corrected before, the new entry also holds what the latest one says about
        the pixels that were not seen now (see `truth.merge`). If nothing is new, the latest entry
        is returned and none is written.

        Parameters
        ----------
        annotated
            An image and its corrections.
        margin_px
            Width of the margin around the seen pixels that is stored, in pixels, for planes of more
            than 4 megapixels; smaller planes are stored as a whole.

        Raises
        ------
        ValueError
            If a plane holds no numbers, or its labels have another size.
        OSError
            If an entry cannot be written; no part of it stays.
        """
        return [
            self._add(annotated, correction, margin_px)
            for correction in annotated.corrections
            if correction.trusted is None or correction.trusted.any()
        ]

    def remove(self, key: str) -> list[str]:
        """Delete an entry and all earlier entries of the same plane; return their keys.

        If the earlier ones stayed, the one before it would become the latest of its plane again.
        If the entry is broken, only this entry is deleted.

        Raises
        ------
        ValueError
            If there is no entry with this key.
        """
        keys = [key]
        try:
            entry = self.find(key)
        except ValueError:
            if not self._files.has(key):
                raise
        else:
            earlier = [e for e in self._of_plane(entry.fingerprint) if _age(e) < _age(entry)]
            # Oldest first, so that the latest is still there if the program is stopped meanwhile.
            keys = [*(e.key for e in earlier), key]
        for each in keys:
            self._files.delete(each)
            plane = self._fingerprints.pop(each, "")
            self._of_plane_keys.get(plane, set()).discard(each)
        return keys

    def export(self, folder: Path) -> Collection:
        """Copy the latest entries to a new or empty folder; return the new collection.

        Raises
        ------
        ValueError
            If the folder is not empty, there is nothing to copy, or an entry is broken.
        """
        entries = self.entries()
        if not entries:
            raise ValueError(f"{self.folder} holds no corrections; correct an image first")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not empty; give a new or empty folder")
        for entry in entries:
            self._files.check(entry)
        for entry in entries:
            self._files.copy(entry.key, EntryFiles(folder))
        return Collection(folder)

    def _add(self, annotated: Annotated, correction: Correction, margin_px: int) -> Entry:
        plane = get_plane(annotated.image, annotated.axes, correction.index)
        check_plane(plane)
        if plane.dtype == np.longdouble:
            plane = plane.astype(np.float64)  # files cannot hold long doubles
        if plane.shape[1:] != correction.labels.shape:
            raise ValueError(
                f"the labels are {correction.labels.shape} and the image is {plane.shape[1:]}; "
                "give one for each pixel"
            )
        fingerprint = plane_sha256(plane, _WHOLE_PX)
        facts: dict[str, object] = {
            "image": annotated.name,
            "index": list(correction.index),
            "statistics": asdict(annotated.statistics or measure(plane)),
            "identity": fingerprint,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        stem, new = _stem(annotated, correction.index), truth_of(correction)
        while True:
            known = self._of_plane(fingerprint)
            latest, before = self._latest(known)
            truth = merge(new, before) if before else new
            if latest and before and same(truth, before):
                return latest
            added = self._write(stem, plane, truth, margin_px, facts, known)
            if added:
                return added

    def _write(
        self,
        stem: str,
        plane: NDArray[np.generic],
        truth: Truth,
        margin_px: int,
        facts: Mapping[str, object],
        known: list[Entry],
    ) -> Entry | None:
        """Write a new entry; return None if another program corrected the plane meanwhile."""
        # The number is higher than that of every entry of the plane, even of unreadable ones.
        key = self._files.reserve(stem, known[-1].number + 1 if known else 1)
        try:
            box = _kept(truth, plane.shape[1:], margin_px)
            written = self._files.write_arrays(key, plane, truth, box)
            added = self._files.write_facts(key, {**facts, **written})
            # Each program checks this after it has written. So if two programs write at the same
            # time, at least one of them sees the entry of the other.
            if [e for e in self._of_plane(added.fingerprint) if e.key != key] == known:
                return added
        except BaseException:
            self._files.delete(key)
            raise
        self._files.delete(key)
        return None

    def _of_plane(self, fingerprint: str) -> list[Entry]:
        """Return all entries of a plane, oldest first."""
        found = (e for e in self._listed() if e.fingerprint == fingerprint and self._is_whole(e))
        return sorted(found, key=_age)

    def _listed(self) -> Iterator[Entry]:
        """Yield the entries whose json file can be read, sorted by key."""
        for key in self._files.list_keys():
            with suppress(ValueError):
                yield self._files.facts(key).entry

    def _is_whole(self, entry: Entry) -> bool:
        return all(path.is_file() for path in self._files.arrays(entry.key))

    def _latest(self, known: list[Entry]) -> tuple[Entry, Truth] | tuple[None, None]:
        """Return the latest of these entries that can be read, and its truth; or two None."""
        for entry in reversed(known):
            try:
                return entry, self._files.truth(self._files.facts(entry.key))
            except ValueError:
                continue
        return None, None


def collection_of(store: ModelStore, name: str) -> Collection:
    """Return the collection of a model, which all its versions share.

    Raises
    ------
    ValueError
        If the text cannot be the name of a model.
    """
    check_name(name)
    return Collection(store.root / name / "corrections")


def find_collection(store: ModelStore, reference: str) -> Collection:
    """Return the collection that NAME, NAME@VERSION or the path of a folder means.

    Raises
    ------
    ValueError
        If there is neither such a model nor such a folder.
    """
    name = reference.partition("@")[0]
    with suppress(ValueError):
        own = collection_of(store, name)
        if own.folder.is_dir() or name in store.names():
            return own
    if Path(reference).is_dir():
        return Collection(Path(reference))
    raise ValueError(
        f"there is no model or folder {reference!r}; choose one of: "
        f"{', '.join(store.names()) or 'none yet'}, or give the path of a folder of corrections"
    )


def _age(entry: Entry) -> tuple[int, str]:
    return entry.number, entry.key


def _kept(truth: Truth, shape: tuple[int, ...], margin_px: int) -> Box:
    """Return the box that is stored of a plane (Y, X) of this shape."""
    rows, columns = shape
    if rows * columns > _WHOLE_PX:
        return truth.seen_box(margin_px, shape)
    return slice(0, rows), slice(0, columns)


def _stem(annotated: Annotated, index: tuple[int, ...]) -> str:
    letters = [axis for axis in label_axes(annotated.axes).lower() if axis not in "yx"]
    places = [f"{axis}{i:03d}" for axis, i in zip(letters, index, strict=True)]
    return "-".join([slug(annotated.name) or "image", *places])
