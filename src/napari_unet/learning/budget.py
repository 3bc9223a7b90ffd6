"""The budget of a training: its progress in words, the warning if it is too short, its open end."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from napari_unet.jobs import ENOUGH_STEPS, THIS_COMPUTER, TooShort

if TYPE_CHECKING:
    from napari_unet.engine.trainer import Trainer

# The time that is offered to the user is longer by this factor, because the speed varies.
_MARGIN = 1.1
# A training with an open end goes on after a leg if the score on held-out cells rose by more than
# _LEAST_GAIN. If there is no score, it goes on if the loss fell by more than this fraction.
_LEAST_GAIN, _LEAST_FALL = 0.01, 0.1


def too_short(trainer: Trainer) -> TooShort | None:
    """Return a warning if a budget in seconds holds too few steps, else None.

    It is None as well while the speed is unknown.
    """
    steps, seconds, speed = trainer.expected, trainer.seconds, trainer.speed
    needed = trainer.config.scaled_steps(ENOUGH_STEPS)
    enough = min(needed, trainer.config.steps or needed)
    if steps is None or seconds is None or speed is None or steps >= enough:
        return None
    needed_s = trainer.elapsed_s + _MARGIN * (enough - trainer.steps) / speed
    unit_s = 10 if needed_s <= 50 else 60
    enough_s = float(unit_s * math.ceil(needed_s / unit_s))
    return TooShort(seconds, steps, enough_s, needed=needed)


def progress_words(trainer: Trainer, held_out: float | None) -> str:
    """Return the progress of a training in words for the user.

    Parameters
    ----------
    trainer
        The trainer.
    held_out
        Score on held-out cells, in [0, 1]; None if there is none.
    """
    words = [f"Training {clock(trainer.elapsed_s)}{_total(trainer)}"]
    if trainer.steps:
        words.append(f"step {trainer.steps}{_all_steps(trainer)}")
    if trainer.speed is None:
        words.append(f"measuring the speed of {THIS_COMPUTER}")
    if held_out is not None:
        words.append(f"held-out cells {100 * held_out:.0f} %")
    return ", ".join(words)


class Gain:
    """Decides after each leg of a training with an open end whether it got better.

    Parameters
    ----------
    score
        Score on held-out cells before the first leg, in [0, 1]; None if the loss decides.

    Attributes
    ----------
    losses
        The loss of each step.
    score
        The best score at the end of a leg so far.
    loss
        The mean loss at the end of the last leg; None in the first leg.
    """

    def __init__(self, score: float | None = None) -> None:
        self.score, self.losses = score, list[float]()
        self.loss: float | None = None

    def add(self, loss: float) -> None:
        """Store the loss of a step."""
        self.losses.append(loss)

    def in_leg(self, score: float | None) -> bool:
        """Return whether the training got better in the leg that ends now.

        If the loss decides, its mean over the last third of all steps is compared with the same
        mean at the end of the leg before; in the first leg, with the mean over its first tenth.

        Parameters
        ----------
        score
            Score on held-out cells now; None if the loss decides.
        """
        count, before = len(self.losses), self.loss
        first = before is None
        if before is None:
            before = fmean(self.losses[: max(1, count // 10)])
        self.loss = fmean(self.losses[-max(1, count // 3) :])
        fell = self.loss < (1 - _LEAST_FALL) * before
        if score is None or self.score is None:
            return fell
        gain, self.score = score - self.score, max(score, self.score)
        # In the first leg a falling loss is enough, as cells of a new look may not be found yet.
        return gain > _LEAST_GAIN or (first and fell)


def _total(trainer: Trainer) -> str:
    of_steps = trainer.planned is not None and trainer.planned == trainer.config.steps
    if trainer.seconds is not None and not of_steps:
        return f" of {'at most ' if trainer.is_open else ''}{clock(trainer.seconds)}"
    if trainer.planned is None or trainer.speed is None:
        return ""
    left_s = (trainer.planned - trainer.steps) / trainer.speed
    return f" of about {clock(trainer.elapsed_s + left_s)}"


def _all_steps(trainer: Trainer) -> str:
    if trainer.is_open or trainer.expected is None:
        return ""
    exact = trainer.expected == trainer.config.steps
    return f" of {'' if exact else 'about '}{trainer.expected}"


def clock(seconds: float) -> str:
    """Return a time in minutes and seconds, such as "1:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
