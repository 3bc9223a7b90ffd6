"""The segmentation of stacks in 3D by a model of planes, which sees them from three sides.

Single planes hardly show where a cell ends above and below; cuts across the planes do. So the
network sees cuts of the stack along Z, Y and X, and its scores are averaged, as Stringer et al.
(2021, doi:10.1038/s41592-020-01018-x) average gradients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.arrays import Pixels
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.core.intensity import Statistics
from napari_unet.jobs import duration
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel, PlaneScores

# One of so many cuts across planes is segmented, and its scores stand for all of them. Neighbouring
# cuts hardly differ, and this halves the time.
_STEP = 2
# Seconds after which the time that is left is estimated; earlier estimates are too rough.
_FIRST_GUESS_S = 2.0
# Smallest depth of a stack, in cell diameters, at which it is seen from three sides. In a flatter
# stack, cuts across the planes show only pieces of cells.
_LEAST_CELLS = 2


@dataclass(frozen=True)
class _Cut:
    """A cut through a stack: the positions `at` on one axis get the scores of the `middle` one.

    `axis` is 0 for Z, 1 for Y and 2 for X.
    """

    axis: int
    at: slice
    middle: int


@dataclass(frozen=True)
class _View:
    """A stack as a model of planes sees it, cut by cut; for the attributes see `stack_scores`."""

    model: LoadedModel
    stack: Pixels
    compute: Compute
    config: PredictConfig

    @property
    def zoom(self) -> float:
        """Factor by which planes are enlarged for the network."""
        assert not isinstance(self.config.diameter_px, str)
        return self.model.zoom(self.config.diameter_px)

    @cached_property
    def statistics(self) -> Statistics:
        """Intensities of the whole stack that become 0 and 1."""
        return self.model.measure(self.stack)

    @property
    def depth_px(self) -> float:
        """Depth of the stack along Z, in pixels of a plane."""
        return float(self.stack.shape[1] * (self.config.anisotropy or 1.0))

    def area_px(self, cut: _Cut) -> float:
        """Return the number of pixels of a cut before it is zoomed for the network."""
        sides = [self.depth_px, *self.stack.shape[2:]]
        return float(math.prod(side for axis, side in enumerate(sides) if axis != cut.axis))

    def look(self, cut: _Cut, progress: Callable[[float, str], None]) -> PlaneScores:
        """Return the scores of a cut, in the shape of the stack there."""
        from napari_unet.core.resample import resize_plane

        def at_its_size(scores: NDArray[np.float32]) -> NDArray[np.float32]:
            resized: NDArray[np.float32] = resize_plane(scores[None], plane.shape[1:])[0]
            return resized

        plane = self.stack.take(cut.middle, axis=1 + cut.axis)
        plane = self.model.prepare(plane, statistics=self.statistics)
        height = max(1, round(self.depth_px)) if cut.axis else plane.shape[1]
        seen = resize_plane(plane, (height, plane.shape[2]))
        found = self.model.scores(seen, self.compute, self.config.tile_px, progress, self.zoom)
        distance = None if found.distance is None else at_its_size(found.distance)
        return replace(found, foreground=at_its_size(found.foreground), distance=distance)

    def is_deep(self, middle: PlaneScores) -> bool:
        """Return whether the stack is deep enough for cuts across planes to show whole cells.

        Cells are assumed to be as deep as they are wide in the middle plane.
        """
        areas = np.bincount(self.model.instances(middle, self.config).ravel())[1:]
        cell_px = self.config.diameter_px or median_diameter(areas)
        assert not isinstance(cell_px, str)
        return self.depth_px >= _LEAST_CELLS * cell_px


class _StackProgress:
    """Reports the progress on a stack: the side, the plane, and the time that is left.

    Parameters
    ----------
    cuts, areas_px
        All cuts in order, and their areas in pixels, to estimate how long each takes.
    n_sides
        Number of sides from which the stack is seen.
    progress
        Called with (fraction, message); may raise to stop.
    """

    def __init__(
        self,
        cuts: list[_Cut],
        areas_px: list[float],
        n_sides: int,
        progress: Callable[[float, str], None],
    ) -> None:
        self._cuts, self._n_sides, self._progress = cuts, n_sides, progress
        self._ends = np.cumsum(areas_px) / sum(areas_px)
        self._start = time.perf_counter()

    def report(self, number: int, fraction: float, message: str) -> None:
        """Report that a fraction of the cut with this number is done."""
        begin = self._ends[number - 1] if number else 0.0
        done = float(begin + fraction * (self._ends[number] - begin))
        axis = self._cuts[number].axis
        own = [n for n, cut in enumerate(self._cuts) if cut.axis == axis]
        one = ", from above only"
        side = f", side {axis + 1} of {self._n_sides}" if self._n_sides > 1 else one
        plane = f", plane {number - own[0] + 1} of {len(own)}"
        self._progress(done, f"{message}{side}{plane}{self._left(done)}")

    def _left(self, done: float) -> str:
        """Return the time that is left, in words; empty while it is too early to estimate it."""
        taken_s = time.perf_counter() - self._start
        if taken_s < _FIRST_GUESS_S or not done:
            return ""
        left_s = taken_s * (1 - done) / done
        exact_s = 5 if left_s < 60 else 30
        return f", about {duration(max(1, round(left_s / exact_s)) * exact_s)} left"


def stack_scores(
    model: LoadedModel,
    stack: Pixels,
    compute: Compute,
    config: PredictConfig,
    progress: Callable[[float, str], None],
) -> PlaneScores:
    """Return the scores of a stack by a model of planes.

    Parameters
    ----------
    model
        A model of planes.
    stack
        (C, Z, Y, X), the raw stack. If it is less than two cells deep, it is seen from above only.
    compute
        The device and number format.
    config
        Settings, with a diameter in pixels or None.
    progress
        Called with (fraction, message); may raise to stop.

    Returns
    -------
    Scores with arrays (Z, Y, X). Classes are those seen from above. The foreground scores are
    shifted so that the same fraction of the stack is above the threshold as seen from above,
    because the model's threshold was chosen for planes seen from there.

    Raises
    ------
    ValueError
        If the stack holds no numbers, or its channels do not fit.
    """
    view = _View(model, stack, compute, config)
    shape = stack.shape[1:]
    first = _Cut(0, slice(0), shape[0] // 2)
    middle = view.look(first, lambda fraction, message: progress(0.0, message))
    n_sides = 3 if view.is_deep(middle) else 1
    foreground = np.zeros(shape, np.float32)
    distance = None if middle.distance is None else np.zeros(shape, np.float32)
    classes = None if middle.classes is None else np.zeros(shape, np.uint8)
    threshold = model.decoding(config, view.zoom).threshold
    over, cuts = 0, list(_cuts(shape, n_sides))
    shown = _StackProgress(cuts, [view.area_px(cut) for cut in cuts], n_sides, progress)
    for number, cut in enumerate(cuts):
        found = view.look(cut, partial(shown.report, number))
        for whole, part in ((foreground, found.foreground), (distance, found.distance)):
            if whole is not None and part is not None:
                planes = np.moveaxis(whole, cut.axis, 0)[cut.at]
                planes += part / n_sides
        if cut.axis == 0:
            over += int((found.foreground > threshold).sum())
            if classes is not None and found.classes is not None:
                classes[cut.middle] = found.classes
    if n_sides > 1:
        _lift(foreground, threshold, over / foreground.size)
    return PlaneScores(foreground, classes, view.zoom, distance)


def label_stack(
    model: LoadedModel, scores: PlaneScores, config: PredictConfig
) -> NDArray[np.int32]:
    """Return labels (Z, Y, X) from the scores that `stack_scores` returned."""
    from napari_unet.core.cells.instances import label_instances

    decoding = replace(model.decoding(config, scores.zoom), radius_px=None)
    if config.min_size_px is None:
        # The smallest volume is that of a ball with the diameter of the smallest disc.
        ball = 4 / (3 * math.sqrt(math.pi)) * decoding.min_size_px**1.5
        decoding = replace(decoding, min_size_px=round(ball / (config.anisotropy or 1.0)))
    return label_instances(scores.foreground, distance=scores.distance, **vars(decoding))


def _lift(scores: NDArray[np.float32], threshold: float, share: float) -> None:
    """Shift the log-odds of scores in place, until the fraction `share` is above the threshold."""
    from scipy.special import expit, logit

    if not 0 < share < 1:
        return
    least = 1e-4
    np.clip(scores, least, 1 - least, out=scores)
    by = logit(threshold) - logit(np.quantile(scores, 1 - share))
    scores[...] = expit(logit(scores) + np.float32(by))


def _cuts(shape: tuple[int, ...], n_sides: int) -> Iterator[_Cut]:
    for axis in range(n_sides):
        step = _STEP if axis else 1
        for start in range(0, shape[axis], step):
            stop = min(start + step, shape[axis])
            yield _Cut(axis, slice(start, stop), (start + stop) // 2)
