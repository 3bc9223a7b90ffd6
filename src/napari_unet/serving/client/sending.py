"""What a client sends with a request when the server asks for it: models, corrections, planes.

An offer is a function that returns the bytes of an input or a file; it is known by the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.corrections.collection import Collection
from napari_unet.models.store import ModelVersion
from napari_unet.serving.arrays import pack_array
from napari_unet.serving.messages import (
    SentEntry,
    SentModel,
    SentPlane,
    image_key,
    labels_key,
    seen_key,
)


def sent_model(version: ModelVersion) -> tuple[SentModel, dict[str, Callable[[], bytes]]]:
    """Return a version with its file's SHA-256 in place of the path, and the file by that hash."""
    content = version.path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return SentModel(version.name, version.version, sha256), {sha256: lambda: content}


def sent_entry(
    collection: Collection, key: str, offers: dict[str, Callable[[], bytes]]
) -> SentEntry:
    """Return a correction of a collection as it is sent, and add its files to the offers."""
    hashes = []
    for path in (*collection.files(collection.find(key)), collection.folder / f"{key}.json"):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        offers[sha256] = path.read_bytes
        hashes.append(sha256)
    image, labels, seen, facts = hashes
    return SentEntry(key, (image, labels, seen, facts))


def sent_planes(
    annotated: Sequence[Annotated], offers: dict[str, Callable[[], bytes]]
) -> tuple[SentPlane, ...]:
    """Return each corrected plane as it is sent, and add its arrays to the offers."""
    found: list[SentPlane] = []
    for item in annotated:
        for correction in item.corrections:
            number = len(found)
            offers[image_key(number)] = partial(
                sent_pixels, item.image, item.axes, correction.index
            )
            offers[labels_key(number)] = partial(pack_array, correction.labels)
            if correction.trusted is not None:
                offers[seen_key(number)] = partial(pack_array, correction.trusted)
            found.append(_sent_plane(item, correction))
    return tuple(found)


def _sent_plane(item: Annotated, correction: Correction) -> SentPlane:
    classes = {int(key): name for key, name in correction.classes.items()}
    offset = (int(item.offset_px[0]), int(item.offset_px[1]))
    return SentPlane(item.name, classes, item.statistics, offset, correction.trusted is None)


def sent_pixels(image: LazyArray, axes: str, index: tuple[int, ...]) -> bytes:
    """Return a plane of an image as it is sent."""
    return pack_array(get_plane(image, axes, index))


def entry_keys(collection: Collection, parent: ModelVersion) -> list[str]:
    """Return the entries that a fine-tune reads: the latest, and those the parent learnt from."""
    latest = {entry.key for entry in collection.entries()}
    every = collection.entries(superseded=True)
    return [e.key for e in every if e.key in latest or e.key in parent.header.corrections]
