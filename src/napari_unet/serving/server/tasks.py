"""What a worker does for each kind of job: the local backend, with what the client sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from napari_unet.backends.requests import DiameterRequest, SegmentRequest, TrainRequest
from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import Index, Pixels
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.corrections.collection import Collection
from napari_unet.corrections.entries import EntryFiles
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, Part
from napari_unet.learning.finetune import Improvement, Kept, teach
from napari_unet.models.header import read_header
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.serving.arrays import pack_array
from napari_unet.serving.messages import (
    DiameterMessage,
    FinetuneMessage,
    SegmentMessage,
    SegmentResult,
    SentModel,
    SentPlane,
    TrainedResult,
    TrainMessage,
    image_key,
    labels_key,
    seen_key,
)
from napari_unet.serving.server.inputs import JobInputs

Config = TypeVar("Config", PredictConfig, FinetuneConfig)


class FetchedPlanes:
    """An image that is fetched from the client; the planes of the last T are kept.

    Parameters
    ----------
    inputs
        Fetches the planes; they are numbered in the order of the image.
    shape
        T, C, Y, X, or T, Z, C, Y, X.
    """

    def __init__(self, inputs: JobInputs, shape: tuple[int, ...]) -> None:
        self._inputs, self.shape, self.ndim = inputs, shape, len(shape)
        self._number, self._part = -1, np.zeros(shape[1:2])

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
        keys = [image_key(n) for n in range(number * size, (number + 1) * size)]
        if len(self.shape) == 5:
            return np.stack([self._checked(plane) for plane in self._inputs.fetch_many(keys)])
        # The next plane is sent while this one is worked on.
        ahead = [image_key(number + 1)] if number + 1 < self.shape[0] else []
        (plane,) = self._inputs.fetch(*keys, ahead=ahead)
        return self._checked(plane)

    def _checked(self, plane: Pixels) -> Pixels:
        if plane.shape != self.shape[-3:]:
            raise ValueError(
                f"a plane is {plane.shape} and the image has planes of {self.shape[-3:]}; "
                "send it again"
            )
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


def segment(job: Job[object], message: SegmentMessage, inputs: JobInputs) -> SegmentResult:
    """Segment an image; its labels are the output "labels"."""
    request = SegmentRequest(
        FetchedPlanes(inputs, message.shape),
        message.axes,
        _model(message.model, inputs),
        _on_device(message.config, inputs),
        message.planes,
        message.box,
    )
    # Labels of finished planes are not sent: a `Part` reports the progress without them.
    found = inputs.backend.segment(Part(job, 0, 1), request)
    inputs.output("labels", pack_array(found.labels))
    return SegmentResult(
        found.compute, found.diameter_px, found.kinds, found.places, found.warnings, found.look
    )


def guess_diameter(job: Job[object], message: DiameterMessage, inputs: JobInputs) -> float:
    """Guess the diameter of the cells of a plane."""
    model = _model(message.model, inputs)
    (plane,) = inputs.fetch(image_key(0))
    config = _on_device(message.config, inputs)
    request = DiameterRequest(OnePlane(_plane(plane)), "TCYX", (0,), model, config)
    return float(inputs.backend.guess_diameter(job, request))


def finetune(job: Job[object], message: FinetuneMessage, inputs: JobInputs) -> TrainedResult:
    """Learn from corrections that the client has stored already; see `finetune.teach`."""
    job.report(0.0, "sending the corrections")
    model = _model(message.parent, inputs)
    paths = inputs.files([sha256 for entry in message.entries for sha256 in entry.files])
    annotated = _annotated(message.annotated, inputs)
    with _folder(inputs) as folder:
        store, files = ModelStore(folder / "models"), EntryFiles(folder / "seen")
        for number, entry in enumerate(message.entries):
            for target, source in zip(
                (*files.arrays(entry.key), files.folder / f"{entry.key}.json"),
                paths[4 * number : 4 * number + 4],
                strict=True,
            ):
                with replacing(target) as part:
                    part.write_bytes(source.read_bytes())
            _check_entry(files, entry.key)
        done = teach(
            job,
            store,
            Kept(Collection(files.folder), message.diameter_px, message.zoom),
            annotated,
            model,
            _on_device(message.config, inputs),
            message.name,
            inputs.view,
        )
        return _trained(done, inputs)


def train(job: Job[object], message: TrainMessage, inputs: JobInputs) -> TrainedResult:
    """Train a model on labelled images."""
    job.report(0.0, "sending the images")
    start = message.start
    request = TrainRequest(
        tuple(_annotated(message.annotated, inputs)),
        _model(start, inputs) if isinstance(start, SentModel) else start,
        _on_device(message.config, inputs),
        message.name,
        message.trained_on,
    )
    with _folder(inputs) as folder:
        return _trained(inputs.backend.train(job, ModelStore(folder), request), inputs)


TASKS: Mapping[str, Callable[[Job[object], Any, JobInputs], object]] = {
    "segment": segment,
    "diameter": guess_diameter,
    "finetune": finetune,
    "train": train,
}


def _annotated(planes: tuple[SentPlane, ...], inputs: JobInputs) -> list[Annotated]:
    """Return the corrected planes; the index of each is (its number,)."""
    numbers = range(len(planes))
    keys = [[image_key(n), labels_key(n)] for n in numbers]
    for number in numbers:
        if not planes[number].all_seen:
            keys[number].append(seen_key(number))
    arrays = inputs.fetch_many(key for each in keys for key in each)
    found = []
    for number, sent in enumerate(planes):
        image, labels = _plane(next(arrays)), next(arrays)
        seen = None if sent.all_seen else next(arrays).astype(bool)
        if labels.shape != image.shape[1:] or (seen is not None and seen.shape != labels.shape):
            raise ValueError("the labels of a plane have another size than its image")
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype}; send whole numbers")
        correction = Correction((number,), labels.astype(np.int32), seen, dict(sent.classes))
        found.append(
            Annotated(
                OnePlane(image), "TCYX", (correction,), sent.name, sent.statistics, sent.offset_px
            )
        )
    return found


def _plane(array: Pixels) -> Pixels:
    if array.ndim != 3:
        raise ValueError(f"a plane has {array.ndim} axes; send C, Y, X")
    return array


def _check_entry(files: EntryFiles, key: str) -> None:
    """Check that the files of a correction are of the size that it says, before they are read."""
    from tifffile import TiffFile, TiffFileError

    facts = files.facts(key)
    sizes = (facts.image_shape, facts.entry.shape, facts.entry.shape)
    for path, shape in zip(files.arrays(key), sizes, strict=True):
        try:
            with TiffFile(path) as tif:
                found = sum(page.size for page in tif.pages)
        except (TiffFileError, ValueError, OSError, KeyError, TypeError) as error:
            raise ValueError(f"a file of the correction {key!r} is no image ({error})") from error
        if found != math.prod(shape):
            raise ValueError(f"a file of the correction {key!r} is not of the size that it says")


def _trained(done: Improvement, inputs: JobInputs) -> TrainedResult:
    inputs.output("model", done.model.path.read_bytes())
    slips = tuple(((slip.index[0],), slip.place) for slip in done.slips)
    return TrainedResult(done.verdict, done.check, done.replay, done.steps, done.compute, slips)


def _model(sent: SentModel, inputs: JobInputs) -> ModelVersion:
    """Return a version that was sent, once its file is here."""
    (path,) = inputs.files([sent.sha256])
    return ModelVersion(sent.name, sent.version, path, read_header(path))


@contextmanager
def _folder(inputs: JobInputs) -> Iterator[Path]:
    """Give a folder inside that of the job; it is deleted afterwards."""
    with TemporaryDirectory(dir=inputs.folder) as folder:
        yield Path(folder)


def _on_device(config: Config, inputs: JobInputs) -> Config:
    """Return settings with the server's device, if the user left the choice."""
    return replace(config, device=inputs.device) if config.device == "auto" else config
