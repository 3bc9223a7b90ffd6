"""The tasks of a server: a request of a backend as it is sent, and done there by the local backend.

A request is sent without its images, and with the hash of the model's file in place of the path.
The task fetches both when it runs; see `worker.TaskInputs`. A plane is sent as (C, Y, X). On the
server the image of a `SegmentRequest` consists of the planes of the request alone, with the axes
TCYX; or TZCYX where they form whole stacks.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import Index, Pixels
from napari_unet.core.axes import get_plane
from napari_unet.corrections.annotations import Annotated
from napari_unet.corrections.collection import Collection
from napari_unet.corrections.entries import EntryFiles
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, Part
from napari_unet.learning.finetune import Improvement, Kept, teach
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.remote.worker import TaskInputs, unpack
from napari_unet.segmentation.planes import Segmentation

Config = TypeVar("Config", PredictConfig, FinetuneConfig)
# The key of the corrections of a fine-tune.
ANNOTATED = "annotated"


@dataclass(frozen=True)
class SentEntry:
    """A correction of a collection, known by its key and the hash of its files together."""

    key: str
    sha256: str


@dataclass(frozen=True)
class Trained:
    """The result of a task that trains: the content of the model's file, and what is known of it.

    The paths in `done` are those of the server, where the files are deleted.
    """

    content: bytes
    done: Improvement


class FetchedPlanes:
    """An image that is fetched from the client; the planes of the last T are kept.

    Parameters
    ----------
    inputs
        Fetches the planes; they are numbered in the order of the image.
    shape
        T, C, Y, X, or T, Z, C, Y, X.
    """

    def __init__(self, inputs: TaskInputs, shape: tuple[int, ...]) -> None:
        self._inputs, self.shape, self.ndim = inputs, shape, len(shape)
        self._number, self._part = -1, np.zeros(shape[1:])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the pixels; the first plane is fetched to see it."""
        return self[0].dtype

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.stack([self[number] for number in range(self.shape[0])], dtype=dtype)

    def __getitem__(self, key: Index) -> Pixels:
        number, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(number, slice | EllipsisType):
            # A slice along T is read for a sample of the image only: it gets the first plane.
            return self[(0, *rest)][None]
        if number != self._number:
            self._number, self._part = number, self._fetch(number)
        return self._part[tuple(rest)]

    def _fetch(self, number: int) -> Pixels:
        size = math.prod(self.shape[1:-3])
        keys = [plane_key(n) for n in range(number * size, (number + 1) * size)]
        if len(self.shape) == 5:
            return np.stack([unpack(content) for content in self._inputs.fetch_many(keys)])
        # The next plane is sent while this one is worked on.
        ahead = [plane_key(number + 1)] if number + 1 < self.shape[0] else []
        (content,) = self._inputs.fetch(*keys, ahead=ahead)
        plane: Pixels = unpack(content)
        return plane


@dataclass(frozen=True)
class OnePlane:
    """An image of which one plane (C, Y, X) was sent: every index gives that plane."""

    plane: Pixels

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, C, Y, X)."""
        return (1, *self.plane.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 4

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the pixels."""
        return self.plane.dtype

    def __getitem__(self, key: Index) -> Pixels:
        return self.plane

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.array(self.plane[None], dtype=dtype)


@dataclass(frozen=True)
class SegmentTask:
    """Segments an image.

    Attributes
    ----------
    request
        Without its image, and its axes are those of `shape`.
    shape
        Of the image, see `FetchedPlanes`.
    """

    request: SegmentRequest
    shape: tuple[int, ...]

    def __call__(self, job: Job[object], inputs: TaskInputs) -> Segmentation:
        """Run in the worker."""
        request = replace(
            self.request,
            image=FetchedPlanes(inputs, self.shape),
            model=_received(self.request.model, inputs),
            config=_on_device(self.request.config, inputs),
        )
        # Labels of finished planes are not sent: a `Part` reports the progress without them.
        found = inputs.backend.segment(Part(job, 0, 1), request)
        # Scores are many times larger than labels, and their model is a whole network.
        return replace(found, scores=None)


@dataclass(frozen=True)
class DiameterTask:
    """Guesses the diameter of cells; the request has no image, its axes are TCYX."""

    request: DiameterRequest

    def __call__(self, job: Job[object], inputs: TaskInputs) -> float:
        """Run in the worker."""
        model = _received(self.request.model, inputs)
        (content,) = inputs.fetch(plane_key(0))
        request = replace(
            self.request,
            image=OnePlane(unpack(content)),
            model=model,
            config=_on_device(self.request.config, inputs),
        )
        return inputs.backend.guess_diameter(job, request)


