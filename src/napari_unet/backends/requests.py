"""The requests of a backend: one frozen object for each kind of job.

A request says what is to be done. Who follows the job, where models are stored and what the user
looks at meanwhile are not part of it: these are parameters of the methods of `base.Backend`.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.boxes import Box
from napari_unet.corrections.annotations import Annotated
from napari_unet.learning.training import NewModel
from napari_unet.models.store import ModelVersion


@dataclass(frozen=True)
class SegmentRequest:
    """Segment planes of an image, whole stacks of it, or a box of one plane.

    Attributes
    ----------
    image
        Array-like with `shape`, indexed with integers and slices. Only the planes that are needed
        are read. The channel was taken already, unless `config.channel` is "auto".
    axes
        One letter of TZCYX for each axis of `image`.
    model
        The version to use.
    config
        Settings.
    planes
        Index of each plane along the axes other than C, Y, X, in the order of the work; at least
        one. A model of stacks, or `config.in_3d`, segments the whole stacks that they lie in.
    box
        Rows and columns of the first plane, in pixels: only there cells are labelled. None labels
        all of the planes.
    """

    image: LazyArray
    axes: str
    model: ModelVersion
    config: PredictConfig
    planes: tuple[tuple[int, ...], ...]
    box: Box | None = None


@dataclass(frozen=True)
class DiameterRequest:
    """Guess the diameter of the cells of one plane.

    Attributes
    ----------
    image, axes
        As of a `SegmentRequest`.
    index
        The plane, along the axes other than C, Y, X.
    model
        The version to use; a model of planes.
    config
        Settings; its `diameter_px` is not used.
    """

    image: LazyArray
    axes: str
    index: tuple[int, ...]
    model: ModelVersion
    config: PredictConfig


@dataclass(frozen=True)
class FinetuneRequest:
    """Improve a model from what was corrected now and from all earlier corrections of it.

    Attributes
    ----------
    annotated
        Images and what was corrected on them now, as `annotations.checked` gives them.
    parent
        The version to begin with.
    config
        Settings.
    name
        The model that gets the new version, and whose collection the corrections join.
    """

    annotated: tuple[Annotated, ...]
    parent: ModelVersion
    config: FinetuneConfig
    name: str


@dataclass(frozen=True)
class TrainRequest:
    """Train a model on densely labelled images.

    Attributes
    ----------
    annotated
        Images and labels, as `annotations.checked` gives them.
    start
        The version to go on from, or what a model with random weights is to look like.
    config
        Settings; see `config.train_config`.
    name
        The model that gets the new version.
    trained_on
        What the images are, in words, for the header.
    """

    annotated: tuple[Annotated, ...]
    start: ModelVersion | NewModel
    config: FinetuneConfig
    name: str
    trained_on: tuple[str, ...] = ()
