"""How a model looks at an image: at which size, and tissue in its colours or as its stain.

Found by looking at samples of it. Where the cells of the image as it is are about as wide as those
that the model knows, and have sure cores, that is the end. Else other sizes, and the stain of
tissue, are looked at as well, and the steadiest is taken: the one in which the model finds the same
cells again when the samples are turned and resized.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Channel, PredictConfig
from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.axes import get_plane, plane_shape, take_channel
from napari_unet.core.boxes import Box
from napari_unet.jobs import Reporter
from napari_unet.models.decoding import cell_areas, typical_area
from napari_unet.models.device import Compute
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel, PlaneScores
from napari_unet.models.steadiness import VIEWS, found_again
from napari_unet.segmentation.tiled_plane import LARGE_PX, PlaneSource

Index = tuple[int, ...]
# Sizes at which the image is looked at if its own size is not right, as factors. Smaller sizes are
# tried until the cells are no wider than those that the model knows.
_SMALLER, _LARGER = (0.5, 0.25, 0.125), 2.0
_WORDS = {
    2.0: "at twice their size",
    0.5: "at half their size",
    0.25: "at a quarter of their size",
    0.125: "at an eighth of their size",
}
# Width and height, in pixels as the network sees them, of the windows that are looked at; of a
# plane that is looked at as a whole because it is hardly larger; and of the smallest plane that is
# looked at.
_WINDOW_PX, _WHOLE_PX, _LEAST_PX = 192, 384, 24
# The image's own size is right if the width of its cells, divided by the width that the model
# knows, lies in this range and their sureness reaches `_SURE`. Up to `_WIDE` times that width it
# is right if the sureness reaches `_VERY_SURE`; in windows only with at least `_ENOUGH` cells. For
# a model of one size every sureness is enough.
_KNOWN, _SURE, _VERY_SURE, _WIDE, _ENOUGH = (0.42, 1.4), 0.72, 0.86, 2.4, 8
# Cells that are narrower than this, divided by the width that the model knows, may be shown
# larger.
_TINY = 0.55
# Steadiness from which an image is looked at as it is.
_STEADY = 0.82
# Another size of cells of a usual width, or the stain, must be steadier than the image as it is by
# the first figure and, because few cells tell little, by the second one divided by the square root
# of their number.
_STEADIER, _OF_FEW = 0.12, 0.3
# For few wide or narrow cells the steadiness tells little, and the sureness decides. Another size
# must be surer by the first figure of a pair and reach the second one. `_NO_CELLS` is for images
# that show no cells as they are, `_ODD` for those that show cells of an unusual width.
# `_OF_FEW_ODD` is like `_OF_FEW`.
_NO_CELLS, _ODD, _OF_FEW_ODD = (0.0, 0.66), (0.01, 0.55), 0.04
# Sureness that is taken off for each doubling of the cells' width over what the model knows: for a
# model of many sizes, and for a model of one size.
_PER_OCTAVE = 0.06, 0.15
# A model of one size leaves that size only if the other one is better by this much more.
_ONE_SIZE = 0.07
# The change of the samples for the steadiness: mirrored along this axis of (C, Y, X), and shown
# larger by this factor. One change instead of two saves time before the first labels.
_VIEWS = ((1, 0.8),)
# Tissue whose sureness in its colours reaches this is not looked at as its stain.
_CLEAR = 0.74
# Sizes at which the stain is looked at, as factors.
_STAIN_SIZES = (1.0, 0.5, 2.0)
# An image may be stained tissue if its median brightness, divided by that of its brightest pixels,
# and its mean difference between the colours reach these.
_BRIGHT, _COLOURED = 0.35, 0.04
# A model of less steadiness than the first figure may be the wrong one for an image. Another one is
# better if its steadiness reaches the second figure and is more than that of the first model by the
# third one (`benchmarks/steady.py`: on images of other kinds no model reached 0.5).
_UNSUITED, _SUITED, _SUITS_BETTER = 0.6, 0.5, 0.05
# Windows that tell an image from others, in pixels along an axis.
_PRINT_PX = 32
# Planes of a stack or a movie that are tried, until one shows cells.
_PLANES = (0.5, 0.25, 0.75)


@dataclass(frozen=True)
class Look:
    """How a model looks at an image.

    Attributes
    ----------
    channel
        The one that it sees, "stain", or None for all as they are.
    diameter_px
        Size of cells, in pixels, for which the image is resized; None for the image's own size.
    words
        What was chosen, for people; empty where the image is looked at as it is.
    """

    channel: Channel = None
    diameter_px: float | None = None
    words: str = ""

    @property
    def is_as_it_is(self) -> bool:
        """Whether nothing was chosen."""
        return self.channel is None and self.diameter_px is None


AS_IT_IS = Look()


@dataclass(frozen=True)
class Scored:
    """A whole plane that was segmented while looking.

    Attributes
    ----------
    index
        Which plane.
    labels, scores
        As of `LoadedModel`, at the size and with the settings that were chosen.
    """

    index: Index
    labels: NDArray[np.int32]
    scores: PlaneScores


@dataclass(frozen=True)
class _Sight:
    """What cells look like at one size, over the image's own.

    `diameter_px` is that of a typical one as the network sees it, 0 without cells; `sureness` is
    the mean height of their cores, each weighing as much as its area. `samples` are the windows
    (C, Y, X) with the zoom that they were shown at, and the labels that were found.
    """

    factor: float
    n_cells: int = 0
    diameter_px: float = 0.0
    sureness: float = 0.0
    whole: Scored | None = None
    samples: tuple[tuple[NDArray[np.float32], float, NDArray[np.int32]], ...] = ()


def look(
    model: LoadedModel,
    image: LazyArray,
    axes: str,
    planes: Sequence[Index],
    config: PredictConfig,
    compute: Compute,
    job: Reporter,
) -> tuple[Look, Scored | None]:
    """How a model is to look at all planes of an image.

    Parameters
    ----------
    model
        A model of planes; others see stacks as they are.
    image, axes
        Array-like, and one letter of TZCYX for each axis. A channel that the settings name was
        taken.
    planes
        Those that are to be segmented; the one in the middle is looked at, others if it is empty.
    config
        Settings; what of `diameter_px` and `channel` is not "auto" stays.
    compute
        Where to run.
    job
        Told that it looks.

    Returns
    -------
    The choice, and a plane that was segmented with it on the way.
    """
    channel: Channel = None if config.channel == "auto" else config.channel
    size = None if config.diameter_px == "auto" else config.diameter_px
    if model.header.for_stacks or "auto" not in (config.channel, config.diameter_px):
        return Look(channel, size), None
    if not planes or 0 in image.shape:
        return Look(channel, size), None
    if config.channel == "auto" and _learnt_stain(model, image, axes):
        # What it was fine-tuned on was seen so.
        channel = "stain"
        image, axes = take_channel(image, axes, "stain")
        config = replace(config, channel="stain")
    job.report(0.0, "looking for the cells' size")
    for index in dict.fromkeys(planes[int(len(planes) * part)] for part in _PLANES):
        at = _At(model, image, axes, index, config, compute, job)
        chosen, sight = at.best(may_be_stained=config.channel == "auto")
        if chosen is not at:
            at, channel = chosen, "stain"
        if sight.n_cells:
            return at.told(sight, channel), sight.whole
    words = "no cells are recognised at any size; looked at as it is"
    return Look(channel, size, words if config.diameter_px == "auto" else ""), None


def measured_px(
    model: LoadedModel,
    plane: Pixels,
    config: PredictConfig,
    compute: Compute,
    job: Reporter,
) -> float | None:
    """Diameter of the cells of a raw plane (C, Y, X), in pixels; None where no size shows any.

    For the other parameters see `look`.
    """
    at = _At(model, plane, "CYX", (), replace(config, diameter_px="auto"), compute, job)
    return at.width_px(at.best()[1]) or None


def steadiness_at_best(
    model: LoadedModel,
    plane: Pixels,
    config: PredictConfig,
    compute: Compute,
    job: Reporter,
) -> float:
    """Steadiness of a model on a raw plane (C, Y, X), at the size and in the colours that suit it.

    It is in [0, 1]; see `models.steadiness`. For the other parameters see `look`.
    """
    as_asked = replace(config, diameter_px="auto", channel="auto")
    at = _At(model, plane, "CYX", (), as_asked, compute, job)
    chosen, sight = at.best(may_be_stained=True)
    return chosen._steadiness(sight, VIEWS)


def is_better(steadiness: float, other: float) -> bool:
    """Whether another model, of the second steadiness, suits an image clearly better.

    Examples
    --------
    >>> is_better(0.3, 0.9), is_better(0.8, 1.0)
    (True, False)
    """
    return steadiness < _UNSUITED and other > max(_SUITED, steadiness + _SUITS_BETTER)


def fingerprint(image: LazyArray, axes: str) -> tuple[object, ...]:
    """Tells an image from others, by its shape and three small windows of its middle plane."""
    middle = tuple(n // 2 for axis, n in zip(axes, image.shape, strict=True) if axis not in "CYX")
    parts: list[object] = []
    for share in (0.25, 0.5, 0.75):
        y, x = (
            slice(round(share * n), round(share * n) + _PRINT_PX)
            for n in plane_shape(axes, image.shape)
        )
        part = get_plane(image, axes, middle, (y, x))
        parts += [str(part.dtype), part.tobytes()]
    return (axes, tuple(image.shape), *parts)


@dataclass(frozen=True)
class _At:
    """A plane that is looked at; for the attributes see `look`."""

    model: LoadedModel
    image: LazyArray
    axes: str
    index: Index
    config: PredictConfig
    compute: Compute
    job: Reporter

    @cached_property
    def may_be_stained(self) -> bool:
        """Whether it has colours like stained tissue, and the model is one that shows cells so.

        A fine-tuned model has been shown its images as they are.
        """
        n_colours = self.image.shape[self.axes.index("C")] if "C" in self.axes else 1
        takes = self.model.network.config.in_channels == 3 and self.model.header.parent is None
        if n_colours not in (3, 4) or not takes:
            return False
        sample = self._source.sample
        step = max(1, max(sample.shape) // 256)
        sample = sample[:3, ::step, ::step].astype(np.float64)
        sample = np.nan_to_num(sample, posinf=0.0, neginf=0.0)
        white = np.maximum(np.percentile(sample, 99.8, axis=(1, 2)), 1e-6)
        sample = sample / white[:, None, None]
        coloured = sample.max(0) - sample.min(0)
        return bool(np.median(sample.mean(0)) > _BRIGHT and coloured.mean() > _COLOURED)

    def best(self, *, may_be_stained: bool = False) -> tuple[_At, _Sight]:
        """The steadiest sight, if it is that by far, else that of the image as it is.

        Parameters
        ----------
        may_be_stained
            Whether the image may be looked at as its nuclear stain, too.

        Returns
        -------
        What was looked at, which is not this where it is the stain; and how it looks.
        """
        own = best = self.sight(1.0)
        asks_size = self.config.diameter_px == "auto"
        if asks_size:
            # A model that has learnt cells of another size still knows those of its parent.
            as_parent = 1 / self.model.header.zoom
            if not 1 / _LARGER < as_parent < _LARGER:
                best = self._steadiest(own, [(self, self.sight(as_parent))])
            if best is own and not self._is_right(own):
                best = self._other_size(own)
        if may_be_stained and own.sureness < _CLEAR and self.may_be_stained:
            image, axes = take_channel(self.image, self.axes, "stain")
            stained = replace(self, image=image, axes=axes)
            sizes = _STAIN_SIZES if asks_size else (1.0,)
            as_stain = self._steadiest(best, ((stained, stained.sight(f)) for f in sizes))
            if as_stain is not best:
                return stained, as_stain
        return self, best

    def _other_size(self, own: _Sight) -> _Sight:
        """The image at the size where its cells are seen best by far, or as it is."""
        sights = []
        for factor in self._others(own):
            sights.append(self.sight(factor))
            if sights[-1].diameter_px < self._known_px and (own.n_cells or sights[-1].n_cells):
                break
        wide = own.diameter_px / self._known_px
        if _TINY <= wide <= _KNOWN[1]:
            return self._steadiest(own, ((self, sight) for sight in sights))
        margin, least = _ODD if own.n_cells else _NO_CELLS
        margin += _ONE_SIZE * self._is_for_one_size
        best = own
        for sight in sights:
            few = _OF_FEW_ODD / max(1, sight.n_cells) ** 0.5
            surer = self._worth(sight) > max(self._worth(own) + margin + few, self._worth(best))
            if surer and sight.n_cells > 1 and sight.sureness >= least:
                best = sight
        return best

    def _steadiest(self, best: _Sight, rivals: Iterable[tuple[_At, _Sight]]) -> _Sight:
        """That of the rivals which is steadier than a sight of this by far, or that sight."""
        steady = self._steadiness(best)
        if steady >= _STEADY:
            return best
        needed = steady + _STEADIER + _ONE_SIZE * self._is_for_one_size
        chosen, most = best, 0.0
        for at, sight in rivals:
            gain = at._steadiness(sight) - needed - _OF_FEW / max(1, sight.n_cells) ** 0.5
            if gain > most:
                chosen, most = sight, gain
        return chosen

    def _worth(self, sight: _Sight) -> float:
        """How sure a sight is, less what cells wider than the model knows may be wrong."""
        if not sight.n_cells:
            return 0.0
        wide = np.log2(max(1.0, sight.diameter_px / (_KNOWN[1] * self._known_px)))
        one_size = self.model.header.diameter_px is not None
        return sight.sureness - _PER_OCTAVE[one_size] * float(wide)

    def _steadiness(self, sight: _Sight, views: Sequence[tuple[int, float]] = _VIEWS) -> float:
        """Share of the cells that are found again, in [0, 1]; one alone tells nothing."""
        if sight.n_cells < 2:
            return 0.0
        again = total = 0
        for image, zoom, labels in sight.samples:

            def find(
                changed: NDArray[np.float32], factor: float, zoom: float = zoom
            ) -> NDArray[np.int32]:
                part = np.ascontiguousarray(changed)
                scores = self.model.scores(
                    part, self.compute, self.config.tile_px, self._tell, zoom * factor
                )
                return self.model.instances(scores, self._decoding)

            hits, n = found_again(find, image, labels, views)
            again, total = again + hits, total + n
        return again / max(1, total)

    @property
    def _decoding(self) -> PredictConfig:
        return PredictConfig(threshold=self.config.threshold)

    def _tell(self, fraction: float, message: str) -> None:
        self.job.report(0.0, "looking for the cells' size")

    def told(self, sight: _Sight, channel: Channel) -> Look:
        """The choice, with its words."""
        parts = []
        size = self.config.diameter_px
        if size == "auto":
            size = None
            if sight.factor != 1:
                size = (self.model.header.diameter_px or MIXED_DIAMETER_PX) / sight.factor
                shown = _WORDS.get(sight.factor, "at the size that its parent knew")
                parts.append(f"shown to the model {shown}")
        if channel == "stain":
            parts.append("seen as its nuclear stain")
        return Look(channel, size, ", ".join(parts))

    def width_px(self, sight: _Sight) -> float:
        """Of a typical cell in the image."""
        return sight.diameter_px / (sight.factor * self.model.header.zoom)

    @property
    def _is_for_one_size(self) -> bool:
        header = self.model.header
        return header.diameter_px is not None or header.parent is not None

    @property
    def _known_px(self) -> float:
        """Width of the cells that the model knows, as its network sees them."""
        header = self.model.header
        return (header.diameter_px or MIXED_DIAMETER_PX) * (
            header.zoom if header.diameter_px else 1
        )

    def _is_right(self, sight: _Sight) -> bool:
        """Whether no other size need be looked at."""
        wide = sight.diameter_px / self._known_px
        least = _SURE if wide <= _KNOWN[1] else _VERY_SURE
        sure = self._is_for_one_size or sight.sureness >= least
        # A few large cells in windows are sure by chance.
        enough = wide <= _KNOWN[1] or sight.whole is not None or sight.n_cells >= _ENOUGH
        return _KNOWN[0] <= wide <= _WIDE and sure and enough

    def _others(self, own: _Sight) -> Sequence[float]:
        """Sizes to look at."""
        if 0 < own.diameter_px < _TINY * self._known_px:
            return (_LARGER,)
        return _SMALLER if own.n_cells else (*_SMALLER, _LARGER)

    @cached_property
    def _source(self) -> PlaneSource:
        config = replace(self.config, diameter_px=None)
        return PlaneSource(self.model, self.image, self.axes, self.index, config, self.compute)

    def sight(self, factor: float) -> _Sight:
        """What cells look like at a size, over the image's own."""
        from napari_unet.core.resample import resize_plane, zoomed_shape

        shape = self._source.shape
        # That of the image, where its size is given.
        given = self.config.diameter_px
        zoom = factor * self.model.zoom(None if isinstance(given, str) else given)
        if min(shape) * zoom < _LEAST_PX:
            return _Sight(factor)
        whole = max(shape) * zoom <= _WHOLE_PX and np.prod(shape) <= LARGE_PX
        boxes = [(slice(0, shape[0]), slice(0, shape[1]))] if whole else self._windows(zoom)
        # What may be the result is found as it would be without a look.
        final = whole and factor == 1
        scale, config = zoom, self.config
        seen, samples = [], []

        def progress(fraction: float, message: str) -> None:
            self.job.report(0.0, message if final else "looking for the cells' size")

        for box in boxes:
            part = self._read(box)
            if not final:
                part = resize_plane(part, zoomed_shape((part.shape[1], part.shape[2]), zoom))
                scale, config = 1.0, self._decoding
            scores = self.model.scores(
                part,
                self.compute,
                self.config.tile_px,
                progress,
                zoom if final else 1.0,
            )
            seen.append((self.model.instances(scores, config), scores))
            samples.append((part, scale, seen[-1][0]))
        areas = cell_areas((labels, None) for labels, _ in seen)
        inside = cell_areas((labels, _inside(labels)) for labels, _ in seen)
        # Of large cells, none but the smallest lie inside.
        if inside.sum() >= areas.sum() / 2:
            areas = inside
        typical = typical_area(areas)
        if typical is None:
            return _Sight(factor)
        weights, heights = _heights(seen)
        return _Sight(
            factor,
            sum(int(labels.max(initial=0)) for labels, _ in seen),
            scale * float(np.sqrt(4 / np.pi * typical)),
            float(np.average(heights, weights=weights)),
            Scored(self.index, *seen[0]) if final else None,
            tuple(samples),
        )

    def _read(self, box: Box) -> NDArray[np.float32]:
        part = get_plane(self.image, self.axes, self.index, box)
        return self.model.prepare(part, statistics=self._source.statistics)

    def _windows(self, zoom: float) -> list[Box]:
        """Parts of the plane: that with the most contrast, and one that a third have more than."""
        shape, sample = self._source.shape, self._source.sample
        sides = [min(n, round(_WINDOW_PX / zoom)) for n in shape]
        # So fine that a window holds some hundred pixels.
        step = max(1, round(min(sides) / 16 / self._source.sample_step))
        coarse = self.model.prepare(
            sample[:, ::step, ::step], statistics=self._source.statistics
        ).mean(0)
        step *= self._source.sample_step

        def contrast(box: Box) -> float:
            rows, columns = (slice(s.start // step, -(-s.stop // step)) for s in box)
            return float(coarse[rows, columns].std())

        grid = [
            (slice(top, top + sides[0]), slice(left, left + sides[1]))
            for top in _starts(shape[0], sides[0])
            for left in _starts(shape[1], sides[1])
        ]
        ranked = sorted(grid, key=contrast, reverse=True)
        return [ranked[rank] for rank in dict.fromkeys((0, len(ranked) // 3))]


def _learnt_stain(model: LoadedModel, image: LazyArray, axes: str) -> bool:
    in_colour = "C" in axes and image.shape[axes.index("C")] in (3, 4)
    return in_colour and model.header.settings.get("channel") == "stain"


def _starts(n: int, size: int) -> list[int]:
    """Where windows along an axis begin, evenly, so that they cover it."""
    count = -(-n // size)
    return [round(k * (n - size) / max(1, count - 1)) for k in range(count)]


def _inside(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    inside = np.zeros(labels.shape, bool)
    inside[1:-1, 1:-1] = True
    return inside


def _heights(
    seen: Sequence[tuple[NDArray[np.int32], PlaneScores]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Area and height of the core of each cell; without distances, its mean score."""
    from scipy import ndimage

    areas, heights = [], []
    for labels, scores in seen:
        ids = np.arange(1, labels.max(initial=0) + 1)
        areas.append(np.bincount(labels.ravel(), minlength=len(ids) + 1)[1:])
        if not len(ids):
            continue
        if scores.distance is None:
            heights.append(ndimage.mean(scores.foreground, labels, ids))
        else:
            heights.append(ndimage.maximum(scores.distance, labels, ids))
    return np.concatenate(areas), np.concatenate(heights)
