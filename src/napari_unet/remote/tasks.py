"""The work of a job as it is sent to a server, and done there with the code that works here.

An errand holds settings and says by hash or by name what else it needs; see `desk.Supply`. A plane
travels as (C, Y, X), so an image is here made of those that were asked for, TCYX; where they are
whole stacks, TZCYX.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import get_plane, plane_indices
from napari_unet.corrections.annotations import Annotated
from napari_unet.corrections.collection import Collection
from napari_unet.corrections.entries import EntryFiles
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, Part
from napari_unet.learning.finetune import Improvement, Kept, teach
from napari_unet.learning.training import NewModel
from napari_unet.models.header import read_header
from napari_unet.models.loaded import Box
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.remote.worker import Supply, unpack
from napari_unet.segmentation.planes import Segmentation


@dataclass(frozen=True)
class SentModel:
    """A model version without its file, which is known by its hash."""

    name: str
    version: int
    sha256: str

    def load(self, supply: Supply) -> ModelVersion:
        """The version, with its file here."""
        (path,) = supply.files([self.sha256])
        return ModelVersion(self.name, self.version, path, read_header(path))


@dataclass(frozen=True)
class SentEntry:
    """A correction of a collection, known by its key and the hash of its files together."""

    key: str
    sha256: str


@dataclass(frozen=True)
class Learnt:
    """What an errand that trains brings back: the model's file, and what else is to be told."""

    content: bytes
    done: Improvement


class Planes:
    """An image that is sent plane by plane, and kept for as long as its T stays the same.

    Parameters
    ----------
    supply
        Gives them.
    shape
        T, C, Y, X, or T, Z, C, Y, X.
    """

    def __init__(self, supply: Supply, shape: tuple[int, ...]) -> None:
        self._supply, self.shape = supply, shape
        self._number, self._part = -1, np.zeros(shape[1:])

    def __getitem__(self, key: tuple[Any, ...]) -> Any:
        number = key[0]
        if isinstance(number, slice):
            # A sample is of the first plane.
            return self[(0, *key[1:])][None]
        if number != self._number:
            self._number, self._part = number, self._fetch(number)
        return self._part[key[1:]]

    def _fetch(self, number: int) -> NDArray[Any]:
        size = math.prod(self.shape[1:-3])
        keys = [plane_key(n) for n in range(number * size, (number + 1) * size)]
        if len(self.shape) == 5:
            return np.stack([unpack(content) for content in self._supply.fetch_many(keys)])
        # The next one comes while this one is worked on.
        ahead = [plane_key(number + 1)] if number + 1 < self.shape[0] else []
        (content,) = self._supply.fetch(*keys, ahead=ahead)
        plane: NDArray[Any] = unpack(content)
        return plane


@dataclass(frozen=True)
class OnePlane:
    """An image of which one plane (C, Y, X) was sent, whichever is asked for."""

    plane: NDArray[Any]

    def __getitem__(self, key: object) -> NDArray[Any]:
        return self.plane


@dataclass(frozen=True)
class SegmentErrand:
    """See `segmenting.segment_planes`; of an image of a shape as `Planes` has, all planes."""

    model: SentModel
    shape: tuple[int, ...]
    config: PredictConfig
    box: Box | None = None

    def __call__(self, job: Job[Any], supply: Supply) -> Segmentation:
        """Do it."""
        version, image = self.model.load(supply), Planes(supply, self.shape)
        config = _placed(self.config, supply)
        axes = "TCYX" if len(self.shape) == 4 else "TZCYX"
        indices = tuple(plane_indices(axes, self.shape))
        # What is done meanwhile is not sent: a part is told of without it.
        part = Part(job, 0, 1, "")
        return supply.backend.segment(part, image, axes, version, config, indices, self.box)


@dataclass(frozen=True)
class MeasureErrand:
    """See `segmenting.measure_cells`."""

    model: SentModel
    config: PredictConfig

    def __call__(self, job: Job[Any], supply: Supply) -> float:
        """Do it."""
        version = self.model.load(supply)
        (content,) = supply.fetch(plane_key(0))
        return supply.backend.measure(job, unpack(content), version, _placed(self.config, supply))


@dataclass(frozen=True)
class TeachErrand:
    """See `improving.teach`."""

    parent: SentModel
    entries: tuple[SentEntry, ...]
    diameter_px: float | None
    zoom: float
    config: FinetuneConfig
    name: str

    def __call__(self, job: Job[Any], supply: Supply) -> Learnt:
        """Do it, with a store and a collection that are gone afterwards."""
        job.report(0.0, "sending the corrections")
        files = supply.files([entry.sha256 for entry in self.entries])
        (content,) = supply.fetch("annotated")
        annotated: list[Annotated] = unpack(content)
        with TemporaryDirectory() as folder:
            store, collection = ModelStore(Path(folder, "models")), Collection(Path(folder, "seen"))
            for entry, path in zip(self.entries, files, strict=True):
                unpack_entry(path.read_bytes(), collection, entry.key)
            parent = self.parent.load(supply)
            kept = Kept(collection, self.diameter_px, self.zoom)
            config = _placed(self.config, supply)
            done = teach(job, store, kept, annotated, parent, config, self.name, supply.view)
            return Learnt(done.model.path.read_bytes(), done)


@dataclass(frozen=True)
class TrainErrand:
    """See `SegmentationService.train`."""

    origin: SentModel | NewModel
    n_images: int
    config: FinetuneConfig
    name: str
    trained_on: tuple[str, ...]

    def __call__(self, job: Job[Any], supply: Supply) -> Learnt:
        """Do it, with a store that is gone afterwards."""
        job.report(0.0, "sending the images")
        annotated = [
            unpack(part) for part in supply.fetch_many(map(plane_key, range(self.n_images)))
        ]
        origin = self.origin
        start = origin.load(supply) if isinstance(origin, SentModel) else origin
        config = _placed(self.config, supply)
        with TemporaryDirectory() as folder:
            store = ModelStore(Path(folder))
            done = supply.backend.train(
                job, store, annotated, start, config, self.name, self.trained_on
            )
            return Learnt(done.model.path.read_bytes(), done)


def plane_key(number: int) -> str:
    """What a plane is called on its way."""
    return f"plane {number}"


def one_by_one(annotated: Sequence[Annotated]) -> list[Annotated]:
    """Each correction with its plane alone; the planes are numbered, (0,), (1,), ..."""
    found: list[Annotated] = []
    for item in annotated:
        for correction in item.corrections:
            plane = get_plane(item.image, item.axes, correction.index)
            alone = (replace(correction, index=(len(found),)),)
            image = OnePlane(np.ascontiguousarray(plane))
            found.append(replace(item, image=image, axes="TCYX", corrections=alone))
    return found


def pack_entry(collection: Collection, key: str) -> bytes:
    """The files of a correction as they are."""
    return pickle.dumps([path.read_bytes() for path in _paths(collection, key)])


def unpack_entry(content: bytes, collection: Collection, key: str) -> None:
    """Write the files of a correction."""
    for path, part in zip(_paths(collection, key), pickle.loads(content), strict=True):
        with replacing(path) as target:
            target.write_bytes(part)


def _paths(collection: Collection, key: str) -> tuple[Path, ...]:
    return (*EntryFiles(collection.folder).arrays(key), collection.folder / f"{key}.json")


def _placed(config: Any, supply: Supply) -> Any:
    """With the server's own choice of device, where the user left it."""
    return replace(config, device=supply.device) if config.device == "auto" else config