@dataclass(frozen=True)
class FinetuneTask:
    """Learns from corrections that the client has stored already; see `finetune.teach`.

    Attributes
    ----------
    request
        Without `annotated`, which is fetched.
    entries
        The corrections in the model's collection.
    diameter_px, zoom
        As of `finetune.Kept`.
    """

    request: FinetuneRequest
    entries: tuple[SentEntry, ...]
    diameter_px: float | None
    zoom: float

    def __call__(self, job: Job[object], inputs: TaskInputs) -> Trained:
        """Run in the worker, with a store and a collection that are deleted afterwards."""
        job.report(0.0, "sending the corrections")
        files = inputs.files([entry.sha256 for entry in self.entries])
        (content,) = inputs.fetch(ANNOTATED)
        annotated: list[Annotated] = unpack(content)
        with TemporaryDirectory() as folder:
            store, collection = ModelStore(Path(folder, "models")), Collection(Path(folder, "seen"))
            for entry, path in zip(self.entries, files, strict=True):
                unpack_entry(path.read_bytes(), collection, entry.key)
            done = teach(
                job,
                store,
                Kept(collection, self.diameter_px, self.zoom),
                annotated,
                _received(self.request.parent, inputs),
                _on_device(self.request.config, inputs),
                self.request.name,
                inputs.view,
            )
            return Trained(done.model.path.read_bytes(), done)


@dataclass(frozen=True)
class TrainTask:
    """Trains a model on labelled images.

    Attributes
    ----------
    request
        Without `annotated`, which is fetched.
    n_planes
        Number of labelled planes; each is sent as an image of its own.
    """

    request: TrainRequest
    n_planes: int

    def __call__(self, job: Job[object], inputs: TaskInputs) -> Trained:
        """Run in the worker, with a store that is deleted afterwards."""
        job.report(0.0, "sending the images")
        keys = map(plane_key, range(self.n_planes))
        annotated = tuple(unpack(content) for content in inputs.fetch_many(keys))
        start = self.request.start
        request = replace(
            self.request,
            annotated=annotated,
            start=_received(start, inputs) if isinstance(start, ModelVersion) else start,
            config=_on_device(self.request.config, inputs),
        )
        with TemporaryDirectory() as folder:
            done = inputs.backend.train(job, ModelStore(Path(folder)), request)
            return Trained(done.model.path.read_bytes(), done)


def sent_model(version: ModelVersion) -> tuple[ModelVersion, dict[str, Callable[[], bytes]]]:
    """Return a version with its file's SHA-256 in place of the path, and the file by that hash."""
    content = version.path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return replace(version, path=Path(sha256)), {sha256: lambda: content}


def plane_key(number: int) -> str:
    """Return the key of a plane that is sent; planes are numbered from 0."""
    return f"plane {number}"


def one_by_one(annotated: Sequence[Annotated]) -> list[Annotated]:
    """Return an image for each correction, with its plane alone; numbered (0,), (1,), ..."""
    found: list[Annotated] = []
    for item in annotated:
        for correction in item.corrections:
            plane = get_plane(item.image, item.axes, correction.index)
            alone = (replace(correction, index=(len(found),)),)
            image = OnePlane(np.ascontiguousarray(plane))
            found.append(replace(item, image=image, axes="TCYX", corrections=alone))
    return found


def pack_entry(collection: Collection, key: str) -> bytes:
    """Return the content of a correction's files, pickled."""
    return pickle.dumps([path.read_bytes() for path in _paths(collection, key)])


def unpack_entry(content: bytes, collection: Collection, key: str) -> None:
    """Write the files of a correction."""
    for path, part in zip(_paths(collection, key), pickle.loads(content), strict=True):
        with replacing(path) as target:
            target.write_bytes(part)


def _paths(collection: Collection, key: str) -> tuple[Path, ...]:
    return (*EntryFiles(collection.folder).arrays(key), collection.folder / f"{key}.json")


def _received(model: ModelVersion, inputs: TaskInputs) -> ModelVersion:
    """Return a version that was sent with the path of its file on this computer."""
    (path,) = inputs.files([model.path.name])
    return replace(model, path=path)


def _on_device(config: Config, inputs: TaskInputs) -> Config:
    """Return settings with the server's device, if the user left the choice."""
    return replace(config, device=inputs.device) if config.device == "auto" else config
