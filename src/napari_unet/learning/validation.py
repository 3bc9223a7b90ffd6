"""Whether a fine-tuned model is better, by what it has not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.jobs import ENOUGH_STEPS
from napari_unet.models.decoding import scores_around
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.steadiness import Sight, matches, steadiness

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# Scores within this of each other are the same.
_TOLERANCE = 0.02
# A network that has learnt true corrections agrees with them by this, where guessing gives 0; or by
# so much more than its parent did, if it is also that much better on what it has not learnt from,
# or that much steadier.
_LEAST_FIT, _BETTER_FIT, _LEAST_GAIN = 0.5, 0.1, 0.05
# Score on held-out cells that a version needs at least where it agrees with less than `_LEAST_FIT`.
_LEAST_HELD_OUT = 0.2
# Below the first score there is room for a gain. A version without one of so much, on new places or
# earlier ones, has learnt odd cells by heart: on images that the parent knows well that does harm.
_ROOM, _HELPS = 0.9, 0.03
# It may find so many times as many cells as its parent where nobody looked, so many more for each
# place that it was taught, and so many more.
_TIMES, _PER_PLACE, _MORE = 2, 5, 10
# So many times as many where it has become steadier.
_TIMES_IF_LEARNT = 3
# Where there are few places: how much steadier it has to be so that these do not decide.
_A_LITTLE = 0.01
# A parent that is so steady is right about most cells: a version has to find so many of them, too.
_STEADY, _KEPT = 0.8, 0.9
# None may be less steady than its parent by more than the first figure; by the second one where the
# parent was not steady and the version is better by the third one on what it has not learnt from.
_LESS_STEADY, _STILL_LESS, _FAR_BETTER = 0.03, 0.07, 0.1
# Fewer places tell no scatter; theirs is large.
_TELLING, _SCATTER_OF_FEW = 3, 0.25
# Standard errors that a score may fall by: a parent has learnt the places of the replay, so that a
# model that is as good falls a little there.
_NOISE = 2

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """Scores of a model before and after it learnt, on places that are fair to both.

    A score is the agreement beyond chance of each pixel's class, where a pixel counts as in the
    loss, so that the gap between two cells weighs more than its few pixels: 1 is perfect, 0 is
    what guessing gives (`core.cells.metrics.kappa`).

    Attributes
    ----------
    before, after
        Scores.
    noise
        Standard error of their difference, by resampling the places.
    n_places
        Cells, or erased spots.
    weak
        Whether the network may know the surroundings of these places from the training, or there
        are too few to be sure.
    """

    before: float
    after: float
    noise: float
    n_places: int
    weak: bool

    @property
    def dropped(self) -> bool:
        """Whether the score fell by more than noise."""
        return self.before - self.after > max(_TOLERANCE, _NOISE * self.noise)

    @property
    def lacks_gain(self) -> bool:
        """Whether the score rose by nothing where it could; one or two places do not tell."""
        has_room = self.before < _ROOM and self.n_places >= _TELLING
        return has_room and self.after - self.before < _HELPS

    def __str__(self) -> str:
        weak = ", a weak check" if self.weak else ""
        return (
            f"{round(100 * self.before)} % → {round(100 * self.after)} % on {self.n_places} "
            f"place{'s' if self.n_places > 1 else ''}{weak}"
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a new version takes the place of the old one.

    Attributes
    ----------
    accepted
        If not, it is kept, but not used until the user asks for it.
    why
        In a sentence.
    """

    accepted: bool
    why: str

    @property
    def wants_time(self) -> bool:
        """Whether the sentence says to train for longer; if not, more corrections may help."""
        return "train" in self.why


@dataclass(frozen=True)
class Fit:
    """Scores, before and after, on all places that a model learns from; see `Check`."""

    before: float
    after: float


