"""Training samples: random windows of annotated planes, deformed and weighted on the fly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.config import AugmentConfig, FinetuneConfig
from napari_unet.core.cells.instances import relative_distance, separate_touching, split_pieces
from napari_unet.core.network.augment import jitter_colour, jitter_grey, random_matrix
from napari_unet.core.network.elastic import displacement_field, sampling_grid, warp
from napari_unet.core.network.unet import UNetConfig, halo_px
from napari_unet.core.network.weight_map import class_weights, weight_map
from napari_unet.core.tiling import smallest_input_px, valid_input_px


@dataclass(frozen=True)
class AnnotatedPlane:
    """One plane with its truth; or a stack, whose arrays have a Z before Y.

    Attributes
    ----------
    image
        (C, Y, X) float32, normalised.
    labels
        (Y, X) int32 instance labels, 0 = background.
    trusted
        (Y, X) bool, where the labels are truth; None where all are.
    kinds
        (Y, X) uint8, class of each labelled pixel, from 1; None where all are 1.
    anisotropy
        Distance of a stack's planes, in pixels.
    belief
        How far the parent's word on what was not seen can be believed, in [0, 1].
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    trusted: NDArray[np.bool_] | None = None
    kinds: NDArray[np.uint8] | None = None
    anisotropy: float = 1.0
    belief: float = 0.0

    @property
    def classes(self) -> NDArray[np.int64]:
        """(Y, X), class of each pixel, 0 = background."""
        foreground = self.labels > 0
        return foreground.astype(np.int64) * (1 if self.kinds is None else self.kinds)

    def __post_init__(self) -> None:
        shapes = {self.image.shape[1:], self.labels.shape}
        for mask in (self.trusted, self.kinds):
            if mask is not None:
                shapes.add(mask.shape)
        if len(shapes) > 1:
            raise ValueError(
                f"image {self.image.shape[1:]}, labels {self.labels.shape} and trusted mask differ "
                "in size; give labels of this image"
            )


@dataclass(frozen=True)
class Sample:
    """One training tile; the truth covers the network's output, halo px smaller on each side.

    Attributes
    ----------
    image
        (C, S, S) float.
    labels
        (O, O) int32, deformed instances, touching ones separated.
    classes
        (O, O) int64.
    weight
        (O, O) float32, w(x); 0 where unseen.
    seen
        (O, O) bool.
    distance
        (O, O) float32, `core.cells.instances.relative_distance`.
    grid
        (1, S, S, 2), where each pixel came from (see `core.network.elastic.sampling_grid`).
        Samples of a stack have a Z before Y throughout, and are not cubes.
    plane
        The plane it came from.
    """

    image: Tensor
    labels: NDArray[np.int32]
    classes: Tensor
    weight: Tensor
    seen: Tensor
    distance: Tensor
    grid: Tensor
    plane: AnnotatedPlane


class Sampler:
    """Draws samples, reproducibly by seed.

    A plane is drawn with a probability in proportion to the root of its seen area; half of the
    windows are centred near a random object, the others anywhere that was seen.

    Parameters
    ----------
    planes
        The annotated planes.
    network
        Architecture the samples are for.
    config
        Tile size, weights, augmentation and seed.
    device
        Where samples are made.

    Raises
    ------
    ValueError
        If no pixel of any plane is trusted.
    """

    def __init__(
        self,
        planes: Sequence[AnnotatedPlane],
        network: UNetConfig,
        config: FinetuneConfig,
        device: torch.device,
    ) -> None:
        self._config, self._network, self._device = config, network, device
        self._rng = np.random.default_rng(config.seed)
        self._generator = torch.Generator(device).manual_seed(config.seed)
        self._sources = [
            self._source(plane) for plane in planes if plane.trusted is None or plane.trusted.any()
        ]
        if not self._sources:
            raise ValueError(
                "nothing to learn from: no pixel was corrected; paint on the labels first"
            )
        area = np.sqrt([source.seen_px for source in self._sources])
        self._probability = area / area.sum()
        counts = np.sum([source.class_counts(network.n_classes) for source in self._sources], 0)
        self.w_c = class_weights(counts, config.balance)
        self.input_px = self._size()

    def __reduce__(self) -> tuple[type[Sampler], tuple[object, ...]]:
        # Another process makes its own; as tensors, planes would each take a file of the system.
        planes = [source.plane for source in self._sources]
        return type(self), (planes, self._network, self._config, self._device)

    def reseed(self, stream: int) -> None:
        """Go on with the random numbers of one of several streams that the seed has."""
        self._rng = np.random.default_rng((self._config.seed, stream))
        self._generator.manual_seed(int(self._rng.integers(2**63)))

    def draw(self) -> Sample:
        """The next random sample."""
        source = self._sources[self._rng.choice(len(self._sources), p=self._probability)]
        halo = halo_px(self._network.depth)
        centre = source.random_centre(self._rng, (self.input_px - 2 * halo) / 4)
        a, g = self._config.augment, self._generator
        grid = random_grid(source.shape, centre, self.input_px, a, g)
        image = warp(source.image, grid)
        if source.in_colour and (a.colour or a.to_grey):
            image = jitter_colour(image, colour=a.colour, to_grey=a.to_grey, generator=g)
        image = jitter_grey(image, grey=a.grey, noise=a.noise, invert=a.invert, generator=g)
        truth = warp(source.truth, grid[:, halo:-halo, halo:-halo], nearest=True).cpu().numpy()
        labels = separate_touching(truth[0].astype(np.int32))
        seen = truth[1] > 0.5
        classes = np.where(labels > 0, truth[2], 0).astype(np.int64)
        weight = weight_map(labels, classes, self.w_c, self._config.w0, self._config.sigma_px)
        return Sample(
            image=image,
            labels=labels,
            classes=torch.from_numpy(classes).to(self._device),
            weight=torch.from_numpy(weight * seen).to(self._device),
            seen=torch.from_numpy(seen).to(self._device),
            distance=torch.from_numpy(truth[3]).to(self._device),
            grid=grid,
            plane=source.plane,
        )

    def _source(self, plane: AnnotatedPlane) -> Source:
        # Consecutive ids stay exact in float32.
        labels = split_pieces(plane.labels)
        distance = relative_distance(separate_touching(labels), plane.trusted)
        return Source(plane, labels, [distance], self._device)

    def _size(self) -> int:
        """Side of the windows: one larger than all planes would show their mirror images only."""
        depth = self._network.depth
        largest = max(max(source.shape) for source in self._sources) + 2 * halo_px(depth)
        needed = max(largest + 2**depth, smallest_input_px(depth))
        return valid_input_px(min(self._config.tile_px, needed), depth)


