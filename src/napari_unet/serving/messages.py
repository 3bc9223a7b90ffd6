"""What client and server tell each other: data classes, sent as JSON (`jsons`).

A request has the fields of the request of the backend (`backends.requests`), without its images
and with the SHA-256 of the model's file in place of the path. Planes and labels are inputs: the job
asks for them by key when it needs them. A plane is sent as (C, Y, X). The image of a segmentation
consists of the planes of the request alone, with the axes TCYX; or TZCYX where they form whole
stacks. Files (models, corrections) are known by their SHA-256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.boxes import Box
from napari_unet.core.cells.suggestions import Place
from napari_unet.core.intensity import Statistics
from napari_unet.jobs import TooShort
from napari_unet.learning.training import NewModel
from napari_unet.learning.validation import Check, Verdict
from napari_unet.models.header_rules import is_name
from napari_unet.segmentation.looking import Look

# Client and server must have the same release: what they exchange may change with it.
try:
    RELEASE = version("napari-unet")
except PackageNotFoundError:
    RELEASE = version("napari-unet-client")
SHA256 = re.compile(r"[0-9a-f]{64}")
JOB_ID = re.compile(r"[0-9a-f]{32}")
# An input that is no file.
INPUT = re.compile(r"(image|labels|seen) \d{1,9}")
_ENTRY = re.compile(r"[a-z0-9-]{1,200}-\d{4,12}")

Kind = Literal["segment", "diameter", "finetune", "train"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
Right = Literal["segment", "teach"]
ENDED = ("done", "failed", "cancelled")
# What a person must have the right to, for each kind of job.
RIGHTS: Mapping[str, Right] = {
    "segment": "segment", "diameter": "segment", "finetune": "teach", "train": "teach",
}  # fmt: skip


@dataclass(frozen=True)
class SentModel:
    """A version of a model, and the SHA-256 of its file."""

    name: str
    version: int
    sha256: str

    def __post_init__(self) -> None:
        _require(is_name(self.name), "the name of the model cannot be one")
        _require(SHA256.fullmatch(self.sha256), "the SHA-256 of the model has not 64 digits")


@dataclass(frozen=True)
class SentEntry:
    """A correction of a collection: its key, and the SHA-256 of image, labels, seen and json."""

    key: str
    files: tuple[str, str, str, str]

    def __post_init__(self) -> None:
        _require(_ENTRY.fullmatch(self.key), "the key of a correction cannot be one")
        _require(all(map(SHA256.fullmatch, self.files)), "a SHA-256 has not 64 digits")


@dataclass(frozen=True)
class SentPlane:
    """A corrected plane; its image, labels and seen pixels are inputs, numbered in their order.

    Attributes
    ----------
    name, classes, statistics, offset_px
        As of `annotations.Annotated` and its `Correction`.
    all_seen
        Whether all pixels were seen; there is no input of seen pixels then.
    """

    name: str
    classes: Mapping[int, str]
    statistics: Statistics | None
    offset_px: tuple[int, int]
    all_seen: bool


@dataclass(frozen=True)
class SegmentMessage:
    """A `SegmentRequest`; `shape` is that of the image, see the top."""

    axes: Literal["TCYX", "TZCYX"]
    shape: tuple[int, ...]
    model: SentModel
    config: PredictConfig
    planes: tuple[tuple[int, ...], ...]
    box: Box | None

    def __post_init__(self) -> None:
        _require(len(self.shape) == len(self.axes), "the shape does not fit the axes")
        _require(all(0 < n < 1 << 31 for n in self.shape), "a length in the shape cannot be")
        others = [n for a, n in zip(self.axes, self.shape, strict=True) if a in "TZ"]
        inside = (
            len(index) == len(others)
            and all(0 <= i < n for i, n in zip(index, others, strict=True))
            for index in self.planes
        )
        _require(self.planes and all(inside), "there is no plane, or one is not in the image")


@dataclass(frozen=True)
class DiameterMessage:
    """A `DiameterRequest`; its plane is the input "image 0", its result a number, in pixels."""

    model: SentModel
    config: PredictConfig


@dataclass(frozen=True)
class FinetuneMessage:
    """A `FinetuneRequest`, with what the client has stored already (`learning.finetune.Kept`)."""

    annotated: tuple[SentPlane, ...]
    parent: SentModel
    config: FinetuneConfig
    name: str
    entries: tuple[SentEntry, ...]
    diameter_px: float | None
    zoom: float

    def __post_init__(self) -> None:
        _check_learning(self.name, self.config)
        _require(0.001 < self.zoom < 1000, "the zoom cannot be")


@dataclass(frozen=True)
class TrainMessage:
    """A `TrainRequest`."""

    annotated: tuple[SentPlane, ...]
    start: SentModel | NewModel
    config: FinetuneConfig
    name: str
    trained_on: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_learning(self.name, self.config)


@dataclass(frozen=True)
class SentInput:
    """Which blob is an input of a job."""

    key: str
    sha256: str

    def __post_init__(self) -> None:
        _require(INPUT.fullmatch(self.key), "the key cannot be one of an input")
        _require(SHA256.fullmatch(self.sha256), "the SHA-256 of the input has not 64 digits")


@dataclass(frozen=True)
class Wishes:
    """What a user wishes of a training: that it ends early and is kept, or its new length."""

    finish: bool = False
    extended_s: float | None = None


MESSAGES: Mapping[str, type[Any]] = {
    "segment": SegmentMessage,
    "diameter": DiameterMessage,
    "finetune": FinetuneMessage,
    "train": TrainMessage,
}


@dataclass(frozen=True)
class SentView:
    """What the user looks at: a piece of one plane (C, Y, X), which is a blob.

    Attributes
    ----------
    shape
        Of the whole plane.
    box
        Rows and columns in view.
    at
        Row and column of the first pixel of the piece.
    statistics
        Intensities of the plane that become 0 and 1.
    sha256
        Of the piece.
    """

    shape: tuple[int, int, int]
    box: Box
    at: tuple[int, int]
    statistics: Statistics
    sha256: str

    def __post_init__(self) -> None:
        _require(SHA256.fullmatch(self.sha256), "the SHA-256 of the view has not 64 digits")
        _require(min(self.at) >= 0, "the view lies outside of its plane")


@dataclass(frozen=True)
class SentPreview:
    """Labels of a part of the view: a packed array (Y, X) int32 in base64.

    `sha256` is that of the `SentView`.
    """

    sha256: str
    box: Box
    labels: str


@dataclass(frozen=True)
class SentProgress:
    """A `jobs.Progress`, with its number; only of the latest one the preview is sent."""

    number: int
    fraction: float
    message: str
    loss: float | None = None
    held_out: float | None = None
    too_short: TooShort | None = None
    preview: SentPreview | None = None


@dataclass(frozen=True)
class JobStatus:
    """The state of a job, as its client gets it.

    Attributes
    ----------
    position
        Number of jobs before this one; 0 for one that runs.
    begins_s
        Seconds until it is expected to begin, from how long jobs took; None if that is not known.
    news
        Later progress reports.
    since
        Number of the last one.
    wants
        Keys of inputs, and SHA-256 of files, to send.
    error
        The sentence of its error, if it failed.
    begun
        How many times a worker has begun it: it begins again where one died.
    """

    kind: Kind
    state: State
    position: int
    begins_s: float | None
    news: tuple[SentProgress, ...]
    since: int
    wants: tuple[str, ...]
    error: str
    begun: int


@dataclass(frozen=True)
class Hello:
    """Who the server is, and who it takes the client for."""

    release: str
    computer: str
    person: str
    rights: tuple[str, ...]


@dataclass(frozen=True)
class SegmentResult:
    """A `Segmentation` without its labels, which are the output "labels"."""

    compute: str
    diameter_px: float
    kinds: tuple[str, ...]
    places: tuple[tuple[tuple[int, ...], Place], ...]
    warnings: tuple[str, ...]
    look: Look


@dataclass(frozen=True)
class TrainedResult:
    """An `Improvement` without its model, whose file is the output "model".

    The index of a slip is (number of the corrected plane,).
    """

    verdict: Verdict
    check: Check | None
    replay: Check | None
    steps: int
    compute: str
    slips: tuple[tuple[tuple[int], Place], ...] = field(default=())


def image_key(number: int) -> str:
    """Return the key of a plane; planes are numbered from 0."""
    return f"image {number}"


def labels_key(number: int) -> str:
    """Return the key of the labels of a corrected plane."""
    return f"labels {number}"


def seen_key(number: int) -> str:
    """Return the key of the seen pixels of a corrected plane."""
    return f"seen {number}"


def _check_learning(name: str, config: FinetuneConfig) -> None:
    _require(is_name(name), "the name cannot be a model's")
    _require(config.workers <= 16, f"workers is {config.workers}; a server starts 16 at most")


def _require(holds: object, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
