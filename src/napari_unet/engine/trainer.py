"""Training and fine-tuning of a network, one optimiser step at a time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_unet.config import FinetuneConfig
from napari_unet.core.json_types import JsonMapping
from napari_unet.core.network.loss import (
    anchor_loss,
    distance_loss,
    sure_background,
    weighted_cross_entropy,
)
from napari_unet.core.network.unet import UNet
from napari_unet.core.network.weight_standardisation import settle, standardise
from napari_unet.engine.loader import Batch, batches
from napari_unet.engine.optimiser import (
    Average,
    learning_rate,
    make_optimiser,
    moments,
    set_moments,
)
from napari_unet.engine.predict import memory_layout
from napari_unet.engine.random_state import Random, set_state, state_of
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.engine.stack_samples import VolumeSampler

# Steps after the first that are timed, to compute how many steps fit into the budget of seconds.
TIMED_STEPS = 8
# Seconds after which the speed is estimated even if fewer steps were timed. It shows users with
# slow computers early how long the training takes.
_TIMED_S = 2.0
# Training stops when it has taken this many times the asked seconds. The number of steps is planned
# early, and the computer may have become slower since then.
_OVERRUN = 1.1
# Limits of a training with an open end: steps of the first leg (each later leg doubles the number
# of steps so far) and steps at most, both with tiles of 236 px (`FinetuneConfig.scaled_steps`), and
# seconds at most.
FIRST_LEG, MOST_STEPS, MOST_S = 80, 1500, 600.0
# A new leg begins only if it adds at least this fraction of the steps so far.
_LEAST_MORE = 0.25
# Whole numbers that change from step to step, by the names of the attributes without "_".
_COUNTS = ("step", "draws", "timed_step", "leg", "next_plan")
# Extra strength of the anchor where the parent is fully believed: the anchor is multiplied by
# 1 + _FIRM * belief, with belief from 0 to 1.
_FIRM = 4.0


@dataclass(frozen=True)
class StepReport:
    """The report of one optimiser step.

    Attributes
    ----------
    step
        Steps done, from 1.
    loss
        Loss of this step, without the anchor; of the step before if this one saw no seen pixel.
    learning_rate
        Learning rate of this step.
    fraction
        Fraction of the budget that is used up, in [0, 1].
    elapsed_s
        Seconds since the first step began.
    """

    step: int
    loss: float
    learning_rate: float
    fraction: float
    elapsed_s: float


@dataclass(frozen=True)
class State:
    """What a training needs to go on later, in another process, as if it had not been interrupted.

    Attributes
    ----------
    tensors
        Weights and other arrays, by name.
    facts
        Numbers, texts, lists and tables of these, which JSON can hold.
    """

    tensors: Mapping[str, Tensor]
    facts: JsonMapping

    def of(self, kind: str) -> dict[str, Tensor]:
        """Return the tensors that are named "KIND.NAME", by NAME."""
        start = f"{kind}."
        found = self.tensors.items()
        return {name.removeprefix(start): v for name, v in found if name.startswith(start)}


class Trainer:
    """Trains a network in place, step by step.

    The loss counts seen pixels only. On the other pixels, `config.anchor` keeps the output close
    to that of the network at the start: fully where it was certain of background, and elsewhere as
    far as that network is believed (`AnnotatedPlane.belief`).

    A budget in seconds becomes a number of steps after a few steps were timed. It is computed again
    after twice as many steps. Training with an open end is planned in legs. The learning rate falls
    within each leg, and at the end of a leg `go_on` begins the next one. The same planes, settings,
    seed and plans give the same weights, on a CPU bit for bit.

    Parameters
    ----------
    network
        The network to train, on the CPU or on `device`.
    planes
        The annotated planes to train on.
    config
        Budget, optimiser, loss and augmentation.
    device
        The device to train on.
    dtype
        Number format of the forward pass; weights stay float32.
    plans
        The plans of an earlier run, which are followed again.
    replay
        A sample of the planes that the shipped network learnt from. The fraction `config.replay` of
        the batches is drawn from it, so that the network does not forget them.

    Attributes
    ----------
    planned
        Steps of the whole run, or up to the end of this leg; None until some have been timed.
    plans
        The planned number of steps, by the step after which it was planned.
    seconds
        The budget in seconds as it is now; None if the budget is in steps.
    speed
        Steps per second; None until some have been timed.
    is_open
        Whether `go_on` may begin another leg.
    asked_s
        Called after each step. Returns the seconds in all that the user wants now, or None for no
        change. If it is more than the budget, it becomes the budget.

    Raises
    ------
    ValueError
        If no pixel was seen.
    """

    def __init__(
        self,
        network: UNet,
        planes: Sequence[AnnotatedPlane],
        config: FinetuneConfig,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        plans: Mapping[int, int] | None = None,
        replay: Sequence[AnnotatedPlane] = (),
    ) -> None:
        self.network, self.config = network, config
        self._device, self._dtype = device, dtype
        self._replay = replay if config.replay else ()
        self._layout = memory_layout(network)
        self._samplers: list[Sampler] = []
        self._choice = np.random.default_rng()
        self._batches = self._draw_from(planes, config)
        network.to(device, memory_format=self._layout)  # type: ignore[call-overload]
        network.train()
        self._parent = (
            copy.deepcopy(network).eval().requires_grad_(False) if config.anchor else None
        )
        if config.standardise:
            standardise(network)
        self._first = copy.deepcopy(network.state_dict())
        self._draws = 0
        self._average = Average(network, config.average)
        self._optimiser = make_optimiser(network, config)
        # A generator of its own, because other code in this process may draw from torch's.
        self._dropout = torch.Generator(device).manual_seed(config.seed)
        self._start = self._timed_from = time.perf_counter()
        self._step = 0
        # At first that of guessing.
        self._loss = math.log(network.config.n_classes)
        self._timed_step = 0
        self.is_open = config.seconds == "auto"
        self.seconds = MOST_S if config.seconds == "auto" else config.seconds
        self.speed: float | None = None
        self.asked_s: Callable[[], float | None] = lambda: None
        self._most = config.steps or (config.scaled_steps(MOST_STEPS) if self.is_open else None)
        self._leg = config.scaled_steps(FIRST_LEG)
        self._next_plan = TIMED_STEPS + 1
        few = config.steps is not None and config.steps <= TIMED_STEPS
        self.planned = config.steps if few or (config.seconds is None and not plans) else None
        self.plans: dict[int, int] = {}
        self._replayed = dict(plans or {})

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is used up, in [0, 1]."""
        if self.seconds and self.elapsed_s >= _OVERRUN * self.seconds:
            return 1.0
        return min(1.0, self._step / self.planned) if self.planned else 0.0

    @property
    def share(self) -> float:
        """Fraction of the training that is done, in [0, 1], for a progress bar.

        It is the fraction of the time before steps are planned and where the end is open.
        """
        if self.seconds and (self.is_open or self.planned is None):
            of_steps = self._step / self._most if self._most else 0.0
            return min(1.0, max(self.elapsed_s / self.seconds, of_steps))
        return self.fraction

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return self._step

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, without pauses."""
        return time.perf_counter() - self._start

    @property
    def expected(self) -> int | None:
        """Expected number of steps of the whole run.

        It is the plan, or an estimate from the speed; None before either is known.
        """
        if self.planned is not None and not self.is_open:
            return self.planned
        return None if self.speed is None else self._fitting()

    def learn_from(self, planes: Sequence[AnnotatedPlane], *, anew: bool = False) -> None:
        """Train on other planes from now on; with `anew`, from the weights of the start."""
        self._draws += 1
        config = replace(self.config, seed=self.config.seed + self._draws)
        self._batches = self._draw_from(planes, config)
        if anew:
            self.network.load_state_dict(self._first)
            self._optimiser = make_optimiser(self.network, config)
            self._average = Average(self.network, config.average)

    def go_on(self) -> bool:
        """Plan another leg; return False if the budget has no room for a useful one."""
        self._leg = 2 * self._step
        planned = min(self._fitting(), self._leg)
        if planned < (1 + _LEAST_MORE) * self._step:
            return False
        self._plan(planned)
        return True

    def step(self, check: Callable[[], None] = lambda: None) -> StepReport:
        """Do one optimiser step.

        Parameters
        ----------
        check
            Called in each layer, forward and backward. It may raise to stop within the step, which
            takes many seconds on a slow computer. The weights then stay as they were.

        Raises
        ------
        FloatingPointError
            If the loss or its gradient is no longer a number.
        """
        # The learning rate does not fall before the length of the run can be known.
        done = self._step / self.planned if self.planned and self._step > TIMED_STEPS else 0.0
        rate = learning_rate(self.config, self._step, done)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with _checked([self.network, *([self._parent] if self._parent else [])], check):
            loss = self._learn()
        self._average.update(self.network)
        self._step += 1
        now = time.perf_counter()
        if self._step == 1:
            # The first step is slower than the others, because it allocates memory.
            self._timed_from, self._timed_step = now, 1
        self._time(now)
        # Here and nowhere else, so that a run that is reproduced has the same plan at this step.
        self._extend()
        if self._step in self._replayed:
            self._plan(self._replayed[self._step])
        elif self.seconds and self._step == self._next_plan:
            self._timed_from, self._timed_step = now, self._step
            # The plan is made again after twice as many steps, as the computer may be busy now.
            self._next_plan = 2 * self._step
            planned = self._fitting()
            self._plan(min(planned, self._leg) if self.is_open else planned)
        return StepReport(self._step, loss, rate, self.fraction, now - self._start)

    @contextmanager
    def paused(self) -> Iterator[UNet]:
        """Lend the network as it would be kept now, in evaluation mode; the time does not count."""
        with self.clock_stopped():
            learning = copy.deepcopy(self.network.state_dict())
            self._take_average()
            try:
                yield self.network
            finally:
                self.network.load_state_dict(learning)
                self.network.train()

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Do not count the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._start += spent
            self._timed_from += spent

    def state(self) -> State:
        """Return all that changes from step to step; call it between two steps.

        Its tensors are those of the trainer, not copies.
        """
        now = time.perf_counter()
        own = {"network": self.network.state_dict(), "average": self._average.mean}
        tensors = {
            f"{kind}.{name}": value.detach()
            for kind, table in {**own, "optimiser": moments(self._optimiser)}.items()
            for name, value in table.items()
        }
        facts = {name: getattr(self, f"_{name}") for name in _COUNTS}
        facts |= {"planned": self.planned, "seconds": self.seconds, "speed": self.speed}
        facts["loss"] = self._loss
        facts |= {"elapsed_s": now - self._start, "timed_s": now - self._timed_from}
        facts["updates"] = self._average.updates
        facts["plans"] = list(self.plans.items())
        facts["random"] = [state_of(source) for source in self._random]
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Go on where a trainer of the same network, planes and settings was; see `state`.

        Call `learn_from` before, if it was called then.

        Raises
        ------
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError
            If it is not the state of such a trainer.
        """
        facts, now = state.facts, time.perf_counter()
        self.network.load_state_dict(state.of("network"))
        self._average.restore(state.of("average"), int(facts["updates"]))
        set_moments(self._optimiser, state.of("optimiser"))
        for name in _COUNTS:
            setattr(self, f"_{name}", int(facts[name]))
        self.planned = None if facts["planned"] is None else int(facts["planned"])
        for name in ("seconds", "speed"):
            setattr(self, name, None if facts[name] is None else float(facts[name]))
        self._loss = float(facts["loss"])
        self._start = now - float(facts["elapsed_s"])
        self._timed_from = now - float(facts["timed_s"])
        self.plans = {int(step): int(steps) for step, steps in facts["plans"]}
        for source, random in zip(self._random, facts["random"], strict=True):
            set_state(source, random)

    def finish(self) -> None:
        """Give the network its final weights, in evaluation mode."""
        self._take_average()
        settle(self.network)

    @property
    def _random(self) -> list[Random]:
        """All sources of random numbers."""
        drawn = [source for sampler in self._samplers for source in sampler.random]
        return [self._dropout, self._choice, *drawn]

    def _take_average(self) -> None:
        self._average.copy_to(self.network)
        self.network.eval()

    def _time(self, now: float) -> None:
        steps, spent = self._step - self._timed_step, now - self._timed_from
        if steps >= TIMED_STEPS or spent >= _TIMED_S:
            self.speed = steps / spent

    def _extend(self) -> None:
        asked = self.asked_s()
        if asked and self.seconds and asked > self.seconds:
            self.seconds = asked
            # Before that, there is no plan to change.
            if self._step > TIMED_STEPS:
                self._next_plan = self._step

    def _fitting(self) -> int:
        """Return the number of steps that fit into the budget at the speed so far."""
        left = (self.seconds or 0.0) - self.elapsed_s
        steps = self._step + round(left * (self.speed or 0.0))
        return max(self._step, min(steps, self._most or steps))

    def _plan(self, steps: int) -> None:
        self.planned = self.plans[self._step] = steps

    def _draw_from(
        self, planes: Sequence[AnnotatedPlane], config: FinetuneConfig
    ) -> Iterator[Batch]:
        architecture = self.network.config
        kind = Sampler if architecture.z_depth is None else VolumeSampler
        where = torch.device("cpu") if config.workers else self._device
        self._samplers = [
            kind(each, architecture, config, where)
            for each in ([planes, self._replay] if self._replay else [planes])
        ]
        self._choice = np.random.default_rng(config.seed)
        drawn = [
            batches(sampler, config.batch, config.workers, self._device, self._layout)
            for sampler in self._samplers
        ]
        return _mixed(drawn, self._choice, config.replay)

    def _learn(self) -> float:
        config, device = self.config, self._device
        image, classes, weight, seen, distance, belief = next(self._batches)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self.network(image, self._dropout)
            before = None if seen.all() else self._parent_logits(image)
        k = self.network.config.n_classes
        total = loss = weighted_cross_entropy(logits[:, :k], classes, weight)
        held = (~seen).float()
        firmness = config.anchor * (1 + _FIRM * float(belief.mean()))
        if before is not None:
            of_all = belief.view(-1, *[1] * (seen.ndim - 1))
            held *= torch.where(sure_background(before[:, :k]), 1.0, of_all)
            total = loss + firmness * anchor_loss(logits[:, :k], before[:, :k], held)
        if self.network.config.distance:
            total = total + distance_loss(logits[:, k], distance, seen)
            if before is not None:
                near = distance_loss(logits[:, k], before[:, k].float().sigmoid(), held)
                total = total + firmness * near
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()
        # A tile beside the corrections tells nothing about the loss on them.
        value = float(loss.detach()) if seen.any() else self._loss
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise FloatingPointError(
                f"training diverged (the loss is {value}, its gradient {norm}); "
                "the model stays as it was: give a lower learning rate"
            )
        self._optimiser.step()
        self._loss = value
        return value

    @torch.no_grad()
    def _parent_logits(self, image: Tensor) -> Tensor | None:
        return None if self._parent is None else self._parent(image)


@contextmanager
def _checked(networks: Sequence[UNet], check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each layer runs, and after the gradient of each weight is computed."""
    layers = [layer for network in networks for layer in network.modules()]
    weights = [w for network in networks for w in network.parameters() if w.requires_grad]
    hooks = [
        *(layer.register_forward_pre_hook(lambda *_: check()) for layer in layers),
        *(weight.register_hook(lambda _: check()) for weight in weights),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _mixed(
    drawn: Sequence[Iterator[Batch]], rng: np.random.Generator, replay: float
) -> Iterator[Batch]:
    """Yield batches; with two sources, the fraction `replay` comes from the second."""
    while True:
        is_replay = len(drawn) > 1 and rng.random() < replay
        yield next(drawn[int(is_replay)])
