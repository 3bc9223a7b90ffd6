"""Random geometry and random grey values for one training tile (section 3.1 and its readers)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def random_matrix(
    *, rotate: bool = True, flip: bool = True, scale: float = 1.25, generator: torch.Generator
) -> Tensor:
    """A random linear map (2, 2) on (y, x): rotation by any angle, flip, zoom.

    Parameters
    ----------
    rotate, flip
        Whether to draw an angle from the full circle; whether to mirror half of the draws.
    scale
        Largest zoom factor; drawn log-uniformly from [1 / scale, scale].
    generator
        Source of the draw; the map is made on its device.
    """
    angle, mirror, zoom = torch.rand(3, generator=generator, device=generator.device).tolist()
    turn = 2 * math.pi * angle if rotate else 0.0
    sign = -1.0 if flip and mirror < 0.5 else 1.0
    factor = scale ** (2 * zoom - 1)
    cos, sin = factor * math.cos(turn), factor * math.sin(turn)
    return torch.tensor([[cos, -sin * sign], [sin, cos * sign]], device=generator.device)


def jitter_grey(
    image: Tensor,
    *,
    grey: float = 0.15,
    noise: float = 0.05,
    invert: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """Random gamma, contrast, brightness, inversion and noise of a normalised image (C, Y, X).

    Parameters
    ----------
    image
        Float, about 0 to 1.
    grey
        Standard deviation of the logarithm of gamma and of contrast, and of brightness.
    noise
        Largest standard deviation of the Gaussian noise.
    invert
        Probability of turning dark into bright.
    generator
        Source of the draw, on the image's device.
    """
    device = generator.device
    gamma, contrast, brightness = (
        torch.randn(3, generator=generator, device=device) * grey
    ).tolist()
    chance, level = torch.rand(2, generator=generator, device=device).tolist()
    # Gamma bends the values within [0, 1] only, so that none turns into NaN.
    inside = image.clamp(0, 1)
    outside = image - inside
    out: Tensor = inside.pow_(math.exp(gamma)).add_(outside)
    slope = -math.exp(contrast) if chance < invert else math.exp(contrast)
    out.sub_(0.5).mul_(slope).add_(0.5 + brightness)
    if noise:
        drawn = torch.randn(out.shape, generator=generator, device=device)
        out.add_(drawn, alpha=noise * level)
    return out
