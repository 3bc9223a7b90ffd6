"""The scores of one plane that stay in memory, to find its cells again with other settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.models.loaded import LoadedModel, PlaneScores

# Planes of more pixels are not kept: their scores take more than 20 MB.
_LARGEST_PX = 2048 * 2048


@dataclass(frozen=True)
class KeptScores:
    """The scores of a plane in 16 bits, and the model that gave them.

    Attributes
    ----------
    index
        The plane, along the axes other than C, Y, X.
    model
        Its header says how scores become cells.
    foreground, distance, classes, zoom
        As of `PlaneScores`.
    """

    index: tuple[int, ...]
    model: LoadedModel
    foreground: NDArray[np.float16]
    distance: NDArray[np.float16] | None
    classes: NDArray[np.uint8] | None
    zoom: float

    @property
    def defaults(self) -> tuple[float, int]:
        """The model's own threshold, and its smallest cell in pixels of the image."""
        own = self.model.decoding(PredictConfig(), self.zoom)
        return own.threshold, own.min_size_px

    def cells(self, config: PredictConfig) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the labels (Y, X) of the plane, and the pixels of each cell by their class.

        Parameters
        ----------
        config
            Its `threshold` and `min_size_px` are used.
        """
        distance = None if self.distance is None else self.distance.astype(np.float32)
        foreground = self.foreground.astype(np.float32)
        scores = PlaneScores(foreground, self.classes, self.zoom, distance)
        labels = self.model.instances(scores, config)
        return labels, self.model.votes(labels, self.classes)


def keep(index: tuple[int, ...], model: LoadedModel, scores: PlaneScores) -> KeptScores | None:
    """Return scores in the form that is kept; None of a plane of more than 2048 x 2048 pixels."""
    if scores.foreground.size > _LARGEST_PX:
        return None
    distance = None if scores.distance is None else scores.distance.astype(np.float16)
    foreground = scores.foreground.astype(np.float16)
    return KeptScores(index, model, foreground, distance, scores.classes, scores.zoom)
