"""A project: an ordinary folder of images, with labels, corrections and a small json file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Channel
from napari_unet.core.axes import label_axes
from napari_unet.corrections.drafts import Draft, Drafts
from napari_unet.io.image_source import ImageSource
from napari_unet.io.images import read_image, write_labels
from napari_unet.io.label_imports import read_labels_of
from napari_unet.io.label_stores import write_labels_of_store
from napari_unet.io.outputs import check_replaceable, is_ours
from napari_unet.projects.classes import save_classes
from napari_unet.projects.folder import (
    few,
    fingerprint_of,
    images_in,
    label_path,
    others_in,
    stamp_of,
    with_fields,
)
from napari_unet.projects.manifest import (
    BY_DOUBT,
    CORRECTED,
    DONE,
    FILE,
    NEW,
    NOT_CHOSEN,
    SEGMENTED,
    ImageEntry,
    Manifest,
    Score,
    read_manifest,
    write_manifest,
)

# The folder of what was corrected, in that of the project; see `corrections.drafts`.
CORRECTIONS = "napari-unet-corrections"


class Project:
    """A folder of images, and how far each of them is. All methods may be called from any thread.

    Only what changes is written to the json file: two programs that work on different images of
    a folder do not undo each other's work.

    Parameters
    ----------
    folder
        The folder.
    images
        The images of a project that is begun, where it is not to have all of its folder; a plate
        in OME-Zarr stands for its fields.
    labels
        The folder of the labels of a project that is begun, from its own folder; "." writes them
        beside the images.

    Attributes
    ----------
    drafts
        What was corrected: a draft for each image, whose key is the image's name.
    notes
        What was found while opening, one sentence each: images that are gone or were changed,
        files that are no images, names that collide.
    changed
        Names of images that were changed since they were segmented or corrected.

    Raises
    ------
    ValueError
        If there is no such folder, it holds no image, or its json file is broken or newer.
    OSError
        If the file system refuses something.
    """

    def __init__(
        self, folder: Path, images: Sequence[Path] | None = None, labels: str = "labels"
    ) -> None:
        self.folder = Path(folder).resolve()
        self._file, self._lock = self.folder / FILE, RLock()
        known = read_manifest(self._file)
        self._manifest = known or Manifest(labels=labels, listed=images is not None)
        self._dirty: set[str] = set()
        self.drafts = Drafts(self.folder / CORRECTIONS)
        self.notes: list[str] = []
        self.changed: frozenset[str] = frozenset()
        self._there: list[str] = []
        if self._manifest.listed:
            paths = [self.path(name) for name in self._manifest.images] + with_fields(images or ())
        else:
            paths = images_in(self.folder)
        self._find(paths)
        self._mend()

    # What there is

    @property
    def manifest(self) -> Manifest:
        """What is known, as it is now."""
        return self._manifest

    @property
    def names(self) -> list[str]:
        """The names of the images that are there, in the order that was chosen.

        By doubt, those that are corrected or done come last, and before them those whose doubt is
        not known.
        """
        if self._manifest.sort != BY_DOUBT:
            return list(self._there)
        entries = self._manifest.images

        def rank(name: str) -> tuple[bool, bool, float]:
            entry = entries[name]
            doubt = None if entry.is_kept else entry.doubt
            return entry.is_kept, doubt is None, -(doubt or 0.0)

        return sorted(self._there, key=rank)

    def entry(self, name: str) -> ImageEntry:
        """What is known of an image."""
        return self._manifest.images[name]

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.folder / name

    def label_path(self, name: str) -> Path:
        """The file or store of an image's labels, which need not be there."""
        return self.folder / self.entry(name).labels

    def read(self, name: str) -> ImageSource:
        """Read an image; pixels in zarr and in files of microscopes are read later.

        Its axes are those that `name_axes` gave to images like it.
        """
        return read_image(self.path(name)).named(self._manifest.read_as)

    def read_labels(self, name: str, image: ImageSource) -> NDArray[np.int32] | None:
        """Read the labels of an image, with its axes without C; None if there are none.

        Raises
        ------
        ValueError
            If they do not fit the image.
        """
        path = self.label_path(name)
        if not path.exists():
            return None
        return np.asarray(read_labels_of(path, image).data[...], np.int32)

    def corrections(self, name: str) -> Draft | None:
        """Read what was corrected on an image; None if nothing was."""
        return self.drafts.load(name) if self.is_corrected(name) else None

    def is_corrected(self, name: str) -> bool:
        """Whether something was corrected or confirmed on an image; reads no labels."""
        info = self.drafts.info(name)
        if info is None or info.get("dismissed"):
            return False
        return bool(info.get("marks") or info.get("seen")) or self.drafts.has_strokes(name)

    def to_segment(self, model: str) -> list[str]:
        """Names of the rest: images that nobody corrected, which this version did not segment."""
        return [
            name
            for name in self.names
            for entry in [self.entry(name)]
            if not entry.is_kept
            and (entry.state == NEW or entry.model != model or name in self.changed)
        ]

    def to_teach(self, model: str) -> list[str]:
        """Names of images whose corrections a model (NAME) has not learnt yet."""
        return [
            name
            for name in self.names
            for entry in [self.entry(name)]
            if entry.is_kept and not entry.held_out and self.is_corrected(name)
            if entry.is_changed or model not in entry.taught
        ]

    @property
    def n_corrected(self) -> int:
        """Number of cells that were corrected on images that teach."""
        return sum(e.n_corrected for e in self._manifest.images.values() if not e.held_out)

    # What changes

    def choose(
        self, *, sort: str | None = None, current: str | None = None, model: str | None = None
    ) -> None:
        """Remember the order of the images, the one that is open, and the model."""
        given = (("sort", sort), ("current", current), ("model", model))
        with self._lock:
            changes = {
                name: value
                for name, value in given
                if value not in (None, getattr(self._manifest, name))
            }
            if changes:
                self._manifest = replace(self._manifest, **changes)  # type: ignore[arg-type]
                self._dirty |= changes.keys()
                self._save()

    def name_axes(self, file_axes: str, axes: str) -> None:
        """Read images whose files have these axes with others from now on.

        What was segmented and not corrected is to be segmented again.
        """
        with self._lock:
            self._update_from_disk()
            read_as = {**self._manifest.read_as, file_axes: axes}
            images = {
                name: replace(entry, model="") if entry.state == SEGMENTED else entry
                for name, entry in self._manifest.images.items()
            }
            self._manifest = replace(self._manifest, images=images, read_as=read_as)
            self._dirty |= {"read_as", *(f"image {name}" for name in images)}
            self._save()

    def prefer_doubt(self) -> None:
        """Order the images by doubt from now on, unless the user chose an order."""
        with self._lock:
            self._update_from_disk()
            if self._manifest.sort == NOT_CHOSEN:
                self.choose(sort=BY_DOUBT)

    def save_labels(self, name: str, labels: NDArray[np.int32], image: ImageSource) -> None:
        """Write the labels of an image; they appear whole, or the old ones stay.

        Parameters
        ----------
        name
            Of the image.
        labels
            With the axes of the image without C.
        image
            What `read` returned, for the sizes of pixels.

        Raises
        ------
        NotOursError
            If there are labels of another program with that name.
        OSError
            If they cannot be written.
        """
        path = self.label_path(name)
        if path.suffix == ".zarr":
            write_labels_of_store(path, labels, self.path(name), image.axes)
            return
        check_replaceable(path)
        sizes = image.pixel_size_um, image.z_step_um, image.interval_s
        write_labels(path, labels, image.label_axes, *sizes)

    def corrected(self, name: str, n_corrected: int, *, is_new: bool) -> None:
        """Note how much of an image is corrected; without anything it counts as segmented.

        Parameters
        ----------
        name
            Of the image.
        n_corrected
            Number of cells and places.
        is_new
            Whether something was corrected since the last time.
        """
        state = self.entry(name).state
        if state != DONE:
            state = CORRECTED if n_corrected else SEGMENTED
        more = {"is_changed": True} if is_new and n_corrected else {}
        self._update(name, state=state, n_corrected=n_corrected, **more, **self._facts(name))

    def segmented(
        self,
        name: str,
        model: str,
        n_cells: int,
        doubt: float | None,
        channel: Channel | Literal["auto"] = "auto",
    ) -> None:
        """Note that a model segmented an image; what is known of corrections stays."""
        state = SEGMENTED if self.entry(name).state == NEW else self.entry(name).state
        facts = {"model": model, "n_cells": n_cells, "doubt": doubt, "channel": channel}
        facts["state"] = state
        self._update(name, **facts, **self._facts(name))

    def accept(
        self,
        name: str,
        found: Path,
        model: str,
        n_cells: int,
        doubt: float | None,
        channel: Channel | Literal["auto"],
        classes: Mapping[int, str],
    ) -> bool:
        """Take labels that were found in the background, unless the image was corrected meanwhile.

        Parameters
        ----------
        name
            Of the image.
        found
            File or store of the labels, on the same disk; it is moved, or deleted.
        model, n_cells, doubt, channel
            As of `ImageEntry`.
        classes
            Of the cells, by their ids.

        Returns
        -------
        Whether they were taken.
        """
        with self._lock:
            self._update_from_disk()
            target = self.label_path(name)
            if self.entry(name).is_kept or self.is_corrected(name):
                _delete(found)
                return False
            check_replaceable(target)
            save_classes(target, classes)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                _delete(target)
            found.replace(target)
            self.segmented(name, model, n_cells, doubt, channel)
            return True

    def set_done(self, name: str, done: bool) -> None:
        """Say that all labels of an image are right, or take it back.

        Raises
        ------
        ValueError
            If it has no labels.
        """
        if done and not self.label_path(name).exists():
            raise ValueError(f"{name} has no labels yet; segment it first")
        before = CORRECTED if self.is_corrected(name) else SEGMENTED
        self._update(name, state=DONE if done else before)

    def set_held_out(self, name: str, held_out: bool) -> None:
        """Let an image judge models instead of teaching them, or take it back.

        Raises
        ------
        ValueError
            If a model has learnt from it already.
        """
        taught = self.entry(name).taught
        if held_out and taught:
            raise ValueError(
                f"{', '.join(taught)} learnt from {name} already, so it cannot judge; hold out "
                "another image"
            )
        self._update(name, held_out=held_out)

    def taught(self, names: Iterable[str], model: str, *, is_used: bool = True) -> None:
        """Note that a model (NAME) has learnt all that was corrected on these images.

        Unless the user chose an order, the images are ordered by doubt from now on.

        Parameters
        ----------
        names
            Of the images.
        model
            The model. From now on, none of the images can judge.
        is_used
            Whether its new version was accepted. If not, there still is something to learn.
        """
        for name in names:
            entry = self.entry(name)
            before = () if entry.is_changed else entry.taught
            models = tuple(dict.fromkeys((*before, model)))
            self._update(name, taught=models, is_changed=not is_used)
        self.prefer_doubt()

    def add_score(self, score: Score) -> None:
        """Add a point to the curve."""
        with self._lock:
            self._update_from_disk()
            self._manifest = replace(self._manifest, curve=(*self._manifest.curve, score))
            self._dirty.add("curve")
            self._save()

    # Inside

    def _find(self, paths: Iterable[Path]) -> None:
        """Compare the images that are there with those that are known."""
        images = dict(self._manifest.images)
        taken = {entry.labels.lower() for entry in images.values()}
        there, collisions = [], []
        for path in paths:
            name = Path(os.path.relpath(path.absolute(), self.folder)).as_posix()
            if not path.exists():
                continue
            there.append(name)
            if name in images:
                continue
            labels = label_path(name, self._manifest.labels, taken)
            if labels != label_path(name, self._manifest.labels, ()):
                collisions.append(f"{name} ({labels})")
            taken.add(labels.lower())
            there_already = is_ours(self.folder / labels) and (self.folder / labels).exists()
            images[name] = ImageEntry(labels, SEGMENTED if there_already else NEW)
        self._there = sorted(dict.fromkeys(there))
        self._manifest = replace(self._manifest, images=images)
        lacking = images.keys() - set(there)
        gone = [name for name in images if name in lacking and images[name].state != NEW]
        self.changed = frozenset(name for name in self._there if self._is_changed(name))
        others = [] if self._manifest.listed else others_in(self.folder)
        for names, one, many in (
            (gone, "image is gone; its labels stay", "images are gone; their labels stay"),
            (
                self.changed,
                "image was changed since; its labels may not fit",
                "images were changed since; their labels may not fit",
            ),
            (
                collisions,
                "image has the name of another; its labels have another name",
                "images have names of others; their labels have other names",
            ),
            (others, "file is no image and is left out", "files are no images and are left out"),
        ):
            if names:
                count = f"{len(names)} {one if len(names) == 1 else many}"
                self.notes.append(f"{count}: {few(names)}")

    def _mend(self) -> None:
        """Finish what a program that was killed had begun."""
        for name in self._there:
            if self.entry(name).state == SEGMENTED and not self.label_path(name).exists():
                self._update(name, state=NEW)
            if not self.drafts.has(name) or not self.is_corrected(name):
                continue
            if not self.entry(name).is_kept:
                self._update(name, state=CORRECTED, is_changed=True)
            path, saved = self.label_path(name), self.drafts.changed_ns(name)
            if path.exists() and path.lstat().st_mtime_ns >= saved:
                continue
            draft = self.corrections(name)
            if draft is not None and not (path.exists() and not is_ours(path)):
                image = self.read(name)
                self.save_labels(name, in_image_order(draft.labels, image.axes), image)

    def _is_changed(self, name: str) -> bool:
        entry, path = self.entry(name), self.path(name)
        if not entry.fingerprint or entry.stamp == stamp_of(path):
            return False
        return fingerprint_of(path) != entry.fingerprint

    def _facts(self, name: str) -> dict[str, str]:
        """The stamp and the fingerprint of an image, where they are not known yet."""
        path = self.path(name)
        stamp = stamp_of(path)
        if stamp == self.entry(name).stamp:
            return {}
        self.changed -= {name}
        return {"stamp": stamp, "fingerprint": fingerprint_of(path)}

    def _update(self, name: str, **changes: object) -> None:
        with self._lock:
            self._update_from_disk()
            before = self.entry(name)
            after = replace(before, **changes)  # type: ignore[arg-type]
            if after == before:
                return
            images = {**self._manifest.images, name: after}
            self._manifest = replace(self._manifest, images=images)
            self._dirty.add(f"image {name}")
            self._save()

    def _update_from_disk(self) -> None:
        """Take over what another program wrote to the json file meanwhile."""
        there = read_manifest(self._file)
        if there is None:
            return
        ours = self._manifest
        images = {
            name: entry if f"image {name}" in self._dirty else there.images.get(name, entry)
            for name, entry in ours.images.items()
        }
        more = {name: entry for name, entry in there.images.items() if name not in images}
        kept = {
            name: getattr(ours if name in self._dirty else there, name)
            for name in ("sort", "current", "model", "read_as", "curve")
        }
        self._manifest = replace(ours, images=images | more, **kept)

    def _save(self) -> None:
        self._update_from_disk()
        write_manifest(self._file, self._manifest)
        self._dirty.clear()


def in_image_order(planes: NDArray[np.int32], axes: str) -> NDArray[np.int32]:
    """Return labels (..., Y, X) with the axes of an image without C.

    Parameters
    ----------
    planes
        The labels, Y and X last.
    axes
        Of the image.
    """
    own = label_axes(axes)
    last = "".join(axis for axis in own if axis not in "YX") + "YX"
    return planes.transpose([last.index(axis) for axis in own])


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
