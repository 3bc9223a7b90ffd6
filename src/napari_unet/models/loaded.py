"""A model in memory: raw planes in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.checks import check_plane
from napari_unet.core.intensity import (
    Normalisation,
    Statistics,
    match_channels,
    measure,
    measure_sample,
    normalise,
    spread_dye,
)
from napari_unet.core.missing import filled
from napari_unet.models.device import (
    Compute,
    default_stack_tile_px,
    default_tile_px,
    run_within_memory,
)
from napari_unet.models.header import ModelHeader

if TYPE_CHECKING:
    from napari_unet.core.cells.blockwise import Decoding
    from napari_unet.core.network.unet import UNet
    from napari_unet.engine.predict import Predictor

Box = tuple[slice, slice]
# Typical diameter of the cells in training sets of mixed images (dsb2018: median 20 px).
MIXED_DIAMETER_PX = 24.0


def zoom_to(header: ModelHeader, diameter_px: float | None) -> float:
    """See `LoadedModel.zoom`."""
    if diameter_px is None:
        return header.zoom
    return header.zoom * (header.diameter_px or MIXED_DIAMETER_PX) / diameter_px


@dataclass(frozen=True)
class PlaneScores:
    """What a network says of a plane, or of a stack, whose arrays have a Z before Y.

    Attributes
    ----------
    foreground
        (Y, X) float32, probability that a pixel belongs to a cell.
    kinds
        (Y, X) uint8, likeliest class of a pixel if it belongs to one, from 1; None where a model
        knows one class only.
    zoom
        The network saw the plane larger by this factor.
    distance
        (Y, X) float32, relative distance to the cell's outline; None where a model does not tell.
    """

    foreground: NDArray[np.float32]
    kinds: NDArray[np.uint8] | None = None
    zoom: float = 1.0
    distance: NDArray[np.float32] | None = None


@dataclass
class LoadedModel:
    """A network and what its file says about it.

    Attributes
    ----------
    network
        In float32.
    header
        Its normalisation and post-processing are applied here.
    """

    network: UNet
    header: ModelHeader
    _predictors: dict[Compute, Predictor] = field(default_factory=dict, init=False, repr=False)

    def prepare(
        self,
        plane: NDArray[Any],
        box: tuple[slice, ...] | None = None,
        statistics: Statistics | None = None,
    ) -> NDArray[np.float32]:
        """A raw plane (C, Y, X), or a box of it, normalised as the network wants it.

        So a stack (C, Z, Y, X). Without `statistics`, they are measured on the whole of it; with
        them, it may be a part.

        Raises
        ------
        ValueError
            If it holds no numbers, or its channels do not fit.
        """
        settings = Normalisation(**self.header.normalisation)
        plane = filled(plane)
        part = plane if box is None else plane[(slice(None), *box)]
        normalised, used = normalise(part, settings, statistics or self.measure(plane))
        wanted = self.network.config.in_channels
        return match_channels(
            spread_dye(normalised, used) if wanted in (1, 3) else normalised, wanted
        )

    def measure(self, plane: NDArray[Any], *, sample: bool = False) -> Statistics:
        """The intensities of a raw plane (C, Y, X), or of a sample of it, that become 0 and 1.

        Raises
        ------
        ValueError
            If it holds no numbers.
        """
        check_plane(plane)
        settings = Normalisation(**self.header.normalisation)
        return (measure_sample if sample else measure)(plane, settings)

    def zoom(self, diameter_px: float | None) -> float:
        """Factor that brings cells of this diameter, in pixels, to the size the network knows.

        None stands for cells like those that the model was made for.
        """
        return zoom_to(self.header, diameter_px)

    def scores(
        self,
        plane: NDArray[np.float32],
        compute: Compute,
        tile_px: int | None,
        progress: Callable[[float, str], None],
        zoom: float = 1.0,
    ) -> PlaneScores:
        """Scores of a prepared plane.

        Parameters
        ----------
        plane
            (C, Y, X) or (C, Z, Y, X), from `prepare`.
        compute
            Where to run; elsewhere, or in smaller tiles, if memory runs out.
        tile_px
            Largest input tile, in pixels; None takes what suits the device.
        progress
            Called with (fraction, message) before and after each tile; may raise to stop.
        zoom
            The network sees the plane larger by this factor; 1 for a stack.

        Raises
        ------
        ValueError
            If the tile is too small for the network, or the memory for the tile.
        """
        from scipy.special import expit

        from napari_unet.core.resample import resize_labels, resize_plane, zoomed_shape
        from napari_unet.core.tiling import smallest_input_px
        from napari_unet.engine.predict import foreground_scores, in_16_bits

        shape = plane.shape[1:]
        to = shape if zoom == 1 else zoomed_shape((plane.shape[1], plane.shape[2]), zoom)
        seen = resize_plane(plane, to)

        def work(where: Compute, tile: int) -> NDArray[np.float32]:
            return self.predictor(where).logits(
                seen, tile, lambda done, total: progress(done / total, "segmenting")
            )

        smallest = smallest_input_px(self.network.config.depth)
        if tile_px is not None and tile_px < smallest:
            raise ValueError(
                f"a tile of {tile_px} px is too small for this model; give {smallest} px or more"
            )
        tile_px = tile_px or self._default_tile_px(compute, shape)
        logits = run_within_memory(
            compute, tile_px, smallest, work, lambda message: progress(0.0, message)
        )
        kinds = distance = None
        of_classes = logits[: self.network.config.n_classes]
        if len(of_classes) > 2:
            kinds = resize_labels(of_classes[1:].argmax(0).astype(np.uint8) + np.uint8(1), shape)
        if self.network.config.distance:
            told = in_16_bits(expit(logits[-1])).astype(np.float32)
            smooth = smooth_distance(told, self.header.anisotropy or 1.0)
            distance = resize_plane(smooth[None], shape)[0]
        sure = in_16_bits(foreground_scores(of_classes)).astype(np.float32)
        foreground = resize_plane(sure[None], shape)[0]
        return PlaneScores(foreground, kinds, zoom, distance)

    def decoding(self, config: PredictConfig, zoom: float) -> Decoding:
        """How scores become labels: the model's post-processing where not told else.

        Parameters
        ----------
        config
            What is told.
        zoom
            The network saw the plane larger by this factor; the model's sizes are pixels of that.
        """
        from napari_unet.core.cells.blockwise import Decoding
        from napari_unet.core.cells.instances import LARGEST_PX

        settings = {"largest_px": LARGEST_PX, **self.header.postprocess}
        gap = settings.get("gap_px", 1)
        settings["gap_px"] = max(1, round(gap / zoom)) if gap else 0
        settings["min_size_px"] = round(settings.get("min_size_px", 16) / zoom**2)
        settings["largest_px"] = round(settings["largest_px"] / zoom)
        if "radius_px" in settings:
            settings["radius_px"] /= zoom
        asked = {"threshold": config.threshold, "min_size_px": config.min_size_px}
        given = {name: value for name, value in asked.items() if value is not None}
        return Decoding(**{**settings, **given})

    def instances(self, scores: PlaneScores, config: PredictConfig) -> NDArray[np.int32]:
        """Labels, shaped like the scores; see `decoding`."""
        from napari_unet.core.cells.instances import label_instances

        decoding = self.decoding(config, scores.zoom)
        return label_instances(scores.foreground, distance=scores.distance, **vars(decoding))

    def votes(
        self, labels: NDArray[np.int32], kinds: NDArray[np.uint8] | None
    ) -> NDArray[np.int64]:
        """Pixels of each cell 1, 2, ... of labels (Y, X) by their class: (cells, classes).

        `kinds` (Y, X) is the class of each pixel, None where all are of the first.
        """
        n_classes, n = len(self.header.classes), int(labels.max(initial=0))
        given = np.uint8(1) if kinds is None else kinds.ravel()
        pairs = labels.ravel() * np.int64(n_classes) + given
        cast = np.bincount(pairs, minlength=(n + 1) * n_classes).astype(np.int64)
        return cast.reshape(n + 1, n_classes)[1:]

    def kinds(self, votes: NDArray[np.int64]) -> tuple[str, ...]:
        """Class of each cell, by the majority of its pixels."""
        return tuple(self.header.classes[kind] for kind in votes.argmax(1))

    def _default_tile_px(self, compute: Compute, shape: Sequence[int]) -> int:
        from napari_unet.core.network.unet import halo_px

        depth, z_depth = self.network.config.depth, self.network.config.z_depth
        if z_depth is None:
            return default_tile_px(compute, depth)
        return default_stack_tile_px(compute, depth, shape[0] + 2 * halo_px(z_depth) + 2**z_depth)

    def predictor(self, compute: Compute) -> Predictor:
        """The network where it is to run; made once."""
        from napari_unet.engine.predict import Predictor

        if compute not in self._predictors:
            self._predictors[compute] = Predictor(
                self.network, compute.torch_device, compute.torch_dtype
            )
        return self._predictors[compute]


def smooth_distance(distance: NDArray[np.float32], anisotropy: float = 1.0) -> NDArray[np.float32]:
    """Rounded off over 4 px: a core is larger than a pixel, noise is not.

    Planes of a stack lie `anisotropy` pixels apart.
    """
    from scipy.ndimage import gaussian_filter

    sigma = (1 / anisotropy, 1, 1)[-distance.ndim :]
    smooth: NDArray[np.float32] = gaussian_filter(distance, sigma)
    return smooth
