"""The U-Net as other programs run it: it gives scores, in a frame as large as its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.network.unet import UNet, UNetConfig, halo_px

# A valid input size of a U-Net is 4 less than a multiple of 2^depth.
LESS_PX = 4


class FramedUNet(UNet):
    """A U-Net whose output is as large as its input, with 0 where it has no score.

    The first 4 pixels along each axis are not looked at. So valid sizes, and the 6 * 2^depth pixels
    that are to be cropped from each side of the output, are multiples of 2^depth: blocks that other
    programs lay side by side have no seams, and give the same scores as `engine.predict`.

    Parameters
    ----------
    architecture
        The keyword arguments of `UNetConfig`.

    Shapes
    ------
    (N, in_channels, H, W) float -> (N, n_outputs, H, W) scores in [0, 1]: the probability of each
    class, and the relative distance if there is one. H and W are multiples of 2^depth, 12 times
    that or more. A network of stacks has a Z before H.
    """

    def __init__(self, **architecture: Any) -> None:
        super().__init__(UNetConfig(**architecture))

    def forward(self, image: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Return the framed scores of normalised images."""
        depths = self.config.depths
        logits = super().forward(F.pad(image, [-LESS_PX, 0] * len(depths)), dropout)
        n_classes = self.config.n_classes
        scores = torch.cat((logits[:, :n_classes].softmax(1), logits[:, n_classes:].sigmoid()), 1)
        halos = [halo_px(depth) for depth in reversed(depths)]
        return F.pad(scores, [px for halo in halos for px in (LESS_PX + halo, halo)])