@dataclass(frozen=True)
class Elsewhere:
    """What parent and child find where nobody looked.

    Attributes
    ----------
    before, after
        Cells of the parent, and of the child.
    n_places
        Places that the child has learnt.
    steady_before, steady_after
        Share of the cells that each finds again in the image turned and resized, in [0, 1].
    kept
        Share of cells that both find, of all that either finds, in [0, 1].
    """

    before: int
    after: int
    n_places: int
    steady_before: float
    steady_after: float
    kept: float

    @property
    def has_many_more(self) -> bool:
        """Whether there are far more cells than before, and than so few places can vouch for."""
        times = _TIMES_IF_LEARNT if self.has_learnt else _TIMES
        return self.after > times * self.before + _PER_PLACE * self.n_places + _MORE

    @property
    def is_steadier(self) -> bool:
        """Whether the child has become surer of what cells are."""
        return self.steady_after - self.steady_before > _LEAST_GAIN

    @property
    def has_learnt(self) -> bool:
        """Whether the child has become steadier on images that its parent does not know."""
        return self.is_steadier and not self.was_steady

    @property
    def is_a_little_steadier(self) -> bool:
        """As `has_learnt`, by so much that it is not only by chance."""
        return self.steady_after - self.steady_before > _A_LITTLE and not self.was_steady

    def is_less_steady(self, gain: float) -> bool:
        """Whether the child, better by so much on new places, is less sure of what cells are."""
        is_far_better = gain >= _FAR_BETTER and not self.was_steady
        allowed = _STILL_LESS if is_far_better else _LESS_STEADY
        return self.steady_before - self.steady_after > allowed

    @property
    def was_steady(self) -> bool:
        """Whether the parent is right about most cells."""
        return self.steady_before >= _STEADY

    @property
    def loses_sure_cells(self) -> bool:
        """Whether the parent is right about most cells, and the child finds others."""
        return self.was_steady and self.kept < _KEPT


def compare_sights(before: Collection[Sight], after: Collection[Sight], n_places: int) -> Elsewhere:
    """What parent and child, which has learnt so many places, find in the same windows."""
    kept = total = 0
    for old, new in zip(before, after, strict=True):
        hits, n = matches(old.elsewhere, new.elsewhere)
        kept, total = kept + hits, total + n
    n_before, n_after = (
        sum(len(np.unique(each.elsewhere[each.elsewhere > 0])) for each in sights)
        for sights in (before, after)
    )
    same = kept / total if total else 1.0
    return Elsewhere(n_before, n_after, n_places, steadiness(before), steadiness(after), same)


def decide(
    new: Check | None,
    earlier: Check | None,
    fit: Fit,
    elsewhere: Elsewhere | None = None,
    steps: int | None = None,
    scaled: Callable[[int], int] = int,
) -> Verdict:
    """Decide whether a model may take the place of its parent.

    Parameters
    ----------
    new
        On places corrected now that it did not learn from.
    earlier
        On places of earlier fine-tunes (replay).
    fit
        On all that it learnt from.
    elsewhere
        What it finds where nobody looked; None if that was not looked at.
    steps
        Steps that fitted into the time; None where steps were asked for.
    scaled
        Returns how many steps of this fine-tune are as much training as so many on large tiles; see
        `FinetuneConfig.scaled_steps`.
    """
    needed = scaled(ENOUGH_STEPS)
    if steps is not None and steps < needed:
        return Verdict(
            False,
            f"only {steps} training step{' was' if steps == 1 else 's were'} possible in this "
            f"time, and about {needed} are needed",
        )
    gains = [0.0 if check is None else check.after - check.before for check in (new, earlier)]
    is_gain = new is not None and gains[0] > max(_LEAST_GAIN, new.noise)
    is_gain |= elsewhere is not None and elsewhere.is_steadier
    # Labels of another image make a model steadier, too, but tell nothing about held-out cells.
    is_gain &= new is not None and new.after >= _LEAST_HELD_OUT
    if fit.after < _LEAST_FIT and not (is_gain and fit.after - fit.before > _BETTER_FIT):
        hint = (
            "the old one is sure of what it finds in this image, so it takes more corrections "
            "to change it"
            if elsewhere is not None and elsewhere.was_steady
            else "train for longer, or correct more cells"
        )
        return Verdict(
            False,
            f"the new one agrees with {_percent(fit.after)} of what was painted (the old one: "
            f"{_percent(fit.before)}), and {_percent(_LEAST_FIT)} are needed; {hint}",
        )
    # A few places, of which each half was learnt for a fifth of the steps, tell less than that.
    is_surer = elsewhere is not None and elsewhere.is_a_little_steadier
    telling = None if is_surer and new is not None and new.n_places <= _TELLING else new
    if telling is not None and telling.dropped:
        return Verdict(False, "the new one is worse on test cells, which it had not learnt from")
    if telling is not None and telling.lacks_gain and gains[1] < _HELPS:
        return Verdict(
            False,
            "the new one is no better on test cells, which it had not learnt from; correct more, "
            "or use it and compare",
        )
    if earlier is not None and earlier.dropped:
        return Verdict(False, "the new one is worse on what was corrected earlier")
    if elsewhere is not None:
        if elsewhere.has_many_more:
            return Verdict(
                False,
                f"where nothing was corrected, the new one finds {elsewhere.after} cells and the "
                f"old one {elsewhere.before}; use it and compare, or correct some false cells",
            )
        if elsewhere.loses_sure_cells:
            return Verdict(
                False,
                f"where nothing was corrected, only {_percent(elsewhere.kept)} of the cells are "
                "the same, and the old model was sure of them; correct more, or use it and "
                "compare",
            )
        if elsewhere.is_less_steady(gains[0]):
            return Verdict(
                False,
                "the new one is less sure: in the image turned and resized it finds "
                f"{_percent(elsewhere.steady_after)} of its cells again, the old one "
                f"{_percent(elsewhere.steady_before)}; correct more, or use it and compare",
            )
    if new is None and earlier is None:
        return Verdict(
            False,
            "one corrected cell cannot show whether the new one is better; correct two more, or "
            "use it and compare",
        )
    return Verdict(True, "it is not worse where it was tested")


