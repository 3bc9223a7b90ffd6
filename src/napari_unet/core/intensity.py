"""Scale the intensities of an image so that two of their percentiles become 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """How intensities are scaled before the network sees them.

    Parameters
    ----------
    low, high
        Percentiles, in percent, that become 0 and 1.
    clip
        Normalised values are clipped to [-clip, 1 + clip].
    """

    low: float = 1.0
    high: float = 99.8
    clip: float = 1.0


@dataclass(frozen=True)
class Statistics:
    """The intensities, one for each channel, that become 0 and 1."""

    low: tuple[float, ...]
    high: tuple[float, ...]


# Percentiles of a plane with more pixels than this are taken from every n-th row and column, which
# is quicker and hardly changes them.
_SAMPLE_PX = 1 << 22
# Percentages of the pixels that may be specks (dust, dead pixels); smaller ones are tried first.
_SPECKS = (0.4, 0.8, 1.6, 3.0)
# Pixels are specks if with them the range of intensities is this many times as wide as without.
_FAR = 15.0
# Pixels that lie less than this many ranges away are kept: they may be the brightest cells.
_NEAR = 5.0
# Pixels hold more than noise if their range is this many times as wide as the narrowest range that
# holds a fifth of them. For a normal distribution it is 10 times as wide.
_STRUCTURE = 20.0
# About this many pixels are enough to tell structure from noise.
_FEW = 1 << 16


def sample_step(shape: tuple[int, int]) -> int:
    """Return n so that every n-th row and column of a plane (Y, X) are enough to measure it."""
    return max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / _SAMPLE_PX))))


def measure(plane: ArrayLike, normalisation: Normalisation | None = None) -> Statistics:
    """Return the low and high percentile of each channel of a plane (C, Y, X).

    The plane may have any real dtype; NaN and inf are left out. Of large planes only every n-th
    row and column are used (`sample_step`).
    """
    array = np.asarray(plane)
    step = sample_step((array.shape[1], array.shape[2]))
    return measure_sample(array[:, ::step, ::step], normalisation)


def measure_sample(sample: ArrayLike, normalisation: Normalisation | None = None) -> Statistics:
    """Return the low and high percentile of each channel of all these pixels (C, Y, X).

    Specks that are far brighter or darker than all other pixels are left out, because otherwise
    they alone would set the scale. They are at most 3 % of the pixels, and they are left out only
    if the other pixels hold more than noise.
    """
    n = normalisation or Normalisation()
    lows, highs = [], []
    for channel in np.asarray(sample):
        values = channel.astype(np.float64).ravel()
        values = values[np.isfinite(values)]
        low, high = _range(values, n) if values.size else (0.0, 1.0)
        lows.append(low)
        highs.append(high)
    return Statistics(tuple(lows), tuple(highs))


def measure_moments(sample: ArrayLike) -> Statistics:
    """Return the mean of each channel of these pixels (C, Y, X), and the mean plus the deviation.

    What is scaled so has a mean of 0 and a variance of 1.

    Examples
    --------
    >>> measure_moments([[[1.0, 3.0]]])
    Statistics(low=(2.0,), high=(3.0,))
    """
    lows, highs = [], []
    for channel in np.asarray(sample):
        values = channel.astype(np.float64)
        values = values[np.isfinite(values)]
        mean, deviation = (values.mean(), values.std()) if values.size else (0.0, 0.0)
        lows.append(float(mean))
        highs.append(float(mean + deviation))
    return Statistics(tuple(lows), tuple(highs))


def _range(
    values: NDArray[np.float64], n: Normalisation, shares: tuple[float, ...] = _SPECKS
) -> tuple[float, float]:
    """Return the two percentiles of finite values without specks; at least one value is needed.

    Among what is left, only larger shares are tried, so that there are at most 2^4 tries.
    """
    low, high, *inner = np.percentile(
        values, (n.low, n.high, *(100 - share for share in shares), *shares)
    ).tolist()
    tops, bottoms = inner[: len(shares)], inner[len(shares) :]
    for number, (top, bottom) in enumerate(zip(tops, bottoms, strict=True), 1):
        if high - low > _FAR * (top - low):
            rest = values[values - low <= _NEAR * (top - low)]
        elif high - low > _FAR * (high - bottom):
            rest = values[high - values <= _NEAR * (high - bottom)]
        else:
            continue
        within = _range(rest, n, shares[number:])
        if high - low > _FAR * (within[1] - within[0]) and _is_structured(rest):
            return within
    return low, high


def _is_structured(values: NDArray[np.float64]) -> bool:
    """Whether values differ by more than noise around one level."""
    ordered = np.sort(values[:: -(-len(values) // _FEW)])
    fifth = max(1, len(ordered) // 5)
    narrowest = (ordered[fifth:] - ordered[:-fifth]).min(initial=np.inf)
    step = np.diff(np.unique(ordered)).min(initial=np.inf)  # of whole numbers, 1
    low, high = np.percentile(ordered, (1, 99.8))
    return bool(high - low > _STRUCTURE * max(narrowest, step))


def normalise(
    plane: ArrayLike,
    normalisation: Normalisation | None = None,
    statistics: Statistics | None = None,
) -> tuple[NDArray[np.float32], Statistics]:
    """Scale each channel linearly so that its low and high percentiles become 0 and 1.

    Parameters
    ----------
    plane
        (C, Y, X), any real dtype.
    normalisation
        The percentiles and the clipping.
    statistics
        Intensities measured before, for example on a whole movie; measured here by default.

    Returns
    -------
    The plane as float32 (C, Y, X), NaN as 0, and the statistics that were used. A constant
    channel becomes 0.

    Examples
    --------
    >>> plane = np.array([[[10.0, 20.0, 30.0]]])
    >>> scaled, used = normalise(plane, Normalisation(low=0, high=100))
    >>> scaled.tolist()
    [[[0.0, 0.5, 1.0]]]
    >>> used
    Statistics(low=(10.0,), high=(30.0,))
    """
    n = normalisation or Normalisation()
    array = np.asarray(plane)
    stats = statistics or measure(array, n)
    out = np.empty(array.shape, np.float32)
    wide = np.result_type(array, np.float32)  # exact for the dtype: float64 for 32 bits and more
    for target, channel, low, high in zip(out, array, stats.low, stats.high, strict=True):
        with np.errstate(invalid="ignore"):  # inf times 0
            scaled = (channel.astype(wide) - low) * (1.0 / (high - low) if high > low else 0.0)
        np.clip(scaled, -n.clip, 1 + n.clip, out=target, casting="same_kind")
    return np.nan_to_num(out, copy=False), stats


# A colour is dark, and shows nothing, if it has less than `_DARK` of the contrast of the strongest
# colour and is not brighter than `_BLACK` of the brightest colour. JPEG leaves a contrast of up to
# 0.15 in a black colour (pictures of nuclei saved at quality 75). The second condition is there for
# violet tissue on white, whose blue has as little contrast but is bright.
_DARK, _BLACK = 0.2, 0.5


def spread_dye(plane: NDArray[np.float32], statistics: Statistics) -> NDArray[np.float32]:
    """Fill the dark colours of a normalised colour plane (C, Y, X) with the mean of the others.

    A picture of one dye may be saved in red, in green, in blue or in two of them. After this step
    it looks as if it was saved in grey. Planes that do not have 3 or 4 channels are returned as
    they are.
    """
    if len(plane) not in (3, 4):
        return plane
    contrast = np.subtract(statistics.high, statistics.low)[:3]
    high = np.asarray(statistics.high[:3])
    is_dark = (contrast < _DARK * contrast.max()) & (high < _BLACK * high.max())
    if not is_dark.any():
        return plane
    out = plane.copy()
    out[:3][is_dark] = plane[:3][~is_dark].mean(0)
    return out


# Weights of red, green and blue in the brightness of a colour: the luma of ITU-R BT.709, as in
# skimage.color.rgb2gray.
_LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)


def match_channels(plane: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return a normalised plane (C, Y, X) with the number of channels that a model takes.

    For a model of one channel, colours become their brightness (luma). For a model of several, one
    channel is repeated (as a view), and alpha is dropped.

    Raises
    ------
    ValueError
        If the number of channels cannot be changed in one of these ways.

    Examples
    --------
    >>> match_channels(np.ones((3, 40, 50), np.float32), 1).shape
    (1, 40, 50)
    """
    count = plane.shape[0]
    if count == channels:
        return plane
    if channels == 1 and count in (3, 4):
        # Pixel by pixel: a matrix product may round otherwise in a part of the plane.
        red, green, blue = plane[:3] * _LUMA[:, None, None]
        grey: NDArray[np.float32] = (red + green + blue)[None]
        return grey
    if count == 1:
        return np.broadcast_to(plane, (channels, *plane.shape[1:]))
    if channels == 3 and count == 4:
        return plane[:3]
    raise ValueError(
        f"the image has {count} channels and the model takes {channels}; choose one channel "
        "(the dock: Channel; a command: --channel 0; Python: channel=0), or another model"
    )
