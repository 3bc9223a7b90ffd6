"""Training samples: random windows of annotated planes, deformed and weighted as they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.config import LARGE_TILE_PX, AugmentConfig, FinetuneConfig
from napari_unet.core.cells.instances import relative_distance, separate_touching, split_pieces
from napari_unet.core.network.augment import jitter_colour, jitter_grey, random_matrix
from napari_unet.core.network.elastic import displacement_field, sampling_grid, warp
from napari_unet.core.network.unet import UNetConfig, halo_px
from napari_unet.core.network.weight_map import border_reach_px, class_weights, weight_map
from napari_unet.core.tiling import smallest_input_px, valid_input_px
from napari_unet.engine.random_state import Random

# Fraction of the windows that are moved away from seen pixels, if the anchor is 1 or more. A minute
# has three times as many small windows as large ones, so as many as before show surroundings.
_FAR = 1 / 3


@dataclass(frozen=True)
class AnnotatedPlane:
    """A plane with its labels; or a stack, whose arrays have a Z before Y.

    Attributes
    ----------
    image
        (C, Y, X) float32, normalised.
    labels
        (Y, X) int32 labels, 0 = background.
    seen
        (Y, X) bool, pixels that were seen, where the labels are right; None for all pixels.
    cell_classes
        (Y, X) uint8, class of each pixel in a cell, from 1; None if all are 1.
    anisotropy
        Distance between the planes of a stack, in pixels.
    belief
        How far the parent's prediction on unseen pixels can be believed, in [0, 1].
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    seen: NDArray[np.bool_] | None = None
    cell_classes: NDArray[np.uint8] | None = None
    anisotropy: float = 1.0
    belief: float = 0.0

    @property
    def classes(self) -> NDArray[np.int64]:
        """The class of each pixel, (Y, X), 0 = background."""
        foreground = self.labels > 0
        return foreground.astype(np.int64) * (1 if self.cell_classes is None else self.cell_classes)

    def __post_init__(self) -> None:
        shapes = {self.image.shape[1:], self.labels.shape}
        for mask in (self.seen, self.cell_classes):
            if mask is not None:
                shapes.add(mask.shape)
        if len(shapes) > 1:
            raise ValueError(
                f"image {self.image.shape[1:]}, labels {self.labels.shape} and mask of seen pixels "
                "differ in size; give labels of this image"
            )


@dataclass(frozen=True)
class Sample:
    """One training tile. All but the image and the grid cover the network's smaller output.

    Attributes
    ----------
    image
        (C, S, S) float.
    labels
        (O, O) int32, deformed cells; touching ones are separated.
    classes
        (O, O) int64, class of each pixel.
    weight
        (O, O) float32, w(x); 0 where unseen.
    seen
        (O, O) bool, pixels that were seen.
    distance
        (O, O) float32, `core.cells.instances.relative_distance`.
    grid
        (1, S, S, 2), where each pixel of the image came from (see
        `core.network.elastic.sampling_grid`). Samples of a stack have a Z before Y in all arrays,
        and are not cubes.
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
    """Draws samples at random; the same seed gives the same samples.

    The probability of a plane grows with the square root of its seen area. Half of the windows are
    centred near a random cell, the others near any seen pixel. With an anchor, up to a third of
    small windows are moved away from there, so that they reach as far into unseen surroundings,
    where the model is to stay as it is, as large windows do.

    Parameters
    ----------
    planes
        The annotated planes.
    network
        Architecture of the network to train.
    config
        Tile size, weights, augmentation and seed.
    device
        Where samples are made.

    Raises
    ------
    ValueError
        If no pixel of any plane was seen.
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
            self._source(plane) for plane in planes if plane.seen is None or plane.seen.any()
        ]
        if not self._sources:
            raise ValueError(
                "nothing to learn from: no pixel was corrected; paint at least one cell"
            )
        area = np.sqrt([source.seen_px for source in self._sources])
        self._probability = area / area.sum()
        counts = np.sum([source.class_counts(network.n_classes) for source in self._sources], 0)
        self.w_c = class_weights(counts, config.balance)
        self.input_px = self._size()

    def __reduce__(self) -> tuple[type[Sampler], tuple[object, ...]]:
        # Another process makes its own sampler from the arrays. If tensors were sent, each would
        # need a file handle of the system.
        planes = [source.plane for source in self._sources]
        return type(self), (planes, self._network, self._config, self._device)

    def reseed(self, stream: int) -> None:
        """Continue with other random numbers, which follow from the seed and this number."""
        self._rng = np.random.default_rng((self._config.seed, stream))
        self._generator.manual_seed(int(self._rng.integers(2**63)))

    @property
    def random(self) -> tuple[Random, ...]:
        """Its sources of random numbers, on which the next samples depend."""
        return self._rng, self._generator

    def draw(self) -> Sample:
        """Return the next random sample."""
        source = self._sources[self._rng.choice(len(self._sources), p=self._probability)]
        halo = halo_px(self._network.depth)
        centre = source.random_centre(self._rng, self._jitter_px(source))
        a, g = self._config.augment, self._generator
        grid = random_grid(source.shape, centre, self.input_px, a, g)
        image = warp(source.image, grid)
        if source.in_colour and (a.colour or a.to_grey):
            image = jitter_colour(image, colour=a.colour, to_grey=a.to_grey, generator=g)
        image = jitter_grey(image, grey=a.grey, noise=a.noise, invert=a.invert, generator=g)
        # Cells beside the output take part in its border weights.
        beside = min(halo, border_reach_px(self._config.sigma_px))
        read = slice(halo - beside, self.input_px - (halo - beside))
        truth = warp(source.truth, grid[:, read, read], nearest=True).cpu().numpy()
        labels = separate_touching(truth[0].astype(np.int32))
        seen = truth[1] > 0.5
        classes = np.where(labels > 0, truth[2], 0).astype(np.int64)
        weight = weight_map(labels, classes, self.w_c, self._config.w0, self._config.sigma_px)
        inner = np.s_[beside:-beside, beside:-beside]
        return Sample(
            image=image,
            labels=labels[inner],
            classes=torch.from_numpy(classes[inner]).to(self._device),
            weight=torch.from_numpy((weight * seen)[inner]).to(self._device),
            seen=torch.from_numpy(seen[inner]).to(self._device),
            distance=torch.from_numpy(truth[3][inner]).to(self._device),
            grid=grid,
            plane=source.plane,
        )

    def _jitter_px(self, source: Source) -> float:
        """Return how far the next window may lie from a seen pixel, on each axis."""
        around = 2 * halo_px(self._network.depth)
        output, large = self.input_px - around, LARGE_TILE_PX - around
        # A weak anchor learns little from surroundings.
        share = _FAR * min(1.0, self._config.anchor)
        is_small = self._config.side_px < LARGE_TILE_PX
        if share and is_small and source.has_unseen and self._rng.random() < share:
            # A large window reaches a quarter of its output further than half of it.
            return 0.75 * large - 0.5 * output
        return output / 4

    def _source(self, plane: AnnotatedPlane) -> Source:
        # Consecutive ids stay exact in float32.
        labels = split_pieces(plane.labels)
        distance = relative_distance(separate_touching(labels), plane.seen)
        return Source(plane, labels, [distance], self._device)

    def _size(self) -> int:
        """Return the side of the windows, in pixels: not more than the largest plane needs."""
        depth = self._network.depth
        largest = max(max(source.shape) for source in self._sources) + 2 * halo_px(depth)
        needed = max(largest + 2**depth, smallest_input_px(depth))
        return valid_input_px(min(self._config.side_px, needed), depth)


