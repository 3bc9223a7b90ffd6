"""Train or fine-tune a network step by step."""

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
from napari_unet.core.network.loss import (
    anchor_loss,
    distance_loss,
    sure_background,
    weighted_cross_entropy,
)
from napari_unet.core.network.unet import UNet
from napari_unet.core.network.weight_standardisation import settle, standardise
from napari_unet.engine.loader import Batch, batches
from napari_unet.engine.predict import memory_layout
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.engine.stack_samples import VolumeSampler

# Number of steps, after the first, that are timed to plan how many fit into the budget in seconds.
TIMED_STEPS = 8
# Where a step takes long, the speed is known roughly once this many seconds were timed.
_TIMED_S = 2.0
# A run may take this many times the seconds asked for, if the machine became slower meanwhile.
_OVERRUN = 1.1
# Training with an open end (`seconds="auto"`) is planned in legs. This is the number of steps of
# the first leg; each further leg is as long as all legs before it.
FIRST_LEG = 80
# Largest number of steps, and of seconds, of a training with an open end.
MOST_STEPS, MOST_S = 1500, 600.0
# A further leg is begun only if it adds at least this fraction of the steps so far.
_LEAST_MORE = 0.25
# The anchor is multiplied by 1 + `_FIRM` * belief, where belief, in [0, 1], says how far the
# parent's prediction can be believed.
_FIRM = 4.0


@dataclass(frozen=True)
class StepReport:
    """The report of one optimiser step.

    Attributes
    ----------
    step
        Steps done, from 1.
    loss
        Loss of this step, without the anchor.
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


class Trainer:
    """Trains a network in place, step by step.

    The loss is on trusted pixels only. On other pixels, `config.anchor` keeps the network near its
    first state where that is sure of background. A budget in seconds becomes a number of steps once
    a few steps have been timed, and again after twice as many. Training with an open end is planned
    in legs: at the end of each, when the learning rate has fallen, `go_on` begins the next. The
    schedule, and so the weights, follow from the planes, the settings, the seed and these plans. On
    a CPU the same plans give exactly the same weights.

    Parameters
    ----------
    network
        The network to train, on the CPU or on `device`.
    planes
        The annotated planes to train on.
    config
        Budget, optimiser, loss and augmentation.
    device
        Where to train.
    dtype
        Number format of the forward pass; weights stay float32.
    plans
        The plans of an earlier run, which are followed again.
    replay
        Some planes that the network was trained on before. The fraction `config.replay` of the
        batches is drawn from them, so that the network does not forget them.

    Attributes
    ----------
    planned
        Steps of the whole run, or up to the end of this leg; None until some have been timed.
    plans
        Number of planned steps, by the step after which they were planned.
    seconds
        The budget in seconds as it is now; None if the budget is in steps.
    speed
        Steps per second; None until some have been timed.
    is_open
        Whether `go_on` may begin another leg.
    asked_s
        Called after each step. It returns how many seconds in all the user wants by now, which
        become the budget if they are more; None for no change.

    Raises
    ------
    ValueError
        If no pixel is trusted.
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
        self._average = _Average(network, config.average)
        self._optimiser = _optimiser(network, config)
        # Not torch's own generator: others in this process may draw from that.
        self._dropout = torch.Generator(device).manual_seed(config.seed)
        self._start = self._timed_from = time.perf_counter()
        self._step = 0
        self._timed_step = 0
        self.is_open = config.seconds == "auto"
        self.seconds = MOST_S if config.seconds == "auto" else config.seconds
        self.speed: float | None = None
        self.asked_s: Callable[[], float | None] = lambda: None
        self._most = config.steps or (MOST_STEPS if self.is_open else None)
        self._leg = FIRST_LEG
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
        """Fraction of the budget to show to the user, in [0, 1].

        It is the fraction of the time as long as no steps are planned, or if the end is open.
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
        """Number of steps that fit into the budget: as planned, or as the speed allows, or None."""
        if self.planned is not None and not self.is_open:
            return self.planned
        return None if self.speed is None else self._fitting()

    def learn_from(self, planes: Sequence[AnnotatedPlane], *, anew: bool = False) -> None:
        """Train on other planes from now on; with `anew` from the weights of the beginning."""
        self._draws += 1
        config = replace(self.config, seed=self.config.seed + self._draws)
        self._batches = self._draw_from(planes, config)
        if anew:
            self.network.load_state_dict(self._first)
            self._optimiser = _optimiser(self.network, config)
            self._average = _Average(self.network, config.average)

    def go_on(self) -> bool:
        """Begin another leg at the end of one; return False if too few steps are left for it."""
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
            Called in each layer, forward and backward. It may raise an exception to stop within the
            step, which takes many seconds on a slow computer. The weights then stay as they were
            before the step.

        Raises
        ------
        FloatingPointError
            If the loss or its gradient is no longer a number.
        """
        # Not before the length of any run is known.
        done = self._step / self.planned if self.planned and self._step > TIMED_STEPS else 0.0
        rate = _learning_rate(self.config, self._step, done)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with _checked([self.network, *([self._parent] if self._parent else [])], check):
            loss = self._learn()
        self._average.update(self.network)
        self._step += 1
        now = time.perf_counter()
        if self._step == 1:
            # The first step pays for the memory of all others.
            self._timed_from, self._timed_step = now, 1
        self._time(now)
        # The budget grows only here, so that a run that is repeated makes the same plan.
        self._extend()
        if self._step in self._replayed:
            self._plan(self._replayed[self._step])
        elif self.seconds and self._step == self._next_plan:
            self._timed_from, self._timed_step = now, self._step
            # Again after twice as many steps, for a machine may have been busy just now.
            self._next_plan = 2 * self._step
            planned = self._fitting()
            self._plan(min(planned, self._leg) if self.is_open else planned)
        return StepReport(self._step, loss, rate, self.fraction, now - self._start)

    @contextmanager
    def paused(self) -> Iterator[UNet]:
        """Give the network as it would be kept now, in evaluation mode.

        The time until the end of the block does not count. Training then continues as before.
        """
        began = time.perf_counter()
        learning = copy.deepcopy(self.network.state_dict())
        self._take_average()
        try:
            yield self.network
        finally:
            self.network.load_state_dict(learning)
            self.network.train()
            spent = time.perf_counter() - began
            self._start += spent
            self._timed_from += spent

    def finish(self) -> None:
        """Give the network its final weights, in evaluation mode."""
        self._take_average()
        settle(self.network)

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
            # Before that, nothing is planned yet.
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
        drawn = [
            batches(
                kind(each, architecture, config, where),
                config.batch,
                config.workers,
                self._device,
                self._layout,
            )
            for each in ([planes, self._replay] if self._replay else [planes])
        ]
        return _mixed(drawn, config)

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
        value = float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise FloatingPointError(
                f"training diverged (the loss is {value}, its gradient {norm}); "
                "the model stays as it was: give a lower learning rate"
            )
        self._optimiser.step()
        return value

    @torch.no_grad()
    def _parent_logits(self, image: Tensor) -> Tensor | None:
        return None if self._parent is None else self._parent(image)


