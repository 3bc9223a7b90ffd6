"""The U-Net as other programs run it: it gives scores, in a frame as large as its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_unet.core.network.unet import UNet, UNetConfig, halo_px


class FramedUNet(UNet):
    """A U-Net whose output is as large as its input, with 0 where it has no score.

    The source of this class, after that of `UNet`, is a file that stands alone.

    Parameters
    ----------
    architecture
        The keyword arguments of `UNetConfig`.

    Shapes
    ------
    (N, in_channels, H, W) float -> (N, n_outputs, H, W) scores in [0, 1]: the probability of each
    class, and the relative distance if there is one. The outer `halo_px(depth)` pixels are 0.
    H and W are valid input sizes (see `output_px`). A network of stacks has a Z before H.
    """

    def __init__(self, **architecture: Any) -> None:
        super().__init__(UNetConfig(**architecture))

    def forward(self, image: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Return the framed scores of normalised images."""
        logits = super().forward(image, dropout)
        n_classes = self.config.n_classes
        scores = torch.cat((logits[:, :n_classes].softmax(1), logits[:, n_classes:].sigmoid()), 1)
        halos = [halo_px(depth) for depth in reversed(self.config.depths)]
        return F.pad(scores, [halo for halo in halos for _ in (0, 1)])