def random_grid(
    shape: Sequence[int],
    centre_px: Sequence[float],
    size_px: int,
    augment: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """Draw a random deformation: elastic field, rotation, flip and zoom about a centre.

    Parameters
    ----------
    shape
        (Y, X) of the source plane.
    centre_px
        (y, x), the point of the source that the tile's centre shows.
    size_px
        Side S of the tile, in pixels.
    augment
        Strength of the deformation.
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
    """An annotated plane, or stack, on the device, with all that is needed to draw windows from it.

    Parameters
    ----------
    plane
        The annotated plane.
    labels
        Its cells; pieces that are not connected have different ids.
    derived
        Arrays that follow from the labels and are deformed with them, each of the same shape.
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
        seen = np.ones(labels.shape, bool) if plane.seen is None else plane.seen
        self.shape = labels.shape
        self.image = torch.from_numpy(np.ascontiguousarray(plane.image)).to(device)
        self.in_colour = len(plane.image) == 3 and any(
            not np.array_equal(plane.image[0], other) for other in plane.image[1:]
        )
        truth = np.stack([labels, seen, plane.classes, *derived]).astype(np.float32)
        self.truth = torch.from_numpy(truth).to(device)
        self.seen_px = int(seen.sum())
        self._seen_labels = np.where(seen, labels, 0)
        self.has_unseen = not seen.all()
        self._seen = np.flatnonzero(seen) if self.has_unseen else None
        self._objects = np.flatnonzero(np.bincount(self._seen_labels.ravel())[1:]) + 1

    def class_counts(self, n_classes: int) -> NDArray[np.int64]:
        """Return the number of seen pixels of each class."""
        classes = self.plane.classes
        if self.plane.seen is not None:
            classes = classes[self.plane.seen]
        return np.bincount(classes.ravel(), minlength=n_classes)

    def random_centre(
        self, rng: np.random.Generator, jitter_px: float | Sequence[float]
    ) -> tuple[float, ...]:
        """Return a random point of the plane, within `jitter_px` of a seen pixel on each axis."""
        if len(self._objects) and rng.random() < 0.5:
            chosen = self._seen_labels == rng.choice(self._objects)
            pixel = int(rng.choice(np.flatnonzero(chosen)))
        elif self._seen is not None:
            pixel = int(rng.choice(self._seen))
        else:
            pixel = int(rng.integers(math.prod(self.shape)))
        jitter = np.broadcast_to(jitter_px, len(self.shape))
        place = np.unravel_index(pixel, self.shape) + rng.uniform(-jitter, jitter)
        return tuple(np.clip(place, 0, np.array(self.shape) - 1).tolist())
