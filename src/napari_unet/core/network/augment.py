"""Random geometry, grey values and colours for one training tile (section 3.1 of the paper)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_unet.core.stains import DARKEST, stain_matrices


def random_matrix(
    *, rotate: bool = True, flip: bool = True, scale: float = 1.25, generator: torch.Generator
) -> Tensor:
    """Draw a random linear map (2, 2) on (y, x): rotation by any angle, flip, zoom.

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
    """Change gamma, contrast, brightness and noise of a normalised image (C, Y, X) at random.

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


def jitter_colour(
    image: Tensor, *, colour: float = 0.2, to_grey: float = 0.0, generator: torch.Generator
) -> Tensor:
    """Change stains, white balance and saturation of a normalised colour image (3, Y, X) at random.

    The amounts of haematoxylin, eosin and DAB are scaled at random, so that a network trained on
    tissue of one laboratory also knows that of another (Tellez et al. 2019, arXiv:1902.06543).

    Parameters
    ----------
    image
        Red, green and blue, float, about 0 to 1.
    colour
        Standard deviation of the logarithm of each stain's and each colour's amount, and of the
        saturation.
    to_grey
        Probability that the image is turned into one grey value in all three channels: a random
        mixture of the colours or the haematoxylin alone, bright on dark or dark on bright.
    generator
        Source of the draw, on the image's device.

    Returns
    -------
    (3, Y, X), about 0 to 1.
    """
    device = generator.device
    drawn = torch.randn(7, generator=generator, device=device) * colour
    chance, which, turn = torch.rand(3, generator=generator, device=device).tolist()
    to_rgb, to_stains = (
        torch.from_numpy(matrix).to(device, image.dtype) for matrix in stain_matrices()
    )
    absorbance = -image.clamp(DARKEST, 1).log()
    if chance < to_grey:
        if which < 0.5:
            amount = torch.einsum("cyx,c->yx", absorbance, to_stains[:, 0])
        else:
            share = torch.rand(3, generator=generator, device=device)
            amount = torch.einsum("cyx,c->yx", 1 - image, share / share.sum())
        low, high = _range(amount)
        grey = (amount - low) / max(high - low, 1e-6)
        return (1 - grey if turn < 0.5 else grey).clamp(-1, 2).expand(image.shape).clone()
    # From stains back to colours, in one matrix.
    mixing = to_stains @ torch.diag(drawn[:3].exp()) @ to_rgb @ torch.diag(drawn[3:6].exp())
    mixed = torch.einsum("cyx,cd->dyx", absorbance, mixing)
    mean = mixed.mean(0, keepdim=True)
    mixed = mean + float(drawn[6].exp()) * (mixed - mean)
    return mixed.neg().exp()


def _range(values: Tensor) -> tuple[float, float]:
    """Return the percentiles 1 and 99.8 of all values."""
    flat = values.flatten()
    low, high = max(1, round(0.01 * len(flat))), max(1, round(0.998 * len(flat)))
    return float(flat.kthvalue(low).values), float(flat.kthvalue(high).values)
