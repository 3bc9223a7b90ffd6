"""The optimiser of a training, its learning rate, and the running mean of the weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from napari_unet.config import FinetuneConfig
from napari_unet.core.network.unet import UNet

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def _without_compiler(kind: type[Kind]) -> type[Kind]:
    """Return a kind of optimiser that does the same, but does not import torch's compiler.

    These functions of torch's own import it at their first call, to tell it to leave them alone.
    It has 800 modules, which takes 1.4 s, and nothing here is compiled.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    functions = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    functions["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), functions)


_AdamW, _SGD = _without_compiler(torch.optim.AdamW), _without_compiler(torch.optim.SGD)
# The arrays that an optimiser keeps for each weight array; "step" is one number.
_MOMENTS = {_AdamW: {"step", "exp_avg", "exp_avg_sq"}, _SGD: {"momentum_buffer"}}


def make_optimiser(network: UNet, config: FinetuneConfig) -> torch.optim.Optimizer:
    """Return a new optimiser of a network's weights."""
    if config.optimiser == "sgd":
        return _SGD(network.parameters(), lr=config.learning_rate, momentum=0.99)
    # Fused: one pass over the weights instead of a dozen, a tenth of a step's time.
    rate, fused = config.learning_rate, next(network.parameters()).device.type != "mps"
    return _AdamW(network.parameters(), lr=rate, weight_decay=1e-4, fused=fused)


def learning_rate(config: FinetuneConfig, step: int, fraction: float) -> float:
    """Return the learning rate of a step, from 0, when a fraction of the budget is used up."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return rate * 0.5 * (1 + math.cos(math.pi * fraction)) if config.decay else rate


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the arrays that an optimiser keeps, named "NUMBER.KIND"; NUMBER is of the weights."""
    kept = optimiser.state_dict()["state"]
    return {
        f"{number}.{kind}": value
        for number, table in kept.items()
        for kind, value in table.items()
        if isinstance(value, Tensor)
    }


def set_moments(optimiser: torch.optim.Optimizer, given: Mapping[str, Tensor]) -> None:
    """Give a new optimiser the arrays of another one of the same weights; see `moments`.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    weights = optimiser.param_groups[0]["params"]
    kinds = _MOMENTS[type(optimiser)]
    tables: dict[int, dict[str, Tensor]] = {}
    for name, value in given.items():
        number, _, kind = name.partition(".")
        place = int(number)
        like = weights[place] if kind != "step" else torch.zeros(())
        if place < 0 or kind not in kinds or value.shape != like.shape:
            raise ValueError(f"{name} has no place in the optimiser")
        if kind == "exp_avg_sq" and bool((value < 0).any()):
            raise ValueError(f"{name} is negative")
        # The fused optimiser needs them in the memory layout of the weights.
        tables.setdefault(place, {})[kind] = torch.empty_like(like).copy_(value)
    if tables and any(tables.get(place, {}).keys() != kinds for place in range(len(weights))):
        raise ValueError("arrays of the optimiser are missing")
    optimiser.load_state_dict(optimiser.state_dict() | {"state": tables})


class Average:
    """Running mean of the weights (Polyak averaging); does nothing with a decay of 0.

    Attributes
    ----------
    updates
        Number of steps that it has seen.
    mean
        The mean of each weight array, by name; empty with a decay of 0.
    """

    def __init__(self, network: UNet, decay: float) -> None:
        self._decay, self.updates = decay, 0
        self.mean = (
            {k: v.detach().clone() for k, v in network.state_dict().items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, network: UNet) -> None:
        """Take note of the weights after a step."""
        self.updates += 1
        # The decay grows slowly, so that a short run does not average in its start.
        decay = min(self._decay, self.updates / (self.updates + 10))
        for name, value in network.state_dict().items() if self._decay else ():
            self.mean[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def copy_to(self, network: UNet) -> None:
        """Give a network the mean, if there is one."""
        for name, value in network.state_dict().items() if self.updates and self._decay else ():
            value.copy_(self.mean[name])

    def restore(self, mean: Mapping[str, Tensor], updates: int) -> None:
        """Go on with the mean of so many steps; raises ValueError if it is of other weights."""
        if mean.keys() != self.mean.keys():
            raise ValueError("the running mean is of other weights")
        for name, value in mean.items():
            self.mean[name].copy_(value)
        self.updates = updates
