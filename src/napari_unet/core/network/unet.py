"""The 2015 U-Net: valid convolutions, crop and concatenate (Ronneberger et al., figure 1).

Sizes along one axis, for a network of depth d and any whole b:

    input    2^d b + 4 (2^d - 1)      572 = 16 * 32 + 60
    output   2^d (b - 8) + 4          388 = 16 * 24 + 4
    halo     (input - output) / 2 = 6 * 2^d - 4        92

For stacks it is a network of the same family (Çiçek et al. 2016, arXiv:1606.06650). Where planes
lie further apart than pixels, its first levels look at single planes, so that a voxel below them
is about as high as it is wide. Along Z it is then a U-Net of a smaller depth of its own, with the
sizes above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Convolution = type[nn.Conv2d | nn.Conv3d]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Architecture of a `UNet`; the defaults are the paper's.

    Parameters
    ----------
    depth
        Number of 2x2 poolings.
    width
        Channels of the first level; every level below has twice as many.
    in_channels
        Image channels.
    n_classes
        Output classes; class 0 is background.
    dropout
        Probability of dropping a value at the end of the contracting path, while training.
    distance
        Whether one more output, after the classes, is the logit of the relative distance
        (`core.cells.instances.relative_distance`), by which touching cells are separated.
    z_depth
        None for a network of planes. For a network of stacks, how many of the poolings also pool
        along Z. These are the last ones; on the levels above them kernels are 1x3x3.
    """

    depth: int = 4
    width: int = 64
    in_channels: int = 1
    n_classes: int = 2
    dropout: float = 0.5
    distance: bool = False
    z_depth: int | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "width", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.n_classes < 2:
            raise ValueError(f"n_classes is {self.n_classes}; give background and one more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; give one in [0, 1)")
        if self.z_depth is not None and not 0 <= self.z_depth <= self.depth:
            raise ValueError(f"z_depth is {self.z_depth}; give one from 0 to depth {self.depth}")

    @property
    def n_outputs(self) -> int:
        """Number of channels of the output: the classes, and the distance if there is one."""
        return self.n_classes + self.distance

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of poolings along each axis: (Z,) Y, X."""
        z = () if self.z_depth is None else (self.z_depth,)
        return (*z, self.depth, self.depth)


def halo_px(depth: int) -> int:
    """Return by how much the output is smaller than the input on each side, in pixels.

    Examples
    --------
    >>> halo_px(4)
    92
    """
    step: int = 2**depth
    return 6 * step - 4


def output_px(input_px: int, depth: int) -> int:
    """Return the output size for a valid input size, in pixels.

    Raises
    ------
    ValueError
        If a pooling would get an odd size, or no pixel would be left.

    Examples
    --------
    >>> output_px(572, depth=4)
    388
    """
    step: int = 2**depth
    blocks, rest = divmod(input_px - 4 * (step - 1), step)
    if rest or blocks < 8:
        raise ValueError(
            f"{input_px} px is no input size of a U-Net of depth {depth}; "
            f"give {step} b + {4 * (step - 1)} with b of 8 or more"
        )
    return step * (blocks - 8) + 4


class UNet(nn.Module):
    """The network of figure 1.

    Shapes
    ------
    (N, in_channels, H, W) float -> (N, n_outputs, H - 2 halo, W - 2 halo) logits, where H and W
    are valid input sizes (see `output_px`). A network of stacks has one more axis, Z, before H; its
    halo and valid sizes along Z are those of `z_depth`.

    Examples
    --------
    >>> network = UNet(UNetConfig(depth=1, width=2))
    >>> network(torch.zeros(1, 1, 30, 40)).shape
    torch.Size([1, 2, 14, 24])
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or UNetConfig()
        depth, width = self.config.depth, self.config.width
        channels = [width * 2**level for level in range(depth + 1)]
        inputs = [self.config.in_channels, *channels[:-1]]
        planes = self.config.z_depth is None
        conv: Convolution = nn.Conv2d if planes else nn.Conv3d
        up: type[nn.ConvTranspose2d | nn.ConvTranspose3d] = (
            nn.ConvTranspose2d if planes else nn.ConvTranspose3d
        )
        kernels = [_sizes(self.config, level, 3) for level in range(depth + 1)]
        # By which factor each pooling makes the next level coarser, along each axis.
        self._steps = [_sizes(self.config, level, 2) for level in range(depth)]
        self.down = nn.ModuleList(
            _conv_pair(conv, *shape) for shape in zip(inputs, channels, kernels, strict=True)
        )
        upwards = list(reversed(list(zip(channels[:-1], kernels[:-1], self._steps, strict=True))))
        self.up = nn.ModuleList(up(2 * c, c, kernel_size=s, stride=s) for c, _, s in upwards)
        self.join = nn.ModuleList(_conv_pair(conv, 2 * c, c, k) for c, k, _ in upwards)
        self.head = conv(width, self.config.n_outputs, kernel_size=1)

    def forward(self, image: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Return the logits (N, n_outputs, H', W') of images (N, in_channels, H, W).

        Parameters
        ----------
        image
            Normalised intensities.
        dropout
            Random generator, on the image's device, that draws which values are dropped in
            training; torch's own by default.

        Raises
        ------
        ValueError
            If H, W or the number of planes is not a valid input size.
        """
        for size, depth in zip(image.shape[2:], self.config.depths, strict=True):
            output_px(size, depth)
        pool = F.max_pool2d if self.config.z_depth is None else F.max_pool3d
        skips: list[Tensor] = []
        x = image
        for level, convs in enumerate(self.down):
            if level:
                x = pool(x, self._steps[level - 1])
            x = convs(x)
            if level >= self.config.depth - 1:
                x = self._drop(x, dropout)
            skips.append(x)
        skips.pop()
        for up, convs in zip(self.up, self.join, strict=True):
            # No variable keeps the inputs of a level alive, because they take much memory.
            x = convs(_crop_and_join(skips.pop(), up(x)))
        logits: Tensor = self.head(x)
        return logits

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        rate = self.config.dropout
        if not (self.training and rate):
            return x
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= rate
        return x * (kept / (1 - rate)).to(x.dtype)


def _crop_and_join(skip: Tensor, x: Tensor) -> Tensor:
    # Padding by a negative amount crops like a slice, but its gradient keeps the layout.
    sizes = zip(reversed(skip.shape[2:]), reversed(x.shape[2:]), strict=True)
    skip = F.pad(skip, [(small - large) // 2 for large, small in sizes for _ in (0, 1)])
    return torch.cat((skip, x), dim=1)


def with_classes(network: UNet, n_classes: int) -> UNet:
    """Return a copy of a network that knows more classes; each new class copies the last one.

    The last class and its copies share its probability, so background stays background.

    Parameters
    ----------
    network
        The network, which is not changed.
    n_classes
        Classes of the copy, background included; not fewer than those of the network.
    """
    known = network.config.n_classes
    wider = UNet(replace(network.config, n_classes=n_classes))
    state = network.state_dict()
    weight, bias = state["head.weight"], state["head.bias"].clone()
    if n_classes > known:
        bias[known - 1] -= math.log(n_classes - known + 1)
    copies = [*range(known), *[known - 1] * (n_classes - known), *range(known, len(bias))]
    wider.load_state_dict({**state, "head.weight": weight[copies], "head.bias": bias[copies]})
    return wider.train(network.training)


def with_distance(network: UNet) -> UNet:
    """Return a copy of a network that also predicts the relative distance, 1/2 at first.

    Raises
    ------
    ValueError
        If the network predicts the distance already.
    """
    if network.config.distance:
        raise ValueError("the network tells the distance already; take it as it is")
    wider = UNet(replace(network.config, distance=True))
    state = network.state_dict()
    for name in ("head.weight", "head.bias"):
        state[name] = torch.cat((state[name], torch.zeros_like(state[name][:1])))
    wider.load_state_dict(state)
    return wider.train(network.training)


def initialise(network: UNet, seed: int) -> None:
    """Draw all weights from N(0, sqrt(2 / N)), biases 0 (section 3; He et al. 2015).

    N is the number of incoming nodes of a neuron. An up-convolution is not followed by a ReLU,
    which would halve its variance, so its N counts each incoming channel twice. On average each
    layer, with its ReLU, then keeps the mean square of its input; only pooling raises it.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            nodes = 2 * module.in_channels
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            nodes = module.in_channels * math.prod(module.kernel_size)
        else:
            continue
        with torch.no_grad():
            module.weight.normal_(0.0, math.sqrt(2 / nodes), generator=generator)
            if module.bias is not None:
                module.bias.zero_()


def _sizes(config: UNetConfig, level: int, size: int) -> Any:
    """Return the size of a kernel, or of the pooling below a level, along each axis.

    It is `size`, but 1 along Z on the levels where the network looks at single planes. The last
    `z_depth` poolings, and all kernels from the level of the first of them on, reach along Z.
    """
    if config.z_depth is None:
        return size, size
    return size if level >= config.depth - config.z_depth else 1, size, size


def _conv_pair(
    conv: Convolution, in_channels: int, out_channels: int, kernel: Any
) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, out_channels, kernel_size=kernel),
        nn.ReLU(inplace=True),
        conv(out_channels, out_channels, kernel_size=kernel),
        nn.ReLU(inplace=True),
    )
