"""Training and fine-tuning, as a generator of step reports."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_unet.config import FinetuneConfig
from napari_unet.core.loss import anchor_loss, distance_loss, weighted_cross_entropy
from napari_unet.core.standardise import settle, standardise
from napari_unet.core.unet import UNet
from napari_unet.engine.batches import Batch, batches
from napari_unet.engine.predict import memory_layout
from napari_unet.engine.samples import AnnotatedPlane, Sampler
from napari_unet.engine.volume_samples import VolumeSampler

# So many steps, after the first, tell how many fit into the seconds.
TIMED_STEPS = 8
# A machine that has become slower since then may take this much longer than asked.
_OVERRUN = 1.1


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes
    ----------
    step
        Steps done, from 1.
    loss
        Loss of this step, without the anchor.
    learning_rate
        Learning rate of this step.
    fraction
        Share of the budget that is used up, in [0, 1].
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

    The loss is on trusted pixels only. On the others, `config.anchor` holds the network near what
    it was. A budget in seconds becomes a number of steps once a few have been timed, and again
    after twice as many. The schedule, and with it the weights, follow from the planes, the
    settings, the seed and these plans: on a CPU, bit for bit.

    Parameters
    ----------
    network
        The network to train, on the CPU or on `device`.
    planes
        What to learn from.
    config
        Budget, optimiser, loss and augmentation.
    device
        Where to train.
    dtype
        Number format of the forward pass; weights stay float32.
    plans
        The plans of an earlier run, to be followed again.

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
    ) -> None:
        self.network, self.config = network, config
        self._device, self._dtype = device, dtype
        self._layout = memory_layout(network)
        self._batches = self._draw_from(planes, config)
        network.to(device, memory_format=self._layout)  # type: ignore[call-overload]
        network.train()
        self._parent = (
            copy.deepcopy(network).eval().requires_grad_(False) if config.anchor else None
        )
        if config.standardise:
            standardise(network)
        self._average = _Average(network, config.average)
        self._optimiser = _optimiser(network, config)
        # Not torch's own generator: others in this process may draw from that.
        self._dropout = torch.Generator(device).manual_seed(config.seed)
        self._start = self._timed_from = time.perf_counter()
        self._step = 0
        self._timed_step = 0
        self._next_plan = TIMED_STEPS + 1
        # Optimiser steps of the whole run; None until some have been timed.
        few = config.steps is not None and config.steps <= TIMED_STEPS
        self.planned = config.steps if few or (config.seconds is None and not plans) else None
        # After which step how many were planned.
        self.plans: dict[int, int] = {}
        self._replayed = dict(plans or {})

    @property
    def fraction(self) -> float:
        """Share of the budget that is used up, in [0, 1]."""
        seconds = self.config.seconds
        if seconds and time.perf_counter() - self._start >= _OVERRUN * seconds:
            return 1.0
        return min(1.0, self._step / self.planned) if self.planned else 0.0

    def learn_from(self, planes: Sequence[AnnotatedPlane]) -> None:
        """Go on with other planes."""
        self._batches = self._draw_from(planes, replace(self.config, seed=self.config.seed + 1))

    def step(self, check: Callable[[], None] = lambda: None) -> StepReport:
        """Do one optimiser step.

        Parameters
        ----------
        check
            Called in each layer, forward and backward; may raise to stop within the step, which
            takes many seconds on a slow computer. The weights then stay as they were before it.

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
        elif self._step in self._replayed:
            self._plan(self._replayed[self._step])
        elif self.config.seconds and self._step == self._next_plan:
            self._time_and_plan(now)
        return StepReport(self._step, loss, rate, self.fraction, now - self._start)

    @contextmanager
    def paused(self) -> Iterator[UNet]:
        """The network as it would be kept now, in evaluation mode; the time does not count."""
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
        """Leave the network as it is to be kept, in evaluation mode."""
        self._take_average()
        settle(self.network)

    def _take_average(self) -> None:
        self._average.copy_to(self.network)
        self.network.eval()

    def _time_and_plan(self, now: float) -> None:
        left = (self.config.seconds or 0.0) - (now - self._start)
        rate = (self._step - self._timed_step) / (now - self._timed_from)
        # Again after twice as many steps, for a machine may have been busy just now.
        self._timed_from, self._timed_step, self._next_plan = now, self._step, 2 * self._step
        planned = self._step + round(left * rate)
        self._plan(max(self._step, min(planned, self.config.steps or planned)))

    def _plan(self, steps: int) -> None:
        self.planned = self.plans[self._step] = steps

    def _draw_from(
        self, planes: Sequence[AnnotatedPlane], config: FinetuneConfig
    ) -> Iterator[Batch]:
        architecture = self.network.config
        kind = Sampler if architecture.z_depth is None else VolumeSampler
        where = torch.device("cpu") if config.workers else self._device
        sampler = kind(planes, architecture, config, where)
        return batches(sampler, config.batch, config.workers, self._device, self._layout)

    def _learn(self) -> float:
        config, device = self.config, self._device
        image, classes, weight, seen, distance = next(self._batches)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self.network(image, self._dropout)
            before = None if seen.all() else self._parent_logits(image)
        k = self.network.config.n_classes
        total = loss = weighted_cross_entropy(logits[:, :k], classes, weight)
        if before is not None:
            total = loss + config.anchor * anchor_loss(logits[:, :k], before[:, :k], ~seen)
        if self.network.config.distance:
            total = total + distance_loss(logits[:, k], distance, seen)
            if before is not None:
                near = distance_loss(logits[:, k], before[:, k].float().sigmoid(), ~seen)
                total = total + config.anchor * near
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
    """Train a network in place until the budget is spent; yields a report after each step.

    Closing the generator early leaves the network trained so far, in evaluation mode. For
    parameters and errors see `Trainer`.
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