def random_grid(
    shape: Sequence[int],
    centre_px: Sequence[float],
    size_px: int,
    augment: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """One random deformation: elastic field, rotation, flip and zoom about a random centre.

    Parameters
    ----------
    shape
        (Y, X) of the source plane.
    centre_px
        (y, x) in it that the tile's centre shows.
    size_px
        Side S of the tile.
    augment
        Strengths.
    generator
        Source of the draws; the grid is made on its device.

    Returns
    -------
    (1, S, S, 2), see `core.network.elastic.sampling_grid`.
    """
    field = displacement_field(size_px, augment.elastic_sigma_px, augment.grid, generator=generator)
    matrix = random_matrix(
        rotate=augment.rotate, flip=augment.flip, scale=augment.scale, generator=generator
    )
    return sampling_grid(field, matrix, centre_px, shape)


class Source:
    """A plane, or a stack, on the device, with what is needed to draw windows from it.

    Parameters
    ----------
    plane
        Truth.
    labels
        Its instances; pieces that do not connect have ids of their own.
    derived
        What else follows from it and is deformed with it, each like the labels.
    device
        Where windows are drawn.
    """

    def __init__(
        self,
        plane: AnnotatedPlane,
        labels: NDArray[np.int32],
        derived: Sequence[NDArray[np.float32]],
        device: torch.device,
    ) -> None:
        self.plane = plane
        trusted = np.ones(labels.shape, bool) if plane.trusted is None else plane.trusted
        self.shape = labels.shape
        self.image = torch.from_numpy(np.ascontiguousarray(plane.image)).to(device)
        self.in_colour = len(plane.image) == 3 and any(
            not np.array_equal(plane.image[0], other) for other in plane.image[1:]
        )
        truth = np.stack([labels, trusted, plane.classes, *derived]).astype(np.float32)
        self.truth = torch.from_numpy(truth).to(device)
        self.seen_px = int(trusted.sum())
        self._trusted_labels = np.where(trusted, labels, 0)
        self._seen = None if trusted.all() else np.flatnonzero(trusted)
        self._objects = np.flatnonzero(np.bincount(self._trusted_labels.ravel())[1:]) + 1

    def class_counts(self, n_classes: int) -> NDArray[np.int64]:
        """Trusted pixels of each class."""
        classes = self.plane.classes
        if self.plane.trusted is not None:
            classes = classes[self.plane.trusted]
        return np.bincount(classes.ravel(), minlength=n_classes)

    def random_centre(
        self, rng: np.random.Generator, jitter_px: float | Sequence[float]
    ) -> tuple[float, ...]:
        """A place within the plane, at most so far from one that was seen along each axis."""
        if len(self._objects) and rng.random() < 0.5:
            chosen = self._trusted_labels == rng.choice(self._objects)
            pixel = int(rng.choice(np.flatnonzero(chosen)))
        elif self._seen is not None:
            pixel = int(rng.choice(self._seen))
        else:
            pixel = int(rng.integers(math.prod(self.shape)))
        jitter = np.broadcast_to(jitter_px, len(self.shape))
        place = np.unravel_index(pixel, self.shape) + rng.uniform(-jitter, jitter)
        return tuple(np.clip(place, 0, np.array(self.shape) - 1).tolist())
