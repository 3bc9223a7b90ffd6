"""Training and fine-tuning, as a generator of step reports."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_unet.config import FinetuneConfig
from napari_unet.core.loss import anchor_loss, weighted_cross_entropy
from napari_unet.core.unet import UNet
from napari_unet.engine.samples import AnnotatedPlane, Sampler


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


def finetune(
    network: UNet,
    planes: Sequence[AnnotatedPlane],
    config: FinetuneConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Iterator[StepReport]:
    """Train a network in place; yields a report after each step.

    The loss is on trusted pixels only. On the others, `config.anchor` holds the network near what
    it was. Closing the generator early leaves the network trained so far. With `config.steps` and
    no seconds, the same seed gives the same weights on a CPU.

    Parameters
    ----------
    network
        The network to train, on the CPU or on `device`; left on `device` in evaluation mode.
    planes
        What to learn from.
    config
        Budget, optimiser, loss and augmentation.
    device
        Where to train.
    dtype
        Number format of the forward pass; weights stay float32.

    Raises
    ------
    ValueError
        If no pixel is trusted.
    FloatingPointError
        If the loss or its gradient is no longer a number.
    """
    sampler = Sampler(planes, network.config, config, device)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    parent = copy.deepcopy(network).eval().requires_grad_(False) if config.anchor else None
    average = _Average(network, config.average)
    optimiser = _optimiser(network, config)
    start = time.perf_counter()
    fraction, step = 0.0, 0
    torch.manual_seed(config.seed)
    try:
        while fraction < 1:
            rate = _learning_rate(config, step, fraction)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = _step(network, parent, sampler, config, optimiser, device, dtype)
            average.update(network)
            step += 1
            elapsed = time.perf_counter() - start
            fraction = _fraction(config, step, elapsed)
            yield StepReport(step, loss, rate, fraction, elapsed)
    finally:
        average.copy_to(network)
        network.eval()


def _step(
    network: UNet,
    parent: UNet | None,
    sampler: Sampler,
    config: FinetuneConfig,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    samples = [sampler.draw() for _ in range(config.batch)]
    image = torch.stack([s.image for s in samples]).to(memory_format=torch.channels_last)
    classes = torch.stack([s.classes for s in samples])
    weight = torch.stack([s.weight for s in samples])
    unseen = ~torch.stack([s.seen for s in samples])
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = network(image)
        before = _parent_logits(parent, image) if parent is not None and unseen.any() else None
    loss = weighted_cross_entropy(logits, classes, weight)
    total = loss
    if before is not None:
        total = loss + config.anchor * anchor_loss(logits, before, unseen)
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    value = float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0))
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise FloatingPointError(
            f"training diverged (the loss is {value}, its gradient {norm}); "
            "the model stays as it was: give a lower learning rate"
        )
    optimiser.step()
    return value


@torch.no_grad()
def _parent_logits(parent: UNet, image: Tensor) -> Tensor:
    logits: Tensor = parent(image)
    return logits


def _optimiser(network: UNet, config: FinetuneConfig) -> torch.optim.Optimizer:
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.99)
    return torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-4)


def _learning_rate(config: FinetuneConfig, step: int, fraction: float) -> float:
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return rate * 0.5 * (1 + math.cos(math.pi * fraction)) if config.decay else rate


def _fraction(config: FinetuneConfig, step: int, elapsed_s: float) -> float:
    by_steps = step / config.steps if config.steps else 0.0
    by_time = elapsed_s / config.seconds if config.seconds else 0.0
    return min(1.0, max(by_steps, by_time))


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
