"""The budget of a training: what is told of it, when it is too short, when an open one ends."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from napari_unet.jobs import ENOUGH_STEPS, THIS_COMPUTER, TooShort

if TYPE_CHECKING:
    from napari_unet.engine.trainer import Trainer

# The time that is offered holds a little more, for speeds vary.
_MARGIN = 1.1
# An open training goes on while the score on held-out cells gained more than this in a leg, or,
# where no score decides, the loss fell by more than this share.
_LEAST_GAIN, _LEAST_FALL = 0.01, 0.1


def too_short(trainer: Trainer) -> TooShort | None:
    """Whether a training in time will have too few steps; None as long as its speed is unknown."""
    steps, seconds, speed = trainer.expected, trainer.seconds, trainer.speed
    enough = min(ENOUGH_STEPS, trainer.config.steps or ENOUGH_STEPS)
    if steps is None or seconds is None or speed is None or steps >= enough:
        return None
    needed_s = trainer.elapsed_s + _MARGIN * (enough - trainer.steps) / speed
    unit_s = 10 if needed_s <= 50 else 60
    return TooShort(seconds, steps, float(unit_s * math.ceil(needed_s / unit_s)))


def progress_words(trainer: Trainer, held_out: float | None) -> str:
    """How far a training is, for people.

    Parameters
    ----------
    trainer
        What trains.
    held_out
        Score on held-out cells, in [0, 1]; None if none is known.
    """
    words = [f"Training {_clock(trainer.elapsed_s)}{_total(trainer)}"]
    if trainer.steps:
        words.append(f"step {trainer.steps}{_all_steps(trainer)}")
    if trainer.speed is None:
        words.append(f"measuring the speed of {THIS_COMPUTER}")
    if held_out is not None:
        words.append(f"held-out cells {100 * held_out:.0f} %")
    return ", ".join(words)


class Gain:
    """Whether a training with an open end got better, leg by leg.

    Parameters
    ----------
    score
        On held-out cells before the first leg, in [0, 1]; None where no score decides.
    """

    def __init__(self, score: float | None = None) -> None:
        self._score, self._losses = score, list[float]()
        self._loss: float | None = None

    def add(self, loss: float) -> None:
        """Note the loss of a step."""
        self._losses.append(loss)

    def in_leg(self, score: float | None) -> bool:
        """Whether it got better in the leg that ends now.

        The loss is the mean over the last third of all steps, against that at the end of the leg
        before, or against the first tenth of the first leg.

        Parameters
        ----------
        score
            On held-out cells now; None where no score decides.
        """
        count, before = len(self._losses), self._loss
        first = before is None
        if before is None:
            before = fmean(self._losses[: max(1, count // 10)])
        self._loss = fmean(self._losses[-max(1, count // 3) :])
        fell = self._loss < (1 - _LEAST_FALL) * before
        if score is None or self._score is None:
            return fell
        gain, self._score = score - self._score, max(score, self._score)
        # In the first leg a falling loss is enough: of a new kind no cell may be found yet.
        return gain > _LEAST_GAIN or (first and fell)


def _total(trainer: Trainer) -> str:
    of_steps = trainer.planned is not None and trainer.planned == trainer.config.steps
    if trainer.seconds is not None and not of_steps:
        return f" of {'at most ' if trainer.is_open else ''}{_clock(trainer.seconds)}"
    if trainer.planned is None or trainer.speed is None:
        return ""
    left_s = (trainer.planned - trainer.steps) / trainer.speed
    return f" of about {_clock(trainer.elapsed_s + left_s)}"


def _all_steps(trainer: Trainer) -> str:
    if trainer.is_open or trainer.expected is None:
        return ""
    exact = trainer.expected == trainer.config.steps
    return f" of {'' if exact else 'about '}{trainer.expected}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
