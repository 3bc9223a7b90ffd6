"""Settings of the jobs: frozen data classes, with units in the names.

This module imports the standard library only. So every package may read the settings, and the
widget can show them without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
# The axes along which cells of neighbouring planes get one id.
Link = Literal["none", "z", "t", "zt"]
# The channel that the network sees: a number from 0, the nuclear stain of tissue, or None for all.
Channel = int | Literal["stain"] | None
# Sides of the training tiles of a fine-tune, halo included, in pixels: the smallest ones, and the
# large ones, for which numbers of steps such as "a fine-tune needs about 40" are given.
SMALL_TILE_PX, LARGE_TILE_PX = 132, 236


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Settings for segmenting an image.

    Parameters
    ----------
    tile_px
        Largest input tile along an axis, halo included, in pixels. With None it follows from the
        memory. The labels do not depend on it.
    device
        Where the network runs; "auto" takes CUDA, then MPS, then the CPU.
    precision
        Number format of the network; "auto" takes bfloat16 if the hardware supports it.
    threshold
        Foreground score in (0, 1) above which a pixel belongs to a cell; None takes the model's.
    min_size_px
        Cells of fewer pixels are dropped; None takes the model's.
    diameter_px
        Diameter of the image's cells, in pixels. The image is resized so that the network sees
        cells of the size that it knows. "auto" looks for the diameter; it resizes the image only if
        the model is clearly surer at another size. None does not resize.
    link
        Axes along which cells of neighbouring planes get one id: "z" (one cell of a stack), "t"
        (one cell of a movie), "zt" (both), or "none".
    channel
        Channel of the image that the network sees, from 0. "stain" is the nuclear stain of tissue
        in colour (haematoxylin), bright on dark. None takes all channels, if the model takes that
        number. "auto" takes all, or the stain if the model is clearly surer with it.
    in_3d
        Whether a model of planes finds the cells of a stack as 3D cells: it sees the stack cut
        along all its axes. The cells then need no linking along z.
    anisotropy
        With `in_3d`: the distance between planes divided by the size of a pixel. None takes it
        from the file or the layer, or 1.
    """

    tile_px: int | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    threshold: float | None = None
    min_size_px: int | None = None
    diameter_px: float | Literal["auto"] | None = "auto"
    link: Link = "none"
    channel: Channel | Literal["auto"] = "auto"
    in_3d: bool = False
    anisotropy: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.anisotropy is None or self.anisotropy > 0,
            f"anisotropy is {self.anisotropy}; give the distance of the planes in pixels",
        )
        _require(
            self.link in get_args(Link),
            f"link is {self.link!r}; give one of {', '.join(map(repr, get_args(Link)))}",
        )
        _check_channel(None if self.channel == "auto" else self.channel)
        if isinstance(self.diameter_px, str):
            _require(
                self.diameter_px == "auto",
                f"diameter_px is {self.diameter_px!r}; give a size in pixels, or 'auto'",
            )
        elif self.diameter_px is not None:
            _require(
                self.diameter_px > 0,
                f"diameter_px is {self.diameter_px}; give a size in pixels",
            )
        _check_decoding(self.threshold, self.min_size_px)
        if self.tile_px is not None:
            _require(self.tile_px > 0, f"tile_px is {self.tile_px}; give a size in pixels")

    def fitting(self, axes: str) -> PredictConfig:
        """Return the settings without what an image of these axes lacks: links, channels, depth.

        Examples
        --------
        >>> PredictConfig(link="zt", channel=1).fitting("TYX").link
        't'
        """
        has_z, has_t = "Z" in axes, "T" in axes
        links: dict[str, Link] = {"": "none", "z": "z", "t": "t", "zt": "zt"}
        link = links["z" * ("z" in self.link and has_z) + "t" * ("t" in self.link and has_t)]
        channel = self.channel if "C" in axes else "auto"
        return replace(self, link=link, channel=channel, in_3d=self.in_3d and has_z)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Settings for the augmentation of training tiles (Ronneberger et al. 2015, section 3.1).

    Parameters
    ----------
    elastic_sigma_px
        Standard deviation of the displacement vectors on the coarse grid, in pixels.
    grid
        Nodes of the coarse displacement grid along each axis.
    rotate
        Whether tiles are rotated by an angle that is drawn from the full circle.
    flip
        Whether tiles are mirrored with probability 1/2.
    scale
        Largest factor of a zoom in or out, drawn log-uniformly from [1/scale, scale].
    grey
        Standard deviation of the logarithm of the contrast and the gamma, and of the brightness.
    noise
        Largest standard deviation of the added Gaussian noise, in units of normalised intensity.
    invert
        Probability of turning dark into bright.
    colour
        For a colour image, standard deviation of the logarithm of the amount of each stain and of
        each colour.
    to_grey
        For a colour image, probability of turning it into grey values.
    """

    elastic_sigma_px: float = 10.0
    grid: int = 3
    rotate: bool = True
    flip: bool = True
    scale: float = 1.25
    grey: float = 0.15
    noise: float = 0.05
    invert: float = 0.0
    colour: float = 0.1
    to_grey: float = 0.0

    def __post_init__(self) -> None:
        for name in ("elastic_sigma_px", "grey", "noise", "colour"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} is {value}; give 0 or more")
        _require(self.grid >= 2, f"grid is {self.grid}; give 2 nodes or more")
        _require(self.scale >= 1, f"scale is {self.scale}; give a factor of 1 or more")
        for name in ("invert", "to_grey"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} is {value}; give one in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings for training or fine-tuning a network.

    Parameters
    ----------
    steps
        Largest number of optimiser steps; with None only `seconds` ends the training.
    seconds
        Longest wall time, in seconds; with None only `steps` ends the training. "auto" trains until
        the network stops improving: at most 10 minutes, and at most `steps`; without them at most
        1500 steps of tiles of 236 px, or as much training with others (`scaled_steps`).
    optimiser
        "adam" (decoupled weight decay) or "sgd" (momentum 0.99, the paper's).
    learning_rate
        Peak learning rate.
    warmup_steps
        Number of steps over which the learning rate rises from 0.
    decay
        Whether the learning rate falls to 0 along a half cosine over the budget.
    batch
        Number of tiles in one step; the paper takes one big tile.
    tile_px
        Side of the input tile, halo included, in pixels (rounded down to a valid size). With None
        a fine-tune takes tiles of 132 to 236 px, as small as its cells allow (`learning.crops`),
        and everything else takes 236 px. Windows of stacks hold at most as many voxels as a cube of
        100 px, or of three halos if that is more.
    w0
        Height of the border weight (equation 2).
    sigma_px
        Width of the border weight, in pixels (equation 2).
    balance
        Strength of the class balancing term w_c: with 0 there is none, with 1 all classes weigh the
        same.
    anchor
        How strongly the model is kept near its parent on unseen pixels where the parent is sure of
        background; with 0 it is not. The cells that the parent finds there may be wrong, so the
        model is not kept near those. If images are resized, a fine-tune multiplies `balance` by the
        parent's agreement with what was seen, and `anchor` by the square of it.
    replay
        Fraction of the steps that show images on which the shipped model was trained (a small
        sample is in the package), so that it does not forget them; with 0 there are none.
    average
        Decay of the running mean of the weights, which the final model gets; with 0 it gets the
        last weights.
    standardise
        Whether the weights of each filter are kept at mean 0, with a scale that is learnt alone.
    workers
        Number of processes that draw samples on the CPU, for a GPU that would wait for them; with 0
        samples are drawn where the training runs.
    augment
        Settings for the augmentation.
    diameter_px
        Diameter of the images' cells, in pixels; None measures it on the corrected cells.
    held_out
        Fraction of the corrected cells that are held out to validate the new model and are not
        trained on; with 0 there is no validation.
    threshold, min_size_px
        The new model finds cells with these; None finds values that suit the corrections. They are
        used by models of planes, and `min_size_px` counts pixels of the image.
    device, precision, channel
        As in `PredictConfig`, but the channel has no "auto": images are used as they were
        segmented.
    seed
        Seed of every random draw.
    """

    steps: int | None = None
    seconds: float | Literal["auto"] | None = 60.0
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 5e-4
    warmup_steps: int = 10
    decay: bool = True
    batch: int = 1
    tile_px: int | None = None
    w0: float = 10.0
    sigma_px: float = 5.0
    balance: float = 0.25
    anchor: float = 2.0
    replay: float = 1 / 3
    average: float = 0.0
    standardise: bool = False
    workers: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    diameter_px: float | None = None
    held_out: float = 0.25
    threshold: float | None = None
    min_size_px: int | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    channel: Channel = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_channel(self.channel)
        _check_decoding(self.threshold, self.min_size_px)
        _require(
            self.steps is not None or self.seconds is not None,
            "neither steps nor seconds is given; give one of them, or seconds='auto'",
        )
        if self.steps is not None:
            _require(self.steps > 0, f"steps is {self.steps}; give 1 or more")
        if isinstance(self.seconds, str):
            _require(
                self.seconds == "auto",
                f"seconds is {self.seconds!r}; give a number above 0, or 'auto'",
            )
        elif self.seconds is not None:
            _require(self.seconds > 0, f"seconds is {self.seconds}; give more than 0")
        _require(
            self.optimiser in ("adam", "sgd"),
            f"the optimiser is {self.optimiser!r}; give 'adam' or 'sgd'",
        )
        for name in ("learning_rate", "tile_px", "sigma_px"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"{name} is {value}; give more than 0")
        for name in ("warmup_steps", "w0", "balance", "anchor", "workers"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} is {value}; give 0 or more")
        _require(self.batch > 0, f"batch is {self.batch}; give 1 or more")
        _require(self.seed >= 0, f"seed is {self.seed}; give 0 or more")
        _require(
            self.diameter_px is None or self.diameter_px > 0,
            f"diameter_px is {self.diameter_px}; give a size in pixels",
        )
        _require(0 <= self.held_out < 1, f"held_out is {self.held_out}; give one in [0, 1)")
        _require(0 <= self.replay < 1, f"replay is {self.replay}; give one in [0, 1)")
        _require(0 <= self.average < 1, f"average is {self.average}; give one in [0, 1)")

    @property
    def side_px(self) -> int:
        """Side of the input tile, in pixels: `tile_px`, or 236 if that is None."""
        return self.tile_px or LARGE_TILE_PX

    @property
    def reach_px(self) -> int:
        """How far around corrections an image is kept and read, in pixels of the network.

        Tiles reach less far; the checks of a new model look at the rest as well.
        """
        return max(self.side_px, LARGE_TILE_PX)

    def scaled_steps(self, steps: int) -> int:
        """Return the number of steps that are as much training as `steps` on tiles of 236 px.

        The costs of a step and what it teaches both grow about as the area of its tile, so small
        tiles need more steps: three times as many with 132 px. Larger tiles need as many.
        """
        times = (LARGE_TILE_PX / max(self.side_px, SMALL_TILE_PX)) ** 2
        return round(steps * max(1.0, round(2 * times) / 2))