def finetune(
    network: UNet,
    planes: Sequence[AnnotatedPlane],
    config: FinetuneConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Iterator[StepReport]:
    """Train a network in place until the budget is used up; yield a report after each step.

    If the generator is closed early, the network keeps what it has learnt, in evaluation mode. For
    the parameters and errors see `Trainer`.
    """
    trainer = Trainer(network, planes, config, device, dtype)
    try:
        while trainer.fraction < 1:
            yield trainer.step()
    finally:
        trainer.finish()


@contextmanager
def _checked(networks: Sequence[UNet], check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each layer, and when the gradient of a weight is known."""
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


def _optimiser(network: UNet, config: FinetuneConfig) -> torch.optim.Optimizer:
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.99)
    # Fused: one pass over the weights instead of a dozen, a tenth of a step's time.
    rate, fused = config.learning_rate, next(network.parameters()).device.type != "mps"
    return torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4, fused=fused)


def _learning_rate(config: FinetuneConfig, step: int, fraction: float) -> float:
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return rate * 0.5 * (1 + math.cos(math.pi * fraction)) if config.decay else rate


def _mixed(drawn: Sequence[Iterator[Batch]], config: FinetuneConfig) -> Iterator[Batch]:
    """Yield batches; the fraction `config.replay` comes from the second source, if there is one."""
    rng = np.random.default_rng(config.seed)
    while True:
        is_replay = len(drawn) > 1 and rng.random() < config.replay
        yield next(drawn[int(is_replay)])


class _Average:
    """Running mean of the weights (Polyak averaging); does nothing with a decay of 0."""

    def __init__(self, network: UNet, decay: float) -> None:
        self._decay, self._updates = decay, 0
        self._mean = (
            {k: v.detach().clone() for k, v in network.state_dict().items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, network: UNet) -> None:
        self._updates += 1
        # A short run must not remember the start for longer than it lasts.
        decay = min(self._decay, self._updates / (self._updates + 10))
        for name, value in network.state_dict().items() if self._decay else ():
            self._mean[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def copy_to(self, network: UNet) -> None:
        for name, value in network.state_dict().items() if self._updates and self._decay else ():
            value.copy_(self._mean[name])
