"""Settings of the jobs: frozen, comparable, with units in the names.

Standard library only, so that every room may read them and the widget can show them without
loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
# Along what cells of neighbouring planes get one id.
Link = Literal["none", "z", "t", "zt"]
# What of an image's channels the network sees: one, the nuclear stain of tissue, or all.
Channel = int | Literal["stain"] | None


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How an image is segmented.

    Parameters
    ----------
    tile_px
        Largest input tile along an axis, halo included, in pixels; None lets the memory decide.
        The labels do not depend on it.
    device
        Where the network runs; "auto" takes CUDA, then MPS, then the CPU.
    precision
        Number format of the network; "auto" takes bfloat16 where the hardware computes in it.
    threshold
        Foreground score in (0, 1) above which a pixel belongs to a cell; None takes the model's.
    min_size_px
        Cells of fewer pixels are dropped; None takes the model's.
    diameter_px
        Diameter of the image's cells, in pixels, to which the image is resized for the network;
        "auto" looks for it, and leaves the image's own size only where another one is clearly
        surer; None takes them for cells like those that the model was made for.
    link
        Along what cells of neighbouring planes get one id: "z" (one object of a stack), "t" (one
        cell of a movie), "zt" (both), or "none".
    channel
        Which channel of an image the network sees, from 0; "stain": the nuclear stain of tissue in
        colour (haematoxylin), bright on dark; None: all, if their number suits the model; "auto":
        all, or the stain where that is clearly surer.
    in_3d
        Whether a model of planes finds the cells of a stack as wholes: it sees the stack cut along
        all its axes. They need no linking along z then.
    anisotropy
        With `in_3d`, distance of the planes over the size of a pixel; None takes what the file or
        the layer says, or 1.
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
        if self.threshold is not None:
            _require(0 < self.threshold < 1, f"threshold is {self.threshold}; give one in (0, 1)")
        if self.min_size_px is not None:
            _require(self.min_size_px >= 0, f"min_size_px is {self.min_size_px}; give 0 or more")
        if self.tile_px is not None:
            _require(self.tile_px > 0, f"tile_px is {self.tile_px}; give a size in pixels")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strength of the augmentation (Ronneberger et al. 2015, section 3.1).

    Parameters
    ----------
    elastic_sigma_px
        Standard deviation of the displacement vectors on the coarse grid, in pixels.
    grid
        Nodes of the coarse displacement grid along each axis.
    rotate
        Draw a rotation angle uniformly from the full circle.
    flip
        Mirror with probability 1/2.
    scale
        Largest factor of a zoom in or out, drawn log-uniformly from [1/scale, scale].
    grey
        Standard deviation of the logarithm of the contrast and the gamma, and of the brightness.
    noise
        Largest standard deviation of the added Gaussian noise, in units of normalised intensity.
    invert
        Probability of turning dark into bright.
    colour
        Of a colour image, standard deviation of the logarithm of the amount of each stain and of
        each colour.
    to_grey
        Of a colour image, probability of turning it into grey values.
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
    """How a network is trained or fine-tuned.

    Parameters
    ----------
    steps
        Optimiser steps at most; None leaves the end to `seconds`.
    seconds
        Wall time at most, in seconds; None leaves the end to `steps`. "auto" trains until it stops
        improving: at most 10 minutes, and `steps` or 1500.
    optimiser
        "adam" (decoupled weight decay) or "sgd" (momentum 0.99, the paper's).
    learning_rate
        Peak learning rate.
    warmup_steps
        Steps over which the learning rate rises from 0.
    decay
        Let the learning rate fall to 0 along a half cosine over the budget.
    batch
        Tiles in one step; the paper takes one big tile.
    tile_px
        Input tile along an axis, halo included, in pixels (rounded down to a
        valid size). Windows of stacks hold no more voxels than a cube of 100 px or three halos.
    w0
        Height of the border weight (equation 2).
    sigma_px
        Width of the border weight, in pixels (equation 2).
    balance
        Strength of the class balancing term w_c: 0 is none, 1 makes the classes weigh the same.
    anchor
        Weight of staying near the parent model on unseen pixels that are background to it for
        sure; 0 lets them drift. What it finds elsewhere may be false, and is not held. Where images
        are resized, a fine-tune takes the balance times the parent's agreement with what was seen,
        and this times its square.
    replay
        Share of the steps that show what the model that ships learnt from (a small sample is in
        the package), so that it does not forget its own kinds of image; 0 shows none.
    average
        Decay of the running mean of the weights that the final model takes; 0 takes the last.
    standardise
        Whether the weights of each filter are kept at mean 0 and learn their scale apart.
    workers
        Processes that draw samples, on the processor, for a GPU that would wait for them; 0 draws
        them where the training is.
    augment
        Strength of the augmentation.
    diameter_px
        Diameter of the images' cells, in pixels; None measures it on the corrected ones.
    held_out
        Share of the corrected cells that judge and do not teach; 0 goes without a check.
    device, precision, channel
        As in `PredictConfig`, without a choice of the channel: images are seen as they were
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
    tile_px: int = 236
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
    device: Device = "auto"
    precision: Precision = "auto"
    channel: Channel = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_channel(self.channel)
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
            _require(value > 0, f"{name} is {value}; give more than 0")
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


def train_config(
    preset: Literal["paper", "fast"] = "fast",
    *,
    steps: int | None = None,
    seconds: float | Literal["auto"] | None = None,
    device: Device = "auto",
    seed: int = 0,
) -> FinetuneConfig:
    """Settings for training from dense labels.

    Parameters
    ----------
    preset
        "paper": stochastic gradient descent, momentum 0.99, one 572 px tile per step, full class
        balancing (sections 2 and 3). "fast": what reaches good labels soonest on a CPU.
    steps, seconds
        The budget; ten minutes where neither is given.
    device, seed
        As in `FinetuneConfig`.
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


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