def train_config(
    preset: Literal["paper", "fast"] = "fast",
    *,
    steps: int | None = None,
    seconds: float | Literal["auto"] | None = None,
    device: Device = "auto",
    seed: int = 0,
) -> FinetuneConfig:
    """Return settings for training on images in which all cells are labelled.

    Parameters
    ----------
    preset
        "paper": stochastic gradient descent, momentum 0.99, one 572 px tile per step, full class
        balancing (sections 2 and 3). "fast": the settings that give good labels soonest on a CPU.
    steps, seconds
        The budget; ten minutes if neither is given.
    device, seed
        As in `FinetuneConfig`.

    Raises
    ------
    ValueError
        If there is no such preset, or the budget is not above 0.
    """
    if steps is None and seconds is None:
        seconds = 600.0
    if preset == "paper":
        return FinetuneConfig(
            steps=steps,
            seconds=seconds,
            optimiser="sgd",
            learning_rate=1e-4,
            decay=False,
            tile_px=572,
            balance=1.0,
            anchor=0.0,
            held_out=0.0,
            augment=AugmentConfig(grey=0.1, noise=0.0, scale=1.0, colour=0.0),
            device=device,
            precision="float32",
            seed=seed,
        )
    if preset != "fast":
        raise ValueError(f"the preset is {preset!r}; give 'paper' or 'fast'")
    return FinetuneConfig(
        steps=steps,
        seconds=seconds,
        learning_rate=1e-3,
        warmup_steps=100,
        tile_px=444,
        anchor=0.0,
        held_out=0.0,
        average=0.995,
        standardise=True,
        device=device,
        seed=seed,
    )


def _check_channel(channel: Channel) -> None:
    named = channel is None or channel == "stain"
    _require(
        named or (isinstance(channel, int) and channel >= 0),
        f"channel is {channel!r}; give 0 for the first, or more, or 'stain'",
    )


def _check_decoding(threshold: float | None, min_size_px: int | None) -> None:
    if threshold is not None:
        _require(0 < threshold < 1, f"threshold is {threshold}; give one in (0, 1)")
    if min_size_px is not None:
        _require(min_size_px >= 0, f"min_size_px is {min_size_px}; give 0 or more")


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