def _percent(score: float) -> str:
    return f"{max(0, round(100 * score))} %"


def count(
    model: LoadedModel,
    planes: Sequence[AnnotatedPlane],
    units: Sequence[NDArray[np.int32]],
    n_units: int,
    compute: Compute,
    check: Callable[[], None],
) -> Counts:
    """Weighted confusion (units, K, K) of a model; 0 for units that do not occur.

    Parameters
    ----------
    model
        With its network in evaluation mode.
    planes
        At the size the network sees.
    units
        (Y, X) for each plane, 0 or the number of a unit, from 1, over all planes.
    n_units
        Units in all.
    compute
        Where to run.
    check
        Called before each tile; may raise to stop.
    """
    from napari_unet.core.cells.instances import separate_touching
    from napari_unet.core.cells.metrics import confusion
    from napari_unet.core.network.weight_map import border_weights

    # Predictors made before the last step hold the old weights.
    model = LoadedModel(model.network, model.header)
    n_classes = model.network.config.n_classes
    threshold = model.header.postprocess.get("threshold", 0.5)
    total = np.zeros((n_units, n_classes, n_classes))
    for plane, unit in zip(planes, units, strict=True):
        if not unit.any():
            continue
        box, scores = scores_around(unit > 0, plane, model, compute, check)
        found = (scores.foreground > threshold) * (1 if scores.classes is None else scores.classes)
        labels = separate_touching(plane.labels[box])
        truth = np.where(labels > 0, plane.classes[box], 0)
        weight = 1 + border_weights(labels)
        total += confusion(truth, found, weight, unit[box], n_units, n_classes)
    return total


def compare(before: Counts, after: Counts, weak: bool) -> Check | None:
    """The check that two counts of the same units make; None where none was counted."""
    from napari_unet.core.cells.metrics import kappa

    counted = (before.sum((1, 2)) > 0) & (after.sum((1, 2)) > 0)
    before, after = before[counted], after[counted]
    n = len(before)
    if not n:
        return None
    rng = np.random.default_rng(0)
    draws = [rng.integers(n, size=n) for _ in range(200)]
    gains = [kappa(after[draw].sum(0)) - kappa(before[draw].sum(0)) for draw in draws]
    noise = float(np.std(gains))
    few = n < _TELLING
    return Check(
        kappa(before.sum(0)),
        kappa(after.sum(0)),
        max(noise, _SCATTER_OF_FEW) if few else noise,
        n,
        weak or few,
    )
