"""A model in memory: it turns raw planes into scores, and scores into labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.checks import check_plane
from napari_unet.core.intensity import (
    Normalisation,
    Statistics,
    match_channels,
    measure,
    measure_moments,
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

# Assumed diameter, in pixels, of the cells that a model for all sizes knows best. It is close to
# the median in mixed training images (20 px in dsb2018).
MIXED_DIAMETER_PX = 24.0


def zoom_to(header: ModelHeader, diameter_px: float | None) -> float:
    """Return the factor that brings cells of this diameter to the size that a network knows.

    Parameters
    ----------
    header
        The header of the model.
    diameter_px
        Diameter of the cells in the image, in pixels; None for cells like those that the model was
        made for.
    """
    if diameter_px is None:
        return header.zoom
    return header.zoom * (header.diameter_px or MIXED_DIAMETER_PX) / diameter_px


@dataclass(frozen=True)
class PlaneScores:
    """The scores of one plane. Those of a stack have a Z axis before Y in every array.

    Attributes
    ----------
    foreground
        (Y, X) float32, probability that a pixel belongs to a cell.
    classes
        (Y, X) uint8, most likely class of a pixel if it belongs to a cell, from 1; None if the
        model knows only one class.
    zoom
        Factor by which the plane was enlarged for the network.
    distance
        (Y, X) float32, relative distance to the cell's outline; None if the model does not predict
        it.
    """

    foreground: NDArray[np.float32]
    classes: NDArray[np.uint8] | None = None
    zoom: float = 1.0
    distance: NDArray[np.float32] | None = None


@dataclass
class LoadedModel:
    """A network together with the header of its file.

    Attributes
    ----------
    network
        The network, with float32 weights.
    header
        The header; its normalisation and post-processing settings are used here.
    """

    network: UNet
    header: ModelHeader
    _predictors: dict[Compute, Predictor] = field(default_factory=dict, init=False, repr=False)

    def prepare(
        self,
        plane: NDArray[np.generic],
        box: tuple[slice, ...] | None = None,
        statistics: Statistics | None = None,
    ) -> NDArray[np.float32]:
        """Return a raw plane (C, Y, X), or a box of it, normalised as the network needs it.

        A stack (C, Z, Y, X) is normalised in the same way.

        Parameters
        ----------
        plane
            The raw plane or stack.
        box
            The part of it to return; None for all of it.
        statistics
            The intensities that become 0 and 1. None measures them on `plane`, which must then be
            a whole plane or stack.

        Raises
        ------
        ValueError
            If the plane holds no numbers, or its channels do not fit the network.
        """
        settings = Normalisation(**self.header.normalisation)
        plane = filled(plane)
        part = plane if box is None else plane[(slice(None), *box)]
        normalised, used = normalise(part, settings, statistics or self.measure(plane))
        wanted = self.network.config.in_channels
        return match_channels(
            spread_dye(normalised, used) if wanted in (1, 3) else normalised, wanted
        )

    def measure(self, plane: NDArray[np.generic], *, sample: bool = False) -> Statistics:
        """Measure the intensities of a raw plane (C, Y, X) that become 0 and 1.

        Parameters
        ----------
        plane
            The plane, or a regular sample of its pixels.
        sample
            Whether it is a sample.

        Raises
        ------
        ValueError
            If the plane holds no numbers.
        """
        check_plane(plane)
        if self.header.foreign.get("moments"):
            return measure_moments(plane)
        settings = Normalisation(**self.header.normalisation)
        return (measure_sample if sample else measure)(plane, settings)

    def zoom(self, diameter_px: float | None) -> float:
        """Return the factor that brings cells of this diameter to the size that it knows.

        The diameter is in pixels; None means cells like those that the model was made for.
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
        """Return the scores of a prepared plane.

        Parameters
        ----------
        plane
            (C, Y, X) or (C, Z, Y, X), from `prepare`.
        compute
            The device and number format. If memory runs out, smaller tiles are tried, then the CPU.
        tile_px
            Largest input tile, in pixels; None chooses a size that suits the device.
        progress
            Called with (fraction, message) before and after each tile; may raise to stop.
        zoom
            Factor by which the plane is enlarged for the network; 1 for a stack.

        Raises
        ------
        ValueError
            If the tile is too small for the network, or the memory is too small for the tile.
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
        classes = distance = None
        of_classes = logits[: self.network.config.n_classes]
        if len(of_classes) > 2:
            classes = resize_labels(of_classes[1:].argmax(0).astype(np.uint8) + np.uint8(1), shape)
        if self.network.config.distance:
            told = in_16_bits(expit(logits[-1])).astype(np.float32)
            smooth = smooth_distance(told, self.header.anisotropy or 1.0)
            distance = resize_plane(smooth[None], shape)[0]
        sure = in_16_bits(foreground_scores(of_classes)).astype(np.float32)
        foreground = resize_plane(sure[None], shape)[0]
        return PlaneScores(foreground, classes, zoom, distance)

    def decoding(self, config: PredictConfig, zoom: float) -> Decoding:
        """Return the settings that turn scores into labels.

        Parameters
        ----------
        config
            Settings of the user; where they are None, those of the model are used.
        zoom
            Factor by which the plane was enlarged for the network. The sizes in the model are in
            pixels of the enlarged plane, and those returned are in pixels of the image.
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
        """Return the labels of the cells in scores, shaped like the scores; see `decoding`."""
        from napari_unet.core.cells.instances import label_instances

        decoding = self.decoding(config, scores.zoom)
        return label_instances(scores.foreground, distance=scores.distance, **vars(decoding))

    def votes(
        self, labels: NDArray[np.int32], classes: NDArray[np.uint8] | None
    ) -> NDArray[np.int64]:
        """Count the pixels of each cell by their class; returns an array (cells, classes).

        Parameters
        ----------
        labels
            (Y, X), cells 1, 2, ...
        classes
            (Y, X), the class of each pixel; None if all belong to the first class.
        """
        n_classes, n = len(self.header.classes), int(labels.max(initial=0))
        if classes is None:
            votes = np.zeros((n + 1, n_classes), np.int64)
            votes[:, 1] = np.bincount(labels.ravel(), minlength=n + 1)
            return votes[1:]
        pairs = labels.ravel() * np.int64(n_classes) + classes.ravel()
        cast = np.bincount(pairs, minlength=(n + 1) * n_classes).astype(np.int64)
        return cast.reshape(n + 1, n_classes)[1:]

    def kinds(self, votes: NDArray[np.int64]) -> tuple[str, ...]:
        """Return the class of each cell, which is the class of most of its pixels."""
        return tuple(self.header.classes[number] for number in votes.argmax(1))

    def _default_tile_px(self, compute: Compute, shape: Sequence[int]) -> int:
        from napari_unet.core.network.unet import halo_px

        depth, z_depth = self.network.config.depth, self.network.config.z_depth
        if z_depth is None:
            return default_tile_px(compute, depth)
        return default_stack_tile_px(compute, depth, shape[0] + 2 * halo_px(z_depth) + 2**z_depth)

    def predictor(self, compute: Compute) -> Predictor:
        """Return the network on a device, ready to predict; it is prepared once per device."""
        from napari_unet.engine.predict import Predictor

        if compute not in self._predictors:
            self._predictors[compute] = Predictor(
                self.network, compute.torch_device, compute.torch_dtype
            )
        return self._predictors[compute]


def smooth_distance(distance: NDArray[np.float32], anisotropy: float = 1.0) -> NDArray[np.float32]:
    """Smooth a distance map with a Gaussian of 1 px, which reaches 4 px.

    It removes noise, which is one pixel wide, and keeps the cores of cells, which are wider.

    Parameters
    ----------
    distance
        (Y, X) or (Z, Y, X).
    anisotropy
        Distance between the planes of a stack, in pixels.
    """
    from scipy.ndimage import gaussian_filter

    sigma = (1 / anisotropy, 1, 1)[-distance.ndim :]
    smooth: NDArray[np.float32] = gaussian_filter(distance, sigma)
    return smooth
