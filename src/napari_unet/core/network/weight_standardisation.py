"""Weight standardisation during training; afterwards the network is a plain one again.

It is that of Qiao et al. 2019 (arXiv:1903.10520), scaled as by Brock et al. 2021
(arXiv:2101.08692): the weights of each filter have mean 0 and He's variance 2 / N, times a gain
that is learnt. Like batch normalisation it makes training faster. But it depends on the weights
alone, not on a tile, so tiles stay seamless.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrize

# The axes of a convolution's weights (O, I, H, W) that belong to one filter.
_AXES = (1, 2, 3)
# This is added to the variance of a filter, so that no division is by 0.
_EPSILON = 1e-4
# A mean counts as 0 up to this share of the standard deviation: that of weights which were stored
# in 16 bits is not exactly 0.
_ZERO = 1e-2


class _Standardised(nn.Module):
    """A filter's weights (O, I, H, W) with mean 0 and a standard deviation of its own."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        # So that standardised weights stay what they are.
        self.gain = nn.Parameter(_deviation(_centred(weight.detach())))

    def forward(self, weight: Tensor) -> Tensor:
        centred = _centred(weight)
        return centred * (self.gain / _deviation(centred))


def standardise(network: nn.Module) -> None:
    """Standardise the weights of a network's 3x3 convolutions from now on, while it is trained."""
    for layer in _convolutions(network):
        parametrize.register_parametrization(layer, "weight", _Standardised(layer.weight))


def settle(network: nn.Module) -> None:
    """Turn standardised weights into plain ones; the network's output stays the same."""
    for layer in _convolutions(network):
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")


def is_standardised(network: nn.Module) -> bool:
    """Whether the mean of each filter is 0, so that `standardise` would not change the weights."""
    return all(
        bool((layer.weight.mean(_AXES).abs() < _ZERO * layer.weight.std(_AXES)).all())
        for layer in _convolutions(network)
    )


def _convolutions(network: nn.Module) -> list[nn.Conv2d]:
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    return [layer for layer in layers if layer.kernel_size == (3, 3)]


def _centred(weight: Tensor) -> Tensor:
    return weight - weight.mean(_AXES, keepdim=True)


def _deviation(centred: Tensor) -> Tensor:
    """Return the standard deviation of each filter divided by He's, (O, 1, 1, 1)."""
    # This is several times as fast as torch.var.
    variance = centred.square().mean(_AXES, keepdim=True)
    return (variance * (centred[0].numel() / 2) + _EPSILON).sqrt()
