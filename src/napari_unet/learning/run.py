"""The run of a fine-tune: it trains on a lesson, checks the model, and keeps what is best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig
from napari_unet.core.json_types import JsonObject
from napari_unet.jobs import ENOUGH_STEPS, Job
from napari_unet.learning.budget import Gain
from napari_unet.learning.lesson import Lesson
from napari_unet.learning.replay import replay_planes
from napari_unet.learning.training import learn, start_training
from napari_unet.learning.validation import (
    Check,
    Counts,
    Elsewhere,
    Fit,
    Verdict,
    compare,
    compare_sights,
    count,
    decide,
)
from napari_unet.models.decoding import thresholds_for
from napari_unet.models.device import Compute
from napari_unet.models.header import ModelHeader
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.steadiness import Sight, belief, sight

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.core.cells.holdout import Split
    from napari_unet.engine.trainer import State, StepReport, Trainer

# Fraction of the steps after which held-out cells are scored and then join the training set.
_HELD_OUT_UNTIL = 0.35
# With two folds, one half of the cells is scored after this fraction of the steps. Then the
# training begins again on that half, and the other half is scored after as many steps.
_FOLD = 0.2
# Number of checks on held-out cells in a run, and the number of checks without a better score after
# which the run ends.
_CHECKS, _PATIENCE = 10, 4
# A run with an open end also stops when the score did not rise in the last third of its steps, and
# in at least this many steps of tiles of 236 px.
_OPEN_PATIENCE = 60
# Smallest trust in the parent, from 0 to 1, even if it is wrong on all seen pixels. It is small,
# because such a parent calls cells background, and the new model must not be held to that.
_LEAST_TRUST = 0.04
# Number of planes, the last ones, on which old and new model are compared outside the seen pixels.
_ELSEWHERE = 4
# Smallest number of cells on one plane that shows how steady the parent is there. With fewer, the
# belief is taken from all planes.
_ENOUGH_CELLS = 20
# Belief in the parent, from 0 to 1, from which on its post-processing settings are kept.
_KEEPS_DECODING = 0.5
# Seconds between two segmentations of the user's view during training, and the fraction of the
# training time that they may take.
_LOOK_S, _LOOK_SHARE = 4.0, 0.08
# Whole numbers of a run's state, by the names of the attributes without "_".
_STATE_COUNTS = ("checks", "without_gain", "checked")


class Run:
    """Trains a model on a lesson, and checks it on held-out cells.

    With 40 cells or more, held-out cells are never trained on. The weights with the best score on
    them are kept, and the training ends when their score does not rise any more. With fewer cells,
    held-out cells are scored after a first part of the training, and then join the training set.
    With fewer than ten new cells, each is held out once (cross-validation with two folds).

    Parameters
    ----------
    job
        Receives the progress; `Job.finish` ends the run.
    model
        The model, which is trained in place.
    parent
        The header that it had before it was changed for this lesson.
    lesson
        The lesson.
    config
        Settings.
    compute
        The device and number format.
    look
        Called every few seconds; shows the user what the model finds now.
    again
        Header of a version whose run is repeated. Its plans are followed, and the run ends at the
        same step whatever the checks say.
    before_step
        Called with the run before each step; may take its `state`. The time does not count.
    """

    def __init__(
        self,
        job: Job[object],
        model: LoadedModel,
        parent: ModelHeader,
        lesson: Lesson,
        config: FinetuneConfig,
        compute: Compute,
        look: Callable[[], None] = lambda: None,
        again: ModelHeader | None = None,
        before_step: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self._before_step = before_step
        self._job, self._model, self._config, self._compute = job, model, config, compute
        # If the zoom changes, the parent's post-processing settings are for another size of cells.
        self._parent = parent if parent.zoom == lesson.zoom else model.header
        # Settings of the user go before both: the check is to judge what will be used.
        self._asked = _asked_decoding(config, lesson.zoom)
        self._parent = self._as_asked(self._parent)
        model.header = self._as_asked(model.header)
        self._sights = self._look_elsewhere(lesson, self._parent)
        self._belief = belief(self._sights.values())
        self._lesson = lesson = self._with_belief(lesson)
        self._enough_steps = config.scaled_steps(ENOUGH_STEPS)
        self._look, self._last_step = look, again.steps if again else None
        self._plenty = lesson.is_plenty and lesson.split.n_units > 0
        self._folds: list[Split] = []
        if lesson.split.n_units and not self._plenty:
            self._folds = [lesson.split, *([lesson.other] if lesson.other else [])]
        self._before = self._count(lesson.units)
        self._elsewhere: Elsewhere | None = None
        # Counts of the held-out cells at the time when they were scored, and of all cells at the
        # end.
        self._held_out: Counts | None = None
        self._after = self._before
        # The last score on held-out cells, which at first is the parent's.
        self._score = self._score_of_parent()
        self._best: tuple[float, int, dict[str, Tensor]] | None = None
        self._checks = self._without_gain = self._checked = 0
        self._gain = Gain(self._score if self._plenty else None)
        self._looked = time.perf_counter()
        self.steps = 0
        planes = lesson.teaching(lesson.split) if lesson.split.n_units else lesson.planes
        plans = dict(again.plans) if again else None
        # The less the parent is trusted, the weaker are the anchor and the balance of the classes,
        # which both keep what the parent finds. The anchor falls with the square, because a parent
        # that is half right is no good guide.
        trust = self._trust()
        held = replace(config, anchor=config.anchor * trust**2, balance=config.balance * trust)
        replay = replay_planes(model.header.replay, model.network.config)
        self._trainer: Trainer = start_training(model, planes, held, compute, plans, replay)

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is used up, in [0, 1]."""
        return self._trainer.share

    @property
    def planned(self) -> int:
        """Number of steps that fit into the budget."""
        return self._trainer.planned or self.steps

    @property
    def plans(self) -> tuple[tuple[int, int], ...]:
        """Pairs (step, planned steps in all) of each time that steps were planned."""
        return tuple(self._trainer.plans.items())

    def learn(self) -> None:
        """Train until the budget is spent or the checks end the run, and score the result."""

        def before_step() -> None:
            with self._trainer.clock_stopped():
                self._before_step(self)

        self.steps = learn(
            self._job, self._trainer, self._on_step, lambda: self._score, self._gain, before_step
        )
        if self._last_step is not None:
            return
        self._job.report(1.0, "checking what was learnt")
        if self._plenty and self._checked != self.steps:
            self._keep_better(self.steps)
        if self._best is not None:
            _, self.steps, weights = self._best
            self._model.network.load_state_dict(weights)
        self._after = self._count(self._lesson.units)
        if self._held_out is None:
            self._held_out = self._count(self._lesson.held_out(self._lesson.split))
        # All counts above use the same threshold for the old and the new model, so the new
        # thresholds are set only now.
        self._choose_thresholds()
        if self._sights:
            after = self._look_elsewhere(self._lesson, self._model.header)
            n_places = len(self._lesson.known)
            self._elsewhere = compare_sights(self._sights.values(), after.values(), n_places)

    def state(self) -> State:
        """Return what `restore` needs; call it between two steps. Tensors are not copied."""
        import torch

        from napari_unet.engine.trainer import State

        trainer, best = self._trainer.state(), self._best
        tensors = {f"trainer.{name}": value for name, value in trainer.tensors.items()}
        tensors["losses"] = torch.tensor(self._gain.losses, dtype=torch.float64)
        if self._held_out is not None:
            tensors["held_out"] = torch.from_numpy(self._held_out)
        if best is not None:
            tensors |= {f"best.{name}": value for name, value in best[2].items()}
        facts: JsonObject = {name: getattr(self, f"_{name}") for name in _STATE_COUNTS}
        facts |= {"trainer": trainer.facts, "folds": len(self._folds), "score": self._score}
        facts |= {"best": best and best[:2], "gain": (self._gain.score, self._gain.loss)}
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Go on where a run of the same lesson, settings and parent was; see `state`.

        Raises
        ------
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError
            If it is not the state of such a run.
        """
        from napari_unet.engine.trainer import State

        facts = state.facts
        done = len(self._folds) - int(facts["folds"])
        if done:
            self._folds = self._folds[done:] if done > 0 else []
            self._learn_from_next()
        self._trainer.restore(State(state.of("trainer"), facts["trainer"]))
        for name in _STATE_COUNTS:
            setattr(self, f"_{name}", int(facts[name]))
        self._score = _float_or_none(facts["score"])
        self._gain.score, self._gain.loss = map(_float_or_none, facts["gain"])
        self._gain.losses = state.tensors["losses"].flatten().tolist()
        if done or facts["best"] is not None:
            self._held_out = state.tensors["held_out"].numpy().reshape(self._before.shape)
        if facts["best"] is not None:
            (score, step), best = facts["best"], state.of("best")
            shapes = {name: value.shape for name, value in self._model.network.state_dict().items()}
            if {name: value.shape for name, value in best.items()} != shapes:
                raise ValueError("the best weights are of another network")
            self._best = float(score), int(step), best

    def verdict(self) -> tuple[Verdict, Check | None, Check | None]:
        """Return the verdict on the model, and the checks on new and on earlier places."""
        from napari_unet.core.cells.metrics import kappa

        lesson = self._lesson
        if not self._config.held_out or self._held_out is None:
            return Verdict(True, "it was not checked"), None, None
        scored, known = self._held_out, lesson.known
        new = compare(self._before[~known], scored[~known], lesson.split.weak)
        # The comparison is fair: both models learnt from the earlier places, or neither did.
        replay = self._held_out if self._plenty else self._after
        earlier = compare(self._before[known], replay[known], False)
        fit = Fit(kappa(self._before.sum(0)), kappa(self._after.sum(0)))
        steps = self.steps if self._config.seconds else None
        scaled = self._config.scaled_steps
        return decide(new, earlier, fit, self._elsewhere, steps, scaled), new, earlier

    def _on_step(self, report: StepReport) -> bool:
        """Check or show the model if it is time to; return whether to go on."""
        planned = self._trainer.planned
        if planned is None:
            return True
        if self._folds and report.step >= self._end_of_fold(planned):
            self._score_fold(planned)
        if self._last_step is not None:
            return report.step < self._last_step
        due = math.floor(_CHECKS * report.step / planned)
        # If more steps were planned meanwhile, fewer checks are due than were done.
        self._checks = min(self._checks, due)
        is_last = report.step >= planned and not self._trainer.is_open
        if self._plenty and due > self._checks and not is_last:
            self._checks = due
            with self._trainer.paused():
                self._keep_better(report.step)
        elif self._is_time_to_look():
            began = time.perf_counter()
            with self._trainer.paused():
                self._look()
            now = time.perf_counter()
            self._looked = now + (now - began) * (1 / _LOOK_SHARE - 1) - _LOOK_S
        if self._trainer.is_open:
            since = report.step - (self._best[1] if self._best else report.step)
            return since < max(self._config.scaled_steps(_OPEN_PATIENCE), report.step / 3)
        # The first half never ends a run, because cells of a new look are found only after a while.
        return self._without_gain < _PATIENCE or report.step < planned / 2

    def _score_of_parent(self) -> float | None:
        from napari_unet.core.cells.metrics import kappa

        held_out = self._lesson.held_out(self._lesson.split)
        held = np.unique(np.concatenate([units.ravel() for units in held_out]))
        return kappa(self._before[held[held > 0] - 1].sum(0)) if held.any() else None

    def _end_of_fold(self, planned: int) -> int:
        from napari_unet.engine.trainer import TIMED_STEPS

        if self._lesson.other is None or planned < self._enough_steps:
            number, share = 1, _HELD_OUT_UNTIL
        else:
            number = 2 if self._held_out is not None else 1
            share = number * _FOLD
        # Before that step, the number of steps may not be known.
        return max(math.ceil(share * planned), number * (TIMED_STEPS + 1))

    def _score_fold(self, planned: int) -> None:
        from napari_unet.core.cells.metrics import kappa

        fold, *rest = self._folds
        with self._trainer.paused():
            counts = self._count(self._lesson.held_out(fold))
        self._held_out = counts if self._held_out is None else self._held_out + counts
        self._score = kappa(self._held_out.sum(0))
        self._folds = rest if planned >= self._enough_steps else []
        self._learn_from_next()

    def _learn_from_next(self) -> None:
        """Train on what the next fold does not hold out, or on all if there is none left."""
        if self._folds:
            # It begins with the weights of the start, so that its cells were never trained on.
            self._trainer.learn_from(self._lesson.teaching(self._folds[0]), anew=True)
        else:
            self._trainer.learn_from(self._lesson.planes)

    def _is_time_to_look(self) -> bool:
        return time.perf_counter() - self._looked > _LOOK_S

    def _keep_better(self, step: int) -> None:
        from napari_unet.core.cells.metrics import kappa

        self._checked = step
        counts = self._count(self._lesson.held_out(self._lesson.split))
        score = kappa(counts.sum(0))
        gained = self._best is None or score > self._best[0]
        self._without_gain = 0 if gained else self._without_gain + 1
        if self._best is None or score >= self._best[0]:
            weights = {k: v.detach().clone() for k, v in self._model.network.state_dict().items()}
            # If two scores are equal, the later weights are kept, as they learnt for longer.
            self._best, self._held_out = (score, step, weights), counts
        self._score = self._best[0]

    def _choose_thresholds(self) -> None:
        model, planes = self._model, self._lesson.planes
        resized = self._lesson.zoom != 1
        if self._belief >= _KEEPS_DECODING:
            settings = self._parent.postprocess
        else:
            found = thresholds_for(model, planes, self._compute, self._job.check, resized=resized)
            settings = {**model.header.postprocess, **found}
        model.header = self._as_asked(replace(model.header, postprocess=settings))

    def _as_asked(self, header: ModelHeader) -> ModelHeader:
        return replace(header, postprocess={**header.postprocess, **self._asked})

    def _trust(self) -> float:
        """Return how far the parent is trusted on unseen pixels, from 0 to 1."""
        from napari_unet.core.cells.metrics import kappa

        if self._lesson.zoom == 1:
            # The parent is for cells of this size. The corrections show where it was wrong, so its
            # score on them would be too low for the rest of the image.
            return 1.0
        return max(kappa(self._before.sum(0)), _LEAST_TRUST)

    def _count(self, units: Sequence[NDArray[np.int32]]) -> Counts:
        lesson = self._lesson
        n = len(lesson.known)
        return count(self._model, lesson.planes, units, n, self._compute, self._job.check)

    def _look_elsewhere(self, lesson: Lesson, header: ModelHeader) -> dict[int, Sight]:
        """Return what the network finds on the planes that were corrected last, by plane.

        Its scores are decoded with the settings of `header`.
        """
        if self._model.network.config.z_depth is not None:
            return {}
        model = LoadedModel(self._model.network, header)
        partly = [n for n, plane in enumerate(lesson.planes) if plane.seen is not None]
        return {
            n: sight(model, lesson.planes[n], self._compute, self._job.check)
            for n in partly[-_ELSEWHERE:]
        }

    def _with_belief(self, lesson: Lesson) -> Lesson:
        """Return the lesson with the belief in the parent, from 0 to 1, set on each plane."""
        planes = list(lesson.planes)
        for n, plane in enumerate(planes):
            seen = self._sights.get(n)
            has_enough = seen is not None and seen.total >= _ENOUGH_CELLS
            found = belief([seen]) if seen and has_enough else self._belief
            planes[n] = replace(plane, belief=found)
        return replace(lesson, planes=tuple(planes))


def _float_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


def _asked_decoding(config: FinetuneConfig, zoom: float) -> dict[str, float]:
    """Return what the user set of how scores become cells, as settings of a header."""
    asked: dict[str, float] = {}
    if config.threshold is not None:
        # A model file may not hold others.
        asked["threshold"] = min(max(config.threshold, 0.001), 0.999)
    if config.min_size_px is not None:
        asked["min_size_px"] = round(config.min_size_px * zoom**2)
    return asked
