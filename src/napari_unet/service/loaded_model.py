"""A model in memory: raw planes in, scores out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.intensity import Normalisation, Statistics, match_channels, measure, normalise
from napari_unet.engine.header import ModelHeader
from napari_unet.service.device import Compute, default_tile_px, run_within_memory
from napari_unet.service.inputs import check_plane

if TYPE_CHECKING:
    from napari_unet.core.unet import UNet
    from napari_unet.engine.predict import Predictor

Box = tuple[slice, slice]


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
        self, plane: NDArray[Any], box: Box | None = None, statistics: Statistics | None = None
    ) -> NDArray[np.float32]:
        """A raw plane (C, Y, X), or a box of it, normalised as the network wants it.

        Without `statistics`, they are measured on the whole plane.

        Raises
        ------
        ValueError
            If it holds no numbers, or its channels do not fit.
        """
        check_plane(plane)
        settings = Normalisation(**self.header.normalisation)
        part = plane if box is None else plane[(slice(None), *box)]
        normalised, _ = normalise(part, settings, statistics or measure(plane, settings))
        return match_channels(normalised, self.network.config.in_channels)

    def scores(
        self,
        plane: NDArray[np.float32],
        compute: Compute,
        tile_px: int | None,
        progress: Callable[[float, str], None],
    ) -> NDArray[np.float32]:
        """Foreground scores (Y, X) of a prepared plane.

        Parameters
        ----------
        plane
            (C, Y, X), from `prepare`.
        compute
            Where to run; elsewhere, or in smaller tiles, if memory runs out.
        tile_px
            Largest input tile, in pixels; None takes what suits the device.
        progress
            Called with (fraction, message) before and after each tile; may raise to stop.

        Raises
        ------
        ValueError
            If the tile is too small for the network, or the memory for the tile.
        """
        from napari_unet.core.tiling import smallest_input_px
        from napari_unet.engine.predict import foreground_scores

        def work(where: Compute, tile: int) -> NDArray[np.float32]:
            return self._predictor(where).logits(
                plane, tile, lambda done, total: progress(done / total, "segmenting")
            )

        smallest = smallest_input_px(self.network.config.depth)
        if tile_px is not None and tile_px < smallest:
            raise ValueError(
                f"a tile of {tile_px} px is too small for this model; give {smallest} px or more"
            )
        tile_px = tile_px or default_tile_px(compute)
        return foreground_scores(
            run_within_memory(
                compute, tile_px, smallest, work, lambda message: progress(0.0, message)
            )
        )

    def instances(self, scores: NDArray[np.float32], config: PredictConfig) -> NDArray[np.int32]:
        """Labels (Y, X) of scores (Y, X), with the model's post-processing where not told else."""
        from napari_unet.core.instances import label_instances

        asked = {"threshold": config.threshold, "min_size_px": config.min_size_px}
        given = {name: value for name, value in asked.items() if value is not None}
        return label_instances(scores, **{**self.header.postprocess, **given})

    def _predictor(self, compute: Compute) -> Predictor:
        from napari_unet.engine.predict import Predictor

        if compute not in self._predictors:
            self._predictors[compute] = Predictor(
                self.network, compute.torch_device, compute.torch_dtype
            )
        return self._predictors[compute]
